//! What is to be said of the drives: in the journal, on the light's board, and once by mail.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use phobos_core::error::Chain;
use phobos_core::exec::Exec;
use phobos_core::human;
use phobos_site::led::{self, Board, State};
use phobos_site::ledger::{Book, Ledger};
use phobos_site::note;
use phobos_site::rotation::{self, Attention, Standing};

use crate::listing;

/// What stands for the drives on the light's board; a drive's own name there is `ext-NAME`.
const LIGHT: &str = "drives";

/// How long the mail may take; phobos-mail itself gives up before that, and keeps it.
const MAIL_LIMIT: Duration = Duration::from_secs(90);

/// What phobos-mail gets of the environment: a unit's `STATE_DIRECTORY` is not where it keeps mail.
const PASSED_ON: [&str; 5] = ["PATH", "PHOBOS_MAIL_UNITS", "PHOBOS_MAIL_OWN", "PHOBOS_LED_RUN", "PHOBOS_LED_KEPT"];

/// Says in the journal what is not as it should be.
pub(crate) fn in_journal(standings: &[Standing]) {
    for attention in rotation::attention(standings) {
        log::warn!("{attention}");
    }
}

/// Puts what is not as it should be on the light, or takes it off.
pub(crate) fn on_light(exec: &dyn Exec, board: &Board, standings: &[Standing]) {
    match rotation::attention(standings).first() {
        Some(worst) => led::tell(exec, board, LIGHT, State::Attention, &worst.to_string()),
        None => take_back(exec, board, standings),
    }
}

/// Takes off the light what has ended.
pub(crate) fn take_back(exec: &dyn Exec, board: &Board, standings: &[Standing]) {
    if rotation::attention(standings).is_empty() {
        led::make_good(exec, board, LIGHT);
    }
}

/// What a good mirror to the drive `name` means for whoever carries the drives.
pub(crate) fn notice(name: &str, standings: &[Standing]) -> String {
    let next = standings.iter().find(|standing| standing.turn == 0);
    let Some(next) = next else { return format!("{name} is safe to take away") };
    let by = next.due_by.map(|by| format!(" by {}", human::day(by))).unwrap_or_default();
    let whom = if next.drive.name == name { "it again" } else { &next.drive.name };
    format!("{name} is safe to take away; bring {whom}{by}")
}

/// Mails `notice`, where there is one, and what has not been mailed yet of what is not as it should be. That it cannot be
/// mailed is a warning, and it is tried again with the next call.
pub(crate) fn by_mail(
    exec: &dyn Exec,
    config: Option<&Path>,
    ledger: &Ledger,
    book: &Book,
    standings: &[Standing],
    notice: Option<&str>,
) {
    let all = rotation::attention(standings);
    let keys: BTreeSet<String> = all.iter().map(Attention::key).collect();
    let new: Vec<String> =
        all.iter().filter(|attention| !book.told.contains(&attention.key())).map(ToString::to_string).collect();
    // What is wrong is not to be read behind a good word.
    let said: Vec<&str> = new.iter().map(String::as_str).chain(notice).collect();
    let sent = said.first().is_none_or(|subject| {
        let text = body(&said, standings);
        let call = note::call(config, subject, text).only_env(&PASSED_ON).shielded().limit(MAIL_LIMIT);
        note::hand_over(exec, &call).map_err(|error| log::warn!("{}", Chain(&error))).is_ok()
    });
    let told: BTreeSet<String> = keys.into_iter().filter(|key| sent || book.told.contains(key)).collect();
    if told == book.told {
        return;
    }
    if let Err(error) = ledger.update(|book| book.told = told) {
        log::warn!("{}", Chain(&error));
    }
}

fn body(said: &[&str], standings: &[Standing]) -> String {
    format!(
        "{}.\n\nThe drives, as `phobos-ext drives` lists them:\n\n{}",
        said.join(".\n"),
        listing::of(standings, &[])
    )
}

/// Ends a failure, such as that of a run that could not begin: it has been made good.
pub(crate) fn forgive(board: &Board, light: &str) {
    if let Err(error) = board.make_good(light) {
        log::warn!("cannot take the failure of {light} off the light: {}", Chain(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta, Utc};
    use phobos_core::exec::fake::Script;
    use phobos_site::ledger::Mirror;
    use phobos_site::rotation::{Drive, Place};

    fn day(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + day) + TimeDelta::hours(12)
    }

    /// A on day 30, B on day 0, as they stand on a day.
    fn standings(on: i64) -> Vec<Standing> {
        let drive = |name: &str, at| {
            let mut book = Book::default();
            book.record(name, Mirror::at(day(at)));
            let entry = book.drives.remove(name).unwrap();
            Drive { name: name.to_owned(), place: Place::Away(None), entry, failure: None }
        };
        rotation::judge(vec![drive("A", 30), drive("B", 0)], TimeDelta::days(35), day(on))
    }

    #[test]
    fn a_notice_says_what_may_leave_and_what_is_to_come_and_when() {
        assert_eq!(notice("A", &standings(30)), "A is safe to take away; bring B by 8 December 2024");
        assert_eq!(notice("B", &standings(30)[..1]), "B is safe to take away; bring it again by 8 December 2024");
        assert_eq!(notice("A", &[]), "A is safe to take away");
    }

    #[test]
    fn what_lasts_is_mailed_once_and_again_when_it_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&folder.path().join("drives.json"));
        let mail = |script: &Script, on: i64, notice: Option<&str>| {
            by_mail(script, None, &ledger, &ledger.read(), &standings(on), notice);
        };
        let script = Script::new().fails(1, "no").fails(75, "a mail waits").ok().ok();
        mail(&script, 40, None);
        assert!(script.calls().is_empty() && ledger.read() == Book::default());
        mail(&script, 70, None);
        assert!(ledger.read().told.is_empty(), "it could not be mailed");
        mail(&script, 71, None);
        mail(&script, 72, None);
        assert_eq!(script.calls().len(), 2, "what waits is told");
        assert_eq!(
            script.calls()[1],
            "phobos-mail note -- 'the drive B is overdue: it was to be brought by 8 December 2024'"
        );
        mail(&script, 40, Some("A is safe to take away"));
        assert!(ledger.read().told.is_empty() && script.calls()[2].ends_with(" -- 'A is safe to take away'"));
        mail(&script, 70, None);
        assert_eq!((script.calls().len(), ledger.read().told.len()), (4, 1));
    }

    #[test]
    fn a_mail_says_all_that_is_new_and_lists_the_drives() {
        let said = body(&["B is overdue", "A is safe"], &standings(70));
        assert!(said.starts_with("B is overdue.\nA is safe.\n\nThe drives, "), "{said}");
        assert!(said.contains("\nB  OVERDUE: it was to be brought by "), "{said}");
        assert!(body(&["B is overdue"], &[]).starts_with("B is overdue.\n\n"));
    }

    #[test]
    fn the_light_shows_it_for_as_long_as_it_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::new(&folder.path().join("run"), &folder.path().join("kept"));
        let script = Script::new().ok().ok();
        on_light(&script, &board, &standings(40));
        assert!(script.calls().is_empty());
        on_light(&script, &board, &standings(70));
        let jobs = board.jobs().unwrap();
        assert_eq!((jobs[0].name.as_str(), jobs[0].state), ("drives", State::Attention));
        take_back(&script, &board, &standings(70));
        assert_eq!(board.jobs().unwrap().len(), 1);
        take_back(&script, &board, &standings(40));
        assert!(board.jobs().unwrap().is_empty());
        assert_eq!(script.calls().len(), 2);
    }
}
