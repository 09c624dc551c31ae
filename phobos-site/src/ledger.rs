//! The ledger of the off-site drives: what this machine knows of each of them, plugged in or away.
//!
//! One JSON file, replaced as a whole under a lock. It is a memory and no proof: what a drive's own record says counts more, and
//! each mirror writes down what it has found. A ledger that is missing says nothing; one that cannot be understood says nothing
//! either, and is put aside before the next one is written.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

mod checkups;
mod drills;
mod rounds;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::error::Chain;
use phobos_core::flock;
use phobos_core::fs::{Dir, Durability, FsError, make_shared};
use phobos_core::schema::SchemaVersion;
use serde::{Deserialize, Serialize};

pub use self::checkups::{Checkup, State};
pub use self::drills::{BadDrill, Drill, Drills};
pub use self::rounds::{Damage, Go, Position, Round, Rounds, Within};

/// The most that is read of it, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// How long to wait for another run that writes it; each takes a moment.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// What is appended to the name of a ledger that could not be understood.
const ASIDE: &str = ".damaged";

/// Mirrors to one drive within this time are one visit of the drive: a run that was tried again is no second month.
const VISIT: TimeDelta = TimeDelta::days(1);

/// The file that keeps the ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    path: PathBuf,
}

/// What is in the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// The version of this form.
    #[serde(default)]
    pub schema_version: SchemaVersion<1>,
    /// What is known of each drive, by its name.
    #[serde(default)]
    pub drives: BTreeMap<String, Entry>,
    /// What was mailed about the drives and has not ended since.
    #[serde(default)]
    pub told: BTreeSet<String>,
    /// How far the repository itself has been read again.
    #[serde(default)]
    pub source: Rounds,
}

/// What is known of one drive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// When a run last found it plugged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<DateTime<Utc>>,
    /// Its last complete mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// The last complete mirror of its visit before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Mirror>,
    /// How far it has been read again.
    #[serde(default)]
    pub rounds: Rounds,
    /// Whether it gives files back.
    #[serde(default)]
    pub drills: Drills,
    /// What its disk said of itself when it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkup: Option<Checkup>,
    /// When a recovery sheet was last made that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sheet: Option<DateTime<Utc>>,
}

/// A complete mirror: written, read back, and the drive closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mirror {
    /// Which of this machine's mirrors it was: they have an order whatever the clock said.
    #[serde(default)]
    pub number: u64,
    /// When it was complete.
    pub mirrored: DateTime<Utc>,
    /// The repository's id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// The repository's last transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<u64>,
    /// How full the drive was then; not known of a mirror that only the history tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Room>,
    /// How many generations before it are on the drive.
    #[serde(default)]
    pub generations: u64,
}

/// How full a drive is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// What is in use.
    pub used: u64,
    /// What may still be written.
    pub free: u64,
}

/// Why the ledger cannot be read or written; what it says is what it said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} the ledger of the drives {}", path.display())]
pub struct LedgerError {
    verb: &'static str,
    path: PathBuf,
    source: FileError,
}

/// What was wrong.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum FileError {
    Io(#[from] io::Error),
    Fs(#[from] FsError),
    Json(#[from] serde_json::Error),
}

impl Mirror {
    /// A mirror of which nothing is known but when it was complete.
    pub fn at(mirrored: DateTime<Utc>) -> Self {
        Self { number: 0, mirrored, repository: String::new(), transaction: None, room: None, generations: 0 }
    }

    /// What orders mirrors: their numbers, and for those that this machine did not count, their times.
    pub fn order(&self) -> (u64, DateTime<Utc>) {
        (self.number, self.mirrored)
    }
}

impl Book {
    /// Takes note that `drive` is plugged in.
    pub fn saw(&mut self, drive: &str, now: DateTime<Utc>) {
        self.entry(drive).seen = Some(now);
    }

    /// Takes note of what the disk of `drive` has said of itself.
    pub fn asked(&mut self, drive: &str, checkup: Checkup) {
        self.entry(drive).checkup = Some(checkup);
    }

    /// Takes note of a recovery sheet that has `drive`.
    pub fn on_sheet(&mut self, drive: &str, now: DateTime<Utc>) {
        self.entry(drive).sheet = Some(now);
    }

    /// Takes note of a complete mirror to `drive`, the last of all so far.
    pub fn record(&mut self, drive: &str, mirror: Mirror) {
        let last = self.last();
        let number = last.map_or(0, |last| last.number).saturating_add(1);
        let was_last = last.zip(self.drives.get(drive)).is_some_and(|(last, own)| own.mirror.as_ref() == Some(last));
        let entry = self.entry(drive);
        entry.seen = Some(mirror.mirrored);
        // What was damaged is copied again by each mirror.
        entry.rounds.mended();
        if let Some(old) = entry.mirror.replace(Mirror { number, ..mirror }) {
            let is_same_visit = was_last
                && entry
                    .mirror
                    .as_ref()
                    .is_some_and(|new| new.mirrored.signed_duration_since(old.mirrored).abs() < VISIT);
            if !is_same_visit {
                entry.before = Some(old);
            }
        }
    }

    /// Takes note of one go at reading `drive` again.
    pub fn has_read(&mut self, drive: &str, go: Go) {
        self.entry(drive).rounds.note(go);
    }

    /// What drills of `drive` have shown, to be changed.
    pub fn drills(&mut self, drive: &str) -> &mut Drills {
        &mut self.entry(drive).drills
    }

    /// Takes note that `drive` is plugged in, and over what it says of its last complete mirror, if it says anything: that may be
    /// another machine's, or one that was forgotten.
    pub fn learn(&mut self, drive: &str, mirror: Option<Mirror>, now: DateTime<Utc>) {
        self.saw(drive, now);
        let Some(mirror) = mirror else { return };
        let last = self.last().map(Mirror::order);
        let entry = self.entry(drive);
        let number = match (&entry.mirror, last) {
            (Some(own), _) if own.mirrored == mirror.mirrored => own.number,
            // Of those that were not counted here, the times alone tell the order.
            (_, Some((number, mirrored))) if mirrored < mirror.mirrored => number.saturating_add(1),
            _ => 0,
        };
        entry.mirror = Some(Mirror { number, ..mirror });
    }

    /// The last of all mirrors.
    fn last(&self) -> Option<&Mirror> {
        self.drives.values().filter_map(|entry| entry.mirror.as_ref()).max_by_key(|mirror| mirror.order())
    }

    fn entry(&mut self, drive: &str) -> &mut Entry {
        self.drives.entry(drive.to_owned()).or_default()
    }
}

impl Ledger {
    /// The ledger kept in the file `path`, which may not exist yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// What it says; one that is missing, or that cannot be read or understood, which is a warning, says nothing.
    pub fn read(&self) -> Book {
        let read = || -> Result<Book, FileError> {
            let folder = self.path.parent().unwrap_or(Path::new("/"));
            if !folder.is_dir() {
                return Ok(Book::default());
            }
            self.understand(&Dir::open(folder)?)
        };
        read().unwrap_or_else(|source| {
            log::warn!("{}", Chain(&self.failed("read", source)));
            Book::default()
        })
    }

    /// Changes it, and waits until the disk has it; returns what it says then. One that cannot be understood is put aside first.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written; it says what it said.
    pub fn update(&self, change: impl FnOnce(&mut Book)) -> Result<Book, LedgerError> {
        self.try_update(change).map_err(|source| self.failed("write", source))
    }

    /// The same for what has to be told in any case: that it cannot be written is a warning, and the ledger is returned as it would be.
    pub fn update_or_warn(&self, change: impl Fn(&mut Book)) -> Book {
        self.update(&change).unwrap_or_else(|error| {
            log::warn!("{}", Chain(&error));
            let mut book = self.read();
            change(&mut book);
            book
        })
    }

    fn try_update(&self, change: impl FnOnce(&mut Book)) -> Result<Book, FileError> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        make_shared(folder)?;
        let folder = Dir::open(folder)?;
        let name = self.name()?;
        let _lock = self.lock(&folder);
        let mut book = match self.understand(&folder) {
            Ok(book) => book,
            Err(error @ (FileError::Io(_) | FileError::Fs(FsError::Io { .. }))) => return Err(error),
            Err(damaged) => {
                let aside = format!("{}{ASIDE}", name.display());
                log::warn!("{}; it is {aside} now, and begins anew", Chain(&self.failed("read", damaged)));
                folder.rename(name, &folder, Path::new(&aside))?;
                Book::default()
            }
        };
        change(&mut book);
        let bytes = serde_json::to_vec_pretty(&book)?;
        folder.replace(name, &bytes, 0o644, Durability::Synced)?;
        Ok(book)
    }

    fn understand(&self, folder: &Dir) -> Result<Book, FileError> {
        match folder.read(self.name()?, LIMIT)? {
            Some(bytes) => Ok(serde_json::from_slice(&bytes)?),
            None => Ok(Book::default()),
        }
    }

    /// Takes the lock of all who write; without it the ledger is written all the same, for a mirror is to be remembered.
    fn lock(&self, folder: &Dir) -> Option<File> {
        let take = || -> Result<Option<File>, FileError> {
            let name = format!("{}.lock", self.name()?.display());
            Ok(flock::within(flock::open(folder, Path::new(&name))?, LOCK_LIMIT)?)
        };
        take().unwrap_or_else(|error| {
            log::warn!("cannot lock the ledger of the drives: {}", Chain(&error));
            None
        })
    }

    fn name(&self) -> io::Result<&Path> {
        let name = self.path.file_name().map(Path::new);
        name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no name"))
    }

    fn failed(&self, verb: &'static str, source: FileError) -> LedgerError {
        LedgerError { verb, path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn day(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(day)
    }

    #[test]
    fn what_was_written_comes_back_and_what_is_missing_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&folder.path().join("state/drives.json"));
        assert_eq!(ledger.read(), Book::default());
        let room = Some(Room { used: 5, free: 7 });
        let book = ledger.update(|book| book.record("A", Mirror { room, ..Mirror::at(day(3)) })).unwrap();
        assert_eq!(ledger.read(), book);
        let entry = &book.drives["A"];
        assert_eq!((entry.seen, entry.mirror.as_ref().unwrap().number), (Some(day(3)), 1));
        let text = fs::read_to_string(folder.path().join("state/drives.json")).unwrap();
        assert!(text.starts_with("{\n  \"schema_version\": 1,"), "{text}");
    }

    #[test]
    fn a_damaged_ledger_says_nothing_and_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drives.json");
        let ledger = Ledger::new(&path);
        for damage in
            ["", "{", "7", r#"{"schema_version": 2}"#, r#"{"drives": {"A": {"mirror": {"mirrored": "soon"}}}}"#]
        {
            fs::write(&path, damage).unwrap();
            assert_eq!(ledger.read(), Book::default(), "{damage}");
            ledger.update(|book| book.saw("A", day(1))).unwrap();
            assert_eq!(fs::read_to_string(folder.path().join("drives.json.damaged")).unwrap(), damage);
            assert_eq!(ledger.read().drives["A"].seen, Some(day(1)));
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(ledger.read(), Book::default());
        ledger.update(|book| book.saw("A", day(1))).unwrap_err();
        assert_eq!(ledger.update_or_warn(|book| book.saw("A", day(1))).drives["A"].seen, Some(day(1)));
        fs::remove_file(folder.path().join("drives.json.damaged")).unwrap();
        ledger.update(|book| book.saw("A", day(1))).unwrap();
    }

    #[test]
    fn mirrors_have_an_order_whatever_the_clock_said() {
        let mut book = Book::default();
        // A clock that was a century ahead does not make A the last for good.
        for (drive, at) in [("A", day(36_500)), ("B", day(10)), ("A", day(40))] {
            book.record(drive, Mirror::at(at));
        }
        assert_eq!(book.last().map(|last| (last.number, last.mirrored)), Some((3, day(40))));
        assert_eq!(book.drives["A"].before.as_ref().map(|before| before.number), Some(1));
    }

    #[test]
    fn a_run_that_is_tried_again_is_the_same_visit() {
        let mut book = Book::default();
        for at in [day(0), day(30), day(30) + TimeDelta::hours(2)] {
            book.record("A", Mirror::at(at));
        }
        assert_eq!(book.drives["A"].before.as_ref().map(|before| before.mirrored), Some(day(0)));
        // With another drive in between it is not.
        book.record("B", Mirror::at(day(30) + TimeDelta::hours(3)));
        book.record("A", Mirror::at(day(30) + TimeDelta::hours(4)));
        assert_eq!(book.drives["A"].before.as_ref().map(|before| before.number), Some(3));
    }

    #[test]
    fn what_the_drive_says_wins() {
        let mut book = Book::default();
        book.record("A", Mirror::at(day(1)));
        book.learn("A", Some(Mirror { transaction: Some(7), ..Mirror::at(day(1)) }), day(2));
        let mirror = book.drives["A"].mirror.clone().unwrap();
        assert_eq!((mirror.number, mirror.transaction, book.drives["A"].seen), (1, Some(7), Some(day(2))));
        let order = |book: &Book, drive: &str| book.drives[drive].mirror.as_ref().map(Mirror::order);
        book.learn("A", Some(Mirror::at(day(5))), day(6));
        assert_eq!(order(&book, "A"), Some((2, day(5))), "another machine has mirrored to it since");
        book.learn("B", Some(Mirror::at(day(3))), day(6));
        assert_eq!(order(&book, "B"), Some((0, day(3))), "before the last one");
    }

    #[test]
    fn writers_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&folder.path().join("drives.json"));
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let ledger = &ledger;
                scope.spawn(move || ledger.update(|book| book.saw(&format!("{writer}"), day(writer))).unwrap());
            }
        });
        assert_eq!(ledger.read().drives.len(), 4);
    }

    #[test]
    fn fuzz_ledger() {
        let seed = br#"{"schema_version":1,"drives":{"A":{"seen":"2026-01-02T03:04:05Z","mirror":{"number":3,"mirrored":"2026-01-02T03:04:05Z","repository":"ab","transaction":7,"room":{"used":1,"free":2},"generations":1},"rounds":{"current":{"began":"2026-01-02T03:04:05Z","ended":"2026-01-02T03:04:05Z","visits":1,"bytes":2,"position":{"segment":3}},"damage":{"at":"2026-01-02T03:04:05Z","files":1,"first":"a","unmended":["a"]}}}},"told":["overdue A"]}"#;
        phobos_fuzz::target("ledger", &[seed], |input| {
            if let Ok(mut book) = serde_json::from_slice::<Book>(input) {
                book.record("A", Mirror::at(day(1)));
                std::hint::black_box(book.last());
            }
        });
    }
}
