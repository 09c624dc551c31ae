//! Finds out about a failure: asks systemd, the journal and the light, and goes on without whoever does not answer.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Local, TimeDelta};
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, ExecError};
use phobos_site::led::Board;

use crate::journal::{self, Failure, Run};
use crate::light;
use crate::text;
use crate::unit::{End, Facts, Monitor, Name};
use crate::unit_properties;

/// How many other failed units are listed.
const OTHERS: usize = 30;

/// How often a run's lines are read if its last one is missing, and how long after each other.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// Everything that could be found out about a failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) facts: Facts,
    pub(crate) run: Run,
    /// When the unit itself failed in the last 24 hours, in seconds since 1970.
    pub(crate) own: Vec<i64>,
    /// What else failed, one unit a line.
    pub(crate) others: Vec<String>,
    /// What the light shows, one job a line.
    pub(crate) light: Option<Vec<String>>,
    /// What could not be found out, and why.
    pub(crate) notes: Vec<String>,
}

/// Finds out about the failure of `unit` as far as that is possible.
///
/// As few programs as will do, at the same time where that is possible: each takes a third of the mail's time.
pub(crate) fn about<E: Exec + Clone + Send>(exec: &E, unit: &Name, monitor: &Monitor) -> Findings {
    let since = Local::now() - TimeDelta::hours(24);
    std::thread::scope(|scope| {
        let invocation = monitor.invocation.as_deref().filter(|_| unit.askable().is_some());
        let second = exec.clone();
        let together = invocation.map(|invocation| scope.spawn(move || journal::together(&second, invocation, since)));
        let mut findings = facts(exec, unit, monitor);
        // A reader that panicked has found nothing.
        let together = together.and_then(|reader| reader.join().unwrap_or_default());
        let failures = if let Some((run, failures)) = together {
            findings.run = run;
            Ok(failures)
        } else {
            let second = exec.clone();
            let failures = scope.spawn(move || journal::failures(&second, since));
            findings.read_run(exec);
            let panicked = |_| Err(ExecError::Missing { program: "journalctl (its reader panicked)".to_owned() });
            failures.join().unwrap_or_else(panicked)
        };
        let last = findings.add_failures(unit, failures);
        if monitor.invocation.is_some() && findings.facts.is_good() {
            if let Some(last) = last {
                findings.turn_to(exec, last);
            }
        }
        let told = findings.run.end.map(|how| End { command: None, how });
        findings.facts.end = findings.facts.end.take().or(told);
        match light::summary(&Board::system()) {
            Ok(lines) => findings.light = Some(lines),
            Err(why) => findings.notes.push(format!("What the light shows: {}", text::line(&why, 500))),
        }
        findings
    })
}

/// What is known of a failure without asking anybody.
pub(crate) fn nothing(monitor: &Monitor) -> Findings {
    let notes = vec!["Anything: systemd and the journal took too long to answer.".to_owned()];
    Findings { facts: Facts::default().with(monitor), notes, ..Findings::default() }
}

/// Asks systemd about the unit, and the journal which run it was if nobody else knows.
fn facts(exec: &dyn Exec, unit: &Name, monitor: &Monitor) -> Findings {
    let mut findings = Findings::default();
    let Some(name) = unit.askable() else {
        findings.notes.push("Anything: systemd cannot be asked about such a name.".to_owned());
        return findings;
    };
    match unit_properties::ask(exec, name) {
        Ok(shown) => findings.facts = Facts::of(&shown),
        Err(error) => findings.missed("The unit's status", &error),
    }
    findings.facts = std::mem::take(&mut findings.facts).with(monitor);
    if findings.facts.invocation.is_none() && !findings.facts.is_unknown() {
        match journal::last_invocation(exec, name) {
            Ok(invocation) => findings.facts.invocation = invocation,
            Err(error) => findings.missed("Which run it was", &error),
        }
    }
    findings
}

/// Reads the lines of a run; a busy journal may be behind, so that the last ones are not there at once.
fn read_run(exec: &dyn Exec, invocation: &str, run: &mut Run) -> Result<(), ExecError> {
    for _ in 0..TRIES {
        run.clear();
        journal::fill(exec, invocation, run)?;
        if run.is_whole {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

impl Findings {
    fn missed(&mut self, what: &str, error: &ExecError) {
        let why = match error {
            // The whole call would be a paragraph; its last words are what a human needs.
            ExecError::Failed { stderr, .. } if !stderr.is_empty() => stderr.clone(),
            other => Chain(other).to_string(),
        };
        let why = text::line(why.lines().last().unwrap_or_default(), 500);
        log::warn!("cannot find out: {what}: {why}");
        self.notes.push(format!("{what}: {why}"));
    }

    /// Turns from a run that is good so far to the failure before it: systemd had started the unit again by the time that
    /// it started the mail, and spoke of the new run.
    fn turn_to(&mut self, exec: &dyn Exec, failure: Failure) {
        let Some(invocation) = failure.invocation else { return };
        self.facts.forget_run();
        self.facts.result = Some(failure.result);
        self.facts.ended = Some(failure.at);
        self.facts.invocation = Some(invocation);
        self.read_run(exec);
    }

    /// Reads the run that the facts are about.
    fn read_run(&mut self, exec: &dyn Exec) {
        let Some(invocation) = self.facts.invocation.clone() else { return };
        if let Err(error) = read_run(exec, &invocation, &mut self.run) {
            self.missed("The journal of this run, or the rest of it", &error);
        }
    }

    /// Takes in all failures and returns the unit's last one.
    fn add_failures(&mut self, unit: &Name, failures: Result<Vec<Failure>, ExecError>) -> Option<Failure> {
        match failures {
            Ok(failures) => {
                let id = self.facts.id.as_deref();
                let (own, others): (Vec<_>, Vec<_>) = failures
                    .into_iter()
                    .partition(|failure| failure.unit == unit.raw() || Some(failure.unit.as_str()) == id);
                self.own = own.iter().map(|failure| failure.at.timestamp()).collect();
                self.others = list(&others);
                own.into_iter().next_back()
            }
            Err(error) => {
                self.missed("What else failed", &error);
                None
            }
        }
    }
}

/// One line for each unit, the one that failed last first.
fn list(failures: &[Failure]) -> Vec<String> {
    let mut by_unit: BTreeMap<&str, (u64, &Failure)> = BTreeMap::new();
    for failure in failures {
        let entry = by_unit.entry(&failure.unit).or_insert((0, failure));
        *entry = (entry.0 + 1, failure);
    }
    let mut last: Vec<_> = by_unit.into_values().collect();
    last.sort_by_key(|(_, failure)| std::cmp::Reverse(failure.at));
    let left_out = last.len().saturating_sub(OTHERS);
    let mut lines: Vec<_> = last.iter().take(OTHERS).map(line).collect();
    if left_out > 0 {
        lines.push(format!("and {left_out} more"));
    }
    lines
}

fn line((count, failure): &(u64, &Failure)) -> String {
    let at = text::stamp(failure.at);
    let often = if *count > 1 { format!(", {}", text::count(*count, "time")) } else { String::new() };
    format!("{at} {} ({}){often}", failure.unit, failure.result)
}

impl Run {
    /// How long the run took by its own lines, if all of them are there.
    pub(crate) fn took(&self) -> Option<Duration> {
        if self.tail().len() != self.lines.len() {
            return None;
        }
        let (first, last): (DateTime<Local>, DateTime<Local>) = (self.first?, self.last?);
        last.signed_duration_since(first).to_std().ok()
    }
}
