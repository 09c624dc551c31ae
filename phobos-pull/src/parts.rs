//! What lies in a holding space and is no file of the host's: where rsync makes files, and what it has of those that were
//! cut off.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::FileType;

use crate::walk::{self, Step};

/// Where rsync keeps what it has of a file that was cut off: below each folder, and never deleted with it.
pub(crate) const PARTIAL: &str = ".phobos-partial";

/// Where rsync makes files before they get their names: at the top of the holding space, and only while a pull runs.
pub(crate) const TEMPORARY: &str = ".phobos-temp";

/// Counts what is at `path` and below, folders left out; nothing there is 0 files.
///
/// # Errors
///
/// When a folder cannot be read.
pub(crate) fn count(path: &Path) -> io::Result<u64> {
    let kind = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?.file_type(),
    };
    if !kind.is_dir() {
        return Ok(1);
    }
    let mut files = 0;
    walk::through(walk::open(path)?, &mut |_, name, kind| {
        if kind != FileType::Directory {
            files += 1;
            return Ok(Step::Over);
        }
        Ok(if name.to_bytes() == PARTIAL.as_bytes() { Step::Over } else { Step::In })
    })?;
    Ok(files)
}

/// Removes the parts of files that were cut off and that no later pull has completed.
///
/// # Errors
///
/// When a folder cannot be read or removed.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    walk::through(walk::open(path)?, &mut |folder, name, kind| {
        if kind != FileType::Directory || name.to_bytes() != PARTIAL.as_bytes() {
            return Ok(Step::In);
        }
        // By the descriptor: the folder's own path may be too long.
        let here = format!("/proc/self/fd/{}/{PARTIAL}", folder.as_raw_fd());
        fs::remove_dir_all(here)?;
        Ok(Step::Over)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_on_disk_are_counted_without_parts_and_without_following_links() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(count(&path("none")).unwrap(), 0);
        fs::create_dir_all(path("a/.phobos-partial")).unwrap();
        fs::write(path("a/.phobos-partial/x"), "").unwrap();
        fs::write(path("a/f"), "").unwrap();
        std::os::unix::fs::symlink("/", path("a/link")).unwrap();
        assert_eq!(count(folder.path()).unwrap(), 2);
        assert_eq!(count(&path("a/f")).unwrap(), 1);
        remove(folder.path()).unwrap();
        assert!(!path("a/.phobos-partial").exists() && path("a/f").exists());
    }
}
