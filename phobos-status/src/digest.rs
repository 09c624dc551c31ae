//! What is kept of the history: for each job the last runs and enough of the good ones to know what is usual. Its size does not
//! grow with the history's.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use phobos_site::history::Run;

/// How many jobs are told apart; what a broken history has beyond that is counted alone.
const JOBS: usize = 100;

/// How many of the last runs of a job are kept, and how many of the good ones are reckoned with.
const RECENT: usize = 400;
const GOOD: usize = 30;

/// The job that pulls a host.
pub(crate) const PULL: &str = "pull";

/// How far back runs are kept, and how far ahead: a clock may be wrong by an hour.
const WINDOW: Range<TimeDelta> = TimeDelta::days(-1)..TimeDelta::days(32);

/// A job and what it works on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) job: String,
    pub(crate) object: String,
}

/// All jobs of the history.
#[derive(Debug, Clone, Default)]
pub(crate) struct Digest {
    pub(crate) jobs: BTreeMap<Key, Track>,
    /// How many runs there are.
    pub(crate) runs: u64,
    /// How many of them are of more jobs than are told apart.
    pub(crate) left_out: u64,
    /// How many lines are no run.
    pub(crate) strange: u64,
}

/// What is kept of one job.
#[derive(Debug, Clone)]
pub(crate) struct Track {
    /// Its last run.
    pub(crate) last: Run,
    /// Its last good run, if that is not its last one.
    good_before: Option<Run>,
    /// Its last good runs whose times can be true, the oldest first.
    pub(crate) good: VecDeque<Span>,
    /// Its runs of the last weeks, the oldest first.
    pub(crate) recent: VecDeque<Run>,
}

/// From when to when a run was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    /// How long it was at work, the wait for locks left out.
    pub(crate) work: TimeDelta,
}

impl Key {
    pub(crate) fn new(job: &str, object: &str) -> Self {
        Self { job: job.to_owned(), object: object.to_owned() }
    }
}

impl Track {
    /// Its last good run.
    pub(crate) fn last_good(&self) -> Option<&Run> {
        if self.last.exit == 0 { Some(&self.last) } else { self.good_before.as_ref() }
    }
}

impl Digest {
    /// Takes note of the next run of the history; those long before `now`, or long after it, are not among the recent ones.
    pub(crate) fn add(&mut self, run: Run, now: DateTime<Utc>) {
        self.runs = self.runs.saturating_add(1);
        let key = Key::new(&run.job, &run.object);
        if self.jobs.len() >= JOBS && !self.jobs.contains_key(&key) {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let whole = run.end.signed_duration_since(run.start);
        // A pull begins when it has its locks.
        let length = run.length().map(|length| if run.job == PULL { whole } else { length });
        let track = self.jobs.entry(key).or_insert_with(|| Track {
            last: run.clone(),
            good_before: None,
            good: VecDeque::new(),
            recent: VecDeque::new(),
        });
        if let (Some(work), 0) = (length, run.exit) {
            push(&mut track.good, Span { start: run.start, end: run.end, work }, GOOD);
        }
        let age = now.signed_duration_since(run.end);
        if length.is_some() && WINDOW.contains(&age) {
            push(&mut track.recent, run.clone(), RECENT);
        }
        let before = std::mem::replace(&mut track.last, run);
        if track.last.exit == 0 {
            track.good_before = None;
        } else if before.exit == 0 {
            track.good_before = Some(before);
        }
    }
}

fn push<T>(kept: &mut VecDeque<T>, one: T, most: usize) {
    if kept.len() >= most {
        kept.pop_front();
    }
    kept.push_back(one);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(job: &str, hour: i64, exit: u8) -> Run {
        let start = DateTime::UNIX_EPOCH + TimeDelta::hours(hour);
        Run { exit, end: start + TimeDelta::minutes(10), ..Run::new(job, "", start) }
    }

    #[test]
    fn the_last_good_run_is_kept_through_failures() {
        let mut digest = Digest::default();
        let now = DateTime::UNIX_EPOCH + TimeDelta::hours(10);
        for (hour, exit) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
            digest.add(run("night", hour, exit), now);
        }
        let track = &digest.jobs[&Key::new("night", "")];
        assert_eq!(track.last_good(), Some(&run("night", 1, 0)));
        assert_eq!((track.last.exit, track.good.len(), track.recent.len()), (1, 2, 4));
        digest.add(run("night", 4, 0), now);
        assert_eq!(digest.jobs[&Key::new("night", "")].last_good(), Some(&run("night", 4, 0)));
        digest.add(run("never", 4, 1), now);
        assert_eq!(digest.jobs[&Key::new("never", "")].last_good(), None);
        assert_eq!(digest.runs, 6);
    }

    #[test]
    fn it_stays_small_whatever_the_history_holds() {
        let mut digest = Digest::default();
        let now = DateTime::UNIX_EPOCH + TimeDelta::hours(100);
        for number in 0..1000 {
            digest.add(run(&format!("job{number}"), 1, 0), now);
            digest.add(run("job0", number, 0), now);
        }
        assert_eq!((digest.jobs.len(), digest.left_out), (JOBS, 900));
        let track = &digest.jobs[&Key::new("job0", "")];
        assert_eq!((track.good.len(), track.recent.len()), (GOOD, 125), "from the future, beyond a day, are none");
        // Times that cannot be true are no measure of what is usual.
        let mut digest = Digest::default();
        digest.add(Run { end: DateTime::<Utc>::MIN_UTC, ..Run::new("x", "", DateTime::<Utc>::MAX_UTC) }, now);
        let track = &digest.jobs[&Key::new("x", "")];
        assert!(track.good.is_empty() && track.recent.is_empty() && track.last_good().is_some());
    }
}
