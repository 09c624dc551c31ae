//! Borg: what a repository is, whether it is intact, and its lock as a guard.
//!
//! The formats are those of Borg 1.x (`docs/internals/data-structures.rst`): `config` names the repository, `hints.N`
//! and `index.N` are written after the transaction that ended in segment N, `data/D/N` are the segments.

pub mod config;
pub mod descent;
pub mod hints;
pub mod index;
mod lock;
pub mod segment;
mod serve;
pub mod state;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use self::lock::{LOCK_FILES, LockHolder, RepositoryLock};
use crate::error::{Class, Classified};
use crate::exec::ExecError;

/// The smallest segment: its magic alone.
const SEGMENT_MAGIC_BYTES: u64 = 8;

/// The id of a repository: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryId(String);

/// A Borg repository in a folder of this machine.
#[derive(Debug, Clone)]
pub struct Repository {
    path: PathBuf,
    id: RepositoryId,
    segments_per_dir: u64,
    command: String,
}

/// What is wrong with a repository or its lock.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BorgError {
    /// The folder holds no repository.
    #[error("no Borg repository in {}: {why}", path.display())]
    NotARepository {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// Parts of the repository are gone.
    #[error("the Borg repository {} is damaged: {why}; run `borg check {0}`", path.display())]
    Damaged {
        /// The repository.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// Something in the repository cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else held Borg's lock until the deadline.
    #[error("gave up waiting for Borg's lock on {}, held by {holders}", path.display())]
    Busy {
        /// The repository.
        path: PathBuf,
        /// Who holds it.
        holders: String,
    },
    /// A signal ended the wait.
    #[error("stopped by signal {signal} while waiting for Borg's lock on {}", path.display())]
    Interrupted {
        /// The repository.
        path: PathBuf,
        /// The signal's number.
        signal: i32,
    },
    /// Borg refused to take the lock, and not because somebody else holds it.
    #[error("cannot take Borg's lock on {}: Borg says: {words}", path.display())]
    Refused {
        /// The repository.
        path: PathBuf,
        /// Borg's words.
        words: String,
    },
    /// Borg did not answer and was ended.
    #[error("cannot take Borg's lock on {}: Borg did not answer within {secs} s and was ended", path.display())]
    Mute {
        /// The repository.
        path: PathBuf,
        /// How long it had.
        secs: u64,
    },
    /// Borg failed to take the lock, or to end well after it.
    #[error("cannot {verb} Borg's lock on {}", path.display())]
    Lock {
        /// `take` or `release`.
        verb: &'static str,
        /// The repository.
        path: PathBuf,
        /// What Borg said.
        source: ExecError,
    },
}

impl Classified for BorgError {
    fn class(&self) -> Class {
        match self {
            Self::NotARepository { .. } | Self::Damaged { .. } => Class::Refused,
            Self::Busy { .. } => Class::Busy,
            Self::Interrupted { signal, .. } => Class::Signal(*signal),
            Self::Refused { .. } | Self::Mute { .. } => Class::Failed,
            Self::Read { .. } | Self::Lock { .. } => Class::Source,
        }
    }
}

impl Repository {
    /// Reads which repository is in the folder `path`.
    ///
    /// # Errors
    ///
    /// When there is none, or when it cannot be read.
    pub fn open(path: &Path) -> Result<Self, BorgError> {
        let none = |why: &str| BorgError::NotARepository { path: path.to_owned(), why: why.to_owned() };
        let file = path.join("config");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(none("there is no file `config`"));
            }
            Err(source) => return Err(BorgError::Read { path: file, source }),
        };
        let values = section(&text, "repository");
        if values.get("version") != Some(&"1") {
            return Err(none("its `config` is not that of a repository of Borg 1.x"));
        }
        let id =
            values.get("id").and_then(|id| RepositoryId::parse(id)).ok_or_else(|| none("its `config` has no id"))?;
        let segments_per_dir = values.get("segments_per_dir").and_then(|number| number.parse().ok());
        let segments_per_dir = segments_per_dir.filter(|number| *number > 0).unwrap_or(1000);
        Ok(Self { path: path.to_owned(), id, segments_per_dir, command: "borg".to_owned() })
    }

    /// How a person calls Borg on this repository, for the remedies in messages: one that lies in a namespace needs more
    /// than `borg`.
    #[must_use]
    pub fn called_as(mut self, command: &str) -> Self {
        command.clone_into(&mut self.command);
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which one it is.
    pub fn id(&self) -> &RepositoryId {
        &self.id
    }

    /// The segment in which the last complete transaction ended: it only ever grows. `None` for a repository that has
    /// had none.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn transaction(&self) -> Result<Option<u64>, BorgError> {
        let read = |source| BorgError::Read { path: self.path.clone(), source };
        let mut last = None;
        for entry in fs::read_dir(&self.path).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("hints.")?.parse().ok());
            last = last.max(number);
        }
        Ok(last)
    }

    /// Checks that every segment that the last transaction needs is there: what a half-lost disk or a half-restored
    /// repository lacks. It reads no data; `borg check` does.
    ///
    /// To be called with the lock held, when Borg has written its hints for the state as it is.
    ///
    /// # Errors
    ///
    /// [`BorgError::Damaged`] names what is missing.
    pub fn check_segments(&self) -> Result<(), BorgError> {
        let damaged = |why: String| BorgError::Damaged { path: self.path.clone(), why };
        let Some(transaction) = self.transaction()? else {
            return Err(damaged("it has no hints file, so nothing was ever written to it".to_owned()));
        };
        let file = self.path.join(format!("hints.{transaction}"));
        let bytes = fs::read(&file).map_err(|source| BorgError::Read { path: file.clone(), source })?;
        let segments = needed_segments(&bytes).ok_or_else(|| damaged(format!("{} cannot be read", file.display())))?;
        let lost: Vec<_> = segments.iter().filter(|segment| !self.has_segment(**segment)).collect();
        match lost.first() {
            None => Ok(()),
            Some(first) => Err(damaged(format!(
                "{} of the {} segments it needs are missing or empty, data/{}/{first} first",
                lost.len(),
                segments.len(),
                *first / self.segments_per_dir
            ))),
        }
    }

    fn has_segment(&self, segment: u64) -> bool {
        let folder = (segment / self.segments_per_dir).to_string();
        let file = self.path.join("data").join(folder).join(segment.to_string());
        fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.len() > SEGMENT_MAGIC_BYTES)
    }
}

impl RepositoryId {
    /// Reads an id; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        good.then(|| Self(text.to_ascii_lowercase()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The keys and values of one section of an INI file, as Python's configparser writes it.
fn section<'t>(text: &'t str, name: &str) -> HashMap<&'t str, &'t str> {
    let mut inside = false;
    let mut values = HashMap::new();
    for line in text.lines() {
        if let Some(header) = line.strip_prefix('[') {
            inside = header.strip_suffix(']') == Some(name);
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside) {
            values.insert(key.trim(), value.trim());
        }
    }
    values
}

/// The segments with live objects in a hints file: a `MessagePack` map whose `segments` maps segments to numbers of
/// objects. `None` if it is something else.
fn needed_segments(mut bytes: &[u8]) -> Option<Vec<u64>> {
    let hints = rmpv::decode::read_value(&mut bytes).ok()?;
    let key = |value: &rmpv::Value| value.as_slice() == Some(b"segments") || value.as_str() == Some("segments");
    let (_, segments) = hints.as_map()?.iter().find(|(name, _)| key(name))?;
    let live = segments.as_map()?.iter().filter(|(_, objects)| objects.as_u64().is_some_and(|objects| objects > 0));
    live.map(|(segment, _)| segment.as_u64()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINTS: &[u8] = include_bytes!("../fixtures/borg-1.2.4-hints.12");
    const CONFIG: &str = include_str!("../fixtures/borg-1.2.4-config");

    /// A repository with the segments that its hints need, each one byte longer than its magic.
    fn repository() -> (tempfile::TempDir, Repository) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config"), CONFIG).unwrap();
        fs::write(folder.path().join("hints.12"), HINTS).unwrap();
        fs::create_dir_all(folder.path().join("data/0")).unwrap();
        for segment in needed_segments(HINTS).unwrap() {
            fs::write(folder.path().join(format!("data/0/{segment}")), "BORG_SEG.").unwrap();
        }
        let repository = Repository::open(folder.path()).unwrap();
        (folder, repository)
    }

    #[test]
    fn a_repository_is_known_by_its_config() {
        let (folder, repository) = repository();
        assert_eq!(repository.id().as_str().len(), 64);
        assert_eq!(repository.transaction().unwrap(), Some(12));
        let cases = [
            ("", "its `config` is not that of a repository of Borg 1.x"),
            ("[repository]\nversion = 1\n", "its `config` has no id"),
            ("[repository]\nversion = 1\nid = 12", "its `config` has no id"),
        ];
        for (config, why) in cases {
            fs::write(folder.path().join("config"), config).unwrap();
            let error = Repository::open(folder.path()).unwrap_err().to_string();
            assert_eq!(error, format!("no Borg repository in {}: {why}", folder.path().display()));
        }
        fs::remove_file(folder.path().join("config")).unwrap();
        assert!(matches!(Repository::open(folder.path()), Err(BorgError::NotARepository { .. })));
    }

    #[test]
    fn a_lost_segment_is_noticed() {
        let (folder, repository) = repository();
        repository.check_segments().unwrap();
        let needed = needed_segments(HINTS).unwrap();
        let (first, last) = (needed.first().unwrap(), needed.last().unwrap());
        fs::write(folder.path().join(format!("data/0/{last}")), "BORG_SEG").unwrap();
        fs::remove_file(folder.path().join(format!("data/0/{first}"))).unwrap();
        let error = repository.check_segments().unwrap_err().to_string();
        let want = format!("are missing or empty, data/0/{first} first; run `borg check ");
        assert!(error.contains(&want), "{error}");
    }

    #[test]
    fn hints_that_are_no_hints_are_damage() {
        for bytes in [&b""[..], b"\x01", b"\x80", &HINTS[..40]] {
            assert_eq!(needed_segments(bytes), None, "{bytes:?}");
        }
    }
}
