//! Borg's lock, against the Borg that is installed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use super::*;
use crate::borg::serve::tests::{exception, opened};
use crate::error::Chain;
use crate::exec::System;
use crate::exec::fake::Script;

/// A folder with a repository that has one archive.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // For another user to get at it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let place = Self { folder };
        place.borg(&["init", "--encryption=none", "repo"]).unwrap();
        place.borg(&["create", "repo::one", "/etc/hostname"]).unwrap();
        place
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    fn call(&self, args: &[&str]) -> Invocation {
        let home = self.folder.path().join("home");
        // Like every other word here, but for the repository's.
        let args = args.iter().map(|arg| arg.replace("repo", self.path().to_str().unwrap_or_default()));
        Invocation::new("borg").args(args).env("BORG_BASE_DIR", home)
    }

    fn borg(&self, args: &[&str]) -> Result<String, ExecError> {
        System::default().run(&self.call(args)).map(|finished| finished.text())
    }

    fn repository(&self) -> Repository {
        Repository::open(&self.path()).unwrap()
    }

    /// All that a repository consists of: content, times, owners.
    fn state(&self) -> BTreeMap<PathBuf, (Vec<u8>, i64, i64, u32, u32)> {
        let mut state = BTreeMap::new();
        let mut folders = vec![self.path()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let is = fs::symlink_metadata(&path).unwrap();
                let content = if is.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
                state.insert(path.clone(), (content, is.mtime(), is.mtime_nsec(), is.uid(), is.gid()));
                folders.extend(is.is_dir().then_some(path));
            }
        }
        state
    }
}

/// Takes the lock or gives up at once.
fn lock(place: &Place) -> Result<RepositoryLock, BorgError> {
    lock_with(&System::default(), place, &mut Vec::new())
}

fn lock_with(exec: &dyn Exec, place: &Place, said: &mut Vec<String>) -> Result<RepositoryLock, BorgError> {
    let mut patience = Patience::none().on_wait(|whom| said.push(whom.to_owned()));
    place.repository().lock(exec, &mut patience)
}

fn alone(place: &Place) -> Result<RepositoryLock, BorgError> {
    let mut patience = Patience::none();
    place.repository().lock_alone(&System::default(), &mut patience)
}

#[test]
fn readers_go_on_beside_it_writers_wait_and_nothing_changes() {
    let place = Place::new();
    let before = place.state();
    let mut first = lock(&place).unwrap();
    let mut second = lock(&place).unwrap();
    assert!(first.is_held() && second.is_held());
    assert!(place.borg(&["list", "--short", "repo"]).unwrap().contains("one"));
    let error = place.borg(&["create", "--lock-wait=0", "repo::two", "/etc/hostname"]).unwrap_err();
    assert!(is_busy(&error), "{error}");
    assert!(matches!(alone(&place), Err(BorgError::Busy { .. })));
    second.let_go();
    second.close().unwrap();
    assert!(first.is_held());
    first.close().unwrap();
    assert_eq!(place.state(), before);
    place.borg(&["create", "--lock-wait=0", "repo::two", "/etc/hostname"]).unwrap();
}

/// Borg takes its time to start, and something else is done meanwhile.
#[test]
fn what_was_begun_is_answered_later_and_let_go_of_where_nobody_asks() {
    let place = Place::new();
    let before = place.state();
    let (repository, system) = (place.repository(), System::default());
    let held = repository.begin_to_lock(&system).unwrap();
    let held = held.answer().unwrap().unwrap();
    assert!(matches!(alone(&place), Err(BorgError::Busy { .. })));
    let process = held.hold.pid().unwrap();
    let peak = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
    assert!(peak.parse::<u64>().unwrap() <= 35_000, "the promise of how much memory it takes: {peak} kB");
    held.close().unwrap();
    drop(repository.begin_to_lock(&system).unwrap());
    assert_eq!(place.state(), before, "nobody holds it any more");
    let writer = alone(&place).unwrap();
    assert!(repository.begin_to_lock(&system).unwrap().answer().unwrap().is_none());
    writer.close().unwrap();
    fs::rename(place.path().join("config"), place.path().join("config.away")).unwrap();
    let error = repository.begin_to_lock(&system).unwrap().answer().unwrap_err().to_string();
    assert!(error.contains("is not a valid repository"), "{error}");
}

#[test]
fn a_writer_is_waited_for_by_name() {
    let place = Place::new();
    let writer = alone(&place).unwrap();
    let mut said = Vec::new();
    let error = lock_with(&System::default(), &place, &mut said).unwrap_err();
    assert!(matches!(error, BorgError::Busy { .. }), "{}", Chain(&error));
    assert!(said.len() == 1 && said[0].contains("with-lock"), "{said:?}");
    writer.close().unwrap();
    lock(&place).unwrap().close().unwrap();
}

#[test]
fn a_killed_holder_is_noticed_and_leaves_nothing_in_the_way() {
    let place = Place::new();
    let mut held = lock(&place).unwrap();
    let pid = held.hold.pid().unwrap();
    System::default().run(&Invocation::new("kill").args(["-9", &pid.to_string()])).unwrap();
    let limit = Instant::now() + Duration::from_secs(20);
    while held.is_held() {
        assert!(Instant::now() < limit, "the holder's death was not noticed");
        std::thread::yield_now();
    }
    let error = held.close().unwrap_err();
    assert!(Chain(&error).to_string().contains("was killed by signal 9"), "{}", Chain(&error));
    // Its line in the roster is stale; Borg sees that.
    place.borg(&["create", "--lock-wait=1", "repo::two", "/etc/hostname"]).unwrap();
    lock(&place).unwrap().close().unwrap();
}

#[test]
fn a_killed_writer_leaves_nothing_in_the_way() {
    let place = Place::new();
    let writer = alone(&place).unwrap();
    let pid = writer.hold.pid().unwrap();
    System::default().run(&Invocation::new("kill").args(["-9", &pid.to_string()])).unwrap();
    writer.close().unwrap_err();
    assert!(place.path().join("lock.exclusive").exists());
    lock(&place).unwrap().close().unwrap();
    assert!(!place.path().join("lock.exclusive").exists());
}

#[test]
fn a_broken_lock_is_noticed() {
    let place = Place::new();
    let mut held = lock(&place).unwrap();
    assert!(held.own.is_some());
    place.borg(&["break-lock", "repo"]).unwrap();
    assert!(!held.is_held());
    // Borg 1.2 fails to let go of what it no longer has, 1.4 does not mind.
    if let Err(error) = held.close() {
        assert!(matches!(error, BorgError::Lock { verb: "release", .. }), "{}", Chain(&error));
    }
}

#[test]
fn a_writer_of_another_machine_is_left_alone_and_the_remedy_is_told() {
    let place = Place::new();
    fs::create_dir(place.path().join("lock.exclusive")).unwrap();
    fs::write(place.path().join("lock.exclusive/else\x1bwhere@1.7-0"), "").unwrap();
    let mut said = Vec::new();
    let error = lock_with(&System::default(), &place, &mut said).unwrap_err().to_string();
    assert!(error.contains("pid 7 on else\\u{1b}where@1; if nothing runs there any more, break the lock"), "{error}");
    assert_eq!(said.len(), 1);
    fs::remove_dir_all(place.path().join("lock.exclusive")).unwrap();
    // A reader of another machine is no hindrance to another reader.
    fs::write(place.path().join("lock.roster"), r#"{"shared": [["elsewhere@1", 7, 0]]}"#).unwrap();
    lock(&place).unwrap().close().unwrap();
    assert!(matches!(alone(&place), Err(BorgError::Busy { .. })));
}

#[test]
fn a_folder_that_cannot_be_written_fails_at_once_in_borgs_words() {
    let place = Place::new();
    if nix::unistd::geteuid().is_root() {
        chown(place.path(), Some(1234), Some(1234)).unwrap();
    }
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut said = Vec::new();
    let error = lock_with(&System::default(), &place, &mut said).unwrap_err();
    assert!(matches!(error, BorgError::Refused { .. }), "{}", Chain(&error));
    assert!(error.to_string().contains("Permission denied"), "{error}");
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn the_holder_is_the_repositorys_owner_and_nothing_becomes_somebody_elses() {
    let place = Place::new();
    let root = nix::unistd::geteuid().is_root();
    let (uid, gid) =
        if root { (1234, 1235) } else { (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()) };
    for path in place.state().keys().chain([&place.path()]) {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
    let before = place.state();
    let held = lock(&place).unwrap();
    let process = fs::metadata(format!("/proc/{}", held.hold.pid().unwrap())).unwrap();
    assert_eq!((process.uid(), process.gid()), (uid, gid));
    assert_eq!(fs::metadata(place.path().join("lock.roster")).unwrap().uid(), uid);
    held.close().unwrap();
    assert_eq!(place.state(), before);
}

#[test]
fn a_repository_that_is_none_fails_at_once() {
    let place = Place::new();
    let repository = place.repository();
    fs::rename(place.path().join("config"), place.path().join("config.away")).unwrap();
    let mut patience = Patience::none();
    let error = repository.lock(&System::default(), &mut patience).unwrap_err();
    assert!(error.to_string().contains("is not a valid repository"), "{error}");
}

#[test]
fn a_borg_that_does_not_answer_is_given_up_and_told() {
    let place = Place::new();
    let mut patience = Patience::none();
    for (script, want) in [
        ("exec sleep 60", "Borg did not answer within 0s and was ended"),
        ("while echo; do :; done", "what it answered is not the language of `borg serve`"),
        ("exit 0", "cannot take Borg's lock on"),
        ("echo no python >&2; exit 1", "no python"),
    ] {
        let call = Invocation::new("sh").args(["-c", script]).limit(Duration::from_millis(300));
        let error = place.repository().lock_through(&call, &System::default(), &mut patience).unwrap_err();
        let error = Chain(&error).to_string();
        assert!(error.contains(want), "{script}: {error}");
    }
}

#[test]
fn only_borgs_time_out_counts_as_busy() {
    let place = Place::new();
    let timeout = exception("LockTimeout", "Failed to create/acquire the lock (timeout).");
    let mut said = Vec::new();
    // Once busy, once free, in time: the wait ends with the lock.
    let script = Script::new().answers_bytes(&timeout).answers_bytes(&opened());
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut patience = Patience::until(deadline).on_wait(|whom| said.push(whom.to_owned()));
    place.repository().lock(&script, &mut patience).unwrap().close().unwrap();
    drop(patience);
    assert_eq!(script.calls().len(), 2);
    assert_eq!(said.len(), 1);
    for class in ["LockFailed", "InvalidRepository", "OSError", "PathNotAllowed"] {
        let error = lock_with(&Script::new().answers_bytes(&exception(class, "words")), &place, &mut Vec::new());
        assert!(matches!(error, Err(BorgError::Refused { words, .. }) if words == "words"), "{class}");
    }
    let mut patience = Patience::none();
    let busy = "Failed to create/acquire the lock /backup/borg/lock.exclusive (timeout).";
    let error = place.repository().lock_alone(&Script::new().fails(2, busy), &mut patience).unwrap_err();
    assert!(matches!(error, BorgError::Busy { .. }), "{error}");
    let failed = "Failed to create/acquire the lock /x ([Errno 30] Read-only file system: '/x').";
    let error = place.repository().lock_alone(&Script::new().fails(2, failed), &mut patience).unwrap_err();
    assert!(matches!(error, BorgError::Lock { .. }), "{error}");
}

#[test]
fn the_remedy_is_called_as_the_caller_says() {
    let place = Place::new();
    let holder = LockHolder { host: "other@1".to_owned(), pid: 7 };
    let said = place.repository().called_as("sudo borg").describe(&[holder]);
    assert!(said.contains("break the lock with `sudo borg break-lock /"), "{said}");
}

#[test]
fn fuzz_lock_name() {
    phobos_fuzz::target("lock_name", &[b"nas@123456789.4711-0", b"host.name.7-1"], |input| {
        let text = String::from_utf8_lossy(input);
        drop(LockHolder::parse(&text));
    });
}
