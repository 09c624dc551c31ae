//! The history of runs: one JSON line per finished or failed run, appended and synced to the disk.
//!
//! A file that has grown large is put aside as `NAME.1`, `NAME.2`, …, never rewritten and never deleted: ten years of a busy
//! machine are some 40 MB. Reading takes no lock and needs no right to write. Writing takes one in a file of its own
//! (`NAME.lock`), which nobody else can open, and not for long: a run is told of without it rather than not at all.
//!
//! A run under way has a record of its own, so that one that is killed gets its line from whoever comes next.
//!
//! The lines are in the order in which the runs ended, whatever the clock said then; a run whose times cannot be true is
//! left out of what is reckoned.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

mod brief;
mod running;
mod time;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::error::Chain;
use phobos_core::flock;
use phobos_core::fs::make_shared;
use phobos_core::fs::{Dir, FsError};
use phobos_core::human;
use phobos_core::schema::SchemaVersion;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

pub use brief::Brief;
pub use running::{Begun, Killed, Running, UnderWay};
use time::{moment, utc};

/// At what size the file is put aside, in bytes.
const LARGE: u64 = 8 * 1024 * 1024;

/// How many earlier runs the expected end of a run is reckoned from.
const RUNS_FOR_EXPECTATION: usize = 5;

/// In how many files they are looked for: some 100,000 runs, which take a moment to read.
const FILES_FOR_EXPECTATION: usize = 2;

/// How much of a file is read at once, in bytes.
const BUFFER: usize = 256 * 1024;

/// How long to wait for another run that is written; each takes a moment.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// The longest line that is read, in bytes: a file that a power cut has filled with anything must not fill the memory too.
const LONGEST_LINE: u64 = 4 * 1024 * 1024;

/// No run takes longer, by a clock that was right all the time.
const LONGEST_RUN: TimeDelta = TimeDelta::days(31);

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The version of this line.
    #[serde(default)]
    pub schema_version: SchemaVersion<1>,
    /// The job's name, such as `ext`.
    pub job: String,
    /// What it worked on, such as the drive's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// When it began.
    #[serde(deserialize_with = "moment")]
    pub start: DateTime<Utc>,
    /// When it ended.
    #[serde(deserialize_with = "moment")]
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
    /// How long to wait for another run that is written.
    patience: Duration,
}

/// Why the history cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} the history {}", path.display())]
pub struct HistoryError {
    verb: &'static str,
    path: PathBuf,
    source: FileError,
}

/// What the system said.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum FileError {
    Io(#[from] io::Error),
    Fs(#[from] FsError),
}

impl Run {
    /// A run that began at `start`, and as good as ended at once and well.
    pub fn new(job: &str, object: &str, start: DateTime<Utc>) -> Self {
        Self {
            schema_version: SchemaVersion,
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

    /// How long it was at work, the wait for locks left out; `None` if its times cannot be true, because the clock was wrong
    /// when it began or was set while it ran.
    pub fn length(&self) -> Option<TimeDelta> {
        length(self.start, self.end, self.waited_secs)
    }
}

impl History {
    /// The history kept in the file `path`, which may not exist yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), patience: LOCK_LIMIT }
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
        self.runs(usize::MAX, None)
    }

    /// The same of one job's runs alone: ten years of all of them are some 50 MB of memory.
    ///
    /// # Errors
    ///
    /// As for [`History::read`].
    pub fn read_of(&self, job: &str) -> Result<Vec<Run>, HistoryError> {
        self.runs(usize::MAX, Some(job))
    }

    /// Calls `each` with every run, oldest first, and keeps none of them; returns how many lines are no run.
    ///
    /// # Errors
    ///
    /// As for [`History::read`]; some runs were told by then.
    pub fn each(&self, mut each: impl FnMut(Run)) -> Result<u64, HistoryError> {
        self.each_in_brief(|run| each(run.to_run()))
    }

    /// The same, in a third of the time: what is told of a run is in the line that was read.
    ///
    /// # Errors
    ///
    /// As for [`History::each`].
    pub fn each_in_brief(&self, mut each: impl FnMut(&Brief<'_>)) -> Result<u64, HistoryError> {
        let mut strange: u64 = 0;
        let mut tell = |line: Line<'_>| match line {
            Line::Run(run) => each(&run),
            Line::Strange { .. } => strange = strange.saturating_add(1),
        };
        let told = self.files(usize::MAX).and_then(|files| files.iter().try_for_each(|file| parse(file, &mut tell)));
        told.map_err(|source| HistoryError { verb: "read", path: self.path.clone(), source: source.into() })?;
        Ok(strange)
    }

    /// When a run of `job` on `object` that gets its locks now should end: by the median of its last good runs, waits left
    /// out; `None` if it has none among the latest runs of the machine, or if the history cannot be read.
    pub fn expected_end(&self, job: &str, object: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let runs = self.runs(FILES_FOR_EXPECTATION, Some(job)).unwrap_or_else(|error| {
            log::warn!("{}", Chain(&error));
            Vec::new()
        });
        let good = runs.iter().rev().filter(|run| run.job == job && run.object == object && run.exit == 0);
        let mut lengths: Vec<TimeDelta> = good.filter_map(Run::length).take(RUNS_FOR_EXPECTATION).collect();
        lengths.sort_unstable();
        lengths.get(lengths.len() / 2).and_then(|length| now.checked_add_signed(*length))
    }

    /// The folder that the file is in, made where it is missing.
    fn folder(&self) -> Result<Dir, FileError> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_shared(folder)?;
        Ok(Dir::open(folder)?)
    }

    /// Takes the lock of all who write; `None` where it cannot be had, which is a warning.
    fn lock(&self, folder: &Dir) -> Option<File> {
        let take = || -> Result<Option<File>, FileError> {
            let file = flock::open(folder, Path::new(&format!("{}.lock", self.name()?)))?;
            Ok(flock::within(file, self.patience)?)
        };
        match take() {
            Ok(Some(lock)) => return Some(lock),
            Ok(None) => {
                log::warn!(
                    "the history is locked for more than {}; not waiting for it",
                    human::duration(self.patience)
                );
            }
            Err(error) => log::warn!("cannot lock the history: {}", Chain(&error)),
        }
        None
    }

    fn name(&self) -> io::Result<&str> {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "it has no name"))
    }

    /// Puts the file aside under the first free number; the lock is held.
    fn put_aside(&self) -> io::Result<()> {
        fs::rename(&self.path, self.aside(self.last_aside().saturating_add(1)))
    }

    /// The highest number under which a file was put aside, or 0.
    fn last_aside(&self) -> u32 {
        let mut number: u32 = 0;
        while let Some(next) = number.checked_add(1).filter(|next| self.aside(*next).exists()) {
            number = next;
        }
        number
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// The runs, or those of `job`, in the newest files, `count` of them at most, oldest first.
    fn runs(&self, count: usize, job: Option<&str>) -> Result<Vec<Run>, HistoryError> {
        let mut runs = Vec::new();
        let mut keep = |line: Line<'_>| match line {
            Line::Run(run) if job.is_none_or(|job| run.job == job) => runs.push(run.to_run()),
            Line::Run(_) => {}
            Line::Strange { number, error } => log::warn!("line {number} of the history is no run: {error}"),
        };
        let result = self.files(count).and_then(|files| files.iter().try_for_each(|file| parse(file, &mut keep)));
        result.map_err(|source| HistoryError { verb: "read", path: self.path.clone(), source: source.into() })?;
        Ok(runs)
    }

    /// Opens the newest files, `count` of them at most, the oldest first.
    fn files(&self, count: usize) -> io::Result<Vec<File>> {
        loop {
            let current = if_there(open(&self.path))?;
            let last = self.last_aside();
            // The newest is not put aside yet.
            let older = u32::try_from(count).unwrap_or(u32::MAX).saturating_sub(1);
            let first = last.saturating_add(1).saturating_sub(older).max(1);
            let aside = (first..=last).map(|number| open(&self.aside(number)));
            let files = aside.chain(current.as_ref().map(File::try_clone)).collect::<io::Result<_>>()?;
            // A file that was put aside meanwhile would be missing, or be there twice.
            let now = if_there(fs::metadata(&self.path))?.map(|metadata| metadata.ino());
            let then = current.map(|file| file.metadata()).transpose()?.map(|metadata| metadata.ino());
            if now == then {
                return Ok(files);
            }
        }
    }

    fn try_append(&self, run: &Run) -> Result<(), FileError> {
        let folder = self.folder()?;
        let lock = self.lock(&folder);
        self.append_to(&folder, lock.as_ref(), run)
    }

    /// The same in the folder that the file is in, under the lock where it was to be had.
    fn append_to(&self, folder: &Dir, lock: Option<&File>, run: &Run) -> Result<(), FileError> {
        let name = Path::new(self.name()?);
        let mut file = folder.open_append(name, 0o644)?;
        if lock.is_some() && file.metadata()?.len() >= LARGE {
            self.put_aside()?;
            file = folder.open_append(name, 0o644)?;
        }
        let mut line = serde_json::to_vec(run).map_err(io::Error::from)?;
        line.push(b'\n');
        if is_torn(&mut file)? {
            line.insert(0, b'\n');
        }
        file.write_all(&line)?;
        Ok(file.sync_all()?)
    }
}

/// How long a run was at work; see [`Run::length`].
fn length(start: DateTime<Utc>, end: DateTime<Utc>, waited_secs: u64) -> Option<TimeDelta> {
    let whole = end.signed_duration_since(start);
    if !(TimeDelta::zero()..=LONGEST_RUN).contains(&whole) {
        return None;
    }
    let waited = i64::try_from(waited_secs).ok().and_then(TimeDelta::try_seconds)?;
    Some(whole.checked_sub(&waited)?.max(TimeDelta::zero()))
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

/// Opens a regular file to read it; a FIFO or a device does not hold us up.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::new(ErrorKind::InvalidInput, "it is no file")) }
}

/// What there is, or `None` where there is nothing.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(there) => Ok(Some(there)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A line of a file.
enum Line<'l> {
    Run(Brief<'l>),
    /// It is no run, or one of another version.
    Strange {
        number: u64,
        error: serde_json::Error,
    },
}

/// Tells the lines of a file, empty ones left out. A power cut can leave anything in it, so its lines are bytes.
fn parse(file: &File, tell: &mut dyn FnMut(Line<'_>)) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        match Brief::parse(&line) {
            Ok(run) => tell(Line::Run(run)),
            Err(_) if line == b"\n" => {}
            Err(error) => tell(Line::Strange { number, error }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
