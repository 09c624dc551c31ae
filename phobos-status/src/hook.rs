//! Tells the hooks what has happened since the last time: never on the way of a job, and with no right but a user's own.
//!
//! What was told is remembered in a file. The first time nothing is told, for all of it is old.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use chrono::{DateTime, Utc};
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, Invocation};
use phobos_core::fs::{self, Dir, Durability};
use phobos_core::schema::SchemaVersion;
use phobos_site::hook::{Event, Hook};
use serde::{Deserialize, Serialize};

use crate::digest::Key;
use crate::model::{ABSENT, Job, Kind, Model, Severity, clean, light_name};

/// The most that is read of what was told, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// What was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    #[serde(default)]
    schema_version: SchemaVersion<1>,
    /// When the last run of each job ended, and how.
    jobs: BTreeMap<String, (DateTime<Utc>, u8)>,
    /// What is to be looked at.
    findings: BTreeSet<String>,
}

/// What a hook gets on its standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Told {
    schema_version: SchemaVersion<1>,
    event: Event,
    machine: String,
    /// A sentence for people.
    text: String,
    at: DateTime<Utc>,
    #[serde(flatten)]
    run: Option<RunTold>,
}

/// The run that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct RunTold {
    name: String,
    job: String,
    object: String,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    exit: u8,
    error: String,
}

/// What has happened since `memory`, and what is to be remembered then. Without one nothing has.
pub(crate) fn news(memory: Option<&Memory>, model: &Model) -> (Vec<Told>, Memory) {
    let mut now = Memory::default();
    let mut told = Vec::new();
    let names: BTreeSet<String> = names(model).map(clean).collect();
    for job in &model.jobs {
        let Some(last) = &job.last else { continue };
        let light = light_name(&Key::new(&job.job, &job.object));
        let before = memory.and_then(|memory| memory.jobs.get(&light));
        if memory.is_some() && before.is_none_or(|(end, _)| *end != last.end) {
            let events: &[Event] = match (last.exit, failed_before(before)) {
                (0, true) => &[Event::Resolved, Event::Ok],
                (0, false) => &[Event::Ok],
                // A host that was not there is missed once its copy is stale.
                (ABSENT, _) if job.kind == Kind::Pull => &[],
                _ => &[Event::Failed],
            };
            told.extend(events.iter().map(|event| of_run(*event, job, model)));
        }
        // That a host was not there makes no failure good.
        let exit = if last.exit == ABSENT && failed_before(before) {
            before.map_or(last.exit, |(_, exit)| *exit)
        } else {
            last.exit
        };
        now.jobs.insert(light, (last.end, exit));
    }
    for finding in model.findings.iter().filter(|finding| finding.severity == Severity::Attention) {
        // How long it lasts by now is nothing new.
        let key = without_numbers(&finding.what, &names);
        if memory.is_some_and(|memory| !memory.findings.contains(&key)) {
            let is_overdue = model
                .drives
                .iter()
                .any(|drive| drive.overdue && finding.what.contains(&format!("the drive {} is overdue", drive.name)));
            let event = if is_overdue { Event::Overdue } else { Event::Attention };
            let text = if finding.remedy.is_empty() {
                finding.what.clone()
            } else {
                format!("{}; {}", finding.what, finding.remedy)
            };
            told.push(Told {
                schema_version: SchemaVersion,
                event,
                machine: model.machine.clone(),
                text,
                at: model.at,
                run: None,
            });
        }
        now.findings.insert(key);
    }
    (told, now)
}

fn failed_before(before: Option<&(DateTime<Utc>, u8)>) -> bool {
    before.is_some_and(|(_, exit)| *exit != 0 && *exit != ABSENT)
}

/// What findings may be about.
fn names(model: &Model) -> impl Iterator<Item = &str> {
    let jobs = model.jobs.iter().flat_map(|job| [&job.name, &job.job, &job.object]);
    jobs.chain(model.drives.iter().map(|drive| &drive.name)).map(String::as_str)
}

/// A sentence without its numbers, but for those in `names`: one host is not another.
fn without_numbers(text: &str, names: &BTreeSet<String>) -> String {
    let is_name = |word: &str| names.contains(word.trim_matches(|c: char| c.is_ascii_punctuation()));
    let words = text.split(' ').map(|word| {
        if is_name(word) { word.to_owned() } else { word.chars().filter(|c| !c.is_ascii_digit()).collect() }
    });
    words.collect::<Vec<String>>().join(" ")
}

fn of_run(event: Event, job: &Job, model: &Model) -> Told {
    let run = job.last.as_ref().map(|last| RunTold {
        name: job.name.clone(),
        job: clean(&job.job),
        object: clean(&job.object),
        start: last.start,
        end: last.end,
        exit: last.exit,
        error: last.error.clone(),
    });
    let error = run.as_ref().map(|run| run.error.as_str()).filter(|error| !error.is_empty());
    let text = match (event, error) {
        (Event::Failed, Some(error)) => format!("{} failed: {error}", job.name),
        (Event::Failed, None) => format!("{} failed", job.name),
        (Event::Resolved, _) => format!("{} works again", job.name),
        _ => format!("{} went well", job.name),
    };
    Told { schema_version: SchemaVersion, event, machine: model.machine.clone(), text, at: model.at, run }
}

/// What was told by the file `path`; `None` if there is none, or none that can be understood.
pub(crate) fn remembered(path: &Path) -> Option<Memory> {
    let folder = path.parent().filter(|folder| folder.is_dir())?;
    let read =
        Dir::open(folder).and_then(|folder| folder.read(Path::new(path.file_name().unwrap_or_default()), LONGEST));
    match read {
        Ok(Some(bytes)) => {
            serde_json::from_slice(&bytes).map_err(|error| log::warn!("{} begins anew: {error}", fs::shown(path))).ok()
        }
        Ok(None) => None,
        Err(error) => {
            log::warn!("{}", Chain(&error));
            None
        }
    }
}

/// Remembers what is told, before it is: what a hook makes this process do must not be told for ever.
///
/// # Errors
///
/// When the file cannot be written; what it says is what it said.
pub(crate) fn remember(path: &Path, memory: &Memory) -> io::Result<()> {
    fs::replace(path, &serde_json::to_vec(memory)?, 0o600, Durability::Loose)
}

/// Calls each hook for what it hears; one that fails is a warning, and the others are called all the same.
pub(crate) fn tell(exec: &dyn Exec, hooks: &[Hook], told: &[Told]) {
    for one in told {
        let document = serde_json::to_vec(one).unwrap_or_default();
        let name = one.run.as_ref().map(|run| run.name.as_str());
        for hook in hooks.iter().filter(|hook| hook.hears(one.event, name)) {
            let program = hook.command.program.to_string_lossy();
            let call = Invocation::new(&program).args(&hook.command.args).stdin(document.clone()).limit(hook.limit.0);
            if let Err(error) = exec.run(&call) {
                log::warn!("a hook was not told that {}: {}", one.text, Chain(&error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Machine;
    use chrono::TimeDelta;
    use phobos_core::exec::fake::Script;
    use phobos_site::config::Config;
    use phobos_site::history::Run;

    fn said(told: &[Told]) -> Vec<String> {
        told.iter().map(|one| format!("{:?} {}", one.event, one.text)).collect()
    }

    #[test]
    fn each_thing_is_told_once_and_the_past_not_at_all() {
        let mut machine = Machine::quiet();
        let (told, memory) = news(None, &machine.model());
        assert_eq!(said(&told), [""; 0]);
        let (told, memory) = news(Some(&memory), &machine.model());
        assert_eq!(said(&told), [""; 0]);
        let run = |minutes, exit, error: &str| {
            let start = Machine::empty().now + TimeDelta::minutes(minutes);
            Run { exit, error: error.to_owned(), ..Run::new("pull", "luv", start) }
        };
        machine.add(run(1, 1, "no route"));
        let (told, memory) = news(Some(&memory), &machine.model());
        assert_eq!(said(&told), ["Failed luv failed: no route"]);
        let json = serde_json::to_value(&told[0]).unwrap();
        assert_eq!(
            (&json["event"], &json["exit"], &json["object"], &json["schema_version"]),
            (&"failed".into(), &1.into(), &"luv".into(), &1.into())
        );
        machine.add(run(2, 0, ""));
        let (told, memory) = news(Some(&memory), &machine.model());
        assert_eq!(said(&told), ["Resolved luv works again", "Ok luv went well"]);
        machine.add(run(3, 66, "it is not there"));
        let (told, memory) = news(Some(&memory), &machine.model());
        assert_eq!(said(&told), [""; 0]);
        machine.add(run(4, 0, ""));
        let (told, memory) = news(Some(&memory), &machine.model());
        assert_eq!(said(&told), ["Ok luv went well"]);
        // A drive that becomes overdue, and a disk that becomes full, which it is a little more an hour later.
        let bad = Machine::bad();
        (machine.facts.drives, machine.facts.room) = (bad.facts.drives, bad.facts.room);
        let (told, memory) = news(Some(&memory), &machine.model());
        assert_eq!(said(&told).len(), 2, "{told:?}");
        assert!(
            said(&told)[0].starts_with("Overdue the drive B is overdue")
                && said(&told)[1].starts_with("Attention the backup disk"),
            "{told:?}"
        );
        machine.facts.room.as_mut().unwrap().free -= 7_000_000_000;
        assert_eq!(said(&news(Some(&memory), &machine.model()).0), [""; 0]);
    }

    #[test]
    fn a_failure_is_made_good_however_long_the_host_is_away_meanwhile() {
        let mut machine = Machine::quiet();
        let (_, mut memory) = news(None, &machine.model());
        let mut said_after = |minutes, exit| {
            let start = Machine::empty().now + TimeDelta::minutes(minutes);
            machine.add(Run { exit, ..Run::new("pull", "luv", start) });
            let (told, now) = news(Some(&memory), &machine.model());
            memory = now;
            said(&told)
        };
        assert_eq!(said_after(1, 1), ["Failed luv failed"]);
        assert_eq!((said_after(2, ABSENT), said_after(3, ABSENT)), (vec![], vec![]));
        assert_eq!(said_after(4, 0), ["Resolved luv works again", "Ok luv went well"]);
        assert_eq!(said_after(5, 0), ["Ok luv went well"]);
    }

    #[test]
    fn numbers_pass_and_names_that_have_some_stay() {
        let names = ["pi1", "pi2", "2"].map(str::to_owned).into();
        let key = |text| without_numbers(text, &names);
        assert_eq!(key("pull of pi1 is stale: 3 days"), key("pull of pi1 is stale: 14 days"));
        for (one, other) in
            [("pull of pi1 is stale", "pull of pi2 is stale"), ("the drive 2 is overdue", "the drive 3 is overdue")]
        {
            assert_ne!(key(one), key(other));
        }
        assert_eq!(key("(pi2), 7GB"), "(pi2), GB");
    }

    #[test]
    fn hooks_hear_what_they_are_on_and_one_that_fails_keeps_no_other_from_it() {
        let text = "[[hook]]\non = ['ok']\ncommand = ['/bin/one', 'x']\n[[hook]]\non = ['failed', 'ok']\njobs = ['luv']\ncommand = ['/bin/two']\n\
                    [[hook]]\non = ['overdue']\ncommand = ['/bin/three']\n";
        let hooks = Config::parse(Path::new("x"), text).unwrap().hook;
        let mut machine = Machine::quiet();
        let (_, memory) = news(None, &machine.model());
        let start = machine.now;
        machine.add(Run::new("pull", "luv", start));
        machine.add(Run { exit: 1, ..Run::new("pull", "chew", start) });
        let (told, _) = news(Some(&memory), &machine.model());
        let script = Script::new().fails(1, "no").ok();
        tell(&script, &hooks, &told);
        assert_eq!(script.calls(), ["/bin/one x", "/bin/two"]);
    }

    #[test]
    fn what_was_told_outlasts_the_process_and_what_is_damaged_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("told.json");
        assert_eq!(remembered(&path), None);
        let (_, memory) = news(None, &Machine::bad().model());
        remember(&path, &memory).unwrap();
        assert_eq!(remembered(&path), Some(memory));
        for damaged in ["", "{", "{\"schema_version\":2,\"jobs\":{},\"findings\":[]}"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(remembered(&path), None);
        }
        assert!(remember(Path::new("/proc/none/told.json"), &Memory::default()).is_err());
    }

    #[test]
    fn fuzz_hook_memory() {
        let seed = serde_json::to_vec(&news(None, &Machine::bad().model()).1).unwrap();
        phobos_fuzz::target("hook memory", &[&seed], |bytes| drop(serde_json::from_slice::<Memory>(bytes)));
    }
}
