//! Whether `phobos-status` tells of the jobs what systemd's journal tells of their units.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::{Drive, Nas, Stage};

/// What systemd notes of a unit (sd-messages.h): it starts, it has come to its end, it has failed.
const STARTING: &str = "7d4958e842da4a758f6c1cdc7b36dcc5";
const STARTED: &str = "39f53479d3a045ac8e11786248231fbf";
const FAILED: &str = "be02cf6855d2428ba40df7e9d022f03d";

/// How much later a unit ends than its program, and how roughly clocks are read, at most.
const SLACK: TimeDelta = TimeDelta::seconds(2);

/// What the journal says of a unit's last run, if it has ended, and whether it runs now.
#[derive(Debug, Default)]
struct Noted {
    began: Option<DateTime<Utc>>,
    last: Option<(DateTime<Utc>, DateTime<Utc>, bool)>,
}

/// What is read of phobos-status.
#[derive(Debug, Deserialize)]
struct Told {
    running: Vec<Running>,
    jobs: Vec<Job>,
}

#[derive(Debug, Deserialize)]
struct Running {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Job {
    name: String,
    last: Option<Ended>,
}

#[derive(Debug, Deserialize)]
struct Ended {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    exit: u8,
}

impl<S: Stage> Nas<S> {
    /// Compares what `phobos-status` says of the hosts, of Borg and of `drives` with what systemd has noted of their units since the
    /// boot: which run now, and of the others when and how the last run ended. `ran` is how many have come to an end at least once.
    ///
    /// To be called when nothing is about to begin or to end.
    ///
    /// # Errors
    ///
    /// When they differ.
    pub fn expect_a_true_status(&self, drives: &[&Drive], ran: usize) -> Result<()> {
        let told = self.sh("phobos-status --json")?;
        let told: Told = serde_json::from_str(&told).with_context(|| told.clone())?;
        let journal = self
            .sh("journalctl --sync; journalctl --boot --quiet --output=json --output-fields=UNIT,MESSAGE_ID _PID=1")?;
        let noted = noted(&journal, drives)?;
        let runs: BTreeSet<&str> =
            noted.iter().filter(|(_, unit)| unit.began.is_some()).map(|(name, _)| name.as_str()).collect();
        let shown: BTreeSet<&str> = told.running.iter().map(|running| running.name.as_str()).collect();
        ensure!(shown == runs, "phobos-status says that {shown:?} run, the journal {runs:?}");
        let mut compared = 0;
        for (name, unit) in &noted {
            let Some((began, ended, is_good)) = unit.last else { continue };
            let job = told.jobs.iter().find(|job| job.name == *name).and_then(|job| job.last.as_ref());
            let job = job.with_context(|| format!("phobos-status knows no run of {name}, which ended {ended}"))?;
            let is_within = job.start + SLACK >= began && job.end <= ended + SLACK;
            ensure!(is_within && (job.exit == 0) == is_good, "{name}: {job:?} is not {unit:?}");
            compared += 1;
        }
        ensure!(compared == ran, "{compared} have run: {noted:?}");
        Ok(())
    }
}

/// The units of phobos's jobs in a journal, by what phobos-status calls them.
fn noted(journal: &str, drives: &[&Drive]) -> Result<BTreeMap<String, Noted>> {
    let mut units: BTreeMap<String, Noted> = BTreeMap::new();
    for line in journal.lines() {
        let entry: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let field = |name: &str| entry[name].as_str().unwrap_or_default();
        let Some(name) = name_of(field("UNIT"), drives) else { continue };
        let micros = field("__REALTIME_TIMESTAMP").parse()?;
        let at = DateTime::from_timestamp_micros(micros).context("a time that is none")?;
        let unit = units.entry(name).or_default();
        match field("MESSAGE_ID") {
            STARTING => unit.began = Some(at),
            STARTED | FAILED => {
                // A start that was refused at once has no beginning.
                let began = unit.began.take().unwrap_or(at);
                unit.last = Some((began, at, field("MESSAGE_ID") == STARTED));
            }
            _ => {}
        }
    }
    Ok(units)
}

/// What phobos-status calls the job that this unit runs.
fn name_of(unit: &str, drives: &[&Drive]) -> Option<String> {
    if let Some(drive) = drives.iter().find(|drive| drive.unit() == unit) {
        return Some(format!("drive {}", drive.name));
    }
    let name = unit.strip_suffix(".service")?.strip_prefix("phobos-")?;
    match name.strip_prefix("pull@") {
        Some(host) => Some(host.to_owned()),
        None => ["borgmatic", "borg-check"].contains(&name).then(|| name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_runs_from_its_start_to_its_end() {
        let line = |micros: u32, id: &str, unit: &str| {
            format!(r#"{{"__REALTIME_TIMESTAMP":"{micros}","MESSAGE_ID":"{id}","UNIT":"{unit}","MESSAGE":[1,2]}}"#)
        };
        let (pull, night) = ("phobos-pull@luv.service", "phobos-borgmatic.service");
        let lines = [
            line(1_000_000, STARTING, pull),
            line(1_500_000, "other", pull),
            line(2_000_000, FAILED, pull),
            line(3_000_000, STARTING, night),
            line(4_000_000, STARTED, night),
            line(5_000_000, STARTING, night),
            line(6_000_000, STARTED, "phobos-ns.service"),
        ];
        let units = noted(&lines.join("\n"), &[]).unwrap();
        assert_eq!(units.keys().collect::<Vec<_>>(), ["borgmatic", "luv"]);
        let at = |secs| DateTime::from_timestamp(secs, 0).unwrap();
        assert_eq!((units["luv"].began, units["luv"].last), (None, Some((at(1), at(2), false))));
        assert_eq!((units["borgmatic"].began, units["borgmatic"].last), (Some(at(5)), Some((at(3), at(4), true))));
    }
}
