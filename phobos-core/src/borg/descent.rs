//! Descent: whether a repository is what a copy of it was, and more, so that the copy may be replaced by it.
//!
//! Borg writes a segment once, under a number that is never used again once a transaction has ended behind it, and deletes
//! segments only when a compaction has written what lives in them anew. So what both sides have is the same file, and what
//! only the copy has must be gone by compaction. [`judge`] is a pure function of two [`State`]s; it is told whether two
//! segments have the same content where only their times differ.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use phobos_core::borg::descent::judge;
//! use phobos_core::borg::state::State;
//! use phobos_core::fs::Dir;
//!
//! let (source, copy) = (Dir::open(Path::new("/backup/borg"))?, Dir::open(Path::new("/extbackup/borg"))?);
//! let (source, copy) = (State::read(&source)?, State::read(&copy)?);
//! let same_content = |segment: u32| -> Result<bool, std::io::Error> { Ok(segment % 2 == 0) }; // reads and compares both
//! for finding in judge(&source, Some(&copy), same_content)? {
//!     println!("refused: {finding} (may be accepted: {})", finding.may_be_accepted());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeSet;
use std::fmt;

use super::config::Key;
use super::segment::{Ending, Summary};
use super::state::{Segment, State};

/// A segment up to this size holds nothing but a COMMIT, and is the same in all repositories, in bytes.
const EMPTY_SEGMENT: u64 = 17;

/// The least that an object takes, in bytes.
const LEAST_OBJECT: u64 = 41;

/// How many numbers a message names.
const NAMED: usize = 5;

/// Why the source may not replace the copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// The two have different ids.
    #[error("the source is another repository than the copy ({source_id} instead of {copy_id})")]
    AnotherRepository {
        /// The source's id.
        source_id: String,
        /// The copy's id.
        copy_id: String,
    },
    /// The copy's `config` has a key, the source's has none.
    #[error(
        "the key is gone from the source's `config`; without it no archive can be read. The copy has it: put its `config` back"
    )]
    KeyLost,
    /// What the source's `config` has as its key is none.
    #[error(
        "the key in the source's `config` is damaged; with it no archive can be read. Put back the `config` of a copy"
    )]
    KeyDamaged,
    /// Nothing was ever committed to the source.
    #[error("the source has no complete transaction: it is empty, or all its segments are lost or damaged")]
    NoTransaction,
    /// The source ends before the copy.
    #[error(
        "the source is older than the copy: its last transaction is {source_last}, the copy's is {copy_last}; an old state was put back, or the newest segments are lost"
    )]
    Older {
        /// The source's last transaction.
        source_last: u32,
        /// The copy's last transaction.
        copy_last: u32,
    },
    /// The transaction that the source's hints and index are of is not among its segments.
    #[error(
        "the source is damaged: segment {transaction}, in which its last transaction ended, is missing or does not end with a commit; run `borg check`"
    )]
    LostTransaction {
        /// The transaction.
        transaction: u32,
    },
    /// Segments that the source needs are not there.
    #[error("the source is damaged: segments that it needs are missing: {segments}; run `borg check`")]
    Missing {
        /// Which ones.
        segments: Segments,
    },
    /// Segments that the source needs are shorter than what the index finds in them.
    #[error(
        "the source is damaged: segments are cut off before the objects that the index finds in them: {segments}; run `borg check`"
    )]
    CutOff {
        /// Which ones.
        segments: Segments,
    },
    /// The source was left in the middle of a compaction.
    #[error(
        "Borg was killed in the source before it had noted its last transaction, and segments are gone: {segments}; let Borg finish: any backup does, or `borg check`"
    )]
    Unfinished {
        /// What is gone.
        segments: Segments,
    },
    /// Some segments are not what the copy has.
    #[error(
        "segments differ from the copy's, which Borg never does: {segments}; the source is damaged there, or the copy is: `borg check` tells which"
    )]
    Changed {
        /// Which ones.
        segments: Segments,
    },
    /// All segments from one on are not what the copy has.
    #[error(
        "the source and the copy went different ways from segment {from} on ({segments}): an older state of the repository was put back and used again; the copy has archives that the source lacks"
    )]
    Fork {
        /// The first segment that differs.
        from: u32,
        /// All that differ.
        segments: Segments,
    },
    /// Most segments are not what the copy has.
    #[error(
        "most segments differ from the copy's ({segments}): they were overwritten or encrypted by something that is not Borg, or it is another repository under the same id"
    )]
    Overwritten {
        /// Which ones.
        segments: Segments,
    },
    /// A segment that is sound does not hold what the source's index finds in it, or does not end as it has to.
    #[error(
        "the source is damaged: segment {segment} is sound but does not hold what the index finds in it; it belongs elsewhere, or is of another time"
    )]
    Misplaced {
        /// Which one.
        segment: u32,
    },
    /// Segments are gone although there was no transaction that could have compacted them.
    #[error(
        "segments of the copy are gone from the source without any transaction since: {segments}; files were deleted or lost, not compacted"
    )]
    Lost {
        /// Which ones.
        segments: Segments,
    },
    /// Segments are gone, and the source has neither hints nor index that say that they are not needed.
    #[error(
        "segments of the copy are gone from the source, and it has no sound hints or index to tell whether they were compacted: {segments}; let Borg rebuild them: any backup does, or `borg check`"
    )]
    Unproven {
        /// Which ones.
        segments: Segments,
    },
}

/// Numbers of segments; shown by the first few and their count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments(Vec<u32>);

impl Finding {
    /// Whether the owner may accept exactly this difference and mirror all the same. What never may: another or an older
    /// repository, and a source that could not be read.
    pub fn may_be_accepted(&self) -> bool {
        match self {
            Self::AnotherRepository { .. }
            | Self::KeyLost
            | Self::KeyDamaged
            | Self::NoTransaction
            | Self::Older { .. }
            | Self::LostTransaction { .. }
            | Self::Misplaced { .. } => false,
            Self::Missing { .. }
            | Self::CutOff { .. }
            | Self::Unfinished { .. }
            | Self::Changed { .. }
            | Self::Fork { .. }
            | Self::Overwritten { .. }
            | Self::Lost { .. }
            | Self::Unproven { .. } => true,
        }
    }
}

/// Judges whether `source` may replace `copy`, or be copied where there is no copy yet. Nothing found: it may.
///
/// `same_content` is asked for segments that both sides have with the same size and different times, in the order of their
/// numbers. Segments of the copy that are known to be unproven, because a mirror was cut short, should be left out of
/// `copy`: they are not what the source has to match.
///
/// # Errors
///
/// What `same_content` returns as an error; nothing is known then.
pub fn judge<E>(
    source: &State,
    copy: Option<&State>,
    mut same_content: impl FnMut(u32) -> Result<bool, E>,
) -> Result<Vec<Finding>, E> {
    let mut findings = soundness(source);
    let Some(copy) = copy else { return Ok(findings) };
    if source.config.id != copy.config.id {
        let ids = [source, copy].map(|state| state.config.id.as_str().to_owned());
        let [source_id, copy_id] = ids;
        return Ok(vec![Finding::AnotherRepository { source_id, copy_id }]);
    }
    if source.config.key == Key::Absent && copy.config.key != Key::Absent {
        findings.push(Finding::KeyLost);
    }
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
        if !is_same(*ours, *theirs, || same_content(segment))? {
            changed.push(segment);
        }
    }
    findings.extend(difference(&common, changed));
    findings.extend(absence(source, source_last > copy_last, gone));
    Ok(findings)
}

/// Judges a segment that has been proved while it was copied: whether it is the one that the source's index means, as far
/// as numbers and offsets tell, and whether the last one ends its transaction.
pub fn judge_segment(source: &State, segment: u32, proved: &Summary) -> Option<Finding> {
    let named = source.index.as_ref().and_then(|index| index.segments.get(&segment));
    let holds = named.is_none_or(|named| {
        proved.puts >= named.objects.into() && proved.last_put.is_some_and(|last| last >= named.highest.into())
    });
    let ends = source.committed != Some(segment) || proved.ending == Ending::Committed;
    (!holds || !ends).then_some(Finding::Misplaced { segment })
}

/// What is wrong with the source by itself.
fn soundness(source: &State) -> Vec<Finding> {
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
    let missing = Segments(needed.into_iter().filter(|segment| !source.segments.contains_key(segment)).collect());
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

fn is_same<E>(ours: Segment, theirs: Segment, content: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
    if ours.size != theirs.size {
        return Ok(false);
    }
    Ok(ours.mtime == theirs.mtime || content()?)
}

/// What it means that these of the segments that both have are not the same.
fn difference(common: &[u32], changed: Vec<u32>) -> Option<Finding> {
    let from = *changed.first()?;
    // Some that are short are the same whatever happened.
    let behind = common.iter().filter(|segment| **segment >= from).count();
    let goes_on = changed.len() > 1 && changed.len() * 2 >= behind;
    let most = changed.len() > 1 && changed.len() * 2 > common.len();
    let begins_later = common.first().is_some_and(|first| *first < from);
    let segments = Segments(changed);
    Some(if goes_on && begins_later {
        Finding::Fork { from, segments }
    } else if most {
        Finding::Overwritten { segments }
    } else {
        Finding::Changed { segments }
    })
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

impl Segments {
    /// Their numbers, in order.
    pub fn numbers(&self) -> &[u32] {
        &self.0
    }
}

impl fmt::Display for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first: Vec<_> = self.0.iter().take(NAMED).map(u32::to_string).collect();
        write!(f, "{}", first.join(", "))?;
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests;
