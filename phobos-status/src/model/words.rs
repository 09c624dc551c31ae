//! Texts and names from outside, as they may be shown.

use phobos_core::fs::shown_text;
use phobos_site::drives;

use crate::digest::{Key, PULL};

/// How much of a text from outside is shown, in characters.
const LONGEST: usize = 400;

/// A text from outside, without what a terminal would obey, and no longer than can be read.
pub(crate) fn clean(text: &str) -> String {
    let mut cut: String = text.chars().take(LONGEST).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    shown_text(&cut)
}

/// The name of a job on the light, and in the records of locks.
pub(crate) fn light_name(key: &Key) -> String {
    if key.object.is_empty() { key.job.clone() } else { format!("{}-{}", key.job, key.object) }
}

/// What people call a job.
pub(crate) fn name(key: &Key) -> String {
    match key.job.as_str() {
        PULL if !key.object.is_empty() => clean(&key.object),
        drives::JOB if !key.object.is_empty() => clean(&format!("drive {}", key.object)),
        _ => clean(format!("{} {}", key.job, key.object).trim()),
    }
}
