//! Descent: whether a repository is what a copy of it was, and more, so that the copy may be replaced by it.
//!
//! Borg writes a segment once, under a number that is never used again once a transaction has ended behind it, and deletes
//! segments only when a compaction has written what lives in them anew. So what both sides have is the same file, and what
//! only the copy has must be gone by compaction. [`judge`] is a pure function of two [`State`]s; what it has to know of
//! contents, because sizes and times do not tell, it asks of [`Contents`].
//!
//! ```no_run
//! use std::path::Path;
//!
//! use phobos_core::borg::descent::{Contents, Whose, judge};
//! use phobos_core::borg::segment::Summary;
//! use phobos_core::borg::state::State;
//! use phobos_core::fs::Dir;
//!
//! struct Disks; // reads the segments of both sides
//!
//! impl Contents for Disks {
//!     type Error = std::io::Error;
//!     fn is_same(&mut self, _segment: u32) -> std::io::Result<bool> {
//!         Ok(true)
//!     }
//!     fn prove(&mut self, _whose: Whose, _segment: u32) -> std::io::Result<Option<Summary>> {
//!         Ok(None)
//!     }
//! }
//!
//! let (source, copy) = (Dir::open(Path::new("/backup/borg"))?, Dir::open(Path::new("/extbackup/borg"))?);
//! let (source, copy) = (State::read(&source)?, State::read(&copy)?);
//! for finding in judge(&source, Some(&copy), &mut Disks)? {
//!     println!("refused: {finding} (may be accepted: {})", finding.may_be_accepted());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod finding;

use std::collections::BTreeSet;

pub use self::finding::{Finding, Segments};
use super::config::Key;
use super::segment::{Ending, Summary};
use super::state::State;
use crate::fs::same_time;

/// A segment up to this size holds nothing but a COMMIT, and is the same in all repositories, in bytes.
const EMPTY_SEGMENT: u64 = 17;

/// The least that an object takes, in bytes.
const LEAST_OBJECT: u64 = 41;

/// How many segments that differ are read to tell what has become of them.
const SAMPLE: usize = 8;

/// How many missing numbers are listed.
const LISTED: usize = 1000;

/// Whose segment is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The source's.
    Source,
    /// The copy's.
    Copy,
}

/// What segments have in them, which is asked only where sizes and times do not tell.
pub trait Contents {
    /// Why it cannot be told.
    type Error;

    /// Whether `segment` has the same content on both sides, where it has the same size and another time.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn is_same(&mut self, segment: u32) -> Result<bool, Self::Error>;

    /// Proves one side's `segment`; `None` where it is no sound one.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn prove(&mut self, whose: Whose, segment: u32) -> Result<Option<Summary>, Self::Error>;
}

/// Judges whether `source` may replace `copy`, or be copied where there is no copy yet. Nothing found: it may.
///
/// Segments of the copy that are known to be unproven, because a mirror was cut short, should be left out of `copy`: they
/// are not what the source has to match.
///
/// # Errors
///
/// What `contents` returns as an error; nothing is known then.
pub fn judge<C: Contents>(source: &State, copy: Option<&State>, contents: &mut C) -> Result<Vec<Finding>, C::Error> {
    let mut findings = soundness(source);
    let Some(copy) = copy else {
        findings.extend(untold(source, None));
        return Ok(findings);
    };
    if source.config.id != copy.config.id {
        let ids = [source, copy].map(|state| state.config.id.as_str().to_owned());
        let [source_id, copy_id] = ids;
        return Ok(vec![Finding::AnotherRepository { source_id, copy_id }]);
    }
    if source.config.key == Key::Absent && copy.config.key != Key::Absent {
        findings.push(Finding::KeyLost);
    }
    findings.extend(untold(source, Some(copy)));
    // An empty copy has nothing to lose.
    let (Some(copy_last), Some(source_last)) = (copy.last(), source.last()) else { return Ok(findings) };
    if source_last < copy_last {
        findings.push(Finding::Older { source_last, copy_last });
    }

    // What is behind the copy's last transaction was never committed; Borg deletes it and uses the numbers again.
    let settled = || copy.segments.range(..=copy_last);
    let mut common = Vec::new();
    let mut changed = Vec::new();
    let mut gone = Vec::new();
    for (&segment, theirs) in settled() {
        let Some(ours) = source.segments.get(&segment) else {
            gone.push(segment);
            continue;
        };
        if theirs.size > EMPTY_SEGMENT {
            common.push(segment);
        }
        let same = ours.size == theirs.size && (same_time(ours.mtime, theirs.mtime) || contents.is_same(segment)?);
        if !same {
            changed.push(segment);
        }
    }
    findings.extend(difference((source, copy), &common, changed, contents)?);
    findings.extend(absence(source, source_last > copy_last, gone));
    Ok(findings)
}

/// Judges a segment that has been proved while it was copied: whether it is the one that the source's index means, as far
/// as numbers and offsets tell, and whether the last one ends its transaction.
pub fn judge_segment(source: &State, segment: u32, proved: &Summary) -> Option<Finding> {
    let named = source.index.as_ref().and_then(|index| index.segments.get(&segment));
    let live = source.hints.as_ref().and_then(|hints| hints.segments.get(&segment));
    let holds = live.is_none_or(|live| proved.puts >= *live)
        && named.is_none_or(|named| {
            proved.puts >= named.objects.into() && proved.last_put.is_some_and(|last| last >= named.highest.into())
        });
    let ends = source.committed != Some(segment) || proved.ending == Ending::Committed;
    (!holds || !ends).then_some(Finding::Misplaced { segment })
}

/// What is wrong with a repository by itself, as far as its names and sizes tell; no segment is read.
pub fn soundness(source: &State) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.config.key == Key::Malformed {
        findings.push(Finding::KeyDamaged);
    }
    let Some(committed) = source.committed else {
        findings.push(Finding::NoTransaction);
        return findings;
    };
    let Some(noted) = source.noted else { return findings };
    // Between them Borg has never deleted a commit that its notes are of.
    if noted > committed || !source.segments.contains_key(&noted) && noted == committed {
        findings.push(Finding::LostTransaction { transaction: noted });
    }
    let live = source.hints.iter().flat_map(super::hints::Hints::live);
    let indexed = source.index.iter().flat_map(|index| index.segments.keys().copied());
    let needed: BTreeSet<u32> = live.chain(indexed).collect();
    let mut missing: Vec<u32> = needed.into_iter().filter(|segment| !source.segments.contains_key(segment)).collect();
    // Borg leaves out no number, and deletes nothing that is newer than its notes before it writes new ones.
    missing.extend(gaps(source, noted, committed));
    let missing = Segments(missing);
    if !missing.0.is_empty() {
        // Notes that are older than the last commit may name what a compaction has deleted since.
        findings.push(if noted < committed {
            Finding::Unfinished { segments: missing }
        } else {
            Finding::Missing { segments: missing }
        });
    }
    let is_cut = |segment: u32, least: u64| source.segments.get(&segment).is_some_and(|is| is.size < least);
    let by_index = source.index.iter().flat_map(|index| {
        let cut = |&(&segment, named): &(&u32, &super::index::Named)| {
            is_cut(segment, u64::from(named.highest) + LEAST_OBJECT)
        };
        index.segments.iter().filter(cut).map(|(segment, _)| *segment)
    });
    let by_hints =
        source.hints.iter().flat_map(super::hints::Hints::live).filter(|segment| is_cut(*segment, 8 + LEAST_OBJECT));
    let cut: BTreeSet<u32> = by_index.chain(by_hints).collect();
    if !cut.is_empty() {
        findings.push(Finding::CutOff { segments: Segments(cut.into_iter().collect()) });
    }
    findings
}

/// The first numbers behind `noted`, up to `committed`, that no segment has.
fn gaps(source: &State, noted: u32, committed: u32) -> Vec<u32> {
    if noted >= committed {
        return Vec::new();
    }
    let mut next = noted.saturating_add(1);
    let mut gaps = Vec::new();
    for &segment in source.segments.range(next..=committed).map(|(segment, _)| segment) {
        gaps.extend((next..segment).take(LISTED.saturating_sub(gaps.len())));
        next = segment.saturating_add(1);
    }
    gaps
}

/// New segments of which nothing tells whether they are whole and all there: their checksums prove what is in them, and
/// neither that they were longer nor that there were others.
fn untold(source: &State, copy: Option<&State>) -> Option<Finding> {
    if source.hints.is_some() || source.index.is_some() {
        return None;
    }
    let known =
        |segment: &u32| copy.is_some_and(|copy| copy.last() >= Some(*segment) && copy.segments.contains_key(segment));
    let settled = source.segments.range(..=source.committed?);
    let new = settled.filter(|(segment, is)| is.size > EMPTY_SEGMENT && !known(segment)).map(|(segment, _)| *segment);
    let mut new: Vec<u32> = new.collect();
    if let Some(last) = copy.and_then(State::last) {
        new.extend(gaps(source, last, source.committed?));
        new.sort_unstable();
    }
    (!new.is_empty()).then_some(Finding::Untold { segments: Segments(new) })
}

/// What it means that these of the segments that both have are not the same.
fn difference<C: Contents>(
    (source, copy): (&State, &State),
    common: &[u32],
    changed: Vec<u32>,
    contents: &mut C,
) -> Result<Option<Finding>, C::Error> {
    let Some(&from) = changed.first() else { return Ok(None) };
    let sample = changed.iter().step_by(changed.len().div_ceil(SAMPLE));
    let (mut read, mut ours, mut theirs) = (0, 0, 0);
    for &segment in sample {
        let is_sound = |state, proved: Option<Summary>| {
            proved.is_some_and(|proved| judge_segment(state, segment, &proved).is_none())
        };
        read += 1;
        ours += usize::from(is_sound(source, contents.prove(Whose::Source, segment)?));
        theirs += usize::from(is_sound(copy, contents.prove(Whose::Copy, segment)?));
    }
    // Some that are short are the same whatever happened.
    let behind = common.iter().filter(|segment| **segment >= from).count();
    let most = changed.len() > 1 && changed.len() * 2 > common.len();
    let from_the_first = common.first().is_none_or(|first| *first >= from);
    let goes_on = changed.len() * 2 > behind;
    let segments = Segments(changed);
    Ok(Some(if ours == read && theirs == 0 {
        Finding::CopyDamaged { segments }
    } else if ours * 2 < read && most {
        Finding::Overwritten { segments }
    } else if ours < read {
        Finding::Damaged { segments }
    } else if from_the_first && most {
        Finding::Stranger { segments }
    } else if goes_on {
        Finding::Fork { from, segments }
    } else {
        Finding::Changed { segments }
    }))
}

/// What it means that these segments of the copy are gone; `later` is whether the source has had transactions since.
fn absence(source: &State, later: bool, gone: Vec<u32>) -> Option<Finding> {
    if gone.is_empty() {
        return None;
    }
    let segments = Segments(gone);
    // A missing one that is needed has been found already: it is among what hints and index name.
    let told = source.noted == source.committed && (source.hints.is_some() || source.index.is_some());
    match (later, told) {
        (false, _) => Some(Finding::Lost { segments }),
        (true, false) => Some(Finding::Unproven { segments }),
        (true, true) => None,
    }
}

#[cfg(test)]
mod tests;
