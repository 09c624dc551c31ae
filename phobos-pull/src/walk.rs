//! A walk through a tree that may be deeper than a path can be long: from folder to folder, by descriptors.
//!
//! It follows no links, holds two descriptors however deep it is, and goes back to where it came from or not at all.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, statat};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

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
        let kind = match entry.file_type() {
            // Some file systems do not say it here.
            FileType::Unknown => FileType::from_raw_mode(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            kind => kind,
        };
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
}
