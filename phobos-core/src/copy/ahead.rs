//! Copying a large file with the disks of both sides at work at once: a thread reads ahead, and writes go past the page cache.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::thread;

use super::bytes::{ALIGNMENT, Buffer, go_direct, leave_direct};

/// How much is read and written at once.
const PIECE: usize = 1024 * 1024;

/// How many pieces there are: one is read, one is written, and one evens out what takes longer now and then.
const PIECES: usize = 3;

/// From which size on a file is read ahead, in bytes; for a smaller one a thread costs more than it gains.
pub(super) const LARGE: u64 = 8 * 1024 * 1024;

/// Gives the content of `file` to `take`, piece by piece in its order, while a thread reads on.
///
/// # Errors
///
/// The first error of `take`; inside, why the file cannot be read.
pub(super) fn read<E>(file: &mut File, take: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<io::Result<()>, E> {
    let (give, empty) = mpsc::channel();
    let (hand_over, full) = mpsc::channel();
    for _ in 0..PIECES {
        // Both ends are here, so that it arrives.
        if give.send(Buffer::with_room(PIECE)).is_err() {
            break;
        }
    }
    // Moved, so that whichever way this ends both channels do, and the reader with them.
    thread::scope(move |scope| {
        scope.spawn(move || {
            for mut buffer in empty {
                let read = buffer.fill(file).map(<[u8]>::len);
                let is_over = read.as_ref().map_or(true, |length| *length == 0);
                if hand_over.send((buffer, read)).is_err() || is_over {
                    return;
                }
            }
        });
        for (mut buffer, read) in full {
            match read {
                Err(error) => return Ok(Err(error)),
                Ok(0) => break,
                Ok(length) => take(buffer.piece().get(..length).unwrap_or_default())?,
            }
            if let Err(mpsc::SendError(buffer)) = give.send(buffer) {
                // The reader has come to the end; what it has read before that still arrives.
                drop(buffer);
            }
        }
        Ok(Ok(()))
    })
}

/// A new file that is written from its beginning to its end, past the page cache as far as that goes.
///
/// What is written so is told at once if it fails, and is no burden on the memory of a machine that has other things to do.
#[derive(Debug)]
pub(super) struct Direct<'f> {
    file: &'f File,
    at: u64,
    past_the_cache: bool,
}

impl<'f> Direct<'f> {
    /// For the empty `file`, which is written through the page cache unless it is `large`.
    pub(super) fn new(file: &'f File, large: bool) -> Self {
        Self { file, at: 0, past_the_cache: large && go_direct(file).is_ok() }
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut rest = piece;
        while !rest.is_empty() {
            // The end of a file need not be a whole block.
            let whole = if self.past_the_cache { rest.len() - rest.len() % ALIGNMENT } else { rest.len() };
            if whole == 0 {
                self.leave()?;
                continue;
            }
            match self.file.write_at(rest.get(..whole).unwrap_or_default(), self.at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    self.at = self.at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Not this file system, or not from here on.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput && self.past_the_cache => self.leave()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        self.past_the_cache = false;
        leave_direct(self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
    }

    #[test]
    fn every_piece_comes_in_its_order_whatever_the_size() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 7 * PIECE + 4097] {
            let content = content(size);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&content).unwrap();
            file.rewind().unwrap();
            let mut seen = Vec::new();
            let mut take = |piece: &[u8]| -> Result<(), ()> {
                seen.extend_from_slice(piece);
                Ok(())
            };
            read(&mut file, &mut take).unwrap().unwrap();
            assert!(seen == content, "{size}");
        }
    }

    #[test]
    fn whoever_takes_no_more_and_what_cannot_be_read_end_it() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content(20 * PIECE)).unwrap();
        file.rewind().unwrap();
        let mut left = 4;
        let mut take = |_: &[u8]| {
            left -= 1;
            if left == 0 { Err("enough") } else { Ok(()) }
        };
        assert_eq!(read(&mut file, &mut take).unwrap_err(), "enough");
        // A folder can be opened, and not be read.
        let mut folder = File::open("/").unwrap();
        assert!(read(&mut folder, &mut |_| -> Result<(), ()> { Ok(()) }).unwrap().is_err());
    }

    #[test]
    fn what_is_written_directly_is_the_same_whatever_its_end() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        for size in [0, 1, ALIGNMENT, PIECE + 1, 3 * PIECE + ALIGNMENT + 17] {
            let content = content(size);
            let path = folder.path().join(size.to_string());
            let file = File::create(&path).unwrap();
            let mut direct = Direct::new(&file, true);
            let mut buffer = Buffer::with_room(PIECE);
            for piece in content.chunks(PIECE) {
                buffer.piece().get_mut(..piece.len()).unwrap().copy_from_slice(piece);
                direct.write(buffer.piece().get(..piece.len()).unwrap()).unwrap();
            }
            assert!(std::fs::read(&path).unwrap() == content, "{size}");
        }
        // From where no alignment allows it.
        let file = File::create(folder.path().join("odd")).unwrap();
        let bytes = content(3 * ALIGNMENT);
        Direct::new(&file, true).write(&bytes[1..]).unwrap();
        assert!(std::fs::read(folder.path().join("odd")).unwrap() == bytes[1..]);
    }
}
