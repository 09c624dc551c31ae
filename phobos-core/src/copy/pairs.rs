//! Two trees side by side: what differs, in no more memory for a folder of a million names than for an empty one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::CopyError;
use crate::fs::{Dir, Entry, FsError, Kind, Listing, Stat, same_time};
use crate::progress::{CopyEvent, Handler};

/// How deep the trees may be: each level holds three descriptors, and a process has a thousand.
const DEPTH: usize = 300;

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
/// # Errors
///
/// When something cannot be read, or the first error of `see` or `handler`.
pub fn walk_pairs(
    source: Option<Dir>,
    copy: Option<Dir>,
    see: Pairs<'_>,
    handler: Handler<'_>,
) -> Result<(), CopyError> {
    let top = source.as_ref().or(copy.as_ref()).map(|dir| dir.path().to_owned()).unwrap_or_default();
    let mut path = PathBuf::new();
    let mut levels = vec![Level::new(source, copy)?];
    while let Some(level) = levels.last_mut() {
        let Some(Seen { name, source: of_source, copy: of_copy }) = level.next()? else {
            levels.pop();
            path.pop();
            continue;
        };
        handler(CopyEvent::Tick)?;
        path.push(&name);
        let name = Path::new(&name);
        let (source_dir, copy_dir) = (level.source.as_ref(), level.copy.as_ref());
        see(&Pair { path: &path, name, source: of_source, copy: of_copy, source_dir, copy_dir }, handler)?;
        let enter = |dir: Option<&Dir>, stat: Option<Stat>, dev| -> Result<Option<Dir>, FsError> {
            match (dir, stat) {
                (Some(dir), Some(stat)) if stat.kind == Kind::Dir && Some(stat.dev) == dev => {
                    dir.open_dir(name).map(Some)
                }
                _ => Ok(None),
            }
        };
        let below = (enter(source_dir, of_source, level.devs.0)?, enter(copy_dir, of_copy, level.devs.1)?);
        if below.0.is_none() && below.1.is_none() {
            path.pop();
        } else if levels.len() < DEPTH && path.as_os_str().len() <= LONGEST {
            levels.push(Level::new(below.0, below.1)?);
        } else {
            return Err(CopyError::TooDeep { path: top });
        }
    }
    Ok(())
}

/// A name, and what both sides say of it.
struct Seen {
    name: OsString,
    source: Option<Stat>,
    copy: Option<Stat>,
}

struct Level {
    source: Option<Dir>,
    copy: Option<Dir>,
    devs: (Option<u64>, Option<u64>),
    in_source: Option<Listing>,
    in_copy: Option<Listing>,
}

impl Level {
    fn new(source: Option<Dir>, copy: Option<Dir>) -> Result<Self, CopyError> {
        let dev = |dir: &Option<Dir>| dir.as_ref().map(Dir::stat_self).transpose();
        let devs = (dev(&source)?.map(|stat| stat.dev), dev(&copy)?.map(|stat| stat.dev));
        let mut level = Self { source, copy, devs, in_source: None, in_copy: None };
        level.in_source = level.source.as_ref().map(Dir::listing).transpose()?;
        if level.in_source.is_none() {
            level.in_copy = level.copy.as_ref().map(Dir::listing).transpose()?;
        }
        Ok(level)
    }

    /// The next name.
    fn next(&mut self) -> Result<Option<Seen>, CopyError> {
        let stat =
            |dir: &Option<Dir>, name: &Entry| dir.as_ref().map_or(Ok(None), |dir| dir.stat(Path::new(&name.name)));
        if let Some(listing) = &mut self.in_source {
            for entry in listing {
                let entry = entry?;
                // What is gone by now is not the source's any more.
                if let Some(found) = stat(&self.source, &entry)? {
                    let of_copy = stat(&self.copy, &entry)?;
                    return Ok(Some(Seen { name: entry.name, source: Some(found), copy: of_copy }));
                }
            }
            self.in_source = None;
            self.in_copy = self.copy.as_ref().map(Dir::listing).transpose()?;
        }
        for entry in self.in_copy.iter_mut().flatten() {
            let entry = entry?;
            // What the source has was seen with it.
            if stat(&self.source, &entry)?.is_none() {
                if let Some(found) = stat(&self.copy, &entry)? {
                    return Ok(Some(Seen { name: entry.name, source: None, copy: Some(found) }));
                }
            }
        }
        Ok(None)
    }
}

impl Pair<'_> {
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
        let names = |dir: &Dir| -> Result<_, FsError> {
            let mut found = dir.attributes(self.name)?;
            // acl(5) and xattr(7): ACLs are the attributes of the class system.
            found.retain(|name| acls || !name.as_encoded_bytes().starts_with(b"system."));
            Ok(found)
        };
        let attributes = names(from)?;
        if attributes != names(to)? {
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

    /// How the two sides differ, by kind, and for files by size and time.
    pub fn difference(&self) -> Option<Difference> {
        let (source, copy) = match (self.source, self.copy) {
            (Some(source), Some(copy)) => (source, copy),
            (Some(_), None) => return Some(Difference::New),
            _ => return Some(Difference::Gone),
        };
        let differs = source.kind != copy.kind
            || (source.kind == Kind::File && (source.size != copy.size || !same_time(source.mtime, copy.mtime)));
        differs.then_some(Difference::Other)
    }
}
