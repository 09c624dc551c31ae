//! One line for Nagios and its like, with figures, and the exit code that they want; pure.

use chrono::{DateTime, Utc};

use crate::model::{Model, Severity};

/// What cannot be known: UNKNOWN.
pub(crate) const UNKNOWN: u8 = 3;

/// How many findings are on the line.
const MOST: usize = 5;

/// The exit code, and the line without its end.
pub(crate) fn draw(model: &Model) -> (u8, String) {
    let (code, word) = match model.state {
        Severity::Ok => (0, "OK"),
        Severity::Attention => (1, "WARNING"),
        Severity::Failed => (2, "CRITICAL"),
    };
    let all: Vec<&str> = model.findings.iter().map(|finding| finding.what.as_str()).collect();
    let said = if all.is_empty() { "all is well".to_owned() } else { phobos_core::human::first_of(&all, MOST, "; ") };
    // A bar begins the figures.
    let said = said.replace('|', "/");
    (code, format!("PHOBOS {word} - {said} | {}", figures(model).join(" ")))
}

/// The figures: how old the last good run of each job is, and what waits.
fn figures(model: &Model) -> Vec<String> {
    let count = |severity| model.findings.iter().filter(|finding| finding.severity == severity).count();
    let mut figures = vec![
        format!("failed={};;1;0", count(Severity::Failed)),
        format!("attention={};1;;0", count(Severity::Attention)),
    ];
    let age = |time: DateTime<Utc>| model.at.signed_duration_since(time).num_seconds().max(0);
    for job in &model.jobs {
        figures.extend(job.last_good.map(|good| format!("{}={}s;;;0", label(&format!("{} age", job.name)), age(good))));
    }
    if let Some(room) = model.room {
        let whole = room.used.saturating_add(room.free);
        figures.push(format!("used={}B;;;0;{whole}", room.used));
    }
    if let Some(mail) = &model.mail {
        figures.push(format!("mail={};1;;0", mail.waiting.saturating_add(mail.set_aside)));
    }
    figures
}

/// A figure's name: quoted, without what would end it.
fn label(text: &str) -> String {
    format!("'{}'", text.replace(['\'', '=', '|'], "_"))
}
