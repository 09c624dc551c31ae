//! Holding spaces and everything else that rsync copies: judged before, and looked at and read back afterwards.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use phobos_core::copy::{self, CopyError, Difference, Pair, walk_pairs};
use phobos_core::fs::{Dir, FsError, Kind, shown};
use phobos_core::progress::Handler;

use crate::gate::Finding;

/// A space with fewer files than this may have all of them replaced: that is what one changed file looks like.
const FEW: u64 = 20;

/// What is known of a space on both sides.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    source: u64,
    copy: u64,
    same: u64,
}

/// How much room a copy of the spaces needs, in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// What is added for good.
    pub(crate) added: u64,
    /// The largest file that is made beside the one that it replaces.
    pub(crate) beside: u64,
    /// What is copied, for the place of other files too.
    pub(crate) copied: u64,
}

/// The folders that are judged one by one: those in `holding`, and what else is at the top of either side.
pub(crate) fn list(
    source: &Dir,
    copy: &Dir,
    tops: &BTreeSet<OsString>,
    repository: &Path,
    holding: Option<&Path>,
) -> Result<Vec<PathBuf>, FsError> {
    let covers = |top: &Path| repository.starts_with(top) || holding.is_some_and(|holding| holding.starts_with(top));
    let mut spaces: BTreeSet<PathBuf> = tops.iter().map(PathBuf::from).filter(|top| !covers(top)).collect();
    for side in [source, copy] {
        let Some(holding) = holding else { continue };
        if let Some(folder) = folder(side, holding)? {
            // Marks of pulls change with every pull.
            let names = folder.entries()?.into_iter().map(|entry| entry.name).filter(|name| name != ".phobos");
            spaces.extend(names.map(|name| holding.join(name)));
        }
    }
    Ok(spaces.into_iter().collect())
}

/// What of the copy's spaces the source has lost, and how much room the rest needs.
pub(crate) fn judge(
    source: &Dir,
    copy: &Dir,
    spaces: &[PathBuf],
    handler: Handler<'_>,
) -> Result<(Vec<Finding>, Room), CopyError> {
    let (mut findings, mut room) = (Vec::new(), Room::default());
    for space in spaces {
        let mut count = Count::default();
        let mut see = |pair: &Pair<'_>, _: Handler<'_>| {
            let is_file = |stat: &phobos_core::fs::Stat| stat.kind == Kind::File;
            let (new, old) = (pair.source.filter(is_file), pair.copy.filter(is_file));
            count.source += u64::from(new.is_some());
            count.copy += u64::from(old.is_some());
            if let Some(new) = new {
                let size = new.size.min(new.taken);
                if pair.difference().is_none() {
                    count.same += 1;
                } else {
                    room.added = room.added.saturating_add(size.saturating_sub(old.map_or(0, |old| old.taken)));
                    room.copied = room.copied.saturating_add(new.size);
                    room.beside = room.beside.max(if old.is_some() { size } else { 0 });
                }
            }
            Ok(())
        };
        walk_pairs(folder(source, space)?, folder(copy, space)?, &mut see, handler)?;
        findings.extend(count.judge(space));
    }
    Ok((findings, room))
}

impl Count {
    fn judge(self, space: &Path) -> Option<Finding> {
        let Self { source, copy, same } = self;
        let what = if copy > 0 && source == 0 {
            format!("is gone or empty, and has {copy} files on the drive")
        } else if source < copy / 2 {
            format!("has {source} files, and {copy} on the drive")
        } else if copy >= FEW && same < copy / 2 {
            format!("has {same} of the drive's {copy} files as they were: most were replaced or renamed at once")
        } else {
            return None;
        };
        let text = format!(
            "{} {what}: it is not mounted, or lost, or encrypted by somebody else, or it was cleared up",
            shown(space)
        );
        Some(Finding { text, exactly: format!("{} {self:?}", shown(space)) })
    }
}

/// Compares the spaces after they were copied, and reads back from the disk what changed on the drive since `since`.
///
/// Returns the first name that is not what it has to be.
pub(crate) fn verify(
    source: &Dir,
    copy: &Dir,
    spaces: &[PathBuf],
    since: i64,
    handler: Handler<'_>,
) -> Result<Option<String>, CopyError> {
    for space in spaces {
        let mut wrong = None;
        let mut see = |pair: &Pair<'_>, handler: Handler<'_>| {
            let path = space.join(pair.path);
            if let Some(difference) = pair.difference().filter(|_| wrong.is_none()) {
                let what = match difference {
                    Difference::New => "is not on the drive",
                    Difference::Gone => "is still on the drive",
                    Difference::Other => "is another one on the drive",
                };
                wrong = Some(format!("{} {what}", shown(&path)));
            }
            if pair.copy.is_some_and(|stat| stat.kind == Kind::File && stat.ctime >= since) && wrong.is_none() {
                if let (Some(source), Some(copy)) = (pair.source_dir, pair.copy_dir) {
                    let name = Path::new(pair.path.file_name().unwrap_or_default());
                    let (mut from, to) = (source.open_file(name)?, copy.open_file(name)?);
                    let same = copy::same_content(&mut from, &to, handler)?;
                    if !same.map_err(|source| CopyError::Read { path: path.clone(), source })? {
                        wrong = Some(format!("{} was read back with another content than was written", shown(&path)));
                    }
                }
            }
            Ok(())
        };
        walk_pairs(folder(source, space)?, folder(copy, space)?, &mut see, handler)?;
        if wrong.is_some() {
            return Ok(wrong);
        }
    }
    Ok(None)
}

/// Makes sure that rsync copies again what a run wrote that did not end well: size and time prove nothing about it.
pub(crate) fn distrust(copy: &Dir, spaces: &[PathBuf], since: i64, handler: Handler<'_>) -> Result<u64, CopyError> {
    let mut count = 0;
    for space in spaces {
        let mut see = |pair: &Pair<'_>, _: Handler<'_>| {
            let unproved = pair.copy.is_some_and(|stat| stat.kind == Kind::File && stat.ctime >= since);
            if let (true, Some(folder), Some(name)) = (unproved, pair.copy_dir, pair.path.file_name()) {
                folder.set_time(Path::new(name), (0, 0))?;
                count += 1;
            }
            Ok(())
        };
        walk_pairs(None, folder(copy, space)?, &mut see, handler)?;
    }
    Ok(count)
}

/// The folder `path` below `root`; `None` where there is none, or something else.
fn folder(root: &Dir, path: &Path) -> Result<Option<Dir>, FsError> {
    match root.stat(path)? {
        Some(stat) if stat.kind == Kind::Dir => root.open_dir(path).map(Some),
        _ => Ok(None),
    }
}
