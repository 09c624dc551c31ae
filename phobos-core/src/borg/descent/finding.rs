//! What may be found when two states are compared, in words that say what it is, what it means and what can be done.

use std::fmt;

use crate::human;

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
    /// Segments that both have differ, and the source's are no sound ones.
    #[error(
        "segments of the source differ from the copy's and are damaged: {segments}; put them back from the drive, or run `borg check`"
    )]
    Damaged {
        /// Which ones.
        segments: Segments,
    },
    /// Segments that both have differ, and it is the copy's that are no sound ones.
    #[error(
        "segments of the copy are damaged: {segments}; the source's differ and are sound: the drive or its cable may be failing"
    )]
    CopyDamaged {
        /// Which ones.
        segments: Segments,
    },
    /// Some segments differ, and each by itself is one of Borg's.
    #[error(
        "segments differ from the copy's, which Borg never does: {segments}; each side's are sound by themselves, so they were put there from elsewhere, or repaired: `borg check` tells what is missing"
    )]
    Changed {
        /// Which ones.
        segments: Segments,
    },
    /// All segments from one on are not what the copy has, and sound.
    #[error(
        "the source and the copy went different ways from segment {from} on ({segments}): an older state of the repository was put back and used again; the copy has archives that the source lacks"
    )]
    Fork {
        /// The first segment that differs.
        from: u32,
        /// All that differ.
        segments: Segments,
    },
    /// Not even the first segments are what the copy has, and all are sound.
    #[error(
        "all segments differ from the copy's ({segments}) and are sound: it is another repository under the same id; the copy has archives that the source lacks"
    )]
    Stranger {
        /// Which ones.
        segments: Segments,
    },
    /// Most segments are not what the copy has, and none of Borg's.
    #[error(
        "most segments differ from the copy's and are none of Borg's any more ({segments}): they were overwritten or encrypted by something that is not Borg, as ransomware does; find out by what before any other drive is plugged in"
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
    /// There are new segments, and neither hints nor index that say what has to be in them.
    #[error(
        "the source has lost both its hints and its index, and so nothing proves that its new segments are all there and whole: {segments}; let Borg rebuild them: any backup does, or `borg check`"
    )]
    Untold {
        /// The new segments.
        segments: Segments,
    },
}

/// Numbers of segments; shown by the first few and their count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments(pub(super) Vec<u32>);

impl Finding {
    /// Whether the owner may accept exactly this difference and mirror all the same. What never may: another or an older
    /// repository, and a source whose segments are damaged: those are not copied in any case.
    pub fn may_be_accepted(&self) -> bool {
        match self {
            Self::AnotherRepository { .. }
            | Self::KeyLost
            | Self::KeyDamaged
            | Self::NoTransaction
            | Self::Older { .. }
            | Self::LostTransaction { .. }
            | Self::Damaged { .. }
            | Self::Overwritten { .. }
            | Self::Misplaced { .. } => false,
            Self::Missing { .. }
            | Self::CutOff { .. }
            | Self::Unfinished { .. }
            | Self::CopyDamaged { .. }
            | Self::Changed { .. }
            | Self::Fork { .. }
            | Self::Stranger { .. }
            | Self::Lost { .. }
            | Self::Unproven { .. }
            | Self::Untold { .. } => true,
        }
    }

    /// The segments that it is about; none where it is about the repository as such.
    pub fn segments(&self) -> &[u32] {
        match self {
            Self::AnotherRepository { .. }
            | Self::KeyLost
            | Self::KeyDamaged
            | Self::NoTransaction
            | Self::Older { .. }
            | Self::LostTransaction { .. } => &[],
            Self::Misplaced { segment } => std::slice::from_ref(segment),
            Self::Missing { segments }
            | Self::CutOff { segments }
            | Self::Unfinished { segments }
            | Self::Damaged { segments }
            | Self::CopyDamaged { segments }
            | Self::Changed { segments }
            | Self::Fork { segments, .. }
            | Self::Stranger { segments }
            | Self::Overwritten { segments }
            | Self::Lost { segments }
            | Self::Unproven { segments }
            | Self::Untold { segments } => segments.numbers(),
        }
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
        f.write_str(&human::first_of(&self.0, NAMED, ", "))
    }
}
