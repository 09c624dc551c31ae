//! Locks between jobs: `flock(2)` on files of one folder, shared or exclusive, with a record of who holds them.
//!
//! The files are in a folder that nobody else can look into (`private`), because whoever can open a file can lock it; the
//! records, which all may read, are beside that folder. A lock file is never deleted, because two processes could then
//! lock two different files of one name. A record that cannot be written is a warning: telling never breaks doing.
//! An exclusive waiter stands in a turnstile (`NAME.turn`) that everybody else has to pass, so that a stream of shared
//! holders cannot starve it.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::{Chain, Class, Classified};
use crate::flock::{self, Outcome, Wait};
use crate::fs::make_shared;
use crate::fs::{Dir, Durability, FsError};
use crate::human;
use crate::process::Process;
use crate::schema::SchemaVersion;
use crate::systemd;

pub use crate::flock::Mode;

/// The folder of the lock files themselves, below the folder of the locks.
const PRIVATE: &str = "private";

/// The most that a record may have, in bytes.
const RECORD_LIMIT: u64 = 64 * 1024;

/// The folders of records, behind the lock's name.
const HOLDERS: &str = "holders";
const WAITERS: &str = "waiters";

/// How many records this process has written.
static RECORDS: AtomicU64 = AtomicU64::new(0);

/// How long somebody who asks without waiting does wait for a holder that has left no record: it has just got the lock, or only
/// passes the turnstile, or was killed while it started a program, which lets go of the lock once it runs.
const PASSING: Duration = Duration::from_secs(2);

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

/// Who holds a lock, or asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The version of this record.
    #[serde(default)]
    pub schema_version: SchemaVersion<1>,
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

/// How long to wait for a lock, and what to do meanwhile.
pub struct Patience<'a> {
    deadline: Instant,
    on_wait: Box<dyn FnMut(&str) + 'a>,
    interrupted: Box<dyn Fn() -> Option<i32> + 'a>,
}

impl<'a> Patience<'a> {
    /// Waits until `deadline`, says nothing, and is not interrupted.
    pub fn until(deadline: Instant) -> Self {
        Self { deadline, on_wait: Box::new(|_| {}), interrupted: Box::new(|| None) }
    }

    /// Does not wait at all.
    pub fn none() -> Self {
        Self::until(Instant::now())
    }

    /// Calls `on_wait` once a wait begins, and now and then while it lasts, with who is waited for.
    #[must_use]
    pub fn on_wait(self, on_wait: impl FnMut(&str) + 'a) -> Self {
        Self { on_wait: Box::new(on_wait), ..self }
    }

    /// Asks `interrupted` again and again; the number of a signal ends the wait.
    #[must_use]
    pub fn interrupted_by(self, interrupted: impl Fn() -> Option<i32> + 'a) -> Self {
        Self { interrupted: Box::new(interrupted), ..self }
    }

    /// When to give up.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Says who is waited for.
    pub(crate) fn say(&mut self, whom: &str) {
        (self.on_wait)(whom);
    }

    /// The signal that ends the wait, if one has come.
    pub(crate) fn signal(&self) -> Option<i32> {
        (self.interrupted)()
    }
}

/// A held lock.
#[derive(Debug)]
#[must_use = "dropping it lets go of the lock"]
pub struct Lock {
    // Dropped first: while the record stands, the lock is held.
    _record: Option<Record>,
    _file: File,
}

/// A record of a holder or a waiter; a dead process's record does not count, so nobody has to clean up after a crash.
#[derive(Debug)]
struct Record {
    folder: Dir,
    name: PathBuf,
}

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
    /// The folder of the locks, or a file in it, is not what it has to be.
    #[error(transparent)]
    Folder(#[from] FsError),
}

impl Classified for LockError {
    fn class(&self) -> Class {
        match self {
            Self::Busy { .. } => Class::Busy,
            Self::Interrupted { signal, .. } => Class::Signal(*signal),
            Self::File { .. } | Self::Folder(_) => Class::Source,
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
        let private = self.private(name)?;
        let main = flock::open(&private, format!("{name}.lock").as_ref())?;
        let turn = flock::open(&private, format!("{name}.turn").as_ref())?;
        // Everybody passes the turnstile; who waits for the exclusive lock keeps standing in it.
        let mut holder = holder(job, until, mode)?;
        let mut waits = None;
        self.wait(name, (&turn, WAITERS), Mode::Exclusive, &holder, &mut waits, patience)?;
        self.wait(name, (&main, HOLDERS), mode, &holder, &mut waits, patience)?;
        drop((turn, waits));
        let asked = std::mem::replace(&mut holder.since, Utc::now());
        let waited = holder.since.signed_duration_since(asked);
        holder.until = holder.until.and_then(|until| until.checked_add_signed(waited));
        self.forget_the_dead(name);
        Ok(Lock { _record: self.record(name, HOLDERS, &holder), _file: main })
    }

    /// Who holds the lock `name` now; a record whose process is gone does not count.
    pub fn holders(&self, name: &N) -> Vec<Holder> {
        self.records(name, HOLDERS)
    }

    /// Who waits for the lock `name` now, and since when.
    pub fn waiters(&self, name: &N) -> Vec<Holder> {
        self.records(name, WAITERS)
    }

    /// The locks that were ever held or waited for since the machine booted, in their order, if `N` reads their names.
    pub fn names(&self) -> Vec<N> {
        let below = |folder: &Path, prefix: &str| -> Vec<N> {
            let entries = Dir::open(folder).and_then(|folder| folder.entries()).unwrap_or_default();
            let folders = entries.into_iter().filter_map(|entry| entry.name.into_string().ok());
            let name = |folder: String| {
                let (name, kind) = folder.rsplit_once('.')?;
                [HOLDERS, WAITERS].contains(&kind).then(|| format!("{prefix}{name}").parse().ok()).flatten()
            };
            folders.filter_map(name).collect()
        };
        let mut names = below(&self.folder, "");
        for folder in N::FOLDERS {
            names.extend(below(&self.folder.join(folder), &format!("{folder}/")));
        }
        names.sort();
        names.dedup();
        names
    }

    fn records(&self, name: &N, kind: &str) -> Vec<Holder> {
        let Ok(folder) = Dir::open(&self.folder.join(format!("{name}.{kind}"))) else { return Vec::new() };
        let files = record_files(&folder);
        let mut holders: Vec<Holder> = files.iter().filter_map(|file| read_record(&folder, file)).collect();
        holders.retain(|holder| holder.process().is_alive());
        holders.sort_by_key(|holder| holder.since);
        holders
    }

    /// Removes the records of processes that were killed: nobody else would.
    fn forget_the_dead(&self, name: &N) {
        for kind in [HOLDERS, WAITERS] {
            let Ok(folder) = Dir::open(&self.folder.join(format!("{name}.{kind}"))) else { continue };
            for file in record_files(&folder) {
                if read_record(&folder, &file).is_some_and(|holder| !holder.process().is_alive()) {
                    forget(&folder, &file);
                }
            }
        }
    }

    /// The folder of the lock files, made where it is missing, which nobody else can look into.
    fn private(&self, name: &N) -> Result<Dir, LockError> {
        let shared = self.shared()?;
        let private = shared.make_dir(PRIVATE.as_ref(), 0o700)?;
        if private.stat_self()?.mode & 0o7777 != 0o700 {
            private.set_mode(0o700)?;
        }
        if let Some(folder) = parent(&name.to_string()) {
            private.make_dir(folder, 0o700)?;
        }
        Ok(private)
    }

    /// The folder of the records, which all may look into, whatever a unit's `UMask=` is.
    fn shared(&self) -> Result<Dir, LockError> {
        make_shared(&self.folder).map_err(|source| LockError::File { path: self.folder.clone(), source })?;
        Ok(Dir::open(&self.folder)?)
    }

    /// Waits for the lock on the file, whose holders leave records of a kind; the record of the wait goes on with the next file.
    fn wait(
        &self,
        name: &N,
        (file, records): (&File, &str),
        mode: Mode,
        waiter: &Holder,
        waits: &mut Option<Record>,
        patience: &mut Patience<'_>,
    ) -> Result<(), LockError> {
        let Patience { deadline, on_wait, interrupted } = patience;
        let mut on_wait = || {
            if waits.is_none() {
                *waits = self.record(name, WAITERS, waiter);
            }
            on_wait(&format!("the lock {name}, held by {}", describe(&self.holders(name))));
        };
        let failed = |source| LockError::File { path: self.folder.join(name.to_string()), source };
        let mut wait = Wait { deadline: *deadline, remind: REMIND, on_wait: &mut on_wait, interrupted: &**interrupted };
        let mut outcome = flock::acquire(file, mode, &mut wait).map_err(failed)?;
        let given_up = Instant::now();
        while outcome == Outcome::Busy && given_up.elapsed() < PASSING && self.records(name, records).is_empty() {
            let deadline = Instant::now().checked_add(Duration::from_millis(20)).unwrap_or(given_up);
            let mut wait = Wait { deadline, remind: Duration::MAX, on_wait: &mut || {}, interrupted: &**interrupted };
            outcome = flock::acquire(file, mode, &mut wait).map_err(failed)?;
        }
        match outcome {
            Outcome::Taken => Ok(()),
            Outcome::Interrupted(signal) => Err(LockError::Interrupted { name: name.to_string(), signal }),
            Outcome::Busy => Err(LockError::Busy { name: name.to_string(), holders: describe(&self.holders(name)) }),
        }
    }

    /// Writes a record where others can read it while the lock is held or waited for.
    fn record(&self, name: &N, kind: &str, holder: &Holder) -> Option<Record> {
        let written = self.try_record(name, kind, holder);
        written.map_err(|error| log::warn!("cannot tell others of the lock {name}: {}", Chain(&error))).ok()
    }

    fn try_record(&self, name: &N, kind: &str, holder: &Holder) -> Result<Record, LockError> {
        let shared = self.shared()?;
        let folder = format!("{name}.{kind}");
        if let Some(above) = parent(&folder) {
            shared.make_dir(above, 0o755)?;
        }
        let folder = shared.make_dir(folder.as_ref(), 0o755)?;
        // A process may stand at one lock more than once, in several threads.
        let record = PathBuf::from(format!("{}-{}.json", holder.pid, RECORDS.fetch_add(1, Ordering::Relaxed)));
        let text = serde_json::to_vec(holder)
            .map_err(|error| LockError::File { path: folder.path().join(&record), source: error.into() })?;
        folder.replace(&record, &text, 0o644, Durability::Loose)?;
        Ok(Record { folder, name: record })
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
        forget(&self.folder, &self.name);
    }
}

/// The folder that a name begins with, if it does.
fn parent(name: &str) -> Option<&Path> {
    Path::new(name).parent().filter(|folder| !folder.as_os_str().is_empty())
}

fn record_files(folder: &Dir) -> Vec<PathBuf> {
    let entries = folder.entries().unwrap_or_default();
    let files = entries.into_iter().map(|entry| PathBuf::from(entry.name));
    files.filter(|file| file.extension().is_some_and(|end| end == "json")).collect()
}

fn forget(folder: &Dir, record: &Path) {
    if let Err(error) = folder.remove(record) {
        log::debug!("{}", Chain(&error));
    }
}

/// This process as one that asks for a lock now.
fn holder(job: &str, until: Option<DateTime<Utc>>, mode: Mode) -> Result<Holder, LockError> {
    let Process { pid, start: started } =
        Process::own().map_err(|source| LockError::File { path: "/proc/self/stat".into(), source })?;
    let schema_version = SchemaVersion;
    let (job, unit, since) = (job.to_owned(), systemd::unit_of(pid), Utc::now());
    Ok(Holder { schema_version, job, unit, pid, started, since, until, mode })
}

fn read_record(folder: &Dir, file: &Path) -> Option<Holder> {
    // A record may go away at any moment.
    serde_json::from_slice(&folder.read(file, RECORD_LIMIT).ok()??).ok()
}

/// The holders in words, for a message.
fn describe(holders: &[Holder]) -> String {
    let words: Vec<_> = holders
        .iter()
        .map(|holder| {
            let since = human::local(holder.since);
            let until =
                holder.until.map_or(String::new(), |until| format!(", expected to end at {}", human::local(until)));
            let unit = holder.unit.as_ref().map_or(String::new(), |unit| format!(", {unit}"));
            format!("{} (pid {}{unit}, since {since}{until})", holder.job, holder.pid)
        })
        .collect();
    if words.is_empty() { "a process that has left no record".to_owned() } else { words.join(" and ") }
}

#[cfg(test)]
mod tests;
