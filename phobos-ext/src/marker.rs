//! The marker on a drive: which repository its copy is of, and how far that copy has come.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use phobos_core::borg::{Repository, RepositoryId};
use phobos_site::exit::{Exit, Stop};
use serde::{Deserialize, Serialize};

/// The marker's name, at the top of the drive's file system.
pub(crate) const NAME: &str = ".phobos-drive.json";

/// What an ext file system holds from the start.
const LOST_AND_FOUND: &str = "lost+found";

/// What the marker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Marker {
    /// The version of this format: 1.
    version: u32,
    /// The id of the repository that the drive belongs to.
    repository: String,
    /// The repository's last transaction, as of the last complete mirror.
    #[serde(default)]
    pub(crate) transaction: Option<u64>,
    /// The size of the repository's segments in bytes, as of the last complete mirror.
    #[serde(default)]
    pub(crate) segment_bytes: Option<u64>,
    /// When the last complete mirror ended.
    #[serde(default)]
    pub(crate) mirrored: Option<DateTime<Utc>>,
}

/// What a drive is, before anything is written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It belongs to the repository.
    Ours(Marker),
    /// It is empty, and may become the repository's.
    Empty,
    /// It has no marker, but a copy of the same repository, as the original makes them.
    Copy,
}

/// Finds out whether the drive mounted at `mount` may get a mirror of the repository `id`, whose place on it is
/// `copy`.
pub(crate) fn claim(mount: &Path, copy: &Path, id: &RepositoryId) -> Result<Claim, anyhow::Error> {
    let file = mount.join(NAME);
    match fs::read(&file) {
        Ok(text) => {
            let marker: Marker = serde_json::from_slice(&text)
                .map_err(|error| refused(&format!("{} cannot be understood: {error}", file.display())))?;
            return if marker.version != 1 {
                Err(refused(&format!("{} is of version {}, which is not known", file.display(), marker.version)))
            } else if marker.repository == id.as_str() {
                Ok(Claim::Ours(marker))
            } else {
                Err(refused(&format!(
                    "the drive belongs to the repository {}, not to {}; if that is over, delete {} from it",
                    marker.repository,
                    id.as_str(),
                    NAME
                )))
            };
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot read {}", file.display()))),
    }
    if let Ok(repository) = Repository::open(copy) {
        return if repository.id() == id {
            Ok(Claim::Copy)
        } else {
            Err(refused(&format!("the drive holds the repository {}, not {}", repository.id().as_str(), id.as_str())))
        };
    }
    let foreign = fs::read_dir(mount)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>())
        .map_err(|error| anyhow::Error::new(error).context(format!("cannot read {}", mount.display())))?
        .into_iter()
        .find(|name| name != LOST_AND_FOUND);
    match foreign {
        None => Ok(Claim::Empty),
        Some(name) => Err(refused(&format!(
            "the drive holds something else than a mirror of this repository, such as {}; empty it first if it is not needed",
            Path::new(&name).display()
        ))),
    }
}

impl Marker {
    /// A marker for a drive that has just become the repository's and has no complete copy yet.
    pub(crate) fn new(id: &RepositoryId) -> Self {
        Self { version: 1, repository: id.as_str().to_owned(), transaction: None, segment_bytes: None, mirrored: None }
    }

    /// Writes the marker so that a power cut leaves the old one or the new one.
    pub(crate) fn write(&self, mount: &Path) -> io::Result<()> {
        let fresh = mount.join(format!("{NAME}.new"));
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&fresh, mount.join(NAME))?;
        File::open(mount)?.sync_all()
    }
}

/// What a mirror must not touch on the drive.
pub(crate) fn own_files() -> [PathBuf; 3] {
    [NAME.into(), format!("{NAME}.new").into(), LOST_AND_FOUND.into()]
}

fn refused(text: &str) -> anyhow::Error {
    Stop::new(Exit::Refused, text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: &str) -> RepositoryId {
        RepositoryId::parse(&digit.repeat(64)).unwrap()
    }

    fn repository(folder: &Path, id: &RepositoryId) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("config"), format!("[repository]\nversion = 1\nid = {}\n", id.as_str())).unwrap();
    }

    #[test]
    fn only_an_empty_drive_or_our_own_is_written_to() {
        let drive = tempfile::tempdir().unwrap();
        let copy = drive.path().join("borg");
        let claim = |id: &RepositoryId| claim(drive.path(), &copy, id).map_err(|error| error.to_string());
        fs::create_dir(drive.path().join(LOST_AND_FOUND)).unwrap();
        assert_eq!(claim(&id("a")).unwrap(), Claim::Empty);

        fs::write(drive.path().join("holiday.jpg"), "").unwrap();
        let error = claim(&id("a")).unwrap_err();
        assert!(error.contains("something else than a mirror of this repository, such as holiday.jpg"), "{error}");

        repository(&copy, &id("a"));
        assert_eq!(claim(&id("a")).unwrap(), Claim::Copy);
        assert!(claim(&id("b")).unwrap_err().starts_with("the drive holds the repository aaaa"));

        Marker::new(&id("b")).write(drive.path()).unwrap();
        assert_eq!(claim(&id("b")).unwrap(), Claim::Ours(Marker::new(&id("b"))));
        assert!(claim(&id("a")).unwrap_err().starts_with("the drive belongs to the repository bbbb"));

        for (text, why) in [("{", "cannot be understood"), (r#"{"version": 2, "repository": "x"}"#, "version 2")] {
            fs::write(drive.path().join(NAME), text).unwrap();
            assert!(claim(&id("a")).unwrap_err().contains(why));
        }
    }
}
