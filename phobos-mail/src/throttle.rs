//! Storms: a unit that fails again and again is told at once, then once an hour, with how often it failed.
//!
//! What was told about a unit is kept in a file of its own, under a lock of its own, so that units do not wait for each
//! other.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use phobos_core::error::Chain;
use phobos_core::fs::{Dir, Durability, FsError, shown};
use serde::{Deserialize, Serialize};

use crate::owned::Owned;
use crate::text;

/// How long after a mail about a unit the next one must wait, in seconds.
const HOUR: i64 = 3600;

/// How many mails about failures a unit that fails and works in turn may cause in an hour.
const IN_AN_HOUR: usize = 3;

/// After how long a unit that nothing is to be told about is forgotten, in seconds.
const FORGET: i64 = 7 * 24 * HOUR;

/// How large a record may be, in bytes.
const LARGEST: u64 = 64 * 1024;

/// How long to wait for another run about the same unit.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was told about a unit, and what was not yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) unit: String,
    /// When the mails about failures of the last hour were written, in seconds since 1970.
    mails: Vec<i64>,
    /// Whether the last thing told was a failure.
    told: bool,
    held: Option<Held>,
}

/// Failures that no mail was written about yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// When the last mail was written.
    pub(crate) since: i64,
    pub(crate) count: u64,
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// The run that failed last.
    pub(crate) invocation: Option<String>,
    /// Who was to get the mail.
    pub(crate) to: Option<String>,
    /// When the unit worked again, if it did.
    pub(crate) resolved: Option<i64>,
}

/// What to do about a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Tell it now, and with it what was held back.
    Tell(Option<Held>),
    /// Hold it back: this many are by now.
    Hold(u64),
}

/// What to do about a recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Nothing: no failure was told since the last one.
    NoNews,
    /// Nothing now: the failures before it are held back themselves.
    Noted,
    /// Tell it now, and with it what was held back.
    Tell(Option<Held>),
}

/// The record of one unit, locked.
#[derive(Debug)]
#[must_use = "dropping it lets others change the record"]
pub(crate) struct Open {
    folder: Arc<Owned>,
    name: PathBuf,
    _lock: File,
    pub(crate) record: Record,
}

impl Held {
    /// Adds what the journal knows, which is when the unit failed: systemd does not start one unit twice at a time, so that
    /// nobody was called for some failures, and for others late. A journal that has not even those does not reach back so far.
    pub(crate) fn with(&self, failures: &[i64]) -> Self {
        let unheard: Vec<_> = failures.iter().copied().filter(|at| *at > self.since).collect();
        let mut held = self.clone();
        let count = u64::try_from(unheard.len()).unwrap_or_default();
        if let (Some(first), Some(last)) = (unheard.iter().min(), unheard.iter().max()) {
            if count >= held.count {
                (held.count, held.first, held.last) = (count, *first, *last);
            }
        }
        held
    }
}

impl Record {
    /// Takes note of a failure at the moment `now`.
    pub(crate) fn failed(&mut self, now: i64, invocation: Option<&str>, to: Option<&str>) -> Verdict {
        self.forget(now);
        let allowed = if self.told { 1 } else { IN_AN_HOUR };
        if self.mails.len() < allowed {
            self.mails.push(now);
            self.told = true;
            return Verdict::Tell(self.held.take());
        }
        let since = self.mails.last().copied().unwrap_or(now);
        let new = Held { since, count: 0, first: now, last: now, invocation: None, to: None, resolved: None };
        let held = self.held.get_or_insert(new);
        held.count = held.count.saturating_add(1);
        held.last = now;
        held.invocation = invocation.map(str::to_owned);
        held.to = to.map(str::to_owned);
        held.resolved = None;
        Verdict::Hold(held.count)
    }

    /// Takes note that the unit works again.
    pub(crate) fn resolved(&mut self, now: i64) -> Recovery {
        if std::mem::take(&mut self.told) {
            return Recovery::Tell(self.held.take());
        }
        match &mut self.held {
            Some(held) if held.resolved.is_none() => {
                held.resolved = Some(now);
                Recovery::Noted
            }
            _ => Recovery::NoNews,
        }
    }

    /// What was held back and may be told by now.
    pub(crate) fn due(&mut self, now: i64) -> Option<Held> {
        self.forget(now);
        if !self.mails.is_empty() {
            return None;
        }
        let held = self.held.take()?;
        self.mails.push(now);
        self.told = held.resolved.is_none();
        Some(held)
    }

    /// Whether nothing is lost if the record goes.
    fn is_spent(&self) -> bool {
        self.held.is_none() && self.mails.is_empty() && !self.told
    }

    /// Forgets mails of more than an hour ago, and such of the future: the clock was wrong then or is now.
    fn forget(&mut self, now: i64) {
        self.mails.retain(|mail| (0..HOUR).contains(&now.saturating_sub(*mail)));
    }
}

/// Opens the record of `unit` below `folder`.
///
/// # Errors
///
/// When its files cannot be used, or another run is at it for too long.
pub(crate) fn open(folder: &Path, unit: &str) -> Result<Open> {
    let folder = Arc::new(Owned::make(folder)?.folder(Path::new("units"))?);
    let name = PathBuf::from(format!("{:016x}.json", text::fingerprint(unit)));
    let lock = lock(&folder, &name, PATIENCE)?;
    let mut record = read(&folder, &name)?;
    unit.clone_into(&mut record.unit);
    Ok(Open { folder, name, _lock: lock, record })
}

/// Opens the records of all units below `folder` that nobody else is at, and removes those that are of no use any more.
///
/// # Errors
///
/// When the folder cannot be read.
pub(crate) fn open_all(folder: &Path, now: i64) -> Result<Vec<Open>> {
    let folder = Arc::new(Owned::make(folder)?.folder(Path::new("units"))?);
    let mut all = Vec::new();
    for entry in folder.act(Dir::entries)?? {
        let name = PathBuf::from(entry.name);
        if name.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let opened = lock(&folder, &name, Duration::ZERO).and_then(|lock| {
            let record = read(&folder, &name)?;
            Ok(Open { folder: Arc::clone(&folder), name: name.clone(), record, _lock: lock })
        });
        match opened {
            Ok(open) if open.record.is_spent() && age(&folder, &name, now)? > FORGET => {
                if let Err(error) = folder.act(|dir| dir.remove(&name))? {
                    log::warn!("{}", Chain(&error));
                }
            }
            Ok(open) => all.push(open),
            Err(error) => log::warn!("leaving out what was held back about a unit: {error:#}"),
        }
    }
    Ok(all)
}

/// How long ago `name` was written, in seconds.
fn age(folder: &Owned, name: &Path, now: i64) -> Result<i64> {
    Ok(folder.act(|dir| dir.stat(name))??.map_or(0, |stat| now.saturating_sub(stat.mtime.0)))
}

/// Reads a record; one that cannot be understood counts as none, for then more is told rather than less.
fn read(folder: &Owned, name: &Path) -> Result<Record> {
    let anew = |why: String| {
        log::warn!("{} holds no record, starting anew: {why}", shown(&folder.path().join(name)));
        Record::default()
    };
    match folder.act(|dir| dir.read(name, LARGEST))? {
        Ok(None) => Ok(Record::default()),
        Ok(Some(bytes)) => {
            let record = serde_json::from_slice(&bytes);
            Ok(record.unwrap_or_else(|error| anew(text::line(&error.to_string(), 200))))
        }
        Err(error @ FsError::Io { .. }) => Err(error.into()),
        Err(error) => Ok(anew(Chain(&error).to_string())),
    }
}

/// Takes the lock beside the record `name`, which stays: two runs could else lock two files of one name.
fn lock(folder: &Owned, name: &Path, patience: Duration) -> Result<File> {
    let lock = name.with_extension("lock");
    let failed = || format!("cannot lock {}", shown(&folder.path().join(&lock)));
    let file = folder.act(|dir| {
        if dir.stat(&lock)?.is_none() {
            match dir.create_new(&lock, 0o600) {
                // Another run was first.
                Err(FsError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made,
            }
        }
        dir.open_file(&lock)
    })?;
    let file = file.with_context(failed)?;
    let began = Instant::now();
    loop {
        match fs2::FileExt::try_lock_exclusive(&file) {
            Ok(()) => return Ok(file),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && began.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error).with_context(failed),
        }
    }
}

impl Open {
    /// Writes the record back.
    ///
    /// # Errors
    ///
    /// When the disk does not take it; the old one stands.
    pub(crate) fn save(&self) -> Result<()> {
        let bytes = serde_json::to_vec(&self.record)?;
        // If a power cut takes the record that a failure was told, more is told rather than less; a sync takes its time.
        let only_tells = self.record.told && self.record.held.is_none();
        let durability = if only_tells { Durability::Loose } else { Durability::Synced };
        let written = self.folder.act(|dir| dir.replace(&self.name, &bytes, 0o600, durability))?;
        Ok(written?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_700_000_000;

    fn fail(record: &mut Record, second: i64) -> Verdict {
        record.failed(START + second, None, None)
    }

    #[test]
    fn two_hundred_failures_in_a_minute_are_one_mail_and_a_summary() {
        let mut record = Record::default();
        assert_eq!(fail(&mut record, 0), Verdict::Tell(None));
        for number in 1..200 {
            let number_held = u64::try_from(number).unwrap();
            assert_eq!(fail(&mut record, number * 60 / 200), Verdict::Hold(number_held));
            assert_eq!(record.due(START + 60), None);
        }
        let held = record.due(START + 3600).unwrap();
        assert_eq!((held.count, held.first, held.last), (199, START, START + 59));
        assert_eq!(record.due(START + 3601), None);
        assert_eq!(fail(&mut record, 3700), Verdict::Hold(1), "the summary was the mail of this hour");
        assert!(matches!(fail(&mut record, 7300), Verdict::Tell(Some(Held { count: 1, .. }))));
    }

    #[test]
    fn failures_that_nobody_was_called_for_count() {
        let mut record = Record::default();
        fail(&mut record, 0);
        fail(&mut record, 20);
        let held = record.due(START + 3600).unwrap();
        let known = held.with(&[-5, 0, 5, 10, 20, 30].map(|second| START + second));
        assert_eq!((known.count, known.first, known.last), (4, START + 5, START + 30));
        let late = held.with(&[START + 15]);
        assert_eq!((late.count, late.first, late.last), (1, START + 15, START + 15), "called late for it");
        assert_eq!(held.with(&[]), held, "the journal may be gone");
    }

    #[test]
    fn a_unit_that_works_again_is_told_once() {
        let mut record = Record::default();
        assert_eq!(record.resolved(START), Recovery::NoNews, "it never failed");
        fail(&mut record, 0);
        fail(&mut record, 5);
        assert!(matches!(record.resolved(START + 9), Recovery::Tell(Some(Held { count: 1, .. }))));
        assert_eq!(record.resolved(START + 10), Recovery::NoNews);
        assert_eq!(fail(&mut record, 20), Verdict::Tell(None), "a new failure is told at once");
    }

    #[test]
    fn a_unit_that_fails_and_works_in_turn_is_a_storm_too() {
        let mut record = Record::default();
        let mut told = 0;
        for second in 0..60 {
            told += usize::from(matches!(fail(&mut record, second), Verdict::Tell(_)));
            record.resolved(START + second);
        }
        assert_eq!(told, IN_AN_HOUR);
        let held = record.due(START + 4000).unwrap();
        assert_eq!((held.count, held.resolved), (57, Some(START + 59)));
        assert_eq!(record.resolved(START + 4001), Recovery::NoNews, "the summary has told it");
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nothing_up() {
        let mut record = Record::default();
        fail(&mut record, 100_000);
        assert_eq!(fail(&mut record, 0), Verdict::Tell(None));
    }

    #[test]
    fn a_record_outlives_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(folder.path(), "a.service").unwrap();
        fail(&mut first.record, 0);
        first.save().unwrap();
        drop(first);
        let mut second = open(folder.path(), "a.service").unwrap();
        assert_eq!(fail(&mut second.record, 1), Verdict::Hold(1));
        second.save().unwrap();
        assert!(open_all(folder.path(), START).unwrap().is_empty(), "somebody is at it");
        drop(second);
        let mut all = open_all(folder.path(), START).unwrap();
        assert_eq!(all[0].record.unit, "a.service");
        assert_eq!(all[0].record.due(START + 3600).unwrap().count, 1);
    }

    #[test]
    fn a_broken_record_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), "a.service").unwrap();
        std::fs::write(first.folder.path().join(&first.name), "{").unwrap();
        drop(first);
        assert!(open(folder.path(), "a.service").unwrap().record.is_spent());
    }
}
