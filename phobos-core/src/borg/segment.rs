//! Segments: the files that hold all that was ever written into a repository, proved byte by byte as they pass.
//!
//! A segment is a magic of eight bytes and then entries, each `crc32 u32, size u32, tag u8` (little endian) and what
//! belongs to the tag. The checker holds one entry's head and a running sum, whatever it is fed.
//!
//! ```
//! use phobos_core::borg::segment::{Checker, Ending};
//!
//! let mut checker = Checker::new();
//! checker.feed(b"BORG_")?; // chunks may end anywhere
//! checker.feed(b"SEG\x40\xf4\x3c\x25\x09\0\0\0\x02")?;
//! let summary = checker.finish()?;
//! assert_eq!((summary.bytes, summary.ending), (17, Ending::Committed));
//! # Ok::<(), phobos_core::borg::segment::SegmentError>(())
//! ```

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use crc32fast::Hasher;

/// How many bytes a segment's magic has.
pub const MAGIC_LEN: usize = 8;
const MAGIC_BYTES: u64 = 8;
const MAGIC: &[u8; MAGIC_LEN] = b"BORG_SEG";
const ATTIC: &[u8; MAGIC_LEN] = b"ATTICSEG";

/// The COMMIT, which is always the same: a segment that ends with these bytes ends a transaction.
pub const COMMIT_ENTRY: [u8; 9] = *b"\x40\xf4\x3c\x25\x09\0\0\0\x02";

/// An entry's head: CRC, size, tag. It is all of a COMMIT.
const HEAD: u32 = 9;
const HEAD_LEN: usize = 9;
/// The head and the key of an object: all of a DELETE, and the start of a PUT.
const HEAD_AND_KEY: u32 = HEAD + 32;
/// The largest entry that Borg writes or reads.
const MAX_ENTRY: u32 = 20 * 1024 * 1024;

const PUT: u8 = 0;
const DELETE: u8 = 1;
const COMMIT: u8 = 2;
/// Borg 2's own PUT, which no Borg 1.x reads.
const PUT2: u8 = 3;

/// What a sound segment consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Its size in bytes.
    pub bytes: u64,
    /// How many objects it holds, live or not.
    pub puts: u64,
    /// How many deletions it holds.
    pub deletes: u64,
    /// Where its last object begins: no index names an offset behind that.
    pub last_put: Option<u64>,
    /// How it ends.
    pub ending: Ending,
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a COMMIT, its only one: a transaction ended here.
    Committed,
    /// Without one: the transaction goes on in a later segment, or Borg was killed.
    Open,
    /// There is a COMMIT that is not the last entry, which Borg never writes and does not take for one.
    CommitInside,
}

/// What is wrong with a segment, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {offset}")]
pub struct SegmentError {
    /// Where the entry that is wrong begins.
    pub offset: u64,
    /// What is wrong there.
    pub fault: Fault,
}

/// What can be wrong with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It does not begin with Borg's magic.
    #[error("no magic of Borg")]
    Magic,
    /// It is one of Attic, Borg's ancestor, which Borg reads only after `borg upgrade`.
    #[error("the magic of Attic, Borg's ancestor, which needs `borg upgrade`,")]
    Attic,
    /// An entry of Borg 2.
    #[error("an entry of Borg 2 (PUT2), which is not supported,")]
    Borg2,
    /// An entry of no known kind.
    #[error("an entry of unknown kind {0}")]
    Tag(u8),
    /// An entry with a size that one of its kind cannot have.
    #[error("an entry with the impossible size {0}")]
    Size(u32),
    /// The entry's checksum is not that of its content.
    #[error("a wrong checksum of the entry")]
    Crc,
    /// The file ends inside the magic or an entry.
    #[error("the file ends inside the entry")]
    Cut,
}

/// Proves a segment that is fed to it in order, in chunks of any size.
///
/// It copies no payload and allocates nothing. After an error it stays at that error.
#[derive(Debug, Clone)]
pub struct Checker {
    /// The magic or head that is being collected.
    head: [u8; HEAD_LEN],
    /// How much of it is there.
    have: usize,
    /// Where the magic or entry in `head` begins.
    begin: u64,
    part: Part,
    crc: Hasher,
    expected: u32,
    puts: u64,
    deletes: u64,
    last_put: Option<u64>,
    /// Where the first COMMIT begins.
    commit: Option<u64>,
    /// Whether an entry followed the first COMMIT.
    beyond: bool,
    failed: Option<SegmentError>,
}

/// Which part of a segment comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Magic,
    Head,
    /// What belongs to an entry of `size` bytes, of which `left` are to come.
    Body {
        size: u32,
        left: u32,
    },
}

impl Checker {
    /// A checker that has seen nothing yet.
    pub fn new() -> Self {
        Self {
            head: [0; HEAD_LEN],
            have: 0,
            begin: 0,
            part: Part::Magic,
            crc: Hasher::new(),
            expected: 0,
            puts: 0,
            deletes: 0,
            last_put: None,
            commit: None,
            beyond: false,
            failed: None,
        }
    }

    /// Takes the next bytes of the segment.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, as soon as it is certain; from then on the same again.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let fed = self.take(bytes).map_err(|fault| SegmentError { offset: self.begin, fault });
        self.failed = fed.err();
        fed
    }

    /// Ends the segment where it is.
    ///
    /// # Errors
    ///
    /// What [`Checker::feed`] found, or that the segment ends inside its magic or an entry.
    pub fn finish(self) -> Result<Summary, SegmentError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.part != Part::Head || self.have > 0 {
            return Err(SegmentError { offset: self.begin, fault: Fault::Cut });
        }
        let ending = match (self.commit, self.beyond) {
            (None, _) => Ending::Open,
            (Some(_), false) => Ending::Committed,
            (Some(_), true) => Ending::CommitInside,
        };
        let Self { begin: bytes, puts, deletes, last_put, .. } = self;
        Ok(Summary { bytes, puts, deletes, last_put, ending })
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match self.part {
                Part::Magic => {
                    if self.collect(&mut bytes, MAGIC_LEN) {
                        self.magic()?;
                    }
                }
                Part::Head => {
                    if self.collect(&mut bytes, HEAD_LEN) {
                        self.entry()?;
                    }
                }
                Part::Body { size, left } => {
                    let (now, rest) = at_most(bytes, usize::try_from(left).unwrap_or(usize::MAX));
                    self.crc.update(now);
                    bytes = rest;
                    // `now` is no longer than `left`, so this loses nothing.
                    let left = left.saturating_sub(u32::try_from(now.len()).unwrap_or(left));
                    self.part = Part::Body { size, left };
                    if left == 0 {
                        self.end(size)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves bytes into `head` until it has `want`; whether it has.
    fn collect(&mut self, bytes: &mut &[u8], want: usize) -> bool {
        let (now, rest) = at_most(bytes, want.saturating_sub(self.have));
        let free = self.head.iter_mut().skip(self.have);
        free.zip(now).for_each(|(place, byte)| *place = *byte);
        self.have = self.have.saturating_add(now.len());
        *bytes = rest;
        self.have == want
    }

    fn magic(&mut self) -> Result<(), Fault> {
        if self.head.starts_with(ATTIC) {
            return Err(Fault::Attic);
        }
        if !self.head.starts_with(MAGIC) {
            return Err(Fault::Magic);
        }
        self.begin = MAGIC_BYTES;
        self.have = 0;
        self.part = Part::Head;
        Ok(())
    }

    /// Judges the head of an entry.
    fn entry(&mut self) -> Result<(), Fault> {
        let [c0, c1, c2, c3, s0, s1, s2, s3, tag] = self.head;
        let size = u32::from_le_bytes([s0, s1, s2, s3]);
        let possible = match tag {
            PUT => (HEAD_AND_KEY..=MAX_ENTRY).contains(&size),
            DELETE => size == HEAD_AND_KEY,
            COMMIT => size == HEAD,
            // A tag that is wrong beside a size that is wrong is garbage; alone it is worth being named.
            _ if !(HEAD..=MAX_ENTRY).contains(&size) => false,
            PUT2 => return Err(Fault::Borg2),
            _ => return Err(Fault::Tag(tag)),
        };
        if !possible {
            return Err(Fault::Size(size));
        }
        self.expected = u32::from_le_bytes([c0, c1, c2, c3]);
        self.crc = Hasher::new();
        self.crc.update(&[s0, s1, s2, s3, tag]);
        self.part = Part::Body { size, left: size.saturating_sub(HEAD) };
        if size == HEAD { self.end(size) } else { Ok(()) }
    }

    /// Judges an entry that is complete.
    fn end(&mut self, size: u32) -> Result<(), Fault> {
        if self.crc.clone().finalize() != self.expected {
            return Err(Fault::Crc);
        }
        self.beyond |= self.commit.is_some();
        let [.., tag] = self.head;
        match tag {
            PUT => {
                self.puts = self.puts.saturating_add(1);
                self.last_put = Some(self.begin);
            }
            DELETE => self.deletes = self.deletes.saturating_add(1),
            _ => self.commit = self.commit.or(Some(self.begin)),
        }
        self.begin = self.begin.saturating_add(u64::from(size));
        self.have = 0;
        self.part = Part::Head;
        Ok(())
    }
}

/// The first `count` bytes, or all where there are fewer, and the rest.
fn at_most(bytes: &[u8], count: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(count).unwrap_or((bytes, &[]))
}

impl Default for Checker {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
