//! Reading in large aligned pieces, past the page cache where that is wanted.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use crc32fast::Hasher;
use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl};

use crate::progress::{CopyEvent, Handler, Meter, Phase};

/// How much is read and written at once.
pub(super) const PIECE: usize = 4 * 1024 * 1024;

/// What every disk's pieces are a multiple of.
pub(super) const ALIGNMENT: usize = 4096;

/// A buffer that begins where `O_DIRECT` wants it to.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    begin: usize,
    len: usize,
}

impl Buffer {
    pub(super) fn new() -> Self {
        Self::with_room(PIECE)
    }

    /// One for files of up to `size` bytes: many small files do not need the memory of large ones.
    pub(super) fn for_size(size: u64) -> Self {
        let size = usize::try_from(size).unwrap_or(PIECE).saturating_add(1);
        Self::with_room(size.min(PIECE).next_multiple_of(ALIGNMENT))
    }

    pub(super) fn with_room(len: usize) -> Self {
        let bytes = vec![0; len + ALIGNMENT];
        // "Cannot be aligned" is usize::MAX.
        let begin = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, begin: if begin < ALIGNMENT { begin } else { 0 }, len }
    }

    pub(super) fn piece(&mut self) -> &mut [u8] {
        let end = self.begin + self.len;
        self.bytes.get_mut(self.begin..end).unwrap_or_default()
    }

    /// Fills the buffer from the file as far as it goes.
    pub(super) fn fill(&mut self, file: &mut impl Read) -> io::Result<&[u8]> {
        let piece = self.piece();
        let mut have = 0;
        while let Some(rest) = piece.get_mut(have..).filter(|rest| !rest.is_empty()) {
            match file.read(rest) {
                Ok(0) => break,
                Ok(count) => have += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(piece.get(..have).unwrap_or_default())
    }
}

/// How the content of a file is read back.
#[derive(Debug)]
enum Way {
    /// From the disk itself.
    Direct,
    /// Through the page cache, after its pages were let go of.
    Dropped,
}

/// Size and checksum of what the disk has for `file`, whose writes are on the disk already.
///
/// # Errors
///
/// When it cannot be read.
pub(super) fn checksum_from_disk(
    file: &File,
    buffer: &mut Buffer,
    meter: &mut Meter,
    handler: Handler<'_>,
) -> Result<io::Result<(u64, u32)>, super::CopyError> {
    let mut way = go_past_the_cache(file);
    let (mut crc, mut size) = (Hasher::new(), 0_u64);
    loop {
        let piece = buffer.piece();
        let count = match file.read_at(piece, size) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && matches!(way, Way::Direct) => {
                way = Way::Dropped;
                if let Err(error) = leave_direct(file) {
                    return Ok(Err(error));
                }
                continue;
            }
            Err(error) => return Ok(Err(error)),
        };
        if count == 0 {
            return Ok(Ok((size, crc.finalize())));
        }
        crc.update(piece.get(..count).unwrap_or_default());
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        size = size.saturating_add(count);
        handler(CopyEvent::Progress(meter.add(count)))?;
    }
}

fn go_past_the_cache(file: &File) -> Way {
    if go_direct(file).is_ok() {
        return Way::Direct;
    }
    let_go(file);
    Way::Dropped
}

/// Has reads and writes of the file go past the page cache; they have to be aligned from then on.
///
/// # Errors
///
/// When the file system cannot do that.
pub(super) fn go_direct(file: &File) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    Ok(fcntl_setfl(file, flags | OFlags::DIRECT)?)
}

/// Ends what [`go_direct`] began.
///
/// # Errors
///
/// When the system refuses.
pub(super) fn leave_direct(file: &File) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    fcntl_setfl(file, flags.difference(OFlags::DIRECT))?;
    let_go(file);
    Ok(())
}

/// Lets the file's pages go from the cache, and starts to write those that are not written yet.
pub(super) fn let_go(file: &File) {
    if let Err(error) = fadvise(file, 0, None, Advice::DontNeed) {
        log::debug!("the page cache keeps a file: {error}");
    }
}

/// Whether two files have the same content; the first is read as it is, the second from the disk itself.
///
/// # Errors
///
/// When one of them cannot be read.
pub fn same_content(one: &mut File, other: &File, handler: Handler<'_>) -> Result<io::Result<bool>, super::CopyError> {
    let mut buffer = Buffer::for_size(one.metadata().map_or(u64::MAX, |metadata| metadata.len()));
    let mut meter = Meter::new(both(one, other));
    let (mut crc, mut size) = (Hasher::new(), 0_u64);
    handler(CopyEvent::Phase(Phase::Comparing))?;
    loop {
        let piece = match buffer.fill(one) {
            Ok(piece) => piece,
            Err(error) => return Ok(Err(error)),
        };
        if piece.is_empty() {
            break;
        }
        crc.update(piece);
        let count = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        size = size.saturating_add(count);
        handler(CopyEvent::Progress(meter.add(count)))?;
    }
    let_go(one);
    let found = checksum_from_disk(other, &mut buffer, &mut meter, handler)?;
    Ok(found.map(|found| found == (size, crc.finalize())))
}

/// The size of both files.
fn both(one: &File, other: &File) -> Option<u64> {
    Some(one.metadata().ok()?.len().saturating_add(other.metadata().ok()?.len()))
}
