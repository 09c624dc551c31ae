//! Two trees side by side: what differs, in no more memory for a folder of a million names than for an empty one.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use super::CopyError;
use super::side::{Found, Side, Told};
use crate::fs::{Dir, FsError, Kind, Listing, Stat, listed, same_time};
use crate::progress::{CopyEvent, Handler};

/// How deep the trees may be: each level holds three descriptors, and a process has a thousand.
const DEPTH: usize = 300;

/// About how many names the sides are asked at once.
const MANY: usize = 128;

/// The same from the level `DEEP` on: each keeps what it has not come to yet.
const FEW: usize = 8;

/// See [`FEW`].
const DEEP: usize = 8;

/// How long a path below the trees may be, in bytes: twice what the kernel and rsync take.
const LONGEST: usize = 8192;

/// One name that at least one of two trees has.
#[derive(Debug)]
pub struct Pair<'p> {
    /// Its path below the trees.
    pub path: &'p Path,
    /// Its name in the folders.
    pub name: &'p Path,
    /// What the source says of it.
    pub source: Option<Stat>,
    /// What the copy says of it.
    pub copy: Option<Stat>,
    /// The folder of the source that it is in.
    pub source_dir: Option<&'p Dir>,
    /// The folder of the copy that it is in.
    pub copy_dir: Option<&'p Dir>,
    /// The names of the attributes on both sides, where they were looked at already.
    attributes: Option<(Vec<u8>, Vec<u8>)>,
}

/// How a name differs in two trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Only the source has it.
    New,
    /// Only the copy has it.
    Gone,
    /// Kind, size or time are others.
    Other,
}

/// What sees each pair, and may tell the handler what it does with it.
pub type Pairs<'p> = &'p mut dyn FnMut(&Pair<'_>, Handler<'_>) -> Result<(), CopyError>;

/// Walks two trees at once; `None` is a tree that is not there. In each folder the source's names come first, and then those
/// that only the copy has, both in the order of their file systems. Folders of other file systems are not entered.
///
/// Both sides are asked about many names at a time, and at the same time, by a thread each.
///
/// # Errors
///
/// When something cannot be read, or the first error of `see` or `handler`.
pub fn walk_pairs(
    source: Option<Dir>,
    copy: Option<Dir>,
    see: Pairs<'_>,
    handler: Handler<'_>,
) -> Result<(), CopyError> {
    walk_pairs_with(source, copy, &Cell::new(false), see, handler)
}

/// The same, with the names of the attributes of what both trees have while `with_attributes` says so:
/// [`Pair::is_the_same_in_all`] takes less time then.
///
/// # Errors
///
/// As [`walk_pairs`].
pub fn walk_pairs_with(
    source: Option<Dir>,
    copy: Option<Dir>,
    with_attributes: &Cell<bool>,
    see: Pairs<'_>,
    handler: Handler<'_>,
) -> Result<(), CopyError> {
    let top = source.as_ref().or(copy.as_ref()).map(|dir| dir.path().to_owned()).unwrap_or_default();
    thread::scope(|scope| {
        let sides = (Side::new(scope), Side::new(scope));
        let mut path = PathBuf::new();
        let mut levels = vec![Level::new(source, copy)?];
        loop {
            let many = if levels.len() < DEEP { MANY } else { FEW };
            let Some(level) = levels.last_mut() else { return Ok(()) };
            let Some(Seen { name, source: of_source, copy: of_copy }) =
                level.next(&sides, many, with_attributes.get())?
            else {
                levels.pop();
                path.pop();
                continue;
            };
            handler(CopyEvent::Tick)?;
            path.push(&name);
            let name = Path::new(&name);
            let (source_dir, copy_dir) = (level.source.as_ref(), level.copy.as_ref());
            let stat = |found: &Option<Found>| found.as_ref().map(|found| found.stat);
            let (in_source, in_copy) = (stat(&of_source), stat(&of_copy));
            let mut pair = Pair::new(&path, name, (in_source, source_dir), (in_copy, copy_dir));
            pair.attributes =
                of_source.and_then(|found| found.attributes).zip(of_copy.and_then(|found| found.attributes));
            see(&pair, handler)?;
            let enter = |dir: Option<&Dir>, stat: Option<Stat>, dev| -> Result<Option<Dir>, FsError> {
                match (dir, stat) {
                    (Some(dir), Some(stat)) if stat.kind == Kind::Dir && Some(stat.dev) == dev => {
                        dir.open_dir(name).map(Some)
                    }
                    _ => Ok(None),
                }
            };
            let below = (enter(source_dir, in_source, level.devs.0)?, enter(copy_dir, in_copy, level.devs.1)?);
            if below.0.is_none() && below.1.is_none() {
                path.pop();
            } else if levels.len() < DEPTH && path.as_os_str().len() <= LONGEST {
                levels.push(Level::new(below.0, below.1)?);
            } else {
                return Err(CopyError::TooDeep { path: top });
            }
        }
    })
}

/// A name, and what both sides say of it.
struct Seen {
    name: OsString,
    source: Option<Found>,
    copy: Option<Found>,
}

/// A folder of both trees.
struct Level {
    source: Option<Dir>,
    copy: Option<Dir>,
    devs: (Option<u64>, Option<u64>),
    in_source: Option<Listing>,
    in_copy: Option<Listing>,
    /// How many names both have.
    common: usize,
    /// Those that come next.
    seen: VecDeque<Seen>,
}

impl Level {
    fn new(source: Option<Dir>, copy: Option<Dir>) -> Result<Self, CopyError> {
        let dev = |dir: &Option<Dir>| dir.as_ref().map(Dir::stat_self).transpose();
        let devs = (dev(&source)?.map(|stat| stat.dev), dev(&copy)?.map(|stat| stat.dev));
        let mut level = Self { source, copy, devs, in_source: None, in_copy: None, common: 0, seen: VecDeque::new() };
        level.in_source = level.source.as_ref().map(Dir::listing).transpose()?;
        if level.in_source.is_none() {
            level.in_copy = level.copy.as_ref().map(Dir::listing).transpose()?;
        }
        Ok(level)
    }

    /// The next name; the sides are asked about `many` at once.
    fn next(&mut self, sides: &(Side, Side), many: usize, with_attributes: bool) -> Result<Option<Seen>, CopyError> {
        while self.seen.is_empty() {
            if let Some(listing) = &mut self.in_source {
                let names = some(listing, many)?;
                if names.is_empty() {
                    self.in_source = None;
                    self.in_copy = self.others()?;
                    continue;
                }
                // What is gone by now is not the source's any more.
                self.look(sides, &names, with_attributes, |source, _| source.is_some())?;
                self.common += self.seen.iter().filter(|seen| seen.copy.is_some()).count();
            } else if let Some(listing) = &mut self.in_copy {
                let names = some(listing, many)?;
                if names.is_empty() {
                    self.in_copy = None;
                    continue;
                }
                // What the source has was seen with it.
                self.look(sides, &names, false, |source, copy| source.is_none() && copy.is_some())?;
            } else {
                return Ok(None);
            }
        }
        Ok(self.seen.pop_front())
    }

    /// Asks both sides about `names`, and keeps what `is_wanted`.
    fn look(
        &mut self,
        sides: &(Side, Side),
        names: &Arc<[OsString]>,
        with_attributes: bool,
        is_wanted: impl Fn(&Option<Found>, &Option<Found>) -> bool,
    ) -> Result<(), CopyError> {
        let ask = |side: &Side, dir: &Option<Dir>| match dir {
            Some(dir) => side.ask(dir, names, with_attributes).map(|()| true),
            None => Ok(false),
        };
        let asked = (ask(&sides.0, &self.source)?, ask(&sides.1, &self.copy)?);
        let told =
            |side: &Side, is_asked| if is_asked { side.told() } else { names.iter().map(|_| Ok(None)).collect() };
        let (of_source, of_copy): (Told, Told) = (told(&sides.0, asked.0), told(&sides.1, asked.1));
        if of_source.len() != names.len() || of_copy.len() != names.len() {
            return Err(CopyError::Stopped("internal error: nobody has looked at a folder".to_owned()));
        }
        for ((name, source), copy) in names.iter().zip(of_source).zip(of_copy) {
            let (source, copy) = (source?, copy?);
            if is_wanted(&source, &copy) {
                self.seen.push_back(Seen { name: name.clone(), source, copy });
            }
        }
        Ok(())
    }

    /// The copy's names, if it has any that the source has not: it has more then than both have.
    fn others(&self) -> Result<Option<Listing>, CopyError> {
        let Some(copy) = &self.copy else { return Ok(None) };
        let mut count: usize = 0;
        for entry in copy.listing()? {
            entry?;
            count = count.saturating_add(1);
        }
        Ok(if count == self.common { None } else { Some(copy.listing()?) })
    }
}

/// The next names of a listing, `many` at most; none at its end.
fn some(listing: &mut Listing, many: usize) -> Result<Arc<[OsString]>, FsError> {
    listing.take(many).map(|entry| entry.map(|entry| entry.name)).collect()
}

impl<'p> Pair<'p> {
    /// A name at `path`, and what both sides say of it, with the folders that it is in.
    pub fn new(
        path: &'p Path,
        name: &'p Path,
        (source, source_dir): (Option<Stat>, Option<&'p Dir>),
        (copy, copy_dir): (Option<Stat>, Option<&'p Dir>),
    ) -> Self {
        Self { path, name, source, copy, source_dir, copy_dir, attributes: None }
    }

    /// Whether both sides are the same in all that a copy keeps, so that nothing is left to do: owners, permissions, the
    /// times of folders and links too, where links point to, extended attributes, and ACLs if `acls`.
    ///
    /// What cannot be told from one pair is no: a file with several names, or a device.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn is_the_same_in_all(&self, acls: bool) -> Result<bool, FsError> {
        let (Some(source), Some(copy), Some(from), Some(to)) = (self.source, self.copy, self.source_dir, self.copy_dir)
        else {
            return Ok(false);
        };
        let told = matches!(source.kind, Kind::File | Kind::Dir | Kind::Link);
        let shared = |stat: Stat| stat.kind != Kind::Dir && stat.links != 1;
        let who = |stat: Stat| (stat.kind, stat.uid, stat.gid, stat.mode);
        if !told
            || shared(source)
            || shared(copy)
            || who(source) != who(copy)
            || self.difference().is_some()
            || !same_time(source.mtime, copy.mtime)
        {
            return Ok(false);
        }
        if source.kind == Kind::Link && from.read_link(self.name)? != to.read_link(self.name)? {
            return Ok(false);
        }
        let (mut attributes, mut others) = match &self.attributes {
            Some((one, other)) => (listed(one), listed(other)),
            None => (from.attributes(self.name)?, to.attributes(self.name)?),
        };
        // acl(5) and xattr(7): ACLs are the attributes of the class system.
        let counts = |name: &OsString| acls || !name.as_encoded_bytes().starts_with(b"system.");
        attributes.retain(counts);
        others.retain(counts);
        if attributes != others {
            return Ok(false);
        }
        // One at a time: a hostile drive has as many and as large ones as its file system takes.
        for attribute in &attributes {
            if from.attribute(self.name, attribute)? != to.attribute(self.name, attribute)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How the two sides differ, by kind, and for files by size and time; a time that the copy's file system cannot keep is the
    /// last that it can.
    pub fn difference(&self) -> Option<Difference> {
        let (source, copy) = match (self.source, self.copy) {
            (Some(source), Some(copy)) => (source, copy),
            (Some(_), None) => return Some(Difference::New),
            _ => return Some(Difference::Gone),
        };
        let is_then = same_time(source.mtime, copy.mtime) || is_out_of_range(source.mtime.0, copy.mtime.0);
        let differs = source.kind != copy.kind || (source.kind == Kind::File && (source.size != copy.size || !is_then));
        differs.then_some(Difference::Other)
    }
}

/// Whether a time, in seconds since 1970, is one that the copy's file system cannot keep, so that the kernel has kept the last one that
/// it can: with 32 bits, as ext4 with small inodes and old xfs have them, or with ext4's 34.
fn is_out_of_range(source: i64, copy: i64) -> bool {
    let first = i64::from(i32::MIN);
    let lasts = [i64::from(i32::MAX), i64::from(i32::MAX).saturating_add(3 << 32)];
    (source < first && copy == first) || lasts.iter().any(|last| source > *last && copy == *last)
}

#[cfg(test)]
mod tests;
