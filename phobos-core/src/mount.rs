//! Mounts: what is mounted, read from mountinfo; a guard that mounts one file system and owns what lies below it.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use crate::error::{Chain, Class, Classified};
use crate::exec::{Exec, ExecError, Invocation};
use crate::fs::{Dir, FsError};
use crate::teardown::{self, Close, TeardownError};

mod free;
mod fstab;
mod inside;
mod usage;
mod users;

pub use self::free::{prove_free, users_of};
pub use self::fstab::{FstabEntry, fstab_entries, fstab_entry};
pub use self::inside::{prove_whole, view_of_its_own};
pub use self::usage::{Usage, has_disk, usage};

/// How long an unmount is tried again while the file system is busy: files closed a moment ago may still count.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(15);

/// How long one mount or unmount may take; a journal's replay and the last writes are in it.
const STEP_LIMIT: Duration = Duration::from_secs(3600);

/// Room for the table of mounts of most machines.
const TABLE_BYTES: usize = 32 * 1024;

/// One mounted file system, a line of `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The device number, as `major:minor`.
    pub number: String,
    /// What part of the file system is mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Whether mounts and unmounts propagate to it or from it: `shared:N`, `master:N`.
    pub propagates: bool,
    /// The type of the file system.
    pub kind: String,
    /// What is mounted, usually a device.
    pub source: PathBuf,
}

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

/// What this process sees mounted.
///
/// # Errors
///
/// When the kernel's table cannot be read.
pub fn table() -> Result<Vec<Entry>, MountError> {
    table_of(Path::new("/proc/self/mountinfo"))
}

/// What the process with this mountinfo file sees mounted.
///
/// # Errors
///
/// When the kernel's table cannot be read.
pub fn table_of(mountinfo: &Path) -> Result<Vec<Entry>, MountError> {
    // The kernel makes the table while it is read: with room for all of it, that is one step.
    let mut bytes = Vec::with_capacity(TABLE_BYTES);
    let read = File::open(mountinfo).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|source| MountError::Read { path: mountinfo.to_owned(), source })?;
    parse(&String::from_utf8_lossy(&bytes))
}

/// What is mounted on `target`: the topmost where several lie upon each other.
pub fn at<'t>(table: &'t [Entry], target: &Path) -> Option<&'t Entry> {
    table.iter().rev().find(|entry| entry.target == target)
}

/// Whether something is mounted on `target`, links followed: one question to the kernel instead of its whole table.
///
/// # Errors
///
/// When the kernel does not say so and its table cannot be read.
pub fn is_mount_point(target: &Path) -> Result<bool, MountError> {
    match statx(CWD, target, AtFlags::NO_AUTOMOUNT, StatxFlags::empty()) {
        Ok(answer) if answer.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Ok(answer.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        // Before Linux 5.8, or where the folder cannot be reached.
        _ => Ok(at(&table()?, target).is_some()),
    }
}

/// The device number of a block device, as mountinfo writes it; `None` if it is no block device.
pub fn device_number(device: &Path) -> Option<String> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let metadata = fs::metadata(device).ok()?;
    let number = metadata.rdev();
    metadata
        .file_type()
        .is_block_device()
        .then(|| format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number)))
}

/// File systems that have a number of their own in the table (`0:N`) and lie on disks all the same: their source may be a
/// list or a name of their own.
const ON_SEVERAL_DISKS: [&str; 3] = ["btrfs", "bcachefs", "zfs"];

impl Entry {
    /// Whether the file system keeps a disk busy.
    pub fn is_on_disk(&self) -> bool {
        !self.number.starts_with("0:")
            || ON_SEVERAL_DISKS.contains(&self.kind.as_str())
            || self.source.starts_with("/dev")
    }

    /// Whether the file system is on the block device `number`. A file system that may span several, such as btrfs, has a
    /// number of its own in the table, and is known by its source.
    pub fn is_on(&self, number: &str) -> bool {
        self.number == number
            || (self.number.starts_with("0:") && device_number(&self.source).as_deref() == Some(number))
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

    /// Writes everything to the disk, unmounts, and mounts once more: what is seen then is what the disk has, and no cache.
    ///
    /// # Errors
    ///
    /// As for [`Mount::new`] and [`Mount::close`]; whatever of it is mounted, the guard unmounts.
    pub fn renew(&mut self, device: &Path, fstab: Option<&FstabEntry>, access: Access) -> Result<(), TeardownError> {
        let Some(target) = self.target.clone() else { return Ok(()) };
        self.unmount()?;
        inside::let_go(device);
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
        let mut call = Invocation::new("mount").limit(STEP_LIMIT);
        call = match fstab {
            Some(entry) => call.args(["-t", &entry.kind, "-o", &entry.options]),
            None => call.args(["-o", "noatime,nodev,nosuid,noexec"]),
        };
        let call = |more: &[&str]| call.clone().args(more).arg("--").arg(device).arg(target);
        let result = match access {
            Access::Write => self.exec.run(&call(&[])),
            // Even read-only the journal of a drive that was pulled would be replayed; not every file system knows the option.
            Access::Look => {
                self.exec.run(&call(&["-o", "ro,norecovery"])).or_else(|_| self.exec.run(&call(&["-o", "ro"])))
            }
        };
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

fn parse(text: &str) -> Result<Vec<Entry>, MountError> {
    let read = |line: &str| {
        let (first, second) = line.split_once(" - ")?;
        let mut first = first.split(' ');
        let mut second = second.split(' ');
        let number = first.nth(2)?.to_owned();
        let (root, target) = (unescape(first.next()?), unescape(first.next()?));
        let propagates = first.skip(1).any(|tag| tag.starts_with("shared:") || tag.starts_with("master:"));
        let (kind, source) = (second.next()?.to_owned(), unescape(second.next()?));
        Some(Entry { number, root, target, propagates, kind, source })
    };
    text.lines().map(|line| read(line).ok_or_else(|| MountError::Parse { line: line.to_owned() })).collect()
}

/// Undoes the octal escapes of mountinfo and fstab: `\040` is a space.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            bytes.push(byte);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests;
