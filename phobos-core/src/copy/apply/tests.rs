//! Trees that are built, proved and put in place.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::super::{Plan, Survey, survey, walk_pairs};
use super::*;
use crate::progress::Halt;

#[expect(clippy::unnecessary_wraps, reason = "it is a handler")]
fn on(_: CopyEvent<'_>) -> Result<(), Halt> {
    Ok(())
}

fn unproved(_: &Path) -> Box<dyn Proof> {
    Box::new(Unproved)
}

struct Sides {
    folder: tempfile::TempDir,
    source: Dir,
    drive: Dir,
}

fn sides() -> Sides {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("source/data/0")).unwrap();
    fs::create_dir(folder.path().join("drive")).unwrap();
    for (name, size) in [("data/0/1", PIECES_AND_A_BIT), ("data/0/10", 17), ("data/0/9", 0), ("config", 5)] {
        let content: Vec<u8> = (0..size).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
        fs::write(folder.path().join("source").join(name), content).unwrap();
    }
    let source = Dir::open(&folder.path().join("source")).unwrap();
    let drive = Dir::open(&folder.path().join("drive")).unwrap();
    Sides { folder, source, drive }
}

const PIECES_AND_A_BIT: usize = 2 * super::super::bytes::PIECE + 12345;

/// Makes the drive's `borg` what the source is; returns what was copied.
fn mirror(sides: &Sides) -> Result<Vec<Written>, CopyError> {
    let old = sides.drive.open_dir(Path::new("borg")).ok();
    let copy = old.as_ref().map(|old| survey(old, &mut on)).transpose()?.unwrap_or_default();
    let plan = Plan::of(&survey(&sides.source, &mut on)?, &copy);
    remove_tree(&sides.drive, Path::new("fresh"), &mut on)?;
    let fresh = sides.drive.make_dir(Path::new("fresh"), 0o700)?;
    let written = build(&sides.source, old.as_ref(), &fresh, &plan, &unproved, &mut on)?;
    fresh.sync_file_system()?;
    verify(&fresh, &written, &mut on)?;
    exchange(&sides.drive, Path::new("fresh"), &sides.drive, Path::new("borg"))?;
    Ok(written)
}

fn copy_of(sides: &Sides) -> Survey {
    survey(&sides.drive.open_dir(Path::new("borg")).unwrap(), &mut on).unwrap()
}

#[test]
fn a_copy_is_what_the_source_is_and_the_next_one_copies_what_is_new() {
    let sides = sides();
    assert_eq!(mirror(&sides).unwrap().len(), 4);
    assert_eq!(copy_of(&sides), survey(&sides.source, &mut on).unwrap());
    let (from, to) = (sides.folder.path().join("source/data/0/1"), sides.folder.path().join("drive/borg/data/0/1"));
    assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap());
    let inode = fs::metadata(&to).unwrap().ino();

    fs::write(sides.folder.path().join("source/data/0/11"), "new").unwrap();
    fs::remove_file(sides.folder.path().join("source/data/0/10")).unwrap();
    let written = mirror(&sides).unwrap();
    assert_eq!(written.iter().map(|file| file.path.to_str().unwrap()).collect::<Vec<_>>(), ["data/0/11"]);
    assert_eq!(copy_of(&sides), survey(&sides.source, &mut on).unwrap());
    assert_eq!(fs::metadata(&to).unwrap().ino(), inode, "what is the same is the same file");
    let before = survey(&sides.drive.open_dir(Path::new("fresh")).unwrap(), &mut on).unwrap();
    assert!(before.items.contains_key(Path::new("data/0/10")), "what was in place is whole, under the other name");
}

#[test]
fn a_file_that_does_not_hold_its_proof_changes_nothing() {
    struct Bad;
    impl Proof for Bad {
        fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
            if bytes.len() == 17 { Err("a wrong checksum".to_owned()) } else { Ok(()) }
        }
        fn finish(self: Box<Self>) -> Result<(), String> {
            Ok(())
        }
    }
    let sides = sides();
    let plan = Plan::of(&survey(&sides.source, &mut on).unwrap(), &Survey::default());
    let fresh = sides.drive.make_dir(Path::new("fresh"), 0o700).unwrap();
    let error = build(&sides.source, None, &fresh, &plan, &|_| Box::new(Bad), &mut on).unwrap_err().to_string();
    assert!(error.ends_with("source/data/0/10 is damaged: a wrong checksum"), "{error}");
    assert!(sides.drive.stat(Path::new("borg")).unwrap().is_none());
}

#[test]
fn what_is_read_back_otherwise_is_noticed() {
    let sides = sides();
    let written = mirror(&sides).unwrap();
    let copy = sides.drive.open_dir(Path::new("borg")).unwrap();
    verify(&copy, &written, &mut on).unwrap();
    let file = fs::OpenOptions::new().write(true).open(sides.folder.path().join("drive/borg/data/0/1")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 5_000_000).unwrap();
    assert!(matches!(verify(&copy, &written, &mut on), Err(CopyError::Lost { .. })));
    fs::remove_file(sides.folder.path().join("drive/borg/data/0/1")).unwrap();
    assert!(verify(&copy, &written, &mut on).is_err());
}

#[test]
fn a_file_that_grows_or_shrinks_meanwhile_is_not_taken() {
    let sides = sides();
    let plan = Plan::of(&survey(&sides.source, &mut on).unwrap(), &Survey::default());
    fs::write(sides.folder.path().join("source/config"), "longer than it was").unwrap();
    let fresh = sides.drive.make_dir(Path::new("fresh"), 0o700).unwrap();
    let made = build(&sides.source, None, &fresh, &plan, &unproved, &mut on);
    assert!(matches!(made, Err(CopyError::Changed { .. })), "{made:?}");
}

#[test]
fn a_link_in_the_old_or_the_new_tree_leads_nowhere() {
    let sides = sides();
    mirror(&sides).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let data = sides.folder.path().join("drive/borg/data");
    fs::rename(data.join("0"), outside.path().join("0")).unwrap();
    symlink(outside.path().join("0"), data.join("0")).unwrap();
    let copy = copy_of(&sides);
    assert_eq!(copy.strange(), Some((Path::new("data/0"), Kind::Link)));
    assert!(!copy.items.contains_key(Path::new("data/0/1")));
    remove_tree(&sides.drive, Path::new("borg"), &mut on).unwrap();
    assert!(outside.path().join("0/1").exists() && !data.exists());
}

#[test]
fn the_work_ends_when_the_caller_says_so() {
    let sides = sides();
    let plan = Plan::of(&survey(&sides.source, &mut on).unwrap(), &Survey::default());
    let fresh = sides.drive.make_dir(Path::new("fresh"), 0o700).unwrap();
    let mut stop = |_: CopyEvent<'_>| Err(Halt::Signal(15));
    let made = build(&sides.source, None, &fresh, &plan, &unproved, &mut stop);
    assert!(matches!(made, Err(CopyError::Interrupted(15))), "{made:?}");
}

#[test]
fn two_trees_are_seen_side_by_side() {
    let sides = sides();
    mirror(&sides).unwrap();
    fs::write(sides.folder.path().join("source/data/0/9"), "now more").unwrap();
    fs::remove_file(sides.folder.path().join("source/config")).unwrap();
    fs::create_dir(sides.folder.path().join("source/new")).unwrap();
    fs::write(sides.folder.path().join("source/new/file"), "").unwrap();
    let mut seen = Vec::new();
    let copy = sides.drive.open_dir(Path::new("borg")).unwrap();
    let mut see = |pair: &super::super::Pair<'_>, _: Handler<'_>| {
        seen.extend(pair.difference().map(|difference| format!("{difference:?} {}", pair.path.display())));
        Ok(())
    };
    walk_pairs(Some(sides.source.try_clone().unwrap()), Some(copy), &mut see, &mut on).unwrap();
    // Each folder is seen before what is in it, otherwise in the order of the file system.
    assert!(seen.iter().position(|pair| pair == "New new") < seen.iter().position(|pair| pair == "New new/file"));
    seen.sort_unstable();
    assert_eq!(seen, ["Gone config", "New new", "New new/file", "Other data/0/9"]);
}

#[test]
fn a_tree_may_be_wide_and_is_refused_when_it_is_too_deep() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    // More folders than are looked into at a time, each with another in it that is not empty.
    for number in 0..200 {
        let below = folder.path().join(format!("wide/{number}/below"));
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("file"), "").unwrap();
    }
    let count = std::cell::Cell::new(0);
    let mut see = |_: &super::super::Pair<'_>, _: Handler<'_>| {
        count.set(count.get() + 1);
        Ok(())
    };
    walk_pairs(None, Some(dir.open_dir(Path::new("wide")).unwrap()), &mut see, &mut on).unwrap();
    assert_eq!(count.get(), 600);
    remove_tree(&dir, Path::new("wide"), &mut on).unwrap();
    assert_eq!(dir.entries().unwrap(), []);
    let mut deep = dir.make_dir(Path::new("deep"), 0o700).unwrap();
    for _ in 0..400 {
        deep = deep.make_dir(Path::new("d"), 0o700).unwrap();
    }
    let walked = walk_pairs(None, Some(dir.open_dir(Path::new("deep")).unwrap()), &mut see, &mut on);
    assert!(matches!(walked, Err(CopyError::TooDeep { .. })), "{walked:?}");
    remove_tree(&dir, Path::new("deep"), &mut on).unwrap();
    assert_eq!(dir.entries().unwrap(), []);
}

#[test]
fn a_copy_tells_its_phases_and_how_far_it_has_come() {
    let sides = sides();
    let plan = Plan::of(&survey(&sides.source, &mut on).unwrap(), &Survey::default());
    let fresh = sides.drive.make_dir(Path::new("fresh"), 0o700).unwrap();
    let mut told = Vec::new();
    let mut handler = |event: CopyEvent<'_>| {
        match event {
            CopyEvent::Phase(phase) => told.push((phase, 0, None)),
            CopyEvent::Progress(progress) => {
                let last = told.last_mut().unwrap();
                assert!(progress.done > last.1, "{progress:?}");
                *last = (last.0, progress.done, progress.total);
            }
            other => panic!("{other:?}"),
        }
        Ok(())
    };
    let written = build(&sides.source, None, &fresh, &plan, &unproved, &mut handler).unwrap();
    verify(&fresh, &written, &mut handler).unwrap();
    let all = plan.bytes();
    assert_eq!(told, [(Phase::Copying, all, Some(all)), (Phase::ReadingBack, all, Some(all))]);
}
