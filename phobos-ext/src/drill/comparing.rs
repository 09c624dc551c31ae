//! What Borg restores, compared with the holding spaces as it comes; nothing of it is kept.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use phobos_core::borg::archive;
use phobos_core::fs::{Dir, Kind};

use super::Candidate;

/// What has become of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is what the holding space has.
    Same,
    /// The holding space has another one meanwhile, or none: Borg has proved what it gave back all the same.
    Changed,
    /// It has another content than the one that the archive was made of.
    Other,
}

/// Files that come one after the other.
#[derive(Debug)]
pub(crate) struct Comparing<'d> {
    holding: &'d Dir,
    /// When the archive was begun.
    made: DateTime<Utc>,
    files: Vec<&'d Candidate>,
    /// How many bytes of the current one have come.
    offset: u64,
    ours: Option<File>,
    differs: bool,
    outcomes: Vec<Outcome>,
    /// How many bytes have come.
    pub(crate) bytes: u64,
    buffer: Vec<u8>,
}

impl<'d> Comparing<'d> {
    pub(crate) fn new(holding: &'d Dir, made: DateTime<Utc>, files: Vec<&'d Candidate>) -> Self {
        let (ours, buffer, outcomes) = (None, Vec::new(), Vec::new());
        let mut comparing = Self { holding, made, files, offset: 0, ours, differs: false, outcomes, bytes: 0, buffer };
        comparing.open();
        comparing
    }

    /// Takes what comes next; more than was asked for counts for nothing.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(current) = self.current().filter(|_| !bytes.is_empty()) {
            let left = current.item.size.saturating_sub(self.offset);
            let (piece, rest) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            bytes = rest;
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.offset = self.offset.saturating_add(length);
            self.bytes = self.bytes.saturating_add(length);
            if let Some(ours) = &mut self.ours {
                self.buffer.resize(piece.len(), 0);
                self.differs |= ours.read_exact(&mut self.buffer).is_err() || self.buffer != piece;
            }
            if self.offset >= current.item.size {
                self.close();
            }
        }
    }

    /// What has become of the files that came, in the archive's order.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&'d Candidate, Outcome)> {
        self.files.iter().copied().zip(self.outcomes.iter().copied())
    }

    /// The file that is next, or that has come in part.
    pub(crate) fn current(&self) -> Option<&'d Candidate> {
        self.files.get(self.outcomes.len()).copied()
    }

    /// Begins with the next file; of one without content nothing will come.
    fn open(&mut self) {
        while let Some(current) = self.current() {
            (self.offset, self.differs, self.ours) = (0, false, self.ours_of(current));
            if current.item.size > 0 {
                break;
            }
            self.outcomes.push(if self.ours.take().is_some() { Outcome::Same } else { Outcome::Changed });
        }
    }

    fn close(&mut self) {
        let outcome = match self.ours.take() {
            None => Outcome::Changed,
            Some(_) if !self.differs => Outcome::Same,
            // Some programs give a file its old time back; then the system knows better.
            Some(file) if file.metadata().is_ok_and(|now| now.ctime() >= self.made.timestamp()) => Outcome::Changed,
            Some(_) => Outcome::Other,
        };
        self.outcomes.push(outcome);
        self.open();
    }

    /// The holding space's file, if it is still the one that the archive has, by its size and time.
    fn ours_of(&self, candidate: &Candidate) -> Option<File> {
        let path = real(self.holding, &candidate.inside)?;
        let stat = self.holding.stat(&path).ok().flatten().filter(|stat| stat.kind == Kind::File)?;
        let (seconds, nanos) = stat.mtime;
        let mtime = DateTime::<Utc>::from_timestamp(seconds, nanos)?.timestamp_micros();
        let is_same = stat.size == candidate.item.size
            // Borg writes whole microseconds, and rounds.
            && candidate.item.mtime.is_some_and(|time| time.timestamp_micros().abs_diff(mtime) <= 1);
        is_same.then(|| self.holding.open_file(&path).ok()).flatten()
    }
}

/// The path that Borg has listed as this one, if there is one and no other.
fn real(holding: &Dir, path: &Path) -> Option<PathBuf> {
    let mut real = PathBuf::new();
    for part in path {
        if !part.as_encoded_bytes().contains(&b'?') {
            real.push(part);
            continue;
        }
        let folder =
            if real.as_os_str().is_empty() { holding.entries() } else { holding.open_dir(&real).ok()?.entries() };
        let mut found = folder.ok()?.into_iter().filter(|entry| archive::listed(&entry.name).as_str() == part);
        let (name, None) = (found.next()?.name, found.next()) else { return None };
        real.push(name);
    }
    Some(real)
}
