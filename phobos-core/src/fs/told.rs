//! What is told of files and folders: kinds, properties, errors, and names that are fit to be shown.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::error::{Class, Classified};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Link,
    /// A FIFO, a socket or a device.
    Special,
}

/// What a folder says of one of its names, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// The size in bytes.
    pub size: u64,
    /// The time of the last change: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// When the system last changed anything about it, in seconds since 1970.
    pub ctime: i64,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The permissions, set-user-ID and its like included: 12 bits.
    pub mode: u32,
    /// The number of its file system.
    pub dev: u64,
    /// Its number in that file system.
    pub ino: u64,
    /// How much of a disk it takes, in bytes.
    pub taken: u64,
    /// How many names it has.
    pub links: u64,
}

/// One name of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// What it is; `None` where the file system does not say so in the listing.
    pub kind: Option<Kind>,
}

/// What went wrong with a file or folder below a [`Dir`](super::Dir).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FsError {
    /// The system refused.
    #[error("cannot {action} {}", shown(path))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not of the kind that it has to be; links are never followed.
    #[error("{} is {found}, not {wanted}", shown(path))]
    Kind {
        /// What was looked at.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What it has to be.
        wanted: &'static str,
    },
    /// A file is larger than what it is for.
    #[error("{} has more than {limit} bytes", shown(path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How much it may have, in bytes.
        limit: u64,
    },
    /// A folder has more names than what it is for.
    #[error("{} has more than {limit} names", shown(path))]
    TooMany {
        /// The folder.
        path: PathBuf,
        /// How many it may have.
        limit: usize,
    },
    /// A name would lead somewhere else.
    #[error("{} is no name below a folder", shown(path))]
    Name {
        /// The name.
        path: PathBuf,
    },
}

impl Classified for FsError {
    fn class(&self) -> Class {
        match self {
            // What a stranger may have put there is not worked with.
            Self::Kind { .. } | Self::TooLarge { .. } | Self::TooMany { .. } | Self::Name { .. } => Class::Refused,
            Self::Io { .. } => Class::Source,
        }
    }
}

/// `path` for people: control characters, which a terminal would obey, are escaped.
pub fn shown(path: &Path) -> String {
    shown_text(&path.to_string_lossy())
}

/// Whether a terminal would obey `c` instead of showing it. Marks that change the direction of writing hide what a line says as
/// well as a control character does.
pub fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` for people: control characters, which a terminal would obey, are escaped.
pub fn shown_text(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if !is_hidden(c) {
            shown.push(c);
        } else if write!(shown, "{}", c.escape_default()).is_err() {
            shown.push('?');
        }
        shown
    })
}

impl Kind {
    /// The kind in words, with its article.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "a regular file",
            Self::Dir => "a folder",
            Self::Link => "a symbolic link",
            Self::Special => "a FIFO, a socket or a device",
        }
    }
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Dir,
            FileType::Symlink => Self::Link,
            _ => Self::Special,
        }
    }
}

#[expect(clippy::useless_conversion, reason = "the fields' types differ by machine")]
impl From<&rustix::fs::Stat> for Stat {
    fn from(stat: &rustix::fs::Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode).into(),
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            mtime: (stat.st_mtime.into(), u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
            ctime: stat.st_ctime.into(),
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            dev: stat.st_dev,
            ino: stat.st_ino,
            taken: u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512),
            links: stat.st_nlink.into(),
        }
    }
}
