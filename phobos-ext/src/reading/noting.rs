//! What the ledger is told of a go at reading again: at its end, and now and then before, so that hours of reading are not lost with
//! the process.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use phobos_site::ledger;

use super::Reading;
use crate::checksums;

/// How often it is told.
const EVERY: Duration = Duration::from_secs(60);

/// A go that is told of.
pub(crate) struct Notes<'n> {
    began: DateTime<Utc>,
    /// Whether it begins with the beginning of all.
    anew: bool,
    write: &'n dyn Fn(ledger::Go),
    every: Duration,
    /// When it was last told, and what of it.
    at: Instant,
    bytes: u64,
    damaged: usize,
    more: u64,
    continues: bool,
}

impl Notes<'static> {
    /// Begins one that is told at its end alone, by whom it is handed to.
    pub(crate) fn of_the_end(anew: bool) -> Self {
        Self { every: Duration::MAX, ..Notes::begin(anew, &drop) }
    }
}

impl<'n> Notes<'n> {
    /// Begins one; what it has read is handed to `write` now and then.
    pub(crate) fn begin(anew: bool, write: &'n dyn Fn(ledger::Go)) -> Self {
        let (began, at) = (Utc::now(), Instant::now());
        Self { began, anew, write, every: EVERY, at, bytes: 0, damaged: 0, more: 0, continues: false }
    }

    /// The same, as often as that.
    #[cfg(test)]
    pub(crate) fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// Tells of it, if it is time.
    pub(super) fn pass(&mut self, reading: &Reading) {
        if self.at.elapsed() >= self.every {
            let go = self.since(reading);
            (self.write)(go);
        }
    }

    /// What was not told yet, at the end.
    pub(crate) fn end(mut self, reading: &Reading) -> ledger::Go {
        self.since(reading)
    }

    fn since(&mut self, reading: &Reading) -> ledger::Go {
        let new = reading.damaged.get(self.damaged..).unwrap_or_default().iter();
        let go = ledger::Go {
            began: self.began,
            ended: Utc::now(),
            bytes: reading.bytes.saturating_sub(self.bytes),
            anew: self.anew && !self.continues,
            continues: self.continues,
            whole: reading.whole,
            position: reading.position.clone(),
            damaged: new.map(|damaged| (checksums::to_text(&damaged.path), damaged.why.clone())).collect(),
            more: reading.more.saturating_sub(self.more),
        };
        (self.bytes, self.damaged, self.more) = (reading.bytes, reading.damaged.len(), reading.more);
        (self.at, self.continues) = (Instant::now(), true);
        go
    }
}
