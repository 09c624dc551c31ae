//! One screen: what is wrong and what to do, what runs now, and how everything stands; pure.

use chrono::{DateTime, Utc};
use phobos_core::human;

use crate::layout::{Sheet, Tone, WIDTH, cell, right};
use crate::model::{Drive, Gap, Job, Kind, Light, Mail, Model, Running, Severity};

/// How wide a name is.
const NAME: usize = 16;

/// How far the second half of a line about one thing is in.
const INDENT: usize = NAME + 2;

/// The screen, with colours or without.
pub(crate) fn draw(model: &Model, colours: bool) -> String {
    let mut sheet = Sheet::new(colours);
    head(&mut sheet, model);
    for finding in &model.findings {
        let (tone, word) = match finding.severity {
            Severity::Failed => (Tone::Bad, "FAILED"),
            Severity::Attention | Severity::Ok => (Tone::Warn, "LOOK"),
        };
        sheet.wrapped(tone, word, &finding.what, 8);
        if !finding.remedy.is_empty() {
            sheet.wrapped(Tone::Weak, "", &format!("-> {}", finding.remedy), 8);
        }
    }
    sheet.gap();
    sheet.title("Now");
    if model.running.is_empty() {
        sheet.line("  nothing runs");
    }
    for run in &model.running {
        sheet.wrapped(Tone::Strong, &format!("  {}", cell(&run.name, NAME)), &goes_on(run, model), INDENT + 2);
    }
    jobs(&mut sheet, model, Kind::Pull, "Hosts", "last good pull");
    jobs(&mut sheet, model, Kind::Borg, "Borg", "last good run");
    jobs(&mut sheet, model, Kind::Other, "Other jobs", "last good run");
    if !model.drives.is_empty() {
        sheet.gap();
        sheet.title("Drives");
        for drive in &model.drives {
            let tone = if drive.overdue { Tone::Warn } else { Tone::Strong };
            sheet.wrapped(
                tone,
                &format!("  {}", cell(&drive.name, NAME)),
                &format!("{}; {}", drive_words(drive, model), turn(drive, model)),
                INDENT + 2,
            );
        }
        if let Some(gap) = &model.best_time {
            sheet.wrapped(Tone::Weak, "", &best(gap, model), 2);
        }
    }
    sheet.gap();
    if let Some(room) = model.room {
        let text = format!("{} used, {} free", human::size(room.used), human::size(room.free));
        sheet.wrapped(Tone::Strong, "Backup disk", &text, INDENT);
    }
    if let Some(mail) = &model.mail {
        sheet.wrapped(Tone::Strong, "Mail", &mail_words(mail, model), INDENT);
    }
    sheet.wrapped(Tone::Strong, "Light", &light_words(&model.light), INDENT);
    if !model.unseen.is_empty() {
        let text = format!("Only root sees {}; run it with sudo.", listed(&model.unseen));
        sheet.wrapped(Tone::Weak, "", &text, 0);
    }
    sheet.finish()
}

fn head(sheet: &mut Sheet, model: &Model) {
    let count = |severity| model.findings.iter().filter(|finding| finding.severity == severity).count();
    let (failed, attention) = (count(Severity::Failed), count(Severity::Attention));
    let (tone, verdict) = match (failed, attention) {
        (0, 0) => (Tone::Good, "all is well".to_owned()),
        (0, few) => (Tone::Warn, format!("{} to look at", things(few))),
        (some, 0) => (Tone::Bad, format!("{} wrong", things(some))),
        (some, few) => (Tone::Bad, format!("{} wrong, {few} to look at", things(some))),
    };
    let at = model.zone.local(model.at).format("%a %-d %b %Y %H:%M");
    let machine = cell(&model.machine, model.machine.chars().count().min(WIDTH / 4));
    let verdict = sheet.tone(tone, &verdict);
    sheet.line(&format!("{machine}, {at}: {verdict}"));
}

fn things(count: usize) -> String {
    if count == 1 { "1 thing".to_owned() } else { format!("{count} things") }
}

/// What is said of a run that goes on.
pub(crate) fn goes_on(run: &Running, model: &Model) -> String {
    let moment = |time: DateTime<Utc>| model.zone.near(time, model.at);
    let mut words = Vec::new();
    for wait in &run.waits_for {
        let holders = if wait.holders.is_empty() { "whoever goes first".to_owned() } else { listed(&wait.holders) };
        let until = wait.until.map(|until| format!(", until about {}", moment(until))).unwrap_or_default();
        words.push(format!("waits since {} for {holders} (lock {}){until}", moment(wait.since), wait.lock));
    }
    if run.waits_for.is_empty() {
        words.push(format!("since {}", moment(run.since)));
        words.extend(run.until.map(|until| {
            let verb = if until > model.at { "should end" } else { "should have ended" };
            format!("{verb} {}", moment(until))
        }));
    }
    if !run.progress.is_empty() {
        words.push(run.progress.clone());
    }
    words.join("; ")
}

fn jobs(sheet: &mut Sheet, model: &Model, kind: Kind, title: &str, last: &str) {
    let mut any = false;
    for job in model.of(kind) {
        if !any {
            sheet.gap();
            let line = format!("{}  {}  {:>9}  {:>9}  next", cell(title, NAME), cell(last, 21), "took", "size");
            sheet.title(&line);
            any = true;
        }
        let next = job.next.map_or("-".to_owned(), |next| model.zone.moment(next, model.at));
        let (tone, good) = last_good(job, model);
        let (good, took, size) = (cell(&good, 21), right(&took(job), 9), right(&size(job), 9));
        let good = sheet.tone(tone, &good);
        sheet.line(&format!("  {}{good}  {took}  {size}  {next}", cell(&job.name, NAME)));
    }
}

/// When a job last went well, in a word.
fn last_good(job: &Job, model: &Model) -> (Tone, String) {
    let good = job.space.as_ref().and_then(|space| space.last_success).or(job.last_good);
    let text = good.map_or_else(|| "never".to_owned(), |good| model.zone.moment(good, model.at));
    let tone = match (good, is_bad(job)) {
        (None, _) => Tone::Weak,
        (_, true) => Tone::Bad,
        _ if job.late || job.space.as_ref().is_some_and(|space| space.stale) => Tone::Warn,
        _ => Tone::Good,
    };
    (tone, text)
}

/// Whether its last run went wrong.
pub(crate) fn is_bad(job: &Job) -> bool {
    job.last.as_ref().is_some_and(|last| last.exit != 0)
}

fn took(job: &Job) -> String {
    job.usual.as_ref().map_or_else(|| "-".to_owned(), |usual| human::span(usual.length()))
}

fn size(job: &Job) -> String {
    let bytes = job.space.as_ref().and_then(|space| space.bytes);
    bytes.map_or_else(|| "-".to_owned(), human::size)
}

/// What is said of a drive.
pub(crate) fn drive_words(drive: &Drive, model: &Model) -> String {
    let day = |time: DateTime<Utc>| model.zone.day(time, model.at);
    let place = match (drive.plugged_in, drive.since) {
        (true, Some(since)) => format!("plugged in since {}", model.zone.near(since, model.at)),
        (true, None) => "plugged in".to_owned(),
        (false, Some(seen)) => format!("away, last seen {}", day(seen)),
        (false, None) => "away, never seen here".to_owned(),
    };
    let mirrored = drive.mirrored.map_or_else(|| "never mirrored to".to_owned(), |at| format!("mirrored {}", day(at)));
    let mut words = vec![place, mirrored];
    if let (Some(used), Some(free)) = (drive.used, drive.free) {
        words.push(format!("{} used, {} free", human::size(used), human::size(free)));
    }
    words.extend(drive.full_by.filter(|by| is_near(*by, model)).map(|by| format!("full by {}", day(by))));
    words.join("; ")
}

/// Whether something that is to come is worth a word: in ten years everything is another machine.
pub(crate) fn is_near(time: DateTime<Utc>, model: &Model) -> bool {
    time.signed_duration_since(model.at) < chrono::TimeDelta::days(3652)
}

/// Whose turn it is.
pub(crate) fn turn(drive: &Drive, model: &Model) -> String {
    let day = |time: DateTime<Utc>| model.zone.day(time, model.at);
    match (drive.due_by, drive.turn) {
        (Some(by), _) if drive.overdue => format!("OVERDUE since {}", day(by)),
        (Some(by), 0) => format!("is next, by {}", day(by)),
        (None, 0) => "is next".to_owned(),
        (Some(by), _) => format!("has time until {}", day(by)),
        (None, _) => "has time".to_owned(),
    }
}

/// When a drive is best plugged in.
pub(crate) fn best(gap: &Gap, model: &Model) -> String {
    let minute = chrono::TimeDelta::minutes(1);
    let is_now = gap.from.signed_duration_since(model.at) < minute;
    let from = if is_now { "now".to_owned() } else { format!("after {}", model.zone.near(gap.from, model.at)) };
    let free = gap.until.map_or_else(
        || "then nothing else is planned".to_owned(),
        |until| format!("free for {}", human::span(until.signed_duration_since(gap.from))),
    );
    let needs = gap.needs_seconds.and_then(chrono::TimeDelta::try_seconds).map(human::span);
    let needs = match (needs, gap.fits) {
        (Some(needs), true) => format!(" (a mirror takes up to {needs})"),
        (Some(needs), false) => format!(", which is less than the {needs} that a mirror may take"),
        (None, _) => String::new(),
    };
    format!("Best time to plug in a drive: {from}, {free}{needs}.")
}

/// What is said of the mail.
pub(crate) fn mail_words(mail: &Mail, model: &Model) -> String {
    let oldest = mail.oldest.map(|at| format!("; the oldest is from {}", model.zone.moment(at, model.at)));
    match (mail.waiting, mail.set_aside) {
        (0, 0) => "none waits".to_owned(),
        (waiting, 0) => format!("{waiting} waiting{}", oldest.unwrap_or_default()),
        (waiting, aside) => format!("{waiting} waiting, {aside} set aside{}", oldest.unwrap_or_default()),
    }
}

/// What is said of the light.
pub(crate) fn light_words(light: &Light) -> String {
    let job = light.job.as_ref().map(|job| format!(", by {job}")).unwrap_or_default();
    let text = if light.text.is_empty() { String::new() } else { format!(": {}", light.text) };
    format!("{}{job}{text}", light.state.word())
}

/// Several things in a sentence.
pub(crate) fn listed(things: &[String]) -> String {
    match things {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
