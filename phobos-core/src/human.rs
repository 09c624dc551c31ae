//! Sizes, lengths of time and points in time as people read them: the one place that knows how they are written.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Datelike, Local, TimeDelta, Utc};

/// A size with three or so digits and its unit: `3.21 GB`, `812 B`.
pub fn size(bytes: u64) -> String {
    humansize::format_size(bytes, humansize::DECIMAL)
}

/// The first `most` of `all` with `between` between them, and how many more there are: a line is to be read.
pub fn first_of<T: fmt::Display>(all: &[T], most: usize, between: &str) -> String {
    let first: Vec<_> = all.iter().take(most).map(T::to_string).collect();
    let more = match all.len().saturating_sub(most) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", first.join(between))
}

/// A length of time with its two largest units: `1h 5m`, `42s`; what is below a second is `0s`.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let whole = match seconds {
        0..3600 => seconds,
        3600..86_400 => seconds - seconds % 60,
        _ => seconds - seconds % 3600,
    };
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}

/// A length of time that may be less than none, which is none.
pub fn span(length: TimeDelta) -> String {
    duration(length.to_std().unwrap_or_default())
}

/// A point in time as the clock on this machine's wall shows it. One that no clock shows, from a broken record, is in UTC.
pub fn local(time: DateTime<Utc>) -> String {
    // Beyond these years the local time may not exist, and chrono panics.
    if (1..=9998).contains(&time.year()) {
        time.with_timezone(&Local).format("%F %T").to_string()
    } else {
        time.format("%FT%TZ").to_string()
    }
}

/// The day of a point in time on this machine's wall: `26 December 2026`.
pub fn day(time: DateTime<Utc>) -> String {
    if (1..=9998).contains(&time.year()) {
        time.with_timezone(&Local).format("%-d %B %Y").to_string()
    } else {
        time.format("%-d %B %Y").to_string()
    }
}

/// How long it will take yet, where `done` of `total` has taken `so_far`: no guess before anything is done, or once all is.
pub fn remaining(done: u64, total: u64, so_far: Duration) -> Option<Duration> {
    let left = total.checked_sub(done).filter(|left| *left > 0)?;
    if done == 0 || so_far < Duration::from_secs(1) {
        return None;
    }
    let millis = so_far.as_millis().checked_mul(u128::from(left))?.checked_div(u128::from(done))?;
    u64::try_from(millis).ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lengths_have_the_unit_that_fits() {
        let sizes = [0, 812, 12_345, 3_210_000_000, 4_000_000_000_000].map(size);
        assert_eq!(sizes, ["0 B", "812 B", "12.35 kB", "3.21 GB", "4 TB"]);
        let lengths = [0, 42, 3600 + 65, 2 * 86_400 + 3 * 3600 + 59];
        assert_eq!(lengths.map(|secs| duration(Duration::from_secs(secs))), ["0s", "42s", "1h 1m", "2days 3h"]);
        assert_eq!(duration(Duration::from_millis(900)), "0s");
        assert_eq!(span(TimeDelta::MIN), "0s");
        assert!(!duration(Duration::MAX).is_empty() && !span(TimeDelta::MAX).is_empty() && !size(u64::MAX).is_empty());
    }

    #[test]
    fn of_many_things_the_first_are_named_and_the_rest_is_counted() {
        assert_eq!(first_of(&[1, 2, 3], 3, ", "), "1, 2, 3");
        assert_eq!(first_of(&["a", "b", "c", "d"], 2, " and "), "a and b and 2 more");
        assert_eq!(first_of::<u8>(&[], 2, ", "), "");
    }

    #[test]
    fn a_time_that_no_clock_shows_is_told_all_the_same() {
        for time in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            assert!(local(time).ends_with('Z'));
            assert!(!day(time).is_empty());
        }
        assert!(["1 January 1970", "31 December 1969"].contains(&day(DateTime::UNIX_EPOCH).as_str()));
        assert_eq!(local(DateTime::UNIX_EPOCH).len(), "1970-01-01 00:00:00".len());
    }

    #[test]
    fn the_rest_is_guessed_from_what_is_done() {
        let minute = Duration::from_secs(60);
        assert_eq!(remaining(25, 100, minute), Some(minute * 3));
        for (done, total) in [(0, 100), (100, 100), (200, 100), (1, u64::MAX)] {
            let guess = remaining(done, total, minute);
            assert!(guess.is_none() || total == u64::MAX, "{done} of {total}: {guess:?}");
        }
        assert_eq!(remaining(1, u64::MAX, Duration::MAX), None);
    }
}
