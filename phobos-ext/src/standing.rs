//! What is known of each drive: from the ledger, from the history where the ledger knows nothing, and by what is plugged in.

use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::block;
use phobos_site::config::External;
use phobos_site::history::Run;
use phobos_site::ledger::{Book, Mirror};
use phobos_site::rotation::{self, Drive, Failure, Place, Standing};

use crate::JOB;
use crate::drive::Target;

/// How each of the drives stands, worst first.
pub(crate) fn all(
    external: &External,
    targets: &[Target],
    book: &Book,
    runs: &[Run],
    now: DateTime<Utc>,
) -> Vec<Standing> {
    let overdue = TimeDelta::from_std(external.overdue.0).unwrap_or(TimeDelta::MAX);
    let drives = targets.iter().map(|target| known(target, book, runs, now)).collect();
    rotation::judge(drives, overdue, now)
}

fn known(target: &Target, book: &Book, runs: &[Run], now: DateTime<Utc>) -> Drive {
    let name = target.name.as_str();
    let mut entry = book.drives.get(name).cloned().unwrap_or_default();
    let mut own = runs.iter().rev().filter(|run| run.job == JOB && run.object == name).peekable();
    let failure = own.peek().filter(|run| run.exit != 0);
    let failure = failure.map(|run| Failure { at: run.end, error: run.error.clone() });
    if entry.mirror.is_none() {
        entry.mirror = own.find(|run| run.exit == 0).map(|run| Mirror::at(run.end));
    }
    let place = if target.device.exists() {
        Place::PluggedIn(block::plugged_in_since(&target.device, now))
    } else {
        Place::Away(entry.seen.or(entry.mirror.as_ref().map(|mirror| mirror.mirrored)))
    };
    Drive { name: name.to_owned(), place, entry, failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phobos_site::config::Config;
    use std::path::Path;

    fn day(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(day)
    }

    #[test]
    fn the_ledger_counts_and_the_history_where_it_is_gone() {
        let target = |name: &str| Target { name: name.parse().unwrap(), device: "/nowhere".into(), luks: None };
        let targets = ["A", "B", "C"].map(target);
        let external = Config::parse(Path::new("test"), "[external]\noverdue = '10d'").unwrap().external;
        let mut book = Book::default();
        book.record("A", Mirror { transaction: Some(7), ..Mirror::at(day(3)) });
        let run = |object: &str, at, exit| Run { exit, error: "no".to_owned(), ..Run::new(JOB, object, day(at)) };
        let runs = [run("A", 2, 0), run("B", 1, 0), run("B", 5, 65), Run::new("pull", "C", day(1))];
        let standings = all(&external, &targets, &book, &runs, day(6));
        let of = |name: &str| standings.iter().find(|standing| standing.drive.name == name).unwrap();
        assert_eq!(of("A").mirror().map(|mirror| (mirror.mirrored, mirror.transaction)), Some((day(3), Some(7))));
        assert_eq!(of("A").drive.place, Place::Away(Some(day(3))));
        assert_eq!(of("B").mirror(), Some(&Mirror::at(day(1))));
        assert_eq!(of("B").drive.failure, Some(Failure { at: day(5), error: "no".to_owned() }));
        assert_eq!((of("C").mirror(), of("C").drive.place), (None, Place::Away(None)));
        assert_eq!((of("C").turn, of("C").due_by), (0, Some(day(13))));
        assert_eq!(standings[0].drive.name, "B", "what has failed stands first");
    }
}
