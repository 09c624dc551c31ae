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

use crc32fast::Hasher;

/// How many bytes a segment's magic has.
pub const MAGIC_LEN: usize = 8;
const MAGIC: &[u8; MAGIC_LEN] = b"BORG_SEG";
const ATTIC: &[u8; MAGIC_LEN] = b"ATTICSEG";

/// The COMMIT, which is always the same: a segment that ends with these bytes ends a transaction.
pub const COMMIT_ENTRY: [u8; 9] = *b"\x40\xf4\x3c\x25\x09\0\0\0\x02";

/// An entry's head: CRC, size, tag. It is all of a COMMIT.
const HEAD: u32 = 9;
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
    head: [u8; HEAD as usize],
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
            head: [0; HEAD as usize],
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
                    if self.collect(&mut bytes, HEAD as usize) {
                        self.entry()?;
                    }
                }
                Part::Body { size, left } => {
                    let (now, rest) = bytes.split_at(bytes.len().min(left as usize));
                    self.crc.update(now);
                    bytes = rest;
                    // `now` is no longer than `left`, so this neither wraps nor loses anything.
                    let left = left - u32::try_from(now.len()).unwrap_or(left);
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
        let (now, rest) = bytes.split_at(bytes.len().min(want - self.have));
        self.head[self.have..self.have + now.len()].copy_from_slice(now);
        self.have += now.len();
        *bytes = rest;
        self.have == want
    }

    fn magic(&mut self) -> Result<(), Fault> {
        let magic = &self.head[..MAGIC_LEN];
        if magic == ATTIC {
            return Err(Fault::Attic);
        }
        if magic != MAGIC {
            return Err(Fault::Magic);
        }
        self.begin = MAGIC_LEN as u64;
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
        self.crc.update(&self.head[4..]);
        self.part = Part::Body { size, left: size - HEAD };
        if size == HEAD { self.end(size) } else { Ok(()) }
    }

    /// Judges an entry that is complete.
    fn end(&mut self, size: u32) -> Result<(), Fault> {
        if self.crc.clone().finalize() != self.expected {
            return Err(Fault::Crc);
        }
        self.beyond |= self.commit.is_some();
        match self.head[8] {
            PUT => {
                self.puts += 1;
                self.last_put = Some(self.begin);
            }
            DELETE => self.deletes += 1,
            _ => self.commit = self.commit.or(Some(self.begin)),
        }
        self.begin += u64::from(size);
        self.have = 0;
        self.part = Part::Head;
        Ok(())
    }
}

impl Default for Checker {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An entry as Borg writes it.
    fn entry(tag: u8, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len()).unwrap() + HEAD;
        let mut rest = size.to_le_bytes().to_vec();
        rest.push(tag);
        rest.extend(body);
        [crc32fast::hash(&rest).to_le_bytes().to_vec(), rest].concat()
    }

    fn segment(entries: &[Vec<u8>]) -> Vec<u8> {
        [MAGIC.to_vec(), entries.concat()].concat()
    }

    fn check(bytes: &[u8]) -> Result<Summary, SegmentError> {
        let mut checker = Checker::new();
        checker.feed(bytes)?;
        checker.finish()
    }

    fn put(data: &[u8]) -> Vec<u8> {
        entry(PUT, &[&[7; 32], data].concat())
    }

    #[test]
    fn a_sound_segment_is_summed_up() {
        let bytes = segment(&[put(b"some data"), entry(DELETE, &[7; 32]), put(b""), entry(COMMIT, b"")]);
        let summary = check(&bytes).unwrap();
        let want = Summary {
            bytes: bytes.len() as u64,
            puts: 2,
            deletes: 1,
            last_put: Some(8 + 50 + 41),
            ending: Ending::Committed,
        };
        assert_eq!(summary, want);
    }

    #[test]
    fn how_a_segment_ends_is_told() {
        let commit = || entry(COMMIT, b"");
        let cases = [
            (vec![], Ending::Open),
            (vec![put(b"x")], Ending::Open),
            (vec![commit()], Ending::Committed),
            (vec![put(b"x"), commit(), put(b"y")], Ending::CommitInside),
            (vec![commit(), commit()], Ending::CommitInside),
        ];
        for (entries, want) in cases {
            assert_eq!(check(&segment(&entries)).unwrap().ending, want, "{entries:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let after = |entry: Vec<u8>| segment(&[put(b"first"), entry]);
        let head = |size: u32, tag: u8| [&[0; 4][..], &size.to_le_bytes(), &[tag]].concat();
        let cases = [
            (b"".to_vec(), "the file ends inside the entry at byte 0"),
            (b"BORG".to_vec(), "the file ends inside the entry at byte 0"),
            (b"BORG_IDX".to_vec(), "no magic of Borg at byte 0"),
            (b"ATTICSEG".to_vec(), "the magic of Attic, Borg's ancestor, which needs `borg upgrade`, at byte 0"),
            (after(entry(3, &[0; 60])), "an entry of Borg 2 (PUT2), which is not supported, at byte 54"),
            (after(entry(4, b"")), "an entry of unknown kind 4 at byte 54"),
            (after(head(0, 0)), "an entry with the impossible size 0 at byte 54"),
            (after(head(40, PUT)), "an entry with the impossible size 40 at byte 54"),
            (after(head(MAX_ENTRY + 1, PUT)), "an entry with the impossible size 20971521 at byte 54"),
            (after(head(u32::MAX, 255)), "an entry with the impossible size 4294967295 at byte 54"),
            (after(head(42, DELETE)), "an entry with the impossible size 42 at byte 54"),
            (after(head(10, COMMIT)), "an entry with the impossible size 10 at byte 54"),
            (after(head(9, COMMIT)), "a wrong checksum of the entry at byte 54"),
            (after(vec![0; 4096]), "an entry with the impossible size 0 at byte 54"),
            (after(put(b"cut off")[..47].to_vec()), "the file ends inside the entry at byte 54"),
        ];
        for (bytes, want) in cases {
            assert_eq!(check(&bytes).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn every_bit_and_every_length_counts() {
        let bytes = segment(&[put(b"some data"), entry(DELETE, &[7; 32]), entry(COMMIT, b"")]);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&bytes).is_err(), "bit {bit}");
        }
        let whole = check(&bytes).unwrap();
        for length in 0..bytes.len() {
            assert_ne!(check(&bytes[..length]), Ok(whole), "{length} bytes");
        }
    }

    #[test]
    fn an_error_stays() {
        let mut checker = Checker::new();
        let error = checker.feed(b"garbage!").unwrap_err();
        assert_eq!(checker.feed(b"BORG_SEG"), Err(error));
        assert_eq!(checker.finish(), Err(error));
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            entries in prop::collection::vec((0..3_u8, prop::collection::vec(any::<u8>(), 0..200)), 0..8),
            garbage in prop::collection::vec(any::<u8>(), 0..30),
            chunk in 1..64_usize,
        ) {
            let entries: Vec<_> = entries
                .iter()
                .map(|(tag, data)| match *tag {
                    PUT => put(data),
                    DELETE => entry(DELETE, &[9; 32]),
                    _ => entry(COMMIT, b""),
                })
                .chain([garbage])
                .collect();
            let bytes = segment(&entries);
            let mut checker = Checker::new();
            let fed = bytes.chunks(chunk).try_for_each(|chunk| checker.feed(chunk));
            prop_assert_eq!(fed.and_then(|()| checker.finish()), check(&bytes));
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(check(&bytes).is_err());
        }
    }
}
