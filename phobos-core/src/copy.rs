//! Copies that can be trusted: a tree is surveyed on both sides, a plan is made of the two surveys, and it is carried out so
//! that the copy is the old tree or the new one at every moment.
//!
//! [`survey()`] walks a side once and never through a link. [`Plan::of`] is a pure function of two surveys. [`build`] makes
//! the new tree beside the old one: what is the same is a second name of the old file, what is new is read once, proved by
//! a [`Proof`] while it is written, and has to be read back past the page cache ([`verify`]) before [`exchange`] puts the
//! whole tree in place with one rename. Each tells a handler how far it has come ([`crate::progress`]).
//!
//! ```no_run
//! use std::path::Path;
//! use phobos_core::copy::{self, Plan, Survey, Unproved};
//! use phobos_core::fs::Dir;
//!
//! let (source, drive) = (Dir::open(Path::new("/backup/borg"))?, Dir::open(Path::new("/extbackup"))?);
//! let wanted = copy::survey(&source, &mut |_| Ok(()))?;
//! let plan = Plan::of(&wanted, &Survey::default());
//! let fresh = drive.make_dir(Path::new("fresh"), 0o700)?;
//! let written = copy::build(&source, None, &fresh, &plan, &|_| Box::new(Unproved), &mut |_| Ok(()))?;
//! fresh.sync_file_system()?;
//! copy::verify(&fresh, &written, &mut |_| Ok(()))?;
//! copy::exchange(&drive, Path::new("fresh"), &drive, Path::new("borg"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ahead;
mod apply;
mod back;
mod bytes;
mod checksum;
mod pairs;
mod plan;
mod side;
mod survey;

pub use self::apply::{Proof, Unproved, Written, build, exchange, remove_tree, verify};
pub use self::back::{read_from_disk, read_on_from_disk, same_content};
pub use self::bytes::is_aligned;
pub use self::checksum::{BadChecksum, Checksum, Content, Crc, Summing};
pub use self::pairs::{Difference, Pair, Pairs, walk_pairs, walk_pairs_with};
pub use self::plan::{Make, Plan, Step};
pub use self::survey::{Item, Survey, survey, survey_up_to};

use std::path::PathBuf;

use crate::error::{Class, Classified};
use crate::fs::{FsError, shown};
use crate::progress::Halt;

/// Why a copy was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// A file or folder could not be opened, made or looked at.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A file could not be read.
    #[error("cannot read {}", shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", shown(path))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the source is not what it has to be.
    #[error("{} is damaged: {why}", shown(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The source is not what it was when it was surveyed.
    #[error("{} has changed while it was copied", shown(path))]
    Changed {
        /// The file or folder.
        path: PathBuf,
    },
    /// What was read back is not what was written.
    #[error("{} was read back with another content than was written: the drive or its cable is failing", shown(path))]
    Lost {
        /// The file.
        path: PathBuf,
    },
    /// There are more names than any such tree has.
    #[error("{} has more than {limit} names", shown(path))]
    TooMany {
        /// The tree.
        path: PathBuf,
        /// How many are looked at.
        limit: usize,
    },
    /// A tree is deeper, or its paths longer, than any that can be copied.
    #[error("{} has folders below each other, or paths, that are longer than anything that can be copied", shown(path))]
    TooDeep {
        /// The tree.
        path: PathBuf,
    },
    /// The caller ended the work.
    #[error("stopped: {0}")]
    Stopped(String),
    /// A signal ended the work.
    #[error("stopped by signal {0} while copying")]
    Interrupted(i32),
}

impl From<Halt> for CopyError {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Because(reason) => Self::Stopped(reason),
            Halt::Signal(signal) => Self::Interrupted(signal),
        }
    }
}

impl Classified for CopyError {
    fn class(&self) -> Class {
        match self {
            Self::Fs(error) => error.class(),
            Self::Damaged { .. } | Self::TooMany { .. } | Self::TooDeep { .. } => Class::Refused,
            Self::Interrupted(signal) => Class::Signal(*signal),
            Self::Read { .. } | Self::Write { .. } | Self::Changed { .. } | Self::Lost { .. } | Self::Stopped(_) => {
                Class::Failed
            }
        }
    }
}
