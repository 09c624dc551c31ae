//! Copying a large file with the disks of both sides and the processor at work at once: one thread reads ahead, one writes
//! behind past the page cache, and what is read is proved in between.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, ScopedJoinHandle};

use super::bytes::{ALIGNMENT, Buffer, go_direct, leave_direct};

/// How much is read and written at once: a disk takes it as several requests, which it works on side by side.
const PIECE: usize = 2 * 1024 * 1024;

/// How many pieces there are: one is read, one is proved, one is written, and one evens out what takes longer now and then.
const PIECES: usize = 4;

/// From which size on a file is read ahead, in bytes; for a smaller one a thread costs more than it gains.
pub(super) const LARGE: u64 = 8 * 1024 * 1024;

/// The buffers of large files, which are used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Pool(Vec<Buffer>);

/// Which side of a copy failed.
#[derive(Debug)]
pub(super) enum Side {
    Read(io::Error),
    Write(io::Error),
}

/// Copies what `fill` puts into buffers, until that is nothing, to `out`, and gives each piece to `check` before it is written.
///
/// # Errors
///
/// The first error of `check`; inside, why it cannot be read or written.
pub(super) fn copy<E>(
    pool: &mut Pool,
    fill: impl FnMut(&mut Buffer) -> io::Result<usize> + Send,
    out: &mut Direct<'_>,
    check: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<Result<(), Side>, E> {
    let (give, empty) = mpsc::channel();
    let (hand_over, ready) = mpsc::channel();
    let (pass_on, checked) = mpsc::channel::<(Buffer, usize)>();
    pool.hand_out(&give);
    // Moved, so that whichever way this ends all channels do, and both threads with them.
    thread::scope(move |scope| {
        let reader = scope.spawn(move || read_ahead(fill, empty, &hand_over));
        let writer = scope.spawn(move || {
            for (mut buffer, length) in checked {
                out.write(buffer.piece().get(..length).unwrap_or_default())?;
                back(&give, buffer);
            }
            Ok(())
        });
        for (mut buffer, read) in ready {
            let length = match read {
                Err(error) => return Ok(Err(Side::Read(error))),
                Ok(0) => {
                    pool.0.push(buffer);
                    break;
                }
                Ok(length) => length,
            };
            check(buffer.piece().get(..length).unwrap_or_default())?;
            // It has failed where it takes no more, and says why.
            if pass_on.send((buffer, length)).is_err() {
                break;
            }
        }
        drop(pass_on);
        let written = joined(writer);
        pool.0.extend(joined(reader).try_iter());
        Ok(written.map_err(Side::Write))
    })
}

/// Gives what `fill` puts into buffers, until that is nothing, to `take`, piece by piece in its order, while a thread reads on.
///
/// # Errors
///
/// The first error of `take`; inside, why it cannot be read.
pub(super) fn read<E>(
    pool: &mut Pool,
    fill: impl FnMut(&mut Buffer) -> io::Result<usize> + Send,
    take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<io::Result<()>, E> {
    let (give, empty) = mpsc::channel();
    let (hand_over, ready) = mpsc::channel();
    pool.hand_out(&give);
    thread::scope(move |scope| {
        let reader = scope.spawn(move || read_ahead(fill, empty, &hand_over));
        for (mut buffer, read) in ready {
            match read {
                Err(error) => return Ok(Err(error)),
                Ok(0) => {
                    pool.0.push(buffer);
                    break;
                }
                Ok(length) => take(buffer.piece().get(..length).unwrap_or_default())?,
            }
            back(&give, buffer);
        }
        pool.0.extend(joined(reader).try_iter());
        Ok(Ok(()))
    })
}

/// Fills the buffers that come until there is nothing more to be read, or nobody who takes it.
fn read_ahead(
    mut fill: impl FnMut(&mut Buffer) -> io::Result<usize>,
    empty: Receiver<Buffer>,
    hand_over: &Sender<(Buffer, io::Result<usize>)>,
) -> Receiver<Buffer> {
    while let Ok(mut buffer) = empty.recv() {
        let read = fill(&mut buffer);
        let is_over = read.as_ref().map_or(true, |length| *length == 0);
        if hand_over.send((buffer, read)).is_err() || is_over {
            break;
        }
    }
    empty
}

/// Gives a buffer back to the reader; one that has ended for a failure needs none.
fn back(give: &Sender<Buffer>, buffer: Buffer) {
    if give.send(buffer).is_err() {
        log::debug!("a copy has ended early");
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Pool {
    /// Sends all buffers to whoever fills them.
    fn hand_out(&mut self, give: &Sender<Buffer>) {
        let kept = std::mem::take(&mut self.0);
        let new = std::iter::repeat_with(|| Buffer::with_room(PIECE));
        kept.into_iter().chain(new).take(PIECES).for_each(|buffer| back(give, buffer));
    }
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
    use std::io::Read;

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
    }

    /// What `read` and `copy` are given to fill their buffers with.
    fn from(mut file: impl Read + Send) -> impl FnMut(&mut Buffer) -> io::Result<usize> + Send {
        move |buffer| buffer.fill(&mut file).map(<[u8]>::len)
    }

    #[test]
    fn every_piece_comes_in_its_order_whatever_the_size() {
        let mut pool = Pool::default();
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 7 * PIECE + 4097] {
            let content = content(size);
            let (mut seen, mut proved) = (Vec::new(), Vec::new());
            let mut take = |piece: &[u8]| -> Result<(), ()> {
                seen.extend_from_slice(piece);
                Ok(())
            };
            read(&mut pool, from(content.as_slice()), &mut take).unwrap().unwrap();
            assert!(seen == content, "{size}");
            assert_eq!(pool.0.len(), PIECES, "all buffers come back: {size}");
            let mut check = |piece: &[u8]| -> Result<(), ()> {
                proved.extend_from_slice(piece);
                Ok(())
            };
            let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
            let mut out = Direct::new(file.as_file(), true);
            copy(&mut pool, from(content.as_slice()), &mut out, &mut check).unwrap().unwrap();
            assert!(proved == content && std::fs::read(file.path()).unwrap() == content, "{size}");
            assert_eq!(pool.0.len(), PIECES, "all buffers come back: {size}");
        }
    }

    #[test]
    fn whoever_takes_no_more_and_what_cannot_be_read_or_written_end_it() {
        let content = content(20 * PIECE);
        let pool = &mut Pool::default();
        let file = tempfile::tempfile().unwrap();
        let enough = |mut left: u32| {
            move |_: &[u8]| {
                left -= 1;
                if left == 0 { Err("enough") } else { Ok(()) }
            }
        };
        assert_eq!(read(pool, from(content.as_slice()), &mut enough(4)).unwrap_err(), "enough");
        let mut out = Direct::new(&file, false);
        assert_eq!(copy(pool, from(content.as_slice()), &mut out, &mut enough(4)).unwrap_err(), "enough");
        assert!(out.at <= 3 * PIECE as u64, "what was not proved is not written");
        // A folder can be opened, and not be read.
        let folder = || File::open("/").unwrap();
        assert!(read(pool, from(folder()), &mut enough(4)).unwrap().is_err());
        assert!(matches!(copy(pool, from(folder()), &mut out, &mut enough(4)).unwrap(), Err(Side::Read(_))));
        // A file that was opened to be read, and one on a disk that is full.
        for path in ["/proc/self/exe", "/dev/full"] {
            let file = File::options().read(true).write(path == "/dev/full").open(path).unwrap();
            let failed = copy(pool, from(content.as_slice()), &mut Direct::new(&file, false), &mut enough(99)).unwrap();
            assert!(matches!(failed, Err(Side::Write(_))), "{path}");
        }
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
