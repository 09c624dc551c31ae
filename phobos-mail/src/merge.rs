//! Merging: what becomes of a spool that is full.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::BTreeMap;

use crate::letter::{self, Letter};
use crate::text;

/// What a letter about units of different names is about.
const SEVERAL: &str = "several units";

/// How many lines of the letters merged are kept: the first half and the last half of these.
const LINES: usize = 400;
const HALF: usize = LINES / 2;

/// How much of the newest letter is kept, in characters.
const NEWEST: usize = 100_000;

/// Where a merged letter lists the letters in it.
const TITLE: &str = "The messages, one line each";

/// Picks the letters to merge: the oldest of the unit that has most of them, else the oldest of all.
///
/// They are of any kind that a letter can be seen in, as `letter` does.
pub(crate) fn group<T>(claims: Vec<T>, letter: impl Fn(&T) -> &Letter) -> Option<Vec<T>> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for claim in &claims {
        let count = counts.entry(&letter(claim).unit).or_default();
        *count = count.saturating_add(1);
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count)?;
    let (unit, count) = (most.0.to_owned(), most.1);
    let group: Vec<_> = if count > 1 {
        let half = count.div_ceil(2).max(2);
        claims.into_iter().filter(|claim| letter(claim).unit == unit).take(half).collect()
    } else {
        let half = claims.len().div_ceil(2);
        claims.into_iter().take(half).collect()
    };
    (group.len() > 1).then_some(group)
}

/// Makes one letter of several, which are in order of age: a line of each, and the newest whole.
pub(crate) fn merge<'a>(letters: impl Iterator<Item = &'a Letter>) -> Letter {
    let letters: Vec<_> = letters.collect();
    let newest = letters.last();
    let unit = newest.map(|newest| newest.unit.as_str()).unwrap_or_default();
    let unit = if letters.iter().all(|letter| letter.unit == unit) { unit } else { SEVERAL };
    let count: u64 = letters.iter().fold(0, |sum, letter| sum.saturating_add(letter.merged.max(1)));
    let mut merged = letter::blank(unit);
    merged.merged = count;
    merged.written = letters.iter().map(|letter| letter.written).min().unwrap_or(merged.written);
    merged.to = newest.and_then(|newest| newest.to.clone());
    merged.subject = match unit {
        "" => format!("{count} messages"),
        SEVERAL => format!("{count} messages about units that failed"),
        _ => format!("unit {unit} failed ({count} messages)"),
    };
    merged.body = format!("{count} messages could not be sent for so long that they were merged into this one.\n");
    let lines: Vec<_> = letters.iter().flat_map(|letter| lines_of(letter)).collect();
    letter::section(&mut merged.body, TITLE, &shortened(lines));
    if let Some(newest) = newest {
        let body: String = rest_of(newest).chars().take(NEWEST).collect();
        letter::section(&mut merged.body, "The newest message", &body.lines().map(str::to_owned).collect::<Vec<_>>());
    }
    merged
}

/// The lines that stand for a letter: its first one, or those of the letters that were merged into it.
fn lines_of(letter: &Letter) -> Vec<String> {
    if letter.merged == 0 {
        let first = letter.body.lines().next().unwrap_or(&letter.subject);
        return vec![format!("{}: {}", text::stamp(text::local(letter.written)), text::line(first, 300))];
    }
    let lines = letter.body.lines().skip_while(|line| *line != TITLE).skip(1);
    lines.map_while(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

/// What a letter says whole: itself, or the newest of those that were merged into it.
fn rest_of(letter: &Letter) -> &str {
    if letter.merged == 0 {
        return &letter.body;
    }
    letter.body.split_once("\nThe newest message\n").map_or("", |(_, rest)| rest)
}

/// Leaves out lines in the middle if there are too many.
fn shortened(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > LINES {
        let left_out = lines.len().saturating_sub(LINES);
        lines.splice(HALF..HALF.saturating_add(left_out), [format!("({left_out} lines left out)")]);
    }
    lines
}
