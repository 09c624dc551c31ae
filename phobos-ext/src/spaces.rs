//! Holding spaces and everything else that rsync copies: judged before, and looked at and read back afterwards.

mod listed;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use phobos_core::copy::{self, CopyError, Difference, Pair, Pairs, walk_pairs_with};
use phobos_core::fs::{Dir, FsError, Kind, Stat, shown};
use phobos_core::progress::Handler;

pub(crate) use self::listed::{distrust_damaged, is_kept, note_marks};
use crate::checksums::Known;
use crate::gate::Finding;

/// Where the marks of pulls are in the holding folder.
const MARKS: &str = ".phobos";

/// How many spaces there may be: a thousand hosts have a user each.
const SPACES: usize = 2_000;

/// A space with fewer files than this may have all of them replaced: that is what one changed file looks like.
const FEW: u64 = 20;

/// How long a line of a list of checksums is, but for the name in it, in bytes.
const LINE: u64 = 32;

/// The time of a file that has to be copied again, in 1969: archives and builds without a date of their own use 0 and 1.
const UNPROVED: (i64, u32) = (-31_536_000, 0);

/// What is known of a space on both sides.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    source: u64,
    copy: u64,
    /// Those of the copy that no unproved run has written.
    proved: u64,
    /// Those of them that are as the source has them.
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
    /// The list of their checksums.
    pub(crate) listed: u64,
}

/// What the look at both sides has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// What of the copy's spaces the source has lost.
    pub(crate) lost: Vec<Finding>,
    /// How much room the rest needs.
    pub(crate) room: Room,
    /// Whether there is nothing in the spaces that rsync would change.
    pub(crate) alike: bool,
    /// How many names the copy has that the source has not: what rsync may delete.
    pub(crate) gone: u64,
    /// The source's folders that were looked at, by device and number.
    pub(crate) folders: Vec<(PathBuf, (u64, u64))>,
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
            let names = folder.entries_up_to(SPACES)?.into_iter().map(|entry| entry.name).filter(|name| name != MARKS);
            spaces.extend(names.map(|name| holding.join(name)));
        }
    }
    Ok(spaces.into_iter().collect())
}

/// Looks at the spaces of both sides, before anything is copied. What has changed on the drive since `unproved`, in seconds since
/// 1970, is copied again in any case, and how it differs says nothing: a power cut can leave all of it empty.
pub(crate) fn judge(
    source: &Dir,
    copy: &Dir,
    spaces: &[PathBuf],
    acls: bool,
    unproved: Option<i64>,
    handler: Handler<'_>,
) -> Result<Judged, CopyError> {
    let (mut lost, mut room, alike) = (Vec::new(), Room::default(), Cell::new(true));
    let (mut gone, mut folders) = (0_u64, Vec::new());
    for space in spaces {
        let mut count = Count::default();
        let mut see = |pair: &Pair<'_>, _: Handler<'_>| {
            gone = gone.saturating_add(u64::from(is_gone(pair)));
            let is_file = |stat: &Stat| stat.kind == Kind::File;
            let (new, old) = (pair.source.filter(is_file), pair.copy.filter(is_file));
            count.source += u64::from(new.is_some());
            count.copy += u64::from(old.is_some());
            let is_proved = old.is_some_and(|old| unproved.is_none_or(|since| old.ctime < since));
            count.proved += u64::from(is_proved);
            alike.set(alike.get() && pair.is_the_same_in_all(acls)?);
            if let Some(new) = new {
                let size = new.size.min(new.taken);
                let name = space.as_os_str().len().saturating_add(pair.path.as_os_str().len());
                room.listed = room.listed.saturating_add(LINE).saturating_add(u64::try_from(name).unwrap_or(u64::MAX));
                if is_proved && pair.difference().is_none() {
                    count.same += 1;
                } else {
                    room.added = room.added.saturating_add(size.saturating_sub(old.map_or(0, |old| old.taken)));
                    room.copied = room.copied.saturating_add(new.size);
                    room.beside = room.beside.max(if old.is_some() { size } else { 0 });
                }
            }
            Ok(())
        };
        walk((Some(source), Some(copy)), space, &alike, &mut see, handler)?;
        folders.extend(
            folder(source, space)?
                .map(|found| found.stat_self())
                .transpose()?
                .map(|stat| (space.clone(), (stat.dev, stat.ino))),
        );
        // That somebody deletes one file is no loss of a space.
        if folder(copy, space)?.is_some() {
            lost.extend(count.judge(space));
        }
    }
    Ok(Judged { lost, room, alike: alike.get(), gone, folders })
}

/// Whether rsync would delete what the copy has.
fn is_gone(pair: &Pair<'_>) -> bool {
    pair.copy.is_some_and(|copy| pair.source.is_none_or(|source| source.kind != copy.kind))
}

/// How many marks of pulls rsync would delete.
pub(crate) fn gone_marks(source: &Dir, copy: &Dir, holding: &Path, handler: Handler<'_>) -> Result<u64, CopyError> {
    let mut gone = 0_u64;
    let mut see = |pair: &Pair<'_>, _: Handler<'_>| {
        gone = gone.saturating_add(u64::from(is_gone(pair)));
        Ok(())
    };
    walk((Some(source), Some(copy)), &holding.join(MARKS), &Cell::new(false), &mut see, handler)?;
    Ok(gone)
}

/// Proves that the source still has the folders that were judged: rsync deletes what it does not find any more.
pub(crate) fn prove(source: &Dir, folders: &[(PathBuf, (u64, u64))]) -> Result<(), CopyError> {
    for (path, number) in folders {
        let found = source.stat(path)?.map(|stat| (stat.dev, stat.ino));
        if found != Some(*number) {
            return Err(CopyError::Changed { path: source.path().join(path) });
        }
    }
    Ok(())
}

/// Whether there is nothing that rsync would change in what is in no space: the top itself, but for its time, which each run
/// changes; `holding`, and the marks of pulls in it. Only where nothing else can be there, which is where repository and holding
/// spaces are at the top.
pub(crate) fn is_rest_alike(
    source: &Dir,
    copy: &Dir,
    repository: &Path,
    holding: Option<&Path>,
    acls: bool,
    handler: Handler<'_>,
) -> Result<bool, CopyError> {
    if repository.components().count() != 1 || holding.is_some_and(|holding| holding.components().count() != 1) {
        return Ok(false);
    }
    let who = |stat: Stat| (stat.uid, stat.gid, stat.mode);
    if who(source.stat_self()?) != who(copy.stat_self()?) {
        return Ok(false);
    }
    let Some(holding) = holding else { return Ok(true) };
    let (in_source, in_copy) = (source.stat(holding)?, copy.stat(holding)?);
    if in_source.is_none() && in_copy.is_none() {
        return Ok(true);
    }
    let dirs = (Some(source), Some(copy));
    let own = Pair::new(holding, holding, (in_source, dirs.0), (in_copy, dirs.1));
    let alike = Cell::new(own.is_the_same_in_all(acls)?);
    let mut see = |pair: &Pair<'_>, _: Handler<'_>| {
        alike.set(alike.get() && pair.is_the_same_in_all(acls)?);
        Ok(())
    };
    walk(dirs, &holding.join(MARKS), &alike, &mut see, handler)?;
    Ok(alike.get())
}

impl Count {
    fn judge(self, space: &Path) -> Option<Finding> {
        let Self { source, copy, proved, same } = self;
        let what = if copy > 0 && source == 0 {
            format!("is gone or empty, and has {copy} files on the drive")
        } else if source < copy / 2 {
            format!("has {source} files, and {copy} on the drive")
        } else if proved >= FEW && same < proved / 2 {
            format!("has {same} of the drive's {proved} files as they were: most were replaced or renamed at once")
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

/// Takes note of what is known of a file.
pub(crate) type Noted<'n> = &'n mut dyn FnMut(&Path, Known) -> Result<(), CopyError>;

/// Compares the spaces after they were copied, and reads back from the disk what changed on the drive since `since`, which is
/// `noted` with its checksum.
///
/// Returns the first name that is not what it has to be.
pub(crate) fn verify(
    source: &Dir,
    copy: &Dir,
    spaces: &[PathBuf],
    since: i64,
    noted: Noted<'_>,
    handler: Handler<'_>,
) -> Result<Option<String>, CopyError> {
    for space in spaces {
        let mut wrong = None;
        let mut see = |pair: &Pair<'_>, handler: Handler<'_>| {
            let path = if pair.path.as_os_str().is_empty() { space.clone() } else { space.join(pair.path) };
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
                    let (mut from, to) = (source.open_file(pair.name)?, copy.open_file(pair.name)?);
                    let same = copy::same_content(&mut from, &to, handler)?;
                    if let Some(content) = same.map_err(|source| CopyError::Read { path: path.clone(), source })? {
                        noted(&path, content.into())?;
                    } else {
                        wrong = Some(format!("{} was read back with another content than was written", shown(&path)));
                    }
                }
            }
            Ok(())
        };
        walk((Some(source), Some(copy)), space, &Cell::new(false), &mut see, handler)?;
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
            if let (true, Some(folder)) = (unproved, pair.copy_dir) {
                folder.set_time(pair.name, UNPROVED)?;
                count += 1;
            }
            Ok(())
        };
        walk((None, Some(copy)), space, &Cell::new(false), &mut see, handler)?;
    }
    Ok(count)
}

/// Walks a space on both sides. It is seen itself, as a pair without a path.
fn walk(
    (source, copy): (Option<&Dir>, Option<&Dir>),
    space: &Path,
    with_attributes: &Cell<bool>,
    see: Pairs<'_>,
    handler: Handler<'_>,
) -> Result<(), CopyError> {
    let parent = space.parent().unwrap_or(Path::new(""));
    let open = |root: Option<&Dir>| match root {
        Some(root) if parent.as_os_str().is_empty() => root.try_clone().map(Some),
        Some(root) => folder(root, parent),
        None => Ok(None),
    };
    let (source_dir, copy_dir) = (open(source)?, open(copy)?);
    let name = Path::new(space.file_name().unwrap_or_default());
    let stat = |dir: &Option<Dir>| dir.as_ref().map(|dir| dir.stat(name)).transpose().map(Option::flatten);
    let (of_source, of_copy) = (stat(&source_dir)?, stat(&copy_dir)?);
    let is_folder = |stat: &Stat| stat.kind == Kind::Dir;
    if of_source.is_some() || of_copy.is_some() {
        let sides = ((of_source, source_dir.as_ref()), (of_copy, copy_dir.as_ref()));
        let own = Pair::new(Path::new(""), name, sides.0, sides.1);
        see(&own, handler)?;
    }
    let below = |dir: &Option<Dir>, stat: Option<Stat>| match dir {
        Some(dir) if stat.as_ref().is_some_and(is_folder) => dir.open_dir(name).map(Some),
        _ => Ok(None),
    };
    match (below(&source_dir, of_source)?, below(&copy_dir, of_copy)?) {
        (None, None) => Ok(()),
        (source, copy) => walk_pairs_with(source, copy, with_attributes, see, handler),
    }
}

/// The folder `path` below `root`; `None` where there is none, or something else.
fn folder(root: &Dir, path: &Path) -> Result<Option<Dir>, FsError> {
    match root.stat(path)? {
        Some(stat) if stat.kind == Kind::Dir => root.open_dir(path).map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phobos_core::progress::{CopyEvent, Halt};
    use std::fs;

    #[expect(clippy::unnecessary_wraps, reason = "it is a handler")]
    fn on(_: CopyEvent<'_>) -> Result<(), Halt> {
        Ok(())
    }

    /// Nothing of a file at the top is believed either.
    #[test]
    fn files_at_the_top_are_looked_at_like_folders() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (source, copy) = (Dir::open(one.path()).unwrap(), Dir::open(other.path()).unwrap());
        let spaces = [PathBuf::from("notes"), PathBuf::from("films")];
        let verified = || verify(&source, &copy, &spaces, 0, &mut |_, _| Ok(()), &mut on).unwrap();
        assert_eq!(verified(), None);
        fs::write(one.path().join("notes"), "new").unwrap();
        assert_eq!(judge(&source, &copy, &spaces, false, None, &mut on).unwrap().lost, []);
        assert_eq!(verified(), Some("notes is not on the drive".to_owned()));
        fs::write(other.path().join("notes"), "odd").unwrap();
        copy.set_time(Path::new("notes"), source.stat(Path::new("notes")).unwrap().unwrap().mtime).unwrap();
        assert_eq!(verified(), Some("notes was read back with another content than was written".to_owned()));
        assert_eq!(distrust(&copy, &spaces, 0, &mut on).unwrap(), 1);
        assert_eq!(copy.stat(Path::new("notes")).unwrap().unwrap().mtime, UNPROVED);
        fs::remove_file(one.path().join("notes")).unwrap();
        assert_eq!(judge(&source, &copy, &spaces, false, None, &mut on).unwrap().lost, []);
        assert_eq!(verified(), Some("notes is still on the drive".to_owned()));
    }

    #[test]
    fn what_an_unproved_run_has_left_is_no_proof_against_the_source() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (source, copy) = (Dir::open(one.path()).unwrap(), Dir::open(other.path()).unwrap());
        for (root, content) in [(&one, "photo"), (&other, "")] {
            fs::create_dir(root.path().join("luv")).unwrap();
            (0..FEW).for_each(|number| fs::write(root.path().join(format!("luv/{number}")), content).unwrap());
        }
        let judged = |unproved| judge(&source, &copy, &["luv".into()], false, unproved, &mut on).unwrap();
        assert_eq!(judged(Some(0)).lost, []);
        let since_later = copy.stat(Path::new("luv/0")).unwrap().unwrap().ctime + 60;
        for proved in [None, Some(since_later)] {
            assert!(judged(proved).lost[0].text.starts_with("luv has 0 of the drive's 20 files as they were"));
        }
        // That there were any says that the source had them.
        fs::remove_dir_all(one.path().join("luv")).unwrap();
        assert!(judged(Some(0)).lost[0].text.starts_with("luv is gone or empty"));
    }

    #[test]
    fn what_a_space_has_lost_is_told() {
        let count = |source, copy, same| Count { source, copy, proved: copy, same }.judge(Path::new("holding/luv"));
        for (counts, why) in [
            ((0, 9, 0), Some("holding/luv is gone or empty, and has 9 files on the drive")),
            ((4, 10, 4), Some("holding/luv has 4 files, and 10 on the drive")),
            ((100, 100, 40), Some("holding/luv has 40 of the drive's 100 files as they were")),
            ((5, 10, 0), None),
            ((100, 100, 50), None),
            ((0, 0, 0), None),
        ] {
            let found = count(counts.0, counts.1, counts.2);
            assert_eq!(found.is_some(), why.is_some(), "{counts:?}");
            assert!(found.is_none_or(|found| found.text.starts_with(why.unwrap())), "{counts:?}");
        }
    }
}
