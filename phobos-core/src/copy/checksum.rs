//! What the content of a file is known by again: its XXH3 of 64 bits, written as `xxhsum -H3` writes it, and the CRC-32 of one that
//! is too large to be read in one go.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::Xxh3;

/// The XXH3 of a file's content, 64 bits, without a seed. It finds what a disk or a cable does, not what somebody means to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum(u64);

/// The text is no [`Checksum`], of 16 hexadecimal digits, or no [`Crc`], of 8.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no checksum in hexadecimal digits")]
pub struct BadChecksum(String);

/// The CRC-32 of content, as gzip and zlib reckon it: what has passed of a file is known by it alone, so that a reader who stops in
/// the middle goes on there another day, which [`Summing`] cannot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Crc(u32);

/// What is known of a file's whole content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Its checksum.
    pub sum: Checksum,
    /// Its CRC-32.
    pub crc: Crc,
    /// Its size, in bytes.
    pub size: u64,
}

/// Adds up the checksum, and the size, of content that passes.
#[derive(Clone, Default)]
pub struct Summing {
    hasher: Xxh3,
    size: u64,
}

impl Checksum {
    /// That of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(bytes))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Checksum {
    type Err = BadChecksum;

    fn from_str(text: &str) -> Result<Self, BadChecksum> {
        number(text, 16).map(Self).ok_or_else(|| BadChecksum(text.to_owned()))
    }
}

impl Crc {
    /// That of the same content with `bytes` behind it.
    #[must_use]
    pub fn and(self, bytes: &[u8]) -> Self {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(bytes);
        Self(hasher.finalize())
    }
}

impl fmt::Display for Crc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for Crc {
    type Err = BadChecksum;

    fn from_str(text: &str) -> Result<Self, BadChecksum> {
        number(text, 8).and_then(|number| number.try_into().ok()).map(Self).ok_or_else(|| BadChecksum(text.to_owned()))
    }
}

/// The number that `text` is in so many hexadecimal digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    let is_plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

impl Summing {
    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size = self.size.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    }

    /// How many bytes have passed.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The checksum of what has passed.
    pub fn checksum(&self) -> Checksum {
        Checksum(self.hasher.digest())
    }
}

impl fmt::Debug for Summing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Summing").field("size", &self.size).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `xxhsum -H3` 0.8.3.
    #[test]
    fn it_is_that_of_xxhsum_in_whatever_pieces() {
        assert_eq!(Checksum::of(b"").to_string(), "2d06800538d394c2");
        let content: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let mut summing = Summing::default();
        content.chunks(777).for_each(|piece| summing.feed(piece));
        assert_eq!((summing.size(), summing.checksum()), (100_000, Checksum::of(&content)));
    }

    /// The value of the catalogue of CRCs for "123456789", CRC-32/ISO-HDLC.
    #[test]
    fn a_crc_goes_on_where_it_was() {
        assert_eq!(Crc::default().and(b"123456789").to_string(), "cbf43926");
        let half: Crc = Crc::default().and(b"1234").to_string().parse().unwrap();
        assert_eq!(half.and(b"56789"), Crc::default().and(b"123456789"));
        for text in ["", "cbf4392", "cbf439260", "+bf43926"] {
            assert_eq!(text.parse::<Crc>(), Err(BadChecksum(text.to_owned())));
        }
    }

    #[test]
    fn its_text_comes_back_and_nothing_else_is_one() {
        let checksum = Checksum::of(b"phobos");
        assert_eq!(checksum.to_string().parse(), Ok(checksum));
        for text in ["", "2d06800538d394c", "2d06800538d394c2 ", "+d06800538d394c2", "gd06800538d394c2"] {
            assert_eq!(text.parse::<Checksum>(), Err(BadChecksum(text.to_owned())));
        }
    }
}
