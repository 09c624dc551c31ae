//! The source of a mirror, and what proves that it may replace what is on a drive.

use std::fs;
use std::path::Path;

use anyhow::Context;
use phobos_core::borg::Repository;
use phobos_core::mount;
use phobos_site::config::Backup;
use phobos_site::exit::{Exit, Stop};
use phobos_site::namespace;

use crate::marker::Marker;

/// A copy that is smaller than this needs no guarding, in bytes.
const SMALL: u64 = 1024 * 1024;

/// Proves that the backup file system is mounted here and holds a repository.
pub(crate) fn check(backup: &Backup) -> Result<Repository, anyhow::Error> {
    if mount::at(&mount::table()?, &backup.mount).is_none() {
        let text = format!("{} is not mounted; refusing to mirror an empty folder", backup.mount.display());
        return Err(Stop::new(Exit::Refused, text).into());
    }
    Ok(Repository::open(&backup.repository)?.called_as(namespace::borg_from_outside()))
}

/// What a repository holds, as far as a mirror must not lose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The last complete transaction.
    pub(crate) transaction: Option<u64>,
    /// The size of all segments in bytes.
    pub(crate) segment_bytes: u64,
}

impl Extent {
    /// Measures a repository.
    pub(crate) fn of(repository: &Repository) -> Result<Self, anyhow::Error> {
        let data = repository.path().join("data");
        let segment_bytes = size(&data).with_context(|| format!("cannot read {}", data.display()))?;
        Ok(Self { transaction: repository.transaction()?, segment_bytes })
    }

    /// What the copy on a drive is known to hold, by the drive's marker and by the copy itself: a mirror that was cut
    /// short has not updated the marker.
    pub(crate) fn of_copy(copy: &Path, marker: Option<&Marker>) -> Result<Self, anyhow::Error> {
        let found = match Repository::open(copy) {
            Ok(repository) => Self::of(&repository)?,
            Err(_) => Self { transaction: None, segment_bytes: 0 },
        };
        let transaction = found.transaction.max(marker.and_then(|marker| marker.transaction));
        let segment_bytes = marker.and_then(|marker| marker.segment_bytes).unwrap_or(found.segment_bytes);
        Ok(Self { transaction, segment_bytes })
    }

    /// Refuses to replace `copy` by something that is older or has lost most of what the copy holds.
    pub(crate) fn may_replace(self, copy: Self, accept_smaller: bool) -> Result<(), Stop> {
        let refuse = |text: String| Err(Stop::new(Exit::Refused, text));
        let words = |transaction: Option<u64>| transaction.map_or("none".to_owned(), |number| number.to_string());
        if self.transaction < copy.transaction {
            return refuse(format!(
                "the repository is older than the copy on the drive: its last transaction is {}, the copy's is {}; \
                 restore it from the drive, or empty the drive if the copy is not needed",
                words(self.transaction),
                words(copy.transaction)
            ));
        }
        if !accept_smaller && copy.segment_bytes > SMALL && self.segment_bytes < copy.segment_bytes / 2 {
            return refuse(format!(
                "the repository has {} MB where the copy on the drive has {} MB; if that is right, run once with \
                 --accept-smaller",
                self.segment_bytes / 1_000_000,
                copy.segment_bytes / 1_000_000
            ));
        }
        Ok(())
    }
}

/// The size of all files two levels below `data`, where Borg keeps its segments.
fn size(data: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for folder in fs::read_dir(data)? {
        let folder = folder?;
        if folder.file_type()?.is_dir() {
            for segment in fs::read_dir(folder.path())? {
                bytes += segment?.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(transaction: u64, megabytes: u64) -> Extent {
        Extent { transaction: Some(transaction), segment_bytes: megabytes * 1_000_000 }
    }

    #[test]
    fn an_older_or_much_smaller_repository_replaces_nothing() {
        let copy = extent(10, 100);
        assert!(extent(10, 100).may_replace(copy, false).is_ok(), "nothing new is no step back");
        assert!(extent(11, 50).may_replace(copy, false).is_ok(), "compacted");
        assert!(extent(11, 49).may_replace(copy, false).is_err());
        assert!(extent(11, 49).may_replace(copy, true).is_ok());
        let error = extent(9, 100).may_replace(copy, true).unwrap_err().to_string();
        assert!(error.starts_with("the repository is older than the copy on the drive"), "{error}");
        let none = Extent { transaction: None, segment_bytes: 0 };
        assert!(none.may_replace(copy, true).is_err());
        assert!(extent(1, 0).may_replace(none, false).is_ok(), "a new drive");
    }
}
