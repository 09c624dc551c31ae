//! The content of a drive: a file that is only read, and the blocks that were written since.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// What a drive writes whole or not at all, in bytes.
pub(crate) const BLOCK: usize = 4096;

/// The same as an offset.
const LENGTH: u64 = 4096;

/// A drive's content; a copy shares its blocks with the original.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    base: Arc<File>,
    size: u64,
    blocks: BTreeMap<u64, Arc<[u8]>>,
}

impl Image {
    /// The content of the file `path`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let base = File::open(path)?;
        let size = base.metadata()?.len();
        Ok(Self { base: Arc::new(base), size, blocks: BTreeMap::new() })
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// What it has at `offset`, up to its end.
    pub(crate) fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(left)];
        for (at, piece) in pieces_mut(offset, &mut bytes) {
            let (number, begin) = place(at);
            match self.blocks.get(&number) {
                Some(block) => piece.copy_from_slice(block.get(begin..begin + piece.len()).unwrap_or_default()),
                None => self.base.read_exact_at(piece, at)?,
            }
        }
        Ok(bytes)
    }

    /// Writes `bytes` at `offset`; what is behind its end is left out.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        for (at, piece) in pieces(offset, bytes.get(..left).unwrap_or(bytes)) {
            let (number, begin) = place(at);
            let mut block = self.read(at - at % LENGTH, BLOCK)?;
            block.resize(BLOCK, 0);
            block.get_mut(begin..begin + piece.len()).unwrap_or_default().copy_from_slice(piece);
            self.blocks.insert(number, block.into());
        }
        Ok(())
    }
}

/// `bytes` as pieces that each lie in one block, and where each is.
pub(crate) fn pieces(offset: u64, mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let (mut at, mut all) = (offset, Vec::new());
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(to_the_next(at).min(bytes.len()));
        all.push((at, piece));
        at += piece.len() as u64;
        bytes = rest;
    }
    all
}

fn pieces_mut(offset: u64, mut bytes: &mut [u8]) -> Vec<(u64, &mut [u8])> {
    let (mut at, mut all) = (offset, Vec::new());
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at_mut(to_the_next(at).min(bytes.len()));
        let length = piece.len() as u64;
        all.push((at, piece));
        at += length;
        bytes = rest;
    }
    all
}

/// The number of the block, and where in it `at` is.
fn place(at: u64) -> (u64, usize) {
    (at / LENGTH, usize::try_from(at % LENGTH).unwrap_or_default())
}

/// How far it is from `at` to the next block.
fn to_the_next(at: u64) -> usize {
    BLOCK - place(at).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_file_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, vec![7; 3 * BLOCK]).unwrap();
        let mut image = Image::open(&path).unwrap();
        let before = image.clone();
        image.write(4000, &[1; 200]).unwrap();
        image.write(3 * LENGTH - 2, &[2; 9]).unwrap();
        let mut want = vec![7; 3 * BLOCK];
        want[4000..4200].fill(1);
        want[3 * BLOCK - 2..].fill(2);
        assert!(image.read(0, 5 * BLOCK).unwrap() == want);
        assert!(image.read(4100, 8000).unwrap() == want[4100..12100]);
        assert!(image.read(3 * LENGTH, 8).unwrap().is_empty());
        assert!(before.read(0, 3 * BLOCK).unwrap() == vec![7; 3 * BLOCK]);
        assert!(std::fs::read(&path).unwrap() == vec![7; 3 * BLOCK]);
    }
}
