//! `hints.T`: which segments hold live objects after the transaction that ended in segment T.
//!
//! A `MessagePack` map, read as it streams by: `segments` is kept, the rest, of which the shadow index can be large, is
//! passed over.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::BTreeMap;
use std::io::{self, Read};

use rmp::Marker;
use rmp::decode::read_marker;

/// More segments than that are not believed: twenty terabytes in Borg 1.0's segments of 5 MB, two petabytes in today's.
pub(super) const MAX_SEGMENTS: usize = 4 * 1024 * 1024;

/// The longest name of a part, in bytes; Borg's have up to 17.
const MAX_NAME: u32 = 64;

/// What a hints file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// Segments and how many live objects each has; those with none are there too.
    pub segments: BTreeMap<u32, u64>,
}

/// Why something is no hints file of Borg 1.x.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HintsError {
    /// It cannot be read.
    #[error("the hints cannot be read")]
    Read(#[source] io::Error),
    /// It is something else, or damaged.
    #[error("the hints are damaged: {0}")]
    Damaged(&'static str),
}

impl Hints {
    /// Reads hints of version 1 (Borg 1.0) or 2.
    ///
    /// # Errors
    ///
    /// When they are none; nothing is allocated that the input does not fill.
    pub fn read(mut from: impl Read) -> Result<Self, HintsError> {
        let from = &mut from;
        let mut version = None;
        let mut segments = None;
        for _ in 0..map_len(from)? {
            match name(from)?.as_slice() {
                b"version" => version = Some(number(from)?),
                b"segments" => segments = Some(read_segments(from)?),
                _ => skip(from)?,
            }
        }
        match from.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) => return Err(HintsError::Damaged("something follows them")),
            Err(error) => return Err(HintsError::Read(error)),
        }
        match (version, segments) {
            (Some(1 | 2), Some(segments)) => Ok(Self { segments }),
            (Some(1 | 2), None) => Err(HintsError::Damaged("they name no segments")),
            _ => Err(HintsError::Damaged("their version is unknown")),
        }
    }

    /// The segments that hold live objects.
    pub fn live(&self) -> impl Iterator<Item = u32> + '_ {
        self.segments.iter().filter(|(_, objects)| **objects > 0).map(|(segment, _)| *segment)
    }
}

fn read_segments(from: &mut impl Read) -> Result<BTreeMap<u32, u64>, HintsError> {
    let mut segments = BTreeMap::new();
    for _ in 0..map_len(from)? {
        let segment = u32::try_from(number(from)?).map_err(|_| HintsError::Damaged("an impossible segment"))?;
        segments.insert(segment, number(from)?);
        if segments.len() > MAX_SEGMENTS {
            return Err(HintsError::Damaged("too many segments"));
        }
    }
    Ok(segments)
}

fn marker(from: &mut impl Read) -> Result<Marker, HintsError> {
    read_marker(from).map_err(|error| cut(error.0))
}

/// An error of reading: the end that comes too early is damage.
fn cut(error: io::Error) -> HintsError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => HintsError::Damaged("they are cut off"),
        _ => HintsError::Read(error),
    }
}

fn be<const N: usize>(from: &mut impl Read) -> Result<u64, HintsError> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map_err(cut)?;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn map_len(from: &mut impl Read) -> Result<u64, HintsError> {
    match marker(from)? {
        Marker::FixMap(len) => Ok(len.into()),
        Marker::Map16 => be::<2>(from),
        Marker::Map32 => be::<4>(from),
        _ => Err(HintsError::Damaged("no map where one belongs")),
    }
}

fn number(from: &mut impl Read) -> Result<u64, HintsError> {
    match marker(from)? {
        Marker::FixPos(number) => Ok(number.into()),
        Marker::U8 => be::<1>(from),
        Marker::U16 => be::<2>(from),
        Marker::U32 => be::<4>(from),
        Marker::U64 => be::<8>(from),
        _ => Err(HintsError::Damaged("no number where one belongs")),
    }
}

/// The name of a part, which Borg writes as bytes or as text.
fn name(from: &mut impl Read) -> Result<Vec<u8>, HintsError> {
    let length = match marker(from)? {
        Marker::FixStr(len) => len.into(),
        Marker::Str8 | Marker::Bin8 => be::<1>(from)?,
        _ => return Err(HintsError::Damaged("no name where one belongs")),
    };
    if length > MAX_NAME.into() {
        return Err(HintsError::Damaged("a name that is too long"));
    }
    let mut name = Vec::new();
    from.take(length).read_to_end(&mut name).map_err(HintsError::Read)?;
    Ok(name)
}

/// Passes over one value, however deep.
fn skip(from: &mut impl Read) -> Result<(), HintsError> {
    // Each value takes a byte of the input at least, so this ends with it.
    let mut values: u64 = 1;
    while values > 0 {
        values = values.saturating_sub(1);
        let (bytes, inner) = match marker(from)? {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => (0, 0),
            Marker::U8 | Marker::I8 => (1, 0),
            Marker::U16 | Marker::I16 | Marker::FixExt1 => (2, 0),
            Marker::FixExt2 => (3, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
            Marker::FixExt4 => (5, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
            Marker::FixExt8 => (9, 0),
            Marker::FixExt16 => (17, 0),
            Marker::FixStr(len) => (len.into(), 0),
            Marker::Str8 | Marker::Bin8 => (be::<1>(from)?, 0),
            Marker::Str16 | Marker::Bin16 => (be::<2>(from)?, 0),
            Marker::Str32 | Marker::Bin32 => (be::<4>(from)?, 0),
            Marker::Ext8 => (be::<1>(from)?.saturating_add(1), 0),
            Marker::Ext16 => (be::<2>(from)?.saturating_add(1), 0),
            Marker::Ext32 => (be::<4>(from)?.saturating_add(1), 0),
            Marker::FixArray(len) => (0, len.into()),
            Marker::Array16 => (0, be::<2>(from)?),
            Marker::Array32 => (0, be::<4>(from)?),
            Marker::FixMap(len) => (0, u64::from(len).saturating_mul(2)),
            Marker::Map16 => (0, be::<2>(from)?.saturating_mul(2)),
            Marker::Map32 => (0, be::<4>(from)?.saturating_mul(2)),
            Marker::Reserved => return Err(HintsError::Damaged("a value of no known kind")),
        };
        values = values.saturating_add(inner);
        let passed = io::copy(&mut from.by_ref().take(bytes), &mut io::sink()).map_err(HintsError::Read)?;
        if passed < bytes {
            return Err(HintsError::Damaged("they are cut off"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REAL: &[u8] = include_bytes!("../../fixtures/borg-1.2.4-hints.12");

    #[test]
    fn hints_of_real_borg_are_read() {
        let hints = Hints::read(REAL).unwrap();
        assert!(hints.live().count() > 0);
        assert!(hints.live().all(|segment| segment <= 12));
    }

    #[test]
    fn hints_of_borg_1_0_are_read() {
        let bytes = b"\x83\xa7version\x01\xa8segments\x82\x00\x03\xcd\x03\xe8\x00\xa7compact\x91\x05";
        let hints = Hints::read(&bytes[..]).unwrap();
        assert_eq!(hints.segments, BTreeMap::from([(0, 3), (1000, 0)]));
        assert_eq!(hints.live().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn what_is_no_hints_is_damage() {
        let cases: [&[u8]; 9] = [
            b"",
            b"\x01",
            b"\x80",
            b"\x81\xa7version\x03",
            b"\x81\xa7version\x02",
            b"\x82\xa7version\x02\xa8segments\x81\xa1x\x01",
            b"\x82\xa7version\x02\xa8segments\xdf\xff\xff\xff\xff\x00\x01",
            b"\x83\xa7version\x02\xa8segments\x80\xa1x\xdd\xff\xff\xff\xff",
            b"\x82\xa7version\x02\xa8segments\x80\x00",
        ];
        for bytes in cases {
            assert!(matches!(Hints::read(bytes), Err(HintsError::Damaged(_))), "{bytes:?}");
        }
        for length in 0..REAL.len() {
            assert!(Hints::read(&REAL[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..118_usize) {
            drop(Hints::read(&bytes[..]));
            let mut changed = REAL.to_vec();
            changed.truncate(at.min(REAL.len()));
            changed.extend(&bytes);
            drop(Hints::read(&changed[..]));
        }
    }

    #[test]
    fn fuzz_hints() {
        phobos_fuzz::target(
            "hints",
            &[
                include_bytes!("../../fixtures/borg/1.2.4-repokey/hints.21"),
                include_bytes!("../../fixtures/borg-1.2.4-hints.12"),
            ],
            |input| {
                drop(Hints::read(input));
            },
        );
    }
}
