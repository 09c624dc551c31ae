//! What is done to a disk, and in which order.

use super::*;
use crate::commands::prepare::judge::tests::{disk, note};

const KEY: &str = "/etc/phobos/keys/A.key";

/// The plan, as a dry run prints it.
fn shown(change: impl FnOnce(&mut Basis<'_>), disk: &Disk) -> String {
    let (note, enable) = (note(), Invocation::new("systemctl").args(["enable", "phobos-ext@x.service"]));
    let (container, mapping) = (Uuid::try_from(note.container.clone()).unwrap(), MapperName::default());
    let mut basis = Basis {
        disk,
        note: &note,
        name: "A",
        container: &container,
        key_file: Path::new(KEY),
        headers: Path::new("/etc/phobos/headers"),
        mapping: &mapping,
        mount: Path::new("/extbackup"),
        file: Path::new("/etc/phobos/drives.d/A.toml"),
        text: "[[external.drive]]\nname = \"A\"\n",
        enable: &enable,
        recovery: true,
        wipe: false,
        inodes: 10,
        udev: true,
    };
    change(&mut basis);
    let steps = everything(&basis);
    let lines = steps.iter().flat_map(|step| {
        let mark = if step.on_drive { "*" } else { "-" };
        [format!("{mark} {}", step.what)].into_iter().chain(step.acts.iter().flat_map(Act::shown))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_dry_run_shows_every_step_and_every_command() {
    let want = "\
- make the folders of keys and headers
make for root alone: /etc/phobos/keys
make for root alone: /etc/phobos/headers
- note that the drive is being prepared
write down WX1 and its new identifiers
- make the key file
write 64 random bytes, mode 0400, unless it is there: /etc/phobos/keys/A.key
* make one partition of the whole disk
$ udevadm settle --timeout=60
$ sfdisk --quiet --wipe=always --wipe-partitions=always -- /dev/sdx
< label: gpt
< label-id: 21111111-2222-4333-8444-555555555555
< start=1MiB, size=198MiB, type=CA7D7CCB-63ED-4C53-861C-1742536059CC, uuid=31111111-2222-4333-8444-555555555555, name=\"phobos-A\"
$ udevadm settle --timeout=60
wait for /dev/sdx1
* make the LUKS container
$ cryptsetup luksFormat --batch-mode --type=luks2 --pbkdf=pbkdf2 --pbkdf-force-iterations 1000 --key-slot 0 --uuid \
11111111-2222-4333-8444-555555555555 --sector-size 4096 --key-file /etc/phobos/keys/A.key -- /dev/sdx1
* add the recovery passphrase
$ cryptsetup luksAddKey --batch-mode --pbkdf=argon2id --pbkdf-memory 65536 --pbkdf-parallel=1 --pbkdf-force-iterations 4 \
--key-slot 1 --key-file /etc/phobos/keys/A.key -- /dev/sdx1 -
< the recovery passphrase
- keep the header, and try each key on it
remove, if it is there: /etc/phobos/headers/A-11111111-2222-4333-8444-555555555555.new
$ cryptsetup luksHeaderBackup --batch-mode --header-backup-file \
/etc/phobos/headers/A-11111111-2222-4333-8444-555555555555.new -- /dev/sdx1
$ cryptsetup open --test-passphrase --type=luks --batch-mode --key-file /etc/phobos/keys/A.key -- \
/etc/phobos/headers/A-11111111-2222-4333-8444-555555555555.new
$ cryptsetup open --test-passphrase --type=luks --batch-mode --key-file=- -- \
/etc/phobos/headers/A-11111111-2222-4333-8444-555555555555.new
< the recovery passphrase
put /etc/phobos/headers/A-11111111-2222-4333-8444-555555555555.new in the place of \
/etc/phobos/headers/A-11111111-2222-4333-8444-555555555555.header
* make the file system
$ udevadm settle --timeout=60
$ cryptsetup open --type=luks --batch-mode --key-file /etc/phobos/keys/A.key \
/dev/disk/by-uuid/11111111-2222-4333-8444-555555555555 extbackup
$ mkfs.ext4 -q -F -L extbackup -m 0 -T largefile -N 1020 -E packed_meta_blocks=1,lazy_itable_init=0,lazy_journal_init=0 -- \
/dev/mapper/extbackup
lock it again
* write the drive's record
unlock, mount at /extbackup in the namespace, write .phobos/drive.json, close
- show the recovery passphrase, once
print it to standard output
- add the drive to the configuration
write /etc/phobos/drives.d/A.toml
< [[external.drive]]
< name = \"A\"
- add the drive to crypttab
add to /etc/crypttab, unless it is there:
< extbackup-A UUID=11111111-2222-4333-8444-555555555555 /etc/phobos/keys/A.key luks,noauto
- add the place of drives to fstab
add to /etc/fstab, unless it is there:
< LABEL=extbackup /extbackup ext4 noauto,noatime,nodev,nosuid,noexec 0 0
- enable the drive's unit
$ systemctl enable phobos-ext@x.service
- note that the drive is ready
write it into the ledger of the drives, and remove the note";
    let shown = shown(|_| (), &disk());
    for (own, want) in shown.lines().zip(want.lines()) {
        assert_eq!(own, want);
    }
    assert_eq!(shown, want);
}

#[test]
fn nothing_is_written_to_the_drive_before_it_is_noted_and_it_is_configured_when_it_is_whole() {
    let shown = shown(|_| (), &disk());
    let at = |text: &str| shown.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(at("- note that") < at("\n* "));
    assert!(shown.rfind("\n* ").unwrap() < at("- show the recovery passphrase"));
    assert!(at("- show the recovery passphrase") < at("- add the drive to the configuration"));
    assert!(at("- add the drive to the configuration") < at("- add the drive to crypttab"));
}

#[test]
fn without_recovery_no_passphrase_is_made() {
    let shown = shown(|basis| basis.recovery = false, &disk());
    assert!(
        !shown.contains("passphrase\n") && !shown.contains("argon2id") && !shown.contains("--key-file=-"),
        "{shown}"
    );
}

#[test]
fn the_disk_decides_about_sectors_names_and_inodes() {
    let nvme = Disk { path: "/dev/nvme0n1".into(), physical_sector: 512, size: 4 << 40, ..disk() };
    let text = shown(|_| (), &nvme);
    assert!(text.contains("--sector-size 512 ") && text.contains("-- /dev/nvme0n1p1\n"), "{text}");
    assert!(text.contains("start=1MiB, size=4194302MiB, ") && !text.contains(" -N "), "{text}");
    let many = shown(|basis| basis.inodes = 3_000_000, &nvme);
    assert!(many.contains(" -N 6001000 "), "{many}");
    // No more than have room.
    assert!(shown(|basis| basis.inodes = u64::MAX, &disk()).contains(" -N 12672 "));
    let wiped = shown(|basis| (basis.wipe, basis.udev) = (true, false), &disk());
    assert!(
        wiped.contains("$ wipefs --all --force --quiet -- /dev/sdx\n$ sfdisk") && !wiped.contains("udevadm"),
        "{wiped}"
    );
}
