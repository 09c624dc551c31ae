//! What is known of the drives as people read it, on a terminal of 80 columns.

use phobos_core::human;
use phobos_site::ledger::{Checkup, Drills, Mirror, Round, Rounds, State};
use phobos_site::rotation::{Attention, Place, Standing};

/// How wide a line may be.
const WIDTH: usize = 80;

/// What stands before each line about a drive but the first.
const INDENT: &str = "    ";

/// The drives, one below the other, and then the names of those that are known and not configured.
pub(crate) fn of(standings: &[Standing], others: &[String]) -> String {
    let mut text = String::new();
    for standing in standings {
        wrap(&mut text, "", &format!("{}  {}", standing.drive.name, verdict(standing)));
        for line in lines(standing) {
            wrap(&mut text, INDENT, &line);
        }
    }
    if !others.is_empty() {
        wrap(&mut text, "", &format!("Known and not configured any more: {}", others.join(", ")));
    }
    text
}

/// How the drive stands, in short.
fn verdict(standing: &Standing) -> String {
    let by = standing.due_by.map(human::day);
    match (by, standing.turn) {
        (Some(by), _) if standing.is_overdue() => format!("OVERDUE: it was to be brought by {by}"),
        (Some(by), 0) => format!("is next: bring it by {by}"),
        (None, 0) => "is next".to_owned(),
        (Some(by), _) => format!("has time until {by}"),
        (None, _) => "has time".to_owned(),
    }
}

fn lines(standing: &Standing) -> Vec<String> {
    let drive = &standing.drive;
    let mut lines: Vec<String> = Vec::new();
    if let Some(failure) = &drive.failure {
        lines.push(format!("its last run failed on {}: {}", human::day(failure.at), failure.error));
    }
    let told = standing.attention.iter().filter(|attention| !matches!(attention, Attention::Overdue { .. }));
    lines.extend(told.map(ToString::to_string));
    lines.push(match drive.place {
        Place::PluggedIn(Some(since)) => format!("plugged in since {}", human::local(since)),
        Place::PluggedIn(None) => "plugged in".to_owned(),
        Place::Away(Some(seen)) => format!("away; last seen on {}", human::day(seen)),
        Place::Away(None) => "away; never seen here".to_owned(),
    });
    match &drive.entry.mirror {
        Some(mirror) => {
            lines.push(mirrored(mirror));
            let full = standing.full_by.map(|by| format!("; full by {} at this rate", human::day(by)));
            lines.extend(mirror.room.map(|room| {
                let (used, free) = (human::size(room.used), human::size(room.free));
                format!("{used} used and {free} free then{}", full.unwrap_or_default())
            }));
        }
        None => lines.push("never mirrored to".to_owned()),
    }
    lines.extend(drive.entry.checkup.as_ref().map(said));
    lines.extend(read(&drive.entry.rounds));
    lines.extend(drilled(&drive.entry.drills));
    lines
}

/// What its disk said of itself.
fn said(checkup: &Checkup) -> String {
    let state = match checkup.state {
        State::Good => "good".to_owned(),
        State::Failing => format!("FAILING, {}", checkup.what),
        State::Unknown => format!("unknown, {}", checkup.what),
    };
    let resets = match checkup.resets {
        None | Some(0) => String::new(),
        Some(1) => "; it was reset once on its bus".to_owned(),
        Some(count) => format!("; it was reset {count} times on its bus"),
    };
    format!("its disk's health on {}: {state}{resets}", human::day(checkup.at))
}

/// When all of it was read again, and how far the round is that goes on.
fn read(rounds: &Rounds) -> Option<String> {
    let visits =
        |round: &Round| if round.visits == 1 { String::new() } else { format!(", in {} visits", round.visits) };
    let whole = rounds.whole.as_ref().map(|round| {
        let (began, ended) = (human::day(round.began), human::day(round.ended));
        let when = if began == ended { format!("on {began}") } else { format!("between {began} and {ended}") };
        format!("all of it was read again {when}{}", visits(round))
    });
    let current = rounds.current.as_ref().map(|round| {
        format!("{} of it were read again since {}{}", human::size(round.bytes), human::day(round.began), visits(round))
    });
    match (whole, current) {
        (Some(whole), Some(current)) => Some(format!("{whole}; {current}")),
        (whole, current) => whole.or(current),
    }
}

/// When files were last restored from it, and how many.
fn drilled(drills: &Drills) -> Option<String> {
    let drill = drills.good.as_ref()?;
    let (day, size) = (human::day(drill.at), human::size(drill.bytes));
    let archived = human::day(drill.archived);
    let what = if drill.full { "everything was".to_owned() } else { format!("{} files were", drill.files) };
    let whole = drills.whole.as_ref().filter(|_| !drill.full);
    let whole = whole.map(|whole| format!("; everything was on {}", human::day(whole.at))).unwrap_or_default();
    let recovered = match &drills.recovered {
        None => String::new(),
        Some(_) if drill.recovery => ", with the recovery passphrase".to_owned(),
        Some(recovered) => format!("; the recovery passphrase opened it on {}", human::day(recovered.at)),
    };
    Some(format!("last drill {day}: {what} restored from it, {size}, archived {archived} or later{recovered}{whole}"))
}

fn mirrored(mirror: &Mirror) -> String {
    let transaction = mirror.transaction.map(|number| format!(", transaction {number}")).unwrap_or_default();
    let generations = match mirror.generations {
        0 => String::new(),
        1 => ", and the one before".to_owned(),
        more => format!(", and {more} before it"),
    };
    format!("last complete mirror {}{transaction}{generations}", human::local(mirror.mirrored))
}

/// Adds `line`, broken between words where it is too wide; a word that is too wide by itself is left whole.
fn wrap(text: &mut String, indent: &str, line: &str) {
    let mut width = 0;
    for word in line.split(' ') {
        let length = word.chars().count();
        if width == 0 {
            text.push_str(indent);
            width = indent.len();
        } else if width + 1 + length > WIDTH {
            text.push('\n');
            text.push_str(INDENT);
            width = INDENT.len();
        } else {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += length;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta, Utc};
    use phobos_site::ledger::{Entry, Room};
    use phobos_site::rotation::{self, Drive, Failure};

    fn day(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + day) + TimeDelta::hours(12)
    }

    fn drive(name: &str, mirrored: Option<i64>) -> Drive {
        let room = Some(Room { used: 1_200_000_000_000, free: 800_000_000_000 });
        let mirror = |at| Mirror { transaction: Some(17), room, generations: 1, ..Mirror::at(day(at)) };
        let entry = Entry { mirror: mirrored.map(mirror), ..Entry::default() };
        Drive { name: name.to_owned(), place: Place::Away(mirrored.map(day)), entry, failure: None }
    }

    #[test]
    fn the_worst_stands_first_and_no_line_is_wider_than_a_terminal() {
        let error = "640 GB have to be written and 12 GB are free on the drive; nothing was written. ".repeat(4);
        let long = "in-the-safe-of-the-bank-of-the-t";
        let drives = vec![
            drive("A", Some(40)),
            Drive { failure: Some(Failure { at: day(41), error: error.trim().to_owned() }), ..drive("B", Some(30)) },
            Drive { place: Place::PluggedIn(Some(day(43))), ..drive(long, None) },
        ];
        let standings = rotation::judge(drives, TimeDelta::days(35), day(76));
        let text = of(&standings, &["old".to_owned()]);
        let heads: Vec<_> = text.lines().filter(|line| !line.starts_with(' ')).collect();
        let wrapped = format!("{long}  OVERDUE: it was to be brought by 18 December\n    2024\n    plugged in since ");
        assert!(text.starts_with(&wrapped), "{text}");
        assert!(heads[1].starts_with("B  has time until ") && heads[2].starts_with("A  has time until "), "{text}");
        assert_eq!(heads[3], "Known and not configured any more: old");
        assert!(text.contains("    its last run failed on 14 November 2024: 640 GB have to be written"), "{text}");
        assert!(text.contains("    1.20 TB used and 800 GB free then\n"), "{text}");
        assert!(text.contains(", transaction 17, and the one before\n") && text.contains("    never mirrored to\n"));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn when_all_of_it_was_read_again_is_said() {
        let round = |began, ended, visits| Round {
            began: day(began),
            ended: day(ended),
            visits,
            bytes: 2_000_000_000,
            position: None,
        };
        let said = |current, whole| read(&Rounds { current, whole, damage: None }).unwrap_or_default();
        assert_eq!(said(None, None), "");
        assert_eq!(said(None, Some(round(40, 40, 1))), "all of it was read again on 13 November 2024");
        assert_eq!(
            said(Some(round(75, 75, 1)), Some(round(10, 70, 3))),
            "all of it was read again between 14 October 2024 and 13 December 2024, in 3 visits; 2 GB of it were read again since 18 \
             December 2024"
        );
    }

    #[test]
    fn the_next_one_is_named_with_its_day() {
        let by = |drives: Vec<Drive>| of(&rotation::judge(drives, TimeDelta::days(35), day(50)), &[]);
        let text = by(vec![drive("A", Some(40)), drive("B", Some(30))]);
        assert!(text.starts_with("B  is next: bring it by "), "{text}");
        assert!(by(vec![drive("A", None)]).starts_with("A  is next\n    away; never seen here\n"));
    }
}
