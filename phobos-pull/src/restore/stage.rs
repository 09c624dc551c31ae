//! The folder in which files that are given back come to be: root's own, so that nobody plants a link in it, and no file has its
//! final name before it is whole.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::Context;
use phobos_core::fs::{Dir, shown};
use phobos_site::exit::{Exit, Stop};
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Uid, XattrFlags, chmodat, fchown, fgetxattr, flock,
    fremovexattr, fsetxattr, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::walk::{self, Step};

/// What its name begins with.
const PREFIX: &str = ".phobos-restore-";

/// The folder in it that rsync writes into: what a host says of its own top is said of this one, not of that which is root's.
const TREE: &str = "tree";

/// The folder in it that Borg writes into.
const SCRATCH: &str = "archived";

/// Only root can say this of a folder: what has it is ours to remove.
const OURS: &str = "trusted.phobos-restore";

/// The attribute that lets a program do what its caller may not.
const CAPABILITY: &str = "security.capability";

/// A stage, removed with all that is in it when it is dropped.
#[derive(Debug)]
pub(super) struct Stage {
    above: Dir,
    name: std::ffi::CString,
    /// The folder itself, whatever lies under its name by now. Locked as long as this process lives, so that another one does not
    /// take it for a leftover.
    own: Dir,
    tree: Dir,
    gone: bool,
}

impl Stage {
    /// Makes one in `above`, and removes what killed ones have left there.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or somebody puts another folder in its place.
    pub(super) fn make(above: &Dir) -> Result<Self, anyhow::Error> {
        remove_leftovers(above)?;
        let mut lot = [0; 8];
        rustix::rand::getrandom(&mut lot, rustix::rand::GetRandomFlags::empty()).map_err(io::Error::from)?;
        let name = format!("{PREFIX}{:016x}", u64::from_ne_bytes(lot));
        let failed = || format!("cannot make {}", shown(&above.path().join(&name)));
        mkdirat(above, &name, Mode::RWXU).map_err(io::Error::from).with_context(failed)?;
        let stage = above.open_dir(Path::new(&name))?;
        stage.set_mode(0o700)?;
        let stat = stage.stat_self()?;
        if stat.uid != 0 || stat.mode & 0o077 != 0 {
            let text = format!("{} is not the folder that was made just now", shown(&above.path().join(&name)));
            return Err(Stop::new(Exit::Refused, text).into());
        }
        // Where a file system has no such attributes, what a killed run leaves is for a person to remove.
        match fsetxattr(&stage, OURS, b"1", XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(anyhow::Error::new(io::Error::from(error)).context(failed())),
        }
        flock(&stage, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from).with_context(failed)?;
        mkdirat(&stage, TREE, Mode::RWXU).map_err(io::Error::from).with_context(failed)?;
        let tree = stage.open_dir(Path::new(TREE))?;
        let name = std::ffi::CString::new(name)?;
        Ok(Self { above: above.try_clone()?, name, own: stage, tree, gone: false })
    }

    /// Where files are copied to.
    pub(super) fn tree(&self) -> &Dir {
        &self.tree
    }

    /// A folder beside the tree that belongs to the user `owner`, who can get into it only if it is handed to its program.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub(super) fn scratch(&self, owner: u32) -> Result<Dir, anyhow::Error> {
        let failed = || format!("cannot make a folder in {}", shown(self.own.path()));
        mkdirat(&self.own, SCRATCH, Mode::RWXU).map_err(io::Error::from).with_context(failed)?;
        let scratch = self.own.open_dir(Path::new(SCRATCH))?;
        let (user, group) = (Uid::from_raw(owner), Gid::from_raw(owner));
        fchown(&scratch, Some(user), Some(group)).map_err(io::Error::from).with_context(failed)?;
        Ok(scratch)
    }

    /// Takes from what was copied whatever would give its user rights here: devices go, set-user-ID and set-group-ID bits and
    /// capabilities of files are taken off. Says what it was.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    pub(super) fn disarm(&self) -> Result<Vec<String>, anyhow::Error> {
        let mut found = Vec::new();
        let top = walk_top(&self.tree).context("cannot read what was copied")?;
        walk::through(top, &mut |folder, name, kind| {
            if let Some(what) = disarm(folder, name, kind)? {
                let name = String::from_utf8_lossy(name.to_bytes());
                found.push(format!("{} ({what})", phobos_core::fs::shown_text(&name)));
            }
            Ok(Step::In)
        })
        .context("cannot look through what was copied")?;
        Ok(found)
    }

    /// Removes it.
    ///
    /// # Errors
    ///
    /// When something in it cannot be removed.
    pub(super) fn close(mut self) -> Result<(), anyhow::Error> {
        self.remove()
    }

    fn remove(&mut self) -> Result<(), anyhow::Error> {
        if std::mem::replace(&mut self.gone, true) {
            return Ok(());
        }
        let path = PathBuf::from(self.name.to_string_lossy().into_owned());
        walk::remove(self.above.as_fd(), &self.name)
            .with_context(|| format!("cannot remove {}", shown(&self.above.path().join(path))))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            log::error!("{error:#}");
        }
    }
}

/// Takes from one file what gives rights, and says what that was.
fn disarm(folder: BorrowedFd<'_>, name: &CStr, kind: FileType) -> io::Result<Option<&'static str>> {
    match kind {
        FileType::BlockDevice | FileType::CharacterDevice => {
            unlinkat(folder, name, AtFlags::empty())?;
            return Ok(Some("a device, left out"));
        }
        FileType::RegularFile => {}
        _ => return Ok(None),
    }
    let mode = Mode::from_raw_mode(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
    let file = openat(folder, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let has = match fgetxattr(&file, CAPABILITY, &mut [0_u8; 0]) {
        Ok(_) => true,
        Err(Errno::NODATA | Errno::OPNOTSUPP) => false,
        Err(error) => return Err(error.into()),
    };
    if has {
        fremovexattr(&file, CAPABILITY)?;
    }
    // Without the right to run it as a group, the bit is no such thing, but nobody needs it either.
    if mode.intersects(Mode::SUID | Mode::SGID) {
        // Nobody else gets in here, and it is a regular file.
        chmodat(folder, name, mode & Mode::from_raw_mode(0o1777), AtFlags::empty())?;
        return Ok(Some("runs as its owner no more"));
    }
    Ok(has.then_some("without its capabilities"))
}

/// Removes what restores that were killed have left in `above`: it has an attribute that only root can give, and no lock.
fn remove_leftovers(above: &Dir) -> Result<(), anyhow::Error> {
    for entry in above.listing()? {
        let entry = entry?;
        if !entry.name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let Ok(folder) = above.open_dir(Path::new(&entry.name)) else { continue };
        let is_ours = fgetxattr(&folder, OURS, &mut [0_u8; 0]).is_ok() && folder.stat_self()?.uid == 0;
        if is_ours && flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let shown = shown(&above.path().join(&entry.name));
            let name = std::ffi::CString::new(entry.name.as_encoded_bytes())?;
            // What is left of the killed one's rsync may be at work there for a moment; then the next restore removes it.
            match walk::remove(above.as_fd(), &name) {
                Ok(()) => log::info!("removed {shown}, which a restore that was killed has left"),
                Err(error) => log::warn!("cannot remove {shown}, which a restore that was killed has left: {error}"),
            }
        }
    }
    Ok(())
}

/// A descriptor of `tree` for a walk.
fn walk_top(tree: &Dir) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(tree, c".", flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// As root, which a stage is for.
    #[test]
    fn what_borg_writes_into_is_made_in_the_stage_and_not_in_what_somebody_has_put_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::make(&Dir::open(folder.path()).unwrap()).unwrap();
        let name = folder.path().join(stage.name.to_str().unwrap());
        fs::rename(&name, folder.path().join("aside")).unwrap();
        fs::create_dir(&name).unwrap();
        let scratch = stage.scratch(65534).unwrap();
        assert_eq!(scratch.stat_self().unwrap().uid, 65534);
        assert!(folder.path().join("aside").join(SCRATCH).is_dir() && !name.join(SCRATCH).exists());
    }
}
