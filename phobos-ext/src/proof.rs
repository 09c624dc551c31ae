//! What a segment must prove while it is copied.

use phobos_core::borg::descent;
use phobos_core::borg::segment::Checker;
use phobos_core::borg::state::State;
use phobos_core::copy::Proof;

/// Proves a segment: its entries, that it is the one that the index means, and that it ends the transaction if it has to.
pub(crate) struct SegmentProof<'s> {
    checker: Checker,
    number: u64,
    source: &'s State,
}

impl<'s> SegmentProof<'s> {
    pub(crate) fn new(number: u64, source: &'s State) -> Self {
        Self { checker: Checker::new(), number, source }
    }
}

impl Proof for SegmentProof<'_> {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.checker.feed(bytes).map_err(|error| error.to_string())
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        let summary = self.checker.finish().map_err(|error| error.to_string())?;
        let number = u32::try_from(self.number).map_err(|_| "its number is none of Borg's".to_owned())?;
        descent::judge_segment(self.source, number, &summary).map_or(Ok(()), |finding| Err(finding.to_string()))
    }
}

/// A segment of which no more is known than itself.
pub(crate) struct Bare(pub(crate) Checker);

impl Proof for Bare {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.feed(bytes).map_err(|error| error.to_string())
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        self.0.finish().map(drop).map_err(|error| error.to_string())
    }
}
