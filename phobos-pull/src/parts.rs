//! What lies in a holding space and is no file of the host's: where rsync makes files, and what it has of those that were
//! cut off.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use crate::walk::{self, Step};

/// How the two names below begin: the rest is nobody's to know beforehand.
const PREFIX: &str = ".phobos-";

/// The names of what is phobos's own in a holding space. They are other ones after each good pull, so that a host that has
/// something of such a name itself, such as what was given back to it after a failure, has it pulled like anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Scratch(String);

impl Scratch {
    /// Names that nobody has.
    pub(crate) fn new() -> Self {
        // The standard library's hashes are keyed by chance.
        Self(format!("{:016x}", RandomState::new().hash_one(std::process::id())))
    }

    /// Where rsync keeps what it has of a file that was cut off: below each folder, and never deleted with it.
    pub(crate) fn partial(&self) -> String {
        format!("{PREFIX}partial-{}", self.0)
    }

    /// Where rsync makes files before they get their names: at the top of the holding space, and only while a pull runs.
    pub(crate) fn temporary(&self) -> String {
        format!("{PREFIX}temp-{}", self.0)
    }
}

impl From<Scratch> for String {
    fn from(scratch: Scratch) -> Self {
        scratch.0
    }
}

/// What cannot be a part of a name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} can be no part of a name")]
pub(crate) struct BadScratch(String);

impl TryFrom<String> for Scratch {
    type Error = BadScratch;

    fn try_from(text: String) -> Result<Self, BadScratch> {
        if (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Self(text))
        } else {
            Err(BadScratch(text))
        }
    }
}

/// The name of a file that rsync was making at `path`: it makes `two` as `two.z98eIa` in a folder of its own.
pub(crate) fn made(path: &str) -> Option<&str> {
    let (_, below) = path.rsplit_once(&format!("/{PREFIX}temp-"))?;
    let (name, _) = below.split_once('/')?.1.rsplit_once('.')?;
    Some(name)
}

/// Counts what is at `path` and below, folders and parts left out; nothing there is 0 files.
///
/// # Errors
///
/// When a folder cannot be read.
pub(crate) fn count(path: &Path, scratch: &Scratch) -> io::Result<u64> {
    let kind = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?.file_type(),
    };
    if !kind.is_dir() {
        return Ok(1);
    }
    let (mut files, partial) = (0, scratch.partial());
    walk::through(walk::open(path)?, &mut |_, name, kind| {
        if kind != FileType::Directory {
            files += 1;
            return Ok(Step::Over);
        }
        Ok(if name.to_bytes() == partial.as_bytes() { Step::Over } else { Step::In })
    })?;
    Ok(files)
}

/// Removes the parts of files that were cut off and that no later pull has completed.
///
/// # Errors
///
/// When a folder cannot be read or removed.
pub(crate) fn remove(path: &Path, scratch: &Scratch) -> io::Result<()> {
    let partial = scratch.partial();
    walk::through(walk::open(path)?, &mut |folder, name, kind| {
        if kind != FileType::Directory || name.to_bytes() != partial.as_bytes() {
            return Ok(Step::In);
        }
        walk::remove(folder, name)?;
        Ok(Step::Over)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_on_disk_are_counted_without_parts_and_without_following_links() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let scratch = Scratch::new();
        assert_eq!(count(&path("none"), &scratch).unwrap(), 0);
        let part = format!("a/{}", scratch.partial());
        // What looks like it, such as an earlier one that was given back to the host, is a file like any other.
        for place in [part.as_str(), "a/.phobos-partial", "a/.phobos-partial-0", "a/.phobos-temp-0"] {
            fs::create_dir_all(path(place)).unwrap();
            fs::write(path(place).join("x"), "").unwrap();
        }
        fs::write(path("a/f"), "").unwrap();
        fs::write(path("a").join(Scratch::new().partial()), "").unwrap();
        std::os::unix::fs::symlink("/", path("a/link")).unwrap();
        assert_eq!(count(folder.path(), &scratch).unwrap(), 6);
        assert_eq!(count(&path("a/f"), &scratch).unwrap(), 1);
        remove(folder.path(), &scratch).unwrap();
        assert!(!path(&part).exists());
        assert_eq!(count(folder.path(), &Scratch::new()).unwrap(), 6);
    }

    #[test]
    fn names_are_new_each_time_and_lead_nowhere() {
        assert_ne!(Scratch::new(), Scratch::new());
        let read = |text: &str| serde_json::from_str::<Scratch>(text).is_ok();
        assert!(read(&serde_json::to_string(&Scratch::new()).unwrap()));
        assert!([r#""""#, r#""../x""#, r#""a/b""#, r#""a b""#].iter().all(|wrong| !read(wrong)));
    }
}
