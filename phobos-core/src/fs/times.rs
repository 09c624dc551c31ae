//! The times of files, and how finely a file system keeps them.

use std::path::Path;

use rustix::fs::{AtFlags, Timespec, Timestamps};

use super::{Dir, FsError};

/// How finely times are kept, and can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// To the second.
    Seconds,
    /// To the nanosecond, or to the few that a clock's tick has.
    Nanoseconds,
}

impl Dir {
    /// How finely the folder's file system keeps times: the kernel's own time of its last change (inode(7), `st_ctime`), which
    /// nobody can set, is at a whole second by chance alone. Tools that make file systems give the top of a new one such a time.
    ///
    /// # Errors
    ///
    /// When the system does not say so: its disk is gone.
    pub fn times(&self) -> Result<Times, FsError> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|error| self.io("look at", Path::new(""), error))?;
        Ok(if stat.st_ctime_nsec == 0 { Times::Seconds } else { Times::Nanoseconds })
    }

    /// Sets the time of the last change of the file `name`: seconds since 1970, and nanoseconds.
    ///
    /// # Errors
    ///
    /// When there is no such file, or the system refuses.
    pub fn set_time(&self, name: &Path, mtime: (i64, u32)) -> Result<(), FsError> {
        let last_access = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let times =
            Timestamps { last_access, last_modification: Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() } };
        let (parent, last) = self.parent_of(name)?;
        rustix::fs::utimensat(&parent.as_ref().unwrap_or(self).fd, &last, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.io("set the time of", name, error))
    }
}

/// Whether a copy's time is that of its source; some file systems keep whole seconds only.
pub fn same_time(source: (i64, u32), copy: (i64, u32)) -> bool {
    source == copy || (copy.1 == 0 && source.0 == copy.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_fine_as_the_kernel_keeps_them() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        assert_eq!(dir.times().unwrap(), Times::Nanoseconds);
        std::fs::write(folder.path().join("file"), "").unwrap();
        dir.set_time(Path::new("file"), (-1, 7)).unwrap();
        assert_eq!(dir.stat(Path::new("file")).unwrap().unwrap().mtime, (-1, 7));
    }

    #[test]
    fn a_copy_may_have_lost_the_fraction_of_a_second() {
        assert!(same_time((5, 7), (5, 7)) && same_time((5, 7), (5, 0)));
        assert!(!same_time((5, 7), (5, 8)) && !same_time((5, 0), (5, 7)) && !same_time((5, 7), (6, 0)));
    }
}
