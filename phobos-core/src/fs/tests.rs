//! Folders that somebody else has prepared.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

use super::*;
use crate::exec::{Exec, Invocation, System};
use crate::signal::Signals;

fn folder() -> (tempfile::TempDir, Dir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    (folder, dir)
}

fn path(name: &str) -> &Path {
    Path::new(name)
}

#[test]
fn a_link_is_followed_nowhere() {
    let (outside, _) = folder();
    let secret = outside.path().join("secret");
    fs::write(&secret, "mine").unwrap();
    let (place, dir) = folder();
    symlink(&secret, place.path().join("file")).unwrap();
    symlink(outside.path(), place.path().join("way")).unwrap();
    symlink("nowhere", place.path().join("dangling")).unwrap();
    for name in ["file", "way/secret", "dangling"] {
        assert!(dir.open_file(path(name)).is_err(), "{name}");
        assert!(dir.read(path(name), 100).is_err(), "{name}");
        assert!(dir.create_new(path(name), 0o600).is_err(), "{name}");
    }
    assert!(dir.open_dir(path("way")).is_err());
    assert!(dir.make_dir(path("way"), 0o700).is_err());
    assert!(dir.make_dir(path("way/new"), 0o700).is_err());
    assert!(dir.stat(path("way/secret")).is_err());
    assert!(dir.remove(path("way/secret")).is_err());
    assert!(dir.rename(path("file"), &dir, path("way/secret")).is_err());
    assert!(dir.replace(path("way/secret"), b"x", 0o600, Durability::Loose).is_err());
    assert_eq!(dir.stat(path("file")).unwrap().unwrap().kind, Kind::Link);

    dir.replace(path("file"), b"ours", 0o640, Durability::Synced).unwrap();
    assert_eq!(fs::read(&secret).unwrap(), b"mine", "the link itself was replaced");
    assert_eq!(dir.read(path("file"), 4).unwrap().unwrap(), b"ours");
    assert!(!outside.path().join("new").exists() && !outside.path().join("nowhere").exists());
    let error = dir.open_dir(path("way")).unwrap_err().to_string();
    assert!(error.ends_with("way is a symbolic link, not a folder"), "{error}");
}

#[test]
fn names_stay_below() {
    let (place, dir) = folder();
    fs::create_dir(place.path().join("sub")).unwrap();
    for name in ["..", "../x", "/etc/hostname", "", ".", "sub/../../x", "sub/.."] {
        assert!(dir.open_file(path(name)).is_err(), "{name}");
        assert!(dir.create_new(path(name), 0o600).is_err(), "{name}");
        assert!(dir.make_dir(path(name), 0o700).is_err(), "{name}");
        assert!(dir.stat(path(name)).is_err(), "{name}");
        assert!(dir.remove(path(name)).is_err(), "{name}");
        assert!(dir.replace(path(name), b"", 0o600, Durability::Loose).is_err(), "{name}");
    }
    assert!(dir.open_dir(path("sub")).is_ok());
}

#[test]
fn the_old_way_to_open_keeps_the_same_rules() {
    let (place, dir) = folder();
    fs::create_dir_all(place.path().join("a/b")).unwrap();
    fs::write(place.path().join("a/b/c"), "").unwrap();
    symlink("a", place.path().join("l")).unwrap();
    symlink("c", place.path().join("a/b/l")).unwrap();
    let open = |name: &str| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        dir.open_by_steps(path(name), flags, Mode::empty()).map(drop)
    };
    assert!(open("a/b/c").is_ok());
    assert!(open("l/b/c").is_err() && open("a/b/l").is_err() && open("").is_err());
}

#[test]
fn what_would_hang_or_fill_the_memory_is_refused_at_once() {
    let (place, dir) = folder();
    let began = Instant::now();
    rustix::fs::mknodat(&dir, "fifo", rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let error = dir.read(path("fifo"), 100).unwrap_err().to_string();
    assert!(error.contains("fifo is a FIFO, a socket or a device, not a regular file"), "{error}");
    File::create(place.path().join("giant")).unwrap().set_len(1 << 40).unwrap();
    let error = dir.read(path("giant"), 4096).unwrap_err().to_string();
    assert!(error.ends_with("giant has more than 4096 bytes"), "{error}");
    fs::create_dir(place.path().join("sub")).unwrap();
    assert!(dir.read(path("sub"), 100).is_err());
    assert!(dir.replace(path("sub"), b"", 0o600, Durability::Loose).is_err());
    assert_eq!(dir.read(path("nothing"), 100).unwrap(), None);
    assert_eq!(dir.read(path("no/thing"), 100).unwrap(), None);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(dir.entries().unwrap().len(), 3, "nothing half-made is left");
}

#[test]
fn a_file_of_exactly_the_limit_is_read() {
    let (_place, dir) = folder();
    dir.replace(path("file"), &[7; 100], 0o600, Durability::Loose).unwrap();
    assert_eq!(dir.read(path("file"), 100).unwrap().unwrap().len(), 100);
    assert!(dir.read(path("file"), 99).is_err());
}

/// A umask is the whole process's: a child has it.
#[test]
fn permissions_are_as_asked_whatever_the_umask() {
    const PLACE: &str = "PHOBOS_TEST_UMASK_PLACE";
    if let Some(place) = std::env::var_os(PLACE) {
        let dir = Dir::open(Path::new(&place)).unwrap();
        dir.make_dir(path("folder"), 0o711).unwrap();
        dir.create_new(path("new"), 0o644).unwrap();
        dir.replace(path("replaced"), b"x", 0o664, Durability::Loose).unwrap();
        return;
    }
    let (place, dir) = folder();
    let test = std::env::current_exe().unwrap();
    let script = "umask 077; exec \"$0\" fs::tests::permissions_are_as_asked_whatever_the_umask --exact";
    let call = Invocation::new("sh").args(["-c", script]).arg(test).env(PLACE, place.path());
    let signals = Signals::catch().unwrap();
    System::new(&signals).run(&call).unwrap();
    let mode = |name: &str| dir.stat(path(name)).unwrap().unwrap().mode;
    assert_eq!([mode("folder"), mode("new"), mode("replaced")], [0o711, 0o644, 0o664]);
    fs::set_permissions(place.path().join("folder"), fs::Permissions::from_mode(0o700)).unwrap();
    dir.make_dir(path("folder"), 0o755).unwrap();
    assert_eq!(mode("folder"), 0o700, "what is there keeps its permissions");
}

#[test]
fn a_replaced_name_changes_nothing_for_who_holds_the_folder() {
    let (place, dir) = folder();
    let inner = dir.make_dir(path("inner"), 0o700).unwrap();
    fs::rename(place.path().join("inner"), place.path().join("moved")).unwrap();
    symlink("/etc", place.path().join("inner")).unwrap();
    inner.replace(path("file"), b"x", 0o600, Durability::Loose).unwrap();
    assert!(place.path().join("moved/file").exists());
    assert!(dir.open_dir(path("inner")).is_err());
}

#[test]
fn names_move_within_and_between_folders() {
    let (_place, dir) = folder();
    let a = dir.make_dir(path("a"), 0o700).unwrap();
    let b = dir.make_dir(path("b"), 0o700).unwrap();
    a.replace(path("1"), b"one", 0o600, Durability::Loose).unwrap();
    b.replace(path("1"), b"two", 0o600, Durability::Loose).unwrap();
    assert!(a.rename_new(path("1"), &b, path("1")).is_err());
    assert_eq!(b.read(path("1"), 9).unwrap().unwrap(), b"two");
    a.rename(path("1"), &b, path("1")).unwrap();
    assert_eq!(dir.read(path("b/1"), 9).unwrap().unwrap(), b"one");
    dir.rename_new(path("b/1"), &dir, path("a/2")).unwrap();
    dir.remove(path("a/2")).unwrap();
    dir.remove_dir(path("a")).unwrap();
    assert_eq!(dir.entries().unwrap(), [Entry { name: "b".into(), kind: Some(Kind::Dir) }]);
}

#[test]
fn what_is_shown_obeys_no_terminal() {
    assert_eq!(shown_text("a\x1b[2Jb\nc\u{202e}d ü"), "a\\u{1b}[2Jb\\nc\\u{202e}d ü");
    let (_place, dir) = folder();
    let error = dir.open_file(path("\x1b[31m")).unwrap_err().to_string();
    assert!(!error.contains('\x1b'), "{error:?}");
}

#[test]
fn what_is_told_of_a_name_is_what_the_system_says() {
    let (place, dir) = folder();
    fs::write(place.path().join("file"), "12345").unwrap();
    let (told, real) = (dir.stat(path("file")).unwrap().unwrap(), fs::metadata(place.path().join("file")).unwrap());
    assert_eq!((told.size, told.ino, told.dev, told.uid), (real.size(), real.ino(), real.dev(), real.uid()));
    assert_eq!(told.mtime.0, real.mtime());
    assert_eq!(dir.stat_self().unwrap().ino, fs::metadata(place.path()).unwrap().ino());
    assert_eq!(dir.stat(path("other")).unwrap(), None);
    dir.sync_file_system().unwrap();
}

#[test]
fn a_folder_with_too_many_names_is_not_read_to_its_end() {
    let place = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(place.path().join(name), "").unwrap();
    }
    let folder = Dir::open(place.path()).unwrap();
    assert_eq!(folder.entries_up_to(3).unwrap().len(), 3);
    assert!(matches!(folder.entries_up_to(2), Err(FsError::TooMany { limit: 2, .. })));
}

#[test]
fn a_file_that_goes_while_it_is_read_is_none() {
    let (place, dir) = folder();
    let file = place.path().join("file");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(&file, "x").unwrap();
                fs::remove_file(&file).unwrap();
            }
        });
        let read: Vec<_> = (0..20_000).map(|_| dir.read(path("file"), 10).map(drop)).collect();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(read.iter().all(Result::is_ok), "{:?}", read.iter().find(|read| read.is_err()));
    });
}
