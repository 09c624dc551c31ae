//! The jobs that are known: from the history, the timers, the configured hosts and the drives; and what is planned of them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use phobos_site::drives;
use phobos_site::history::Run;

use super::data::{Ended, Job, Kind, Running, Space};
use super::plan::{self, Planned};
use super::usual::Usual;
use super::words::name;
use crate::digest::{Key, PULL};
use crate::facts::{Claim, Facts, Work, mirror_claims, pull_claims};
use crate::zone::Zone;

/// For how long a job is shown that nothing plans and that does not run any more.
const REMEMBERED: TimeDelta = TimeDelta::days(100);

pub(super) fn kind(key: &Key, claims: &[Claim]) -> Kind {
    match key.job.as_str() {
        PULL => Kind::Pull,
        drives::JOB => Kind::Drive,
        job if job.contains("borg") || claims.iter().any(|claim| claim.lock == "repository") => Kind::Borg,
        _ => Kind::Other,
    }
}

/// What is known of a job's plan.
#[derive(Debug, Clone, Default)]
struct Plan {
    claims: Vec<Claim>,
    unit: Option<String>,
    moments: BTreeSet<DateTime<Utc>>,
}

/// The jobs that timers start, and the hosts of the configuration.
fn plans(facts: &Facts) -> BTreeMap<Key, Plan> {
    let mut plans: BTreeMap<Key, Plan> = BTreeMap::new();
    for host in &facts.hosts {
        plans.entry(Key::new(PULL, host)).or_default().claims = pull_claims(host);
    }
    for timer in &facts.timers {
        let mut add = |key: Key, claims: Vec<Claim>| {
            let plan = plans.entry(key).or_default();
            plan.claims = claims;
            plan.unit.get_or_insert_with(|| timer.activates.clone());
            plan.moments.extend(&timer.planned);
        };
        match &timer.work {
            Work::Job { key, claims } => add(key.clone(), claims.clone()),
            Work::Pulls(named) => {
                let hosts = if named.is_empty() { &facts.hosts } else { named };
                for host in hosts {
                    add(Key::new(PULL, host), pull_claims(host));
                }
            }
        }
    }
    plans
}

pub(super) fn all(facts: &Facts, now: DateTime<Utc>, zone: &Zone) -> Vec<Job> {
    let plans = plans(facts);
    let mut keys: BTreeSet<Key> = plans.keys().cloned().collect();
    let is_remembered = |run: &Run| now.signed_duration_since(run.end) < REMEMBERED;
    let past = &facts.past.jobs;
    keys.extend(past.iter().filter(|(_, track)| is_remembered(&track.last)).map(|(key, _)| key.clone()));
    // However long ago: a backup that nobody makes any more is never forgotten.
    let newest = newest_backup(facts, &plans);
    keys.extend(newest.clone());
    keys.extend(facts.under_way.iter().map(|run| Key::new(&run.job, &run.object)));
    keys.extend(facts.drives.iter().map(|drive| Key::new(drives::JOB, &drive.name)));
    let mut jobs: Vec<Job> = keys
        .into_iter()
        .map(|key| {
            let plan = plans.get(&key);
            let track = past.get(&key);
            let claims = plan.map(|plan| plan.claims.clone()).unwrap_or_default();
            let kind = kind(&key, &claims);
            let claims = if kind == Kind::Drive { mirror_claims() } else { claims };
            let good: Vec<_> = track.map(|track| track.good.iter().copied().collect()).unwrap_or_default();
            let usual = Usual::of(&good, zone);
            let last_good = track.and_then(|track| track.last_good()).map(|run| run.end);
            let is_planned = plan.is_some();
            let is_expected = is_planned || newest.as_ref() == Some(&key);
            let space = facts.spaces.iter().flatten().find(|space| kind == Kind::Pull && space.host == key.object);
            Job {
                name: name(&key),
                kind,
                last: track.map(|track| Ended::from(&track.last)),
                late: is_expected && kind != Kind::Drive && is_late(last_good, usual.as_ref(), now),
                last_good,
                usual,
                next: plan.and_then(|plan| plan.moments.first().copied()),
                space: space.map(Space::from),
                is_planned,
                unit: plan.and_then(|plan| plan.unit.clone()),
                claims,
                recent: track.map(|track| track.recent.iter().map(Ended::from).collect()).unwrap_or_default(),
                job: key.job,
                object: key.object,
            }
        })
        .collect();
    jobs.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
    jobs
}

/// Of Borg's jobs that one which went well last. Others may have had other names, or be checks.
fn newest_backup(facts: &Facts, plans: &BTreeMap<Key, Plan>) -> Option<Key> {
    let of_borg =
        |key: &Key| kind(key, plans.get(key).map(|plan| plan.claims.as_slice()).unwrap_or_default()) == Kind::Borg;
    let all = facts.past.jobs.iter().filter(|(key, _)| of_borg(key));
    let good = all.filter_map(|(key, track)| Some((track.last_good()?.end, key)));
    good.max().map(|(_, key)| key.clone())
}

/// Whether a job that runs every so often has missed its time twice.
fn is_late(last_good: Option<DateTime<Utc>>, usual: Option<&Usual>, now: DateTime<Utc>) -> bool {
    let limit = usual.and_then(Usual::every).and_then(|every| every.checked_mul(2)?.checked_add(&TimeDelta::hours(1)));
    let age = last_good.map(|good| now.signed_duration_since(good));
    age.zip(limit).is_some_and(|(age, limit)| age > limit)
}

/// What goes on and what the timers plan until `end`.
pub(super) fn planned(
    facts: &Facts,
    jobs: &[Job],
    running: &[Running],
    now: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Vec<Planned> {
    let plans = plans(facts);
    let mut all = Vec::new();
    for run in running.iter().filter(|run| run.waits_for.is_empty()) {
        let until = run.until.filter(|until| *until > now);
        let length = until.map_or(plan::UNKNOWN, |until| until.signed_duration_since(now));
        all.push(Planned::new(&run.name, now, length, run.claims.clone()));
    }
    for job in jobs {
        let Some(plan) = plans.get(&Key::new(&job.job, &job.object)) else { continue };
        let length = job.usual.as_ref().map_or(plan::UNKNOWN, Usual::most);
        for moment in plan.moments.iter().filter(|moment| (now..=end).contains(*moment)) {
            all.push(Planned::new(&job.name, *moment, length, job.claims.clone()));
        }
    }
    plan::settle(all)
}

/// How long a mirror takes, by the slowest of the drives.
pub(super) fn mirror_length(jobs: &[Job]) -> Option<TimeDelta> {
    jobs.iter().filter(|job| job.kind == Kind::Drive).filter_map(|job| job.usual.as_ref()).map(Usual::most).max()
}
