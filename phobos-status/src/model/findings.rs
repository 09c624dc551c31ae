//! What is not as it should be, and what to do about it: each thing once, the worst first.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use phobos_core::human;
use phobos_site::led::State;
use phobos_site::rotation::{self, Attention, Standing};

use super::data::{Finding, Job, Kind, Model, Severity};
use super::usual::Usual;
use super::words::{clean, light_name};
use crate::digest::Key;
use crate::facts::Facts;

/// A file system with less than this part of its room free is nearly full.
const NEARLY_FULL: u64 = 20;

/// How long a run may take beyond twice the usual before it is told.
const GRACE: TimeDelta = TimeDelta::minutes(30);

/// The findings as they are gathered.
struct Findings {
    found: Vec<Finding>,
    /// Of which jobs a failure is told already.
    told: BTreeSet<String>,
}

impl Findings {
    fn add(&mut self, severity: Severity, what: String, remedy: impl Into<String>) {
        self.found.push(Finding { severity, what, remedy: remedy.into() });
    }

    /// The same of a job, unless its failure is told already.
    fn of(&mut self, light: String, severity: Severity, what: String, remedy: String) {
        if self.told.insert(light) {
            self.add(severity, what, remedy);
        }
    }
}

/// All of them, worst first.
pub(super) fn all(facts: &Facts, model: &Model) -> Vec<Finding> {
    let mut findings = Findings { found: Vec::new(), told: BTreeSet::new() };
    board(facts, model, &mut findings);
    jobs(model, &mut findings);
    drives(model, &mut findings);
    running(model, &mut findings);
    mail(model, &mut findings);
    room(model, &mut findings);
    reading(facts, &mut findings);
    attention(facts, model, &mut findings);
    let mut found = findings.found;
    // The order within one severity is the one in which they were found.
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

/// What the light is red for.
fn board(facts: &Facts, model: &Model, findings: &mut Findings) {
    for post in facts.board.iter().filter(|post| matches!(post.light(), State::Failed | State::Unsafe)) {
        let at = model.zone.moment(post.light_since(), model.at);
        let text = colon(&clean(post.light_text()));
        let known = model.jobs.iter().find(|job| light_name(&Key::new(&job.job, &job.object)) == post.name);
        let name = known.map_or_else(|| clean(&post.name), title);
        if post.light() == State::Unsafe {
            let remedy = "leave it plugged in; `phobos-ext close` closes it and says when it may be unplugged";
            findings.of(
                post.name.clone(),
                Severity::Failed,
                format!("{name} is not safe to unplug, {at}{text}"),
                remedy.into(),
            );
        } else {
            let remedy =
                known.map_or_else(|| format!("`phobos-blink ack {}` once it is dealt with", clean(&post.name)), remedy);
            findings.of(post.name.clone(), Severity::Failed, format!("{name} failed {at}{text}"), remedy);
        }
    }
}

/// Jobs whose last run failed, or whose last good one is too long ago.
fn jobs(model: &Model, findings: &mut Findings) {
    for job in &model.jobs {
        let light = light_name(&Key::new(&job.job, &job.object));
        let said = |what: &str| format!("{} {what}", title(job));
        if let Some(last) =
            job.last.as_ref().filter(|last| last.exit != 0 && !(job.kind == Kind::Pull && last.exit == ABSENT))
        {
            let at = model.zone.moment(last.end, model.at);
            let is_old = !job.is_planned && job.kind != Kind::Drive;
            // Nobody runs it any more.
            if !is_old {
                findings.of(
                    light.clone(),
                    Severity::Failed,
                    said(&format!("failed {at}{}", colon(&last.error))),
                    remedy(job),
                );
            }
        }
        if let Some(space) = &job.space {
            let (severity, what) = match space.state.as_str() {
                "interrupted" => {
                    (Severity::Failed, "was interrupted: its holding space is between two states".to_owned())
                }
                "refused" => (Severity::Failed, format!("was refused{}", colon(&space.error))),
                "failed" => (Severity::Failed, format!("failed{}", colon(&space.error))),
                _ if space.stale => {
                    (Severity::Attention, format!("is stale: it was last pulled well {}", since(job, model)))
                }
                _ => continue,
            };
            findings.of(light, severity, said(&what), remedy(job));
        } else if job.late {
            let every = job.usual.as_ref().and_then(Usual::every).map(human::span).unwrap_or_default();
            let what = said(&format!("last went well {}; it runs every {every}", since(job, model)));
            findings.of(light, Severity::Attention, what, remedy(job));
        }
    }
}

/// What is not as it should be with the drives, and what to do about it.
pub(super) fn attention_of(standings: &[Standing]) -> Vec<(String, String)> {
    let remedy = |attention: &Attention| match attention {
        Attention::Overdue { drive, .. } => format!("plug in {}", clean(drive)),
        Attention::NearlyFull { .. } => "delete generations or old archives, or prepare a larger drive".to_owned(),
        Attention::Rots { .. } => "put a new drive in its place; until then each mirror mends what it finds".to_owned(),
        Attention::Fails { drive, .. } => {
            format!("put a new drive in the place of {}; its copy is read back as long as it lasts", clean(drive))
        }
        Attention::NotRestored { drive, .. } => {
            format!(
                "mirror to it and run `phobos-ext drill {}` again; until that passes, count on another drive",
                clean(drive)
            )
        }
        Attention::Twice { .. } | Attention::Together { .. } => String::new(),
    };
    rotation::attention(standings).iter().map(|attention| (clean(&attention.to_string()), remedy(attention))).collect()
}

fn drives(model: &Model, findings: &mut Findings) {
    for (what, remedy) in &model.attention {
        findings.add(Severity::Attention, what.clone(), remedy.clone());
    }
}

/// Runs that take much longer than usual.
fn running(model: &Model, findings: &mut Findings) {
    for run in &model.running {
        let job = model.jobs.iter().find(|job| job.name == run.name && job.kind == run.kind);
        let Some(usual) = job.and_then(|job| job.usual.as_ref()).filter(|usual| usual.runs >= 3) else { continue };
        let so_far = model.at.signed_duration_since(run.since);
        let limit = usual.most().checked_mul(2).and_then(|twice| twice.checked_add(&GRACE));
        if run.waits_for.is_empty() && limit.is_some_and(|limit| so_far > limit) {
            let (so_far, length) = (human::span(so_far), human::span(usual.length()));
            let what = format!("{} has been running for {so_far}; it usually takes {length}", run.name);
            findings.add(Severity::Attention, what, "look at its unit's journal: is it still at work?");
        }
    }
}

fn mail(model: &Model, findings: &mut Findings) {
    let Some(mail) = &model.mail else { return };
    let messages = |count: usize| if count == 1 { "1 message".to_owned() } else { format!("{count} messages") };
    if mail.waiting > 0 {
        let what = format!("{} cannot be sent{}", messages(mail.waiting), colon(&mail.reason));
        findings.add(Severity::Attention, what, "`phobos-mail test` says why; they are tried again every ten minutes");
    }
    if mail.set_aside > 0 {
        let what = format!("no server would take {}", messages(mail.set_aside));
        findings.add(Severity::Attention, what, "`phobos-mail list` shows why");
    }
}

fn room(model: &Model, findings: &mut Findings) {
    let Some(room) = model.room else { return };
    if room.free < room.used.saturating_add(room.free) / NEARLY_FULL {
        let what = format!("the backup disk is nearly full: {} are free", human::size(room.free));
        findings.add(Severity::Attention, what, "prune and compact the repository, or get a larger disk");
    }
}

/// What could not be read.
fn reading(facts: &Facts, findings: &mut Findings) {
    for trouble in &facts.troubles {
        findings.add(Severity::Failed, clean(trouble), "");
    }
    let strange = facts.past.strange;
    if strange > 0 {
        let what = match strange {
            1 => "a line of the history is no run of this version".to_owned(),
            more => format!("{more} lines of the history are no runs of this version"),
        };
        findings.add(Severity::Attention, what, "they were left out; a power cut leaves one");
    }
    if facts.past.left_out > 0 {
        let what = format!("{} runs in the history are of more jobs than are told apart", facts.past.left_out);
        findings.add(Severity::Attention, what, "");
    }
}

/// What the light is white for, unless it is told already.
fn attention(facts: &Facts, model: &Model, findings: &mut Findings) {
    for post in facts.board.iter().filter(|post| post.light() == State::Attention) {
        let text = clean(post.light_text());
        let is_told = findings.found.iter().any(|finding| text.contains(&finding.what));
        if !is_told && !text.is_empty() {
            let what = format!("{}, {}", text, model.zone.moment(post.light_since(), model.at));
            findings.of(post.name.clone(), Severity::Attention, what, String::new());
        }
    }
}

/// The exit code of a host that was not there.
pub(crate) const ABSENT: u8 = 66;

fn title(job: &Job) -> String {
    match job.kind {
        Kind::Pull => format!("pull of {}", job.name),
        Kind::Drive => format!("the mirror to {}", job.name),
        Kind::Borg | Kind::Other => job.name.clone(),
    }
}

/// What to do after a failure.
fn remedy(job: &Job) -> String {
    match job.kind {
        Kind::Pull => format!("`phobos-pull {}` tries again", clean(&job.object)),
        Kind::Drive => "once that is put right, plug it in again".to_owned(),
        Kind::Borg | Kind::Other => match &job.unit {
            Some(unit) => format!("`journalctl -u {0}`; `systemctl start {0}` tries again", clean(unit)),
            None if job.is_planned => "see the journal, and run it again".to_owned(),
            None => "no timer starts it; `phobos-status doctor timers` says which are not".to_owned(),
        },
    }
}

fn since(job: &Job, model: &Model) -> String {
    let space = job.space.as_ref().and_then(|space| space.last_success);
    space.or(job.last_good).map_or_else(|| "never".to_owned(), |good| model.zone.moment(good, model.at))
}

/// `: text`, or nothing.
fn colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
