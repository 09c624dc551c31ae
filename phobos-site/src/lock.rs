//! The names of the locks: a closed list, so that a typing mistake is an error and not a lock of its own.

use std::fmt;
use std::str::FromStr;

pub use phobos_core::lock::{Holder, Lock, LockError, Mode, Patience};

/// The locks of this machine.
pub type Locks = phobos_core::lock::Locks<LockName>;

/// What can be locked, in the one order in which a job takes several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockName {
    /// The making of the namespace: `namespace`. Held for moments only.
    Namespace,
    /// An off-site drive: `drive/NAME`.
    Drive(Word),
    /// All holding spaces: `holding`.
    Holding,
    /// The holding space of one host: `holding/HOST`.
    Host(Word),
    /// The Borg repository: `repository`.
    Repository,
    /// A lock of the administrator's own: `local/NAME`.
    Local(Word),
}

/// A part of a lock's name: 1 to 64 bytes of `[A-Za-z0-9._-]`, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(pub(crate) String);

/// The text is no [`Word`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be part of a lock's name: use letters, digits, ., - and _, a letter or digit first")]
pub struct BadWord(String);

/// The text names no lock.
#[derive(Debug, thiserror::Error)]
#[error(
    "no lock is called {0:?}: there are holding, holding/HOST, repository, drive/NAME and, for your own, local/NAME"
)]
pub struct BadLockName(String);

impl phobos_core::lock::Name for LockName {
    const FOLDERS: &'static [&'static str] = &["drive", "holding", "local"];
}

impl FromStr for LockName {
    type Err = BadLockName;

    fn from_str(text: &str) -> Result<Self, BadLockName> {
        let name = match text.split_once('/') {
            None if text == "holding" => Some(Self::Holding),
            None if text == "repository" => Some(Self::Repository),
            Some(("holding", host)) => host.parse().ok().map(Self::Host),
            Some(("drive", name)) => name.parse().ok().map(Self::Drive),
            Some(("local", name)) => name.parse().ok().map(Self::Local),
            _ => None,
        };
        name.ok_or_else(|| BadLockName(text.to_owned()))
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace => f.write_str("namespace"),
            Self::Drive(name) => write!(f, "drive/{name}"),
            Self::Holding => f.write_str("holding"),
            Self::Host(host) => write!(f, "holding/{host}"),
            Self::Repository => f.write_str("repository"),
            Self::Local(name) => write!(f, "local/{name}"),
        }
    }
}

impl Word {
    /// The word as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Word {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if first && text.len() <= 64 && text.chars().all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadWord(text.to_owned()))
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_the_list() {
        for good in ["holding", "holding/luv", "repository", "drive/A", "local/ipod-2"] {
            assert_eq!(good.parse::<LockName>().unwrap().to_string(), good);
        }
        for bad in
            ["", "hodling", "namespace", "holding/", "holding/../x", "holding/a/b", "drive/.x", "local/-x", "x/y"]
        {
            let error = bad.parse::<LockName>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("no lock is called {bad:?}: ")), "{error}");
        }
    }

    #[test]
    fn several_are_taken_in_one_order() {
        let mut names: Vec<LockName> =
            ["local/x", "repository", "holding/luv", "holding", "drive/A"].map(|name| name.parse().unwrap()).into();
        names.sort();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["drive/A", "holding", "holding/luv", "repository", "local/x"]);
    }
}
