//! What is known of each drive, by the configuration, the ledger and the history.

use std::path::Path;

use chrono::{DateTime, Utc};
use phobos_core::exec::Exec;
use phobos_site::config::External;
use phobos_site::drives::{self, CRYPTTAB, Past, Target};
use phobos_site::history::{History, Run};
use phobos_site::ledger::{Book, Checkup};
use phobos_site::rotation::{Failure, Standing};

use crate::{JOB, drive};

/// How each of the drives stands, worst first.
pub(crate) fn all(
    external: &External,
    targets: &[Target],
    book: &Book,
    runs: &[Run],
    now: DateTime<Utc>,
) -> Vec<Standing> {
    drives::standings(external, targets, book, &|name| past(runs, name), now)
}

/// How the drives that the configuration knows stand now: for telling, which a configuration that cannot be read must not break.
pub(crate) fn now(external: &External, book: &Book, history: &History) -> Vec<Standing> {
    let known = drive::known(external, Path::new(CRYPTTAB), None).unwrap_or_default();
    all(external, &known, book, &drive::runs(history), Utc::now())
}

/// The drives that are plugged in, each with what its disk says of itself.
pub(crate) fn checkups(exec: &dyn Exec, external: &External) -> Vec<(Target, Checkup)> {
    let known = drive::known(external, Path::new(CRYPTTAB), None).unwrap_or_default();
    let here = known.into_iter().filter(|drive| drive.device.exists());
    let asked = |drive: Target| {
        let checkup = Checkup::of(exec, &drive.device, Utc::now());
        (drive, checkup)
    };
    here.map(asked).collect()
}

fn past(runs: &[Run], name: &str) -> Past {
    let mut own = runs.iter().rev().filter(|run| run.job == JOB && run.object == name).peekable();
    let failure = own.peek().filter(|run| run.exit != 0);
    let failure = failure.map(|run| Failure { at: run.end, error: run.error.clone() });
    Past { failure, good: own.find(|run| run.exit == 0).map(|run| run.end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_run_tells_of_a_failure_and_the_last_good_one_of_a_mirror() {
        let day = |day| DateTime::UNIX_EPOCH + chrono::TimeDelta::days(day);
        let run = |object: &str, at, exit| Run { exit, error: "no".to_owned(), ..Run::new(JOB, object, day(at)) };
        let runs = [run("A", 2, 65), run("A", 3, 0), run("B", 1, 0), run("B", 5, 65), Run::new("pull", "C", day(1))];
        assert_eq!(past(&runs, "A"), Past { failure: None, good: Some(day(3)) });
        let failure = Some(Failure { at: day(5), error: "no".to_owned() });
        assert_eq!(past(&runs, "B"), Past { failure, good: Some(day(1)) });
        assert_eq!(past(&runs, "C"), Past::default());
    }
}
