//! Why the namespace cannot be made, entered, looked at or removed.

use std::io;
use std::path::PathBuf;

use super::Inhabitant;
use crate::error::{Class, Classified};
use crate::exec::ExecError;
use crate::lock::LockError;
use crate::mount::MountError;

/// Why the namespace cannot be made or entered; this process is then in PID 1's namespace or in the new one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// This process runs in a mount namespace of its own.
    #[error(
        "this process runs in a mount namespace of its own, neither PID 1's nor {}; remove PrivateTmp=, ProtectSystem= and \
         the like from its unit",
        file.display()
    )]
    Elsewhere {
        /// The file that keeps the namespace.
        file: PathBuf,
    },
    /// This process may not look at PID 1, as in a container or a unit without the capability for it.
    #[error(
        "cannot look at {}: CAP_SYS_PTRACE is missing; in a container, start it with that capability or run this on the \
         machine itself; in a unit, add it to CapabilityBoundingSet=",
        path.display()
    )]
    Hidden {
        /// What was to be looked at.
        path: PathBuf,
    },
    /// The backup file system is visible to everybody.
    #[error("{} is mounted outside the namespace, where everybody can see it; run `umount {0}` and set noauto in fstab", target.display())]
    MountedOutside {
        /// The mount point.
        target: PathBuf,
    },
    /// What is mounted in the namespace would be mounted outside as well.
    #[error(
        "{} shares its mounts with the machine, where everybody would see {}; remove the namespace, and the next job makes it anew",
        file.display(),
        target.display()
    )]
    Shared {
        /// The file that keeps the namespace.
        file: PathBuf,
        /// The mount point.
        target: PathBuf,
    },
    /// fstab does not say what the backup file system is.
    #[error("no entry for {} in {}; add one with the option noauto", target.display(), fstab.display())]
    NotInFstab {
        /// The mount point.
        target: PathBuf,
        /// The table.
        fstab: PathBuf,
    },
    /// Something that is no file stands where the namespace's file should be.
    #[error("{} is not a plain file; move it away", file.display())]
    NotAFile {
        /// The file that should keep the namespace.
        file: PathBuf,
    },
    /// The backup file system could not be mounted in the namespace.
    #[error("cannot mount {} in the namespace", target.display())]
    Mount {
        /// The mount point.
        target: PathBuf,
        /// What mount said.
        source: ExecError,
    },
    /// The disk of the backups is gone, and its file system is still mounted.
    #[error(
        "the disk of {} is gone, or was plugged in again: plug it in and remove the namespace; the next job makes both anew",
        target.display()
    )]
    Lost {
        /// The mount point.
        target: PathBuf,
    },
    /// This process is in the namespace that is to be removed.
    #[error("cannot remove the namespace from within it; run this outside")]
    Within,
    /// Processes are in the namespace.
    #[error(
        "cannot remove the namespace: there are {} in it; end them first",
        processes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    )]
    Inhabited {
        /// The processes.
        processes: Vec<Inhabitant>,
    },
    /// The lock of the namespace was not taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What is mounted cannot be read.
    #[error(transparent)]
    Table(#[from] MountError),
    /// A step failed in the kernel.
    #[error("cannot {verb} {}", path.display())]
    Kernel {
        /// The step.
        verb: &'static str,
        /// What it was about.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Classified for NamespaceError {
    fn class(&self) -> Class {
        match self {
            Self::MountedOutside { .. } | Self::Shared { .. } => Class::Refused,
            Self::Inhabited { .. } => Class::Busy,
            Self::Hidden { .. } => Class::NotPermitted,
            Self::Elsewhere { .. } | Self::NotInFstab { .. } | Self::NotAFile { .. } => Class::Config,
            Self::Lock(error) => error.class(),
            Self::Table(error) => error.class(),
            Self::Lost { .. } => Class::Failed,
            Self::Mount { .. } | Self::Kernel { .. } | Self::Within => Class::Source,
        }
    }
}
