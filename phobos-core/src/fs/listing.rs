//! What is in a folder: all at once where it is small, and name by name where it may be a stranger's.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::{Dir, Entry, FsError, Kind};

/// The names of a folder one after the other, in no order; `.` and `..` are left out. It takes a descriptor, and no memory
/// for the names.
#[derive(Debug)]
pub struct Listing {
    entries: rustix::fs::Dir,
    /// Where the folder was found, for messages alone.
    path: PathBuf,
}

impl Dir {
    /// The names in the folder, in no order; `.` and `..` are left out.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, FsError> {
        self.listing()?.collect()
    }

    /// The same, but for folders that have no more than `limit` names: a stranger's may have millions.
    ///
    /// # Errors
    ///
    /// When it has more, or cannot be read.
    pub fn entries_up_to(&self, limit: usize) -> Result<Vec<Entry>, FsError> {
        let mut entries = Vec::new();
        for entry in self.listing()? {
            if entries.len() >= limit {
                return Err(FsError::TooMany { path: self.path.clone(), limit });
            }
            entries.push(entry?);
        }
        Ok(entries)
    }

    /// The same, one after the other.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn listing(&self) -> Result<Listing, FsError> {
        let entries = rustix::fs::Dir::read_from(&self.fd).map_err(|error| self.io("read", Path::new(""), error))?;
        Ok(Listing { entries, path: self.path.clone() })
    }
}

impl Iterator for Listing {
    type Item = Result<Entry, FsError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.entries.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(super::io("read", &self.path, error))),
            };
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let kind = (entry.file_type() != FileType::Unknown).then(|| Kind::from(entry.file_type()));
                return Some(Ok(Entry { name: OsStr::from_bytes(name).to_owned(), kind }));
            }
        }
    }
}
