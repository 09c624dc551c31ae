//! Months in a house: who is due, and what is said on which day.

use super::*;
use crate::ledger::Book;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A house with some drives, of which some are plugged in.
#[derive(Default)]
struct House {
    drives: Vec<String>,
    book: Book,
    here: BTreeMap<String, i64>,
    failed: BTreeMap<String, i64>,
}

fn day(day: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + day)
}

impl House {
    fn with(drives: &[&str]) -> Self {
        Self { drives: drives.iter().map(ToString::to_string).collect(), ..Self::default() }
    }

    /// A drive is brought, mirrored to, and has so much room left then, of 1000.
    fn brought(&mut self, drive: &str, at: i64, free: u64) {
        self.here.insert(drive.to_owned(), at);
        self.failed.remove(drive);
        self.book.record(drive, Mirror { room: Some(Room { used: 1000 - free, free }), ..Mirror::at(day(at)) });
    }

    /// A drive is brought, and refused.
    fn refused(&mut self, drive: &str, at: i64) {
        self.failed.insert(drive.to_owned(), at);
        self.book.saw(drive, day(at));
    }

    fn taken_away(&mut self, drive: &str) {
        self.here.remove(drive);
    }

    fn look(&self, at: i64) -> Vec<Standing> {
        let known = |name: &String| {
            let entry = self.book.drives.get(name).cloned().unwrap_or_default();
            let here = self.here.get(name).map(|since| Place::PluggedIn(Some(day(*since))));
            Drive {
                name: name.clone(),
                place: here.unwrap_or(Place::Away(entry.seen)),
                entry,
                failure: self.failed.get(name).map(|at| Failure { at: day(*at), error: "no room".to_owned() }),
            }
        };
        judge(self.drives.iter().map(known).collect(), TimeDelta::days(35), day(at))
    }

    /// What is said on a day, in short.
    fn said(&self, at: i64) -> Vec<String> {
        let all = attention(&self.look(at));
        all.iter().map(|attention| attention.key().split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
    }

    fn next(&self, at: i64) -> String {
        self.look(at).into_iter().find(|standing| standing.turn == 0).unwrap().drive.name
    }
}

/// What happens on a day.
enum Event {
    Brought(&'static str),
    Refused(&'static str),
    Leaves(&'static str),
    /// Brought and mirrored to, with so much free afterwards.
    Filled(&'static str, u64),
}

/// Plays `events` for four months and more, and asks every day; what is said has to be what the last of `expected` so far says.
fn months(drives: &[&str], events: &[(i64, Event)], expected: &[(i64, &[&str])]) {
    let mut house = House::with(drives);
    for today in 0..=150 {
        for (_, event) in events.iter().filter(|(at, _)| *at == today) {
            match event {
                Event::Brought(drive) => house.brought(drive, today, 500),
                Event::Filled(drive, free) => house.brought(drive, today, *free),
                Event::Refused(drive) => house.refused(drive, today),
                Event::Leaves(drive) => house.taken_away(drive),
            }
        }
        let want = expected.iter().rev().find(|(from, _)| *from <= today).map_or(&[][..], |(_, said)| *said);
        assert_eq!(house.said(today), want, "on day {today}");
    }
}

#[test]
fn drives_that_alternate_need_no_word() {
    use Event::{Brought, Leaves};
    let events = [
        (0, Brought("A")),
        (1, Leaves("A")),
        (30, Brought("B")),
        (31, Leaves("B")),
        (61, Brought("A")),
        (62, Leaves("A")),
        (95, Brought("B")),
        (96, Leaves("B")),
        (125, Brought("A")),
        (126, Leaves("A")),
    ];
    months(&["A", "B"], &events, &[]);
}

#[test]
fn the_wrong_drive_is_told_and_the_right_one_ends_it() {
    use Event::{Brought, Leaves};
    let events = [
        (0, Brought("A")),
        (1, Leaves("A")),
        (30, Brought("B")),
        (31, Leaves("B")),
        (60, Brought("A")),
        (61, Leaves("A")),
        (90, Brought("A")),
        (91, Leaves("A")),
        (110, Brought("B")),
        (111, Leaves("B")),
    ];
    let expected: [(i64, &[&str]); 4] =
        [(90, &["twice A"]), (101, &["overdue B", "twice A"]), (110, &[]), (146, &["overdue A"])];
    months(&["A", "B"], &events, &expected);
}

#[test]
fn two_drives_that_stay_at_home_are_told_after_a_day() {
    use Event::{Brought, Leaves};
    let events = [(0, Brought("A")), (20, Brought("B")), (30, Leaves("A")), (50, Brought("A")), (51, Leaves("B"))];
    let expected: [(i64, &[&str]); 4] =
        [(22, &["together A"]), (30, &[]), (86, &["overdue B"]), (121, &["overdue B", "overdue A"])];
    months(&["A", "B"], &events, &expected);
}

#[test]
fn a_drive_that_is_lost_is_missed() {
    use Event::{Brought, Leaves};
    let events = [
        (0, Brought("B")),
        (1, Leaves("B")),
        (30, Brought("A")),
        (31, Leaves("A")),
        (60, Brought("A")),
        (61, Leaves("A")),
        (90, Brought("A")),
        (91, Leaves("A")),
        (120, Brought("A")),
        (121, Leaves("A")),
    ];
    let expected: [(i64, &[&str]); 2] = [(60, &["twice A"]), (71, &["overdue B", "twice A"])];
    months(&["A", "B"], &events, &expected);
}

#[test]
fn nobody_brings_anything() {
    months(&["A", "B"], &[], &[]);
    months(&["A"], &[(0, Event::Brought("A")), (1, Event::Leaves("A"))], &[(36, &["overdue A"])]);
    // A was never mirrored to, and so its turn is first.
    let expected: [(i64, &[&str]); 2] = [(36, &["overdue A"]), (71, &["overdue B", "overdue A"])];
    months(&["A", "B"], &[(0, Event::Brought("B")), (1, Event::Leaves("B"))], &expected);
}

#[test]
fn a_drive_fills_up_and_then_is_full() {
    use Event::{Brought, Filled, Leaves, Refused};
    let events = [
        (0, Filled("A", 400)),
        (1, Leaves("A")),
        (30, Brought("B")),
        (31, Leaves("B")),
        // It took 210 and has 190 left: the next time will not do.
        (60, Filled("A", 190)),
        (61, Leaves("A")),
        (90, Brought("B")),
        (91, Leaves("B")),
        (120, Refused("A")),
    ];
    let expected: [(i64, &[&str]); 2] = [(60, &["nearly-full A"]), (126, &["overdue A", "nearly-full A"])];
    months(&["A", "B"], &events, &expected);
    let mut house = House::with(&["A", "B"]);
    house.brought("A", 0, 400);
    house.brought("B", 30, 500);
    house.brought("A", 60, 200);
    let standing = house.look(61).into_iter().find(|standing| standing.drive.name == "A").unwrap();
    assert_eq!(standing.full_by, Some(day(120)));
    house.refused("B", 62);
    assert_eq!(house.look(63)[0].drive.name, "B", "what has failed stands first");
}

#[test]
fn less_than_a_twentieth_is_nearly_full() {
    for (free, is_full) in [(0, true), (49, true), (50, false), (999, false)] {
        assert_eq!(is_nearly_full(Room { used: 1000 - free, free }, &Entry::default()), is_full, "{free} of 1000");
    }
}

#[test]
fn the_worst_stands_first_whoever_is_next() {
    // A is always the one that is not next; what is wrong with A, what with B, the day, and who stands first.
    let cases: [(&[&str], &[&str], i64, &str); 6] = [
        (&[], &[], 61, "B"),
        (&["failed"], &[], 61, "A"),
        (&["full"], &[], 61, "A"),
        (&["full"], &["failed"], 61, "B"),
        (&["failed"], &["full"], 61, "A"),
        (&["failed"], &[], 96, "B"),
    ];
    for (of_a, of_b, today, first) in cases {
        let mut house = House::with(&["A", "B"]);
        for (drive, at, wrong) in [("B", 30, of_b), ("A", 60, of_a)] {
            house.brought(drive, at, if wrong.contains(&"full") { 1 } else { 500 });
            house.taken_away(drive);
            if wrong.contains(&"failed") {
                house.refused(drive, at + 1);
            }
        }
        let standings = house.look(today);
        assert_eq!(standings[0].drive.name, first, "{of_a:?}, {of_b:?} on day {today}");
        assert_eq!((house.next(today).as_str(), standings[0].is_overdue()), ("B", today == 96));
    }
}

#[test]
fn a_clock_that_was_wrong_puts_nothing_off() {
    let mut house = House::with(&["A", "B"]);
    house.brought("A", 36_500, 500);
    house.taken_away("A");
    house.brought("B", 0, 500);
    house.taken_away("B");
    assert_eq!(house.next(1), "A", "B was the last, whatever the clock said to A's");
    assert_eq!(house.look(1)[0].due_by, Some(day(36)), "the last of all was today at the latest");
}

#[test]
fn each_word_says_what_to_do() {
    let drive = || "A".to_owned();
    let words = [
        Attention::NearlyFull { drive: drive(), free: 12_000_000 },
        Attention::Twice { drive: drive(), at: day(0), due: "B".to_owned() },
        Attention::Together { drive: drive(), others: vec!["B".to_owned()] },
        Attention::Overdue { drive: drive(), due_by: day(0) },
        Attention::Fails { drive: drive(), what: "8 sectors cannot be read".to_owned() },
        Attention::Rots { drive: drive(), files: 1, at: day(0) },
    ];
    assert!(words.is_sorted());
    let said: Vec<_> = words.iter().map(ToString::to_string).collect();
    assert_eq!(said[0], "the drive A is nearly full: 12 MB are free");
    assert_eq!(said[1], "the drive A was mirrored to twice in a row, and B is due; bring B");
    assert!(said[2].starts_with("the drives A and B have been plugged in together for more than a day"));
    assert!(said[3].starts_with("the drive A is overdue: it was to be brought by "));
    assert_eq!(said[4], "the disk of the drive A fails: 8 sectors cannot be read; replace it");
    assert!(said[5].starts_with("the drive A rots: a damaged file was found on it, last on "), "{}", said[5]);
}

proptest! {
    #[test]
    fn whatever_happens_one_drive_is_next_and_it_is_the_one_with_the_oldest_mirror(
        events in proptest::collection::vec((0..3_usize, 0..40_i64, 0..1000_u64, 0..4_u8), 0..20),
    ) {
        let names = ["A", "B", "C"];
        let mut house = House::with(&names);
        let mut today = 0;
        for (drive, later, free, kind) in events {
            today += later;
            match kind {
                0 => house.refused(names[drive], today),
                1 => house.taken_away(names[drive]),
                _ => house.brought(names[drive], today, free),
            }
            let standings = house.look(today);
            let mut turns: Vec<_> = standings.iter().map(|standing| standing.turn).collect();
            turns.sort_unstable();
            prop_assert_eq!(turns, [0, 1, 2]);
            let oldest = names.iter().min_by_key(|name| {
                (house.book.drives.get(**name).and_then(|entry| entry.mirror.as_ref()).map(Mirror::order), **name)
            });
            prop_assert_eq!(house.next(today), *oldest.unwrap());
            prop_assert!(standings.is_sorted_by_key(|standing| Reverse(rank(standing))), "worst first");
            for standing in &standings {
                let is_fresh = standing.mirror().is_some_and(|mirror| mirror.mirrored == day(today));
                prop_assert!(!(is_fresh && standing.is_overdue()), "{:?}", standing);
            }
            // What is told lasts until something happens, and grows with the days.
            let later = house.look(today + 200);
            prop_assert!(later.iter().filter(|standing| standing.is_overdue()).count()
                >= standings.iter().filter(|standing| standing.is_overdue()).count());
            prop_assert!(house.book.drives.values().all(|entry| entry.mirror.is_none())
                || later.iter().all(Standing::is_overdue));
        }
    }
}
