//! Foreign text made safe to show: a log line may hold anything, a mail may not.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::time::Duration;

use chrono::{DateTime, Local};
use phobos_core::human;

/// Makes one line of `text`: what could move a cursor, hide text or end a header is written out as an escape.
///
/// No more than `limit` characters of it are kept; how long it was is said at its end.
pub(crate) fn line(text: &str, limit: usize) -> String {
    let mut safe = String::with_capacity(text.len().min(limit).saturating_add(16));
    for (count, character) in text.chars().enumerate() {
        if count == limit {
            let left_out = text.len().saturating_sub(safe.len());
            return format!("{safe} … ({left_out} more bytes)");
        }
        match escape(character) {
            Some(escape) => safe.push_str(&escape),
            None => safe.push(character),
        }
    }
    safe
}

/// What stands in the place of `character`, if it cannot stay.
fn escape(character: char) -> Option<String> {
    match character {
        '\t' => Some(" ".to_owned()),
        _ if character.is_control() => Some(format!("\\x{:02x}", u32::from(character))),
        _ if is_invisible(character) => Some(format!("\\u{{{:x}}}", u32::from(character))),
        _ => None,
    }
}

/// Whether `character` breaks a line, or changes the order in which others are shown, or shows nothing itself.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// A moment as a human writes it: `Sunday 22 November 2026 at 23:13:04 +01:00`.
pub(crate) fn moment(at: DateTime<Local>) -> String {
    at.format("%A %-d %B %Y at %H:%M:%S %:z").to_string()
}

/// A moment in a list: `2026-11-22 23:13:04`.
pub(crate) fn stamp(at: DateTime<Local>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// The moment `seconds` after 1970 began, of the years that have four digits: every time zone knows those.
pub(crate) fn local(seconds: i64) -> DateTime<Local> {
    let seconds = seconds.clamp(-62_000_000_000, 253_370_764_800);
    DateTime::from_timestamp(seconds, 0).unwrap_or_default().into()
}

/// A length of time in the two largest units that matter: `2h 13m`.
pub(crate) fn span(time: Duration) -> String {
    if time < Duration::from_secs(1) { "less than a second".to_owned() } else { human::duration(time) }
}

/// So many of a thing: `1 message`, `2 messages`.
pub(crate) fn count(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A number for a unit's name that stays the same from release to release (FNV-1a).
pub(crate) fn fingerprint(unit: &str) -> u64 {
    unit.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_line_can_hide_or_break_it() {
        assert_eq!(line("plain – ünïcode", 100), "plain – ünïcode");
        assert_eq!(line("a\r\nBcc: x\u{1b}[2J\0", 100), r"a\x0d\x0aBcc: x\x1b[2J\x00");
        assert_eq!(line("\u{202e}evil\u{feff}", 100), r"\u{202e}evil\u{feff}");
        assert_eq!(line(&"x".repeat(1_000_000), 3), "xxx … (999997 more bytes)");
    }

    #[test]
    fn every_number_is_a_moment() {
        for seconds in [i64::MIN, -1, 0, 253_402_300_800, i64::MAX] {
            assert!(!moment(local(seconds)).is_empty() && !stamp(local(seconds)).is_empty());
        }
    }

    #[test]
    fn a_span_is_short() {
        let spans = [0, 59, 61, 7999, 90_000, 200_000].map(|s| span(Duration::from_secs(s)));
        let want = ["less than a second", "59s", "1m 1s", "2h 13m", "1day 1h", "2days 7h"];
        assert_eq!(spans, want);
    }
}
