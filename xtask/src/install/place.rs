//! Files below a tree, reached by descriptors one folder at a time: a link that somebody has planted on the way, or in a file's
//! own place, is never followed. On Debian the group `staff` may write to `/usr/local`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fchmod, mkdirat, open, openat, readlinkat, renameat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

/// The permissions of a folder of the system.
const FOLDER_MODE: u32 = 0o755;

/// What lies at a place.
pub(super) enum Found {
    Nothing,
    File(Vec<u8>),
    /// A link, a folder: nothing that was installed.
    Other,
}

/// Looks at `target` below `tree`.
///
/// # Errors
///
/// If a link is on the way, or the file cannot be read.
pub(super) fn look(tree: &Path, target: &Path) -> Result<Found> {
    let look = || -> Result<Found> {
        let Some((folder, name)) = folder_of(tree, target, false)? else { return Ok(Found::Nothing) };
        match statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let mut text = Vec::new();
                File::from(openat(&folder, &name, flags, Mode::empty())?).read_to_end(&mut text)?;
                Ok(Found::File(text))
            }
            Ok(_) => Ok(Found::Other),
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(error) => Err(error.into()),
        }
    };
    look().with_context(|| format!("cannot look at {}", tree.join(target).display()))
}

/// Puts a file in place in one step: a program that runs, or a reader, sees the old one or the new one. Whatever the umask
/// is: programs and their settings are everybody's to run and read.
///
/// # Errors
///
/// If a link is on the way, or the file cannot be written; what was there is still there.
pub(super) fn write(tree: &Path, target: &Path, text: &[u8], mode: u32) -> Result<()> {
    let write = || -> Result<()> {
        make_tree(tree)?;
        let (folder, name) = folder_of(tree, target, true)?.context("it has no folder")?;
        let mut unfinished = OsString::from(".");
        unfinished.push(&name);
        unfinished.push(".unfinished");
        gone(unlinkat(&folder, &unfinished, AtFlags::empty()))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&folder, &unfinished, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(text)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        Ok(renameat(&folder, &unfinished, &folder, &name)?)
    };
    write().with_context(|| format!("cannot write {}", tree.join(target).display()))
}

/// Makes a folder for root alone, unless it is there.
///
/// # Errors
///
/// If a link is on the way or in its place, or it cannot be made.
pub(super) fn private(tree: &Path, target: &Path) -> Result<()> {
    let make = || -> Result<()> {
        let (folder, name) = folder_of(tree, target, true)?.context("it has no folder")?;
        match mkdirat(&folder, &name, Mode::RWXU) {
            Err(Errno::EXIST) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                Ok(openat(&folder, &name, flags, Mode::empty()).map(drop)?)
            }
            made => Ok(made?),
        }
    };
    make().with_context(|| format!("cannot make {}", tree.join(target).display()))
}

/// Removes a file, if it is there.
///
/// # Errors
///
/// If a link is on the way, or it cannot be removed.
pub(super) fn remove(tree: &Path, target: &Path) -> Result<()> {
    let remove = || match folder_of(tree, target, false)? {
        Some((folder, name)) => gone(unlinkat(&folder, &name, AtFlags::empty())),
        None => Ok(()),
    };
    remove().with_context(|| format!("cannot remove {}", tree.join(target).display()))
}

/// Removes a file or link, or a folder with all that is in it, through no link; says whether anything is there.
///
/// # Errors
///
/// If a link is on the way, or something cannot be removed.
pub(super) fn remove_tree(tree: &Path, target: &Path, dry_run: bool) -> Result<bool> {
    let remove = || -> Result<bool> {
        let Some((folder, name)) = folder_of(tree, target, false)? else { return Ok(false) };
        match statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            found => found.map(drop)?,
        }
        if !dry_run {
            empty(&folder, &name)?;
        }
        Ok(true)
    };
    remove().with_context(|| format!("cannot remove {}", tree.join(target).display()))
}

/// Removes `name` from `folder`, whatever it is.
fn empty(folder: &OwnedFd, name: &OsStr) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(folder, name, flags, Mode::empty()) {
        Ok(inner) => {
            for entry in Dir::read_from(&inner)? {
                let entry = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
                if entry != "." && entry != ".." {
                    empty(&inner, &entry)?;
                }
            }
            Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?)
        }
        Err(Errno::LOOP | Errno::NOTDIR) => gone(unlinkat(folder, name, AtFlags::empty())),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes a folder if it is there and empty.
///
/// # Errors
///
/// If a link is on the way, or it cannot be removed.
pub(super) fn remove_folder(tree: &Path, target: &Path) -> Result<()> {
    let remove = || -> Result<()> {
        let Some((folder, name)) = folder_of(tree, target, false)? else { return Ok(()) };
        match unlinkat(&folder, &name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
            removed => Ok(removed?),
        }
    };
    remove().with_context(|| format!("cannot remove {}", tree.join(target).display()))
}

/// Makes the link `target`, which says `says`.
///
/// # Errors
///
/// If a link is on the way, something is in its place, or it cannot be made.
pub(super) fn symlink(tree: &Path, target: &Path, says: &Path) -> Result<()> {
    let make = || -> Result<()> {
        let (folder, name) = folder_of(tree, target, true)?.context("it has no folder")?;
        Ok(symlinkat(says, &folder, &name)?)
    };
    make().with_context(|| format!("cannot make {}", tree.join(target).display()))
}

/// What the link `target` says; `None` if it is no link.
///
/// # Errors
///
/// If a link is on the way, or it cannot be read.
pub(super) fn link(tree: &Path, target: &Path) -> Result<Option<PathBuf>> {
    let Some((folder, name)) = folder_of(tree, target, false)? else { return Ok(None) };
    match readlinkat(&folder, &name, Vec::new()) {
        Ok(said) => Ok(Some(PathBuf::from(OsStr::from_bytes(said.as_bytes())))),
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", tree.join(target).display())),
    }
}

/// The folder of `target`, held open, and the name there; `None` if it is missing and not to be made.
fn folder_of(tree: &Path, target: &Path, make: bool) -> Result<Option<(OwnedFd, OsString)>> {
    let name = target.file_name().context("it has no name")?.to_owned();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = match open(tree, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    let mut path = tree.to_owned();
    for part in target.parent().into_iter().flat_map(Path::iter) {
        path.push(part);
        let step = |folder: &OwnedFd| openat(folder, part, flags | OFlags::NOFOLLOW, Mode::empty());
        folder = match step(&folder) {
            Err(Errno::NOENT) if !make => return Ok(None),
            Err(Errno::NOENT) => {
                mkdirat(&folder, part, Mode::RWXU)?;
                let fresh = step(&folder)?;
                fchmod(&fresh, Mode::from_raw_mode(FOLDER_MODE))?;
                fresh
            }
            Err(Errno::LOOP | Errno::NOTDIR) => bail!("{} is a link or a file, not a folder", path.display()),
            opened => opened?,
        };
    }
    Ok(Some((folder, name)))
}

/// Makes the tree itself, and the folders above it that are missing: its path is the caller's own.
fn make_tree(tree: &Path) -> std::io::Result<()> {
    if tree.is_dir() {
        return Ok(());
    }
    tree.parent().map_or(Ok(()), make_tree)?;
    rustix::fs::mkdir(tree, Mode::RWXU)?;
    fs::set_permissions(tree, Permissions::from_mode(FOLDER_MODE))
}

/// That nothing was there is as good as having removed it.
fn gone(removed: Result<(), Errno>) -> Result<()> {
    match removed {
        Err(error) if error != Errno::NOENT => Err(error.into()),
        _ => Ok(()),
    }
}
