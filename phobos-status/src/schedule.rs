//! The owner's table: the hours of a day, and when which job usually runs; the runs of the last days, what is planned, who will
//! wait for whom, and when a drive is best plugged in. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use phobos_core::human;
use phobos_core::schema::SchemaVersion;
use serde::Serialize;

use crate::layout::{Sheet, Tone, WIDTH, cell, wrap};
use crate::model::{DAY, Ended, Gap, Job, Kind, Model, Planned, Usual};
use crate::screen;

/// How wide the hours are, and the least that a column has.
const HOURS: usize = 6;
const NARROWEST: usize = 12;

/// Stands for a blank at which a line is not broken.
const GLUE: &str = "\u{e000}";

/// How many runs of one day are listed.
const MOST_RUNS: usize = 60;

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    schema_version: SchemaVersion<1>,
    at: DateTime<Utc>,
    usual: Vec<Window<'a>>,
    planned: &'a [Planned],
    best_time: Option<&'a Gap>,
}

/// When a job usually runs.
#[derive(Debug, Serialize)]
struct Window<'a> {
    name: &'a str,
    kind: Kind,
    #[serde(flatten)]
    usual: &'a Usual,
}

/// The schedule as JSON.
///
/// # Errors
///
/// serde's own, which it has none of here.
pub(crate) fn json(model: &Model) -> Result<String, serde_json::Error> {
    let usual = model.jobs.iter().filter_map(|job| {
        let usual = job.usual.as_ref()?;
        Some(Window { name: &job.name, kind: job.kind, usual })
    });
    let best_time = model.best_time.as_ref();
    let (at, usual, planned) = (model.at, usual.collect(), model.planned.as_slice());
    serde_json::to_string_pretty(&Printed { schema_version: SchemaVersion, at, usual, planned, best_time })
}

/// The table and what belongs to it, with the runs of `days` days before and after.
pub(crate) fn draw(model: &Model, days: u32, colours: bool) -> String {
    let mut sheet = Sheet::new(colours);
    table(&mut sheet, model);
    if let Some(gap) = &model.best_time {
        sheet.gap();
        sheet.wrapped(Tone::Strong, "", &screen::best(gap, model), 0);
    }
    past(&mut sheet, model, days);
    future(&mut sheet, model);
    sheet.finish()
}

/// The columns that have anything in them.
fn columns(model: &Model) -> Vec<(Kind, &'static str)> {
    let all = [(Kind::Borg, "Borg"), (Kind::Pull, "Rsync"), (Kind::Drive, "External"), (Kind::Other, "Other")];
    all.into_iter().filter(|(kind, _)| model.of(*kind).any(|job| job.usual.is_some())).collect()
}

fn table(sheet: &mut Sheet, model: &Model) {
    let columns = columns(model);
    if columns.is_empty() {
        sheet.line("Nothing has run here yet, as far as the history tells.");
        return;
    }
    let width = WIDTH.saturating_sub(HOURS).checked_div(columns.len()).unwrap_or(WIDTH).max(NARROWEST);
    let titles: String = columns.iter().map(|(_, title)| cell(title, width)).collect();
    sheet.title(&format!("{}{titles}", cell("Time", HOURS)));
    for hour in 0..24 {
        let cells: Vec<Vec<String>> =
            columns.iter().map(|(kind, _)| texts(model, *kind, hour, width.saturating_sub(1))).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or_default().max(1);
        for row in 0..height {
            let label = if row == 0 { format!("{hour:02}00") } else { String::new() };
            let texts = cells.iter().map(|texts| texts.get(row).map_or("", String::as_str));
            let row: Vec<String> = texts.map(|text| cell(text, width.saturating_sub(1))).collect();
            let row = row.join(" ");
            sheet.line(&format!("{}{row}", cell(&label, HOURS)));
        }
    }
    let days = model.jobs.iter().filter_map(|job| job.usual.as_ref()).map(|usual| usual.runs).max().unwrap_or_default();
    let text = format!(
        "Typical times: from the median start to when 95 of 100 runs have ended, by the last {days} good runs at most."
    );
    sheet.wrapped(Tone::Weak, "", &text, 0);
}

/// What is said in one column about one hour, from 0 to 23.
fn texts(model: &Model, kind: Kind, hour: i64, width: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for job in model.of(kind) {
        let Some(usual) = &job.usual else { continue };
        // A run that goes past midnight is in the morning's hours too.
        for shift in [0, DAY] {
            let (from, to) = (
                hour.saturating_mul(60).saturating_add(shift),
                hour.saturating_add(1).saturating_mul(60).saturating_add(shift),
            );
            texts.extend(text(job, usual, (from, to), width));
        }
    }
    texts
}

/// What is said of a job between two minutes of a day, or of the one after, in so many letters.
fn text(job: &Job, usual: &Usual, (from, to): (i64, i64), width: usize) -> Option<String> {
    // Longer than a day is all day.
    let end = usual.end.min(usual.start.saturating_add(DAY));
    let name = &job.name;
    let day = usual.weekday.map(|day| format!("{day} ")).unwrap_or_default();
    // What is not said is seen.
    let verb = |text: String, verb: &str| {
        let long = format!("{text} {verb}");
        if long.chars().count() <= width { long } else { text }
    };
    let starts = (from..to).contains(&usual.start);
    // What ends with the hour has ended.
    let ends = end > from && end <= to || starts && end == usual.start;
    match (starts, ends) {
        (true, true) => Some(format!("{day}{}-{} {name}", clock(usual.start), clock(end))),
        (true, false) => Some(verb(format!("{day}{} {name}", clock(usual.start)), "starts")),
        (false, true) => Some(verb(format!("{} {name}", clock(end)), "ends")),
        (false, false) if usual.start < from && end > to => Some(format!("  {name}…")),
        _ => None,
    }
}

fn clock(minutes: i64) -> String {
    let minutes = minutes.rem_euclid(DAY);
    format!("{:02}:{:02}", minutes.div_euclid(60), minutes.rem_euclid(60))
}

/// The runs of the last days, a paragraph for each.
fn past(sheet: &mut Sheet, model: &Model, days: u32) {
    let first =
        model.zone.local(model.at).date().checked_sub_days(chrono::Days::new(u64::from(days.saturating_sub(1))));
    let Some(first) = first else { return };
    let mut of_day: BTreeMap<NaiveDate, Vec<(&Ended, &Job)>> = BTreeMap::new();
    for job in &model.jobs {
        for run in &job.recent {
            let day = model.zone.local(run.start).date();
            if day >= first {
                of_day.entry(day).or_default().push((run, job));
            }
        }
    }
    if of_day.is_empty() {
        return;
    }
    sheet.gap();
    sheet.title("What ran");
    for runs in of_day.values_mut() {
        runs.sort_by_key(|(run, job)| (run.start, &job.name));
        let Some((first, _)) = runs.first() else { continue };
        let head = model.zone.day(first.start, model.at);
        let more = runs.len().saturating_sub(MOST_RUNS);
        let mut words: Vec<String> = runs.iter().skip(more).map(|(run, job)| ran(run, job, model)).collect();
        if more > 0 {
            words.insert(0, format!("{more} more"));
        }
        paragraph(sheet, &head, &words);
    }
}

fn ran(run: &Ended, job: &Job, model: &Model) -> String {
    let waited = TimeDelta::try_seconds(i64::try_from(run.waited_secs).unwrap_or(i64::MAX)).unwrap_or_default();
    let waited =
        if waited >= TimeDelta::minutes(1) { format!(" (waited {})", human::span(waited)) } else { String::new() };
    let failed = if run.exit == 0 { "" } else { " FAILED" };
    format!("{}-{} {}{failed}{waited}", model.zone.clock(run.start), model.zone.clock(run.end), job.name)
}

/// What is planned, a paragraph for each day, and who will wait.
fn future(sheet: &mut Sheet, model: &Model) {
    if model.planned.is_empty() {
        return;
    }
    sheet.gap();
    sheet.title("What is planned");
    let mut of_day: BTreeMap<NaiveDate, Vec<&Planned>> = BTreeMap::new();
    for run in &model.planned {
        of_day.entry(model.zone.local(run.start).date()).or_default().push(run);
    }
    for runs in of_day.values() {
        let Some(first) = runs.first() else { continue };
        let head = model.zone.day(first.start, model.at);
        let mut words: Vec<String> = runs.iter().take(MOST_RUNS).map(|run| planned(run, model)).collect();
        if runs.len() > MOST_RUNS {
            words.push(format!("{} more", runs.len().saturating_sub(MOST_RUNS)));
        }
        paragraph(sheet, &head, &words);
    }
    for run in model.planned.iter().filter(|run| !run.waits_for.is_empty()).take(MOST_RUNS) {
        let (at, until) = (model.zone.moment(run.start, model.at), model.zone.clock(run.begin));
        let text = format!("{at}: {} will wait for {}, until about {until}", run.name, screen::listed(&run.waits_for));
        sheet.wrapped(Tone::Warn, "", &text, 2);
    }
}

fn planned(run: &Planned, model: &Model) -> String {
    format!("{}-{} {}", model.zone.clock(run.begin), model.zone.clock(run.end), run.name)
}

/// Things of a day, which are not broken within.
fn paragraph(sheet: &mut Sheet, head: &str, things: &[String]) {
    const INDENT: usize = 14;
    // A blank that does not break, until the lines are.
    let text: Vec<String> = things.iter().map(|thing| thing.replace(' ', GLUE)).collect();
    let mut first = true;
    for line in wrap(&text.join(", "), WIDTH.saturating_sub(INDENT)) {
        let lead = if first { format!("  {head}") } else { String::new() };
        sheet.line(&format!("{}{}", cell(&lead, INDENT), line.replace(GLUE, " ")));
        first = false;
    }
}

/// How many days ahead and back a schedule may go.
pub(crate) fn days(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|days| (1..=31).contains(days))
        .ok_or_else(|| "give a number of days from 1 to 31".to_owned())
}
