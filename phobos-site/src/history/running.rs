//! Runs under way: a record each beside the history, so that one that is killed does not miss in it.
//!
//! A killed process, or a machine that stopped, leaves its record behind. Whoever begins the next job, whichever it is, writes
//! such a run into the history, under the lock of all who write there: once, whoever else begins at the same time.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use phobos_core::error::Chain;
use phobos_core::fs::{Dir, Durability, FsError};
use phobos_core::process::{Process, boot_id};
use phobos_core::schema::SchemaVersion;
use serde::{Deserialize, Serialize};

use super::{FILES_FOR_EXPECTATION, FileError, History, HistoryError, Run};

/// The folder of the records, beside the history.
const FOLDER: &str = "running";

/// The most that a record may have, in bytes.
const LIMIT: u64 = 64 * 1024;

/// What stands for the exit code of a run that was killed: 128 and the number of SIGKILL.
const KILLED: u8 = 137;

/// How many records this process has written.
static RECORDS: AtomicU64 = AtomicU64::new(0);

/// A run that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun<'a> {
    /// The job's name in the history.
    pub job: &'a str,
    /// What it works on.
    pub object: &'a str,
    /// Its name on the light.
    pub light: &'a str,
    /// Whether the light's board says that it is at work.
    pub is_on_light: bool,
    /// When it began.
    pub start: DateTime<Utc>,
}

/// A run that somebody is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// The job's name in the history.
    pub job: String,
    /// What it works on.
    pub object: String,
    /// The job's name on the light and in the records of locks.
    pub light: String,
    /// When it began, or got its locks.
    pub start: DateTime<Utc>,
    /// The number of its process.
    pub pid: u32,
}

/// A run under way, as others read of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The version of this record.
    #[serde(default)]
    schema_version: SchemaVersion<1>,
    job: String,
    object: String,
    light: String,
    is_on_light: bool,
    start: DateTime<Utc>,
    boot: String,
    process: Process,
}

/// Keeps the record of a run under way; dropping it, which comes after the run is in the history, removes it.
#[derive(Debug)]
#[must_use = "dropping it says that the run has ended"]
pub struct Running {
    folder: Dir,
    name: PathBuf,
    record: Record,
}

/// A run that was found to have been killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killed {
    /// The run, as it is in the history now.
    pub run: Run,
    /// The job's name on the light.
    pub light: String,
    /// Whether the light's board says that it was at work, and so knows of its end.
    pub is_on_light: bool,
}

impl History {
    /// Says that a run is under way in this process.
    ///
    /// # Errors
    ///
    /// When the record cannot be written; if this process is killed, nobody will know of the run.
    pub fn begin(&self, begun: &Begun<'_>) -> Result<Running, HistoryError> {
        let make = || -> Result<Running, FileError> {
            let folder = self.folder()?.make_dir(Path::new(FOLDER), 0o755)?;
            let process = Process::own()?;
            let number = RECORDS.fetch_add(1, Ordering::Relaxed);
            // Numbers of processes, and their times, come again with the machine's next start.
            let name = format!("{}-{}-{number}.json", begun.start.timestamp_micros(), process.pid).into();
            let record = Record {
                schema_version: SchemaVersion,
                job: begun.job.to_owned(),
                object: begun.object.to_owned(),
                light: begun.light.to_owned(),
                is_on_light: begun.is_on_light,
                start: begun.start,
                boot: boot_id()?,
                process,
            };
            let running = Running { folder, name, record };
            running.write()?;
            Ok(running)
        };
        make().map_err(|source| HistoryError {
            verb: "say that a run is under way beside",
            path: self.path.clone(),
            source,
        })
    }

    /// Writes the runs that were killed into the history, and returns them: each once, whoever does it at the same time.
    ///
    /// # Errors
    ///
    /// When they cannot be read or written; what is not in the history is found by the next call.
    pub fn settle(&self) -> Result<Vec<Killed>, HistoryError> {
        self.try_settle().map_err(|source| HistoryError { verb: "write", path: self.path.clone(), source })
    }

    /// The runs that are under way now, the first one first. Takes no lock and changes nothing.
    ///
    /// # Errors
    ///
    /// When the records are there and cannot be read.
    pub fn under_way(&self) -> Result<Vec<UnderWay>, HistoryError> {
        self.try_under_way().map_err(|source| HistoryError { verb: "read", path: self.path.clone(), source })
    }

    fn try_under_way(&self) -> Result<Vec<UnderWay>, FileError> {
        let folder = match Dir::open(&self.path.with_file_name(FOLDER)) {
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            folder => folder?,
        };
        let boot = boot_id()?;
        let mut runs = Vec::new();
        for entry in folder.entries()? {
            let name = PathBuf::from(entry.name);
            if name.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let Some(bytes) = folder.read(&name, LIMIT)? else { continue };
            // What is no record is told by whoever begins the next job.
            let record = serde_json::from_slice::<Record>(&bytes).ok().filter(|record| !record.is_dead(&boot));
            runs.extend(record.map(|record| UnderWay {
                job: record.job,
                object: record.object,
                light: record.light,
                start: record.start,
                pid: record.process.pid,
            }));
        }
        runs.sort_by_key(|run| run.start);
        Ok(runs)
    }

    fn try_settle(&self) -> Result<Vec<Killed>, FileError> {
        let above = match Dir::open(self.path.parent().unwrap_or(Path::new("."))) {
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            above => above?,
        };
        let folder = match above.open_dir(Path::new(FOLDER)) {
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            folder => folder?,
        };
        let boot = boot_id()?;
        if dead(&folder, &boot)?.is_empty() {
            return Ok(Vec::new());
        }
        // Without the lock somebody else might be doing the same.
        let Some(lock) = self.lock(&above) else { return Ok(Vec::new()) };
        let mut killed = Vec::new();
        let known = self.runs(FILES_FOR_EXPECTATION, None).map_err(|error| error.source)?;
        for (name, record) in dead(&folder, &boot)? {
            if let Some(found) = record.map(|record| record.killed(&boot)) {
                let Run { job, object, start, .. } = &found.run;
                // It was killed after it had said how it ended, or whoever found it was.
                let is_known = |run: &Run| (&run.job, &run.object, &run.start) == (job, object, start);
                if !known.iter().any(is_known) {
                    self.append_to(&above, Some(&lock), &found.run)?;
                    killed.push(found);
                }
            }
            folder.remove(&name)?;
        }
        Ok(killed)
    }
}

impl Running {
    /// Says that the run began at `start`: it got its locks then.
    pub(crate) fn began_at(&mut self, start: DateTime<Utc>) -> Result<(), FsError> {
        self.record.start = start;
        self.write()
    }

    fn write(&self) -> Result<(), FsError> {
        let text = serde_json::to_vec(&self.record).map_err(|error| FsError::Io {
            action: "write",
            path: self.folder.path().join(&self.name),
            source: error.into(),
        })?;
        // A machine that stops a moment later takes the run with it, and hardly anything was done.
        self.folder.replace(&self.name, &text, 0o644, Durability::Loose)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.folder.remove(&self.name) {
            log::debug!("{}", Chain(&error));
        }
    }
}

impl Record {
    fn is_dead(&self, boot: &str) -> bool {
        self.boot != boot || !self.process.is_alive()
    }

    /// The run that it was. When it ended nobody knows.
    fn killed(self, boot: &str) -> Killed {
        let is_of_another_boot = self.boot != boot;
        let how = if is_of_another_boot { ": the machine stopped" } else { "" };
        let error = format!("killed while it was at work{how}");
        let run =
            Run { exit: KILLED, origin: "signal".to_owned(), error, ..Run::new(&self.job, &self.object, self.start) };
        // What the board says ends with the machine.
        Killed { run, light: self.light, is_on_light: self.is_on_light && !is_of_another_boot }
    }
}

/// The records of runs that nobody is at any more; one that cannot be understood is told, and nothing is known of it.
fn dead(folder: &Dir, boot: &str) -> Result<Vec<(PathBuf, Option<Record>)>, FsError> {
    let mut found = Vec::new();
    for entry in folder.entries()? {
        let name = PathBuf::from(entry.name);
        // Everything else is still being written.
        if name.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let Some(bytes) = folder.read(&name, LIMIT)? else { continue };
        match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.is_dead(boot) => found.push((name, Some(record))),
            Ok(_) => {}
            Err(error) => {
                log::warn!("{} is no record of a run: {error}", folder.path().join(&name).display());
                found.push((name, None));
            }
        }
    }
    Ok(found)
}

fn is_missing(error: &FsError) -> bool {
    matches!(error, FsError::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const START: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn history() -> (tempfile::TempDir, History) {
        let folder = tempfile::tempdir().unwrap();
        let history = History::new(&folder.path().join("phobos/history.jsonl"));
        (folder, history)
    }

    fn record(job: &str) -> Record {
        let [job, object, light] = [job, "A", "ext-A"].map(str::to_owned);
        Record {
            schema_version: SchemaVersion,
            job,
            object,
            light,
            is_on_light: true,
            start: START,
            boot: boot_id().unwrap(),
            process: Process { start: 1, ..Process::own().unwrap() },
        }
    }

    /// Leaves a record as a killed process does.
    fn leave(history: &History, record: &Record) -> PathBuf {
        let folder = history.path.parent().unwrap().join(FOLDER);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}.json", record.job));
        fs::write(&path, serde_json::to_vec(record).unwrap()).unwrap();
        path
    }

    fn folder_of(history: &History) -> PathBuf {
        history.path.parent().unwrap().join(FOLDER)
    }

    fn left(history: &History) -> usize {
        fs::read_dir(folder_of(history)).unwrap().count()
    }

    fn told(history: &History) -> Vec<(String, u8, String)> {
        history.read().unwrap().into_iter().map(|run| (run.job, run.exit, run.error)).collect()
    }

    #[test]
    fn a_run_that_ended_leaves_nothing_and_one_under_way_is_left_alone() {
        let (_folder, history) = history();
        assert_eq!(history.settle().unwrap(), []);
        let begun = Begun { job: "ext", object: "A", light: "ext-A", is_on_light: true, start: START };
        let mut running = history.begin(&begun).unwrap();
        let later = START + chrono::TimeDelta::seconds(1);
        running.began_at(later).unwrap();
        let written = fs::read(running.folder.path().join(&running.name)).unwrap();
        assert_eq!(serde_json::from_slice::<Record>(&written).unwrap().start, later);
        assert_eq!((history.settle().unwrap(), left(&history)), (vec![], 1));
        leave(&history, &Record { process: Process { start: 1, ..Process::own().unwrap() }, ..record("dead") });
        let under_way = history.under_way().unwrap();
        assert_eq!(under_way.iter().map(|run| (run.job.as_str(), run.start)).collect::<Vec<_>>(), [("ext", later)]);
        fs::remove_file(folder_of(&history).join("dead.json")).unwrap();
        drop(running);
        assert_eq!(history.under_way().unwrap(), []);
        assert_eq!((left(&history), told(&history)), (0, vec![]));
    }

    #[test]
    fn a_run_that_was_killed_is_in_the_history_once() {
        let (_folder, history) = history();
        leave(&history, &record("ext"));
        leave(&history, &Record { boot: "another".to_owned(), process: Process::own().unwrap(), ..record("night") });
        let mut killed = history.settle().unwrap();
        killed.sort_by(|one, other| one.run.job.cmp(&other.run.job));
        let said: Vec<_> = killed.iter().map(|killed| (killed.light.as_str(), killed.is_on_light)).collect();
        assert_eq!(said, [("ext-A", true), ("ext-A", false)]);
        assert_eq!((history.settle().unwrap(), left(&history)), (vec![], 0));
        assert!(history.read().unwrap().iter().all(|run| run.origin == "signal"));
        let mut runs = told(&history);
        runs.sort();
        let killed = |job: &str, how: &str| (job.to_owned(), 137, format!("killed while it was at work{how}"));
        assert_eq!(runs, [killed("ext", ""), killed("night", ": the machine stopped")]);
        // Whoever found it was killed before the record was removed, or the run was killed after it had said how it ended.
        leave(&history, &record("ext"));
        assert_eq!((history.settle().unwrap(), left(&history), told(&history).len()), (vec![], 0, 2));
    }

    #[test]
    fn of_many_who_find_a_killed_run_at_once_one_tells() {
        let (_folder, history) = history();
        for round in 0..20 {
            leave(&history, &Record { start: START + chrono::TimeDelta::seconds(round), ..record("ext") });
            let found: usize = std::thread::scope(|scope| {
                let all: Vec<_> = (0..4).map(|_| scope.spawn(|| history.settle().unwrap().len())).collect();
                all.into_iter().map(|one| one.join().unwrap()).sum()
            });
            assert_eq!(found, 1, "round {round}");
        }
        assert_eq!(told(&history).len(), 20);
    }

    #[test]
    fn what_is_no_record_goes_and_without_the_lock_nothing_is_done() {
        let (_folder, history) = history();
        let history = History { patience: std::time::Duration::from_millis(10), ..history };
        let path = leave(&history, &record("ext"));
        let folder = history.folder().unwrap();
        let lock = history.lock(&folder).unwrap();
        assert_eq!((history.settle().unwrap(), left(&history), told(&history)), (vec![], 1, vec![]));
        drop(lock);
        fs::write(path, "half").unwrap();
        assert_eq!((history.settle().unwrap(), left(&history), told(&history)), (vec![], 0, vec![]));
    }

    #[test]
    fn where_nothing_ever_ran_nothing_is_found_and_what_cannot_be_looked_at_is_told() {
        let (folder, history) = history();
        history.append(&Run::new("ext", "A", START)).unwrap();
        assert_eq!(history.settle().unwrap(), []);
        fs::write(folder.path().join("phobos").join(FOLDER), "").unwrap();
        assert!(history.settle().is_err());
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(History::new(&folder.path().join("file/history.jsonl")).settle().is_err());
    }

    #[test]
    fn fuzz_running_record() {
        phobos_fuzz::target("running record", &[&serde_json::to_vec(&record("ext")).unwrap()], |bytes| {
            drop(serde_json::from_slice::<Record>(bytes));
        });
    }
}
