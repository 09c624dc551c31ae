//! The beginning of a LUKS container, which says that it is one and which.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::Uuid;

/// How LUKS1 and LUKS2 begin (the on-disk formats' `magic`).
const MAGIC: &[u8] = b"LUKS\xba\xbe";

/// Where both have the container's UUID, as text that ends with a zero.
const UUID: std::ops::Range<usize> = 168..208;

/// The UUID of the LUKS container on `device`; `None` where there is no container.
///
/// # Errors
///
/// When the device cannot be read.
pub fn container(device: &Path) -> io::Result<Option<Uuid>> {
    let mut beginning = Vec::new();
    File::open(device)?.take(512).read_to_end(&mut beginning)?;
    Ok(uuid(&beginning))
}

fn uuid(beginning: &[u8]) -> Option<Uuid> {
    if !beginning.starts_with(MAGIC) {
        return None;
    }
    let text = beginning.get(UUID)?.split(|byte| *byte == 0).next()?;
    Uuid::try_from(String::from_utf8(text.to_owned()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of a container as cryptsetup makes it.
    fn header(version: u8, uuid: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..6].copy_from_slice(MAGIC);
        bytes[7] = version;
        bytes[168..168 + uuid.len()].copy_from_slice(uuid);
        bytes
    }

    #[test]
    fn a_container_says_which_one_it_is() {
        let text = "11111111-2222-4333-8444-555555555555";
        for version in [1, 2] {
            assert_eq!(
                uuid(&header(version, text.as_bytes())).map(|uuid| uuid.as_str().to_owned()).as_deref(),
                Some(text)
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("device");
        std::fs::write(&device, header(2, text.as_bytes())).unwrap();
        assert!(container(&device).unwrap().is_some());
        for bytes in [header(2, b"no"), vec![0; 512], b"LUKS\xba\xbe".to_vec(), Vec::new()] {
            std::fs::write(&device, bytes).unwrap();
            assert_eq!(container(&device).unwrap(), None);
        }
        assert!(container(&folder.path().join("nothing")).is_err());
    }

    #[test]
    fn fuzz_luks_header() {
        let seed = header(2, b"11111111-2222-4333-8444-555555555555");
        phobos_fuzz::target("luks_header", &[&seed], |input| {
            std::hint::black_box(uuid(input));
        });
    }
}
