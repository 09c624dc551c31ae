//! This machine's time zone, and points in time as people say them; the zone is a value, so that clock changes can be tested.

use std::fmt;
use std::sync::Arc;

use chrono::{
    DateTime, Datelike, FixedOffset, Local, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc,
};

/// By how much the clock on the wall is ahead of UTC, at each moment.
#[derive(Clone)]
pub(crate) struct Zone(Arc<dyn Fn(DateTime<Utc>) -> FixedOffset + Send + Sync>);

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Zone(..)")
    }
}

impl Zone {
    /// The zone of this machine.
    pub(crate) fn system() -> Self {
        Self::new(|time| {
            // Beyond these years chrono panics; no clock shows them.
            if (1..=9998).contains(&time.year()) {
                Local.offset_from_utc_datetime(&time.naive_utc()).fix()
            } else {
                Utc.fix()
            }
        })
    }

    /// A zone with such an offset at each moment.
    pub(crate) fn new(offset: impl Fn(DateTime<Utc>) -> FixedOffset + Send + Sync + 'static) -> Self {
        Self(Arc::new(offset))
    }

    /// What the clock on the wall shows.
    pub(crate) fn local(&self, time: DateTime<Utc>) -> NaiveDateTime {
        let offset = TimeDelta::seconds(i64::from((self.0)(time).local_minus_utc()));
        time.naive_utc().checked_add_signed(offset).unwrap_or(time.naive_utc())
    }

    /// When the clock on the wall shows the beginning of `day`; where it passes over that, the moment when it does.
    pub(crate) fn midnight(&self, day: NaiveDate) -> DateTime<Utc> {
        let wanted = day.and_time(NaiveTime::MIN);
        // The offset before and after a change that is near.
        let guess = |near: DateTime<Utc>| {
            let offset = TimeDelta::seconds(i64::from((self.0)(near).local_minus_utc()));
            wanted.and_utc().checked_sub_signed(offset).unwrap_or(wanted.and_utc())
        };
        let (early, late) = (TimeDelta::hours(-15), TimeDelta::hours(15));
        let mut guesses =
            [early, late].map(|by| guess(wanted.and_utc().checked_add_signed(by).unwrap_or(wanted.and_utc())));
        guesses.sort_unstable();
        let [first, second] = guesses;
        if self.local(first) >= wanted { first } else { second }
    }

    /// The time of day: `03:00`.
    pub(crate) fn clock(&self, time: DateTime<Utc>) -> String {
        self.local(time).format("%H:%M").to_string()
    }

    /// The day, as it is said at `now`: `today`, `Sun 7 Dec`, `7 Dec 2025`.
    pub(crate) fn day(&self, time: DateTime<Utc>, now: DateTime<Utc>) -> String {
        let (date, today) = (self.local(time).date(), self.local(now).date());
        match date.signed_duration_since(today).num_days() {
            0 => "today".to_owned(),
            -1 => "yesterday".to_owned(),
            1 => "tomorrow".to_owned(),
            -180..180 => date.format("%a %-d %b").to_string(),
            _ => date.format("%-d %b %Y").to_string(),
        }
    }

    /// A moment near `now`: `03:00`, or `tomorrow 03:00`.
    pub(crate) fn near(&self, time: DateTime<Utc>, now: DateTime<Utc>) -> String {
        if self.local(time).date() == self.local(now).date() { self.clock(time) } else { self.moment(time, now) }
    }

    /// Day and time of day, as they are said at `now`: `today 03:00`.
    pub(crate) fn moment(&self, time: DateTime<Utc>, now: DateTime<Utc>) -> String {
        format!("{} {}", self.day(time, now), self.clock(time))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Berlin in 2026: summer from 29 March to 25 October, each at 01:00 UTC.
    pub(crate) fn berlin() -> Zone {
        let (spring, autumn) = (time("2026-03-29T01:00:00Z"), time("2026-10-25T01:00:00Z"));
        Zone::new(move |time| {
            let hours = if (spring..autumn).contains(&time) { 2 } else { 1 };
            FixedOffset::east_opt(hours * 3600).unwrap()
        })
    }

    #[test]
    fn the_wall_clock_changes_twice_a_year() {
        let zone = berlin();
        for (utc, wall) in [("00:59", "01:59"), ("01:00", "03:00")] {
            assert_eq!(zone.clock(time(&format!("2026-03-29T{utc}:00Z"))), wall);
        }
        for (utc, wall) in [("00:30", "02:30"), ("01:30", "02:30")] {
            assert_eq!(zone.clock(time(&format!("2026-10-25T{utc}:00Z"))), wall);
        }
        for (day, midnight) in [
            ("2026-03-29", "2026-03-28T23:00:00Z"),
            ("2026-03-30", "2026-03-29T22:00:00Z"),
            ("2026-10-26", "2026-10-25T23:00:00Z"),
        ] {
            assert_eq!(zone.midnight(day.parse().unwrap()), time(midnight), "{day}");
        }
        // A zone whose clocks pass over midnight, as Beirut's do.
        let change = time("2026-03-28T22:00:00Z");
        let beirut = Zone::new(move |time| FixedOffset::east_opt(if time < change { 7200 } else { 10800 }).unwrap());
        assert_eq!(beirut.midnight("2026-03-29".parse().unwrap()), change);
    }

    #[test]
    fn days_are_said_as_people_say_them() {
        let (zone, now) = (berlin(), time("2026-11-27T09:00:00Z"));
        let cases = [
            ("2026-11-26T23:30:00Z", "today 00:30"),
            ("2026-11-26T22:30:00Z", "yesterday 23:30"),
            ("2026-11-28T02:00:00Z", "tomorrow 03:00"),
            ("2026-11-29T06:00:00Z", "Sun 29 Nov 07:00"),
            ("2025-11-29T06:00:00Z", "29 Nov 2025 07:00"),
        ];
        for (at, said) in cases {
            assert_eq!(zone.moment(time(at), now), said);
        }
        for far in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            assert!(!Zone::system().moment(far, now).is_empty() && !zone.moment(far, now).is_empty());
        }
    }
}
