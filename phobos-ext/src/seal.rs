//! The seal of a drive: the checksums of what phobos itself keeps on it, and one of its own.
//!
//! It is written last of all, and says that everything else in phobos's folder is what it was then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use phobos_core::copy::{Checksum, CopyError, Summing, read_from_disk};
use phobos_core::fs::{Dir, Durability, FsError};
use phobos_core::progress::{CopyEvent, Handler};
use serde::{Deserialize, Serialize};

use crate::record::FOLDER;

/// Its name in phobos's folder.
pub(crate) const SEAL: &str = "seal.json";

/// The most that is read of it, in bytes.
const LIMIT: u64 = 4 * 1024 * 1024;

/// The largest file that phobos keeps on a drive, in bytes: a list of a hundred million files.
pub(crate) const LARGEST: u64 = 16 * 1024 * 1024 * 1024;

const VERSION: u32 = 1;

/// What phobos itself keeps on a drive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Seal {
    version: u32,
    /// The checksum of each file, by its path from the top of the drive.
    pub(crate) files: BTreeMap<String, String>,
    /// Files of the generation before that are damaged, and are kept as they are.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) damaged: BTreeSet<String>,
    /// The checksum of all that.
    sum: String,
}

/// Why a seal says nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("{FOLDER}/{SEAL} on the drive is damaged")]
    Damaged,
    #[error("{FOLDER}/{SEAL} on the drive is of version {0}, which this phobos does not know")]
    Version(u32),
}

impl Seal {
    /// What the drive's seal says; `None` where no mirror has left one.
    pub(crate) fn read(root: &Dir) -> Result<Option<Self>, SealError> {
        let path = Path::new(FOLDER).join(SEAL);
        let Some(bytes) = root.read(&path, LIMIT).map_err(CopyError::from)? else { return Ok(None) };
        let seal: Self = serde_json::from_slice(&bytes).map_err(|_| SealError::Damaged)?;
        // Each byte counts: of two texts that mean the same, one was not written here.
        if seal.sum != seal.checksum()?.to_string() || seal.text()? != bytes {
            return Err(SealError::Damaged);
        }
        if seal.version != VERSION {
            return Err(SealError::Version(seal.version));
        }
        Ok(Some(seal))
    }

    /// Adds a file with the checksum that it has to have.
    pub(crate) fn add(&mut self, path: &Path, sum: Checksum) {
        // What phobos keeps has names that it has made.
        if let Some(path) = path.to_str() {
            self.files.insert(path.to_owned(), sum.to_string());
        }
    }

    /// Adds a file as the disk has it, if it is there.
    pub(crate) fn add_as_it_is(&mut self, root: &Dir, path: &Path, handler: Handler<'_>) -> Result<(), CopyError> {
        if root.stat(path)?.is_some() {
            self.add(path, checksum(root, path, handler)?);
        }
        Ok(())
    }

    /// Whether the seal knows the file `path` as one with the checksum `sum`.
    pub(crate) fn of(&self, path: &Path) -> Option<Checksum> {
        self.files.get(path.to_str()?)?.parse().ok()
    }

    /// Takes it away: nothing that it vouched for is believed by the next mirror.
    pub(crate) fn remove(root: &Dir) -> Result<(), FsError> {
        let path = Path::new(FOLDER).join(SEAL);
        if root.stat(&path)?.is_some() { root.remove(&path) } else { Ok(()) }
    }

    /// Writes it, durably.
    pub(crate) fn write(mut self, root: &Dir) -> Result<(), anyhow::Error> {
        self.version = VERSION;
        self.sum = self.checksum()?.to_string();
        let folder = root.make_dir(Path::new(FOLDER), 0o700)?;
        Ok(folder.replace(Path::new(SEAL), &self.text()?, 0o600, Durability::Synced)?)
    }

    fn checksum(&self) -> Result<Checksum, SealError> {
        let bare = Self { sum: String::new(), ..self.clone() };
        Ok(Checksum::of(&bare.text()?))
    }

    fn text(&self) -> Result<Vec<u8>, SealError> {
        serde_json::to_vec_pretty(self).map_err(|_| SealError::Damaged)
    }
}

/// The checksum of a file that phobos keeps, as the disk has it. One on a drive may say that it is of any size.
pub(crate) fn checksum(root: &Dir, path: &Path, handler: Handler<'_>) -> Result<Checksum, CopyError> {
    let size = root.stat(path)?.map_or(0, |stat| stat.size);
    if size > LARGEST {
        return Err(FsError::TooLarge { path: root.path().join(path), limit: LARGEST }.into());
    }
    checksum_of_any(root, path, handler)
}

/// The same of any file, whatever its size.
pub(crate) fn checksum_of_any(root: &Dir, path: &Path, handler: Handler<'_>) -> Result<Checksum, CopyError> {
    let file = root.open_file(path)?;
    let mut sum = Summing::default();
    let read = read_from_disk(&file, &mut |piece: &[u8]| -> Result<(), CopyError> {
        sum.feed(piece);
        Ok(handler(CopyEvent::Tick)?)
    })?;
    read.map_err(|source| CopyError::Read { path: root.path().join(path), source })?;
    Ok(sum.checksum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_byte_of_it_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = Dir::open(folder.path()).unwrap();
        assert!(Seal::read(&root).unwrap().is_none());
        let mut seal = Seal::default();
        fs::write(folder.path().join("guide"), "how").unwrap();
        seal.add_as_it_is(&root, Path::new("guide"), &mut |_| Ok(())).unwrap();
        seal.add_as_it_is(&root, Path::new("not there"), &mut |_| Ok(())).unwrap();
        seal.damaged.insert("bad".to_owned());
        seal.write(&root).unwrap();
        let read = Seal::read(&root).unwrap().unwrap();
        assert_eq!(read.of(Path::new("guide")), Some(Checksum::of(b"how")));
        assert_eq!((read.files.len(), read.damaged.contains("bad")), (1, true));
        let path = folder.path().join(".phobos/seal.json");
        let sound = fs::read(&path).unwrap();
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            assert!(Seal::read(&root).is_err(), "a bit of byte {at}");
        }
        fs::write(&path, &sound[..sound.len() / 2]).unwrap();
        assert!(Seal::read(&root).is_err());
        let next = String::from_utf8(sound).unwrap().replace("\"version\": 1", "\"version\": 2");
        fs::write(&path, next).unwrap();
        assert!(Seal::read(&root).is_err());
    }
}
