//! The history of runs: one JSON line per finished or failed run, appended and synced to the disk.
//!
//! A file that has grown large is put aside as `NAME.1`, `NAME.2`, …, never rewritten and never deleted: ten years of a busy
//! machine are some 40 MB. Reading takes no lock and needs no right to write.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

/// At what size the file is put aside, in bytes.
const LARGE: u64 = 8 * 1024 * 1024;

/// How many earlier runs the expected end of a run is reckoned from.
const RUNS_FOR_EXPECTATION: usize = 5;

/// In how many files they are looked for: some 100,000 runs, which take a moment to read.
const FILES_FOR_EXPECTATION: usize = 2;

/// How much of a file is read at once, in bytes.
const BUFFER: usize = 256 * 1024;

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
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

    /// How long it was at work, the wait for locks left out.
    pub fn length(&self) -> TimeDelta {
        let waited = TimeDelta::seconds(i64::try_from(self.waited_secs).unwrap_or(i64::MAX / 1000));
        (self.end - self.start - waited).max(TimeDelta::zero())
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
        self.runs(usize::MAX)
    }

    /// When a run of `job` on `object` that gets its locks now should end: by the median of its last good runs, waits left
    /// out; `None` if it has none among the latest runs of the machine, or if the history cannot be read.
    pub fn expected_end(&self, job: &str, object: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let runs = self.runs(FILES_FOR_EXPECTATION).unwrap_or_else(|error| {
            log::warn!("{}", phobos_core::error::Chain(&error));
            Vec::new()
        });
        let good = runs.iter().rev().filter(|run| run.job == job && run.object == object && run.exit == 0);
        let mut lengths: Vec<TimeDelta> = good.take(RUNS_FOR_EXPECTATION).map(Run::length).collect();
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
        fs::rename(&self.path, self.aside(self.last_aside() + 1))
    }

    /// The highest number under which a file was put aside, or 0.
    fn last_aside(&self) -> u32 {
        let mut number = 0;
        while self.aside(number + 1).exists() {
            number += 1;
        }
        number
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// The runs in the newest files, `count` of them at most, oldest first.
    fn runs(&self, count: usize) -> Result<Vec<Run>, HistoryError> {
        let mut runs = Vec::new();
        let result = self.files(count).and_then(|files| files.iter().try_for_each(|file| parse(file, &mut runs)));
        result.map_err(|source| HistoryError { verb: "read", path: self.path.clone(), source })?;
        Ok(runs)
    }

    /// Opens the newest files, `count` of them at most, the oldest first.
    fn files(&self, count: usize) -> io::Result<Vec<File>> {
        loop {
            let current = if_there(File::open(&self.path))?;
            let last = self.last_aside();
            let first = (last + 1).saturating_sub(u32::try_from(count).unwrap_or(u32::MAX) - 1).max(1);
            let aside = (first..=last).map(|number| File::open(self.aside(number)));
            let files = aside.chain(current.as_ref().map(File::try_clone)).collect::<io::Result<_>>()?;
            // A file that was put aside meanwhile would be missing, or be there twice.
            let now = if_there(fs::metadata(&self.path))?.map(|metadata| metadata.ino());
            let then = current.map(|file| file.metadata()).transpose()?.map(|metadata| metadata.ino());
            if now == then {
                return Ok(files);
            }
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

/// Reads a time. Those that phobos writes have one form, which chrono's general parser takes ten times as long for.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    struct Moment;
    impl Visitor<'_> for Moment {
        type Value = DateTime<Utc>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time as of RFC 3339")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            utc(text.as_bytes()).map_or_else(|| text.parse().map_err(E::custom), Ok)
        }
    }
    deserializer.deserialize_str(Moment)
}

/// Reads `YYYY-MM-DDTHH:MM:SS[.FRACTION]Z`; `None` for anything else.
fn utc(text: &[u8]) -> Option<DateTime<Utc>> {
    let number = |digits: &[u8]| {
        let digit = |sum: u32, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0'));
        digits.iter().try_fold(0, digit)
    };
    let (whole, rest) = text.split_at_checked(19)?;
    let signs = [whole[4], whole[7], whole[10], whole[13], whole[16]];
    let nanos = match rest {
        b"Z" => 0,
        [b'.', digits @ .., b'Z'] if matches!(digits.len(), 1..=9) => {
            number(digits)? * 10_u32.pow(9 - u32::try_from(digits.len()).ok()?)
        }
        _ => return None,
    };
    let field = |from: usize, to: usize| number(&whole[from..to]);
    let date = NaiveDate::from_ymd_opt(i32::try_from(field(0, 4)?).ok()?, field(5, 7)?, field(8, 10)?)?;
    let time = date.and_hms_nano_opt(field(11, 13)?, field(14, 16)?, field(17, 19)?, nanos)?;
    (signs == *b"--T::").then(|| time.and_utc())
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

/// What there is, or `None` where there is nothing.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(there) => Ok(Some(there)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds the runs in a file to `runs`. A power cut can leave anything in it, so its lines are bytes.
fn parse(file: &File, runs: &mut Vec<Run>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        match serde_json::from_slice(&line) {
            Ok(run) => runs.push(run),
            Err(_) if line == b"\n" => {}
            Err(error) => log::warn!("line {number} of the history is no run: {error}"),
        }
    }
    Ok(())
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
        // The first bytes of a line, cut off within a letter, and what a power cut leaves of a block.
        for torn in [&b"{\"job\":\"\xc3"[..], b"\0\0\0\0"] {
            OpenOptions::new().append(true).open(&path).unwrap().write_all(torn).unwrap();
            assert_eq!(history.read().unwrap().len(), 1);
        }
        history.append(&run("ext", 2, 1)).unwrap();
        assert_eq!(history.read().unwrap(), [run("ext", 1, 0), run("ext", 2, 1)]);
    }

    #[test]
    fn times_are_read_as_chrono_reads_them() {
        let read = |text: &str| moment(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text));
        let good = [
            "2026-02-28T03:00:00Z",
            "2026-02-28T03:00:00.5Z",
            "2024-02-29T23:59:59.123456789Z",
            "2026-02-28T03:00:00.1234567891Z",
            "2026-02-28T03:00:00+01:00",
        ];
        for text in good {
            assert_eq!(read(text).unwrap(), text.parse::<DateTime<Utc>>().unwrap(), "{text}");
        }
        for bad in ["", "2026-02-29T03:00:00Z", "2026-02-28T03:00:00.Z", "2026-02-28T03:00Z", "2026-02-28T03:00:0xZ"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_expected_end_is_the_median_of_good_runs_without_their_waits() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::new(&folder.path().join("history.jsonl"));
        assert_eq!(history.expected_end("ext", "A", DateTime::UNIX_EPOCH), None);
        for (minutes, exit) in [(10, 0), (900, 0), (0, 1)] {
            history.append(&run("ext", minutes, exit)).unwrap();
        }
        history.append(&Run { waited_secs: 3600, ..run("ext", 80, 0) }).unwrap();
        let expected = DateTime::UNIX_EPOCH + TimeDelta::minutes(20);
        assert_eq!(history.expected_end("ext", "A", DateTime::UNIX_EPOCH), Some(expected));
        assert_eq!(history.expected_end("ext", "B", DateTime::UNIX_EPOCH), None);
        // The latest runs are those of the newest file, and of the one before.
        fs::rename(folder.path().join("history.jsonl"), folder.path().join("history.jsonl.1")).unwrap();
        assert_eq!(history.expected_end("ext", "A", DateTime::UNIX_EPOCH), Some(expected));
    }

    #[test]
    fn a_large_file_is_put_aside_and_no_line_is_lost_or_read_twice() {
        const WRITERS: usize = 3;
        const RUNS: usize = 4;
        let folder = tempfile::tempdir().unwrap();
        let history = History::new(&folder.path().join("history.jsonl"));
        let long = "x".repeat(usize::try_from(LARGE).unwrap() / 4);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (history, long) = (&history, &long);
                scope.spawn(move || {
                    for number in 0..RUNS {
                        let object = format!("{writer}-{number}");
                        history.append(&Run { object, error: long.clone(), ..run("ext", 1, 1) }).unwrap();
                    }
                });
            }
            // Whoever reads meanwhile sees every run that was there before, once.
            let mut seen = Vec::new();
            while seen.len() < WRITERS * RUNS {
                let now: Vec<String> = history.read().unwrap().into_iter().map(|run| run.object).collect();
                assert_eq!(now.get(..seen.len()), Some(&seen[..]));
                seen = now;
            }
        });
        assert!(folder.path().join("history.jsonl.2").exists());
    }
}
