//! Files in folders that somebody else may have prepared: opened relative to a descriptor, never through a link.
//!
//! A [`Dir`] is a folder that is held open. What is named below it is resolved by `openat2(2)` with `RESOLVE_BENEATH`,
//! `RESOLVE_NO_SYMLINKS` and `RESOLVE_NO_MAGICLINKS`, or component by component with `O_NOFOLLOW` where the kernel does
//! not know it. Names have only ordinary components: no `..`, no `/` in front.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

pub(crate) use self::attributes::{Standpoint, listed};
pub use self::listing::Listing;
use self::resolve::without_atime;
pub use self::shared::{make_passage, make_private, make_shared, replace, set};
pub use self::times::{Times, same_time};
pub use self::told::{Entry, FsError, Kind, Stat, is_hidden, shown, shown_text};

mod attributes;
mod listing;
mod resolve;
mod shared;
mod times;
mod told;

/// What the names of files begin with that [`Dir::replace`] has not put in place yet; a killed process leaves one behind.
pub const FRESH_PREFIX: &str = ".new-";

/// A folder, held open.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Where it was found, for messages alone.
    path: PathBuf,
}

/// What has to be on the disk when [`Dir::replace`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: a crash may leave the old file or the new one, on most file systems.
    Loose,
    /// The new content and its name.
    Synced,
}

impl Dir {
    /// Opens the folder at `path`; links on the way are followed, because the path is the caller's own.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or is no folder.
    pub fn open(path: &Path) -> Result<Self, FsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = without_atime(flags, |flags| rustix::fs::openat(CWD, path, flags, Mode::empty()));
        let fd = fd.map_err(|error| io("open", path, error))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// A second descriptor of the same folder.
    ///
    /// # Errors
    ///
    /// When there are too few descriptors.
    pub fn try_clone(&self) -> Result<Self, FsError> {
        let fd = self.fd.try_clone().map_err(|source| self.io("open", Path::new(""), source))?;
        Ok(Self { fd, path: self.path.clone() })
    }

    /// Where it was found, for messages: by now something else may be there.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the folder `name` below this one.
    ///
    /// # Errors
    ///
    /// When there is none, or when a link or anything else is there or on the way.
    pub fn open_dir(&self, name: &Path) -> Result<Self, FsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match without_atime(flags, |flags| self.open_at(name, flags, Mode::empty())) {
            Ok(fd) => Ok(Self { fd, path: self.path.join(name) }),
            Err(error) => Err(self.not_opened(name, Kind::Dir, error)),
        }
    }

    /// Makes sure that there is a folder `name` below this one, and opens it. A new one gets exactly the permissions
    /// `mode`, whatever the umask; one that is there keeps its own.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or when a link or a file is there.
    pub fn make_dir(&self, name: &Path, mode: u32) -> Result<Self, FsError> {
        let (parent, last) = self.parent_of(name)?;
        let below = parent.as_ref().unwrap_or(self);
        match rustix::fs::mkdirat(&below.fd, &last, Mode::from_raw_mode(mode & 0o700)) {
            Ok(()) => {
                let folder = below.open_dir(&last)?;
                folder.set_mode(mode)?;
                Ok(folder)
            }
            Err(Errno::EXIST) => below.open_dir(&last),
            Err(error) => Err(self.io("make", name, error)),
        }
    }

    /// Gives the folder itself the permissions `mode`.
    ///
    /// # Errors
    ///
    /// When it belongs to somebody else.
    pub fn set_mode(&self, mode: u32) -> Result<(), FsError> {
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode))
            .map_err(|error| self.io("set the permissions of", Path::new(""), error))
    }

    /// Opens the regular file `name` for reading, without touching the time of its last access where that is allowed.
    ///
    /// # Errors
    ///
    /// When there is none, or when a link, a FIFO or anything else is there; it never blocks.
    pub fn open_file(&self, name: &Path) -> Result<File, FsError> {
        // A device is not even opened: some do something when they are.
        if let Some(found) = self.stat(name)?.map(|stat| stat.kind).filter(|kind| *kind != Kind::File) {
            return Err(self.other_kind(name, found, Kind::File));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = without_atime(flags, |flags| self.open_at(name, flags, Mode::empty()));
        let fd = opened.map_err(|error| self.not_opened(name, Kind::File, error))?;
        let stat = rustix::fs::fstat(&fd).map_err(|error| self.io("read", name, error))?;
        match Stat::from(&stat).kind {
            Kind::File => Ok(fd.into()),
            found => Err(self.other_kind(name, found, Kind::File)),
        }
    }

    /// Reads the regular file `name`, which may have `limit` bytes; `None` if there is none.
    ///
    /// # Errors
    ///
    /// When it is no regular file, has more, or cannot be read.
    pub fn read(&self, name: &Path, limit: u64) -> Result<Option<Vec<u8>>, FsError> {
        // Nothing is asked before: it may go at any moment.
        let file = match self.open_file(name) {
            Err(FsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        let count = read.map_err(|source| self.io("read", name, source))?;
        if u64::try_from(count).is_ok_and(|count| count <= limit) {
            Ok(Some(bytes))
        } else {
            Err(FsError::TooLarge { path: self.path.join(name), limit })
        }
    }

    /// Makes the file `name`, which must not exist, for reading and writing, with exactly the permissions `mode`.
    ///
    /// # Errors
    ///
    /// When something has that name already, a dangling link included, or when it cannot be made.
    pub fn create_new(&self, name: &Path, mode: u32) -> Result<File, FsError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let fd =
            self.open_at(name, flags, Mode::from_raw_mode(0o600)).map_err(|error| self.io("create", name, error))?;
        if let Err(error) = rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)) {
            self.remove(name)?;
            return Err(self.io("set the permissions of", name, error));
        }
        Ok(fd.into())
    }

    /// Opens the regular file `name` to read it and to append to it, and makes it, with exactly the permissions `mode`,
    /// where it is missing.
    ///
    /// # Errors
    ///
    /// When a link, a FIFO or anything else has that name, or when it cannot be made; it never blocks.
    pub fn open_append(&self, name: &Path, mode: u32) -> Result<File, FsError> {
        if let Some(found) = self.stat(name)?.map(|stat| stat.kind).filter(|kind| *kind != Kind::File) {
            return Err(self.other_kind(name, found, Kind::File));
        }
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = match self.open_at(name, flags, Mode::empty()) {
            // Another process may be first to make it.
            Err(Errno::NOENT) => match self.create_new(name, mode).map(drop) {
                Err(FsError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                    self.open_at(name, flags, Mode::empty())
                }
                created => created.map(|()| self.open_at(name, flags, Mode::empty()))?,
            },
            opened => opened,
        };
        let fd = opened.map_err(|error| self.not_opened(name, Kind::File, error))?;
        let stat = rustix::fs::fstat(&fd).map_err(|error| self.io("read", name, error))?;
        match Stat::from(&stat).kind {
            Kind::File => Ok(fd.into()),
            found => Err(self.other_kind(name, found, Kind::File)),
        }
    }

    /// Replaces the file `name`, or makes it, so that a crash leaves the old content or `bytes`, never a part. What was
    /// there before, a link too, is replaced and not followed; a folder is not replaced.
    ///
    /// # Errors
    ///
    /// When that fails; what was there is still there.
    pub fn replace(&self, name: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<(), FsError> {
        let (parent, last) = self.parent_of(name)?;
        let below = parent.as_ref().unwrap_or(self);
        let fresh = below.fresh_name()?;
        let mut file = below.create_new(&fresh, mode)?;
        let written = file.write_all(bytes).and_then(|()| match durability {
            Durability::Loose => Ok(()),
            Durability::Synced => file.sync_all(),
        });
        let done = written
            .map_err(|source| self.io("write", name, source))
            .and_then(|()| below.rename(&fresh, below, &last))
            .and_then(|()| match durability {
                Durability::Loose => Ok(()),
                Durability::Synced => below.sync(),
            });
        if done.is_err() && below.stat(&fresh)?.is_some() {
            below.remove(&fresh)?;
        }
        done
    }

    /// Gives the file or folder `from` the name `to` in the folder `target`, in place of a file that has it.
    ///
    /// # Errors
    ///
    /// When the system refuses; nothing has changed then.
    pub fn rename(&self, from: &Path, target: &Self, to: &Path) -> Result<(), FsError> {
        self.rename_with(from, target, to, RenameFlags::empty())
    }

    /// As [`Dir::rename`], but only where nothing has the name `to` yet.
    ///
    /// # Errors
    ///
    /// When something has that name, or the system refuses otherwise; nothing has changed then.
    pub fn rename_new(&self, from: &Path, target: &Self, to: &Path) -> Result<(), FsError> {
        match self.rename_with(from, target, to, RenameFlags::NOREPLACE) {
            // Not every file system knows the flag.
            Err(FsError::Io { source, .. }) if source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                if target.stat(to)?.is_some() {
                    return Err(target.io("create", to, Errno::EXIST));
                }
                self.rename(from, target, to)
            }
            result => result,
        }
    }

    fn rename_with(&self, from: &Path, target: &Self, to: &Path, flags: RenameFlags) -> Result<(), FsError> {
        let (from_parent, from_last) = self.parent_of(from)?;
        let (to_parent, to_last) = target.parent_of(to)?;
        let (from_dir, to_dir) = (from_parent.as_ref().unwrap_or(self), to_parent.as_ref().unwrap_or(target));
        let renamed = if flags.is_empty() {
            rustix::fs::renameat(&from_dir.fd, &from_last, &to_dir.fd, &to_last)
        } else {
            rustix::fs::renameat_with(&from_dir.fd, &from_last, &to_dir.fd, &to_last, flags)
        };
        renamed.map_err(|error| target.io("put in place", to, error))
    }

    /// Removes the name `name`, which is no folder.
    ///
    /// # Errors
    ///
    /// When there is none, or the system refuses.
    pub fn remove(&self, name: &Path) -> Result<(), FsError> {
        self.unlink(name, AtFlags::empty())
    }

    /// Removes the empty folder `name`.
    ///
    /// # Errors
    ///
    /// When it is not empty or none, or the system refuses.
    pub fn remove_dir(&self, name: &Path) -> Result<(), FsError> {
        self.unlink(name, AtFlags::REMOVEDIR)
    }

    fn unlink(&self, name: &Path, flags: AtFlags) -> Result<(), FsError> {
        let (parent, last) = self.parent_of(name)?;
        rustix::fs::unlinkat(&parent.as_ref().unwrap_or(self).fd, &last, flags)
            .map_err(|error| self.io("remove", name, error))
    }

    /// What the folder says of `name`, a link not followed; `None` if there is nothing of that name.
    ///
    /// # Errors
    ///
    /// When the system does not say so, or when a link is on the way.
    pub fn stat(&self, name: &Path) -> Result<Option<Stat>, FsError> {
        let (parent, last) = match self.parent_of(name) {
            Err(FsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        let below = parent.as_ref().unwrap_or(self);
        match rustix::fs::statat(&below.fd, &last, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Ok(stat) => Ok(Some(Stat::from(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.io("look at", name, error)),
        }
    }

    /// What the folder itself is.
    ///
    /// # Errors
    ///
    /// When the system does not say so: its disk is gone.
    pub fn stat_self(&self) -> Result<Stat, FsError> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|error| self.io("look at", Path::new(""), error))?;
        Ok(Stat::from(&stat))
    }

    /// How much room is left on the folder's file system, for root, in bytes.
    ///
    /// # Errors
    ///
    /// When the file system does not say so.
    pub fn room(&self) -> Result<u64, FsError> {
        let all = rustix::fs::fstatvfs(&self.fd).map_err(|error| self.io("look at", Path::new(""), error))?;
        Ok(all.f_bfree.saturating_mul(all.f_frsize))
    }

    /// Waits until the folder's names are on the disk.
    ///
    /// # Errors
    ///
    /// When the system cannot write them.
    pub fn sync(&self) -> Result<(), FsError> {
        rustix::fs::fsync(&self.fd).map_err(|error| self.io("write", Path::new(""), error))
    }

    /// Waits until all of its file system is on the disk. A descriptor that was opened before the writes learns of every
    /// one that was lost since then, and only once.
    ///
    /// # Errors
    ///
    /// When something could not be written since the descriptor was opened or last told so.
    pub fn sync_file_system(&self) -> Result<(), FsError> {
        rustix::fs::syncfs(&self.fd).map_err(|error| self.io("write everything to", Path::new(""), error))
    }

    fn fresh_name(&self) -> Result<PathBuf, FsError> {
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| self.io("find a new name in", Path::new(""), error))?;
        Ok(format!("{FRESH_PREFIX}{:016x}", u64::from_ne_bytes(bytes)).into())
    }

    /// Why `name` could not be opened: mostly because it is something else.
    fn not_opened(&self, name: &Path, wanted: Kind, error: Errno) -> FsError {
        match (error, self.stat(name)) {
            (Errno::XDEV, _) => FsError::Name { path: name.to_owned() },
            (Errno::LOOP | Errno::NOTDIR | Errno::NXIO, Ok(Some(stat))) if stat.kind != wanted => {
                self.other_kind(name, stat.kind, wanted)
            }
            (Errno::LOOP, _) => FsError::Kind {
                path: self.path.join(name),
                found: "behind a symbolic link",
                wanted: Kind::name(wanted),
            },
            _ => self.io("open", name, error),
        }
    }

    fn other_kind(&self, name: &Path, found: Kind, wanted: Kind) -> FsError {
        FsError::Kind { path: self.path.join(name), found: found.name(), wanted: wanted.name() }
    }

    fn io(&self, action: &'static str, name: &Path, source: impl Into<io::Error>) -> FsError {
        let path = if name.as_os_str().is_empty() { self.path.clone() } else { self.path.join(name) };
        io(action, &path, source)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> FsError {
    FsError::Io { action, path: path.to_owned(), source: source.into() }
}

#[cfg(test)]
mod tests;
