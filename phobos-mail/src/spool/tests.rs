//! A spool that is full, torn, locked or used by two at once.

use super::*;
use crate::letter;
use std::fs;

fn about(unit: &str, body: &str) -> Letter {
    Letter { subject: format!("unit {unit} failed"), body: body.to_owned(), ..letter::blank(unit) }
}

fn bodies(spool: &Spool) -> Vec<String> {
    let claims = spool.list().unwrap().into_iter().map(|name| spool.claim(&name).unwrap().unwrap());
    claims.map(|claim| claim.letter.body.clone()).collect()
}

#[test]
fn a_letter_is_the_property_of_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let first = spool.add(about("a", "one\n")).unwrap();
    let [name] = &spool.list().unwrap()[..] else { panic!("one letter was added") };
    assert!(first.is(&spool, name) && spool.claim(name).unwrap().is_none(), "it is claimed by whoever added it");
    drop(first);
    let mut again = spool.claim(name).unwrap().unwrap();
    assert_eq!(again.letter.body, "one\n");
    again.save().unwrap();
    assert!(spool.claim(name).unwrap().is_none(), "and still after it was written anew");
    again.done().unwrap();
    assert!(spool.claim(name).unwrap().is_none());
    assert!(spool.list().unwrap().is_empty());
}

#[test]
fn letters_wait_in_the_order_in_which_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    for body in ["1", "2", "3", "4", "5"] {
        drop(spool.add(about("a", body)).unwrap());
    }
    assert_eq!(bodies(&spool), ["1", "2", "3", "4", "5"]);
}

#[test]
fn what_is_no_letter_is_set_aside_whatever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let queue = folder.path().join("queue");
    fs::write(queue.join("1.json"), "{\"id\":").unwrap();
    fs::write(queue.join(".2.json.new"), "").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", queue.join("3.json")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, queue.join("4.json"), rustix::fs::Mode::RUSR).unwrap();
    fs::create_dir(queue.join("5.json")).unwrap();
    File::create(queue.join("6.json")).unwrap().set_len(8 << 30).unwrap();
    fs::write(queue.join("7.json"), "\0".repeat(100)).unwrap();
    fs::write(queue.join("8.json"), "{\"version\":2}").unwrap();
    let listed = spool.list().unwrap();
    assert_eq!(listed.len(), 7);
    for name in &listed {
        assert!(spool.claim(name).unwrap().is_none(), "{name:?}");
    }
    assert!(spool.list().unwrap().is_empty());
    assert_eq!(spool.list_refused().unwrap(), listed);
    for name in &listed {
        assert!(Spool::peek(&spool.refused, name).unwrap().unwrap().is_err(), "{name:?}");
    }
    assert_eq!(spool.add(about("a", "one")).unwrap().letter.body, "one");
}

#[test]
fn a_letter_is_set_aside_with_its_reason_and_can_be_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    spool.add(about("a", "one\n")).unwrap().set_aside("550 no").unwrap();
    assert!(spool.list().unwrap().is_empty());
    let [name] = &spool.list_refused().unwrap()[..] else { panic!("one was set aside") };
    let letter = Spool::peek(&spool.refused, name).unwrap().unwrap().unwrap();
    assert_eq!((letter.body.as_str(), letter.reason.as_deref()), ("one\n", Some("550 no")));
    spool.take_back(name).unwrap();
    assert!(spool.list_refused().unwrap().is_empty());
    assert_eq!(spool.claim(name).unwrap().unwrap().letter.reason, None);
}

#[test]
fn root_sees_to_both_spools_and_a_unit_to_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let [units, own] = ["units", "own"].map(|name| folder.path().join(name));
    let folders = |named: Option<&PathBuf>, is_root| {
        Places { units: vec![units.clone()], own: own.clone() }.folders(named.cloned(), is_root)
    };
    assert_eq!(folders(None, true), std::slice::from_ref(&own));
    fs::create_dir(&own).unwrap();
    fs::create_dir(&units).unwrap();
    assert_eq!(folders(None, true), [units.clone(), own.clone()]);
    assert_eq!(folders(Some(&units), true), [units.clone(), own.clone()]);
    assert_eq!(folders(Some(&units), false), std::slice::from_ref(&units));
    assert_eq!(folders(Some(&"/elsewhere".into()), true), [PathBuf::from("/elsewhere")]);
}

#[test]
fn a_full_spool_merges_the_unit_that_fills_it() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::with_limits(folder.path(), Limits { letters: 6, bytes: 1 << 20 }).unwrap();
    for (unit, body) in [("b", "b failed once.\n"), ("a", "a failed 1.\n"), ("a", "a failed 2.\n")] {
        drop(spool.add(about(unit, body)).unwrap());
    }
    for number in 3..30 {
        drop(spool.add(about("a", &format!("a failed {number}.\n"))).unwrap());
        assert!(spool.list().unwrap().len() <= 6);
    }
    let bodies = bodies(&spool);
    assert_eq!(bodies[0], "b failed once.\n");
    for number in 1..30 {
        let line = format!("a failed {number}.\n");
        assert!(bodies.iter().any(|body| body.contains(&line)), "{line} is lost: {bodies:#?}");
    }
}

/// Fills the spool without the care that each letter takes on its own.
fn fill_up(spool: &Spool, letters: usize, body: &str) {
    let letter = serde_json::to_vec(&about("a", body)).unwrap();
    for number in 0..letters {
        fs::write(spool.queue.path().join(format!("{number:020}-x.json")), &letter).unwrap();
    }
}

#[test]
fn no_more_than_a_thousand_letters_and_64_megabytes_wait() {
    for (letters, body) in [(1000, "a failed.\n".to_owned()), (63, format!("a failed.\n{}", "x".repeat(1 << 20)))] {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        fill_up(&spool, letters, &body);
        assert_eq!(spool.list().unwrap().len(), letters);
        drop(spool.add(about("b", &format!("b failed.\n{}", "y".repeat(1 << 20)))).unwrap());
        let names = spool.list().unwrap();
        assert!(names.len() < letters && spool.size(&names).unwrap() <= 64 << 20, "{} letters", names.len());
        let letters_in = |name: &OsString| spool.claim(name).unwrap().unwrap().letter.merged.max(1);
        assert_eq!(names.iter().map(letters_in).sum::<u64>(), u64::try_from(letters).unwrap() + 1, "none is lost");
    }
}

#[test]
fn a_spool_of_many_units_stays_within_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::with_limits(folder.path(), Limits { letters: 100, bytes: 20_000 }).unwrap();
    for number in 0..60 {
        let body = format!("unit {number} failed.\n{}", "x".repeat(1000));
        drop(spool.add(about(&format!("u{number}"), &body)).unwrap());
        assert!(spool.size(&spool.list().unwrap()).unwrap() < 22_500);
    }
    let all = bodies(&spool).concat();
    assert!((0..60).all(|number| all.contains(&format!("unit {number} failed."))), "{all}");
}
