//! The history of runs: one JSON line per finished or failed run, appended and synced to the disk.
//!
//! A file that has grown large is put aside as `NAME.1`, `NAME.2`, …, never rewritten and never deleted: ten years of a busy
//! machine are some 40 MB.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// At what size the file is put aside, in bytes.
const LARGE: u64 = 8 * 1024 * 1024;

/// How many earlier runs the expected end of a run is reckoned from.
const RUNS_FOR_EXPECTATION: usize = 5;

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The job's name, such as `ext`.
    pub job: String,
    /// What it worked on, such as the drive's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// When it began.
    pub start: DateTime<Utc>,
    /// When it ended.
    pub end: DateTime<Utc>,
    /// Its exit code.
    pub exit: u8,
    /// What went wrong, on one line; empty for a good run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Who gave the exit code, where it was not phobos itself: the program, or `signal`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// How long it waited for locks, in seconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waited_secs: u64,
    /// How many bytes it copied, where it counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// The file that keeps the history.
#[derive(Debug, Clone)]
pub struct History {
    path: PathBuf,
}

/// Why the history cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} the history {}", path.display())]
pub struct HistoryError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Run {
    /// A run that began at `start`, and as good as ended at once and well.
    pub fn new(job: &str, object: &str, start: DateTime<Utc>) -> Self {
        Self {
            job: job.to_owned(),
            object: object.to_owned(),
            start,
            end: start,
            exit: 0,
            error: String::new(),
            origin: String::new(),
            waited_secs: 0,
            bytes: None,
        }
    }
}

impl History {
    /// The history kept in the file `path`, which may not exist yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Appends `run` and waits until the disk has it.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; a line that was written in part is closed off by the next append.
    pub fn append(&self, run: &Run) -> Result<(), HistoryError> {
        self.try_append(run).map_err(|source| HistoryError { verb: "write", path: self.path.clone(), source })
    }

    /// Reads all runs, oldest first; a line that is no run, such as a torn last one, is left out with a warning.
    ///
    /// # Errors
    ///
    /// When the file exists and cannot be read.
    pub fn read(&self) -> Result<Vec<Run>, HistoryError> {
        let mut runs = Vec::new();
        for number in 1.. {
            match self.read_file(&self.aside(number))? {
                Some(text) => parse(&text, &mut runs),
                None => break,
            }
        }
        parse(&self.read_file(&self.path)?.unwrap_or_default(), &mut runs);
        Ok(runs)
    }

    /// When a run of `job` on `object` that begins now should end: the median of its last good runs; `None` if it has
    /// none, or if the history cannot be read.
    pub fn expected_end(&self, job: &str, object: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let runs = self.read().unwrap_or_else(|error| {
            log::warn!("{}", crate::report::Chain(&error));
            Vec::new()
        });
        let good = runs.iter().rev().filter(|run| run.job == job && run.object == object && run.exit == 0);
        let mut lengths: Vec<TimeDelta> = good.take(RUNS_FOR_EXPECTATION).map(|run| run.end - run.start).collect();
        lengths.sort_unstable();
        lengths.get(lengths.len() / 2).map(|length| now + *length)
    }

    /// Opens the file and locks it; one that was put aside meanwhile is opened anew.
    fn open(&self) -> io::Result<File> {
        loop {
            let file = OpenOptions::new().create(true).append(true).read(true).mode(0o644).open(&self.path)?;
            fs2::FileExt::lock_exclusive(&file)?;
            match fs::metadata(&self.path) {
                Ok(current) if current.ino() == file.metadata()?.ino() => return Ok(file),
                _ => {}
            }
        }
    }

    /// Puts the file aside under the first free number; its lock is held.
    fn put_aside(&self) -> io::Result<()> {
        let mut number = 1;
        while self.aside(number).exists() {
            number += 1;
        }
        fs::rename(&self.path, self.aside(number))
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn read_file(&self, path: &Path) -> Result<Option<String>, HistoryError> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HistoryError { verb: "read", path: self.path.clone(), source }),
        }
    }

    fn try_append(&self, run: &Run) -> io::Result<()> {
        self.path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let mut file = self.open()?;
        if file.metadata()?.len() >= LARGE {
            self.put_aside()?;
            file = self.open()?;
        }
        let mut line = serde_json::to_vec(run)?;
        line.push(b'\n');
        if is_torn(&mut file)? {
            line.insert(0, b'\n');
        }
        file.write_all(&line)?;
        file.sync_all()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Whether the last line has no end, because its writer was cut off.
fn is_torn(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}

/// Adds the runs in a history's text to `runs`.
fn parse(text: &str, runs: &mut Vec<Run>) {
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_str(line) {
            Ok(run) => runs.push(run),
            Err(error) => log::warn!("line {} of the history is no run: {error}", index + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(job: &str, minutes: i64, exit: u8) -> Run {
        let start = DateTime::UNIX_EPOCH;
        let end = start + TimeDelta::minutes(minutes);
        Run { end, exit, ..Run::new(job, "A", start) }
    }

    #[test]
    fn what_is_appended_is_read_and_a_torn_line_loses_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/history.jsonl");
        let history = History::new(&path);
        assert_eq!(history.read().unwrap(), []);
        history.append(&run("ext", 1, 0)).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"job\":\"ex").unwrap();
        history.append(&run("ext", 2, 1)).unwrap();
        assert_eq!(history.read().unwrap(), [run("ext", 1, 0), run("ext", 2, 1)]);
    }

    #[test]
    fn the_expected_end_is_the_median_of_good_runs() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::new(&folder.path().join("history.jsonl"));
        assert_eq!(history.expected_end("ext", "A", DateTime::UNIX_EPOCH), None);
        for (minutes, exit) in [(10, 0), (900, 0), (20, 0), (0, 1)] {
            history.append(&run("ext", minutes, exit)).unwrap();
        }
        let expected = DateTime::UNIX_EPOCH + TimeDelta::minutes(20);
        assert_eq!(history.expected_end("ext", "A", DateTime::UNIX_EPOCH), Some(expected));
        assert_eq!(history.expected_end("ext", "B", DateTime::UNIX_EPOCH), None);
    }

    #[test]
    fn a_large_file_is_put_aside_and_no_line_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::new(&folder.path().join("history.jsonl"));
        let long = Run { error: "x".repeat(usize::try_from(LARGE).unwrap() / 4), ..run("ext", 1, 1) };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..4).for_each(|_| history.append(&long).unwrap()));
            }
        });
        assert_eq!(history.read().unwrap().len(), 12);
        assert!(folder.path().join("history.jsonl.2").exists());
    }
}
