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
    let entry = crypttab_entry(text, &MapperName::default()).unwrap().unwrap();
    assert_eq!(entry.unlock, Unlock::with_key_file(Path::new("/root/k")));
    assert_eq!(entry.uuid(), Some(uuid()));
    let other = MapperName::try_from("other".to_owned()).unwrap();
    let entry = crypttab_entry(text, &other).unwrap().unwrap();
    assert_eq!(entry, CrypttabEntry { device: "UUID=y".to_owned(), unlock: Unlock::default() });
    assert_eq!(crypttab_entry("", &other), Ok(None));
    assert_eq!(crypttab_entry("other", &other), Ok(None));
    assert_eq!(Uuid::from_digits("1111111122223333444455555555abcd"), Some(uuid()));
}

/// The options of crypttab(5) that change what key is read, and how.
#[test]
fn crypttab_options_are_heeded() {
    let read = |fields: &str| {
        let text = format!("extbackup UUID={UUID} {fields}\n");
        crypttab_entry(&text, &MapperName::default()).map(|entry| entry.unwrap().unlock)
    };
    let unlock = read(
        "/k luks,keyfile-offset=512,keyfile-size=64,key-slot=3,discard,header=/h,nofail,x-systemd.device-timeout=9",
    )
    .unwrap();
    assert_eq!(read("/k keyslot=4").unwrap().slot, Some(4), "as Debian writes it");
    let options = ["--keyfile-offset=512", "--keyfile-size=64", "--key-slot=3", "--header=/h", "--allow-discards"];
    assert_eq!((unlock.options().as_slice(), unlock.by_systemd), (options.map(str::to_owned).as_slice(), false));
    for fields in [
        "/k:LABEL=stick luks",
        "/k:/dev/sdb1",
        "/k:UUID=x",
        "- tpm2-device=auto",
        "none fido2-device=auto",
        "none try-empty-password",
        "/k header=/h:LABEL=x",
    ] {
        assert!(read(fields).unwrap().by_systemd, "{fields}");
    }
    assert!(!read("/a:b luks").unwrap().by_systemd, "a colon may be in a name");
    for (fields, why) in [
        ("/k keyfile-offset=x", "\"keyfile-offset=x\", which is no number"),
        ("/k plain", "which is not for LUKS containers"),
        ("/k luks,keyscript=/bin/x", "use a key file"),
        ("/k read-only", "with which nothing can be mirrored to it"),
    ] {
        let error = read(fields).unwrap_err().to_string();
        assert!(error.starts_with("crypttab's entry for extbackup has the option ") && error.ends_with(why), "{error}");
    }
}

/// A sysfs without mappings, and a folder for keys.
fn obtained(script: &Script, sys: &Path, keys: &Path, unlock: &Unlock) -> Result<String, LuksError> {
    let mut mapping =
        Mapping::obtain_at(script, sys, &[&keys.join("none"), keys], &uuid(), &MapperName::default(), unlock)?;
    mapping.open = false;
    Ok(mapping.name.0.clone())
}

#[test]
fn an_open_mapping_is_taken_over_before_anybody_asks_for_a_key() {
    let (sys, keys, script) = (sysfs("extbackup"), tempfile::tempdir().unwrap(), Script::new());
    assert_eq!(obtained(&script, sys.path(), keys.path(), &Unlock::default()).unwrap(), "extbackup");
    assert_eq!(script.calls(), Vec::<String>::new());
}

#[test]
fn a_container_is_unlocked_with_the_key_that_crypttab_means() {
    let (sys, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(sys.path().join("block")).unwrap();
    let tried = |script: Script, unlock: &Unlock| {
        let result = obtained(&script, sys.path(), keys.path(), unlock);
        (result, script.calls().pop().unwrap_or_default())
    };
    let inactive = || Script::new().fails(3, "");
    let (error, _) = tried(inactive(), &Unlock::default());
    let error = error.unwrap_err();
    assert!(
        error.class() == Class::Config && error.to_string().contains("extbackup.key in /etc/cryptsetup-keys.d or"),
        "{error}"
    );

    fs::write(keys.path().join("extbackup.key"), "x").unwrap();
    let (result, call) = tried(inactive().ok(), &Unlock { offset: Some(9), ..Unlock::default() });
    assert_eq!(result.unwrap(), "extbackup");
    let want = format!(
        "cryptsetup open --type=luks --batch-mode --key-file {}/extbackup.key --keyfile-offset=9 /dev/disk/by-uuid/{UUID} extbackup",
        keys.path().display()
    );
    assert_eq!(call, want);

    let socket = keys.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let by_systemd = Unlock { by_systemd: true, ..Unlock::default() };
    for (script, unlock) in [
        (inactive().fails(1, "no such device"), &by_systemd),
        (inactive().ok(), &by_systemd),
        (inactive().ok(), &Unlock::with_key_file(&socket)),
    ] {
        let (result, call) = tried(script, unlock);
        assert!(matches!(result, Err(LuksError::ByUnit { .. })), "nothing came up, whatever was said");
        assert_eq!(call, "systemctl start systemd-cryptsetup@extbackup.service");
    }
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

#[test]
fn fuzz_crypttab() {
    phobos_fuzz::target("crypttab", &[b"# name device key options\nextbackup UUID=3e6be9de-8139-11d1-9106-a43f08d823a6 /etc/keys/ext luks,noauto\n", b"extbackup /dev/sda1 none luks,keyfile-offset=4,keyfile-size=32,key-slot=1,header=/h,discard"], |input| {
        let text = String::from_utf8_lossy(input);
        let name = MapperName::try_from("extbackup".to_owned()).unwrap();
        if let Ok(Some(entry)) = crypttab_entry(&text, &name) {
            drop(entry.uuid());
        }
        drop(MapperName::try_from(text.clone().into_owned()));
        drop(Uuid::try_from(text.into_owned()));
    });
}
