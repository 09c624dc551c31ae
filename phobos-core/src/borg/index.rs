//! `index.T`: where every live object lies, as a hash table on disk; and `integrity.T`, which proves both it and the hints.
//!
//! The table is read as it streams by: of each segment the number of objects and the highest offset are kept.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::Deserialize;
use xxhash_rust::xxh64::Xxh64;

use super::hints::MAX_SEGMENTS;

/// `BORG_IDX`, and then numbers: entries i32, buckets i32, size of a key i8, size of a value i8.
const HEADER: usize = 18;
const HEADER_BYTES: u64 = 18;
const MAGIC: &[u8; 8] = b"BORG_IDX";
/// A bucket: a key of 32 bytes, a segment and an offset.
const BUCKET: usize = 40;
const BUCKET_BYTES: u64 = 40;
/// How many buckets are read at once.
const AT_ONCE: usize = 1024;
/// A segment beyond this one is no segment but says that the bucket is empty or deleted.
const MAX_SEGMENT: u32 = 0xffff_fbff;
const DELETED: u32 = 0xffff_fffe;
const EMPTY: u32 = 0xffff_ffff;

/// The largest integrity file that is read, in bytes; a real one has two hundred.
pub const MAX_INTEGRITY: u64 = 64 * 1024;

/// What an index says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// How many objects there are.
    pub objects: u64,
    /// The segments that they lie in.
    pub segments: BTreeMap<u32, Named>,
}

/// What an index names in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// How many live objects.
    pub objects: u32,
    /// Where the last of them begins.
    pub highest: u32,
}

/// Why something is no index of Borg 1.x.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// It cannot be read.
    #[error("the index cannot be read")]
    Read(#[source] io::Error),
    /// It is something else, or damaged.
    #[error("the index is damaged: {0}")]
    Damaged(&'static str),
}

impl Index {
    /// Reads the index of `size` bytes.
    ///
    /// # Errors
    ///
    /// When it is none: its header is judged before anything is taken for granted.
    pub fn read(mut from: impl Read, size: u64) -> Result<Self, IndexError> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header).map_err(cut)?;
        let [magic @ .., e0, e1, e2, e3, b0, b1, b2, b3, key, value] = header;
        let number = |bytes: [u8; 4]| u64::try_from(i32::from_le_bytes(bytes));
        let (Ok(entries), Ok(buckets)) = (number([e0, e1, e2, e3]), number([b0, b1, b2, b3])) else {
            return Err(IndexError::Damaged("its header is impossible"));
        };
        if magic != *MAGIC || [key, value] != [32, 8] {
            return Err(IndexError::Damaged("its header is none of Borg 1.x"));
        }
        if entries > buckets
            || Some(size) != buckets.checked_mul(BUCKET_BYTES).and_then(|all| all.checked_add(HEADER_BYTES))
        {
            return Err(IndexError::Damaged("its header does not fit its size"));
        }
        let mut index = Self::default();
        let mut buffer = vec![[0; BUCKET]; AT_ONCE];
        let mut left = usize::try_from(buckets).map_err(|_| IndexError::Damaged("it is too large for this machine"))?;
        while left > 0 {
            let part = buffer.get_mut(..left.min(AT_ONCE)).unwrap_or_default();
            left = left.saturating_sub(part.len());
            from.read_exact(part.as_flattened_mut()).map_err(cut)?;
            part.iter().try_for_each(|bucket| index.add(bucket))?;
        }
        if index.objects != entries {
            return Err(IndexError::Damaged("it does not have as many objects as it says"));
        }
        Ok(index)
    }

    fn add(&mut self, bucket: &[u8; BUCKET]) -> Result<(), IndexError> {
        let [.., s0, s1, s2, s3, o0, o1, o2, o3] = *bucket;
        let (segment, offset) = (u32::from_le_bytes([s0, s1, s2, s3]), u32::from_le_bytes([o0, o1, o2, o3]));
        if matches!(segment, DELETED | EMPTY) {
            return Ok(());
        }
        if segment > MAX_SEGMENT {
            return Err(IndexError::Damaged("an impossible segment"));
        }
        let named = self.segments.entry(segment).or_insert(Named { objects: 0, highest: 0 });
        named.objects = named.objects.saturating_add(1);
        named.highest = named.highest.max(offset);
        self.objects = self.objects.saturating_add(1);
        if self.segments.len() > MAX_SEGMENTS {
            return Err(IndexError::Damaged("too many segments"));
        }
        Ok(())
    }
}

fn cut(error: io::Error) -> IndexError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => IndexError::Damaged("it is cut off"),
        _ => IndexError::Read(error),
    }
}

/// The checksums of an `integrity.T`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Integrity {
    /// Those of the hints.
    pub hints: Option<Digests>,
    /// Those of the index.
    pub index: Option<Digests>,
}

/// The checksums of one file, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Digests {
    algorithm: String,
    digests: BTreeMap<String, String>,
}

/// Passes on what it reads, and sums it up as Borg does: the file's name goes into the sum, and so do the parts' names.
#[derive(Debug)]
pub struct Summing<R> {
    from: R,
    hash: Hash,
    bytes: u64,
    header: bool,
}

struct Hash(Xxh64);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

impl Integrity {
    /// Reads an integrity file; what cannot be understood proves nothing, as for Borg.
    pub fn parse(mut bytes: &[u8]) -> Self {
        let Ok(value) = rmpv::decode::read_value_with_max_depth(&mut bytes, 8) else { return Self::default() };
        let get = |name: &str| {
            let map = value.as_map()?;
            let is = |key: &rmpv::Value| key.as_str() == Some(name) || key.as_slice() == Some(name.as_bytes());
            map.iter().find(|(key, _)| is(key)).map(|(_, value)| value)
        };
        if get("version").and_then(rmpv::Value::as_u64) != Some(2) {
            return Self::default();
        }
        let digests = |name: &str| {
            let text = get(name)?;
            let text = text.as_str().map(str::as_bytes).or_else(|| text.as_slice())?;
            serde_json::from_slice::<Digests>(text).ok().filter(|digests| digests.algorithm == "XXH64")
        };
        Self { hints: digests("hints"), index: digests("index") }
    }
}

impl<R: Read> Summing<R> {
    /// Sums up the hints file `name`.
    pub fn hints(name: &str, from: R) -> Self {
        let mut hash = Hash(Xxh64::new(0));
        hash.name(name);
        Self { from, hash, bytes: 0, header: false }
    }

    /// Sums up the index file `name`, whose header is a part of its own.
    pub fn index(name: &str, from: R) -> Self {
        Self { header: true, ..Self::hints(name, from) }
    }

    /// Whether what was read, up to the end of the file, is what `digests` are of.
    pub fn is(mut self, digests: &Digests) -> bool {
        self.hash.name("final");
        self.hash.0.update(self.bytes.to_string().as_bytes());
        digests.digests.get("final").is_some_and(|digest| *digest == format!("{:016x}", self.hash.0.digest()))
    }
}

impl Hash {
    fn name(&mut self, name: &str) {
        self.0.update(format!("{:10}{name}", name.len()).as_bytes());
    }
}

impl<R: Read> Read for Summing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The header is read by itself, so that its part's name comes behind it.
        let to_header = HEADER_BYTES.saturating_sub(self.bytes);
        let most = match usize::try_from(to_header) {
            Ok(left) if self.header && left > 0 => left.min(buffer.len()),
            _ => buffer.len(),
        };
        let count = self.from.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.hash.0.update(buffer.get(..count).unwrap_or_default());
        self.bytes = self.bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if self.header && self.bytes == HEADER_BYTES && count > 0 {
            self.hash.name("HashHeader");
            self.hash.0.update(self.bytes.to_string().as_bytes());
            self.header = false;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An index with these segments and offsets.
    fn index(entries: &[(u32, u32)], buckets: usize) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(i32::try_from(entries.len()).unwrap().to_le_bytes());
        bytes.extend(i32::try_from(buckets).unwrap().to_le_bytes());
        bytes.extend([32, 8]);
        let unused = [EMPTY, DELETED].into_iter().cycle().map(|segment| (segment, 0));
        for (segment, offset) in entries.iter().copied().chain(unused).take(buckets) {
            bytes.extend([9; 32]);
            bytes.extend(segment.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Index, IndexError> {
        Index::read(bytes, bytes.len() as u64)
    }

    #[test]
    fn an_index_is_summed_up_by_segment() {
        let found = read(&index(&[(3, 8), (3, 500), (70_000, 8), (3, 60)], 2050)).unwrap();
        let named = |objects, highest| Named { objects, highest };
        assert_eq!(found.objects, 4);
        assert_eq!(found.segments, BTreeMap::from([(3, named(3, 500)), (70_000, named(1, 8))]));
    }

    #[test]
    fn a_header_is_not_believed() {
        let good = index(&[(1, 8)], 10);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let cases =
            [with(0, b'X'), with(8, 2), with(11, 0xff), with(12, 11), with(15, 0x7f), with(16, 16), with(17, 12)];
        for bytes in cases.iter().map(Vec::as_slice).chain([&good[..good.len() - 1], &good[..17], b""]) {
            assert!(matches!(read(bytes), Err(IndexError::Damaged(_))), "{:?}", &bytes[..bytes.len().min(18)]);
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..418_usize, size: u64) {
            let mut changed = index(&[(1, 8)], 10);
            changed.truncate(at);
            changed.extend(&bytes);
            drop(read(&changed));
            drop(read(&bytes));
            drop(Index::read(&changed[..], size));
            Integrity::parse(&bytes);
        }
    }

    #[test]
    fn fuzz_index() {
        phobos_fuzz::target("index", &[include_bytes!("../../fixtures/borg/1.2.4-repokey/index.21")], |input| {
            let size = u64::try_from(input.len()).unwrap();
            drop(Index::read(input, size));
        });
    }

    #[test]
    fn fuzz_integrity() {
        phobos_fuzz::target(
            "integrity",
            &[include_bytes!("../../fixtures/borg/1.2.4-repokey/integrity.21")],
            |input| {
                drop(Integrity::parse(input));
            },
        );
    }
}
