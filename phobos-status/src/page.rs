//! One HTML file that needs nothing else: no script, no request, for a telephone and a desktop, light and dark. Pure.

mod html;
mod lanes;
mod room;

use chrono::{DateTime, Utc};
use phobos_core::human;

use crate::model::{Job, Kind, Model, Severity};
use crate::screen;
use html::Html;

/// How it looks.
const STYLE: &str = include_str!("page/style.css");

/// How many jobs have a line of their own.
const MOST_JOBS: usize = 40;

/// The page.
pub(crate) fn draw(model: &Model) -> String {
    let mut html = Html::default();
    html.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    // Should anything slip in all the same, the browser runs and fetches nothing.
    html.raw(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n",
    );
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n");
    html.element("title", "", &format!("{}: {}", model.machine, verdict(model).1));
    html.raw("\n<style>\n").raw(STYLE).raw("</style>\n</head>\n<body>\n");
    html.raw(lanes::PATTERNS).raw("<main>\n");
    head(&mut html, model);
    findings(&mut html, model);
    now(&mut html, model);
    lanes::last_days(&mut html, model);
    lanes::day(&mut html, model);
    html.raw("<div class=\"two\">\n<div>\n");
    room::drives(&mut html, model);
    room::growth(&mut html, model);
    html.raw("</div>\n<div>\n");
    hosts(&mut html, model);
    rest(&mut html, model);
    html.raw("</div>\n</div>\n");
    foot(&mut html, model);
    html.raw("</main>\n</body>\n</html>\n");
    html.finish()
}

/// The jobs that have a line of their own.
fn shown(model: &Model) -> impl Iterator<Item = &Job> {
    model.jobs.iter().take(MOST_JOBS)
}

/// A class and a word for how everything is.
fn verdict(model: &Model) -> (&'static str, String) {
    let count = |severity| model.findings.iter().filter(|finding| finding.severity == severity).count();
    let (failed, attention) = (count(Severity::Failed), count(Severity::Attention));
    match (failed, attention) {
        (0, 0) => ("good", "all is well".to_owned()),
        (0, few) => ("warn", format!("{few} to look at")),
        (some, 0) => ("bad", format!("{some} wrong")),
        (some, few) => ("bad", format!("{some} wrong, {few} to look at")),
    }
}

fn head(html: &mut Html, model: &Model) {
    let (class, word) = verdict(model);
    html.raw("<header>").element("h1", "", &model.machine);
    html.element("span", &format!("badge {class}"), &word);
    let at = model.zone.local(model.at).format("%A, %-d %B %Y, %H:%M");
    html.element("p", "", &format!("as of {at}")).raw("</header>\n");
}

fn findings(html: &mut Html, model: &Model) {
    if model.findings.is_empty() {
        return;
    }
    html.raw("<section>\n<h2>What needs you</h2>\n<ul class=\"findings\">\n");
    for finding in &model.findings {
        let class = if finding.severity == Severity::Failed { "bad" } else { "warn" };
        html.raw("<li class=\"").raw(class).raw("\">").element("p", "what", &finding.what);
        if !finding.remedy.is_empty() {
            html.raw("<p class=\"remedy\">").with_commands(&finding.remedy).raw("</p>");
        }
        html.raw("</li>\n");
    }
    html.raw("</ul>\n</section>\n");
}

fn now(html: &mut Html, model: &Model) {
    html.raw("<section>\n<h2>Now</h2>\n");
    if model.running.is_empty() {
        html.element("p", "soft", "Nothing runs.");
    }
    for run in &model.running {
        html.raw("<div class=\"thing\">").element("h3", "", &run.name);
        html.element("p", "soft", &screen::goes_on(run, model)).raw("</div>\n");
    }
    if let Some(gap) = &model.best_time {
        html.element("p", "note", &screen::best(gap, model));
    }
    html.raw("</section>\n");
}

/// The holding spaces, the oldest copy first.
fn hosts(html: &mut Html, model: &Model) {
    let good = |job: &Job| job.space.as_ref().and_then(|space| space.last_success).or(job.last_good);
    let mut hosts: Vec<&Job> = model.of(Kind::Pull).take(MOST_JOBS).collect();
    if hosts.is_empty() {
        return;
    }
    hosts.sort_by_key(|job| good(job));
    let bytes = |job: &Job| job.space.as_ref().and_then(|space| space.bytes);
    let largest = hosts.iter().filter_map(|job| bytes(job)).max().unwrap_or_default();
    html.raw("<section>\n<h2>Holding spaces</h2>\n");
    for job in hosts {
        let age = good(job).map_or_else(|| "never pulled".to_owned(), |at| age(at, model.at));
        let class = match (&job.space, good(job)) {
            (_, None) => "warn-word",
            _ if screen::is_bad(job) => "bad-word",
            (Some(space), _) if space.stale => "warn-word",
            _ if job.late => "warn-word",
            _ => "good-word",
        };
        html.raw("<div class=\"thing\">").element("h3", "", &job.name).raw("<p class=\"soft\">");
        html.element("span", class, &age);
        let size = bytes(job).map(|bytes| format!(", {}", human::size(bytes))).unwrap_or_default();
        let next = job.next.map(|next| format!(", next {}", model.zone.near(next, model.at))).unwrap_or_default();
        html.text(&format!("{size}{next}")).raw("</p>");
        if let Some(bytes) = bytes(job) {
            room::meter(html, bytes, largest, false, &format!("{} holds {}", job.name, human::size(bytes)));
        }
        html.raw("</div>\n");
    }
    html.raw("</section>\n");
}

/// How old a copy is.
fn age(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    format!("{} old", human::span(now.signed_duration_since(at)))
}

/// Borg, other jobs, mail, light.
fn rest(html: &mut Html, model: &Model) {
    html.raw("<section>\n<h2>Everything else</h2>\n<table>\n");
    html.raw("<tr><th>job</th><th>last good run</th><th class=\"right\">takes</th><th>next</th></tr>\n");
    let others = shown(model).filter(|job| matches!(job.kind, Kind::Borg | Kind::Other));
    for job in others {
        let moment = |time: DateTime<Utc>| model.zone.moment(time, model.at);
        let class = if screen::is_bad(job) {
            "bad-word"
        } else if job.late {
            "warn-word"
        } else {
            ""
        };
        html.raw("<tr>").element("td", "", &job.name);
        html.element("td", class, &job.last_good.map_or_else(|| "never".to_owned(), moment));
        let takes = job.usual.as_ref().map_or_else(|| "-".to_owned(), |usual| human::span(usual.length()));
        html.element("td", "right", &takes);
        html.element("td", "", &job.next.map_or_else(|| "-".to_owned(), moment)).raw("</tr>\n");
    }
    html.raw("</table>\n");
    if let Some(mail) = &model.mail {
        html.element("p", "note", &format!("Mail: {}.", screen::mail_words(mail, model)));
    }
    html.element("p", "note", &format!("Light: {}.", screen::light_words(&model.light))).raw("</section>\n");
}

fn foot(html: &mut Html, model: &Model) {
    html.raw("<footer>");
    let more = model.jobs.len().saturating_sub(MOST_JOBS);
    if more > 0 {
        html.text(&format!("{more} more jobs are not drawn. "));
    }
    if !model.unseen.is_empty() {
        html.text(&format!("Only root sees {}. ", screen::listed(&model.unseen)));
    }
    html.text("Written by phobos-status page.").raw("</footer>\n");
}
