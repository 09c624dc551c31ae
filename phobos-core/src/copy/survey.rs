//! A survey: what a tree consists of, seen once, relative to descriptors, never through a link.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::CopyError;
use crate::fs::{Dir, Kind, Stat, same_time};
use crate::progress::{CopyEvent, Handler};

/// How deep a surveyed tree may be; that of a repository is three.
const DEPTH: usize = 8;

/// How many names a surveyed tree may have: 500 TB of Borg's segments.
const NAMES: usize = 1_000_000;

/// One name of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// The size in bytes; 0 for a folder, whose size says nothing.
    pub size: u64,
    /// The time of the last change; 0 for a folder.
    pub mtime: (i64, u32),
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The permissions.
    pub mode: u32,
}

/// What a tree consists of, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Files and folders, and whatever else there is; the tree's own folder is not among them.
    pub items: BTreeMap<PathBuf, Item>,
}

/// Surveys the tree below `root`; a folder of another file system is listed like a device, and not entered.
///
/// # Errors
///
/// When something cannot be read, or when there is more than any repository has.
pub fn survey(root: &Dir, handler: Handler<'_>) -> Result<Survey, CopyError> {
    survey_up_to(root, NAMES, handler)
}

/// The same for a tree that should have no more than `names` names, because it is a stranger's.
///
/// # Errors
///
/// As [`survey()`].
pub fn survey_up_to(root: &Dir, names: usize, handler: Handler<'_>) -> Result<Survey, CopyError> {
    let dev = root.stat_self()?.dev;
    let mut survey = Survey::default();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        handler(CopyEvent::Tick)?;
        let opened = if folder.as_os_str().is_empty() { root.try_clone()? } else { root.open_dir(&folder)? };
        for entry in opened.entries_up_to(names)? {
            let path = folder.join(&entry.name);
            // A name that is gone by now was one of a lock, or will be missed when the tree is surveyed again.
            let Some(stat) = opened.stat(Path::new(&entry.name))? else { continue };
            let mut item = Item::from(stat);
            if stat.dev != dev {
                item.kind = Kind::Special;
            }
            if item.kind == Kind::Dir {
                folders.push(path.clone());
            }
            survey.items.insert(path.clone(), item);
            if survey.items.len() > names || path.components().count() > DEPTH {
                return Err(CopyError::TooMany { path: root.path().to_owned(), limit: names });
            }
        }
    }
    Ok(survey)
}

impl Survey {
    /// Whether a copy has all of this, and nothing else; times as finely as it keeps them.
    pub fn is_kept_by(&self, copy: &Self) -> bool {
        let is_kept = |(path, item): (&PathBuf, &Item)| {
            let kept = copy.items.get(path).copied();
            kept.is_some_and(|kept| same_time(item.mtime, kept.mtime) && Item { mtime: item.mtime, ..kept } == *item)
        };
        self.items.len() == copy.items.len() && self.items.iter().all(is_kept)
    }

    /// The files alone.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &Item)> {
        self.items.iter().filter(|(_, item)| item.kind == Kind::File).map(|(path, item)| (path.as_path(), item))
    }

    /// What is neither a file nor a folder, which no repository has.
    pub fn strange(&self) -> Option<(&Path, Kind)> {
        let strange = |item: &Item| !matches!(item.kind, Kind::File | Kind::Dir);
        self.items.iter().find(|(_, item)| strange(item)).map(|(path, item)| (path.as_path(), item.kind))
    }

    /// The same without what `leave_out` names.
    #[must_use]
    pub fn without(mut self, leave_out: &dyn Fn(&Path) -> bool) -> Self {
        self.items.retain(|path, _| !leave_out(path));
        self
    }

    /// The size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files().fold(0, |sum, (_, item)| sum.saturating_add(item.size))
    }
}

impl From<Stat> for Item {
    fn from(stat: Stat) -> Self {
        let (size, mtime) = if stat.kind == Kind::Dir { (0, (0, 0)) } else { (stat.size, stat.mtime) };
        Self { kind: stat.kind, size, mtime, uid: stat.uid, gid: stat.gid, mode: stat.mode }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_all_of_it_as_finely_as_it_can_and_nothing_else() {
        let item = Item { kind: Kind::File, size: 7, mtime: (9, 5), uid: 1, gid: 2, mode: 0o600 };
        let folder = Item { kind: Kind::Dir, size: 0, mtime: (0, 0), uid: 0, gid: 0, mode: 0o700 };
        let of =
            |items: &[(&str, Item)]| Survey { items: items.iter().map(|(path, item)| (path.into(), *item)).collect() };
        let source = of(&[("data", folder), ("data/1", item)]);
        assert!(source.is_kept_by(&source));
        assert!(source.is_kept_by(&of(&[("data", folder), ("data/1", Item { mtime: (9, 0), ..item })])));
        for other in [
            Item { size: 8, ..item },
            Item { mtime: (9, 6), ..item },
            Item { mtime: (8, 0), ..item },
            Item { uid: 0, ..item },
            Item { mode: 0o644, ..item },
            Item { kind: Kind::Special, ..item },
        ] {
            assert!(!source.is_kept_by(&of(&[("data", folder), ("data/1", other)])), "{other:?}");
        }
        assert!(!source.is_kept_by(&of(&[("data", folder)])));
        assert!(!source.is_kept_by(&of(&[("data", folder), ("data/1", item), ("data/2", item)])));
        assert!(!source.is_kept_by(&of(&[("data", folder), ("data/2", item)])));
    }

    #[test]
    fn a_survey_can_leave_out_names_and_tells_how_much_the_files_are() {
        let item = Item { kind: Kind::File, size: 7, mtime: (9, 5), uid: 1, gid: 2, mode: 0o600 };
        let folder = Item { kind: Kind::Dir, size: 4096, ..item };
        let items = [("a", item), ("b", item), ("folder", folder)];
        let survey = Survey { items: items.iter().map(|(path, item)| (path.into(), *item)).collect() };
        assert_eq!(survey.bytes(), 14);
        let without = survey.without(&|path| path == Path::new("a"));
        assert_eq!(without.items.keys().collect::<Vec<_>>(), [Path::new("b"), Path::new("folder")]);
    }

    #[test]
    fn a_tree_with_as_many_names_and_as_deep_as_it_may_be_is_seen_and_no_other() {
        let place = tempfile::tempdir().unwrap();
        let root = Dir::open(place.path()).unwrap();
        let seen = |names| survey_up_to(&root, names, &mut |_| Ok(())).map(|survey| survey.items.len());
        let deepest = ["x"; DEPTH].join("/");
        std::fs::create_dir_all(place.path().join(&deepest)).unwrap();
        assert_eq!(seen(DEPTH).unwrap(), DEPTH);
        assert!(matches!(seen(DEPTH - 1), Err(CopyError::TooMany { limit, .. }) if limit == DEPTH - 1));
        std::fs::write(place.path().join(deepest).join("x"), "").unwrap();
        assert!(matches!(seen(100), Err(CopyError::TooMany { .. })));
    }
}
