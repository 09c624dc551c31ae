//! What a drill restores: which files of each host have their turn, and whether what comes is what it has to be.
//!
//! All files of a host stand in a circle, by numbers that their paths have. Each drill goes on where the one before has ended, so
//! that after enough of them every file was restored once, and one number says how far that is.

mod comparing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BinaryHeap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use phobos_core::borg::archive::{Archive, Item};

pub(crate) use self::comparing::{Comparing, Outcome};

/// How many files of a host are sampled at most.
const MOST: usize = 1024;

/// How many bytes of paths a call of Borg is given at most: there is a limit to what a program may be told.
const WORDS: usize = 128 * 1024;

/// A file that may be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// How far it is behind the place in the circle where this drill begins.
    distance: u64,
    /// The place in the archive: what is restored comes in that order.
    order: u64,
    pub(crate) item: Item,
    /// The file's path below the holding spaces.
    pub(crate) inside: PathBuf,
}

/// The sample of one host, as it is drawn from an archive.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Where in the circle it begins.
    from: u64,
    nearest: BinaryHeap<Candidate>,
    /// How many files the archive has of the host, and how many bytes.
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// The samples of all hosts that an archive has files of.
#[derive(Debug)]
pub(crate) struct Draw<'a> {
    /// The folder of the holding spaces, as archives have it: without a slash in front.
    pub(crate) holding: &'a Path,
    /// The hosts that are wanted, and where in the circle each goes on.
    pub(crate) hosts: &'a BTreeMap<OsString, u64>,
    /// What was found.
    pub(crate) samples: BTreeMap<OsString, Sample>,
    /// How many bytes all files of the archive have, whosever they are.
    pub(crate) bytes: u64,
    order: u64,
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.distance, self.order).cmp(&(other.distance, other.order))
    }
}

impl Candidate {
    /// Where in the circle the next drill begins, when this file was the last one.
    pub(crate) fn next(&self) -> u64 {
        Item::lot(self.inside.as_os_str()).wrapping_add(1)
    }
}

impl Sample {
    fn new(from: u64) -> Self {
        Self { from, nearest: BinaryHeap::new(), files: 0, bytes: 0 }
    }

    fn see(&mut self, order: u64, item: Item, inside: PathBuf) {
        self.files = self.files.saturating_add(1);
        self.bytes = self.bytes.saturating_add(item.size);
        let distance = Item::lot(inside.as_os_str()).wrapping_sub(self.from);
        self.nearest.push(Candidate { distance, order, item, inside });
        if self.nearest.len() > MOST {
            self.nearest.pop();
        }
    }

    /// The files in the order of the circle.
    pub(crate) fn in_turn(self) -> Vec<Candidate> {
        self.nearest.into_sorted_vec()
    }
}

impl<'a> Draw<'a> {
    pub(crate) fn new(holding: &'a Path, hosts: &'a BTreeMap<OsString, u64>) -> Self {
        Self { holding, hosts, samples: BTreeMap::new(), bytes: 0, order: 0 }
    }

    /// Takes a file of the archive, if it is of a host that is wanted.
    pub(crate) fn see(&mut self, item: Item) {
        self.order = self.order.saturating_add(1);
        self.bytes = self.bytes.saturating_add(item.size);
        let Some(inside) = inside(self.holding, &item.path) else { return };
        let Some(host) = inside.iter().next() else { return };
        let Some(from) = self.hosts.get(host) else { return };
        let (host, order) = (host.to_owned(), self.order);
        self.samples.entry(host).or_insert_with(|| Sample::new(*from)).see(order, item, inside);
    }
}

/// The path of a file below the holding spaces, by its path in an archive: below the whole path of their folder, or else below a
/// folder of its name, where Borg was started in another place.
fn inside(holding: &Path, path: &Path) -> Option<PathBuf> {
    if let Ok(inside) = path.strip_prefix(holding) {
        return Some(inside.to_owned());
    }
    let name = holding.file_name()?;
    let mut parts = path.iter();
    parts.by_ref().find(|part| *part == name)?;
    Some(parts.as_path().to_owned()).filter(|inside| inside.components().count() > 1)
}

/// Takes from the front of `files` what one call of Borg restores: `count` files and `bytes` bytes at most, and at least one.
pub(crate) fn batch(files: &mut std::vec::IntoIter<Candidate>, count: usize, bytes: u64) -> Vec<Candidate> {
    let (mut taken, mut size, mut words) = (Vec::new(), 0_u64, 0_usize);
    while let Some(next) = files.as_slice().first() {
        size = size.saturating_add(next.item.size);
        words = words.saturating_add(next.item.path.as_os_str().len().saturating_add(16));
        if !taken.is_empty() && (taken.len() >= count || size > bytes || words > WORDS) {
            break;
        }
        taken.extend(files.next());
    }
    taken
}

/// The same files as the archive has them.
pub(crate) fn in_archive(files: &[Candidate]) -> Vec<&Candidate> {
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort_by_key(|candidate| candidate.order);
    sorted
}

/// The newest archive of each row of archives, newest first: those whose names differ only behind the last word before a date or
/// number, as borgmatic and everybody else calls them.
pub(crate) fn newest(archives: Vec<Archive>) -> Vec<Archive> {
    let mut seen = std::collections::BTreeSet::new();
    archives.into_iter().filter(|archive| seen.insert(row(&archive.name).to_owned())).collect()
}

fn row(name: &str) -> &str {
    // A checkpoint is what an archive was when it was interrupted.
    let name = name.trim_end_matches(".checkpoint");
    name.trim_end_matches(|c: char| c.is_ascii_digit() || "-_:.+TZ".contains(c))
}
