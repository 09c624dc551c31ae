//! Locks between threads and processes: who waits for whom, who is named, what is left behind.

use super::*;
use std::{fmt, fs};

/// A name of any one or two parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Any(String);

impl Name for Any {
    const FOLDERS: &'static [&'static str] = &["holding"];
}

impl FromStr for Any {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Any {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn holding() -> Any {
    Any("holding".to_owned())
}

/// Takes a lock without waiting, and returns what is waited for where it is busy.
fn take(locks: &Locks<Any>, name: &str, mode: Mode) -> Result<Lock, String> {
    let mut said = Vec::new();
    let mut patience =
        Patience::until(Instant::now() + Duration::from_millis(1)).on_wait(|text| said.push(text.to_owned()));
    let result = locks.take(&name.parse().unwrap(), mode, "test", None, &mut patience);
    result.map_err(|error| error.to_string())
}

#[test]
fn shared_holders_stand_together_and_an_exclusive_one_alone() {
    let folder = tempfile::tempdir().unwrap();
    let locks = Locks::<Any>::new(folder.path());
    let first = take(&locks, "holding", Mode::Shared).unwrap();
    let second = take(&locks, "holding", Mode::Shared).unwrap();
    let error = take(&locks, "holding", Mode::Exclusive).unwrap_err();
    assert!(error.starts_with("gave up waiting for the lock holding, held by test (pid "), "{error}");
    drop((first, second));
    let alone = take(&locks, "holding", Mode::Exclusive).unwrap();
    assert!(take(&locks, "holding", Mode::Shared).is_err());
    assert!(take(&locks, "holding/luv", Mode::Exclusive).is_ok(), "another name is another lock");
    drop(alone);
    assert!(locks.holders(&holding()).is_empty());
    assert!(folder.path().join("private/holding.lock").exists(), "a lock file is never deleted");
}

/// Holds a lock's file as a program that a killed job was starting does, without a record.
fn hold_unrecorded(locks: &Locks<Any>, end: &str) -> File {
    let private = locks.private(&holding()).unwrap();
    let file = flock::open(&private, format!("holding.{end}").as_ref()).unwrap();
    flock::within(file, Duration::ZERO).unwrap().unwrap()
}

#[test]
fn who_only_passes_makes_nobody_give_up_who_would_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    let locks = Locks::<Any>::new(folder.path());
    let take = |mode| locks.take(&holding(), mode, "test", None, &mut Patience::none());
    // Whoever passes is gone as soon as it was seen that it is there.
    let once = |end: &str, mode| {
        let passing = std::cell::Cell::new(Some(hold_unrecorded(&locks, end)));
        let mut patience = Patience::none().interrupted_by(|| {
            drop(passing.take());
            None
        });
        locks.take(&holding(), mode, "test", None, &mut patience)
    };
    for end in ["lock", "turn"] {
        assert!(once(end, Mode::Exclusive).is_ok(), "{end}");
    }
    // A shared holder with a record says nothing of who passes the turnstile.
    let _shared = take(Mode::Shared).unwrap();
    assert!(once("turn", Mode::Shared).is_ok());
    // Who has a record is not waited for, and who stays without one not for long.
    let asked = Instant::now();
    assert!(take(Mode::Exclusive).is_err());
    assert!(asked.elapsed() < PASSING, "{:?}", asked.elapsed());
    let _stays = hold_unrecorded(&locks, "turn");
    let error = take(Mode::Shared).unwrap_err().to_string();
    assert!(error.starts_with("gave up waiting for the lock holding, held by test (pid "), "{error}");
}

#[test]
fn nobody_else_can_open_a_lock_and_everybody_can_read_who_holds_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().join("lock");
    let private = top.join("private");
    fs::create_dir_all(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o777)).unwrap();
    let _held = take(&Locks::<Any>::new(&top), "holding/luv", Mode::Shared).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!([&private, &private.join("holding")].map(|path| mode(path)), [0o700; 2]);
    for end in ["lock", "turn"] {
        assert_eq!(mode(&private.join(format!("holding/luv.{end}"))), 0o600);
    }
    let holders = top.join("holding/luv.holders");
    let record = fs::read_dir(&holders).unwrap().next().unwrap().unwrap().path();
    assert_eq!([&top, &holders, &record].map(|path| mode(path)), [0o755, 0o755, 0o644]);
}

#[test]
fn a_lock_is_held_also_where_nobody_can_be_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("holding.holders"), "").unwrap();
    let locks = Locks::<Any>::new(folder.path());
    let held = take(&locks, "holding", Mode::Exclusive).unwrap();
    assert!(take(&locks, "holding", Mode::Exclusive).is_err());
    drop(held);
}

#[test]
fn a_waiting_exclusive_lock_stops_new_shared_ones() {
    let folder = tempfile::tempdir().unwrap();
    let locks = Locks::<Any>::new(folder.path());
    let first = take(&locks, "holding", Mode::Shared).unwrap();
    let (waiting, is_waiting) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut patience = Patience::until(Instant::now() + Duration::from_secs(60))
                .on_wait(|text| waiting.send(text.to_owned()).unwrap());
            locks.take(&holding(), Mode::Exclusive, "borg", None, &mut patience).unwrap()
        });
        let whom = is_waiting.recv().unwrap();
        assert!(whom.starts_with("the lock holding, held by test (pid "), "{whom}");
        assert!(take(&locks, "holding", Mode::Shared).is_err(), "the turnstile is closed");
        assert_eq!(locks.waiters(&holding()).first().map(|waiter| waiter.job.clone()).as_deref(), Some("borg"));
        drop(first);
        let alone = waiter.join().unwrap();
        assert_eq!(locks.holders(&holding()).first().map(|holder| holder.job.clone()).as_deref(), Some("borg"));
        assert!(locks.waiters(&holding()).is_empty());
        drop(alone);
    });
    assert_eq!(locks.names(), [holding()]);
}

#[test]
fn the_expected_end_is_reckoned_from_when_the_lock_was_got() {
    let folder = tempfile::tempdir().unwrap();
    let locks = Locks::<Any>::new(folder.path());
    let held = take(&locks, "holding", Mode::Exclusive).unwrap();
    let (waiting, is_waiting) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let asked = Utc::now();
        let until = asked + chrono::TimeDelta::minutes(90);
        let waiter = scope.spawn({
            let locks = &locks;
            move || {
                let mut patience = Patience::until(Instant::now() + Duration::from_secs(60))
                    .on_wait(|text| waiting.send(text.to_owned()).unwrap());
                locks.take(&holding(), Mode::Shared, "pull", Some(until), &mut patience).unwrap()
            }
        });
        is_waiting.recv().unwrap();
        drop(held);
        let shared = waiter.join().unwrap();
        let holder = locks.holders(&holding()).remove(0);
        let expected = holder.until.unwrap();
        assert!(expected > until, "the wait is not forgotten");
        let length = (expected - holder.since) - (until - asked);
        assert!(length.abs() < chrono::TimeDelta::seconds(1), "{length}");
        let error = take(&locks, "holding", Mode::Exclusive).unwrap_err();
        let end = expected.with_timezone(&chrono::Local).format("%F %T");
        assert!(error.ends_with(&format!(", expected to end at {end})")), "{error}");
        drop(shared);
    });
}

#[test]
fn what_a_dead_process_has_left_is_neither_shown_nor_kept() {
    let folder = tempfile::tempdir().unwrap();
    let locks = Locks::<Any>::new(folder.path());
    drop(take(&locks, "holding", Mode::Exclusive).unwrap());
    let own = holder("night", None, Mode::Exclusive).unwrap();
    // The same number, of a process that has started at another time.
    let dead = Holder { started: own.started + 1, ..own };
    for kind in [HOLDERS, WAITERS] {
        let left = folder.path().join(format!("holding.{kind}"));
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("1-0.json"), serde_json::to_vec(&dead).unwrap()).unwrap();
    }
    let files = |kind: &str| record_files(&Dir::open(&folder.path().join(format!("holding.{kind}"))).unwrap());
    assert_eq!(files(HOLDERS).len(), 1);
    assert!(locks.holders(&holding()).is_empty());
    let _alone = take(&locks, "holding", Mode::Exclusive).unwrap();
    assert_eq!(locks.holders(&holding()).len(), 1);
    assert_eq!(files(HOLDERS).len(), 1);
    assert!(files(WAITERS).is_empty());
}

#[test]
fn a_signal_ends_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let locks = Locks::<Any>::new(folder.path());
    let _held = take(&locks, "repository", Mode::Exclusive).unwrap();
    let mut patience = Patience::until(Instant::now() + Duration::from_secs(60)).interrupted_by(|| Some(15));
    let error = locks.take(&Any("repository".to_owned()), Mode::Exclusive, "test", None, &mut patience).unwrap_err();
    assert!(matches!(error, LockError::Interrupted { signal: 15, .. }), "{error}");
}

#[test]
fn fuzz_lock_record() {
    phobos_fuzz::target("lock_record", &[br#"{"schema_version":1,"job":"ext-A","unit":"x.service","pid":7,"started":4711,"since":"2026-01-02T03:04:05Z","until":"2026-01-02T04:04:05Z","mode":"shared"}"#], |input| {
        if let Ok(holder) = serde_json::from_slice::<Holder>(input) {
            drop(describe(&[holder]));
        }
    });
}
