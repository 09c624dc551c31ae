//! Which disks become drives, and which are left alone.

use phobos_core::block::{Part, Table, Use};

use super::*;

const CONTAINER: &str = "11111111-2222-4333-8444-555555555555";
const TABLE: &str = "21111111-2222-4333-8444-555555555555";
const PART: &str = "31111111-2222-4333-8444-555555555555";

pub(in crate::commands::prepare) fn disk() -> Disk {
    Disk {
        path: "/dev/sdx".into(),
        number: "8:112".to_owned(),
        sequence: Some("7".to_owned()),
        kind: "disk".to_owned(),
        size: 200 << 20,
        read_only: false,
        model: Some("My Passport".to_owned()),
        serial: Some("WX1".to_owned()),
        transport: Some("usb".to_owned()),
        physical_sector: 4096,
        logical_sector: 512,
        signatures: Vec::new(),
        table: None,
        parts: Vec::new(),
        uses: Vec::new(),
    }
}

pub(in crate::commands::prepare) fn note() -> Note {
    let text = format!(
        r#"{{"known_by":"WX1","size":{},"table":"{TABLE}","part":"{PART}","container":"{CONTAINER}"}}"#,
        disk().size
    );
    serde_json::from_str(&text).unwrap()
}

fn signature(kind: &str, uuid: Option<&str>, label: Option<&str>) -> Signature {
    Signature { kind: kind.to_owned(), uuid: uuid.map(str::to_owned), label: label.map(str::to_owned) }
}

/// A disk with a partition table and these signatures on its one partition.
fn parted(table: &str, part: &str, signatures: Vec<Signature>) -> Disk {
    let own = Part { path: "/dev/sdx1".into(), number: "8:113".to_owned(), size: 1, signatures };
    Disk {
        signatures: vec![signature("gpt", None, None), signature("PMBR", None, None)],
        table: Some(Table { id: table.to_owned(), parts: vec![part.to_owned()] }),
        parts: vec![own],
        ..disk()
    }
}

fn seen(disk: Disk) -> Seen {
    Seen { disk, drives: Vec::new(), needed: Vec::new(), note: None, has_key: false }
}

fn judged(seen: &Seen, wipe: bool) -> Result<Task, String> {
    judge(seen, Wish { name: "A", wipe }).map_err(|stop| stop.to_string())
}

fn refused(seen: &Seen, wipe: bool, why: &str) {
    let said = judged(seen, wipe).unwrap_err();
    assert!(said.contains(why), "{said}");
}

#[test]
fn a_fresh_disk_becomes_a_drive_and_one_with_anything_on_it_only_if_that_may_go() {
    assert_eq!(judged(&seen(disk()), false), Ok(Task::Everything));
    let ext4 = || signature("ext4", Some("u"), Some("pho\x1btos"));
    let cases = [
        (Disk { signatures: vec![ext4()], ..disk() }, "ext4"),
        (Disk { signatures: vec![signature("crypto_LUKS", Some("u"), None)], ..disk() }, "crypto_LUKS"),
        (parted("t", "p", Vec::new()), "gpt (/dev/sdx), PMBR (/dev/sdx), a partition (/dev/sdx1)"),
        (parted("t", "p", vec![ext4()]), "ext4"),
    ];
    for (disk, what) in cases {
        refused(&seen(disk.clone()), false, what);
        let said = judged(&seen(disk.clone()), false).unwrap_err();
        assert!(said.contains("say --wipe") && !said.contains('\x1b'), "{said}");
        assert_eq!(judged(&seen(disk), true), Ok(Task::Everything));
    }
}

#[test]
fn what_is_in_use_or_needed_is_left_alone_whatever_is_said() {
    let used = |how: &str| vec![Use { device: "/dev/sdx1".into(), how: how.to_owned() }];
    let needed = |source: &str, disks: &[&str], is_backup| Needed {
        what: "/etc/fstab has it for /srv".to_owned(),
        source: source.to_owned(),
        disks: disks.iter().map(|number| (*number).to_owned()).collect(),
        is_backup,
    };
    let labelled = || parted("t", PART, vec![signature("ext4", Some("1234"), Some("srv"))]);
    let with = |disk: Disk, needed: Needed| Seen { needed: vec![needed], ..seen(disk) };
    for wipe in [false, true] {
        refused(&seen(Disk { uses: used("is mounted at /"), ..disk() }), wipe, "/dev/sdx1 is mounted at /");
        refused(&seen(Disk { read_only: true, ..disk() }), wipe, "cannot be written to");
        refused(&seen(Disk { kind: "part".to_owned(), ..disk() }), wipe, "no whole disk");
        refused(&seen(Disk { kind: "crypt".to_owned(), ..disk() }), wipe, "no whole disk");
        for source in ["UUID=1234", "LABEL=srv", "LABEL=\"srv\"", "/dev/disk/by-uuid/1234", &format!("PARTUUID={PART}")]
        {
            refused(&with(labelled(), needed(source, &[], false)), wipe, "needed by this machine: /etc/fstab has it");
            refused(&with(labelled(), needed(source, &[], true)), wipe, "is the disk of the backups itself");
        }
        // By its number, and through a mapping that lies on it.
        refused(&with(disk(), needed("/dev/sdx", &["8:112"], false)), wipe, "needed by this machine");
        refused(&with(labelled(), needed("/dev/mapper/x", &["8:0", "8:112"], true)), wipe, "of the backups itself");
    }
    assert_eq!(judged(&with(disk(), needed("LABEL=srv", &["8:1"], true)), false), Ok(Task::Everything));
}

#[test]
fn a_drive_that_is_known_keeps_its_copy() {
    let known = |name: &str, container: Option<&str>, disks: &[&str]| Known {
        name: name.to_owned(),
        container: container.map(str::to_owned),
        disks: disks.iter().map(|number| (*number).to_owned()).collect(),
    };
    let ours = || parted(TABLE, PART, vec![signature("crypto_LUKS", Some(CONTAINER), None)]);
    let with = |disk, drive| Seen { drives: vec![drive], note: Some(note()), ..seen(disk) };
    for wipe in [false, true] {
        // Made and configured: nothing is written to it any more.
        assert_eq!(judged(&with(ours(), known("A", Some(CONTAINER), &[])), wipe), Ok(Task::MachineOnly));
        refused(&with(ours(), known("B", Some(CONTAINER), &[])), wipe, "is the drive B, with its copy");
        refused(&with(disk(), known("B", None, &["8:112"])), wipe, "is the drive B, with its copy");
        refused(&with(disk(), known("A", Some("other"), &[])), wipe, "another drive is called A");
        refused(&with(disk(), known("A", None, &["8:112"])), wipe, "another drive is called A");
    }
}

#[test]
fn what_an_earlier_run_has_left_is_gone_on_with_and_nothing_else() {
    let luks = |uuid| vec![signature("crypto_LUKS", uuid, None)];
    let again = |disk| Seen { note: Some(note()), has_key: true, ..seen(disk) };
    let ours = [
        disk(),
        // A table that is half written cannot be read.
        Disk { signatures: vec![signature("gpt", None, None)], ..disk() },
        parted(TABLE, PART, Vec::new()),
        parted(TABLE, PART, luks(None)),
        parted(TABLE, PART, luks(Some(CONTAINER))),
    ];
    for disk in ours {
        assert_eq!(judged(&again(disk.clone()), false), Ok(Task::Everything), "{disk:?}");
    }
    let others = [
        Disk { signatures: vec![signature("ext4", None, None)], ..disk() },
        parted("t", PART, Vec::new()),
        parted(TABLE, "p", Vec::new()),
        parted(TABLE, PART, luks(Some("u"))),
        parted(TABLE, PART, vec![signature("ext4", Some(CONTAINER), None)]),
        Disk { table: None, ..parted(TABLE, PART, Vec::new()) },
        Disk { serial: Some("WX2".to_owned()), ..parted(TABLE, PART, Vec::new()) },
        Disk { size: 1 << 30, ..parted(TABLE, PART, Vec::new()) },
    ];
    for disk in others {
        refused(&again(disk), false, "say --wipe");
    }
    // A key without a note is somebody's.
    refused(&Seen { has_key: true, ..seen(disk()) }, true, "there is a key file for a drive A already");
}

#[test]
fn a_disk_on_which_the_repository_has_no_room_is_none() {
    assert!(judge_size(&disk(), 100 << 20).is_ok());
    let said = judge_size(&disk(), 198 << 20).unwrap_err().to_string();
    assert!(said.contains("would not fit"), "{said}");
}
