//! A lane for each job: the last two weeks, and the usual day.

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Utc};
use phobos_core::human;

use super::html::Html;
use super::shown;
use crate::model::{DAY, Ended, Job, Kind, Model, Planned, Running};

/// How many days are shown, today included, and one ahead.
const PAST: u64 = 14;

/// The width of a lane, and the least that a bar has, in its own units.
const WIDTH: i64 = 1500;
const LEAST: i64 = 5;

/// How many bars all lanes have at most, and how long an error in a title may be: the page is to stay small.
const MOST_BARS: usize = 1000;
const LONGEST_ERROR: usize = 120;

/// What the hatched bars are filled with.
pub(super) const PATTERNS: &str = "<svg width=\"0\" height=\"0\" aria-hidden=\"true\" style=\"position:absolute\"><defs>\
    <pattern id=\"wait\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
    <line class=\"hatch\" x1=\"0\" y1=\"0\" x2=\"0\" y2=\"6\"/></pattern></defs></svg>\n";

/// A span of time as a width.
struct Scale {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

impl Scale {
    /// Where a moment is; outside, at the edge.
    fn x(&self, time: DateTime<Utc>) -> i64 {
        let whole = self.end.signed_duration_since(self.start).num_seconds().max(1);
        let part = time.clamp(self.start, self.end).signed_duration_since(self.start).num_seconds();
        part.saturating_mul(WIDTH).checked_div(whole).unwrap_or_default()
    }

    fn shows(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> bool {
        from < self.end && to > self.start || from == to && (self.start..self.end).contains(&from)
    }
}

/// The class of a kind's bars.
fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Borg => "borg",
        Kind::Pull => "pull",
        Kind::Drive => "drive",
        Kind::Other => "other",
    }
}

/// The runs of the last two weeks, and what is planned for the next day.
pub(super) fn last_days(html: &mut Html, model: &Model) {
    let today = model.zone.local(model.at).date();
    let first = today.checked_sub_days(Days::new(PAST.saturating_sub(1))).unwrap_or(today);
    let days: Vec<NaiveDate> =
        first.iter_days().take(usize::try_from(PAST).unwrap_or_default().saturating_add(1)).collect();
    let end = days.last().and_then(NaiveDate::succ_opt).unwrap_or(today);
    let scale = Scale { start: model.zone.midnight(first), end: model.zone.midnight(end) };
    html.raw("<section>\n<h2>The last two weeks</h2>\n");
    let goes_on = |job: &Job| model.running.iter().any(|run| run.name == job.name);
    let is_planned = |job: &Job| model.planned.iter().any(|run| run.name == job.name);
    let has_runs = |job: &&Job| !job.recent.is_empty() || goes_on(job) || is_planned(job);
    let jobs: Vec<&Job> = shown(model).filter(has_runs).collect();
    if jobs.is_empty() {
        html.element("p", "soft", "Nothing has run here yet.").raw("</section>\n");
        return;
    }
    html.raw("<div class=\"lane\"><span></span><div class=\"days\" aria-hidden=\"true\">");
    for day in &days {
        let class = if *day == today { "today" } else { "" };
        html.raw("<span class=\"").raw(class).raw("\">");
        html.element("span", "wide", &format!("{} ", day.weekday())).number(i64::from(day.day())).raw("</span>");
    }
    html.raw("</div></div>\n");
    let most = MOST_BARS.checked_div(jobs.len()).unwrap_or(MOST_BARS);
    for job in &jobs {
        let (good, bad) =
            (job.recent.iter().filter(|run| run.exit == 0).count(), job.recent.iter().filter(|run| run.exit != 0));
        let told = format!("{}: {good} good runs and {} that failed in the last weeks", job.name, bad.count());
        begin_lane(html, &job.name, &told);
        for day in &days {
            line(html, "grid", scale.x(model.zone.midnight(*day)));
        }
        bars(html, job, model, &scale, most);
        let planned = model.planned.iter().filter(|run| run.name == job.name && run.start > model.at);
        for run in planned.filter(|run| scale.shows(run.begin, run.end)).take(most) {
            planned_bar(html, job, run, model, &scale);
        }
        for run in model.running.iter().filter(|run| run.name == job.name) {
            running_bar(html, job, run, model, &scale);
        }
        line(html, "now", scale.x(model.at));
        html.raw("</svg></div>\n");
    }
    key(html, &jobs);
    html.raw("</section>\n");
}

fn begin_lane(html: &mut Html, name: &str, told: &str) {
    html.raw("<div class=\"lane\">").element("span", "name", name);
    html.raw("<svg viewBox=\"0 0 ").number(WIDTH).raw(" 26\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"");
    html.text(told).raw("\"><line class=\"row\" x1=\"0\" y1=\"13\" x2=\"").number(WIDTH).raw("\" y2=\"13\"/>");
}

fn line(html: &mut Html, class: &str, x: i64) {
    html.raw("<line class=\"")
        .raw(class)
        .raw("\" x1=\"")
        .number(x)
        .raw("\" y1=\"0\" x2=\"")
        .number(x)
        .raw("\" y2=\"26\"/>");
}

/// A bar from one place to another, at least so wide that it is seen, with what it says when it is pointed at.
fn bar(html: &mut Html, class: &str, (from, to): (i64, i64), title: &str) {
    let width = to.saturating_sub(from).max(LEAST);
    let from = from.min(WIDTH.saturating_sub(width));
    html.raw("<rect class=\"").raw(class).raw("\" x=\"").number(from).raw("\" y=\"4\" width=\"").number(width);
    html.raw("\" height=\"18\" rx=\"2\">").element("title", "", title).raw("</rect>");
}

fn bars(html: &mut Html, job: &Job, model: &Model, scale: &Scale, most: usize) {
    let shown: Vec<(&Ended, DateTime<Utc>, DateTime<Utc>)> = job
        .recent
        .iter()
        .map(|run| {
            let (waited, worked) = parts(run, job.kind);
            (run, waited, worked)
        })
        .filter(|(run, waited, _)| scale.shows(*waited, run.end))
        .collect();
    let more = shown.len().saturating_sub(most);
    for (run, waited, worked) in shown.into_iter().skip(more) {
        let words = words(run, job, model);
        if worked.signed_duration_since(waited) >= TimeDelta::minutes(1) {
            let title = format!("{words}; it waited from {} to {}", model.zone.clock(waited), model.zone.clock(worked));
            bar(html, "wait", (scale.x(waited), scale.x(worked)), &title);
        }
        let class = if run.exit == 0 { class(job.kind) } else { "failed" };
        bar(html, class, (scale.x(worked), scale.x(run.end)), &words);
    }
}

/// When a run began to wait, and when to work.
fn parts(run: &Ended, kind: Kind) -> (DateTime<Utc>, DateTime<Utc>) {
    let waited = i64::try_from(run.waited_secs).ok().and_then(TimeDelta::try_seconds).unwrap_or_default();
    // A pull begins when it has its locks.
    if kind == Kind::Pull {
        (run.start.checked_sub_signed(waited).unwrap_or(run.start), run.start)
    } else {
        (run.start, run.start.checked_add_signed(waited).unwrap_or(run.end).min(run.end))
    }
}

/// What a run was, in words.
fn words(run: &Ended, job: &Job, model: &Model) -> String {
    let (from, to) = (model.zone.moment(run.start, model.at), model.zone.clock(run.end));
    let length = human::span(run.end.signed_duration_since(run.start));
    let bytes =
        run.bytes.filter(|bytes| *bytes > 0).map(|bytes| format!(", {}", human::size(bytes))).unwrap_or_default();
    let failed = match (run.exit, run.error.as_str()) {
        (0, _) => String::new(),
        (exit, "") => format!("; failed with exit code {exit}"),
        (_, error) => format!("; failed: {}", error.chars().take(LONGEST_ERROR).collect::<String>()),
    };
    format!("{}: {from} to {to}, {length}{bytes}{failed}", job.name)
}

fn planned_bar(html: &mut Html, job: &Job, run: &Planned, model: &Model, scale: &Scale) {
    let (from, to) = (model.zone.moment(run.begin, model.at), model.zone.clock(run.end));
    let waits = if run.waits_for.is_empty() {
        String::new()
    } else {
        format!(", after {}", crate::screen::listed(&run.waits_for))
    };
    let title = format!("{}: planned {from} to {to}{waits}", run.name);
    bar(html, &format!("{} planned", class(job.kind)), (scale.x(run.begin), scale.x(run.end)), &title);
}

/// What goes on: until now, and then as it should.
fn running_bar(html: &mut Html, job: &Job, run: &Running, model: &Model, scale: &Scale) {
    let title = format!("{}: {}", run.name, crate::screen::goes_on(run, model));
    let now = scale.x(model.at);
    if let Some(wait) = run.waits_for.first() {
        bar(html, "wait", (scale.x(wait.since), now), &title);
        return;
    }
    bar(html, class(job.kind), (scale.x(run.since), now), &title);
    if let Some(until) = run.until.filter(|until| *until > model.at) {
        bar(html, &format!("{} planned", class(job.kind)), (now, scale.x(until)), &title);
    }
}

fn key(html: &mut Html, jobs: &[&Job]) {
    html.raw("<ul class=\"key\">");
    let kinds = [
        (Kind::Borg, "Borg"),
        (Kind::Pull, "pull of a host"),
        (Kind::Drive, "mirror to a drive"),
        (Kind::Other, "other job"),
    ];
    for (kind, word) in kinds.into_iter().filter(|(kind, _)| jobs.iter().any(|job| job.kind == *kind)) {
        key_item(html, class(kind), word);
    }
    key_item(html, "failed", "failed");
    key_item(html, "wait", "waited for another");
    key_item(html, "other planned", "planned");
    html.raw("</ul>\n");
}

fn key_item(html: &mut Html, class: &str, word: &str) {
    html.raw("<li><svg viewBox=\"0 0 14 12\" aria-hidden=\"true\"><rect class=\"").raw(class);
    html.raw("\" width=\"14\" height=\"12\" rx=\"2\"/></svg>").text(word).raw("</li>");
}

/// The hours of a day, and when which job usually runs.
pub(super) fn day(html: &mut Html, model: &Model) {
    let jobs: Vec<&Job> = shown(model).filter(|job| job.usual.is_some()).collect();
    if jobs.is_empty() {
        return;
    }
    html.raw("<section>\n<h2>The usual day</h2>\n<div class=\"lane\"><span></span><div class=\"hours\" aria-hidden=\"true\">");
    for hour in (0..24).step_by(3) {
        html.raw("<span>").number(hour).raw(":00</span>");
    }
    html.raw("</div></div>\n");
    let x = |minutes: i64| minutes.saturating_mul(WIDTH).div_euclid(DAY);
    for job in jobs {
        let Some(usual) = &job.usual else { continue };
        let clock =
            |minutes: i64| format!("{:02}:{:02}", minutes.rem_euclid(DAY).div_euclid(60), minutes.rem_euclid(60));
        let weekly = usual.weekday.map(|day| format!(" on {day}")).unwrap_or_default();
        let words = format!(
            "{}: usually {} to {}{weekly}; takes {}",
            job.name,
            clock(usual.start),
            clock(usual.end),
            human::span(usual.length())
        );
        let name = usual.weekday.map_or_else(|| job.name.clone(), |day| format!("{} ({day})", job.name));
        begin_lane(html, &name, &words);
        for hour in (0..24).step_by(3) {
            line(html, "grid", x(i64::from(hour).saturating_mul(60)));
        }
        let end = usual.end.min(usual.start.saturating_add(DAY));
        let is_planned = job.is_planned || job.kind != Kind::Drive;
        let class = if is_planned { class(job.kind).to_owned() } else { format!("{} planned", class(job.kind)) };
        bar(html, &class, (x(usual.start), x(end.min(DAY))), &words);
        if end > DAY {
            bar(html, &class, (0, x(end.saturating_sub(DAY))), &words);
        }
        let local = model.zone.local(model.at).time();
        let minutes = i64::from(chrono::Timelike::num_seconds_from_midnight(&local)).div_euclid(60);
        line(html, "now", x(minutes));
        html.raw("</svg></div>\n");
    }
    html.raw("<p class=\"note\">From the median start to when 95 of 100 runs have ended.</p>\n</section>\n");
}
