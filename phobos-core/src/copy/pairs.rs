//! Two trees side by side: what differs, in the memory of one folder at a time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::CopyError;
use crate::fs::{Dir, FsError, Kind, Stat, same_time};
use crate::progress::{CopyEvent, Handler};

/// How deep the trees may be: each level holds a descriptor.
const DEPTH: usize = 400;

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

/// Walks two trees at once, the names of each folder in their order; `None` is a tree that is not there. Folders of other
/// file systems are not entered.
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
    let mut levels = vec![Level::new(PathBuf::new(), source, copy)?];
    while let Some(level) = levels.last_mut() {
        let Some((name, (in_source, in_copy))) = level.names.pop_first() else {
            levels.pop();
            continue;
        };
        handler(CopyEvent::Tick)?;
        let path = level.path.join(&name);
        let name = Path::new(&name);
        let (source_dir, copy_dir) = (level.source.as_ref(), level.copy.as_ref());
        let look = |dir: Option<&Dir>, is_there: Here| match (dir, is_there) {
            (Some(dir), Here::Yes) => dir.stat(name),
            _ => Ok(None),
        };
        let (of_source, of_copy) = (look(source_dir, in_source)?, look(copy_dir, in_copy)?);
        if of_source.is_none() && of_copy.is_none() {
            continue;
        }
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
        if below.0.is_some() || below.1.is_some() {
            if levels.len() >= DEPTH {
                return Err(CopyError::TooMany { path, limit: DEPTH });
            }
            levels.push(Level::new(path, below.0, below.1)?);
        }
    }
    Ok(())
}

/// Whether a listing has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Here {
    Yes,
    No,
}

struct Level {
    path: PathBuf,
    source: Option<Dir>,
    copy: Option<Dir>,
    devs: (Option<u64>, Option<u64>),
    names: BTreeMap<OsString, (Here, Here)>,
}

impl Level {
    fn new(path: PathBuf, source: Option<Dir>, copy: Option<Dir>) -> Result<Self, CopyError> {
        let mut names = BTreeMap::new();
        for entry in source.as_ref().map(Dir::entries).transpose()?.unwrap_or_default() {
            names.insert(entry.name, (Here::Yes, Here::No));
        }
        for entry in copy.as_ref().map(Dir::entries).transpose()?.unwrap_or_default() {
            names.entry(entry.name).or_insert((Here::No, Here::No)).1 = Here::Yes;
        }
        let dev = |dir: &Option<Dir>| dir.as_ref().map(Dir::stat_self).transpose();
        let devs = (dev(&source)?.map(|stat| stat.dev), dev(&copy)?.map(|stat| stat.dev));
        Ok(Self { path, source, copy, devs, names })
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
