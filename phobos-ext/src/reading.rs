//! Reading a drive again: all that has a checksum, past the page cache, the least recently read first, for a limited time.
//!
//! What is small, phobos's own files and the repository's other than segments, is read each time. Then come the segments in the
//! order of their numbers, those of the generation before, and what rsync has copied, from where the last go ended.

mod noting;
mod parts;
mod structure;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use phobos_core::borg::segment::Checker;
use phobos_core::borg::state::State;
use phobos_core::copy::Proof;
use phobos_core::copy::{Checksum, CopyError, Pair, Summing, read_from_disk, walk_pairs};
use phobos_core::error::Chain;
use phobos_core::fs::{Dir, FsError, Kind, shown};
use phobos_core::progress::{CopyEvent, Halt, Handler, Phase, Progress};
use phobos_site::ledger::Position;

use crate::checksums::{self, List};
use crate::gate;
use crate::proof::{Bare, SegmentProof};
use crate::record::{DRIVE, DriveRecord, FOLDER, GENERATION};
use crate::seal::Seal;

pub(crate) use self::noting::Notes;

/// How many damaged files are named, and mended by one mirror.
const NAMED: usize = 10_000;

/// What is wrong with a file whose checksum is another one.
const ANOTHER: &str = "its content is another one than was written";

/// Where a repository has its segments.
const DATA: &str = "data";

/// How many folders of segments, or segments in one, there may be.
const SEGMENTS: usize = 1_000_000;

/// What is read.
pub(crate) struct Reader<'a> {
    /// The top of the drive's file system.
    pub(crate) root: &'a Dir,
    /// Where the repository is on it.
    pub(crate) inner: &'a Path,
    /// When to end; at least one file, or a part of a large one, is read all the same.
    pub(crate) until: Option<Instant>,
    /// Where the last go ended.
    pub(crate) from: Option<Position>,
    /// Segments that were damaged before, which are read first.
    pub(crate) known: &'a [PathBuf],
    /// What the repository is, where that is known already: what it says of itself takes memory for each segment.
    pub(crate) state: Option<&'a State>,
}

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Whether the end of all was reached.
    pub(crate) whole: bool,
    /// Where to go on; `None` for the beginning.
    pub(crate) position: Option<Position>,
    pub(crate) damaged: Vec<Damaged>,
    /// How many more are damaged.
    pub(crate) more: u64,
    /// What has ended it before its time.
    pub(crate) halted: Option<Halt>,
}

/// A file that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damaged {
    /// From the top of the drive.
    pub(crate) path: PathBuf,
    pub(crate) why: String,
}

/// Why a file was not read to its end.
enum Cut {
    /// There is no more time.
    Time,
    /// It is known to be damaged.
    Wrong,
    Halt(Halt),
}

/// What a file has to prove.
enum Wanted<'p> {
    /// This checksum.
    Sum(Checksum),
    /// Those that it has in itself.
    Own(Box<dyn Proof + 'p>),
}

impl From<Halt> for Cut {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

/// Reads while there is time.
struct Go<'a, 'h, 'n> {
    reader: &'a Reader<'a>,
    handler: Handler<'h>,
    notes: &'h mut Notes<'n>,
    begun: Instant,
    reading: Reading,
    /// The names of what is damaged.
    named: BTreeSet<PathBuf>,
    /// Whether anything was read that counts for the position.
    has_advanced: bool,
}

impl Reader<'_> {
    /// Reads on, and tells `notes` how far it has come.
    ///
    /// # Errors
    ///
    /// When the drive is nothing that can be read at all. What is damaged is no error, nor is it that the handler has ended it: what was
    /// read until then counts.
    pub(crate) fn read<'h>(&self, handler: Handler<'h>, notes: &'h mut Notes<'_>) -> Result<Reading, anyhow::Error> {
        handler(CopyEvent::Phase(Phase::Reading)).map_err(CopyError::from)?;
        // A go that comes to nothing leaves the next one where it was itself.
        let reading = Reading { position: self.from.clone(), ..Reading::default() };
        let (begun, named) = (Instant::now(), BTreeSet::new());
        let mut go = Go { reader: self, handler, notes, begun, reading, named, has_advanced: false };
        go.run()?;
        Ok(go.reading)
    }

    /// The repository's copy, where there is one.
    fn copy(&self) -> Result<Option<Dir>, FsError> {
        self.root.stat(self.inner)?.map(|_| self.root.open_dir(self.inner)).transpose()
    }
}

impl Go<'_, '_, '_> {
    fn run(&mut self) -> Result<(), anyhow::Error> {
        let Reader { root, inner, .. } = *self.reader;
        let seal = match Seal::read(root) {
            Ok(seal) => seal,
            Err(error) => {
                self.damaged(&Path::new(FOLDER).join(crate::seal::SEAL), Chain(&error).to_string());
                None
            }
        };
        let record = Path::new(FOLDER).join(DRIVE);
        if seal.is_some() && !DriveRecord::is_as_written(root) {
            self.damaged(&record, "it is not what was written".to_owned());
        }
        let lists = self.own(seal.as_ref());
        let before = self.reading.count();
        if lists.contains(&List::Repository) {
            self.list(List::Repository, None)?;
        }
        let is_sound = self.reading.count() == before;
        let copy = self.reader.copy().unwrap_or_else(|error| {
            self.damaged(inner, Chain(&error).to_string());
            None
        });
        // What is damaged accuses nobody else.
        let is_told = self.reader.state.is_some();
        let state = copy.as_ref().filter(|_| is_sound && !is_told).and_then(|copy| self.state(copy));
        let state = self.reader.state.filter(|_| is_sound).or(state.as_ref());
        for path in self.reader.known {
            let inside = path.strip_prefix(inner).ok().filter(|inside| gate::segment_of(inside).is_some());
            if inside.is_some() && root.stat(path)?.is_some() {
                self.file(path, Wanted::Own(Box::new(Bare(Checker::new()))), None);
            }
        }
        let from = self.reader.from.as_ref();
        let (segment, generation) = match from {
            Some(Position::Segment(last)) => (Some(*last), None),
            Some(Position::Generation(last)) => (Some(u64::MAX), Some(last.clone())),
            Some(Position::Space(_) | Position::Within(_)) => (Some(u64::MAX), Some(String::from(char::MAX))),
            None => (None, None),
        };
        if let Some(copy) = &copy {
            if !self.segments(copy, inner, state, segment) {
                return Ok(());
            }
        }
        if !self.generations(seal.as_ref(), generation.as_deref())? {
            return Ok(());
        }
        if lists.contains(&List::Spaces) && !self.list(List::Spaces, from)? {
            return Ok(());
        }
        if self.reading.halted.is_none() {
            (self.reading.whole, self.reading.position) = (true, None);
        }
        Ok(())
    }

    /// Reads what phobos itself keeps; which lists can be believed.
    fn own(&mut self, seal: Option<&Seal>) -> BTreeSet<List> {
        let mut lists = BTreeSet::new();
        let given_up = |path: &str| seal.is_some_and(|seal| seal.damaged.contains(path));
        for (path, sum) in seal.iter().flat_map(|seal| &seal.files).filter(|(path, _)| !given_up(path)) {
            let path = Path::new(path);
            let Ok(sum) = sum.parse() else {
                self.damaged(path, "its checksum in the seal is none".to_owned());
                continue;
            };
            if self.file(path, Wanted::Sum(sum), None) == Some(true) {
                lists.extend(List::ALL.into_iter().filter(|list| list.path() == path));
            }
        }
        lists
    }

    /// Reads the segments after the one numbered `last`; whether there was time for all.
    fn segments(&mut self, copy: &Dir, inner: &Path, state: Option<&State>, last: Option<u64>) -> bool {
        for (number, folder) in self.numbered(copy, last) {
            let path = Path::new(DATA).join(folder.to_string()).join(number.to_string());
            let proof: Box<dyn Proof + '_> = match state {
                Some(state) => Box::new(SegmentProof::new(number, state)),
                None => Box::new(Bare(Checker::new())),
            };
            let position = || Position::Segment(number);
            if !self.advance(&inner.join(&path), Wanted::Own(proof), &position) {
                return false;
            }
        }
        true
    }

    /// A copy's segments after the one numbered `last`, in the order of their numbers, and the folder of each.
    fn numbered(&mut self, copy: &Dir, last: Option<u64>) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        let folders = self.numbers(copy, Path::new(DATA));
        for folder in folders {
            let segments = self.numbers(copy, &Path::new(DATA).join(folder.to_string()));
            let after = segments.into_iter().filter(|number| last.is_none_or(|last| *number > last));
            found.extend(after.map(|number| (number, folder)));
        }
        found.sort_unstable();
        found
    }

    fn numbers(&mut self, copy: &Dir, folder: &Path) -> BTreeSet<u64> {
        let found = numbers(copy, folder);
        found.unwrap_or_else(|error| {
            self.damaged(&self.reader.inner.join(folder), Chain(&error).to_string());
            BTreeSet::new()
        })
    }

    /// Reads the segments that only generations before have; whether there was time for all.
    fn generations(&mut self, seal: Option<&Seal>, last: Option<&str>) -> Result<bool, anyhow::Error> {
        let top = Path::new(FOLDER).join(GENERATION);
        if self.reader.root.stat(&top)?.is_none_or(|stat| stat.kind != Kind::Dir) {
            return Ok(true);
        }
        let mut paths = BTreeSet::new();
        let mut see = |pair: &Pair<'_>, _: Handler<'_>| {
            // Below the generation's own name; one that the copy has too was read there.
            let inside: PathBuf = pair.path.components().skip(1).collect();
            let is_segment = gate::segment_of(&inside).is_some();
            let is_its_own = pair.copy.is_some_and(|stat| stat.kind == Kind::File && stat.links == 1);
            if is_segment && is_its_own {
                paths.insert(top.join(pair.path));
            }
            Ok(())
        };
        walk_pairs(None, Some(self.reader.root.open_dir(&top)?), &mut see, self.handler)?;
        for path in paths {
            let text = checksums::to_text(&path);
            let is_known = seal.is_some_and(|seal| seal.damaged.contains(&text));
            if is_known || last.is_some_and(|last| text.as_str() <= last) {
                continue;
            }
            let position = || Position::Generation(text.clone());
            if !self.advance(&path, Wanted::Own(Box::new(Bare(Checker::new()))), &position) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads the files of a list, on from the file of this position, or all where that is gone; whether there was time for all.
    fn list(&mut self, list: List, position: Option<&Position>) -> Result<bool, anyhow::Error> {
        let root = self.reader.root;
        let (after, part) = match position {
            Some(Position::Space(path)) => (checksums::from_text(path), None),
            Some(Position::Within(within)) => (checksums::from_text(&within.path), Some(within)),
            _ => (None, None),
        };
        let mut is_before = match after {
            Some(after) => list.read(root)?.any(|found| found.is_ok_and(|(path, _)| path == after)).then_some(after),
            None => None,
        };
        for found in list.read(root)? {
            let (path, known) = found?;
            let mut begun = None;
            if let Some(after) = &is_before {
                if path != *after {
                    continue;
                }
                is_before = None;
                if part.is_none() {
                    continue;
                }
                begun = part;
            }
            let position = || Position::Space(checksums::to_text(&path));
            let is_read = match (list, known.large) {
                (List::Repository, _) => self.file(&path, Wanted::Sum(known.sum), None).is_some(),
                (List::Spaces, None) => self.advance(&path, Wanted::Sum(known.sum), &position),
                (List::Spaces, Some(large)) => self.in_parts(&path, (known.sum, large), begun),
            };
            if !is_read {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads a file that counts for the position; whether there was time for it.
    fn advance(&mut self, path: &Path, wanted: Wanted<'_>, position: &dyn Fn() -> Position) -> bool {
        // One file at least, so that however short the time is, there is an end.
        let until = self.reader.until.filter(|_| self.has_advanced);
        if self.file(path, wanted, until).is_none() {
            return false;
        }
        self.pass(position());
        true
    }

    /// Takes note of what was read last.
    fn pass(&mut self, position: Position) {
        self.has_advanced = true;
        self.reading.position = Some(position);
        self.notes.pass(&self.reading);
    }

    /// Reads a file; whether it is what it has to be, or `None` where there was no time for it.
    fn file(&mut self, path: &Path, mut wanted: Wanted<'_>, until: Option<Instant>) -> Option<bool> {
        let is_over = || until.is_some_and(|until| Instant::now() >= until);
        if is_over() || self.reading.halted.is_some() {
            return None;
        }
        let file = match self.reader.root.open_file(path) {
            Ok(file) => file,
            Err(error) => return Some(self.damaged(path, Chain(&error).to_string())),
        };
        let mut sum = Summing::default();
        let mut wrong = None;
        let (handler, before, begun) = (&mut *self.handler, self.reading.bytes, self.begun);
        let read = read_from_disk(&file, &mut |piece: &[u8]| -> Result<(), Cut> {
            sum.feed(piece);
            if let (Wanted::Own(proof), None) = (&mut wanted, &wrong) {
                wrong = proof.feed(piece).err();
            }
            handler(CopyEvent::Progress(Progress::new(before.saturating_add(sum.size()), None, begun.elapsed())))?;
            if wrong.is_some() {
                Err(Cut::Wrong)
            } else if is_over() {
                Err(Cut::Time)
            } else {
                Ok(())
            }
        });
        self.reading.bytes = self.reading.bytes.saturating_add(sum.size());
        let why = match read {
            Err(Cut::Time) => return None,
            Err(Cut::Halt(halt)) => {
                self.reading.halted = Some(halt);
                return None;
            }
            Err(Cut::Wrong) => wrong,
            Ok(Err(error)) => Some(cannot_read(&error)),
            Ok(Ok(())) => wrong.or_else(|| match wanted {
                Wanted::Sum(wanted) if wanted == sum.checksum() => None,
                Wanted::Sum(_) => Some(ANOTHER.to_owned()),
                Wanted::Own(proof) => proof.finish().err(),
            }),
        };
        self.reading.files = self.reading.files.saturating_add(1);
        Some(why.is_none_or(|why| self.damaged(path, why)))
    }

    /// Takes note of a file that is not what was written.
    fn damaged(&mut self, path: &Path, why: String) -> bool {
        if self.named.contains(path) {
            return false;
        }
        let text = format!("damaged on the drive: {}: {why}", shown(path));
        if let Err(halt) = (self.handler)(CopyEvent::Warning(&text)) {
            log::debug!("{halt}");
        }
        if self.reading.damaged.len() < NAMED {
            self.named.insert(path.to_owned());
            self.reading.damaged.push(Damaged { path: path.to_owned(), why });
        } else {
            self.reading.more = self.reading.more.saturating_add(1);
        }
        false
    }
}

impl Reading {
    /// The error that has ended it before its time, if one has.
    pub(crate) fn whole_go(self) -> Result<Self, CopyError> {
        match self.halted {
            Some(halt) => Err(halt.into()),
            None => Ok(self),
        }
    }

    /// Whether everything that was read is what was written.
    pub(crate) fn is_sound(&self) -> bool {
        self.damaged.is_empty()
    }

    /// How many files are damaged.
    pub(crate) fn count(&self) -> u64 {
        u64::try_from(self.damaged.len()).unwrap_or(u64::MAX).saturating_add(self.more)
    }
}

fn numbers(dir: &Dir, folder: &Path) -> Result<BTreeSet<u64>, FsError> {
    let entries = dir.open_dir(folder)?.entries_up_to(SEGMENTS)?;
    Ok(entries.into_iter().filter_map(|entry| entry.name.to_str()?.parse().ok()).collect())
}

fn cannot_read(error: &io::Error) -> String {
    format!("it cannot be read ({error})")
}

#[cfg(test)]
mod tests;
