//! How a name below a folder is resolved: by the kernel in one call or component by component, and never through a link.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Dir, FsError};

impl Dir {
    /// Opens `name` with `flags`, no link anywhere.
    pub(super) fn open_at(&self, name: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        if !is_plain(name) {
            return Err(Errno::XDEV);
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.fd, name, flags, mode, resolve) {
            // Unknown before Linux 5.6, and to some filters of system calls.
            Err(Errno::NOSYS | Errno::PERM) => self.open_by_steps(name, flags, mode),
            opened => opened,
        }
    }

    pub(super) fn open_by_steps(&self, name: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let mut at: Option<OwnedFd> = None;
        let mut components = name.components().peekable();
        while let Some(component) = components.next() {
            let below = at.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            if components.peek().is_none() {
                return rustix::fs::openat(below, component.as_os_str(), flags, mode);
            }
            let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            at = Some(rustix::fs::openat(below, component.as_os_str(), step, Mode::empty())?);
        }
        Err(Errno::NOENT)
    }

    /// The folder that `name` is in, where that is not this one, and its last component.
    pub(super) fn parent_of(&self, name: &Path) -> Result<(Option<Self>, PathBuf), FsError> {
        match (name.parent(), name.file_name()) {
            (Some(parent), Some(last)) if is_plain(name) => {
                let parent = (!parent.as_os_str().is_empty()).then(|| self.open_dir(parent)).transpose()?;
                Ok((parent, PathBuf::from(last)))
            }
            _ => Err(FsError::Name { path: name.to_owned() }),
        }
    }
}

/// Opens so that reading does not touch the time of the last access, which only the owner and root may ask for.
pub(super) fn without_atime(flags: OFlags, open: impl Fn(OFlags) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        opened => opened,
    }
}

/// Whether `name` stays below its folder by its components alone.
fn is_plain(name: &Path) -> bool {
    let mut components = name.components().peekable();
    components.peek().is_some() && components.all(|component| matches!(component, Component::Normal(_)))
}
