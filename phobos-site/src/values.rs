//! Values of several settings, checked while they are read: paths, lengths of time, sizes.

use std::ops::Deref;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// An absolute path without `..` and `.` parts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathBuf")]
pub struct AbsolutePath(PathBuf);

/// A length of time, written as in `12h` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// A size as rsync takes it: a number of bytes, or one with K, M, G or T, `iB` or `B` behind it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(String);

impl AbsolutePath {
    /// A path of our own, known to be absolute.
    pub(crate) fn fixed(path: &str) -> Self {
        Self(path.into())
    }

    /// Where it really is, links on the way followed; the same if nothing is there.
    pub(crate) fn real(&self) -> Self {
        std::fs::canonicalize(&self.0).map_or_else(|_| self.clone(), Self)
    }

    /// This path, which is below `from`, below `to` instead.
    pub(crate) fn moved(&self, from: &Self, to: &Self) -> Self {
        self.0.strip_prefix(&from.0).map_or_else(|_| self.clone(), |rest| Self(to.0.join(rest)))
    }
}

impl TryFrom<PathBuf> for AbsolutePath {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        let text = path.display();
        if !path.is_absolute() {
            return Err(format!("{text} is not an absolute path"));
        }
        if path.components().any(|part| part == Component::ParentDir)
            || path.as_os_str().as_encoded_bytes().contains(&0)
        {
            return Err(format!("{text} must not have .. in it"));
        }
        // Joining the parts anew drops `.` and doubled slashes, so that equal paths are equal text.
        Ok(Self(path.components().collect()))
    }
}

impl Deref for AbsolutePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for AbsolutePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match humantime::parse_duration(&text) {
            Ok(duration) => Ok(Self(duration)),
            Err(error) => Err(format!("{text:?} is no length of time such as 12h: {error}")),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let unit = text.get(digits..).unwrap_or_default().to_ascii_lowercase();
        let known = ["", "b", "k", "kb", "kib", "m", "mb", "mib", "g", "gb", "gib", "t", "tb", "tib"];
        if digits > 0 && known.contains(&unit.as_str()) && text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no size such as 4GiB"))
        }
    }
}

impl Size {
    /// A size that is known to be one.
    pub(crate) fn fixed(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The size as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
