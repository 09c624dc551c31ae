//! Two trees side by side, as real file systems have them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

use nix::unistd::mkfifo;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, lsetxattr, utimensat};

use super::*;
use crate::copy::remove_tree;
use crate::progress::Halt;

#[expect(clippy::unnecessary_wraps, reason = "it is a handler")]
fn on(_: CopyEvent<'_>) -> Result<(), Halt> {
    Ok(())
}

const SIDES: [&str; 2] = ["source", "copy"];

/// What is done to two trees.
type Change<'c> = &'c dyn Fn(&Two);

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

/// What is neither deeper nor longer than anything that can be copied is walked, and the next step is refused.
#[test]
fn depth_and_length_of_paths_have_an_end() {
    let walked = |lengths: &[usize]| {
        let folder = tempfile::tempdir().unwrap();
        let mut at = Dir::open(folder.path()).unwrap();
        for length in lengths {
            at = at.make_dir(Path::new(&"x".repeat(*length)), 0o700).unwrap();
        }
        let mut count = 0;
        let mut see = |_: &Pair<'_>, _: Handler<'_>| {
            count += 1;
            Ok(())
        };
        let walked = walk_pairs(Some(Dir::open(folder.path()).unwrap()), None, &mut see, &mut on);
        remove_tree(&Dir::open(folder.path()).unwrap(), Path::new(&"x".repeat(lengths[0])), &mut on).unwrap();
        walked.map(|()| count).map_err(|error| matches!(error, CopyError::TooDeep { .. }))
    };
    assert_eq!(walked(&[1; DEPTH - 1]), Ok(DEPTH - 1));
    assert_eq!(walked(&[1; DEPTH]), Err(true));
    // 31 names of 255 letters, and two that make it as long as it may be, and a letter longer.
    for (last, result) in [(155, Ok(33)), (156, Err(true))] {
        let lengths = [vec![255; 31], vec![100, last]].concat();
        assert_eq!(lengths.iter().sum::<usize>() + 32, LONGEST + last - 155);
        assert_eq!(walked(&lengths), result);
    }
}

/// All that rsync would do something about, one at a time, on either side.
#[test]
fn all_that_a_copy_keeps_has_to_be_the_same() {
    let date = |path: &Path, seconds: i64| {
        let time = Timespec { tv_sec: seconds, tv_nsec: 7 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    // acl(5) as the kernel takes it: version, and five entries of kind, permissions and number.
    let acl: Vec<u8> = [(1_u16, 6_u16, u32::MAX), (2, 4, 7), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
        .iter()
        .flat_map(|(kind, may, number)| [&kind.to_le_bytes()[..], &may.to_le_bytes(), &number.to_le_bytes()].concat())
        .collect();
    let acl = [&2_u32.to_le_bytes()[..], &acl].concat();
    let answers = |change: &dyn Fn(&Two)| {
        let two = Two::new();
        for side in SIDES {
            fs::write(two.at(side, "file"), "1").unwrap();
            fs::create_dir(two.at(side, "folder")).unwrap();
            symlink("file", two.at(side, "link")).unwrap();
            for name in ["file", "folder", "link"] {
                date(&two.at(side, name), 1000);
            }
        }
        change(&two);
        let same = [true, false].map(|with_attributes| {
            let (mut with_acls, mut without) = (true, true);
            let mut see = |pair: &Pair<'_>, _: Handler<'_>| {
                with_acls &= pair.is_the_same_in_all(true)?;
                without &= pair.is_the_same_in_all(false)?;
                Ok(())
            };
            let sides = (Some(two.dir("source")), Some(two.dir("copy")));
            walk_pairs_with(sides.0, sides.1, &Cell::new(with_attributes), &mut see, &mut on).unwrap();
            (with_acls, without)
        });
        assert_eq!(same[0], same[1], "whether or not they were looked at before");
        same[0]
    };
    assert_eq!(answers(&|_| {}), (true, true));
    for side in SIDES {
        let changes: [(&str, Change<'_>); 9] = [
            ("another mode", &|two| {
                fs::set_permissions(two.at(side, "file"), fs::Permissions::from_mode(0o640)).unwrap();
            }),
            ("another size", &|two| {
                fs::write(two.at(side, "file"), "12").unwrap();
                date(&two.at(side, "file"), 1000);
            }),
            ("another time of a file", &|two| date(&two.at(side, "file"), 1001)),
            ("another time of a folder", &|two| date(&two.at(side, "folder"), 1001)),
            ("another time of a link", &|two| date(&two.at(side, "link"), 1001)),
            ("another target", &|two| {
                fs::remove_file(two.at(side, "link")).unwrap();
                symlink("elsewhere", two.at(side, "link")).unwrap();
                date(&two.at(side, "link"), 1000);
            }),
            ("another name of it", &|two| fs::hard_link(two.at(side, "file"), two.0.path().join("elsewhere")).unwrap()),
            ("another kind", &|two| {
                fs::remove_dir(two.at(side, "folder")).unwrap();
                fs::write(two.at(side, "folder"), "").unwrap();
                date(&two.at(side, "folder"), 1000);
            }),
            ("an attribute", &|two| {
                lsetxattr(two.at(side, "folder"), "user.x", b"", XattrFlags::empty()).unwrap();
            }),
        ];
        for (what, change) in changes {
            assert_eq!(answers(change), (false, false), "{what} in {side}");
        }
        let give_acl = |two: &Two| {
            lsetxattr(two.at(side, "file"), "system.posix_acl_access", &acl, XattrFlags::empty()).unwrap();
            // The mask shows as the group's permissions.
            for side in SIDES {
                fs::set_permissions(two.at(side, "file"), fs::Permissions::from_mode(0o640)).unwrap();
            }
        };
        assert_eq!(answers(&give_acl), (false, true), "an ACL in {side}");
    }
    // What is the same on both sides and cannot be told from a pair.
    let make_fifo = |two: &Two, side| mkfifo(&two.at(side, "fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(answers(&|two| SIDES.into_iter().for_each(|side| make_fifo(two, side))), (false, false));
    if nix::unistd::geteuid().is_root() {
        assert_eq!(answers(&|two| chown(two.at("copy", "file"), Some(7), None).unwrap()), (false, false));
        assert_eq!(answers(&|two| lchown(two.at("copy", "link"), None, Some(7)).unwrap()), (false, false));
    }
}

#[test]
fn how_a_name_differs_is_told_by_kind_size_and_time() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "1").unwrap();
    let file = Dir::open(folder.path()).unwrap().stat(Path::new("file")).unwrap().unwrap();
    let other_time = (file.mtime.0 + 1, file.mtime.1);
    let folder = Stat { kind: Kind::Dir, ..file };
    for (source, copy, wanted) in [
        (Some(file), Some(file), None),
        (Some(file), None, Some(Difference::New)),
        (None, Some(file), Some(Difference::Gone)),
        (Some(file), Some(Stat { size: 2, ..file }), Some(Difference::Other)),
        (Some(file), Some(Stat { mtime: other_time, ..file }), Some(Difference::Other)),
        (Some(file), Some(folder), Some(Difference::Other)),
        (Some(folder), Some(Stat { mtime: other_time, size: 2, ..folder }), None),
    ] {
        let name = Path::new("x");
        let pair = Pair::new(name, name, (source, None), (copy, None));
        assert_eq!(pair.difference(), wanted, "{source:?} {copy:?}");
    }
}

#[test]
fn a_time_beyond_what_a_file_system_keeps_is_its_last() {
    let (first, last, longer) = (-2_147_483_648, 2_147_483_647, 0x3_7fff_ffff);
    for (source, copy, is) in [
        (4_102_444_800, last, true),
        (longer + 1, longer, true),
        (-2_524_608_000, first, true),
        (last, last - 1, false),
        (last, 0, false),
        (4_102_444_800, last - 1, false),
        (4_102_444_800, 0, false),
        (0, last, false),
        (0, first, false),
    ] {
        assert_eq!(is_out_of_range(source, copy), is, "{source} {copy}");
    }
}
