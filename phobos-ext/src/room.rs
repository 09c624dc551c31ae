//! Room on the drive: reckoned before the first byte is written and the first one deleted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use phobos_core::copy::{self, CopyError, Pair, walk_pairs};
use phobos_core::error::Chain;
use phobos_core::fs::{Dir, Kind, Stat};
use phobos_core::human;
use phobos_core::progress::Handler;
use phobos_site::exit::{Exit, Stop};

use crate::record::{FOLDER, GENERATION, INCOMING, RunRecord};

/// How much room is left for what is not reckoned: folders, records, the journal.
const SPARE: u64 = 1024 * 1024;

/// How many files with several names are told from each other: of those beyond that no room is expected.
const SHARED: usize = 100_000;

/// Files that may go. One with a name elsewhere gives no room back.
#[derive(Debug, Default)]
struct Files {
    /// How much those take that have no other name.
    alone: u64,
    /// The others, by their numbers: how many of their names were seen, how many there are, and how much they take.
    by_number: BTreeMap<u64, (u64, u64, u64)>,
}

/// Sees that what has to be written fits, and makes room: what an earlier run has left half done goes, then the generation
/// before, where it is needed or everything else is to go as well. `first` names what is deleted before anything is copied, below
/// a folder, if the owner wants that.
///
/// # Errors
///
/// A refusal where there cannot be room enough: nothing has been deleted then.
pub(crate) fn make(
    root: &Dir,
    needed: u64,
    first: Option<(&Dir, &[PathBuf])>,
    run: &RunRecord,
    handler: Handler<'_>,
) -> Result<(), anyhow::Error> {
    let needed = needed.saturating_add(SPARE);
    let own = root.stat(Path::new(FOLDER))?.map(|_| root.open_dir(Path::new(FOLDER))).transpose()?;
    let free = root.room()?;
    let mut files = Files::default();
    files.add_tree(own.as_ref(), Path::new(INCOMING), handler)?;
    let without_generation = first.is_some() || free.saturating_add(files.bytes()) < needed;
    if without_generation {
        files.add_tree(own.as_ref(), Path::new(GENERATION), handler)?;
    }
    if let Some((copy, paths)) = first {
        for path in paths {
            copy.stat(path)?.into_iter().for_each(|stat| files.add(&stat));
        }
    }
    let in_all = free.saturating_add(files.bytes());
    if in_all < needed {
        let text = format!(
            "{} have to be written and {} are free on the drive; nothing was written. What the repository no longer has \
             goes only after the new is complete: --delete-first deletes it before, and leaves no whole copy meanwhile",
            human::size(needed),
            human::size(in_all)
        );
        return Err(Stop::new(Exit::Refused, text).into());
    }
    if let Some(own) = &own {
        copy::remove_tree(own, Path::new(INCOMING), handler)?;
        if without_generation {
            copy::remove_tree(own, Path::new(GENERATION), handler)?;
        }
    }
    if let Some((copy, paths)) = first {
        log::warn!("deleting first: until this run has ended well, the drive has no whole copy");
        run.write(root)?;
        paths.iter().try_for_each(|path| copy.remove(path))?;
    }
    Ok(())
}

/// Takes away what this run has copied and not put in place, as far as that goes; the next run takes away the rest.
pub(crate) fn clear(root: &Dir, handler: Handler<'_>) {
    let own = root.open_dir(Path::new(FOLDER)).map_err(CopyError::from);
    if let Err(error) = own.and_then(|own| copy::remove_tree(&own, Path::new(INCOMING), handler)) {
        log::info!("what was copied stays on the drive until the next run: {}", Chain(&error));
    }
}

impl Files {
    /// The files of a tree, if it is there.
    fn add_tree(&mut self, parent: Option<&Dir>, name: &Path, handler: Handler<'_>) -> Result<(), CopyError> {
        let Some(parent) = parent else { return Ok(()) };
        if parent.stat(name)?.is_none_or(|stat| stat.kind != Kind::Dir) {
            return Ok(());
        }
        let mut see = |pair: &Pair<'_>, _: Handler<'_>| {
            pair.copy.iter().filter(|stat| stat.kind == Kind::File).for_each(|stat| self.add(stat));
            Ok(())
        };
        walk_pairs(None, Some(parent.open_dir(name)?), &mut see, handler)
    }

    fn add(&mut self, stat: &Stat) {
        if stat.links <= 1 {
            self.alone = self.alone.saturating_add(stat.taken);
        } else if self.by_number.len() < SHARED || self.by_number.contains_key(&stat.ino) {
            let file = self.by_number.entry(stat.ino).or_insert((0, stat.links, stat.taken));
            file.0 = file.0.saturating_add(1);
        }
    }

    /// How much room there is when they are gone.
    fn bytes(&self) -> u64 {
        let gone = self.by_number.values().filter(|(seen, names, _)| seen >= names);
        gone.fold(self.alone, |sum, (_, _, taken)| sum.saturating_add(*taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Utc;
    use phobos_core::progress::{CopyEvent, Halt};
    use std::fs;

    #[expect(clippy::unnecessary_wraps, reason = "it is a handler")]
    fn on(_: CopyEvent<'_>) -> Result<(), Halt> {
        Ok(())
    }

    /// A drive with a copy of one old and one common segment, the generation before, and what a killed run has left.
    fn drive() -> (tempfile::TempDir, Dir) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [".phobos/incoming", ".phobos/generation/then", "borg"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        for name in [".phobos/incoming/new", ".phobos/generation/then/before", "borg/old", "borg/common"] {
            fs::write(at(name), vec![1; 100_000]).unwrap();
        }
        fs::hard_link(at("borg/common"), at(".phobos/generation/then/common")).unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        (folder, dir)
    }

    #[test]
    fn only_what_has_no_name_elsewhere_makes_room() {
        let (_folder, root) = drive();
        let own = root.open_dir(Path::new(FOLDER)).unwrap();
        let mut files = Files::default();
        files.add_tree(Some(&own), Path::new(INCOMING), &mut on).unwrap();
        let one = files.bytes();
        assert!((100_000..200_000).contains(&one), "{one}");
        files.add_tree(Some(&own), Path::new(GENERATION), &mut on).unwrap();
        assert_eq!(files.bytes(), 2 * one, "the common one has a name in the copy");
        files.add(&root.stat(Path::new("borg/common")).unwrap().unwrap());
        assert_eq!(files.bytes(), 3 * one);
    }

    #[test]
    fn what_is_half_done_goes_and_the_copy_stays() {
        let (folder, root) = drive();
        let is_there = |name: &str| folder.path().join(name).exists();
        for _ in 0..2 {
            clear(&root, &mut on);
            assert!(!is_there(".phobos/incoming") && is_there(".phobos/generation/then") && is_there("borg/old"));
        }
        clear(&Dir::open(&folder.path().join("borg")).unwrap(), &mut on);
    }

    #[test]
    fn a_refusal_deletes_nothing_and_the_generation_goes_only_where_it_must() {
        let (folder, root) = drive();
        let run = RunRecord::new(Utc::now(), None);
        let old = [PathBuf::from("old")];
        let copy = root.open_dir(Path::new("borg")).unwrap();
        let is_there = |name: &str| folder.path().join(name).exists();
        for first in [None, Some((&copy, &old[..]))] {
            let error = make(&root, u64::MAX / 2, first, &run, &mut on).unwrap_err().to_string();
            assert!(error.contains("have to be written"), "{error}");
            assert!(is_there(".phobos/incoming/new") && is_there(".phobos/generation/then") && is_there("borg/old"));
        }
        make(&root, 1, None, &run, &mut on).unwrap();
        assert!(!is_there(".phobos/incoming") && is_there(".phobos/generation/then") && is_there("borg/old"));
        make(&root, 1, Some((&copy, &old)), &run, &mut on).unwrap();
        assert!(!is_there(".phobos/generation") && !is_there("borg/old") && is_there("borg/common"));
        assert_eq!(RunRecord::read(&root).unwrap(), Some(run));
        let fresh = tempfile::tempdir().unwrap();
        make(&Dir::open(fresh.path()).unwrap(), 1, None, &RunRecord::new(Utc::now(), None), &mut on).unwrap();
        assert_eq!(fs::read_dir(fresh.path()).unwrap().count(), 0, "nothing is made to see whether there is room");
    }
}
