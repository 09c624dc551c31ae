//! How the machine stands: data that every screen is drawn from. Pure: the facts, the moment and the time zone come from outside.
//!
//! Whatever was read from outside is cleaned here of what a terminal would obey, and cut to what can be read.

mod data;
mod findings;
mod jobs;
mod plan;
mod usual;
mod words;

use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::schema::SchemaVersion;
use phobos_site::led;
use phobos_site::lock::Mode;
use phobos_site::rotation;

use crate::digest::Key;
use crate::facts::{Claim, Facts, Letter};
use crate::zone::Zone;

pub(crate) use data::{Drive, Ended, Job, Kind, Light, Mail, Model, Room, Running, Severity, Space, Wait};
pub(crate) use findings::ABSENT;
pub(crate) use plan::{Gap, Planned};
pub(crate) use usual::{DAY, Usual};

pub(crate) use words::{clean, light_name};

use words::name;

impl Model {
    /// How the machine of these facts stands at `now`; its plan goes so far `ahead`.
    pub(crate) fn new(facts: &Facts, now: DateTime<Utc>, ahead: TimeDelta, zone: Zone) -> Self {
        let jobs = jobs::all(facts, now, &zone);
        let running = running(facts, &jobs);
        let standings = rotation::judge(facts.drives.clone(), facts.overdue, now);
        let drives: Vec<Drive> = standings.iter().map(Drive::from).collect();
        let shown = led::choose(&facts.board);
        let end = now.checked_add_signed(ahead).unwrap_or(now);
        let planned = jobs::planned(facts, &jobs, &running, now, end);
        let has_drives = !facts.drives.is_empty() || jobs.iter().any(|job| job.kind == Kind::Drive);
        let best_time = has_drives.then(|| plan::best_time(&planned, jobs::mirror_length(&jobs), now, end)).flatten();
        let mut model = Self {
            schema_version: SchemaVersion,
            machine: clean(&facts.machine),
            at: now,
            state: Severity::Ok,
            findings: Vec::new(),
            room: facts.room.map(|room| Room {
                full_by: full_by(room.free, &drives, now),
                used: room.used,
                free: room.free,
            }),
            drives,
            attention: findings::attention_of(&standings),
            mail: facts.letters.as_deref().map(mail),
            light: Light { state: shown.state, job: shown.job.as_deref().map(clean), text: clean(&shown.text) },
            unseen: facts.unseen.clone(),
            running,
            jobs,
            planned,
            best_time,
            zone,
        };
        model.findings = findings::all(facts, &model);
        model.state = model.findings.first().map_or(Severity::Ok, |worst| worst.severity);
        model
    }

    /// The jobs of one kind.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(move |job| job.kind == kind)
    }
}

fn running(facts: &Facts, jobs: &[Job]) -> Vec<Running> {
    let of = |pid: u32, light: &str| {
        let held = facts.locks.iter().flat_map(|lock| lock.holders.iter().chain(&lock.waiters));
        held.filter(|holder| holder.pid == pid && holder.job == light).collect::<Vec<_>>()
    };
    let known = |key: &Key| jobs.iter().find(|job| (&job.job, &job.object) == (&key.job, &key.object));
    let mut running: Vec<Running> = facts
        .under_way
        .iter()
        .map(|run| {
            let key = Key::new(&run.job, &run.object);
            let records = of(run.pid, &run.light);
            let job = known(&key);
            let waits_for = waits(facts, run.pid, &run.light);
            let usual = job.and_then(|job| job.usual.as_ref()).map(Usual::length);
            let unit = records.iter().find_map(|holder| holder.unit.as_deref());
            Running {
                name: name(&key),
                kind: job.map_or_else(|| jobs::kind(&key, &[]), |job| job.kind),
                since: run.start,
                until: records
                    .iter()
                    .filter_map(|holder| holder.until)
                    .max()
                    .or_else(|| usual.and_then(|usual| run.start.checked_add_signed(usual))),
                progress: unit.and_then(|unit| facts.progress.get(unit)).map(|text| clean(text)).unwrap_or_default(),
                waits_for,
                claims: held(facts, run.pid),
            }
        })
        .collect();
    // Whoever holds a lock without being a job: a command under `phobos-ns exec --lock`.
    for holder in facts.locks.iter().flat_map(|lock| &lock.holders) {
        let is_job = facts.under_way.iter().any(|run| run.pid == holder.pid);
        let name = clean(&format!("{} (pid {})", holder.job, holder.pid));
        if !is_job && !running.iter().any(|run| run.name == name) {
            running.push(Running {
                name,
                kind: Kind::Other,
                since: holder.since,
                until: holder.until,
                progress: String::new(),
                waits_for: waits(facts, holder.pid, &holder.job),
                claims: held(facts, holder.pid),
            });
        }
    }
    running.sort_by(|one, other| (one.since, &one.name).cmp(&(other.since, &other.name)));
    running
}

/// When so much more is written, at the rate at which the drives became fuller: what is on them is the repository.
fn full_by(free: u64, drives: &[Drive], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let last = drives.iter().filter(|drive| drive.grew.is_some()).max_by_key(|drive| drive.mirrored)?;
    let (bytes, seconds) = last.grew?;
    let left = i128::from(free).checked_mul(i128::from(seconds))?.checked_div(i128::from(bytes))?;
    now.checked_add_signed(TimeDelta::try_seconds(i64::try_from(left).ok()?)?)
}

/// Which locks a process holds.
fn held(facts: &Facts, pid: u32) -> Vec<Claim> {
    let held = facts.locks.iter().flat_map(|lock| lock.holders.iter().map(move |holder| (lock, holder)));
    let held = held.filter(|(_, holder)| holder.pid == pid);
    held.map(|(lock, holder)| Claim { lock: lock.name.clone(), shared: holder.mode == Mode::Shared }).collect()
}

/// For what a job waits.
fn waits(facts: &Facts, pid: u32, light: &str) -> Vec<Wait> {
    let mut waits = Vec::new();
    for lock in &facts.locks {
        let Some(waiter) = lock.waiters.iter().find(|waiter| waiter.pid == pid && waiter.job == light) else {
            continue;
        };
        waits.push(Wait {
            lock: clean(&lock.name),
            holders: lock.holders.iter().map(|holder| clean(&holder.job)).collect(),
            since: waiter.since,
            until: lock.holders.iter().filter_map(|holder| holder.until).max(),
        });
    }
    waits
}

fn mail(letters: &[Letter]) -> Mail {
    let (set_aside, waiting): (Vec<_>, Vec<_>) = letters.iter().partition(|letter| letter.state == "set-aside");
    let oldest = letters.iter().min_by_key(|letter| (letter.written.is_none(), letter.written));
    Mail {
        waiting: waiting.len(),
        set_aside: set_aside.len(),
        oldest: oldest.and_then(|letter| letter.written),
        reason: oldest.and_then(|letter| letter.reason.as_deref()).map(clean).unwrap_or_default(),
    }
}
