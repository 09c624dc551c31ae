//! A walk through a tree that may be deeper than a path can be long: from folder to folder, by descriptors.
//!
//! It follows no links, holds two descriptors however deep it is, and goes back to where it came from or not at all.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What the names of folders begin with that are moved up to be emptied.
const MOVED: &str = ".removing-";

/// Whether a walk goes into a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It does, if it is one.
    In,
    /// It does not.
    Over,
}

/// A folder that a walk is in, or came through.
struct Level {
    /// The folders in it that are still to be seen.
    folders: Vec<CString>,
    /// Which folder it is.
    identity: (u64, u64),
}

/// Opens the folder at `path`, which is none of a stranger's making.
///
/// # Errors
///
/// If it is not there, or no folder.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, FOLDER, Mode::empty())?)
}

/// Shows everything below `top` to `visit`: the folder that it is in, its name, and its kind.
///
/// # Errors
///
/// When a folder cannot be read or is moved meanwhile, and what `visit` returns.
pub(crate) fn through(
    top: OwnedFd,
    visit: &mut dyn FnMut(BorrowedFd<'_>, &CStr, FileType) -> io::Result<Step>,
) -> io::Result<()> {
    let mut folder = top;
    let mut levels = vec![enter(&folder, visit)?];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.folders.pop() {
            let below = openat(&folder, &name, FOLDER, Mode::empty())?;
            levels.push(enter(&below, visit)?);
            folder = below;
            continue;
        }
        levels.pop();
        let Some(above) = levels.last() else { break };
        let back = openat(&folder, c"..", FOLDER, Mode::empty())?;
        if identity(&back)? != above.identity {
            return Err(io::Error::other("a folder was moved while it was read"));
        }
        folder = back;
    }
    Ok(())
}

/// Removes `name` in `above` with all that is in it, if it is there; nobody else changes it meanwhile.
///
/// However deep it is, it takes two descriptors and no memory: folders in folders are moved up to where they can be emptied.
///
/// # Errors
///
/// When something cannot be removed.
pub(crate) fn remove(above: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let top = match openat(above, name, FOLDER, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(unlinkat(above, name, AtFlags::empty())?),
        top => top?,
    };
    let mut number = 0;
    // A listing need not show what was moved up since it began.
    while empty(&top, &mut |folder| flatten(&top, folder, &mut number))? {}
    Ok(unlinkat(above, name, AtFlags::REMOVEDIR)?)
}

/// Removes what is in `folder`, with `each` for the folders in it before they go themselves; says whether there was anything.
fn empty(folder: &OwnedFd, each: &mut dyn FnMut(&OwnedFd) -> io::Result<()>) -> io::Result<bool> {
    let mut found = false;
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        found = true;
        match openat(folder, name, FOLDER, Mode::empty()) {
            Ok(below) => each(&below)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                unlinkat(folder, name, AtFlags::empty())?;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        match unlinkat(folder, name, AtFlags::REMOVEDIR) {
            // It was not all that its listing showed; the next one does.
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Moves the folders in `folder` up into `top`, by names of their own, and removes everything else.
fn flatten(top: &OwnedFd, folder: &OwnedFd, number: &mut u64) -> io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if kind(folder, name, entry.file_type())? != FileType::Directory {
            unlinkat(folder, name, AtFlags::empty())?;
            continue;
        }
        loop {
            *number = number.saturating_add(1);
            match renameat(folder, name, top, format!("{MOVED}{number}")) {
                // Whoever has filled the folder has thought of that.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                moved => break moved?,
            }
        }
    }
    Ok(())
}

/// What is called `name`, by the listing that has shown it; some file systems do not say it there.
fn kind(folder: impl AsFd, name: &CStr, listed: FileType) -> io::Result<FileType> {
    match listed {
        FileType::Unknown => Ok(FileType::from_raw_mode(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)),
        listed => Ok(listed),
    }
}

fn enter(
    folder: &OwnedFd,
    visit: &mut dyn FnMut(BorrowedFd<'_>, &CStr, FileType) -> io::Result<Step>,
) -> io::Result<Level> {
    let mut folders = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let kind = kind(folder, name, entry.file_type())?;
        if visit(folder.as_fd(), name, kind)? == Step::In && kind == FileType::Directory {
            folders.push(name.to_owned());
        }
    }
    Ok(Level { folders, identity: identity(folder)? })
}

fn identity(folder: &OwnedFd) -> io::Result<(u64, u64)> {
    let status = fstat(folder)?;
    Ok((status.st_dev, status.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_tree_deeper_than_a_path_is_seen_whole() {
        let top = tempfile::tempdir().unwrap();
        let name = CString::new("d".repeat(200)).unwrap();
        let mut folder = open(top.path()).unwrap();
        for _ in 0..60 {
            rustix::fs::mkdirat(&folder, &name, Mode::RWXU).unwrap();
            let file = openat(&folder, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
            drop(file);
            folder = openat(&folder, &name, FOLDER, Mode::empty()).unwrap();
        }
        std::os::unix::fs::symlink("/", top.path().join("link")).unwrap();
        let (mut files, mut folders) = (0, 0);
        through(open(top.path()).unwrap(), &mut |_, _, kind| {
            if kind == FileType::Directory {
                folders += 1;
            } else {
                files += 1;
            }
            Ok(Step::In)
        })
        .unwrap();
        assert_eq!((files, folders), (61, 60));
        fs::remove_dir_all(top.path()).unwrap();
    }

    #[test]
    fn what_is_deep_wide_or_named_by_somebody_who_has_read_this_is_removed_whole() {
        let above = tempfile::tempdir().unwrap();
        let outside = above.path().join("outside");
        fs::write(&outside, "kept").unwrap();
        let opened = open(above.path()).unwrap();
        let mut folder = opened.try_clone().unwrap();
        for name in std::iter::once(c"top").chain(std::iter::repeat_n(c"d", 3000)) {
            rustix::fs::mkdirat(&folder, name, Mode::RWXU).unwrap();
            folder = openat(&folder, name, FOLDER, Mode::empty()).unwrap();
            for name in [c".removing-1", c".removing-2", c"wide"] {
                rustix::fs::mkdirat(&folder, name, Mode::RWXU).unwrap();
            }
            drop(openat(&folder, c".removing-2/x", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap());
            drop(openat(&folder, c".removing-3", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap());
            rustix::fs::symlinkat(&outside, &folder, c"link").unwrap();
            rustix::fs::symlinkat(above.path(), &folder, c".removing-4").unwrap();
        }
        remove(opened.as_fd(), c"top").unwrap();
        remove(opened.as_fd(), c"top").unwrap();
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
        // A link or a file in its place is all that goes.
        std::os::unix::fs::symlink(&outside, above.path().join("top")).unwrap();
        remove(opened.as_fd(), c"top").unwrap();
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 1);
    }
}
