//! The kernel's locks, `flock(2)`: files that nobody else can open, and one wait with a deadline, a reminder and a signal.
//!
//! Whoever can open a file can lock it, for reading too. So a lock is a file of its own with the mode 0600, never one that
//! others may read. The kernel lets go of a lock however its holder ends; files are close-on-exec, so that a child never
//! keeps one.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::fs::{Dir, FsError};

/// The permissions of a lock's file: its owner's alone.
const PRIVATE: u32 = 0o600;

/// After how long a busy lock is tried again, at first and at most; the pause doubles.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(250));

/// Whether others may hold the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// How long to wait for a busy lock, and what to do meanwhile.
pub struct Wait<'a> {
    /// When to give up.
    pub deadline: Instant,
    /// How long after one call of `on_wait` the next one is due.
    pub remind: Duration,
    /// Is called once a wait begins, and again and again while it lasts.
    pub on_wait: &'a mut dyn FnMut(),
    /// Is asked again and again; a signal's number ends the wait.
    pub interrupted: &'a dyn Fn() -> Option<i32>,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The lock is held, until the file is closed.
    Taken,
    /// Somebody else held it until the deadline.
    Busy,
    /// A signal, this one, ended the wait.
    Interrupted(i32),
}

/// Opens the lock's file `name` in `folder`, which is made where it is missing, and makes sure that nobody else can.
///
/// # Errors
///
/// When it is no regular file, or belongs to somebody else.
pub fn open(folder: &Dir, name: &Path) -> Result<File, FsError> {
    let file = folder.open_append(name, PRIVATE)?;
    let failed = |source| FsError::Io { action: "keep others from", path: folder.path().join(name), source };
    if file.metadata().map_err(failed)?.mode() & 0o777 != PRIVATE {
        file.set_permissions(std::fs::Permissions::from_mode(PRIVATE)).map_err(failed)?;
    }
    Ok(file)
}

/// Takes the lock on `file`.
///
/// # Errors
///
/// When the file system has no such locks.
pub fn acquire(file: &File, mode: Mode, wait: &mut Wait<'_>) -> io::Result<Outcome> {
    let mut said: Option<Instant> = None;
    let mut pause = RETRY.0;
    loop {
        let attempt = match mode {
            Mode::Shared => fs2::FileExt::try_lock_shared(file),
            Mode::Exclusive => fs2::FileExt::try_lock_exclusive(file),
        };
        match attempt {
            Ok(()) => return Ok(Outcome::Taken),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if let Some(signal) = (wait.interrupted)() {
            return Ok(Outcome::Interrupted(signal));
        }
        let now = Instant::now();
        if now >= wait.deadline {
            return Ok(Outcome::Busy);
        }
        if said.is_none_or(|since| since.elapsed() >= wait.remind) {
            said = Some(now);
            (wait.on_wait)();
        }
        std::thread::sleep(pause.min(wait.deadline.saturating_duration_since(now)));
        pause = pause.saturating_mul(2).min(RETRY.1);
    }
}

/// Takes the lock on `file` alone, within `limit`; `None` if it stayed busy. For work that takes moments, and that a
/// signal need not cut short.
///
/// # Errors
///
/// As for [`acquire`].
pub fn within(file: File, limit: Duration) -> io::Result<Option<File>> {
    let now = Instant::now();
    let deadline = now.checked_add(limit).unwrap_or(now);
    let mut wait = Wait { deadline, remind: Duration::MAX, on_wait: &mut || {}, interrupted: &|| None };
    Ok(match acquire(&file, Mode::Exclusive, &mut wait)? {
        Outcome::Taken => Some(file),
        Outcome::Busy | Outcome::Interrupted(_) => None,
    })
}

impl std::fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wait").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_a_file_that_nobody_else_can_open_even_if_it_was_open_to_all_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let held = within(open(&dir, "x.lock".as_ref()).unwrap(), Duration::ZERO).unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, PRIVATE);
        let other = open(&dir, "x.lock".as_ref()).unwrap();
        assert!(within(other, Duration::from_millis(20)).unwrap().is_none());
        drop(held);
        assert!(within(open(&dir, "x.lock".as_ref()).unwrap(), Duration::ZERO).unwrap().is_some());
    }

    #[test]
    fn a_link_or_a_fifo_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("target"), "").unwrap();
        std::os::unix::fs::symlink("target", folder.path().join("link")).unwrap();
        nix::unistd::mkfifo(&folder.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        for name in ["link", "fifo"] {
            assert!(open(&dir, name.as_ref()).is_err(), "{name}");
        }
    }

    #[test]
    fn a_wait_reminds_and_ends_by_a_signal() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let _held = within(open(&dir, "x".as_ref()).unwrap(), Duration::ZERO).unwrap().unwrap();
        let said = std::cell::Cell::new(0);
        let mut wait = Wait {
            deadline: Instant::now() + Duration::from_secs(20),
            remind: Duration::from_millis(5),
            on_wait: &mut || said.set(said.get() + 1),
            interrupted: &|| (said.get() > 2).then_some(15),
        };
        let other = open(&dir, "x".as_ref()).unwrap();
        assert_eq!(acquire(&other, Mode::Exclusive, &mut wait).unwrap(), Outcome::Interrupted(15));
    }
}
