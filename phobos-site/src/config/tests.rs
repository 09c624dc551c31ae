//! Configurations with mistakes: each is named with its line.

use std::fs;

use super::*;
use phobos_core::luks::Uuid;

fn mistake(text: &str) -> String {
    Config::parse(Path::new("phobos.toml"), text).unwrap_err().to_string()
}

#[test]
fn a_file_that_was_named_has_to_be_there() {
    let error = Config::load(Some(Path::new("/no/such")), &Table::ALL).unwrap_err();
    let said = phobos_core::error::Chain(&error).to_string();
    assert_eq!(
        said,
        "cannot read /no/such: there is no such file; /etc/phobos/phobos.toml is read where none is named"
    );
}

#[test]
fn the_defaults_are_the_originals() {
    let config = Config::parse(Path::new("phobos.toml"), "").unwrap();
    assert_eq!(config.backup.repository.to_str(), Some("/backup/borg"));
    assert_eq!(config.external.mapping.as_str(), "extbackup");
    assert_eq!(config.locks.wait, Span(Duration::from_secs(43200)));
    assert!(config.external.drive.is_empty());
}

#[test]
fn a_drive_is_read_whole() {
    let text = "[[external.drive]]\nname = 'A'\nuuid = '11111111-2222-3333-4444-55555555ABCD'\nkey-file = '/k'\n\
                [[external.drive]]\nname = 'safe'\ndevice = '/dev//sdz1'\n";
    let config = Config::parse(Path::new("phobos.toml"), text).unwrap();
    let containers: Vec<_> = config.external.drive.into_iter().map(|drive| drive.container).collect();
    let uuid = Uuid::try_from("11111111-2222-3333-4444-55555555abcd".to_owned()).unwrap();
    let luks = Container::Luks { uuid, key_file: AbsolutePath::fixed("/k") };
    assert_eq!(containers, [luks, Container::Plain { device: AbsolutePath::fixed("/dev/sdz1") }]);
}

#[test]
fn every_mistake_names_file_line_and_key() {
    let cases = [
        ("[backup]\nmount = 'backup'", "phobos.toml:2: mount: backup is not an absolute path"),
        ("[backup]\nmount = '/a/../b'", "phobos.toml:2: mount: /a/../b must not have .. in it"),
        (
            "\n[backup]\nrepository = '/srv/borg'",
            "phobos.toml:3: repository: /srv/borg is not below the mount point /backup",
        ),
        ("[locks]\nwait = 12", "phobos.toml:2: wait: invalid type: integer `12`, expected a string"),
        (
            "[locks]\nwait = 'soon'",
            "phobos.toml:2: wait: \"soon\" is no length of time such as 12h: expected number at 0",
        ),
        (
            "[external]\nmapping = 'a/b'",
            "phobos.toml:2: mapping: \"a/b\" is no name for a mapping: use letters, digits, - and _",
        ),
        ("[external]\nmax-alloc = '0'", "phobos.toml:2: max-alloc: \"0\" is no size such as 4GiB"),
        (
            "[[external.drive]]\nname = 'A'\nuuid = '12'\nkey-file = '/k'",
            "phobos.toml:3: uuid: \"12\" is no UUID: it has 32 hexadecimal digits in the form 8-4-4-4-12",
        ),
        (
            "[[external.drive]]\nname = 'A'",
            "phobos.toml:1: uuid: give uuid and key-file, or device for a drive that is not encrypted",
        ),
        (
            "[[external.drive]]\nname = '../A'\ndevice = '/dev/x'",
            "phobos.toml:2: name: \"../A\" is no name for a drive: use letters, digits, - and _, a letter or digit first",
        ),
    ];
    let hosts = "[[pull]]\nhost = 'a'\nsource = ['a:/']\n".repeat(2);
    assert_eq!(mistake(&hosts), "phobos.toml:5: host: two hosts are named a");
    let unnamed = "\n[[pull]]\nsource = ['a:/']";
    assert_eq!(mistake(unnamed), "phobos.toml:2: missing field `host`");
    for (text, want) in cases {
        assert_eq!(mistake(text), want, "{text}");
    }
    let unknown = mistake("[backup]\nmuont = '/backup'");
    assert!(unknown.starts_with("phobos.toml:2: muont: unknown field `muont`, expected one of"), "{unknown}");
    let syntax = mistake("[backup\nmount = 1");
    assert!(syntax.starts_with("phobos.toml:1: "), "{syntax}");
    let twice =
        "[[external.drive]]\nname = 'A'\ndevice = '/dev/x'\n[[external.drive]]\nname = 'A'\ndevice = '/dev/y'\n";
    assert_eq!(mistake(twice), "phobos.toml:5: name: two drives are named A");
}

#[test]
fn a_mistake_in_one_table_is_that_tables_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("phobos.toml");
    fs::write(&file, "[mail]\nto = 'me@example.org'\n[[pull]]\nhost = 3\n[extrenal]\n").unwrap();
    let read = |tables: &[Table]| Config::load(Some(&file), tables).map_err(|error| error.to_string());
    assert_eq!(read(&[Table::Mail]).unwrap().mail.to.to_string(), "me@example.org");
    assert!(read(&[Table::Pull]).unwrap_err().contains("phobos.toml:4: host"));
    let misspelt = read(&[Table::Backup]).unwrap_err();
    assert!(
        misspelt.contains("phobos.toml:5: extrenal: unknown field `extrenal`, expected one of `backup`"),
        "{misspelt}"
    );
}

#[test]
fn a_drive_may_have_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (file, drives) = (folder.path().join("phobos.toml"), folder.path().join(DRIVES));
    fs::write(&file, "[[external.drive]]\nname = 'A'\ndevice = '/dev/x'\n").unwrap();
    fs::create_dir(&drives).unwrap();
    let write = |name: &str, text: &str| fs::write(drives.join(name), text).unwrap();
    let read = |tables: &[Table]| Config::load(Some(&file), tables).map_err(|error| error.to_string());
    write("C.toml", "[[external.drive]]\nname = 'C'\ndevice = '/dev/z'\n");
    write("B.toml", "[[external.drive]]\nname = 'B'\ndevice = '/dev/y'\n");
    for name in [".new-1.toml", "B.toml~", "README"] {
        write(name, "[");
    }
    let names = |config: Config| config.external.drive.iter().map(|drive| drive.name.as_str().to_owned()).collect();
    let all: Vec<String> = read(&[Table::External]).map(names).unwrap();
    assert_eq!(all, ["A", "B", "C"]);
    for (text, why) in [
        ("[[external.drive]]\nname = 'A'\ndevice = '/dev/w'\n", "D.toml:1: name: two drives are named A"),
        (
            "[[external.drive]]\nname = 'D'\ndevice = '/dev/z'\n",
            "D.toml:1: device: the drives C and D are one and the same",
        ),
        ("\n[external]\nmount = '/x'\n", "D.toml:3: mount: unknown field `mount`, expected `drive`"),
        ("[led]\n", "D.toml:1: unknown field `led`, expected `external`"),
        ("[", "D.toml:1: "),
    ] {
        write("D.toml", text);
        let said = read(&[Table::External]).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    assert!(read(&[Table::Mail]).is_ok(), "a mistake there is the drives' alone");
    fs::set_permissions(drives.join("B.toml"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    assert!(read(&[Table::External]).unwrap_err().contains("B.toml"));
}

#[test]
fn one_drive_has_one_name() {
    let drive =
        |name: &str, uuid: &str| format!("[[external.drive]]\nname = '{name}'\nuuid = '{uuid}'\nkey-file = '/k'\n");
    let twice =
        drive("A", "11111111-2222-3333-4444-55555555ABCD") + &drive("B", "11111111-2222-3333-4444-55555555abcd");
    assert_eq!(mistake(&twice), "phobos.toml:7: uuid: the drives A and B are one and the same");
    let twice =
        "[[external.drive]]\nname = 'A'\ndevice = '/dev/x'\n[[external.drive]]\nname = 'B'\ndevice = '/dev/./x'\n";
    assert_eq!(mistake(twice), "phobos.toml:6: device: the drives A and B are one and the same");
}

#[test]
fn hosts_are_tables_or_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("phobos.toml");
    fs::write(&file, "[[pull]]\nhost = 'luv'\nsource = ['luv:/home/']\n").unwrap();
    let pull_d = folder.path().join(pull::FOLDER);
    fs::create_dir(&pull_d).unwrap();
    let write = |name: &str, text: &str| fs::write(pull_d.join(name), text).unwrap();
    write("chew.toml", "source = ['chew:/']");
    write("chew.toml~", "nonsense");
    let config = Config::load(Some(&file), &Table::ALL).unwrap();
    let names: Vec<_> = config.hosts().unwrap().into_iter().map(|host| host.name.to_string()).collect();
    assert_eq!(names, ["luv", "chew"]);
    let found = |name: &str| config.host(&name.parse().unwrap()).map(|host| host.is_some());
    assert!(found("luv").unwrap() && found("chew").unwrap() && !found("nuhc").unwrap());

    let mistake = || config.hosts().unwrap_err().to_string().replace(&format!("{}/", pull_d.display()), "");
    write("nuhc.toml", "\nsource = 'nuhc'");
    assert_eq!(mistake(), "nuhc.toml:2: source: invalid type: string \"nuhc\", expected a sequence");
    assert!(found("chew").unwrap(), "a mistake in one host's file is that host's alone");
    write("nuhc.toml", "source = ['nuhc:/a', 'nuhc:/a']");
    assert_eq!(mistake(), "nuhc.toml:1: source: a and a are copied into each other");
    fs::remove_file(pull_d.join("nuhc.toml")).unwrap();
    write("luv.toml", "source = ['luv:/']");
    assert_eq!(mistake(), "luv.toml:1: host: luv is in the file phobos.toml too; keep one of them");
    fs::remove_file(pull_d.join("luv.toml")).unwrap();
    write("-x.toml", "source = ['x:/']");
    assert!(mistake().starts_with("-x.toml:1: \"-x\" is no name for a host"), "{}", mistake());
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("phobos.toml");
    fs::write(&file, "").unwrap();
    for (mode, refused) in [(0o600, false), (0o644, false), (0o664, true), (0o646, true)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let result = Config::load(Some(&file), &Table::ALL);
        assert_eq!(matches!(result, Err(ConfigError::Writable { .. })), refused, "{mode:o}");
    }
    assert!(matches!(Config::load(Some(&folder.path().join("none")), &Table::ALL), Err(ConfigError::Read { .. })));
    // Nor is one that others can replace: by its folder, or by a folder above, or by the one that a link to it is in.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (above, below) = (folder.path().join("above"), folder.path().join("above/below"));
    fs::create_dir_all(&below).unwrap();
    fs::copy(&file, below.join("phobos.toml")).unwrap();
    std::os::unix::fs::symlink(&file, below.join("link.toml")).unwrap();
    let is_refused = |name: &str| {
        let result = Config::load(Some(&below.join(name)), &Table::ALL);
        matches!(result, Err(ConfigError::Writable { path }) if path != below.join(name))
    };
    for (open, mode, refused) in
        [(&above, 0o755, false), (&below, 0o777, true), (&above, 0o775, true), (&above, 0o1777, false)]
    {
        fs::set_permissions(open, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!([is_refused("phobos.toml"), is_refused("link.toml")], [refused; 2], "{mode:o}");
        fs::set_permissions(open, fs::Permissions::from_mode(if mode == 0o1777 { mode } else { 0o755 })).unwrap();
    }
    fs::create_dir(folder.path().join("folder.toml")).unwrap();
    assert!(Config::load(Some(&folder.path().join("folder.toml")), &Table::ALL).is_err());
}

#[test]
fn a_drive_is_meant_by_name_or_by_container() {
    let uuid = "11111111-2222-3333-4444-5555555555AA";
    assert_eq!("A".parse(), Ok(DriveChoice::Name("A".parse().unwrap())));
    assert!(matches!(uuid.parse(), Ok(DriveChoice::Uuid(found)) if found.as_str() == uuid.to_ascii_lowercase()));
    for bad in ["", "_A", "-A", "../A", "A B", "\u{1b}[31m", &"A".repeat(65)] {
        let error = bad.parse::<DriveChoice>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{bad:?} is neither the name of a drive nor")), "{error}");
        assert!(DriveName::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}

#[test]
fn fuzz_configuration() {
    phobos_fuzz::target("configuration", &[ b"[backup]\nmount = '/backup'\n[locks]\nwait = '12h'\n[[external.drive]]\nname = 'A'\nuuid = '3e6be9de-8139-11d1-9106-a43f08d823a6'\nkey-file = '/k'\n[[pull]]\nhost = 'luv'\nsource = ['root@luv:/home/']\nmax-delete = '30%'\n"], |input| {
        let text = String::from_utf8_lossy(input);
        drop(Config::parse(Path::new("phobos.toml"), &text));
    });
}

/// What is read for each table is no more for many: it took a minute where lines were counted anew for each key.
#[test]
fn many_drives_and_hosts_are_read_as_quickly_as_few() {
    let tables = (0..10_000).map(|number| {
        format!(
            "[[external.drive]]\nname = 'd{number}'\ndevice = '/dev/disk/by-id/d{number}'\n\
             [[pull]]\nhost = 'h{number}'\nsource = ['/srv/h{number}/']\n"
        )
    });
    let text: String = tables.collect();
    let began = std::time::Instant::now();
    let config = Config::parse(Path::new("test"), &(text + "[led]\nindex = 3\n")).unwrap();
    assert_eq!((config.external.drive.len(), config.pull.len(), config.led.index), (10_000, 10_000, 3));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
