//! Carrying a plan out: a new tree beside the old one, proved, and then put in place with one rename.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{
    Advice, AtFlags, FallocateFlags, Gid, Mode, RenameFlags, Timespec, Timestamps, Uid, fadvise, fallocate, fchmod,
    fchown, futimens,
};
use rustix::io::Errno;

use super::CopyError;
use super::ahead::{self, Direct, LARGE, Pool, Side};
use super::back::checksum_from_disk;
use super::bytes::{Buffer, let_go};
use super::checksum::{Checksum, Summing};
use super::plan::{Make, Plan, Step};
use super::survey::Item;
use crate::fs::{Dir, FsError, Kind};
use crate::progress::{CopyEvent, Handler, Meter, Phase};

/// How many folders in one are looked into at a time when a tree is removed.
const FOLDERS: usize = 64;

/// How deep a tree may be that is removed.
const DEPTH: usize = 500;

/// Proves a file while it passes.
pub trait Proof {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String>;

    /// Ends the file.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    fn finish(self: Box<Self>) -> Result<(), String>;
}

/// What one file after the other is copied with.
struct Tools {
    buffer: Buffer,
    pool: Pool,
    meter: Meter,
}

/// Proves nothing: for files that have nothing in them to be proved by.
#[derive(Debug)]
pub struct Unproved;

/// A file that was written, and what it has to be when it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its path below the tree.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The checksum of its content.
    pub sum: Checksum,
}

impl Proof for Unproved {
    fn feed(&mut self, _bytes: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        Ok(())
    }
}

/// Makes the tree of `plan` in the empty folder `fresh`: from `source`, and from `old`, the copy as it is, for what is kept.
///
/// # Errors
///
/// When something could not be read, proved or written: `old` is as it was, and `fresh` has to be thrown away.
pub fn build<'p>(
    source: &Dir,
    old: Option<&Dir>,
    fresh: &Dir,
    plan: &Plan,
    proof: &dyn Fn(&Path) -> Box<dyn Proof + 'p>,
    handler: Handler<'_>,
) -> Result<Vec<Written>, CopyError> {
    let mut written = Vec::new();
    let mut tools = Tools { buffer: Buffer::new(), pool: Pool::default(), meter: Meter::new(Some(plan.bytes())) };
    handler(CopyEvent::Phase(Phase::Copying))?;
    // A subvolume of its own has no names elsewhere.
    let mut old = old;
    for step in &plan.steps {
        match (step.make, old) {
            (Make::Folder, _) => drop(fresh.make_dir(&step.path, 0o700)?),
            (Make::Keep, Some(from)) => match keep(from, fresh, step) {
                Err(CopyError::Write { source: error, .. }) if error.kind() == io::ErrorKind::CrossesDevices => {
                    old = None;
                    written.push(copy(source, fresh, step, proof(&step.path), &mut tools, handler)?);
                }
                kept => kept?,
            },
            (Make::Copy, _) | (Make::Keep, None) => {
                let proof = proof(&step.path);
                written.push(copy(source, fresh, step, proof, &mut tools, handler)?);
            }
        }
    }
    // A folder gets its owner and permissions when nothing is made in it any more.
    for step in plan.steps.iter().rev().filter(|step| step.make == Make::Folder) {
        let folder = fresh.open_dir(&step.path)?;
        own(&folder, &step.item).map_err(|source| wrong(fresh, &step.path, source))?;
    }
    let top = source.stat_self()?;
    own(fresh, &Item::from(top)).map_err(|source| wrong(fresh, Path::new(""), source))?;
    Ok(written)
}

/// Gives a file of the old tree a second name in the new one, and the times and owner that it has to have.
fn keep(old: &Dir, fresh: &Dir, step: &Step) -> Result<(), CopyError> {
    let failed = |source: Errno| wrong(fresh, &step.path, source);
    let (from, to) = (parent(old, &step.path)?, parent(fresh, &step.path)?);
    let name = step.path.file_name().unwrap_or_default();
    rustix::fs::linkat(&from, name, &to, name, AtFlags::empty()).map_err(failed)?;
    let stat = to.stat(Path::new(name))?.map(Item::from);
    if stat != Some(step.item) {
        let file = to.open_file(Path::new(name))?;
        own(&file, &step.item).and_then(|()| time(&file, &step.item)).map_err(failed)?;
    }
    Ok(())
}

fn copy(
    source: &Dir,
    fresh: &Dir,
    step: &Step,
    mut proof: Box<dyn Proof + '_>,
    Tools { buffer, pool, meter }: &mut Tools,
    handler: Handler<'_>,
) -> Result<Written, CopyError> {
    let path = source.path().join(&step.path);
    let read = |source| CopyError::Read { path: path.clone(), source };
    let failed = |source: Errno| wrong(fresh, &step.path, source);
    let damaged = |why| CopyError::Damaged { path: path.clone(), why };
    let mut from = source.open_file(&step.path)?;
    let to = fresh.create_new(&step.path, 0o600)?;
    if let Err(error) = fadvise(&from, 0, None, Advice::Sequential) {
        log::debug!("no reading ahead of {}: {error}", path.display());
    }
    // In one piece on the disk; a file system that cannot promise that writes as it likes.
    match fallocate(&to, FallocateFlags::empty(), 0, step.item.size.max(1)) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
        Err(error) => return Err(failed(error)),
    }
    let mut sum = Summing::default();
    let is_large = step.item.size >= LARGE;
    let mut out = Direct::new(&to, is_large);
    let mut check = |piece: &[u8]| {
        proof.feed(piece).map_err(damaged)?;
        sum.feed(piece);
        let count = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        handler(CopyEvent::Progress(meter.add(count))).map_err(CopyError::from)
    };
    if is_large {
        let fill = |buffer: &mut Buffer| buffer.fill(&mut from).map(<[u8]>::len);
        ahead::copy(pool, fill, &mut out, &mut check)?.map_err(|side| match side {
            Side::Read(source) => read(source),
            Side::Write(source) => wrong(fresh, &step.path, source),
        })?;
    } else {
        loop {
            let piece = buffer.fill(&mut from).map_err(read)?;
            if piece.is_empty() {
                break;
            }
            check(piece)?;
            out.write(piece).map_err(|source| wrong(fresh, &step.path, source))?;
        }
    }
    proof.finish().map_err(damaged)?;
    let size = sum.size();
    if size != step.item.size {
        return Err(CopyError::Changed { path });
    }
    to.set_len(size).map_err(|source| wrong(fresh, &step.path, source))?;
    own(&to, &step.item).and_then(|()| time(&to, &step.item)).map_err(failed)?;
    let_go(&from);
    let_go(&to);
    Ok(Written { path: step.path.clone(), size, sum: sum.checksum() })
}

/// Reads back what was written, from the disk itself; to be called when the file system was synced.
///
/// # Errors
///
/// When something cannot be read, or is not what was written.
pub fn verify(fresh: &Dir, written: &[Written], handler: Handler<'_>) -> Result<(), CopyError> {
    let (mut buffer, mut pool) = (Buffer::new(), Pool::default());
    let all = written.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
    let mut meter = Meter::new(Some(all));
    handler(CopyEvent::Phase(Phase::ReadingBack))?;
    for Written { path, size, sum } in written {
        let file = fresh.open_file(path)?;
        let found = checksum_from_disk(&file, (&mut buffer, &mut pool), &mut meter, handler)?;
        let found = found.map_err(|source| CopyError::Read { path: fresh.path().join(path), source })?;
        if found != (*size, *sum) {
            return Err(CopyError::Lost { path: fresh.path().join(path) });
        }
    }
    Ok(())
}

/// Puts the folder `fresh` in the place of the folder `old` with one rename, so that a crash leaves the one or the other;
/// what was in place has the name of `fresh` afterwards. Returns whether there was something in place.
///
/// # Errors
///
/// When the system refuses; nothing has changed then.
pub fn exchange(from: &Dir, fresh: &Path, to: &Dir, old: &Path) -> Result<bool, CopyError> {
    if to.stat(old)?.is_none() {
        from.rename_new(fresh, to, old)?;
        return Ok(false);
    }
    let (from_dir, to_dir) = (parent(from, fresh)?, parent(to, old)?);
    let names = (fresh.file_name().unwrap_or_default(), old.file_name().unwrap_or_default());
    rustix::fs::renameat_with(&from_dir, names.0, &to_dir, names.1, RenameFlags::EXCHANGE).map_err(|error| {
        let path = to.path().join(old);
        CopyError::Fs(FsError::Io { action: "put in place", path, source: error.into() })
    })?;
    Ok(true)
}

/// Removes `name` and all that is below it, if it is there, links not followed.
///
/// # Errors
///
/// When something cannot be removed.
pub fn remove_tree(dir: &Dir, name: &Path, handler: Handler<'_>) -> Result<(), CopyError> {
    // Without recursion, and a few folders at a time: a hostile tree can be deeper than any stack, and wider than any memory.
    let mut at = match dir.stat(name)? {
        None => return Ok(()),
        Some(stat) if stat.kind != Kind::Dir => return Ok(dir.remove(name)?),
        Some(_) => vec![(dir.try_clone()?, vec![name.to_owned()])],
    };
    while let Some((parent, folders)) = at.last_mut() {
        handler(CopyEvent::Tick)?;
        let Some(name) = folders.last() else {
            at.pop();
            continue;
        };
        let folder = parent.open_dir(name)?;
        let below = empty(&folder)?;
        if below.is_empty() {
            parent.remove_dir(name)?;
            folders.pop();
        } else if at.len() < DEPTH {
            at.push((folder, below));
        } else {
            return Err(CopyError::TooDeep { path: dir.path().to_owned() });
        }
    }
    Ok(())
}

/// Removes what is in `folder` but for folders that are not empty, and names some of those.
fn empty(folder: &Dir) -> Result<Vec<PathBuf>, FsError> {
    let mut below = Vec::new();
    for entry in folder.listing()? {
        let name = PathBuf::from(entry?.name);
        if !remove_one(folder, &name)? {
            below.push(name);
        }
        if below.len() >= FOLDERS {
            break;
        }
    }
    Ok(below)
}

/// Removes a name; `false` for a folder that is not empty.
fn remove_one(folder: &Dir, name: &Path) -> Result<bool, FsError> {
    let removed = match folder.stat(name)? {
        None => Ok(()),
        Some(stat) if stat.kind != Kind::Dir => folder.remove(name),
        Some(_) => folder.remove_dir(name),
    };
    match removed {
        Err(FsError::Io { source, .. }) if source.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        removed => removed.map(|()| true),
    }
}

fn parent(dir: &Dir, path: &Path) -> Result<Dir, FsError> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => dir.open_dir(parent),
        None => dir.try_clone(),
    }
}

fn own(file: &impl std::os::fd::AsFd, item: &Item) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(file)?;
    if (stat.st_uid, stat.st_gid) != (item.uid, item.gid) {
        fchown(file, Some(Uid::from_raw(item.uid)), Some(Gid::from_raw(item.gid)))?;
    }
    fchmod(file, Mode::from_raw_mode(item.mode))
}

fn time(file: &File, item: &Item) -> Result<(), Errno> {
    let last_access = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let last_modification = Timespec { tv_sec: item.mtime.0, tv_nsec: item.mtime.1.into() };
    futimens(file, &Timestamps { last_access, last_modification })
}

fn wrong(dir: &Dir, path: &Path, source: impl Into<io::Error>) -> CopyError {
    CopyError::Write { path: dir.path().join(path), source: source.into() }
}

#[cfg(test)]
mod tests;
