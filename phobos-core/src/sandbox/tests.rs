//! What a confined program gets to see, by the words of the call and by the kernel.

use super::*;
use crate::exec::{Exec, System};

#[test]
fn the_words_before_a_program_say_what_it_may_do() {
    let confinement = Sandbox {
        user: "puller".to_owned(),
        alias: Some(Alias { id: 70_001, passwd: "/run/users".into() }),
        lookup: Lookup::Servers,
        folder: "/backup/holding/luv".into(),
        read: vec!["/etc/keys/luv.key".into()],
        ports: vec![22],
        control: Some("/run/control".into()),
        parent: Some(7),
        reads_all: true,
    };
    let words = confinement.words(Path::new("/usr/local/bin/puller"));
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    assert_eq!(
        words.join(" "),
        "/usr/local/bin/puller confined --user puller --alias 70001 --passwd /run/users --folder /backup/holding/luv \
         --read /etc/keys/luv.key --connect 22 --control /run/control --lookup servers --parent 7 --reads-all"
    );
    let call = confinement.confine(Path::new("/no/puller"), Invocation::new("true"));
    assert_eq!(call.to_string(), "true", "messages show the program that counts");
    assert!(System::default().run(&call).is_err(), "it is started through the puller");
}

#[test]
fn who_is_asked_for_names_is_read_from_the_systems_settings() {
    assert_eq!(Lookup::parse("passwd: files\nhosts:  files dns # mdns"), Lookup::Servers);
    assert_eq!(Lookup::parse("hosts: files myhostname [NOTFOUND=return] dns"), Lookup::Servers);
    assert_eq!(Lookup::parse("hosts: files mdns4_minimal [NOTFOUND=return] dns"), Lookup::Services);
    assert_eq!(Lookup::parse("hosts: resolve [!UNAVAIL=return] files dns"), Lookup::Services);
    assert_eq!(Lookup::parse(""), Lookup::Servers);
}

#[test]
fn nobody_is_confined_as_root_or_as_a_user_that_is_not_there() {
    assert!(matches!(find_user("root"), Err(SandboxError::Root)));
    let error = find_user("no-such-user").unwrap_err();
    assert!(error.to_string().contains("useradd --system no-such-user"), "{error}");
}

#[test]
fn a_secret_is_lent_to_one_user_and_taken_back() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let nobody = find_user("nobody").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let (original, folder) = (scratch.path().join("key"), scratch.path().join("run/pull"));
    fs::write(&original, "secret").unwrap();
    if !nix::unistd::geteuid().is_root() {
        let error = Lent::new(&original, nobody.uid.as_raw(), &folder, "luv.key").unwrap_err();
        assert!(error.to_string().starts_with("cannot lend "), "{error}");
        return;
    }
    for mode in [0o755, 0o700] {
        // As an earlier run with another umask may have left it.
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
        let lent = Lent::new(&original, nobody.uid.as_raw(), &folder, "luv.key").unwrap();
        let metadata = fs::metadata(lent.path()).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o400, nobody.uid.as_raw()));
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o711);
        assert_eq!(fs::read_to_string(lent.path()).unwrap(), "secret");
        fs::copy(lent.path(), folder.join("left")).unwrap();
        lent.close().unwrap();
        assert!(!folder.join("luv.key").exists());
        fs::rename(folder.join("left"), folder.join("luv.key")).unwrap();
    }
    let error = Lent::new(Path::new("/no/key"), nobody.uid.as_raw(), &folder, "luv.key").unwrap_err();
    assert!(error.to_string().starts_with("cannot lend /no/key as "), "{error}");
}

#[test]
fn a_shortfall_is_told_and_nothing_else() {
    assert_eq!(Support::Whole.shortfall(), None);
    assert!(Support::None.shortfall().unwrap().contains("has no Landlock"));
    assert!(Support::Files.shortfall().unwrap().contains("network"));
}

#[test]
fn fuzz_nsswitch() {
    phobos_fuzz::target(
        "nsswitch",
        &[b"passwd: files systemd\nhosts: files mdns4_minimal [NOTFOUND=return] dns\n"],
        |input| {
            let text = String::from_utf8_lossy(input);
            std::hint::black_box(Lookup::parse(&text));
        },
    );
}
