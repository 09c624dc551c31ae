//! What systemd knows of a failed unit: from what it shows, and from what it puts into the environment of an
//! `OnFailure=` unit.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::time::Duration;

use chrono::{DateTime, Local};

pub(crate) use crate::exit_meaning::How;
use crate::text;
use crate::unit_properties::{Command, UnitProperties};

/// A unit's name as it was given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    raw: String,
}

/// What is known about a unit and its last run; what is not known is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) id: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) load_state: Option<String>,
    pub(crate) fragment: Option<String>,
    pub(crate) active: Option<String>,
    pub(crate) result: Option<String>,
    pub(crate) invocation: Option<String>,
    pub(crate) restarts: u64,
    pub(crate) end: Option<End>,
    pub(crate) started: Option<DateTime<Local>>,
    pub(crate) ended: Option<DateTime<Local>>,
    pub(crate) cpu: Option<Duration>,
    pub(crate) memory_peak: Option<u64>,
    pub(crate) triggered_by: Option<String>,
}

/// How a unit's program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// Its command line, where systemd could be asked.
    pub(crate) command: Option<String>,
    pub(crate) how: How,
}

/// The variables that systemd sets for a unit started by `OnFailure=` or `OnSuccess=` (systemd.exec(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Monitor {
    pub(crate) unit: Option<String>,
    pub(crate) invocation: Option<String>,
    pub(crate) result: Option<String>,
    pub(crate) exit_code: Option<String>,
    pub(crate) exit_status: Option<String>,
}

impl Name {
    pub(crate) fn new(raw: impl Into<String>) -> Self {
        Self { raw: raw.into() }
    }

    /// The name to ask systemd with; `None` if it can be no unit's name, which might be a pattern or an option.
    pub(crate) fn askable(&self) -> Option<&str> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        ((1..=255).contains(&self.raw.len()) && self.raw.bytes().all(good)).then_some(&self.raw)
    }

    /// The name as it was given.
    pub(crate) fn raw(&self) -> &str {
        &self.raw
    }

    /// The name as one short line.
    pub(crate) fn printable(&self) -> String {
        if self.raw.trim().is_empty() {
            return "(no name)".to_owned();
        }
        text::line(&self.raw, 255)
    }
}

impl Monitor {
    /// Reads the variables, if they are about `unit`.
    pub(crate) fn of(unit: &Name, variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let about = variable("MONITOR_UNIT");
        if about.as_deref().is_some_and(|about| !same_unit(about, unit.raw())) {
            return Self::default();
        }
        Self {
            unit: about,
            invocation: variable("MONITOR_INVOCATION_ID").filter(|id| is_id(id)),
            result: variable("MONITOR_SERVICE_RESULT"),
            exit_code: variable("MONITOR_EXIT_CODE"),
            exit_status: variable("MONITOR_EXIT_STATUS"),
        }
    }

    fn end(&self) -> Option<End> {
        let status = self.exit_status.as_deref()?;
        let how = match self.exit_code.as_deref()? {
            "exited" => How::Code(status.parse().ok()?),
            code => How::Signal { number: signal_number(status)?, core: code == "dumped" },
        };
        Some(End { command: None, how })
    }
}

/// Whether `a`, as systemd writes it, is the unit that a human called `b`.
fn same_unit(a: &str, b: &str) -> bool {
    a == b || a.strip_suffix(".service") == Some(b)
}

/// Whether `text` is an invocation id.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Facts {
    /// What systemd shows of the unit.
    pub(crate) fn of(properties: &UnitProperties) -> Self {
        let text = |name| properties.value(name).map(|value| text::line(value, 500));
        let number = |name| properties.value(name).and_then(|value| value.parse::<u64>().ok());
        let time = |name| {
            let seconds = properties.value(name)?.strip_prefix('@')?.parse().ok()?;
            Some(text::local(seconds)).filter(|_| seconds > 0)
        };
        let active = match (text("ActiveState"), text("SubState")) {
            (Some(active), Some(sub)) if active != sub => Some(format!("{active} ({sub})")),
            (active, _) => active,
        };
        Self {
            id: text("Id"),
            description: text("Description"),
            load_state: text("LoadState"),
            fragment: text("FragmentPath"),
            active,
            result: text("Result"),
            invocation: text("InvocationID").filter(|id| is_id(id)),
            restarts: number("NRestarts").unwrap_or(0),
            end: failed_command(&properties.commands).or_else(|| main_process(properties)),
            started: time("InactiveExitTimestamp"),
            ended: time("InactiveEnterTimestamp"),
            cpu: number("CPUUsageNSec").filter(|ns| *ns != u64::MAX).map(Duration::from_nanos),
            memory_peak: number("MemoryPeak").filter(|bytes| *bytes != u64::MAX),
            triggered_by: text("TriggeredBy"),
        }
    }

    /// Adds what the environment says; it is about the run that failed, and systemd may have started another since.
    pub(crate) fn with(mut self, monitor: &Monitor) -> Self {
        let another_run =
            monitor.invocation.is_some() && self.invocation.is_some() && self.invocation != monitor.invocation;
        if another_run {
            self.forget_run();
        }
        let told = monitor.end();
        if self.end.as_ref().map(|end| end.how) != told.as_ref().map(|end| end.how) {
            self.end = told.or(self.end);
        }
        self.id = self.id.or_else(|| monitor.unit.clone());
        self.invocation = monitor.invocation.clone().or(self.invocation);
        self.result = monitor.result.as_deref().map(|result| text::line(result, 50)).or(self.result);
        self
    }

    /// Forgets what is about one run only.
    pub(crate) fn forget_run(&mut self) {
        (self.end, self.started, self.ended) = (None, None, None);
        (self.cpu, self.memory_peak) = (None, None);
    }

    /// Whether the run did not fail, or has not yet.
    pub(crate) fn is_good(&self) -> bool {
        self.result.as_deref() == Some("success")
    }

    /// Whether systemd knows no such unit.
    pub(crate) fn is_unknown(&self) -> bool {
        self.load_state.as_deref() == Some("not-found")
    }

    /// How long the run took.
    pub(crate) fn took(&self) -> Option<Duration> {
        self.ended?.signed_duration_since(self.started?).to_std().ok()
    }
}

/// The first of a unit's commands that did not end well, and whose end is not ignored.
fn failed_command(commands: &[Command]) -> Option<End> {
    commands.iter().filter(|command| !command.is_ignored).find_map(|command| {
        let how = bad_end(command.code, command.status)?;
        Some(End { command: Some(text::line(&command.line, 300)), how })
    })
}

/// How the main process ended, where no command tells it.
fn main_process(properties: &UnitProperties) -> Option<End> {
    let number = |name| properties.value(name)?.parse().ok();
    let how = bad_end(number("ExecMainCode")?, number("ExecMainStatus")?)?;
    Some(End { command: None, how })
}

/// An end that is none of a good run; the codes are those of waitid(2).
fn bad_end(code: i32, status: i32) -> Option<How> {
    match code {
        1 if status != 0 => Some(How::Code(status)),
        2 => Some(How::Signal { number: status, core: false }),
        3 => Some(How::Signal { number: status, core: true }),
        _ => None,
    }
}

/// The number of a signal that systemd names without `SIG`, or gives as a number.
fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    (1..=31).find(|number| crate::exit_meaning::signal_name(*number) == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
Id=backup-exthdd.service
Description=mirror the repository
LoadState=loaded
ActiveState=failed
SubState=failed
Result=exit-code
InvocationID=0123456789abcdef0123456789abcdef
NRestarts=0
ExecMainCode=1
ExecMainStatus=65
ExecStartPre={ path=/usr/local/bin/phobos-ns ; argv[]=/usr/local/bin/phobos-ns ; ignore_errors=no ; start_time=[@1700000000] ; stop_time=[@1700000000] ; pid=10 ; code=exited ; status=0 }
ExecStart={ path=/usr/bin/nsenter ; argv[]=/usr/bin/nsenter --mount=/run/x ; phobos-ext ; ignore_errors=no ; start_time=[@1700000000] ; stop_time=[@1700007980] ; pid=11 ; code=exited ; status=65 }
InactiveExitTimestamp=@1700000000
InactiveEnterTimestamp=@1700007980
CPUUsageNSec=18446744073709551615
MemoryPeak=[not set]
";

    fn facts() -> Facts {
        Facts::of(&UnitProperties::parse(OUTPUT))
    }

    #[test]
    fn the_command_that_failed_is_found_among_many() {
        let facts = facts();
        let end = facts.end.clone().unwrap();
        assert_eq!(end.command.as_deref(), Some("/usr/bin/nsenter --mount=/run/x ; phobos-ext"));
        assert_eq!(end.how, How::Code(65));
        assert_eq!(facts.took(), Some(Duration::from_secs(7980)));
        assert_eq!(facts.active.as_deref(), Some("failed"));
        assert_eq!((facts.cpu, facts.memory_peak), (None, None));
    }

    #[test]
    fn a_command_whose_failure_is_ignored_is_not_to_blame() {
        let properties = OUTPUT.replace("ignore_errors=no", "ignore_errors=yes");
        let facts = Facts::of(&UnitProperties::parse(&properties));
        assert_eq!(facts.end.unwrap().command, None, "only the main process is left to tell");
    }

    #[test]
    fn what_the_environment_says_is_about_the_failed_run() {
        let environment = |name: &str| {
            Some(
                match name {
                    "MONITOR_UNIT" => "backup-exthdd.service",
                    "MONITOR_INVOCATION_ID" => "ffffffffffffffffffffffffffffffff",
                    "MONITOR_SERVICE_RESULT" => "signal",
                    "MONITOR_EXIT_CODE" => "killed",
                    "MONITOR_EXIT_STATUS" => "KILL",
                    _ => return None,
                }
                .to_owned(),
            )
        };
        let monitor = Monitor::of(&Name::new("backup-exthdd"), environment);
        let facts = facts().with(&monitor);
        assert_eq!(facts.end.unwrap().how, How::Signal { number: 9, core: false });
        assert_eq!(facts.started, None, "the times are those of another run");
        assert_eq!(facts.result.as_deref(), Some("signal"));
        let other = Monitor::of(&Name::new("other.service"), environment);
        assert_eq!(other, Monitor::default());
    }

    #[test]
    fn a_name_that_is_none_is_never_asked_for() {
        for name in ["", "*", "a b", "/etc/passwd", "a\nb", "ünit.service", "x[0-9]"] {
            assert_eq!(Name::new(name).askable(), None, "{name}");
        }
        let good = r"dev-disk-by\x2duuid-A2EA\x2d96ED.device";
        assert_eq!(Name::new(good).askable(), Some(good));
        assert_eq!(Name::new("-.mount").askable(), Some("-.mount"));
    }

    #[test]
    fn fuzz_mail_unit() {
        phobos_fuzz::target("mail_unit", &[br"broken@dev-disk-by\x2duuid-A.service", b"-x.service"], |input| {
            let text = String::from_utf8_lossy(input);
            let name = Name::new(text.into_owned());
            drop((name.askable().is_some(), name.printable()));
        });
    }
}
