//! What will run, as far as it is planned: who will wait for whom, and when a drive disturbs nobody.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::facts::{Claim, mirror_claims};

/// How long a run of which nothing is known is taken to last.
pub(crate) const UNKNOWN: TimeDelta = TimeDelta::minutes(30);

/// A run that is planned, or one that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Planned {
    /// What people call the job.
    pub(crate) name: String,
    /// When it is to start.
    pub(crate) start: DateTime<Utc>,
    /// When it begins to work, after whom it waits for.
    pub(crate) begin: DateTime<Utc>,
    /// When it should have ended.
    pub(crate) end: DateTime<Utc>,
    /// Whom it will wait for.
    pub(crate) waits_for: Vec<String>,
    #[serde(skip)]
    pub(crate) claims: Vec<Claim>,
}

/// The best time to plug in a drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Gap {
    pub(crate) from: DateTime<Utc>,
    /// When the next job begins that would have to wait; `None` if none is known of.
    pub(crate) until: Option<DateTime<Utc>>,
    /// How long a mirror usually takes, in seconds, where that is known.
    pub(crate) needs_seconds: Option<i64>,
    /// Whether that fits in.
    pub(crate) fits: bool,
}

impl Planned {
    /// A run of this length, which waits for nobody yet.
    pub(crate) fn new(name: &str, start: DateTime<Utc>, length: TimeDelta, claims: Vec<Claim>) -> Self {
        let end = start.checked_add_signed(length).unwrap_or(start);
        Self { name: name.to_owned(), start, begin: start, end, waits_for: Vec::new(), claims }
    }
}

/// Whether two jobs cannot run at the same time.
fn exclude(one: &[Claim], other: &[Claim]) -> bool {
    let pair = |a: &Claim| other.iter().any(|b| a.lock == b.lock && !(a.shared && b.shared));
    one.iter().any(pair)
}

/// Puts the runs into the order of their starts, and has each wait for those that exclude it.
pub(crate) fn settle(mut runs: Vec<Planned>) -> Vec<Planned> {
    runs.sort_by(|one, other| (one.start, &one.name).cmp(&(other.start, &other.name)));
    let mut settled: Vec<Planned> = Vec::with_capacity(runs.len());
    for mut run in runs {
        let length = run.end.signed_duration_since(run.start);
        // Whoever it waits for may lead it to the next one; it begins later each time.
        while let Some(other) = settled
            .iter()
            .find(|other| (other.begin..other.end).contains(&run.begin) && exclude(&run.claims, &other.claims))
        {
            run.begin = other.end;
            if !run.waits_for.contains(&other.name) {
                run.waits_for.push(other.name.clone());
            }
        }
        run.end = run.begin.checked_add_signed(length).unwrap_or(run.begin);
        settled.push(run);
    }
    settled
}

/// When a drive is best plugged in, between `now` and `end`: the first time in which a mirror of the usual length fits, or else
/// the longest.
pub(crate) fn best_time(
    settled: &[Planned],
    needs: Option<TimeDelta>,
    now: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Option<Gap> {
    let mirror = mirror_claims();
    let mut busy: Vec<_> = settled
        .iter()
        .filter(|run| exclude(&run.claims, &mirror) && run.end > now && run.begin < end)
        .map(|run| (run.begin, run.end))
        .collect();
    busy.sort_unstable();
    let (mut gaps, mut free_from) = (Vec::new(), now);
    for (begin, ended) in busy {
        if begin > free_from {
            gaps.push((free_from, Some(begin)));
        }
        free_from = free_from.max(ended);
    }
    if free_from < end {
        gaps.push((free_from, None));
    }
    let length =
        |(from, until): &(DateTime<Utc>, Option<DateTime<Utc>>)| until.unwrap_or(end).signed_duration_since(*from);
    // After the last that is known of, time is long enough for anything.
    let fits = |gap: &&(DateTime<Utc>, Option<DateTime<Utc>>)| {
        gap.1.is_none() || needs.is_some_and(|needs| length(gap) >= needs)
    };
    let found = if needs.is_some() { gaps.iter().find(fits) } else { None };
    let (gap, fits) = match found {
        Some(gap) => (gap, true),
        None => (gaps.iter().max_by_key(|gap| (length(gap), std::cmp::Reverse(gap.0)))?, needs.is_none()),
    };
    Some(Gap { from: gap.0, until: gap.1, needs_seconds: needs.map(|needs| needs.num_seconds()), fits })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::pull_claims;
    use crate::zone::tests::time;
    use proptest::prelude::*;

    fn at(clock: &str) -> DateTime<Utc> {
        time(&format!("2026-11-27T{clock}:00Z"))
    }

    fn borg(name: &str, from: &str, minutes: i64) -> Planned {
        Planned::new(name, at(from), TimeDelta::minutes(minutes), mirror_claims())
    }

    fn pull(host: &str, from: &str, minutes: i64) -> Planned {
        Planned::new(host, at(from), TimeDelta::minutes(minutes), pull_claims(host))
    }

    #[test]
    fn who_excludes_each_other_waits_and_others_do_not() {
        let runs = settle(vec![
            pull("luv", "03:30", 10),
            borg("borgmatic", "03:00", 75),
            pull("chew", "03:30", 20),
            borg("check", "04:00", 30),
        ]);
        let said: Vec<_> = runs.iter().map(|run| (run.name.as_str(), run.begin, run.waits_for.join(" "))).collect();
        let of = |name: &str| said.iter().find(|run| run.0 == name).cloned().unwrap();
        assert_eq!(of("borgmatic").1, at("03:00"));
        assert_eq!(of("chew"), ("chew", at("04:15"), "borgmatic".to_owned()));
        // Pulls share the holding spaces.
        assert_eq!(of("luv"), ("luv", at("04:15"), "borgmatic".to_owned()));
        assert_eq!(of("check"), ("check", at("04:35"), "borgmatic chew".to_owned()));
    }

    #[test]
    fn the_first_time_in_which_a_mirror_fits_is_the_best() {
        let day = settle(vec![borg("check", "07:00", 310), pull("nuhc", "15:00", 5), pull("chew", "20:00", 10)]);
        let best = |hours: i64, now: &str| {
            let gap = best_time(&day, Some(TimeDelta::hours(hours)), at(now), at("23:59")).unwrap();
            (gap.from, gap.until, gap.fits)
        };
        assert_eq!(best(2, "09:00"), (at("12:10"), Some(at("15:00")), true));
        assert_eq!(best(4, "09:00"), (at("15:05"), Some(at("20:00")), true));
        assert_eq!(best(2, "12:30"), (at("12:30"), Some(at("15:00")), true));
        assert_eq!(best(9, "09:00"), (at("20:10"), None, true));
        // Nothing is known of how long a mirror takes: the longest time.
        let gap = best_time(&day, None, at("09:00"), at("23:59")).unwrap();
        assert_eq!((gap.from, gap.until, gap.fits), (at("15:05"), Some(at("20:00")), true));
        // Where nothing is planned there is nothing to wait for.
        let gap = best_time(&[], Some(TimeDelta::hours(4)), at("09:00"), at("23:59")).unwrap();
        assert_eq!((gap.from, gap.until, gap.fits), (at("09:00"), None, true));
        // All day busy.
        let day = settle(vec![borg("check", "00:00", 24 * 60)]);
        assert_eq!(best_time(&day, None, at("09:00"), at("23:59")), None);
        let day = settle(vec![borg("check", "00:00", 600), borg("again", "11:00", 24 * 60)]);
        let gap = best_time(&day, Some(TimeDelta::hours(4)), at("09:00"), at("23:59")).unwrap();
        assert_eq!((gap.from, gap.until, gap.fits), (at("10:00"), Some(at("11:00")), false));
    }

    proptest! {
        #[test]
        fn no_two_that_exclude_each_other_run_at_once(runs in proptest::collection::vec((0_u8..4, 0_i64..2000, 0_i64..600), 0..30)) {
            let start = at("00:00");
            let planned = runs.iter().enumerate().map(|(number, (kind, from, length))| {
                let claims = match kind { 0 => mirror_claims(), 1 => pull_claims("a"), 2 => pull_claims("b"), _ => vec![] };
                Planned::new(&format!("{number}"), start + TimeDelta::minutes(*from), TimeDelta::minutes(*length), claims)
            }).collect::<Vec<_>>();
            let settled = settle(planned.clone());
            prop_assert_eq!(settled.len(), planned.len());
            for (index, run) in settled.iter().enumerate() {
                prop_assert!(run.begin >= run.start && run.end >= run.begin);
                prop_assert_eq!(run.begin > run.start, !run.waits_for.is_empty());
                for other in &settled[..index] {
                    let overlap = (other.begin..other.end).contains(&run.begin);
                    prop_assert!(!(overlap && exclude(&run.claims, &other.claims)), "{run:?} {other:?}");
                }
            }
            if let Some(gap) = best_time(&settled, Some(TimeDelta::hours(2)), start, start + TimeDelta::days(2)) {
                let mirror = mirror_claims();
                let until = gap.until.unwrap_or(start + TimeDelta::days(2));
                prop_assert!(gap.from < until);
                for run in settled.iter().filter(|run| exclude(&run.claims, &mirror) && run.begin < run.end) {
                    prop_assert!(run.end <= gap.from || run.begin >= until, "{run:?} {gap:?}");
                }
            }
        }
    }
}
