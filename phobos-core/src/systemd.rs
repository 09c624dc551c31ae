//! systemd: names of units as systemd-escape(1) makes them, and the few systemctl calls that phobos needs.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

mod timers;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::error::{Class, Classified};
use crate::exec::{Exec, ExecError, Invocation};

pub use timers::{Timer, elapses, properties, timers};

/// How long systemctl may take to stop a unit.
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// How long systemctl may take to start a unit: a key may have to be derived.
const START_LIMIT: Duration = Duration::from_secs(300);

/// Why systemd did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemdError {
    /// A unit could not be started.
    #[error("cannot start {unit}")]
    Start {
        /// The unit.
        unit: String,
        /// What systemctl said.
        source: ExecError,
    },
    /// A unit could not be stopped.
    #[error("cannot stop {unit}")]
    Stop {
        /// The unit.
        unit: String,
        /// What systemctl said.
        source: ExecError,
    },
    /// The timers could not be listed.
    #[error("cannot list the timers")]
    Timers {
        /// What systemctl said.
        source: ExecError,
    },
    /// The properties of units could not be asked for.
    #[error("cannot ask systemd about units")]
    Show {
        /// What systemctl said.
        source: ExecError,
    },
    /// When timers elapse could not be reckoned.
    #[error("cannot reckon when timers elapse")]
    Calendar {
        /// What systemd-analyze said.
        source: ExecError,
    },
    /// The list of timers cannot be understood.
    #[error("cannot understand systemctl's list of timers")]
    Json(#[source] serde_json::Error),
}

impl Classified for SystemdError {
    fn class(&self) -> Class {
        match self {
            Self::Start { .. }
            | Self::Stop { .. }
            | Self::Timers { .. }
            | Self::Show { .. }
            | Self::Calendar { .. }
            | Self::Json(_) => Class::Source,
        }
    }
}

/// Escapes `text` for a unit's name, as `systemd-escape TEXT` does (systemd.unit(5), "String escaping").
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'/' => escaped.push('-'),
            b'.' if index == 0 => escaped.push_str(r"\x2e"),
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b':' | b'_' | b'.' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.extend([r"\x", &hex(byte)]),
        }
    }
    escaped
}

/// Two hexadecimal digits.
fn hex(byte: u8) -> String {
    format!("{byte:02x}")
}

/// Escapes an absolute path for a unit's name, as `systemd-escape --path PATH` does.
pub fn escape_path(path: &str) -> String {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() { "-".to_owned() } else { escape(&parts.join("/")) }
}

/// Undoes [`escape`]; an incomplete escape, or one that is not UTF-8 afterwards, gives `None`.
pub fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'-' => bytes.push(b'/'),
            b'\\' => {
                let digits = std::str::from_utf8(tail.get(..3)?).ok()?.strip_prefix('x')?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = tail.get(3..)?;
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// The unit that the process `pid` belongs to: a service or a scope.
pub fn unit_of(pid: u32) -> Option<String> {
    unit_in(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// The unit in the text of `/proc/PID/cgroup`: the last part of the path that is a service or a scope.
fn unit_in(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let is_unit = |part: &&str| Path::new(part).extension().is_some_and(|end| end == "service" || end == "scope");
    path.split('/').rev().find(is_unit).map(str::to_owned)
}

/// Whether `unit` is active; a machine without systemd has no active units.
pub fn is_active(exec: &dyn Exec, unit: &str) -> bool {
    let call = Invocation::new("systemctl").args(["--quiet", "is-active", unit]).shielded().limit(STOP_LIMIT);
    exec.run(&call).is_ok()
}

/// When the timers whose names match `patterns` elapse next, by the timer's name; those that never do are left out.
///
/// # Errors
///
/// When systemctl fails, as on a machine without systemd, or writes what cannot be understood.
pub fn next_runs(exec: &dyn Exec, patterns: &[&str]) -> Result<BTreeMap<String, DateTime<Utc>>, SystemdError> {
    let next = |timer: Timer| Some((timer.next()?, timer.unit));
    Ok(timers(exec, patterns)?.into_iter().filter_map(next).map(|(next, unit)| (unit, next)).collect())
}

/// Starts `unit`, and waits until it is up.
///
/// # Errors
///
/// When systemctl fails; the unit's state is then unknown.
pub fn start(exec: &dyn Exec, unit: &str) -> Result<(), SystemdError> {
    let call = Invocation::new("systemctl").args(["start", unit]).limit(START_LIMIT);
    match exec.run(&call) {
        Ok(_) => Ok(()),
        Err(source) => Err(SystemdError::Start { unit: unit.to_owned(), source }),
    }
}

/// Stops `unit` without the units that depend on it, and waits until it has stopped.
///
/// # Errors
///
/// When systemctl fails; the unit's state is then unknown.
pub fn stop_alone(exec: &dyn Exec, unit: &str) -> Result<(), SystemdError> {
    let call = Invocation::new("systemctl")
        .args(["stop", "--job-mode=ignore-dependencies", unit])
        .shielded()
        .limit(STOP_LIMIT);
    match exec.run(&call) {
        Ok(_) => Ok(()),
        Err(source) => Err(SystemdError::Stop { unit: unit.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_unit() {
        let cases = [
            ("0::/system.slice/borgmatic.service\n", Some("borgmatic.service")),
            ("0::/user.slice/user-0.slice/session-1.scope\n", Some("session-1.scope")),
            ("0::/system.slice/a.service/payload\n", Some("a.service")),
            ("0::/\n", None),
        ];
        for (cgroup, unit) in cases {
            assert_eq!(unit_in(cgroup).as_deref(), unit);
        }
    }

    #[test]
    fn timers_are_read_and_those_that_never_elapse_left_out() {
        // Recorded from systemctl of systemd 257; the last two are made up after systemd's own code.
        let json = br#"[{"next":1795672800000000,"left":1795672800000000,"last":1795586400054514,"passed":132897413,
            "unit":"pull@luv.timer","activates":"pull@luv.service"},
            {"next":0,"left":0,"last":0,"passed":0,"unit":"x.timer","activates":"x.service"},
            {"next":null,"left":0,"last":null,"passed":0,"unit":"y.timer","activates":"y.service"}]"#;
        let timers = next_runs(&crate::exec::fake::Script::new().answers_bytes(json), &[]).unwrap();
        assert_eq!(timers.len(), 1);
        assert_eq!(timers["pull@luv.timer"].to_rfc3339(), "2026-11-26T06:00:00+00:00");
    }

    #[test]
    fn escapes_as_systemd_escape_does() {
        // Recorded from systemd-escape of systemd 257.
        let cases = [
            ("A2EA-96ED", r"A2EA\x2d96ED"),
            (".hidden/x", r"\x2ehidden-x"),
            ("grün", r"gr\xc3\xbcn"),
            ("a:b_c.d", "a:b_c.d"),
            ("a b", r"a\x20b"),
        ];
        for (text, escaped) in cases {
            assert_eq!(escape(text), escaped);
            assert_eq!(unescape(escaped).as_deref(), Some(text));
        }
        assert_eq!(escape_path("/dev/disk/by-uuid/A2EA-96ED"), r"dev-disk-by\x2duuid-A2EA\x2d96ED");
        assert_eq!(escape_path("/"), "-");
        assert_eq!(escape_path("//a/./b/"), "a-b");
        for broken in [r"\x2", r"\y20", r"\", r"\xff"] {
            assert_eq!(unescape(broken), None, "{broken}");
        }
    }

    #[test]
    fn fuzz_unit_names() {
        phobos_fuzz::target(
            "unit_names",
            &[br"dev-disk-by\x2duuid-A2EA\x2d96ED", b"0::/system.slice/a.service\n"],
            |input| {
                let text = String::from_utf8_lossy(input);
                if let Some(plain) = unescape(&text) {
                    assert_eq!(unescape(&escape(&plain)), Some(plain));
                }
                drop((escape_path(&text), unit_in(&text)));
            },
        );
    }
}
