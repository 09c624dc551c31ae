//! Locks between jobs: `flock(2)` on files of one folder, shared or exclusive, with a record of who holds them.
//!
//! The kernel lets go of a lock however its holder ends. A lock file is never deleted, because two processes could then
//! lock two different files of one name. Files are close-on-exec, so that a child never keeps a lock.
//! An exclusive waiter stands in a turnstile (`NAME.turn`) that everybody else has to pass, so that a stream of shared
//! holders cannot starve it.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::{Class, Classified};
use crate::folders;
use crate::process::Process;
use crate::systemd;

/// After how long a busy lock is tried again, at first and at most; the pause doubles.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(250));

/// The folders of records, behind the lock's name.
const HOLDERS: &str = "holders";
const WAITERS: &str = "waiters";

/// How many records this process has written.
static RECORDS: AtomicU64 = AtomicU64::new(0);

/// How often a waiting job says again for whom it waits.
const REMIND: Duration = Duration::from_secs(30 * 60);

/// The names of the locks of one folder: a closed list, so that a typing mistake is an error and not a lock of its own.
///
/// Their order is the one in which a job takes several. A name is shown as the path of its files, without their ends.
pub trait Name: Display + FromStr + Ord {
    /// The folders that names may begin with, as `drive` in `drive/A`.
    const FOLDERS: &'static [&'static str];
}

/// Where the locks with names of the kind `N` are.
#[derive(Debug, Clone)]
pub struct Locks<N> {
    folder: PathBuf,
    names: PhantomData<fn() -> N>,
}

/// Whether others may hold the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// Who holds a lock, or asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The job's name.
    pub job: String,
    /// The systemd unit that it belongs to, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The process.
    pub pid: u32,
    /// When the process started, in clock ticks after the machine: another one may have its number later.
    pub started: u64,
    /// When it got the lock, or began to wait for it.
    pub since: DateTime<Utc>,
    /// When it is expected to end, from the history of its runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Shared or exclusive.
    pub mode: Mode,
}

/// How long to wait, and what to do meanwhile.
pub struct Patience<'a> {
    /// When to give up.
    pub deadline: Instant,
    /// Is called once a wait begins, with who is waited for.
    pub on_wait: &'a mut dyn FnMut(&str),
    /// Is asked again and again; a signal's number ends the wait.
    pub interrupted: &'a dyn Fn() -> Option<i32>,
}

/// A held lock.
#[derive(Debug)]
#[must_use = "dropping it lets go of the lock"]
pub struct Lock {
    // Dropped first: while the record stands, the lock is held.
    _record: Record,
    _file: File,
}

/// A record of a holder or a waiter; a dead process's record does not count, so nobody has to clean up after a crash.
#[derive(Debug)]
struct Record(PathBuf);

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody else held it until the deadline.
    #[error("gave up waiting for the lock {name}, held by {holders}")]
    Busy {
        /// The lock.
        name: String,
        /// Who holds it.
        holders: String,
    },
    /// A signal ended the wait.
    #[error("stopped by signal {signal} while waiting for the lock {name}")]
    Interrupted {
        /// The lock.
        name: String,
        /// The signal's number.
        signal: i32,
    },
    /// The lock's files cannot be used.
    #[error("cannot use the lock file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Classified for LockError {
    fn class(&self) -> Class {
        match self {
            Self::Busy { .. } => Class::Busy,
            Self::Interrupted { signal, .. } => Class::Signal(*signal),
            Self::File { .. } => Class::Source,
        }
    }
}

impl<N: Name> Locks<N> {
    /// The locks in `folder`, which is made when the first one is taken.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), names: PhantomData }
    }

    /// Takes the lock `name`. Who takes several takes them in the order of their names.
    ///
    /// `until` is when the job would end if it got the lock at once; others read when it will, its wait included.
    ///
    /// # Errors
    ///
    /// When it is still busy at the deadline, when a signal ended the wait, or when its file cannot be used.
    pub fn take(
        &self,
        name: &N,
        mode: Mode,
        job: &str,
        until: Option<DateTime<Utc>>,
        patience: &mut Patience<'_>,
    ) -> Result<Lock, LockError> {
        let main = self.open(&format!("{name}.lock"))?;
        let turn = self.open(&format!("{name}.turn"))?;
        // Everybody passes the turnstile; who waits for the exclusive lock keeps standing in it.
        let mut holder = holder(job, until, mode)?;
        let waits = self.wait(name, &turn, Mode::Exclusive, &holder, None, patience)?;
        drop(self.wait(name, &main, mode, &holder, waits, patience)?);
        drop(turn);
        let asked = std::mem::replace(&mut holder.since, Utc::now());
        holder.until = holder.until.map(|until| until + (holder.since - asked));
        self.forget_the_dead(name);
        let record = self.record(name, HOLDERS, &holder)?;
        Ok(Lock { _record: record, _file: main })
    }

    /// Who holds the lock `name` now; a record whose process is gone does not count.
    pub fn holders(&self, name: &N) -> Vec<Holder> {
        self.records(name, HOLDERS)
    }

    /// Who waits for the lock `name` now, and since when.
    pub fn waiters(&self, name: &N) -> Vec<Holder> {
        self.records(name, WAITERS)
    }

    /// The locks that were ever taken since the machine booted, in their order, if `N` reads their names.
    pub fn names(&self) -> Vec<N> {
        let below = |folder: &Path, prefix: &str| -> Vec<N> {
            let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
            let files = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            files.filter_map(|file| format!("{prefix}{}", file.strip_suffix(".lock")?).parse().ok()).collect()
        };
        let mut names = below(&self.folder, "");
        for folder in N::FOLDERS {
            names.extend(below(&self.folder.join(folder), &format!("{folder}/")));
        }
        names.sort();
        names
    }

    fn records(&self, name: &N, kind: &str) -> Vec<Holder> {
        let mut holders: Vec<Holder> = self
            .record_files(name, kind)
            .iter()
            .filter_map(|file| read_record(file))
            .filter(|holder| holder.process().is_alive())
            .collect();
        holders.sort_by_key(|holder| holder.since);
        holders
    }

    fn record_files(&self, name: &N, kind: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.join(format!("{name}.{kind}"))).into_iter().flatten();
        let files = entries.flatten().map(|entry| entry.path());
        files.filter(|path| path.extension().is_some_and(|end| end == "json")).collect()
    }

    /// Removes what processes have left that were killed: nobody else would.
    fn forget_the_dead(&self, name: &N) {
        let files = [HOLDERS, WAITERS].map(|kind| self.record_files(name, kind));
        for file in files.into_iter().flatten() {
            if read_record(&file).is_some_and(|holder| !holder.process().is_alive()) {
                drop(Record(file));
            }
        }
    }

    fn open(&self, file: &str) -> Result<File, LockError> {
        let path = self.folder.join(file);
        in_folder(&path, || OpenOptions::new().create(true).append(true).mode(0o644).open(&path))
            .map_err(|source| LockError::File { path: path.clone(), source })
    }

    /// Waits for the lock on `file`; returns the record of the wait, which goes on with the next file.
    fn wait(
        &self,
        name: &N,
        file: &File,
        mode: Mode,
        waiter: &Holder,
        mut waits: Option<Record>,
        patience: &mut Patience<'_>,
    ) -> Result<Option<Record>, LockError> {
        let mut said: Option<Instant> = None;
        let mut pause = RETRY.0;
        loop {
            let attempt = match mode {
                Mode::Shared => fs2::FileExt::try_lock_shared(file),
                Mode::Exclusive => fs2::FileExt::try_lock_exclusive(file),
            };
            match attempt {
                Ok(()) => return Ok(waits),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(LockError::File { path: self.folder.join(name.to_string()), source });
                }
            }
            if let Some(signal) = (patience.interrupted)() {
                return Err(LockError::Interrupted { name: name.to_string(), signal });
            }
            let now = Instant::now();
            if now >= patience.deadline {
                return Err(LockError::Busy { name: name.to_string(), holders: describe(&self.holders(name)) });
            }
            if said.is_none_or(|since| since.elapsed() >= REMIND) {
                said = Some(now);
                if waits.is_none() {
                    waits = Some(self.record(name, WAITERS, waiter)?);
                }
                (patience.on_wait)(&format!("the lock {name}, held by {}", describe(&self.holders(name))));
            }
            std::thread::sleep(pause.min(patience.deadline.saturating_duration_since(now)));
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Writes a record where others can read it while the lock is held or waited for.
    fn record(&self, name: &N, kind: &str, holder: &Holder) -> Result<Record, LockError> {
        let folder = self.folder.join(format!("{name}.{kind}"));
        // A process may stand at one lock more than once, in several threads.
        let path = folder.join(format!("{}-{}.json", holder.pid, RECORDS.fetch_add(1, Ordering::Relaxed)));
        let failed = |source| LockError::File { path: path.clone(), source };
        let text = serde_json::to_vec(holder).map_err(io::Error::from).map_err(failed)?;
        let fresh = path.with_extension("new");
        // Everybody may read who holds a lock, whatever a unit's `UMask=` is.
        in_folder(&fresh, || fs::write(&fresh, &text))
            .and_then(|()| fs::set_permissions(&fresh, Permissions::from_mode(0o644)))
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(failed)?;
        Ok(Record(path))
    }
}

impl Holder {
    fn process(&self) -> Process {
        Process { pid: self.pid, start: self.started }
    }
}

impl std::fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patience").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            log::debug!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Does what makes the file `path`, and makes its folder where it is missing.
fn in_folder<T>(path: &Path, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match make() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), folders::make_shared)?;
            make()
        }
        other => other,
    }
}

/// This process as somebody who asks for a lock now.
fn holder(job: &str, until: Option<DateTime<Utc>>, mode: Mode) -> Result<Holder, LockError> {
    let Process { pid, start: started } =
        Process::own().map_err(|source| LockError::File { path: "/proc/self/stat".into(), source })?;
    Ok(Holder { job: job.to_owned(), unit: systemd::unit_of(pid), pid, started, since: Utc::now(), until, mode })
}

fn read_record(file: &Path) -> Option<Holder> {
    // A record may go away at any moment.
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// The holders in words, for a message.
fn describe(holders: &[Holder]) -> String {
    let words: Vec<_> = holders
        .iter()
        .map(|holder| {
            let since = holder.since.with_timezone(&chrono::Local).format("%F %T");
            let until = holder.until.map_or(String::new(), |until| {
                format!(", expected to end at {}", until.with_timezone(&chrono::Local).format("%F %T"))
            });
            let unit = holder.unit.as_ref().map_or(String::new(), |unit| format!(", {unit}"));
            format!("{} (pid {}{unit}, since {since}{until})", holder.job, holder.pid)
        })
        .collect();
    if words.is_empty() { "a process that has left no record".to_owned() } else { words.join(" and ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

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
        let mut patience = Patience {
            deadline: Instant::now() + Duration::from_millis(1),
            on_wait: &mut |text| said.push(text.to_owned()),
            interrupted: &|| None,
        };
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
        assert!(folder.path().join("holding.lock").exists(), "a lock file is never deleted");
    }

    #[test]
    fn a_waiting_exclusive_lock_stops_new_shared_ones() {
        let folder = tempfile::tempdir().unwrap();
        let locks = Locks::<Any>::new(folder.path());
        let first = take(&locks, "holding", Mode::Shared).unwrap();
        let (waiting, is_waiting) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let mut patience = Patience {
                    deadline: Instant::now() + Duration::from_secs(60),
                    on_wait: &mut |text| waiting.send(text.to_owned()).unwrap(),
                    interrupted: &|| None,
                };
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
                    let mut patience = Patience {
                        deadline: Instant::now() + Duration::from_secs(60),
                        on_wait: &mut |text| waiting.send(text.to_owned()).unwrap(),
                        interrupted: &|| None,
                    };
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
        assert_eq!(locks.record_files(&holding(), HOLDERS).len(), 1);
        assert!(locks.holders(&holding()).is_empty());
        let _alone = take(&locks, "holding", Mode::Exclusive).unwrap();
        assert_eq!(locks.holders(&holding()).len(), 1);
        assert_eq!(locks.record_files(&holding(), HOLDERS).len(), 1);
        assert!(locks.record_files(&holding(), WAITERS).is_empty());
    }

    #[test]
    fn a_signal_ends_the_wait() {
        let folder = tempfile::tempdir().unwrap();
        let locks = Locks::<Any>::new(folder.path());
        let _held = take(&locks, "repository", Mode::Exclusive).unwrap();
        let mut patience = Patience {
            deadline: Instant::now() + Duration::from_secs(60),
            on_wait: &mut |_| {},
            interrupted: &|| Some(15),
        };
        let error =
            locks.take(&Any("repository".to_owned()), Mode::Exclusive, "test", None, &mut patience).unwrap_err();
        assert!(matches!(error, LockError::Interrupted { signal: 15, .. }), "{error}");
    }
}
