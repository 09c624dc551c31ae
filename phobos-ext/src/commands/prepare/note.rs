//! That a drive is being prepared: which one, and the numbers that it is to have, so that a run that was cut short is known again.

use std::path::{Path, PathBuf};

use anyhow::Context;
use phobos_core::block::Disk;
use phobos_core::fs::{Dir, Durability, make_private, replace};
use phobos_core::luks::Uuid;
use phobos_core::schema::SchemaVersion;
use phobos_site::paths::Paths;
use serde::{Deserialize, Serialize};

/// The folder of the notes, below that of what must outlive a reboot.
const FOLDER: &str = "prepare";

/// The most that is read of one, in bytes.
const LIMIT: u64 = 64 * 1024;

/// What is noted before the first byte is written to the drive, and forgotten when the drive is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    #[serde(default)]
    schema_version: SchemaVersion<1>,
    /// What the drive is known by; see [`super::known_by`].
    pub(super) known_by: String,
    /// In bytes.
    pub(super) size: u64,
    /// The identifier of its partition table.
    pub(super) table: String,
    /// The identifier of its one partition.
    pub(super) part: String,
    /// The UUID of the LUKS container.
    pub(super) container: String,
}

impl Note {
    /// One for a drive that nothing was done to yet.
    pub(super) fn new(disk: &Disk) -> Result<Self, anyhow::Error> {
        let random = || Uuid::random().map(|uuid| uuid.as_str().to_owned()).context("cannot make an identifier");
        Ok(Self {
            schema_version: SchemaVersion,
            known_by: super::known_by(disk),
            size: disk.size,
            table: random()?,
            part: random()?,
            container: random()?,
        })
    }

    /// Whether it is about this disk.
    pub(super) fn is_of(&self, disk: &Disk) -> bool {
        (self.known_by.as_str(), self.size) == (super::known_by(disk).as_str(), disk.size)
    }

    /// What an earlier run for the drive `name` has left.
    pub(super) fn read(paths: &Paths, name: &str) -> Result<Option<Self>, anyhow::Error> {
        let file = file(paths, name);
        let Some(folder) = file.parent().filter(|folder| folder.is_dir()) else { return Ok(None) };
        let bytes = Dir::open(folder)?.read(Path::new(&format!("{name}.json")), LIMIT)?;
        let note = bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        note.with_context(|| format!("cannot understand {}; delete it to begin anew", file.display()))
    }

    /// Writes it down, durably.
    pub(super) fn write(&self, paths: &Paths, name: &str) -> Result<(), anyhow::Error> {
        let bytes = serde_json::to_vec_pretty(self)?;
        let file = file(paths, name);
        let folder = file.parent().unwrap_or(Path::new("/"));
        let written = make_private(folder).and_then(|()| replace(&file, &bytes, 0o600, Durability::Synced));
        written.with_context(|| format!("cannot write {}", file.display()))
    }
}

/// Where the note for the drive `name` is.
pub(super) fn file(paths: &Paths, name: &str) -> PathBuf {
    paths.state.join(FOLDER).join(format!("{name}.json"))
}

/// Forgets it.
pub(super) fn forget(paths: &Paths, name: &str) -> Result<(), anyhow::Error> {
    let file = file(paths, name);
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(anyhow::Error::new(error).context(format!("cannot remove {}", file.display())))
        }
        _ => Ok(()),
    }
}
