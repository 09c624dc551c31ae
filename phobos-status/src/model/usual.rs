//! What is usual for a job: when it starts and ends, how long it takes, how often it runs; by its last good runs.

use chrono::{Datelike, TimeDelta, Timelike, Weekday};
use serde::Serialize;

use crate::digest::Span;
use crate::zone::Zone;

/// Minutes in a day.
pub(crate) const DAY: i64 = 24 * 60;

/// How many runs are needed to know how often it runs.
const FOR_INTERVAL: usize = 3;

/// The usual run of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Usual {
    /// The median start, in minutes after midnight on the wall.
    pub(crate) start: i64,
    /// Where 95 of 100 runs have ended, in minutes after the same midnight.
    pub(crate) end: i64,
    /// The median length, and that which 95 of 100 keep to, waits left out; in seconds.
    pub(crate) seconds: i64,
    pub(crate) most_seconds: i64,
    /// The median time from one start to the next, in seconds.
    pub(crate) every_seconds: Option<i64>,
    /// The day of the week, if it is always the same.
    #[serde(skip)]
    pub(crate) weekday: Option<Weekday>,
    /// Of how many runs this is known.
    pub(crate) runs: usize,
}

impl Usual {
    /// What is usual by these good runs, the oldest first; `None` without any.
    pub(crate) fn of(runs: &[Span], zone: &Zone) -> Option<Self> {
        let minutes = |span: &Span| {
            let local = zone.local(span.start);
            i64::from(local.hour()).saturating_mul(60).saturating_add(i64::from(local.minute()))
        };
        let mut starts: Vec<i64> = runs.iter().map(minutes).collect();
        let noon = after_largest_gap(&starts);
        // Around midnight 23:50 is before 00:10.
        let unrolled = |minutes: i64| if minutes < noon { minutes.saturating_add(DAY) } else { minutes };
        let length = |span: &Span| span.end.signed_duration_since(span.start).num_seconds().max(0);
        let mut ends: Vec<i64> =
            runs.iter().map(|span| unrolled(minutes(span)).saturating_add(up(length(span)))).collect();
        let mut lengths: Vec<i64> = runs.iter().map(|span| span.work.num_seconds().max(0)).collect();
        for start in &mut starts {
            *start = unrolled(*start);
        }
        for sorted in [&mut starts, &mut ends, &mut lengths] {
            sorted.sort_unstable();
        }
        let (start, end) = (median(&starts)?, most(&ends)?);
        let whole_days = start.div_euclid(DAY).saturating_mul(DAY);
        let mut between: Vec<i64> = runs
            .windows(2)
            .filter_map(|pair| Some(pair.last()?.start.signed_duration_since(pair.first()?.start).num_seconds()))
            // The clock was set.
            .filter(|seconds| *seconds > 0)
            .collect();
        between.sort_unstable();
        let every_seconds = if runs.len() >= FOR_INTERVAL { median(&between) } else { None };
        Some(Self {
            start: start.saturating_sub(whole_days),
            end: end.saturating_sub(whole_days).max(start.saturating_sub(whole_days)),
            seconds: median(&lengths)?,
            most_seconds: most(&lengths)?,
            every_seconds,
            weekday: every_seconds.filter(|every| *every > 5 * 86_400).and_then(|_| one_weekday(runs, zone)),
            runs: runs.len(),
        })
    }

    /// How long it should take at most.
    pub(crate) fn most(&self) -> TimeDelta {
        TimeDelta::try_seconds(self.most_seconds).unwrap_or_default()
    }

    /// How long it takes.
    pub(crate) fn length(&self) -> TimeDelta {
        TimeDelta::try_seconds(self.seconds).unwrap_or_default()
    }

    /// How often it runs.
    pub(crate) fn every(&self) -> Option<TimeDelta> {
        self.every_seconds.and_then(TimeDelta::try_seconds)
    }
}

/// Whole minutes, rounded up.
fn up(seconds: i64) -> i64 {
    seconds.saturating_add(59).div_euclid(60)
}

/// Where the day begins for starts that lie around the clock: behind the longest time without any.
fn after_largest_gap(starts: &[i64]) -> i64 {
    let mut sorted = starts.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let Some(first) = sorted.first().copied() else { return 0 };
    let next = sorted.iter().skip(1).copied().chain([first.saturating_add(DAY)]);
    let gaps = sorted.iter().zip(next).map(|(one, next)| (next.saturating_sub(*one), next));
    gaps.max().map_or(0, |(_, next)| next.rem_euclid(DAY))
}

fn median(sorted: &[i64]) -> Option<i64> {
    sorted.get(sorted.len() / 2).copied()
}

/// The value that 95 of 100 do not exceed.
fn most(sorted: &[i64]) -> Option<i64> {
    let rank = sorted.len().saturating_mul(95).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

fn one_weekday(runs: &[Span], zone: &Zone) -> Option<Weekday> {
    let mut days = runs.iter().rev().take(8).map(|span| zone.local(span.start).weekday());
    let first = days.next()?;
    days.all(|day| day == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::tests::{berlin, time};
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;

    fn span(start: &str, minutes: i64) -> Span {
        let start: DateTime<Utc> = time(start);
        Span { start, end: start + TimeDelta::minutes(minutes), work: TimeDelta::minutes(minutes) }
    }

    #[test]
    fn a_nightly_job_keeps_its_hour_when_the_clocks_change() {
        // 03:00 in Berlin, before and after 29 March 2026; once it took long.
        let days = ["03-26T02", "03-27T02", "03-28T02", "03-29T01", "03-30T01", "03-31T01"];
        let mut runs: Vec<Span> = days.iter().map(|day| span(&format!("2026-{day}:00:00Z"), 75)).collect();
        let usual = Usual::of(&runs, &berlin()).unwrap();
        assert_eq!((usual.start, usual.end, usual.seconds), (180, 255, 75 * 60));
        assert_eq!((usual.every_seconds, usual.weekday), (Some(86_400), None));
        runs.push(span("2026-04-01T01:00:00Z", 300));
        let usual = Usual::of(&runs, &berlin()).unwrap();
        assert_eq!((usual.start, usual.end, usual.seconds, usual.most_seconds), (180, 480, 75 * 60, 300 * 60));
    }

    #[test]
    fn around_midnight_the_median_is_no_noon() {
        let runs = ["11-01T22:50", "11-02T23:10", "11-03T22:58"].map(|at| span(&format!("2026-{at}:00Z"), 30));
        let usual = Usual::of(&runs, &berlin()).unwrap();
        assert_eq!((usual.start, usual.end), (23 * 60 + 58, 24 * 60 + 40));
    }

    #[test]
    fn a_weekly_job_has_its_day_and_little_is_known_of_one_run() {
        let runs = ["11-01", "11-08", "11-15"].map(|at| span(&format!("2026-{at}T06:00:00Z"), 330));
        let usual = Usual::of(&runs, &berlin()).unwrap();
        assert_eq!((usual.weekday, usual.every_seconds), (Some(Weekday::Sun), Some(7 * 86_400)));
        let usual = Usual::of(&runs[..1], &berlin()).unwrap();
        assert_eq!((usual.runs, usual.weekday, usual.every_seconds, usual.start), (1, None, None, 7 * 60));
        assert_eq!(Usual::of(&[], &berlin()), None);
    }

    proptest! {
        #[test]
        fn whatever_ran_the_window_is_one_of_a_day(runs in proptest::collection::vec((0_i64..4_000_000_000, 0_i64..3_000_000), 1..40)) {
            let runs: Vec<Span> = runs.iter().map(|(start, length)| {
                let start = DateTime::from_timestamp(*start, 0).unwrap();
                Span { start, end: start + TimeDelta::seconds(*length), work: TimeDelta::seconds(*length) }
            }).collect();
            let usual = Usual::of(&runs, &berlin()).unwrap();
            prop_assert!((0..DAY).contains(&usual.start), "{usual:?}");
            prop_assert!(usual.end >= usual.start && usual.seconds <= usual.most_seconds, "{usual:?}");
            // One of the runs starts then, and one takes as long.
            let minute = |span: &Span| { let local = berlin().local(span.start); i64::from(local.hour() * 60 + local.minute()) };
            prop_assert!(runs.iter().any(|span| minute(span) == usual.start));
            prop_assert!(runs.iter().any(|span| (span.end - span.start).num_seconds() == usual.seconds));
        }
    }
}
