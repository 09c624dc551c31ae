//! Reading in large aligned pieces, past the page cache where that is wanted.

use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl};

/// How much is read and written at once.
pub(super) const PIECE: usize = 4 * 1024 * 1024;

/// What every disk's pieces are a multiple of.
pub(super) const ALIGNMENT: usize = 4096;

/// Whether reading past the page cache can begin at the byte `at` of a file.
pub fn is_aligned(at: u64) -> bool {
    usize::try_from(at).is_ok_and(|at| at % ALIGNMENT == 0)
}

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
