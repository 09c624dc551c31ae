//! Mounts: what is mounted, read from mountinfo; a guard that mounts one file system and owns what lies below it.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Chain, Class, Classified};
use crate::exec::{Exec, ExecError, Invocation};
use crate::fs::{Dir, FsError};
use crate::teardown::{self, Close, TeardownError};

mod free;
mod fstab;
mod inside;
mod table;
mod usage;
mod users;

pub use self::free::{prove_free, users_of};
pub use self::fstab::{FstabEntry, device_of, fstab_entries, fstab_entry};
pub use self::inside::{prove_whole, view_of_its_own};
pub use self::table::{Entry, at, device_number, is_mount_point, parse, table, table_of};
pub use self::usage::{Usage, has_disk, usage};

/// How long an unmount is tried again while the file system is busy: files closed a moment ago may still count.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(15);

/// How long one mount or unmount may take; a journal's replay and the last writes are in it.
const STEP_LIMIT: Duration = Duration::from_secs(3600);

/// A mounted file system that this process will unmount, and the guard of the device that it is on.
#[derive(Debug)]
#[must_use = "dropping it unmounts the file system"]
pub struct Mount<'e, B: Close> {
    exec: &'e dyn Exec,
    target: Option<PathBuf>,
    /// The root folder, open since the mount: syncfs(2) on this descriptor reports every write that was lost since then.
    root: Option<Dir>,
    /// Dropped only after [`Mount::drop`] has unmounted.
    below: Option<B>,
}

/// What may be done to a file system that is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It may be written.
    Write,
    /// It is only looked at.
    Look,
}

/// What went wrong with a mount.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// A table of mounts cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The table.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of mountinfo is not what the kernel documents.
    #[error("cannot make sense of the mount table's line {line:?}")]
    Parse {
        /// The line.
        line: String,
    },
    /// The file system could not be mounted.
    #[error("cannot mount {} on {}", device.display(), target.display())]
    Mount {
        /// The device.
        device: PathBuf,
        /// Where.
        target: PathBuf,
        /// What mount said.
        source: ExecError,
    },
    /// The file system could not be unmounted; it is still mounted.
    #[error("cannot unmount {}: it is in use by {users}", target.display())]
    Unmount {
        /// Where it is mounted.
        target: PathBuf,
        /// The processes that use it.
        users: String,
        /// What umount said.
        source: ExecError,
    },
    /// The program that unmounts said that it did, and it is still mounted.
    #[error("{} is still mounted although umount said it was not; it is in use by {users}", target.display())]
    StillMounted {
        /// Where it is mounted.
        target: PathBuf,
        /// The processes that use it.
        users: String,
    },
    /// Something still uses a device that should be free.
    #[error("{} is still in use, mounted where it is seen by {users}; do not unplug it", device.display())]
    InUse {
        /// The device.
        device: PathBuf,
        /// Who sees it mounted: a process for each mount namespace.
        users: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else than was meant is mounted.
    #[error("{} is not {} but {found}", target.display(), device.display())]
    Other {
        /// Where.
        target: PathBuf,
        /// What should be there.
        device: PathBuf,
        /// What is there.
        found: String,
    },
    /// Something is mounted in it, and hides a part of it.
    #[error("{} is mounted in {}, and hides what is there; unmount it", found.display(), target.display())]
    Hidden {
        /// What should be seen whole.
        target: PathBuf,
        /// The mount in it.
        found: PathBuf,
    },
    /// Data was lost on the way to the disk, or the file system's top cannot be opened.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl Classified for MountError {
    fn class(&self) -> Class {
        match self {
            Self::Other { .. } | Self::Hidden { .. } => Class::Refused,
            Self::Read { .. }
            | Self::Parse { .. }
            | Self::Mount { .. }
            | Self::Unmount { .. }
            | Self::StillMounted { .. }
            | Self::InUse { .. } => Class::Source,
            Self::Fs(error) => error.class(),
        }
    }
}

impl<'e, B: Close> Mount<'e, B> {
    /// Mounts `device` on `target` with fstab's type and options for that place, and proves that it is there.
    ///
    /// `below` is what the device needs to exist; it is kept until the file system is unmounted.
    ///
    /// # Errors
    ///
    /// When it cannot be mounted, or when something else is mounted there afterwards; nothing stays mounted by us, and
    /// `below` is dropped.
    pub fn new(
        exec: &'e dyn Exec,
        device: &Path,
        target: &Path,
        fstab: Option<&FstabEntry>,
        access: Access,
        below: B,
    ) -> Result<Self, MountError> {
        // The guard exists before the call: a mount that was made and then interrupted is unmounted too.
        let mut mount = Self { exec, target: Some(target.to_owned()), root: None, below: Some(below) };
        mount.mount(device, target, fstab, access)?;
        Ok(mount)
    }

    /// Writes everything to the disk, unmounts, does `meanwhile`, and mounts once more: what is seen then is what the disk has, and no
    /// cache.
    ///
    /// # Errors
    ///
    /// As for [`Mount::new`] and [`Mount::close`], and those of `meanwhile`, with which it stays unmounted; whatever of it is
    /// mounted, the guard unmounts.
    pub fn renew(
        &mut self,
        device: &Path,
        fstab: Option<&FstabEntry>,
        access: Access,
        meanwhile: &mut dyn FnMut() -> Result<(), TeardownError>,
    ) -> Result<(), TeardownError> {
        let Some(target) = self.target.clone() else { return Ok(()) };
        self.unmount()?;
        inside::let_go(device);
        meanwhile()?;
        self.target = Some(target.clone());
        self.mount(device, &target, fstab, access).map_err(TeardownError::of)
    }

    fn mount(
        &mut self,
        device: &Path,
        target: &Path,
        fstab: Option<&FstabEntry>,
        access: Access,
    ) -> Result<(), MountError> {
        // Left behind by a process that was killed, it would mount what somebody has found closed.
        let mut call = Invocation::new("mount").bound().limit(STEP_LIMIT);
        call = match fstab {
            Some(entry) => call.args(["-t", &entry.kind, "-o", &entry.options]),
            None => call.args(["-o", "noatime,nodev,nosuid,noexec"]),
        };
        let call = |more: &[&str]| call.clone().args(more).arg("--").arg(device).arg(target);
        let try_it = || match access {
            Access::Write => self.exec.run(&call(&[])),
            // Even read-only the journal of a drive that was pulled would be replayed; not every file system knows the option.
            Access::Look => {
                self.exec.run(&call(&["-o", "ro,norecovery"])).or_else(|_| self.exec.run(&call(&["-o", "ro"])))
            }
        };
        let mut result = try_it();
        // That of a process that was killed while the kernel mounted may have come in between; it is not ours to use.
        let number = device_number(device).unwrap_or_default();
        if result.is_err() && at(&table()?, target).is_some_and(|entry| entry.is_on(&number)) {
            log::warn!("unmounting {}, which an earlier run has mounted meanwhile", target.display());
            if clear(self.exec, target).is_ok() {
                result = try_it();
            }
        }
        if let Err(source) = result {
            if at(&table()?, target).is_none() {
                self.target = None;
            }
            return Err(MountError::Mount { device: device.to_owned(), target: target.to_owned(), source });
        }
        self.root = Some(Dir::open(target)?);
        self.prove(device)
    }

    /// The top of the file system, held since it was mounted. Whatever was opened below it has to be closed before
    /// [`Mount::close`].
    pub fn root(&self) -> Option<&Dir> {
        self.root.as_ref()
    }

    /// Proves that `device`, and nothing else, is what is mounted at the guard's place, that what is held is the same, and that
    /// nothing is mounted in it.
    ///
    /// # Errors
    ///
    /// [`MountError::Other`] with what is there instead, [`MountError::Hidden`] with what is in it.
    pub fn prove(&self, device: &Path) -> Result<(), MountError> {
        let Some(target) = &self.target else { return Ok(()) };
        let table = table()?;
        let found = at(&table, target);
        let number = device_number(device).unwrap_or_default();
        let whole = |entry: &Entry| entry.root == Path::new("/") || entry.number.starts_with("0:");
        let held = self.root.as_ref().map(Dir::stat_self).transpose()?;
        let seen = Dir::open(target)?.stat_self()?;
        let same = held.is_none_or(|held| (held.dev, held.ino) == (seen.dev, seen.ino));
        if same && found.is_some_and(|entry| entry.is_on(&number) && whole(entry)) {
            return inside::nothing(&table, target);
        }
        let found = found.map_or("not mounted".to_owned(), |entry| entry.source.display().to_string());
        Err(MountError::Other { target: target.clone(), device: device.to_owned(), found })
    }

    /// Writes everything to the disk, unmounts, and closes what lay below.
    ///
    /// # Errors
    ///
    /// When data was lost, when the file system stays mounted, or when what lies below stays open; both are tried.
    pub fn close(mut self) -> Result<(), TeardownError> {
        let unmounted = self.unmount();
        let closed = self.below.take().map_or(Ok(()), Close::close);
        teardown::join(unmounted, closed)
    }

    /// Leaves the file system mounted, for somebody else to unmount, and returns what lies below.
    pub fn leave(mut self) -> Option<B> {
        (self.target, self.root) = (None, None);
        self.below.take()
    }

    /// Writes everything to the disk and unmounts; what lies below stays. A second call does nothing.
    ///
    /// # Errors
    ///
    /// As for [`Mount::close`].
    pub fn unmount(&mut self) -> Result<(), TeardownError> {
        let Some(target) = self.target.take() else { return Ok(()) };
        let synced = self.root.take().map_or(Ok(()), |root| root.sync_file_system());
        teardown::join(synced, unmount(self.exec, &target))
    }
}

impl<B: Close> Drop for Mount<'_, B> {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            log::error!("{}", Chain(&error));
        }
    }
}

/// Until when something that was asked to end may take.
#[expect(clippy::arithmetic_side_effects, reason = "the limit is a constant of some seconds")]
fn soon() -> Instant {
    Instant::now() + UNMOUNT_LIMIT
}

/// Unmounts everything that lies on `target` and in it, the last first.
///
/// # Errors
///
/// When something stays mounted, with the processes that use it.
pub fn unmount(exec: &dyn Exec, target: &Path) -> Result<(), MountError> {
    let all = || table().map(|table| inside::targets(&table, target));
    let mut deadline = soon();
    let mut left = all()?;
    while let Some(last) = left.last().cloned() {
        let call = Invocation::new("umount").arg("--").arg(&last).shielded().limit(STEP_LIMIT);
        let result = exec.run(&call);
        let before = std::mem::replace(&mut left, all()?);
        match result {
            Ok(_) if left.len() < before.len() => deadline = soon(),
            // One that says so without having done it must not be asked for ever.
            _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            Ok(_) => return Err(MountError::StillMounted { users: users::of_files(&last), target: last }),
            Err(source) => return Err(MountError::Unmount { users: users::of_files(&last), target: last, source }),
        }
    }
    Ok(())
}

/// Writes everything to the disk and unmounts what an earlier run has left at `target`.
///
/// # Errors
///
/// When data was lost, or when something stays mounted; both are tried.
pub fn clear(exec: &dyn Exec, target: &Path) -> Result<(), TeardownError> {
    let synced = Dir::open(target).and_then(|root| root.sync_file_system());
    teardown::join(synced, unmount(exec, target))
}

#[cfg(test)]
mod tests;
