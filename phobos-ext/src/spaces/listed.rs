//! The spaces' files that are on a list of checksums: which stay on it, and which are damaged and copied again.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use phobos_core::copy::{CopyError, Pair};
use phobos_core::fs::{Dir, Kind, same_time, shown};
use phobos_core::progress::Handler;
use phobos_site::exit::{Exit, Stop};

use super::{MARKS, Noted, UNPROVED, walk};
use crate::checksums::List;
use crate::record::FOLDER;
use crate::{seal, sealing};

/// The marks of pulls: `noted` with the checksums that they have on the drive. What they say changes with each pull.
pub(crate) fn note_marks(copy: &Dir, holding: &Path, noted: Noted<'_>, handler: Handler<'_>) -> Result<(), CopyError> {
    let marks = holding.join(MARKS);
    let mut see = |pair: &Pair<'_>, handler: Handler<'_>| {
        let path = marks.join(pair.path);
        let is_file = pair.copy.is_some_and(|stat| stat.kind == Kind::File);
        if is_file { noted(&path, seal::checksum(copy, &path, handler)?.into()) } else { Ok(()) }
    };
    walk((None, Some(copy)), &marks, &Cell::new(false), &mut see, handler)
}

/// Whether a file is none of the marks of pulls, and was not changed on the drive since `since`.
pub(crate) fn is_kept(copy: &Dir, path: &Path, holding: Option<&Path>, since: i64) -> Result<bool, CopyError> {
    let is_mark = holding.is_some_and(|holding| path.starts_with(holding.join(MARKS)));
    Ok(!is_mark && copy.stat(path)?.is_some_and(|stat| stat.kind == Kind::File && stat.ctime < since))
}

/// Makes sure that rsync copies what is `damaged` in the spaces again, unless the source has the same damage: then nobody but its
/// owner knows which of the two is right.
pub(crate) fn distrust_damaged(
    source: &Dir,
    copy: &Dir,
    believed: &BTreeSet<List>,
    damaged: &BTreeSet<PathBuf>,
    repository: &Path,
    handler: Handler<'_>,
) -> Result<(), anyhow::Error> {
    let own = |path: &PathBuf| path.starts_with(repository) || path.starts_with(FOLDER);
    let damaged: BTreeSet<PathBuf> = damaged.iter().filter(|path| !own(path)).cloned().collect();
    if damaged.is_empty() || !believed.contains(&List::Spaces) {
        return Ok(());
    }
    for (path, wanted) in sealing::of(copy, List::Spaces, &damaged)? {
        let (new, old) = (source.stat(&path)?, copy.stat(&path)?);
        let is_other = new.zip(old).is_none_or(|(new, old)| new.size != old.size || !same_time(new.mtime, old.mtime));
        if !is_other && seal::checksum_of_any(source, &path, handler)? != wanted {
            let text = format!(
                "{} is damaged on the drive, and the source's is not what it was either, though size and time are the same; \
                 restore it from an archive, or touch it if it is right",
                shown(&path)
            );
            return Err(Stop::new(Exit::Refused, text).into());
        }
        distrust_one(copy, &path)?;
    }
    Ok(())
}

/// Makes sure that rsync copies a file of the drive again.
fn distrust_one(copy: &Dir, path: &Path) -> Result<(), CopyError> {
    if let (Some(stat), Some(name)) = (copy.stat(path)?, path.file_name().map(Path::new)) {
        if stat.kind == Kind::File {
            let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            folder.map_or_else(|| copy.try_clone(), |folder| copy.open_dir(folder))?.set_time(name, UNPROVED)?;
        }
    }
    Ok(())
}
