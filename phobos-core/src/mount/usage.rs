//! How full a mounted file system is, and whether its disk is still there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How full a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in use, those that are still to be written included.
    pub used: u64,
    /// Bytes that root may still write.
    pub free: u64,
    /// Bytes that everybody else may still write.
    pub available: u64,
    /// Files, folders and whatever else has an inode.
    pub inodes: u64,
}

/// How full the file system at `target` is.
///
/// # Errors
///
/// When the file system does not say so.
pub fn usage(target: &Path) -> io::Result<Usage> {
    let all = rustix::fs::statvfs(target)?;
    let bytes = |blocks: u64| blocks.saturating_mul(all.f_frsize);
    let used = all.f_blocks.saturating_sub(all.f_bfree);
    Ok(Usage {
        used: bytes(used),
        free: bytes(all.f_bfree),
        available: bytes(all.f_bavail),
        inodes: all.f_files.saturating_sub(all.f_ffree),
    })
}

/// Whether the file system at `target` still has its disk: one that was pulled, or dropped off the bus, stays mounted, and all that
/// is asked of it fails. What is on no disk, or on several, or in a place without sysfs, is taken to have it.
pub fn has_disk(target: &Path) -> bool {
    match fs::metadata(target) {
        Ok(found) => is_there(Path::new("/sys"), found.dev()),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn is_there(sys: &Path, number: u64) -> bool {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let all = sys.join("dev/block");
    major == 0 || !all.exists() || all.join(format!("{major}:{minor}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_the_kernel_no_longer_knows_is_gone() {
        let sys = tempfile::tempdir().unwrap();
        let disk = rustix::fs::makedev(8, 17);
        assert!(is_there(sys.path(), disk), "without sysfs nobody knows");
        fs::create_dir_all(sys.path().join("dev/block/8:1")).unwrap();
        assert!(!is_there(sys.path(), disk));
        assert!(is_there(sys.path(), rustix::fs::makedev(0, 42)), "one that is on no disk, or on several");
        fs::create_dir(sys.path().join("dev/block/8:17")).unwrap();
        assert!(is_there(sys.path(), disk));
        assert!(has_disk(Path::new("/")) && has_disk(Path::new("/proc")) && has_disk(Path::new("/nowhere")));
    }
}
