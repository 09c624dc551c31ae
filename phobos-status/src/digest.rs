//! What is kept of the history: for each job the last runs and enough of the good ones to know what is usual. Its size does not
//! grow with the history's.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use phobos_site::history::{Brief, Run};

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
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
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
    /// The job that is looked for: it has memory of its own, so that none is taken for each run.
    sought: Key,
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

    fn note(&mut self, run: &Brief<'_>, now: DateTime<Utc>) {
        // A pull begins when it has its locks.
        let whole = || run.end.signed_duration_since(run.start);
        let length = run.length().map(|length| if run.job == PULL { whole() } else { length });
        if let (Some(work), 0) = (length, run.exit) {
            push(&mut self.good, Span { start: run.start, end: run.end, work }, GOOD);
        }
        let age = now.signed_duration_since(run.end);
        if length.is_some() && WINDOW.contains(&age) {
            push(&mut self.recent, run.to_run(), RECENT);
        }
        if run.exit == 0 {
            self.good_before = None;
        } else if self.last.exit == 0 {
            self.good_before = Some(self.last.clone());
        }
        run.write_to(&mut self.last);
    }
}

impl Digest {
    /// Takes note of the next run of the history; those long before `now`, or long after it, are not among the recent ones.
    pub(crate) fn note(&mut self, run: &Brief<'_>, now: DateTime<Utc>) {
        self.runs = self.runs.saturating_add(1);
        run.job.as_ref().clone_into(&mut self.sought.job);
        run.object.as_ref().clone_into(&mut self.sought.object);
        if let Some(track) = self.jobs.get_mut(&self.sought) {
            track.note(run, now);
        } else if self.jobs.len() >= JOBS {
            self.left_out = self.left_out.saturating_add(1);
        } else {
            let new = Track { last: run.to_run(), good_before: None, good: VecDeque::new(), recent: VecDeque::new() };
            self.jobs.entry(self.sought.clone()).or_insert(new).note(run, now);
        }
    }

    /// The same of a run that was in no file.
    #[cfg(test)]
    pub(crate) fn add(&mut self, run: Run, now: DateTime<Utc>) {
        self.note(&run.into(), now);
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
    use phobos_site::history::History;
    use proptest::prelude::*;

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

    proptest! {
        /// What is kept is said here once more, of all runs at once.
        #[test]
        fn what_is_kept_is_the_last_of_each_kind(
            runs in proptest::collection::vec((0..3_usize, -40_i64..3, 0..3_u8, -1..50_i64, 0..9000_u64), 0..200),
        ) {
            let now = DateTime::UNIX_EPOCH + TimeDelta::days(100);
            let runs: Vec<Run> = runs
                .into_iter()
                .map(|(job, days, exit, minutes, waited_secs)| {
                    let start = now + TimeDelta::days(days);
                    let end = start + TimeDelta::minutes(minutes);
                    Run { exit, end, waited_secs, error: "x\"".repeat(exit.into()), ..Run::new(["a", "a\\", PULL][job], "", start) }
                })
                .collect();
            let mut digest = Digest::default();
            for run in &runs {
                let line = serde_json::to_string(run).unwrap();
                digest.add(serde_json::from_str(&line).unwrap(), now);
            }
            for (key, track) in &digest.jobs {
                let of: Vec<&Run> = runs.iter().filter(|run| run.job == key.job).collect();
                let work = |run: &Run| if run.job == PULL { run.length().map(|_| run.end - run.start) } else { run.length() };
                prop_assert_eq!(Some(&&track.last), of.last());
                prop_assert_eq!(track.last_good(), of.iter().rev().find(|run| run.exit == 0).copied());
                let good = of.iter().filter(|run| run.exit == 0);
                let mut good: Vec<Span> =
                    good.filter_map(|run| Some(Span { start: run.start, end: run.end, work: work(run)? })).collect();
                prop_assert_eq!(&track.good, &good.split_off(good.len().saturating_sub(GOOD)));
                let recent = of.iter().filter(|run| work(run).is_some() && WINDOW.contains(&(now - run.end)));
                prop_assert_eq!(track.recent.iter().collect::<Vec<_>>(), recent.copied().collect::<Vec<_>>());
            }
            prop_assert_eq!(digest.runs, u64::try_from(runs.len()).unwrap());

            // From a file, where each line is read in brief, it is the same.
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("history.jsonl");
            let text: String = runs.iter().map(|run| serde_json::to_string(run).unwrap() + "\n{}\n").collect();
            std::fs::write(&path, text).unwrap();
            let mut read = Digest::default();
            read.strange = History::new(&path).each_in_brief(|run| read.note(run, now)).unwrap();
            prop_assert_eq!(read.strange, digest.runs);
            read.strange = 0;
            prop_assert_eq!(format!("{read:?}"), format!("{digest:?}"));
        }
    }
}
