//! Reading back what a disk has, past the page cache.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::ahead::{self, LARGE, Pool};
use super::bytes::{Buffer, go_direct, leave_direct, let_go};
use super::checksum::{Checksum, Content, Crc, Summing};
use crate::progress::{CopyEvent, Handler, Meter, Phase};

/// A file that is read back from some byte on to its end, from the disk itself.
#[derive(Debug)]
struct FromDisk<'f> {
    file: &'f File,
    at: u64,
    /// Whether reads go past the page cache, and do not go through it after its pages were let go of.
    past_the_cache: bool,
}

impl<'f> FromDisk<'f> {
    fn new(file: &'f File, at: u64) -> Self {
        let past_the_cache = go_direct(file).is_ok();
        if !past_the_cache {
            let_go(file);
        }
        Self { file, at, past_the_cache }
    }

    /// Reads the next bytes; none at the end.
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(piece, self.at) {
                Ok(count) => {
                    self.at = self.at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Not this file system, or not from here on.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput && self.past_the_cache => {
                    self.past_the_cache = false;
                    leave_direct(self.file)?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Size and checksum of what the disk has for `file`, whose writes are on the disk already; a large one is read ahead by a
/// thread, into the buffers of `pool`.
///
/// # Errors
///
/// When it cannot be read.
pub(super) fn checksum_from_disk(
    file: &File,
    (buffer, pool): (&mut Buffer, &mut Pool),
    meter: &mut Meter,
    handler: Handler<'_>,
) -> Result<io::Result<(u64, Checksum)>, super::CopyError> {
    let mut sum = Summing::default();
    let mut take = |piece: &[u8]| -> Result<(), super::CopyError> {
        sum.feed(piece);
        let count = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        Ok(handler(CopyEvent::Progress(meter.add(count)))?)
    };
    let read = read((file, 0), (buffer, pool), &mut take)?;
    Ok(read.map(|()| (sum.size(), sum.checksum())))
}

/// Gives what the disk has for `file` to `take`, piece by piece in its order, whatever is in the page cache; what was written
/// has to be on the disk already.
///
/// # Errors
///
/// The first error of `take`; inside, why the file cannot be read.
pub fn read_from_disk<E>(file: &File, take: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<io::Result<()>, E> {
    read_on_from_disk(file, 0, take)
}

/// The same from the byte `at` on, where [`is_aligned`](super::is_aligned) says that it can begin; from another one it is read through the
/// page cache.
///
/// # Errors
///
/// As for [`read_from_disk`].
pub fn read_on_from_disk<E>(
    file: &File,
    at: u64,
    take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<io::Result<()>, E> {
    let size = file.metadata().map_or(u64::MAX, |found| found.len());
    read((file, at), (&mut Buffer::for_size(size), &mut Pool::default()), take)
}

fn read<E>(
    (file, at): (&File, u64),
    (buffer, pool): (&mut Buffer, &mut Pool),
    take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<io::Result<()>, E> {
    let mut disk = FromDisk::new(file, at);
    Ok(if file.metadata().is_ok_and(|metadata| metadata.len() >= LARGE) {
        ahead::read(pool, |buffer| disk.read(buffer.piece()), take)?
    } else {
        loop {
            match disk.read(buffer.piece()) {
                Ok(0) => break Ok(()),
                Ok(count) => take(buffer.piece().get(..count).unwrap_or_default())?,
                Err(error) => break Err(error),
            }
        }
    })
}

/// What is known of two files with the same content, `None` for others; the first is read as it is, the second from the disk itself.
///
/// # Errors
///
/// When one of them cannot be read.
pub fn same_content(
    one: &mut File,
    other: &File,
    handler: Handler<'_>,
) -> Result<io::Result<Option<Content>>, super::CopyError> {
    let mut buffer = Buffer::for_size(one.metadata().map_or(u64::MAX, |metadata| metadata.len()));
    let mut meter = Meter::new(both(one, other));
    let (mut sum, mut crc) = (Summing::default(), Crc::default());
    handler(CopyEvent::Phase(Phase::Comparing))?;
    loop {
        let piece = match buffer.fill(one) {
            Ok(piece) => piece,
            Err(error) => return Ok(Err(error)),
        };
        if piece.is_empty() {
            break;
        }
        sum.feed(piece);
        crc = crc.and(piece);
        let count = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        handler(CopyEvent::Progress(meter.add(count)))?;
    }
    let_go(one);
    let found = checksum_from_disk(other, (&mut buffer, &mut Pool::default()), &mut meter, handler)?;
    let content = Content { sum: sum.checksum(), crc, size: sum.size() };
    Ok(found.map(|found| (found == (content.size, content.sum)).then_some(content)))
}

/// The size of both files.
fn both(one: &File, other: &File) -> Option<u64> {
    Some(one.metadata().ok()?.len().saturating_add(other.metadata().ok()?.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small ones, and those that a thread reads ahead; with an end that is no whole block.
    #[test]
    fn two_files_are_the_same_where_every_byte_is() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let file = |name: &str, content: &[u8]| {
            std::fs::write(folder.path().join(name), content).unwrap();
            let file = File::open(folder.path().join(name)).unwrap();
            file.sync_all().unwrap();
            file
        };
        for size in [0, 1, 4096, 9 * 1024 * 1024 + 17] {
            let content: Vec<u8> = (0..size).map(|at: u32| u8::try_from(at % 251).unwrap()).collect();
            let mut changed = content.clone();
            if let Some(last) = changed.last_mut() {
                *last ^= 1;
            }
            let longer = [content.as_slice(), b"x"].concat();
            for (other, wanted) in [(&content, true), (&changed, size == 0), (&longer, false)] {
                let (mut one, two) = (file("one", &content), file("two", other));
                let same = same_content(&mut one, &two, &mut |_| Ok(())).unwrap().unwrap();
                assert_eq!(same.is_some(), wanted, "{size}");
                let known =
                    Content { sum: Checksum::of(&content), crc: Crc::default().and(&content), size: u64::from(size) };
                assert!(same.is_none_or(|same| same == known), "{size}");
                let (mut rest, from) = (Vec::new(), u64::from(size) / 8192 * 4096);
                let read = read_on_from_disk(&two, from, &mut |piece: &[u8]| {
                    rest.extend_from_slice(piece);
                    Ok::<_, ()>(())
                });
                assert!(read.unwrap().is_ok() && rest == other[usize::try_from(from).unwrap()..], "{size}");
                assert_eq!(both(&one, &two), Some(u64::from(size) + other.len() as u64));
            }
        }
    }
}
