//! Borg: what a repository is, whether it is intact, and its lock as a guard.
//!
//! The formats are those of Borg 1.x (`docs/internals/data-structures.rst`): `config` names the repository, `hints.N`
//! and `index.N` are written after the transaction that ended in segment N, `data/D/N` are the segments.

pub mod archive;
pub mod config;
pub mod descent;
pub mod hints;
pub mod index;
mod lock;
mod owner;
mod paper;
pub mod segment;
mod serve;
pub mod state;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::config::Config;
pub use self::lock::{LOCK_FILES, LockHolder, Locking, RepositoryLock};
use crate::error::{Class, Classified};
use crate::exec::ExecError;
use crate::human;

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
    #[error("cannot take Borg's lock on {}: Borg did not answer within {} and was ended", path.display(), human::duration(*limit))]
    Mute {
        /// The repository.
        path: PathBuf,
        /// How long it had.
        limit: Duration,
    },
    /// Borg did not export the key.
    #[error("cannot export the key of {}", path.display())]
    Key {
        /// The repository.
        path: PathBuf,
        /// What Borg said.
        source: ExecError,
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
            Self::NotARepository { .. } => Class::Refused,
            Self::Busy { .. } => Class::Busy,
            Self::Interrupted { signal, .. } => Class::Signal(*signal),
            Self::Refused { .. } | Self::Mute { .. } => Class::Failed,
            Self::Read { .. } | Self::Lock { .. } | Self::Key { .. } => Class::Source,
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
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(none("there is no file `config`"));
            }
            Err(source) => return Err(BorgError::Read { path: file, source }),
        };
        let config = Config::parse(&bytes).map_err(|error| none(&error.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            id: config.id,
            segments_per_dir: config.segments_per_dir,
            command: "borg".to_owned(),
        })
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

    /// How many segments share a folder below `data`.
    pub fn segments_per_dir(&self) -> u64 {
        self.segments_per_dir
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

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = include_str!("../fixtures/borg-1.2.4-config");

    #[test]
    fn a_repository_is_known_by_its_config() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config"), CONFIG).unwrap();
        let repository = Repository::open(folder.path()).unwrap();
        assert_eq!((repository.id().as_str().len(), repository.segments_per_dir()), (64, 1000));
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
}
