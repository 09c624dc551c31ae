//! A large file, read in parts: there may not be time for all of it, and what was read of it is not read again.

use std::path::Path;
use std::time::Instant;

use phobos_core::copy::{Checksum, Crc, Summing, is_aligned, read_on_from_disk};
use phobos_core::error::Chain;
use phobos_core::progress::{CopyEvent, Progress};
use phobos_site::ledger::{Position, Within};

use super::{ANOTHER, Cut, Go, cannot_read};
use crate::checksums;

/// How much is read before it is noted how far that was, in bytes.
const PART: u64 = 256 * 1024 * 1024;

/// What is behind a part that was read.
enum Part {
    /// Nothing: it was the last one.
    Last,
    /// More of the file, maybe.
    More,
}

/// What has been read of a file.
struct Sums {
    read: u64,
    crc: Crc,
    /// Where it was read from its beginning.
    whole: Option<Summing>,
}

impl Sums {
    fn new(wanted: Crc, begun: Option<&Within>) -> Self {
        let begun = begun.filter(|begun| begun.wanted == wanted.to_string() && is_aligned(begun.read));
        match begun.and_then(|begun| Some((begun.read, begun.crc.parse().ok()?))) {
            Some((read, crc)) => Self { read, crc, whole: None },
            None => Self { read: 0, crc: Crc::default(), whole: Some(Summing::default()) },
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.read = self.read.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        self.crc = self.crc.and(piece);
        if let Some(whole) = &mut self.whole {
            whole.feed(piece);
        }
    }
}

impl Go<'_, '_, '_> {
    /// Reads a file of this checksum, CRC-32 and size, on from what was `begun`; whether there was time for the rest of it.
    pub(super) fn in_parts(
        &mut self,
        path: &Path,
        (sum, (crc, size)): (Checksum, (Crc, u64)),
        begun: Option<&Within>,
    ) -> bool {
        let text = checksums::to_text(path);
        let mut sums = Sums::new(crc, begun);
        let file = match self.reader.root.open_file(path) {
            Ok(file) => file,
            Err(error) => return self.ended(path, text, Some(Chain(&error).to_string())),
        };
        // One that says that it is endless would be read for as long as there is time, each time.
        if !file.metadata().is_ok_and(|found| found.len() == size) {
            return self.ended(path, text, Some(ANOTHER.to_owned()));
        }
        loop {
            if self.is_over() {
                return false;
            }
            match self.part(&file, &mut sums) {
                Ok(Part::More) => {
                    let (wanted, crc) = (crc.to_string(), sums.crc.to_string());
                    let within = Within { path: text.clone(), wanted, read: sums.read, crc };
                    self.pass(Position::Within(within));
                }
                Ok(Part::Last) => {
                    let is_right = sums.crc == crc && sums.whole.is_none_or(|whole| whole.checksum() == sum);
                    return self.ended(path, text, (!is_right).then(|| ANOTHER.to_owned()));
                }
                Err(Some(why)) => return self.ended(path, text, Some(why)),
                Err(None) => return false,
            }
        }
    }

    /// Whether this go has to end here.
    fn is_over(&self) -> bool {
        let is_late = self.reader.until.is_some_and(|until| Instant::now() >= until);
        self.reading.halted.is_some() || (self.has_advanced && is_late)
    }

    /// Reads a part; why the file cannot be read, or nothing if a signal has come.
    fn part(&mut self, file: &std::fs::File, sums: &mut Sums) -> Result<Part, Option<String>> {
        let (begun, until, first) = (self.begun, self.reader.until, sums.read);
        let (handler, before) = (&mut *self.handler, self.reading.bytes);
        let read = read_on_from_disk(file, first, &mut |piece: &[u8]| -> Result<(), Cut> {
            sums.feed(piece);
            let of_it = sums.read.saturating_sub(first);
            handler(CopyEvent::Progress(Progress::new(before.saturating_add(of_it), None, begun.elapsed())))?;
            let is_late = until.is_some_and(|until| Instant::now() >= until);
            let may_end = is_aligned(sums.read);
            if may_end && (is_late || of_it >= PART) { Err(Cut::Time) } else { Ok(()) }
        });
        self.reading.bytes = before.saturating_add(sums.read.saturating_sub(first));
        match read {
            Ok(Ok(())) => Ok(Part::Last),
            Ok(Err(error)) => Err(Some(cannot_read(&error))),
            Err(Cut::Halt(halt)) => {
                self.reading.halted = Some(halt);
                Err(None)
            }
            Err(Cut::Time | Cut::Wrong) => Ok(Part::More),
        }
    }

    /// Notes that nothing of a file is left to read, and what is wrong with it if anything is. There was time for it.
    fn ended(&mut self, path: &Path, text: String, why: Option<String>) -> bool {
        self.reading.files = self.reading.files.saturating_add(1);
        if let Some(why) = why {
            self.damaged(path, why);
        }
        self.pass(Position::Space(text));
        true
    }
}
