//! What a mail says, before it is put into the form in which mail travels.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use serde::{Deserialize, Serialize};

use crate::exit_meaning;
use crate::gather::Findings;
use crate::text;
use crate::throttle::Held;
use crate::unit::{How, Name};

/// A message as it waits in the spool.
///
/// It is put into MIME form when it is sent, so that it can say how late it is and goes to whoever gets mail by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Letter {
    /// The first half of its Message-ID: the same however often it is tried.
    pub(crate) id: String,
    /// The unit that it is about, as one short line; empty for a test or a note.
    pub(crate) unit: String,
    pub(crate) invocation: Option<String>,
    /// Who gets it, if the command line named somebody.
    pub(crate) to: Option<String>,
    pub(crate) subject: String,
    pub(crate) body: String,
    /// When it was written, in seconds since 1970.
    pub(crate) written: i64,
    /// How many messages were merged into it.
    #[serde(default)]
    pub(crate) merged: u64,
    /// The version of the form that it is kept in.
    #[serde(default = "first_version")]
    pub(crate) version: u32,
    /// How often a server has put it off.
    #[serde(default)]
    pub(crate) put_off: u32,
    /// How often a server had all of it and did not say whether it took it.
    #[serde(default)]
    pub(crate) unanswered: u32,
    /// Before when it is not tried again, in seconds since 1970.
    #[serde(default)]
    pub(crate) not_before: i64,
    /// Why it was not sent the last time.
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

/// How many characters of a note's subject and of each of its lines are kept, and how many lines.
const SUBJECT: usize = 300;
const NOTE_LINE: usize = 1000;
const NOTE_LINES: usize = 1000;

/// The version of the form that this program writes, and all it reads.
const VERSION: u32 = 1;

/// The last moment that a letter can be from, in seconds since 1970: the year 9999 is the last that mail can write.
const LAST: i64 = 253_370_764_800;

fn first_version() -> u32 {
    VERSION
}

impl Letter {
    /// Reads a letter as the spool keeps it.
    ///
    /// # Errors
    ///
    /// Why it is none, on one line: what is in the spool may be anything.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Any {
            #[serde(default = "first_version")]
            version: u32,
        }
        let bad = |error: serde_json::Error| text::line(&error.to_string(), 200);
        let version = serde_json::from_slice::<Any>(bytes).map_err(bad)?.version;
        if version != VERSION {
            return Err(format!(
                "it is of version {version}, of another phobos-mail; this one reads version {VERSION}"
            ));
        }
        let letter: Self = serde_json::from_slice(bytes).map_err(bad)?;
        if !(1..=64).contains(&letter.id.len()) || !letter.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err("its id is none".to_owned());
        }
        if !(0..LAST).contains(&letter.written) {
            return Err(format!(
                "it was written {} seconds after 1970 began, which is no time for mail",
                letter.written
            ));
        }
        Ok(letter)
    }

    /// Whether it may be tried at the moment `now`; a clock that was wrong keeps nothing back.
    pub(crate) fn is_due(&self, now: i64) -> bool {
        self.not_before <= now || self.not_before.saturating_sub(now) > LONGEST
    }

    /// Takes note that a server has put it off, and says whether to go on trying. The next attempt is the next flush; from
    /// then on each waits twice as long as the one before.
    pub(crate) fn was_put_off(&mut self, now: i64, reason: &str) -> Further {
        self.put_off = self.put_off.saturating_add(1);
        self.wait(now, self.put_off, reason);
        if self.put_off < PUT_OFF { Further::Try } else { Further::SetAside }
    }

    /// Takes note that a server had all of it and did not answer, and says whether to go on trying: it may have it.
    pub(crate) fn was_unanswered(&mut self, now: i64, reason: &str) -> Further {
        self.unanswered = self.unanswered.saturating_add(1);
        self.wait(now, self.unanswered, reason);
        if self.unanswered < UNANSWERED { Further::Try } else { Further::SetAside }
    }

    fn wait(&mut self, now: i64, count: u32, reason: &str) {
        let wait = match count {
            0 | 1 => 0,
            more => SHORTEST.saturating_mul(2_i64.saturating_pow(more.saturating_sub(2))).min(LONGEST),
        };
        self.not_before = now.saturating_add(wait);
        self.reason = Some(reason.to_owned());
    }

    /// Forgets all attempts.
    pub(crate) fn start_anew(&mut self) {
        (self.put_off, self.unanswered, self.not_before, self.reason) = (0, 0, 0, None);
    }
}

/// What becomes of a letter after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Further {
    Try,
    SetAside,
}

/// How often a letter is put off before it is set aside; with the waits below, that takes three days.
const PUT_OFF: u32 = 20;

/// How often a letter may be without an answer: a server that had it so often has it.
const UNANSWERED: u32 = 3;

/// How long a letter waits after its second attempt, and how long at most, in seconds.
const SHORTEST: i64 = 20 * 60;
const LONGEST: i64 = 4 * 60 * 60;

/// The letter about a failure.
pub(crate) fn about_failure(unit: &Name, findings: &Findings, held: Option<&Held>) -> Letter {
    let mut letter = blank(&unit.printable());
    letter.subject = format!("unit {} failed", letter.unit);
    letter.invocation.clone_from(&findings.facts.invocation);
    letter.body = format!("{}\n", first_line(unit, findings));
    if let Some(held) = held {
        add_line(&mut letter.body, &format!("\nBefore that it failed {}.", often(held)));
    } else if findings.own.len() > 1 {
        add_line(&mut letter.body, &format!("\nIt failed {} times in the last 24 hours.", findings.own.len()));
    }
    add_findings(&mut letter.body, unit, findings);
    letter
}

/// The letter about failures that were held back for an hour.
pub(crate) fn about_storm(unit: &Name, held: &Held, findings: &Findings) -> Letter {
    let mut letter = blank(&unit.printable());
    let held = &held.with(&findings.own);
    letter.subject = format!("unit {} failed {}", letter.unit, text::count(held.count, "more time"));
    letter.invocation.clone_from(&findings.facts.invocation);
    letter.body = format!("Since the last mail about it, {} failed {}.\n", letter.unit, often(held));
    if let Some(at) = held.resolved {
        add_line(&mut letter.body, &format!("It works again since {}.", text::moment(text::local(at))));
    }
    add_line(&mut letter.body, &format!("\nThe last time: {}", first_line(unit, findings)));
    add_findings(&mut letter.body, unit, findings);
    letter
}

/// The letter that says that a unit works again.
pub(crate) fn about_recovery(unit: &Name, held: Option<&Held>) -> Letter {
    let mut letter = blank(&unit.printable());
    let at = text::moment(text::local(letter.written));
    letter.subject = format!("unit {} works again", letter.unit);
    letter.body = format!("{} works again: it has had a good run by {at}.\n", letter.unit);
    if let Some(held) = held {
        add_line(&mut letter.body, &format!("\nAfter the last mail about it, it failed {}.", often(held)));
    }
    letter
}

/// How often a unit failed without a mail, and when.
fn often(held: &Held) -> String {
    let [first, last] = [held.first, held.last].map(|at| text::stamp(text::local(at)));
    let times = text::count(held.count, "more time");
    if first == last { format!("{times}, at {last}") } else { format!("{times}, between {first} and {last}") }
}

/// The letter that says that mail works.
pub(crate) fn test() -> Letter {
    let mut letter = blank("");
    letter.subject = format!("test of phobos-mail on {}", crate::host::name());
    letter.body = format!(
        "This is a test: mail about failed units reaches you.\n\nIt was sent on {}.\n",
        text::moment(text::local(letter.written))
    );
    letter
}

/// A letter of another program's own, about no unit's failure.
pub(crate) fn note(subject: &str, body: &str) -> Letter {
    let mut letter = blank("");
    letter.subject = text::line(subject, SUBJECT);
    body.lines().take(NOTE_LINES).for_each(|line| add_line(&mut letter.body, &text::line(line, NOTE_LINE)));
    letter
}

/// A letter about `unit`, written now, that says nothing yet.
pub(crate) fn blank(unit: &str) -> Letter {
    Letter {
        id: crate::host::unique(),
        unit: unit.to_owned(),
        invocation: None,
        to: None,
        subject: String::new(),
        body: String::new(),
        written: chrono::Local::now().timestamp(),
        merged: 0,
        version: VERSION,
        put_off: 0,
        unanswered: 0,
        not_before: 0,
        reason: None,
    }
}

/// What failed, when, after how long, and what that means, in one sentence.
pub(crate) fn first_line(unit: &Name, findings: &Findings) -> String {
    let facts = &findings.facts;
    let name = facts.id.as_deref().map_or_else(|| unit.printable(), |id| text::line(id, 255));
    if unit.askable().is_none() {
        return format!("{name} was reported as failed, but that can be no unit's name.");
    }
    if facts.is_unknown() && facts.end.is_none() {
        return format!("{name} was reported as failed, but systemd knows no unit of that name.");
    }
    let at = facts.ended.or(findings.run.last).map(|at| format!(" on {}", text::moment(at)));
    let took = facts.took().or_else(|| findings.run.took());
    let after = took.map(|took| format!(", after {}", text::span(took)));
    let (at, after) = (at.unwrap_or_default(), after.unwrap_or_default());
    if facts.is_good() {
        let now = facts.active.as_deref().unwrap_or("unknown");
        return format!("{name} was reported as failed, but its last run was good; it is {now} now.");
    }
    let why = match (facts.result.as_deref(), &facts.end) {
        (Some(result), _) if by_systemd(result).is_some() => by_systemd(result).unwrap_or_default().to_owned(),
        (_, Some(end)) => {
            let who = end.command.as_deref().and_then(exit_meaning::program).unwrap_or("its program");
            format!("{who} {}", exit_meaning::of(end.command.as_deref(), end.how))
        }
        (Some(result), None) => format!("systemd says: {result}"),
        (None, None) => "why is not known here".to_owned(),
    };
    format!("{name} failed{at}{after}: {why}.")
}

/// What a result means that is systemd's doing more than the program's (`systemd.service(5)`).
fn by_systemd(result: &str) -> Option<&'static str> {
    Some(match result {
        "timeout" => "it took longer than its unit allows, and systemd ended it",
        "oom-kill" => "the machine ran out of memory, and its program was killed for it",
        "watchdog" => "it stopped giving signs of life, and systemd ended it",
        "start-limit-hit" => {
            "it was started too often in a short time; systemd starts it again after `systemctl reset-failed`"
        }
        "resources" => "systemd could not set it up, for want of a file, a right or memory",
        "protocol" => "it did not behave as the type of its unit says",
        "exec-condition" => "its condition was not met",
        _ => return None,
    })
}

/// Adds everything that was found out about a failure.
fn add_findings(body: &mut String, unit: &Name, findings: &Findings) {
    section(body, "The unit", &status(unit, findings));
    section(body, &journal_title(findings), &journal(findings));
    section(body, "What else failed in the last 24 hours", &others(findings));
    if let Some(light) = &findings.light {
        section(body, "The light", light);
    }
    if !findings.notes.is_empty() {
        section(body, "What could not be found out", &findings.notes);
    }
}

fn add_line(body: &mut String, line: &str) {
    body.extend([line, "\n"]);
}

/// Adds a title and the lines below it.
pub(crate) fn section(body: &mut String, title: &str, lines: &[String]) {
    body.extend(["\n", title, "\n"]);
    for line in lines {
        body.extend(["  ", line.as_str(), "\n"]);
    }
}

/// The unit's status, as `systemctl status` would show it.
fn status(unit: &Name, findings: &Findings) -> Vec<String> {
    let facts = &findings.facts;
    let mut lines = vec![format!("Unit: {}", unit.printable())];
    let mut add = |label: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("{label}: {value}")));
    };
    let loaded = facts.load_state.as_ref().map(|state| match &facts.fragment {
        Some(file) => format!("{state} ({file})"),
        None => state.clone(),
    });
    let active = facts.active.as_ref().map(|active| match &facts.result {
        Some(result) => format!("{active}, result: {result}"),
        None => active.clone(),
    });
    add("Description", facts.description.clone());
    add("Loaded", loaded);
    add("Active", active.or_else(|| facts.result.as_ref().map(|result| format!("result: {result}"))));
    add("Started", facts.started.map(text::stamp));
    add("Ended", facts.ended.map(text::stamp));
    add("Command", facts.end.as_ref().and_then(|end| end.command.clone()));
    add(
        "Status",
        facts.end.as_ref().map(|end| match end.how {
            How::Code(code) => format!("exit code {code}"),
            How::Signal { number, core } => {
                let name = exit_meaning::signal_name(number).unwrap_or("?");
                let core = if core { ", core dumped" } else { "" };
                format!("signal {number} (SIG{name}){core}")
            }
        }),
    );
    add("Restarts", Some(facts.restarts).filter(|count| *count > 0).map(|count| count.to_string()));
    add("Processor time", facts.cpu.map(|cpu| format!("{:.1} s", cpu.as_secs_f64())));
    add("Memory peak", facts.memory_peak.map(|bytes| format!("{} kB", bytes / 1024)));
    add("Triggered by", facts.triggered_by.clone());
    add("Invocation", facts.invocation.clone());
    lines
}

fn journal_title(findings: &Findings) -> String {
    match findings.run.tail().len() {
        0 => "The journal of this run".to_owned(),
        1 => "The journal of this run, its one line".to_owned(),
        count => format!("The journal of this run, its last {count} lines"),
    }
}

fn journal(findings: &Findings) -> Vec<String> {
    match findings.run.tail() {
        [] => vec!["(nothing)".to_owned()],
        lines => lines.to_vec(),
    }
}

fn others(findings: &Findings) -> Vec<String> {
    match &findings.others[..] {
        [] => vec!["(nothing that is known)".to_owned()],
        lines => lines.to_vec(),
    }
}

#[cfg(test)]
mod tests;
