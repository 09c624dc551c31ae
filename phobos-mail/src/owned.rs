//! A folder in which everything is done as its owner: root makes, changes and follows nothing there by root's own right.
//!
//! The units' spool belongs to their user, who may put a link or anything else in it at any moment. What is done there
//! goes by names below a descriptor, never through a link, and with the owner's identity for files (`setfsuid(2)`), which
//! this thread alone takes on.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::io;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use phobos_core::fs::Dir;
use rustix::fd::AsFd;

/// A folder, held open, and whom to be in it.
#[derive(Debug)]
pub(crate) struct Owned {
    dir: Dir,
    owner: Option<(Uid, Gid)>,
}

/// As long as it lives, this thread is somebody else for the file system.
#[derive(Debug)]
struct Guise {
    uid: Uid,
    gid: Gid,
}

impl Owned {
    /// Opens the folder `path`, which the caller names; `None` if there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        if let Err(error) = std::fs::metadata(path) {
            let is_missing = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
            return if is_missing { Ok(None) } else { Err(error).context(format!("cannot open {}", path.display())) };
        }
        let dir = Dir::open(path)?;
        let stat = rustix::fs::fstat(dir.as_fd()).with_context(|| format!("cannot look at {}", path.display()))?;
        let is_others = rustix::process::geteuid().is_root() && stat.st_uid != 0;
        let owner = is_others.then(|| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)));
        Ok(Some(Self { dir, owner }))
    }

    /// Opens the folder `path`, or makes it and those above it that are missing, for its owner alone.
    ///
    /// # Errors
    ///
    /// When it can be neither opened nor made.
    pub(crate) fn make(path: &Path) -> Result<Self> {
        if let Some(folder) = Self::open(path)? {
            return Ok(folder);
        }
        let failed = || format!("cannot make the folder {}", path.display());
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(anyhow!("no such folder")).with_context(failed);
        };
        let above = Self::make(above)?;
        above.folder(Path::new(name)).with_context(failed)
    }

    /// Opens the folder `name` below this one, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// When it can be neither opened nor made, or when something else has that name.
    pub(crate) fn folder(&self, name: &Path) -> Result<Self> {
        let dir = self.act(|dir| {
            let is_new = dir.stat(name)?.is_none();
            let folder = dir.make_dir(name, 0o700)?;
            if is_new {
                dir.sync()?;
            }
            Ok::<_, phobos_core::fs::FsError>(folder)
        })??;
        Ok(Self { dir, owner: self.owner })
    }

    /// Whose it is, if it is somebody else's than this process's: user and group.
    pub(crate) fn owner(&self) -> Option<(u32, u32)> {
        self.owner.map(|(uid, gid)| (uid.as_raw(), gid.as_raw()))
    }

    /// Where it is, for messages.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Does `work` in the folder, as its owner.
    ///
    /// # Errors
    ///
    /// When this process cannot act as the owner; nothing was done.
    pub(crate) fn act<T>(&self, work: impl FnOnce(&Dir) -> T) -> Result<T> {
        let guise = self.owner.map(|(uid, gid)| Guise::put_on(uid, gid)).transpose();
        let guise = guise.with_context(|| format!("cannot act as the owner of {}", self.path().display()))?;
        let result = work(&self.dir);
        drop(guise);
        Ok(result)
    }
}

impl Guise {
    fn put_on(uid: Uid, gid: Gid) -> Result<Self> {
        // The group first: whoever is not root any more cannot change it.
        let guise = Self { gid: setfsgid(gid), uid: setfsuid(uid) };
        // The calls themselves never say that they failed; they say what was before.
        if (setfsuid(uid), setfsgid(gid)) == (uid, gid) { Ok(guise) } else { Err(anyhow!("the system refuses that")) }
    }
}

impl Drop for Guise {
    fn drop(&mut self) {
        setfsuid(self.uid);
        setfsgid(self.gid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phobos_core::fs::Durability;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    #[test]
    fn a_missing_folder_is_made_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        assert!(Owned::open(&path).unwrap().is_none());
        let made = Owned::make(&path).unwrap().folder(Path::new("queue")).unwrap();
        let permissions = std::fs::metadata(made.path()).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o7777, 0o700);
    }

    #[test]
    fn in_a_folder_of_somebody_else_root_is_that_user() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let theirs = folder.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        chown(&theirs, Some(65534), Some(65534)).unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let owned = Owned::open(&theirs).unwrap().unwrap();
        let queue = owned.folder(Path::new("queue")).unwrap();
        queue.act(|dir| dir.replace(Path::new("x"), b"x", 0o600, Durability::Loose)).unwrap().unwrap();
        for path in ["queue", "queue/x"] {
            let metadata = std::fs::metadata(theirs.join(path)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (65534, 65534), "{path}");
        }
        // What only root may read stays closed, even where a name leads to it.
        let secret = theirs.join("secret");
        std::fs::write(&secret, "").unwrap();
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(owned.act(|dir| dir.open_file(Path::new("secret"))).unwrap().is_err());
        symlink(folder.path(), theirs.join("units")).unwrap();
        assert!(owned.folder(Path::new("units")).is_err());
        // And root is root again.
        assert_eq!(setfsuid(Uid::from_raw(0)), Uid::from_raw(0));
        std::fs::read(&secret).unwrap();
    }
}
