//! Timers: what they start and when, by systemd's own reckoning, so that time zones and clock changes are systemd's business.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Deserialize;

use super::SystemdError;
use crate::exec::{Exec, Invocation};

/// How long systemd may take to answer.
const LIMIT: Duration = Duration::from_secs(20);

/// A timer that is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Timer {
    /// Its name.
    pub unit: String,
    /// What it starts.
    #[serde(default)]
    pub activates: String,
    /// When it elapses next, in microseconds since 1970; 0 or nothing if never.
    next: Option<i64>,
}

impl Timer {
    /// When it elapses next; `None` if never.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.next.filter(|next| *next > 0)?)
    }
}

/// The timers that are loaded, or those whose names match `patterns`.
///
/// # Errors
///
/// When systemctl fails, as on a machine without systemd, or writes what cannot be understood.
pub fn timers(exec: &dyn Exec, patterns: &[&str]) -> Result<Vec<Timer>, SystemdError> {
    let call = Invocation::new("systemctl").args(["list-timers", "--all", "--output=json"]).args(patterns);
    let listed = exec.run(&call.limit(LIMIT)).map_err(|source| SystemdError::Timers { source })?;
    parse_timers(&listed.stdout).map_err(SystemdError::Json)
}

fn parse_timers(json: &[u8]) -> Result<Vec<Timer>, serde_json::Error> {
    serde_json::from_slice(json)
}

/// These properties of `units`, in the order in which systemd tells them; one that has several values is there several times.
/// A unit that systemd does not know has empty ones.
///
/// # Errors
///
/// When systemctl fails.
pub fn properties(
    exec: &dyn Exec,
    units: &[&str],
    names: &[&str],
) -> Result<BTreeMap<String, Vec<(String, String)>>, SystemdError> {
    if units.is_empty() {
        return Ok(BTreeMap::new());
    }
    let call = Invocation::new("systemctl")
        .arg("show")
        .arg(format!("--property=Id,{}", names.join(",")))
        .arg("--")
        .args(units)
        .limit(LIMIT);
    let shown = exec.run(&call).map_err(|source| SystemdError::Show { source })?;
    Ok(parse_properties(&String::from_utf8_lossy(&shown.stdout)))
}

fn parse_properties(text: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut units = BTreeMap::new();
    for block in text.split("\n\n") {
        let mut values: Vec<_> = block
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        if let Some(at) = values.iter().position(|(name, _)| name == "Id") {
            let (_, id) = values.remove(at);
            units.insert(id, values);
        }
    }
    units
}

/// The next `count` moments of each of these calendar expressions (systemd.time(7)), in this machine's time zone.
///
/// # Errors
///
/// When systemd-analyze fails, as it does where one of the expressions is none.
pub fn elapses(exec: &dyn Exec, calendar: &[&str], count: usize) -> Result<Vec<Vec<DateTime<Utc>>>, SystemdError> {
    if calendar.is_empty() {
        return Ok(Vec::new());
    }
    let call = Invocation::new("systemd-analyze")
        .arg("calendar")
        .arg(format!("--iterations={}", count.max(1)))
        .arg("--")
        .args(calendar)
        .env("LC_ALL", "C.UTF-8")
        .limit(LIMIT);
    let said = exec.run(&call).map_err(|source| SystemdError::Calendar { source })?;
    Ok(parse_elapses(&String::from_utf8_lossy(&said.stdout)))
}

fn parse_elapses(text: &str) -> Vec<Vec<DateTime<Utc>>> {
    let mut all: Vec<Vec<DateTime<Utc>>> = Vec::new();
    for line in text.lines() {
        let Some((title, value)) = line.split_once(": ") else { continue };
        let title = title.trim();
        if title == "Normalized form" {
            all.push(Vec::new());
        }
        // Where this machine's zone is another one, the same moment follows in UTC.
        let is_time = title == "Next elapse" || title.starts_with("Iter. #") || title == "(in UTC)";
        if let (true, Some(one), Some(time)) = (is_time, all.last_mut(), utc(value)) {
            one.push(time);
        }
    }
    all
}

/// Reads `Fri 2026-11-27 10:00:00 UTC`; `None` for another zone, and for `never`.
fn utc(text: &str) -> Option<DateTime<Utc>> {
    let (_, time) = text.trim().strip_suffix(" UTC")?.split_once(' ')?;
    NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S%.f").ok().map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::fake::Script;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn timers_say_what_they_start_and_when() {
        let json = r#"[{"next":1770000000000000,"left":1,"last":0,"passed":0,"unit":"a.timer","activates":"a.service"},
            {"next":0,"left":0,"last":null,"passed":null,"unit":"b.timer","activates":"b.service"}]"#;
        let script = Script::new().says(json);
        let timers = timers(&script, &["a*"]).unwrap();
        assert_eq!(script.calls(), ["systemctl list-timers --all --output=json a*"]);
        let said: Vec<_> = timers.iter().map(|timer| (timer.activates.as_str(), timer.next())).collect();
        assert_eq!(said, [("a.service", Some(time("2026-02-02T02:40:00Z"))), ("b.service", None)]);
    }

    #[test]
    fn properties_are_told_by_unit() {
        let text = "Id=a.timer\nTimersCalendar={ OnCalendar=*-*-* 03:00:00 ; next_elapse=n/a }\n\
                    TimersCalendar={ OnCalendar=Sun ; next_elapse=n/a }\n\nId=b.service\nStatusText=50 % = half\n";
        let script = Script::new().says(text);
        let all = properties(&script, &["a.timer", "b.service"], &["StatusText"]).unwrap();
        assert_eq!(script.calls(), ["systemctl show --property=Id,StatusText -- a.timer b.service"]);
        assert_eq!(all["a.timer"].len(), 2);
        assert_eq!(all["b.service"], [("StatusText".to_owned(), "50 % = half".to_owned())]);
        assert!(properties(&Script::new(), &[], &[]).unwrap().is_empty());
        assert!(parse_properties("\n\n=\nno\n").is_empty());
    }

    #[test]
    fn the_next_moments_are_systemds_across_a_clock_change() {
        // systemd-analyze 252, TZ=Europe/Berlin.
        let text = "  Original form: Sun 02:30\nNormalized form: Sun *-*-* 02:30:00\n    Next elapse: Sun 2026-10-25 02:30:00 CEST\n\
                    \u{20}      (in UTC): Sun 2026-10-25 00:30:00 UTC\n       From now: 1 day left\n\
                    \u{20}      Iter. #2: Sun 2026-11-01 02:30:00 CET\n       (in UTC): Sun 2026-11-01 01:30:00 UTC\n\n\
                    Normalized form: 2020-01-01 00:00:00\n    Next elapse: never\n";
        let script = Script::new().says(text);
        let all = elapses(&script, &["Sun 02:30", "2020-01-01 00:00:00"], 2).unwrap();
        assert_eq!(script.calls(), ["systemd-analyze calendar --iterations=2 -- 'Sun 02:30' '2020-01-01 00:00:00'"]);
        assert_eq!(all, [vec![time("2026-10-25T00:30:00Z"), time("2026-11-01T01:30:00Z")], vec![]]);
        // In UTC there is no second line.
        let text = "Normalized form: *-*-* *:00/10:00\n    Next elapse: Fri 2026-11-27 10:00:00 UTC\n       From now: 38s left\n";
        assert_eq!(parse_elapses(text), [vec![time("2026-11-27T10:00:00Z")]]);
        assert!(elapses(&Script::new(), &[], 3).unwrap().is_empty());
    }

    #[test]
    fn fuzz_timers() {
        phobos_fuzz::target("timers", &[br#"[{"next":1764225000000000,"left":1,"last":0,"unit":"a.timer","activates":"a.service"},{"next":null,"unit":"b.timer"}]"#], |input| {
            drop(parse_timers(input).map(|timers| timers.iter().map(Timer::next).collect::<Vec<_>>()));
        });
    }

    #[test]
    fn fuzz_calendar() {
        let seeds: [&[u8]; 2] = [
            b"Normalized form: x\n    Next elapse: Fri 2026-11-27 10:00:00 UTC\n",
            b"Id=a.service\nStatusText=x\n\nId=b.service\n",
        ];
        phobos_fuzz::target("calendar", &seeds, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            std::hint::black_box((parse_elapses(&text), parse_properties(&text)));
        });
    }
}
