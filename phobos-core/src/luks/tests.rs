//! crypttab as it is written out there, and what is asked of cryptsetup and systemd.

use super::*;
use crate::exec::fake::Script;

const UUID: &str = "11111111-2222-3333-4444-55555555abcd";

fn uuid() -> Uuid {
    Uuid::try_from(UUID.to_ascii_uppercase()).unwrap()
}

/// A sysfs with one mapping of the container above.
fn sysfs(name: &str) -> tempfile::TempDir {
    let sys = tempfile::tempdir().unwrap();
    let folder = sys.path().join("block/dm-0");
    fs::create_dir_all(folder.join("dm")).unwrap();
    fs::create_dir_all(sys.path().join("block/sda")).unwrap();
    fs::write(folder.join("dev"), "253:0\n").unwrap();
    fs::write(folder.join("dm/name"), format!("{name}\n")).unwrap();
    fs::write(folder.join("dm/uuid"), format!("CRYPT-LUKS2-1111111122223333444455555555abcd-{name}\n")).unwrap();
    sys
}

#[test]
fn names_and_uuids_cannot_be_options_or_paths() {
    for bad in ["", "-x", "a/b", "../a", "a b", "a\n", &"x".repeat(128)] {
        assert!(MapperName::try_from(bad.to_owned()).is_err(), "{bad:?}");
        assert!(Uuid::try_from(bad.to_owned()).is_err(), "{bad:?}");
    }
    assert_eq!(uuid().as_str(), UUID);
    assert!(Uuid::try_from("11111111-2222-3333-4444-55555555abcg".to_owned()).is_err());
}

#[test]
fn an_open_mapping_is_seen_in_sysfs() {
    let sys = sysfs("extbackup");
    let mappings = active(sys.path()).unwrap();
    let [mapping] = mappings.as_slice() else { panic!("{mappings:?}") };
    assert_eq!((mapping.name.as_str(), mapping.number.as_str()), ("extbackup", "253:0"));
    assert!(mapping.is_of(&uuid()));
    assert_eq!(container_uuid("LVM-abc"), None);
    assert_eq!(container_uuid("CRYPT-PLAIN-extbackup"), None);
}

#[test]
fn crypttab_names_container_and_key() {
    let text = "# extbackup UUID=x none\nother UUID=y - luks\nextbackup\tUUID=11111111-2222-3333-4444-55555555ABCD /root/k luks,noauto\n";
    let entry = crypttab_entry(text, &MapperName::default()).unwrap();
    assert_eq!(entry.key_file.as_deref(), Some(Path::new("/root/k")));
    assert_eq!(entry.uuid(), Some(uuid()));
    let other = MapperName::try_from("other".to_owned()).unwrap();
    assert_eq!(crypttab_entry(text, &other).unwrap(), CrypttabEntry { device: "UUID=y".to_owned(), key_file: None });
    assert_eq!(crypttab_entry("", &other), None);
    assert_eq!(Uuid::from_digits("1111111122223333444455555555abcd"), Some(uuid()));
}

#[test]
fn a_mapping_that_systemd_opened_is_closed_by_systemd() {
    let sys = sysfs("extbackup");
    let script = Script::new().ok().ok().ok();
    let mut mapping =
        Mapping { exec: &script, sys: sys.path().to_owned(), uuid: uuid(), name: MapperName::default(), open: true };
    mapping.settle_unit();
    fs::remove_dir_all(sys.path().join("block/dm-0")).unwrap();
    mapping.open = false;
    mapping.prove_gone().unwrap();
    assert_eq!(
        script.calls(),
        [
            "systemctl --quiet is-active systemd-cryptsetup@extbackup.service",
            "systemctl stop --job-mode=ignore-dependencies systemd-cryptsetup@extbackup.service",
        ]
    );
}

#[test]
fn a_mapping_that_stays_is_never_called_closed() {
    let sys = sysfs("othername");
    let script = Script::new();
    let mapping =
        Mapping { exec: &script, sys: sys.path().to_owned(), uuid: uuid(), name: MapperName::default(), open: false };
    let error = mapping.prove_gone().unwrap_err().to_string();
    assert_eq!(error, "the mapping extbackup is still there after the drive was locked; do not unplug it");
}
