//! Which files are drawn, and what is found about each.

use super::Outcome::{Changed, Other, Same};
use super::*;
use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::fs::Dir;
use std::fs;
use std::os::unix::fs::MetadataExt;

fn item(path: &str, size: u64) -> Item {
    Item { path: path.into(), size, mtime: None }
}

fn hosts(from: u64) -> BTreeMap<OsString, u64> {
    BTreeMap::from([("luv".into(), from), ("chew".into(), from)])
}

#[test]
fn a_host_is_found_wherever_borg_was_started() {
    let at = |path: &str| inside(Path::new("backup/holding"), Path::new(path));
    for path in ["backup/holding/luv/a", "holding/luv/a", "mnt/x/holding/luv/a"] {
        assert_eq!(at(path), Some("luv/a".into()), "{path}");
    }
    assert_eq!((at("etc/passwd"), at("srv/holding"), at("srv/holding/x")), (None, None, None));
}

#[test]
fn after_enough_drills_every_file_had_its_turn_once() {
    let names: Vec<_> = (0..100).map(|number| format!("holding/luv/{number}")).collect();
    let (mut from, mut seen) = (7, std::collections::BTreeSet::new());
    for _ in 0..10 {
        let wanted = hosts(from);
        let mut draw = Draw::new(Path::new("holding"), &wanted);
        for name in &names {
            draw.see(item(name, 10));
        }
        draw.see(item("holding/elsewhere/1", 1));
        assert_eq!(draw.samples.len(), 1);
        let sample = draw.samples.remove(&OsString::from("luv")).unwrap();
        assert_eq!(sample.files, 100);
        let mut files = sample.in_turn().into_iter();
        let batch = batch(&mut files, 10, 1000);
        assert_eq!((batch.len(), files.len()), (10, 90));
        from = batch.last().unwrap().next();
        seen.extend(batch.into_iter().map(|file| file.inside));
    }
    assert_eq!(seen.len(), 100);
}

#[test]
fn a_batch_has_limits_and_at_least_one_file() {
    let wanted = hosts(0);
    let mut draw = Draw::new(Path::new("holding"), &wanted);
    (0..2000).for_each(|number| draw.see(item(&format!("holding/luv/{number}"), 10)));
    let mut files = draw.samples.remove(&OsString::from("luv")).unwrap().in_turn().into_iter();
    assert_eq!(files.len(), MOST);
    assert_eq!(
        (batch(&mut files, 5, 1000).len(), batch(&mut files, 50, 45).len(), batch(&mut files, 9, 0).len()),
        (5, 4, 1)
    );
}

#[test]
fn of_each_row_of_archives_the_newest_is_taken() {
    let archive =
        |name: &str, day| Archive { name: name.to_owned(), made: DateTime::UNIX_EPOCH + TimeDelta::days(day) };
    let all = vec![
        archive("nas-2026-11-03T02:00:00.123", 3),
        archive("luv-2026-11-02", 2),
        archive("nas-2026-11-02T02:00:00.123", 2),
        archive("nas-2026-11-01T02:00:00.1.checkpoint", 1),
        archive("luv-2026-11-01", 1),
    ];
    let names: Vec<_> = newest(all).into_iter().map(|archive| archive.name).collect();
    assert_eq!(names, ["nas-2026-11-03T02:00:00.123", "luv-2026-11-02"]);
}

#[test]
fn what_comes_is_told_from_what_has_changed_and_from_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("luv")).unwrap();
    let mut files = Vec::new();
    for (order, (name, ours, archived)) in [
        ("same", "content", 7),
        ("empty", "", 0),
        ("wrong", "another", 7),
        ("longer", "more of it", 3),
        ("gone", "", 2),
    ]
    .into_iter()
    .enumerate()
    {
        let inside = Path::new("luv").join(name);
        let path = folder.path().join(&inside);
        fs::write(&path, ours).unwrap();
        let at = fs::metadata(&path).unwrap();
        let mtime = DateTime::<Utc>::from_timestamp(at.mtime(), u32::try_from(at.mtime_nsec()).unwrap());
        if name == "gone" {
            fs::remove_file(&path).unwrap();
        }
        let item = Item { mtime, ..item(&format!("holding/luv/{name}"), archived) };
        files.push(Candidate { distance: 0, order: order.try_into().unwrap(), item, inside });
    }
    let holding = Dir::open(folder.path()).unwrap();
    let outcomes = |made: DateTime<Utc>, came: &str| {
        let mut comparing = Comparing::new(&holding, made, in_archive(&files));
        came.as_bytes().chunks(2).for_each(|piece| comparing.feed(piece));
        (comparing.outcomes().map(|(_, outcome)| outcome).collect::<Vec<_>>(), comparing.current().is_some())
    };
    let later = Utc::now() + TimeDelta::minutes(1);
    assert_eq!(outcomes(later, "contentcontentlonge"), (vec![Same, Same, Other, Changed, Changed], false));
    // One that was written since the archive was made is no wrong one, whatever time it says.
    assert_eq!(outcomes(DateTime::UNIX_EPOCH, "contentcontentlongemore").0, [Same, Same, Changed, Changed, Changed]);
    assert_eq!(outcomes(later, "contentcon"), (vec![Same, Same], true));
}
