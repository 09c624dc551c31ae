//! What is in a repository's archives, read by Borg itself: as somebody restores who has nothing but the repository.
//!
//! Borg runs confined ([`Sandbox`]): a repository may be a stranger's, and Borg is made to parse what it finds in it. It takes no
//! lock and writes nothing but its own notes, in a folder that is gone afterwards.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Class, Classified};
use crate::exec::{Exec, ExecError, Invocation, Secret, Status};
use crate::fs::shown_text;
use crate::sandbox::Sandbox;

/// What is asked of each item, every value ended by a NUL, which no name has in it.
const FORMAT: &str = "{type}{NUL}{size}{NUL}{isomtime}{NUL}{source}{NUL}{bpath}{NUL}";

/// How many values that are.
const VALUES: usize = 5;

/// How long one value may be, in bytes: a path.
const LONGEST: usize = 64 * 1024;

/// How long a Borg may do nothing: the disk may have to wake up.
const STALL: Duration = Duration::from_secs(5 * 60);

/// What Borg says where the key cannot be had or opened, in its own names for errors, and what that means.
const KEY: [(&str, Unopened); 8] = [
    ("PassphraseWrong", Unopened::Passphrase),
    ("NoPassphraseFailure", Unopened::NoPassphrase),
    ("PasscommandFailure", Unopened::NoPassphrase),
    ("RepoKeyNotFoundError", Unopened::NoKey),
    ("KeyfileNotFoundError", Unopened::NoKey),
    ("KeyfileMismatchError", Unopened::OtherKey),
    ("KeyfileInvalidError", Unopened::OtherKey),
    ("NotABorgKeyFile", Unopened::OtherKey),
];

/// What it only warns of where `borg check --repair` has put zeros in the place of what was lost (`archive.py`, `extract_item`).
const ZEROS: &str = "damaged (all-zero) chunks";

/// What it says where what it has read is not what was written.
const DAMAGE: [&str; 8] = [
    ZEROS,
    "IntegrityError",
    "FileIntegrityError",
    "ObjectNotFound",
    "InvalidRepository",
    "CheckNeeded",
    "UnpackException",
    "Decompression",
];

/// A repository whose archives are read.
#[derive(Debug)]
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
    /// There was no more time.
    #[error("there was no time left for Borg")]
    Time,
    /// What Borg has said cannot be understood.
    #[error("cannot understand what Borg lists")]
    Listing,
    /// Borg cannot be run, or has failed for another reason.
    #[error(transparent)]
    Exec(ExecError),
}

impl Classified for ArchiveError {
    fn class(&self) -> Class {
        match self {
            Self::Unopened { .. } | Self::Damaged { .. } | Self::Listing => Class::Refused,
            Self::Time => Class::Failed,
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
        let mut items = Items::default();
        let call = self.call("list", limit).arg("--format").arg(FORMAT).arg(self.place_of(archive));
        self.pour(&call, &mut |piece| items.feed(piece, see))?;
        if items.is_broken || !items.is_whole() { Err(ArchiveError::Listing) } else { Ok(()) }
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
        let folder = &self.sandbox.folder;
        let call = self.sandbox.confine(&self.confiner, call).own_group().bound();
        let call = call.env("HOME", folder).env("BORG_BASE_DIR", folder).env("TZ", "UTC");
        // Without it Borg asks for the network card's number.
        let call = call.env("BORG_HOST_ID", "nobody@1").env("PYTHONDONTWRITEBYTECODE", "1");
        // It has never seen the repository before, wherever that lies.
        let call = call.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        let call = call.env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes");
        let call = call.env("BORG_PASSPHRASE_FD", "0").stdin(self.passphrase.clone());
        match limit {
            Some(limit) => call.limit(limit),
            None => call.while_it_gets_on(STALL),
        }
    }

    fn pour(&self, call: &Invocation, heard: &mut dyn FnMut(&[u8])) -> Result<(), ArchiveError> {
        match self.exec.pour(call, heard) {
            Ok(()) => Ok(()),
            // A warning: files that are not there, or that somebody else is to be told of.
            Err(ExecError::Failed { status: Status::Code(1 | 100..=127), stderr, .. }) if !stderr.contains(ZEROS) => {
                Ok(())
            }
            Err(error) => Err(understand(error)),
        }
    }
}

/// What Borg's end means.
fn understand(error: ExecError) -> ArchiveError {
    let said = match &error {
        ExecError::TimedOut { .. } => return ArchiveError::Time,
        ExecError::Failed { stderr, .. } => stderr,
        _ => return ArchiveError::Exec(error),
    };
    if let Some((_, why)) = KEY.iter().find(|(name, _)| said.contains(name)) {
        return ArchiveError::Unopened { why: *why };
    }
    if DAMAGE.iter().any(|name| said.contains(name)) {
        return ArchiveError::Damaged { said: message(said) };
    }
    ArchiveError::Exec(error)
}

/// What a person is told of what Borg has said: its first sentence, or else its last line.
fn message(said: &str) -> String {
    #[derive(Deserialize)]
    struct Line {
        message: String,
    }
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()).map(|line| line.message);
    let first = lines.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).next();
    // Of a long one only the end was kept; where it was raised comes first, and Borg's versions last.
    let is_error = |line: &&str| DAMAGE.iter().any(|name| line.contains(name)) && line.contains("Error: ");
    let last = || {
        let line = said.rsplit("\\n").find(is_error)?;
        line.split_once("Error: ").map(|(_, text)| text.trim_end_matches(['"', '}']).to_owned())
    };
    let text = first.or_else(last).unwrap_or_else(|| said.lines().last().unwrap_or_default().to_owned());
    shown_text(&text.chars().take(300).collect::<String>())
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

/// A name as Borg lists it: with `?` for each byte that is no UTF-8.
pub fn listed(name: &OsStr) -> String {
    let chunks = name.as_bytes().utf8_chunks();
    chunks.map(|chunk| chunk.valid().to_owned() + &"?".repeat(chunk.invalid().len())).collect()
}

/// Borg's listing, cut into items.
#[derive(Debug, Default)]
struct Items {
    rest: Vec<u8>,
    values: Vec<Vec<u8>>,
    is_broken: bool,
}

impl Items {
    fn feed(&mut self, bytes: &[u8], see: &mut dyn FnMut(Item)) {
        for byte in bytes {
            if *byte != 0 {
                if self.rest.len() < LONGEST {
                    self.rest.push(*byte);
                } else {
                    self.is_broken = true;
                }
                continue;
            }
            self.values.push(std::mem::take(&mut self.rest));
            if self.values.len() == VALUES {
                self.item(see);
                self.values.clear();
            }
        }
    }

    fn item(&mut self, see: &mut dyn FnMut(Item)) {
        let [kind, size, mtime, source, path] = self.values.as_mut_slice() else { return };
        // Another name of a file has no content of its own.
        if kind != b"-" || !source.is_empty() {
            return;
        }
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let Some(size) = text(size).and_then(|size| size.parse().ok()) else {
            self.is_broken = true;
            return;
        };
        let path = PathBuf::from(OsString::from_vec(std::mem::take(path)));
        see(Item { path, size, mtime: text(mtime).and_then(|text| time(&text)) });
    }

    /// Whether nothing is left that is no whole item.
    fn is_whole(&self) -> bool {
        self.rest.is_empty() && self.values.is_empty()
    }
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

    fn items(pieces: &[&[u8]]) -> (Vec<Item>, bool) {
        let (mut items, mut seen) = (Items::default(), Vec::new());
        for piece in pieces {
            items.feed(piece, &mut |item| seen.push(item));
        }
        (seen, items.is_whole() && !items.is_broken)
    }

    #[test]
    fn a_listing_is_cut_wherever_its_pieces_end_and_names_may_have_anything_in_them() {
        let all = b"-\x0012\x002026-11-27T15:04:05.123456\0\0backup/a\nb\xff\0d\x000\x002026-11-27T15:04:05\0\0backup\0-\x000\0x\0a\0b\0";
        for cut in 0..all.len() {
            let (seen, is_whole) = items(&[&all[..cut], &all[cut..]]);
            assert!(is_whole && seen.len() == 1, "{cut}");
            assert_eq!((seen[0].path.as_os_str().as_bytes(), seen[0].size), (&b"backup/a\nb\xff"[..], 12));
            assert_eq!(seen[0].mtime.map(|time| time.timestamp_subsec_micros()), Some(123_456));
        }
        assert!(!items(&[b"-\x0012\0"]).1 && !items(&[b"-\0x\0t\0\0p\0"]).1);
    }

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

    #[test]
    fn borgs_end_is_told_by_what_it_says() {
        let failed = |stderr: &str| {
            let invocation = Invocation::new("borg").call();
            understand(ExecError::Failed { invocation, status: Status::Code(2), stderr: stderr.to_owned() })
        };
        let json = r#"{"type": "log_message", "message": "passphrase supplied in ... is incorrect.", "msgid": "PassphraseWrong"}"#;
        assert!(matches!(failed(json), ArchiveError::Unopened { why: Unopened::Passphrase }));
        let json = r#"{"message": "Data integrity error: Chunk ab: id verification failed\nTraceback", "msgid": "IntegrityError"}"#;
        let told = failed(json).to_string();
        assert_eq!(told, "Borg cannot read it: Data integrity error: Chunk ab: id verification failed");
        let cut = r#"k.py, line 3\n    raise\nborg.helpers.errors.IntegrityError: Data integrity error: Segment entry checksum mismatch [segment 3]\n\nPlatform: Linux\nBorg: 1.2.4", "levelname": "ERROR", "name": "borg.archiver"}"#;
        assert!(failed(cut).to_string().ends_with("Segment entry checksum mismatch [segment 3]"), "{}", failed(cut));
        assert!(matches!(failed("Permission denied"), ArchiveError::Exec(_)));
    }
}
