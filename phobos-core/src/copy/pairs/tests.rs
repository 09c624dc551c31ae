//! Two trees side by side, as real file systems have them.

use std::collections::BTreeSet;
use std::fs;

use rustix::fs::{XattrFlags, lsetxattr};

use super::*;
use crate::progress::Halt;

#[expect(clippy::unnecessary_wraps, reason = "it is a handler")]
fn on(_: CopyEvent<'_>) -> Result<(), Halt> {
    Ok(())
}

const SIDES: [&str; 2] = ["source", "copy"];

/// Two folders for trees.
struct Two(tempfile::TempDir);

impl Two {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for side in SIDES {
            fs::create_dir(folder.path().join(side)).unwrap();
        }
        Self(folder)
    }

    fn at(&self, side: &str, name: &str) -> PathBuf {
        self.0.path().join(side).join(name)
    }

    fn dir(&self, side: &str) -> Dir {
        Dir::open(&self.0.path().join(side)).unwrap()
    }

    /// The names that were seen, each with whether both sides have it, in their order.
    fn walked(&self) -> Vec<(String, bool, bool)> {
        let mut seen = Vec::new();
        let mut see = |pair: &Pair<'_>, _: Handler<'_>| {
            seen.push((pair.path.to_str().unwrap().to_owned(), pair.source.is_some(), pair.copy.is_some()));
            Ok(())
        };
        walk_pairs(Some(self.dir("source")), Some(self.dir("copy")), &mut see, &mut on).unwrap();
        seen
    }

    /// Whether all of it is the same, and whether the names of attributes came with every pair.
    fn is_same(&self, with_attributes: bool) -> (bool, bool) {
        let (mut same, mut listed) = (true, true);
        let mut see = |pair: &Pair<'_>, _: Handler<'_>| {
            same &= pair.is_the_same_in_all(true)?;
            listed &= pair.attributes.is_some();
            Ok(())
        };
        let sides = (Some(self.dir("source")), Some(self.dir("copy")));
        walk_pairs_with(sides.0, sides.1, &Cell::new(with_attributes), &mut see, &mut on).unwrap();
        (same, listed)
    }
}

#[test]
fn each_name_of_either_side_is_seen_once_however_many_there_are() {
    for count in [0, 1, MANY - 1, MANY, MANY + 1, 3 * MANY + 7] {
        let two = Two::new();
        for number in 0..count {
            for side in SIDES {
                fs::write(two.at(side, &number.to_string()), "").unwrap();
            }
        }
        assert!(two.walked().iter().all(|(_, source, copy)| *source && *copy), "{count}");
        assert_eq!(two.walked().len(), count);
        fs::write(two.at("source", "new"), "").unwrap();
        fs::write(two.at("copy", "gone"), "").unwrap();
        fs::create_dir_all(two.at("copy", "folder/in")).unwrap();
        let walked = two.walked();
        let names: BTreeSet<_> = walked.iter().map(|(name, ..)| name.clone()).collect();
        assert_eq!((walked.len(), names.len()), (count + 4, count + 4));
        let odd = |seen: &&(String, bool, bool)| !(seen.1 && seen.2);
        let mut odd: Vec<_> = walked.iter().filter(odd).collect();
        let first_of_copy = walked.iter().position(|seen| !seen.1).unwrap();
        assert!(walked[first_of_copy..].iter().all(|seen| !seen.1), "the copy's own names come last");
        odd.sort();
        let found: Vec<_> = odd.iter().map(|seen| (seen.0.as_str(), seen.1, seen.2)).collect();
        let (only_copy, only_source) = ((false, true), (true, false));
        let wanted = [("folder", only_copy), ("folder/in", only_copy), ("gone", only_copy), ("new", only_source)];
        assert_eq!(found, wanted.map(|(name, (source, copy))| (name, source, copy)));
    }
}

/// As many on each side, and not the same ones.
#[test]
fn a_name_in_anothers_place_is_seen() {
    let two = Two::new();
    for name in ["a", "b"] {
        fs::write(two.at("source", name), "").unwrap();
    }
    for name in ["b", "c"] {
        fs::write(two.at("copy", name), "").unwrap();
    }
    let mut walked = two.walked();
    walked.sort();
    let wanted = [("a", true, false), ("b", true, true), ("c", false, true)];
    assert_eq!(walked, wanted.map(|(name, source, copy)| (name.to_owned(), source, copy)));
}

#[test]
fn attributes_are_compared_whether_or_not_they_were_looked_at_before() {
    let two = Two::new();
    for side in SIDES {
        fs::create_dir_all(two.at(side, "folder")).unwrap();
        for name in ["file", "folder/file"] {
            fs::write(two.at(side, name), "").unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
            fs::File::options().write(true).open(two.at(side, name)).unwrap().set_modified(time).unwrap();
            lsetxattr(two.at(side, name), "user.one", b"1", XattrFlags::empty()).unwrap();
        }
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(2000);
        fs::File::open(two.at(side, "folder")).unwrap().set_modified(time).unwrap();
    }
    assert_eq!((two.is_same(true), two.is_same(false)), ((true, true), (true, false)));
    // Another name, another value, and too many to be kept.
    lsetxattr(two.at("copy", "folder/file"), "user.two", b"1", XattrFlags::empty()).unwrap();
    assert_eq!((two.is_same(true).0, two.is_same(false).0), (false, false));
    lsetxattr(two.at("source", "folder/file"), "user.two", b"2", XattrFlags::empty()).unwrap();
    assert_eq!((two.is_same(true).0, two.is_same(false).0), (false, false));
    lsetxattr(two.at("source", "folder/file"), "user.two", b"1", XattrFlags::empty()).unwrap();
    for number in 0..20 {
        let name = format!("user.{number:020}");
        for side in SIDES {
            lsetxattr(two.at(side, "file"), name.as_str(), b"", XattrFlags::empty()).unwrap();
        }
    }
    assert_eq!((two.is_same(true), two.is_same(false)), ((true, false), (true, false)));
    lsetxattr(two.at("copy", "file"), "user.x", b"", XattrFlags::empty()).unwrap();
    assert_eq!((two.is_same(true).0, two.is_same(false).0), (false, false));
}

#[test]
fn the_first_error_ends_it_and_so_do_its_threads() {
    let two = Two::new();
    for number in 0..2 * MANY {
        fs::write(two.at("source", &number.to_string()), "").unwrap();
    }
    let mut left = 3;
    let mut see = |_: &Pair<'_>, _: Handler<'_>| {
        left -= 1;
        if left == 0 { Err(CopyError::Stopped("enough".to_owned())) } else { Ok(()) }
    };
    let walked = walk_pairs(Some(two.dir("source")), Some(two.dir("copy")), &mut see, &mut on);
    assert_eq!(walked.unwrap_err().to_string(), "stopped: enough");
    let mut halt = |_: CopyEvent<'_>| Err(Halt::Signal(15));
    let walked = walk_pairs(None, Some(two.dir("source")), &mut |_, _| Ok(()), &mut halt);
    assert!(matches!(walked, Err(CopyError::Interrupted(15))));
}
