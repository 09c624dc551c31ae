//! Names of mappings and containers, checked while they are read.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The name of a device-mapper mapping: 1 to 127 bytes of `[A-Za-z0-9_-]`, the first no `-`.
///
/// The limit is the kernel's `DM_NAME_LEN` (linux/dm-ioctl.h), the final NUL left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct MapperName(pub(super) String);

/// The text is no [`MapperName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name for a mapping: use letters, digits, - and _")]
pub struct BadMapperName(String);

/// The text is no [`Uuid`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no UUID: it has 32 hexadecimal digits in the form 8-4-4-4-12")]
pub struct BadUuid(String);

/// The UUID of a LUKS container, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Uuid(pub(super) String);

impl Default for MapperName {
    /// The original's name.
    fn default() -> Self {
        Self("extbackup".to_owned())
    }
}

impl MapperName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The block device of the mapping.
    pub fn device(&self) -> PathBuf {
        Path::new("/dev/mapper").join(&self.0)
    }
}

impl TryFrom<String> for MapperName {
    type Error = BadMapperName;

    fn try_from(text: String) -> Result<Self, BadMapperName> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if (1..=127).contains(&text.len()) && !text.starts_with('-') && text.chars().all(good) {
            Ok(Self(text))
        } else {
            Err(BadMapperName(text))
        }
    }
}

impl Uuid {
    /// The UUID as text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The container's block device, as udev names it.
    pub fn device(&self) -> PathBuf {
        Path::new("/dev/disk/by-uuid").join(&self.0)
    }

    /// A new one, of random bits, as RFC 9562 has them (version 4).
    ///
    /// # Errors
    ///
    /// When the kernel has no random numbers.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        fill_random(&mut bytes)?;
        let bits = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        Self::from_digits(&format!("{bits:032x}")).ok_or_else(|| std::io::Error::other("no UUID of 32 digits"))
    }

    /// Puts the dashes back into 32 digits.
    pub(super) fn from_digits(digits: &str) -> Option<Self> {
        let part = |from, to| digits.get(from..to);
        let parts = [part(0, 8)?, part(8, 12)?, part(12, 16)?, part(16, 20)?, part(20, 32)?];
        Self::try_from(parts.join("-")).ok()
    }

    pub(super) fn digits(&self) -> String {
        self.0.replace('-', "")
    }
}

/// Fills `bytes` with the kernel's random numbers (getrandom(2)), all of them.
///
/// # Errors
///
/// When the kernel has none.
pub fn fill_random(bytes: &mut [u8]) -> std::io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let filled = rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty())?;
        rest = rest.get_mut(filled..).unwrap_or_default();
    }
    Ok(())
}

impl TryFrom<String> for Uuid {
    type Error = BadUuid;

    fn try_from(text: String) -> Result<Self, BadUuid> {
        let parts: Vec<_> = text.split('-').collect();
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        if lengths == [8, 4, 4, 4, 12] && parts.concat().bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(BadUuid(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ones_are_of_the_form_that_random_ones_have() {
        for _ in 0..100 {
            let uuid = Uuid::random().unwrap();
            assert_eq!(uuid.as_str().as_bytes()[14], b'4', "{uuid:?}");
            assert!(b"89ab".contains(&uuid.as_str().as_bytes()[19]), "{uuid:?}");
        }
        assert_ne!(Uuid::random().unwrap(), Uuid::random().unwrap());
        let mut many = [0; 1000];
        fill_random(&mut many).unwrap();
        let zeros: Vec<_> = many.iter().filter(|byte| **byte == 0).collect();
        assert!(zeros.len() < 50);
    }
}
