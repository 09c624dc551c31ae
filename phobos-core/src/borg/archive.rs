//! What is in a repository's archives, read by Borg itself: as somebody restores who has nothing but the repository.
//!
//! Borg runs confined ([`Sandbox`]): a repository may be a stranger's, and Borg is made to parse what it finds in it. It takes no
//! lock and writes nothing but its own notes, and what it is to extract, in a folder that is gone afterwards.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

mod items;
mod said;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Class, Classified};
use crate::exec::{Exec, ExecError, Invocation, Secret, Status};
use crate::sandbox::Sandbox;
use items::{FORMAT, Items};

/// How long a Borg may do nothing: the disk may have to wake up.
const STALL: Duration = Duration::from_secs(5 * 60);

/// A repository whose archives are read.
#[derive(Debug, Clone)]
pub struct Archives<'e> {
    /// What runs Borg.
    pub exec: &'e dyn Exec,
    /// The repository.
    pub repository: PathBuf,
    /// What Borg may do; its folder is where it keeps its notes.
    pub sandbox: Sandbox,
    /// The program that confines ([`Sandbox::words`]).
    pub confiner: PathBuf,
    /// The passphrase; empty where there is none.
    pub passphrase: Secret,
    /// The file with the key, where the repository does not keep it.
    pub key_file: Option<PathBuf>,
}

/// One archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Its name.
    pub name: String,
    /// When it was begun.
    pub made: DateTime<Utc>,
}

/// A regular file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its path, as Borg lists it: without a slash in front, and with `?` for each byte that is no UTF-8 ([`listed`]).
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The time of its last change, to the microsecond.
    pub mtime: Option<DateTime<Utc>>,
}

/// Anything in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The letter that `ls` has for its kind; `h` for another name of a file.
    pub kind: char,
    /// Its size in bytes.
    pub size: u64,
    /// The time of its last change, to the microsecond.
    pub mtime: Option<DateTime<Utc>>,
    /// What it leads to, if it is a link, or of which file it is another name.
    pub leads_to: Option<PathBuf>,
    /// Its path, as [`Item::path`].
    pub path: PathBuf,
}

/// Why a repository cannot be opened with what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unopened {
    /// The passphrase does not open its key.
    Passphrase,
    /// It is encrypted, and there was no passphrase.
    NoPassphrase,
    /// Its key is not there.
    NoKey,
    /// The key is not its own, or none at all.
    OtherKey,
}

/// Why archives cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The repository cannot be opened.
    #[error("{}", match why {
        Unopened::Passphrase => "the passphrase does not open the repository's key",
        Unopened::NoPassphrase => "the repository is encrypted, and there is no passphrase for it",
        Unopened::NoKey => "the repository's key is not there",
        Unopened::OtherKey => "the key is not that of the repository",
    })]
    Unopened {
        /// Why.
        why: Unopened,
    },
    /// What Borg has read is not what was written.
    #[error("Borg cannot read it: {said}")]
    Damaged {
        /// What it said.
        said: String,
    },
    /// Borg has failed for another reason, or warned where nothing may be missing.
    #[error("Borg has failed: {said}")]
    Failed {
        /// What it said.
        said: String,
    },
    /// There was no more time.
    #[error("there was no time left for Borg")]
    Time,
    /// What Borg has said cannot be understood.
    #[error("cannot understand what Borg lists")]
    Listing,
    /// Borg cannot be run, or has ended without a word of its own.
    #[error(transparent)]
    Exec(ExecError),
}

impl Classified for ArchiveError {
    fn class(&self) -> Class {
        match self {
            Self::Unopened { .. } | Self::Damaged { .. } | Self::Listing => Class::Refused,
            Self::Failed { .. } | Self::Time => Class::Failed,
            Self::Exec(error) => error.class(),
        }
    }
}

#[derive(Deserialize)]
struct Listed {
    archives: Vec<ListedArchive>,
}

#[derive(Deserialize)]
struct ListedArchive {
    name: String,
    time: String,
}

impl Archives<'_> {
    /// All archives, the newest first.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`].
    pub fn list(&self, limit: Option<Duration>) -> Result<Vec<Archive>, ArchiveError> {
        let mut bytes = Vec::new();
        let call = self.call("list", limit).arg("--json").arg(&self.repository);
        self.pour(&call, &mut |piece| bytes.extend_from_slice(piece))?;
        archives(&bytes)
    }

    /// Passes each regular file of the archive to `see`, in the archive's order.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`]; what was seen until then is in the archive.
    pub fn files(
        &self,
        archive: &Archive,
        limit: Option<Duration>,
        see: &mut dyn FnMut(Item),
    ) -> Result<(), ArchiveError> {
        self.listing(archive, &[], limit, &mut |entry| {
            // Another name of a file has no content of its own.
            if entry.kind == '-' {
                see(Item { path: entry.path, size: entry.size, mtime: entry.mtime });
            }
        })
    }

    /// Passes what the archive has at these paths and below them to `see`, in the archive's order; everything where there are none.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`]; what was seen until then is in the archive. That it has nothing there is none.
    pub fn listing(
        &self,
        archive: &Archive,
        paths: &[&Path],
        limit: Option<Duration>,
        see: &mut dyn FnMut(Entry),
    ) -> Result<(), ArchiveError> {
        let mut items = Items::default();
        let call = self.call("list", limit).arg("--format").arg(FORMAT).arg(self.place_of(archive));
        self.pour(&call.args(paths.iter().map(|path| below(path))), &mut |piece| items.feed(piece, see))?;
        if items.is_whole() { Ok(()) } else { Err(ArchiveError::Listing) }
    }

    /// Makes what the archive has at these paths and below them in the sandbox's folder, as far as its user may: of somebody
    /// else's file the copy is that user's own.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`], also for what Borg only warns of, such as an attribute that cannot be set; a part of it may be there then.
    pub fn extract(&self, archive: &Archive, paths: &[&Path]) -> Result<(), ArchiveError> {
        let call = self.call("extract", None).arg("--sparse").arg(self.place_of(archive));
        let call = call.args(paths.iter().map(|path| below(path)));
        self.exec.pour(&call, &mut |_| {}).map_err(said::understand)
    }

    /// Passes the content of these files of the archive to `heard`, one after the other in the archive's order.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`]; of files that are not there nothing comes, which is no error.
    pub fn contents(
        &self,
        archive: &Archive,
        paths: &[&Path],
        limit: Option<Duration>,
        heard: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ArchiveError> {
        let call = self.call("extract", limit).arg("--stdout").arg(self.place_of(archive));
        self.pour(&call.args(paths.iter().map(|path| full(path))), heard)
    }

    /// Reads the content of all files of the archive, to nowhere; `heard` sees it pass.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`].
    pub fn everything(&self, archive: &Archive, heard: &mut dyn FnMut(&[u8])) -> Result<(), ArchiveError> {
        let call = self.call("extract", None).arg("--stdout").arg(self.place_of(archive));
        self.pour(&call, heard)
    }

    fn place_of(&self, archive: &Archive) -> OsString {
        let mut place = self.repository.clone().into_os_string();
        place.push("::");
        place.push(&archive.name);
        place
    }

    fn call(&self, command: &str, limit: Option<Duration>) -> Invocation {
        let call = Invocation::new("borg").args(["--bypass-lock", "--log-json", command]);
        let call = self.sandbox.confine(&self.confiner, call).own_group().bound();
        // Its working directory is the folder, which may have no path that its user can follow.
        let call = call.env("HOME", ".").env("BORG_BASE_DIR", ".").env("TZ", "UTC");
        // Without it Borg asks for the network card's number.
        let call = call.env("BORG_HOST_ID", "nobody@1").env("PYTHONDONTWRITEBYTECODE", "1");
        // It has never seen the repository before, wherever that lies.
        let call = call.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        let call = call.env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes");
        let call = call.env("BORG_PASSPHRASE_FD", "0").stdin(self.passphrase.clone());
        let call = self.key_file.iter().fold(call, |call, file| call.env("BORG_KEY_FILE", file));
        match limit {
            Some(limit) => call.limit(limit),
            None => call.while_it_gets_on(STALL),
        }
    }

    fn pour(&self, call: &Invocation, heard: &mut dyn FnMut(&[u8])) -> Result<(), ArchiveError> {
        match self.exec.pour(call, heard) {
            Ok(()) => Ok(()),
            // A warning: files that are not there, or that somebody else is to be told of.
            Err(ExecError::Failed { status: Status::Code(1 | 100..=127), stderr, .. })
                if !stderr.contains(said::ZEROS) =>
            {
                Ok(())
            }
            Err(error) => Err(said::understand(error)),
        }
    }
}

fn archives(bytes: &[u8]) -> Result<Vec<Archive>, ArchiveError> {
    let listed: Listed = serde_json::from_slice(bytes).map_err(|_| ArchiveError::Listing)?;
    let archive = |listed: ListedArchive| Some(Archive { made: time(&listed.time)?, name: listed.name });
    let archives: Option<Vec<_>> = listed.archives.into_iter().map(archive).collect();
    let mut archives = archives.ok_or(ArchiveError::Listing)?;
    // Borg lists them in their order, also those of one second, of which some versions say no more.
    archives.reverse();
    archives.sort_by_key(|archive| std::cmp::Reverse(archive.made));
    Ok(archives)
}

/// A point in time as Borg writes it; without a zone it is in UTC, as Borg was told.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let zoned =
        DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"));
    let plain = || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok().map(|time| time.and_utc());
    zoned.ok().map(|time| time.with_timezone(&Utc)).or_else(plain)
}

/// The argument that names exactly this path; as Borg lists `?` for each byte that is no UTF-8, it may be one of these.
fn full(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes();
    if !bytes.contains(&b'?') {
        let mut word = OsString::from("pf:");
        word.push(path);
        return word;
    }
    let mut word = b"re:^".to_vec();
    for byte in bytes {
        match byte {
            // Python has a character of its own for each byte that is none.
            b'?' => word.extend(b"[?\x80-\xff]"),
            byte if byte.is_ascii_alphanumeric() || !byte.is_ascii() => word.push(*byte),
            byte => word.extend([b'\\', *byte]),
        }
    }
    word.extend(b"\\Z");
    OsString::from_vec(word)
}

/// The argument that names this path and all below it.
fn below(path: &Path) -> OsString {
    let mut word = OsString::from("pp:");
    word.push(path);
    word
}

/// A name as Borg lists it: with `?` for each byte that is no UTF-8.
pub fn listed(name: &OsStr) -> String {
    let chunks = name.as_bytes().utf8_chunks();
    chunks.map(|chunk| chunk.valid().to_owned() + &"?".repeat(chunk.invalid().len())).collect()
}

impl Item {
    /// A number that is the file's by its path alone, so that all files stand in a circle in an order that nobody has chosen.
    pub fn lot(path: &OsStr) -> u64 {
        xxh3_64(path.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_come_newest_first_in_either_way_of_writing_times() {
        let json = br#"{"archives":[{"name":"a","time":"2026-11-01T00:00:00.000000","x":1},{"name":"b","time":"2026-11-02T00:00:00.000000+00:00"}]}"#;
        let names: Vec<_> = archives(json).unwrap().into_iter().map(|archive| archive.name).collect();
        assert_eq!(names, ["b", "a"]);
        let json =
            br#"{"archives":[{"name":"a","time":"2026-11-01T00:00:00"},{"name":"b","time":"2026-11-01T00:00:00"}]}"#;
        assert_eq!(archives(json).unwrap().first().map(|archive| archive.name.clone()), Some("b".to_owned()));
        assert!(archives(b"{}").is_err() && archives(br#"{"archives":[{"name":"a","time":"soon"}]}"#).is_err());
    }

    #[test]
    fn a_path_is_named_exactly_but_for_bytes_that_borg_does_not_list() {
        assert_eq!(full(Path::new("a/b*")).as_bytes(), b"pf:a/b*");
        assert_eq!(full(Path::new("a.b/\u{e4}?\n")).as_bytes(), b"re:^a\\.b\\/\xc3\xa4[?\x80-\xff]\\\n\\Z");
        assert_eq!(listed(OsStr::from_bytes(b"a\xff\xfe\xc3\xa4?")), "a??\u{e4}?");
    }
}
