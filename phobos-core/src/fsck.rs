//! Whether a file system is what its own structures say, by the checker of its makers, which only looks.
//!
//! A drive that loses writes of bitmaps shows every file as it was written, until a later write is put where one of them lies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Chain, Class, Classified};
use crate::exec::{Exec, ExecError, Invocation, Observer, Status};

/// How long a checker may do nothing at all; a large file system takes it an hour, and it works all the time.
const STALL: Duration = Duration::from_secs(1800);

/// What checks a file system without changing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checker {
    /// `e2fsck`, for ext2, ext3 and ext4.
    Ext,
    /// `xfs_repair`, for XFS.
    Xfs,
}

/// Why a file system cannot be trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FsckError {
    /// The checker has found errors.
    #[error("the file system on {} has errors: {found}", device.display())]
    Damaged {
        /// Where it is.
        device: PathBuf,
        /// The first that was found, in the checker's words.
        found: String,
    },
    /// The checker cannot be run, or did not come to an end.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl Classified for FsckError {
    fn class(&self) -> Class {
        match self {
            Self::Damaged { .. } => Class::Failed,
            Self::Exec(error) => error.class(),
        }
    }
}

impl Checker {
    /// The checker for a file system, by the kernel's name for it. `None` for one that has none which only looks and comes to an end:
    /// btrfs proves each of its structures by a checksum and a generation when it reads it.
    pub fn of(kind: &str) -> Option<Self> {
        match kind {
            "ext2" | "ext3" | "ext4" => Some(Self::Ext),
            "xfs" => Some(Self::Xfs),
            _ => None,
        }
    }

    /// The program that has to be installed for it.
    pub fn program(self) -> &'static str {
        match self {
            Self::Ext => "e2fsck",
            Self::Xfs => "xfs_repair",
        }
    }

    /// Checks the file system on `device`, which must not be mounted, and changes nothing on it. One of ext's that has errors is
    /// marked as such: whoever mounts it next is told.
    ///
    /// # Errors
    ///
    /// [`FsckError::Damaged`] where there are errors; other errors where that cannot be told.
    pub fn check(self, exec: &dyn Exec, device: &Path) -> Result<(), FsckError> {
        // e2fsck(8): all of it, even if it is marked as clean, and no to every question. xfs_repair(8): no modification.
        let options: &[&str] = match self {
            Self::Ext => &["-f", "-n"],
            Self::Xfs => &["-n"],
        };
        let call = Invocation::new(self.program()).args(options).arg(device).bound().while_it_gets_on(STALL);
        let mut said = Said { checker: self, first: None };
        match exec.stream(&call, &mut said) {
            Ok(_) => Ok(()),
            Err(ExecError::Failed { status: Status::Code(code), stderr, .. }) if self.has_errors(code) => {
                if self == Self::Ext {
                    mark(exec, device);
                }
                let found = said.first.unwrap_or_else(|| stderr.lines().next().unwrap_or_default().to_owned());
                Err(FsckError::Damaged { device: device.to_owned(), found })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether an exit code says that there are errors. e2fsck(8): a sum of bits, of which 4 is "errors left uncorrected".
    /// `xfs_repair(8)`: 1 is "corruption was detected".
    fn has_errors(self, code: i32) -> bool {
        match self {
            Self::Ext => code & 4 != 0,
            Self::Xfs => code == 1,
        }
    }

    /// Whether a line says what the checker does, and not what it has found.
    fn is_chatter(self, line: &str) -> bool {
        let starts: &[&str] = match self {
            Self::Ext => &["e2fsck ", "Pass "],
            Self::Xfs => &["Phase ", "- ", "No modify flag"],
        };
        line.is_empty() || starts.iter().any(|start| line.starts_with(start))
    }
}

/// Marks an ext file system as one with errors, as `tune2fs(8)` does for `-E force_fsck`.
fn mark(exec: &dyn Exec, device: &Path) {
    let call = Invocation::new("tune2fs").args(["-E", "force_fsck"]).arg(device).shielded();
    if let Err(error) = exec.run(&call) {
        log::warn!("cannot mark {} as a file system with errors: {}", device.display(), Chain(&error));
    }
}

/// The first thing that a checker has found.
struct Said {
    checker: Checker,
    first: Option<String>,
}

impl Observer for Said {
    fn out(&mut self, line: &str) {
        let line = line.trim();
        if self.first.is_none() && !self.checker.is_chatter(line) {
            self.first = Some(line.to_owned());
        }
    }

    fn err(&mut self, line: &str) {
        self.out(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::System;
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::FileExt;

    /// An image with a file system of this kind, of `megabytes`.
    fn image(folder: &Path, kind: &str, megabytes: u64) -> PathBuf {
        let image = folder.join(kind);
        fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        System::default().run(&Invocation::new(&format!("mkfs.{kind}")).arg("-q").arg(&image)).unwrap();
        image
    }

    fn damage(image: &Path, at: u64, bytes: &[u8]) {
        OpenOptions::new().write(true).open(image).unwrap().write_all_at(bytes, at).unwrap();
    }

    fn check(checker: Checker, image: &Path) -> Result<(), FsckError> {
        checker.check(&System::default(), image)
    }

    #[test]
    fn a_bitmap_that_lost_a_write_is_found_and_ext_is_marked() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), "ext4", 16);
        check(Checker::Ext, &image).unwrap();
        let before = fs::read(&image).unwrap();
        // Where the first group's block bitmap is, its descriptor says.
        let bytes = |at: usize| u32::from_le_bytes(before[at..at + 4].try_into().unwrap());
        let block_size = 1024_u64 << bytes(1024 + 24);
        let bitmap = u64::from(bytes(usize::try_from(block_size.max(2048)).unwrap())) * block_size;
        damage(&image, bitmap, &[0; 16]);
        let error = check(Checker::Ext, &image).unwrap_err().to_string();
        assert!(error.contains("has errors: ") && error.contains("bitmap"), "{error}");
        let state = u16::from_le_bytes(fs::read(&image).unwrap()[1024 + 0x3a..][..2].try_into().unwrap());
        assert_eq!(state & 2, 2, "s_state has no mark");
    }

    #[test]
    fn xfs_is_checked_and_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), "xfs", 320);
        check(Checker::Xfs, &image).unwrap();
        // The header of the first allocation group's free space, a sector behind the superblock.
        damage(&image, 512 + 24, &[0xff; 4]);
        let before = fs::read(&image).unwrap();
        let error = check(Checker::Xfs, &image).unwrap_err().to_string();
        assert!(error.contains("has errors: "), "{error}");
        assert!(fs::read(&image).unwrap() == before);
    }

    #[test]
    fn what_is_no_file_system_is_not_sound() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("nothing");
        fs::write(&image, vec![0; 1 << 20]).unwrap();
        assert!(matches!(check(Checker::Ext, &image), Err(FsckError::Exec(_))));
        assert!(check(Checker::Xfs, &image).is_err());
        assert_eq!(
            ["ext4", "xfs", "btrfs", "f2fs"].map(Checker::of),
            [Some(Checker::Ext), Some(Checker::Xfs), None, None]
        );
    }
}
