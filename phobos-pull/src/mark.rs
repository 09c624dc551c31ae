//! The mark of a holding space: how the last pull of its host went, and when the last good one was.
//!
//! It lies beside the holding space, in the backups themselves, so that whoever finds the space in an archive knows what
//! it is worth. A pull marks the space before it touches it: one that was killed leaves the mark `running`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::fs::{Dir, Durability};
use phobos_site::pull::HostName;
use serde::{Deserialize, Serialize};

use crate::parts::Scratch;

/// The folder of the marks, among the holding spaces; no host can have this name.
const FOLDER: &str = ".phobos";

/// The largest mark that is read, in bytes; one with a thousand sources has a hundredth of it.
const LIMIT: u64 = 16 * 1024 * 1024;

/// How far ahead of the clock a mark may be: it is set now and then.
const CLOCK: TimeDelta = TimeDelta::hours(26);

/// The version of the format.
const VERSION: u32 = 1;

/// Where the marks are.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    holding: PathBuf,
}

/// What is known of a host's pulls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    version: u32,
    /// The host.
    pub(crate) host: HostName,
    /// How the last pull went.
    pub(crate) state: State,
    /// When it began.
    pub(crate) start: DateTime<Utc>,
    /// When it ended; none while it runs, and for good if it was killed.
    pub(crate) end: Option<DateTime<Utc>>,
    /// What went wrong, on one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) error: String,
    /// What is to be known of a good pull, such as files that vanished.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
    /// What phobos's own folders in the holding space are called, until a pull went well.
    pub(crate) scratch: Scratch,
    /// When the host was to be pulled for the first time.
    pub(crate) known_since: DateTime<Utc>,
    /// The last good pull.
    pub(crate) success: Option<Success>,
}

/// How a pull stands or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It runs, or was killed: the holding space may be between two states.
    Running,
    /// It went well: the holding space is as the host was.
    Ok,
    /// The host was not there; the holding space is older, or has got a part.
    Offline,
    /// More was to be deleted than may be: the holding space has got all that is new and lost nothing.
    Refused,
    /// It failed: the holding space may have got a part.
    Failed,
}

/// A good pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Success {
    /// When it began: the holding space shows the host as it was then.
    pub(crate) start: DateTime<Utc>,
    /// When it ended.
    pub(crate) end: DateTime<Utc>,
    /// How many files, folders and links the host has.
    pub(crate) files: u64,
    /// Their size in bytes.
    pub(crate) bytes: u64,
    /// How many files, by source.
    pub(crate) sources: BTreeMap<PathBuf, u64>,
}

impl Marks {
    /// The marks of the holding spaces in `holding`.
    pub(crate) fn new(holding: &Path) -> Self {
        Self { holding: holding.to_owned() }
    }

    /// The mark of `host`; none if it has never been pulled. A mark that cannot be read counts as none, with a warning.
    pub(crate) fn read(&self, host: &HostName) -> Option<Mark> {
        let name = Path::new(FOLDER).join(file(host));
        let read = || match Dir::open(&self.holding)?.read(&name, LIMIT)? {
            Some(text) => Ok(Some(serde_json::from_slice::<Mark>(&text)?)),
            None => Ok(None),
        };
        read().unwrap_or_else(|error: io::Error| {
            if error.kind() != io::ErrorKind::NotFound {
                log::warn!("cannot read {}: {error}; going on without it", self.holding.join(&name).display());
            }
            None
        })
    }

    /// Puts `mark` in the place of the host's earlier one, in one step.
    ///
    /// It need not be synced: the file system keeps the order in which this and the pull's own files change.
    pub(crate) fn write(&self, mark: &Mark) -> io::Result<()> {
        let folder = Dir::open(&self.holding)?.make_dir(Path::new(FOLDER), 0o700)?;
        let text = serde_json::to_vec_pretty(mark)?;
        Ok(folder.replace(Path::new(&file(&mark.host)), &text, 0o600, Durability::Loose)?)
    }
}

/// The name of a host's mark.
fn file(host: &HostName) -> String {
    format!("{host}.json")
}

impl Mark {
    /// The mark of a pull that begins now.
    pub(crate) fn begin(host: &HostName, earlier: Option<&Self>, now: DateTime<Utc>) -> Self {
        Self {
            version: VERSION,
            host: host.clone(),
            state: State::Running,
            start: now,
            end: None,
            error: String::new(),
            note: String::new(),
            // What a pull that did not go well has left is found by its name.
            scratch: earlier
                .filter(|mark| mark.state != State::Ok)
                .map_or_else(Scratch::new, |mark| mark.scratch.clone()),
            known_since: earlier.map_or(now, |mark| mark.known_since),
            success: earlier.and_then(|mark| mark.success.clone()),
        }
    }

    /// Since when the holding space has not become newer: the last good pull, or when the host became known.
    pub(crate) fn fresh_at(&self) -> DateTime<Utc> {
        self.success.as_ref().map_or(self.known_since, |success| success.start)
    }

    /// How old the holding space is by the clock's time `now`; `None` if it is of a time to come: the clock is wrong, or was
    /// when the host was pulled, and nobody knows.
    pub(crate) fn age(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        let age = now.signed_duration_since(self.fresh_at());
        // A clock that is put right by an hour or two is none that is wrong.
        (age >= -CLOCK).then_some(age)
    }

    /// How long the last good pull took.
    pub(crate) fn length(&self) -> Option<chrono::TimeDelta> {
        self.success.as_ref().map(|success| success.end - success.start)
    }
}

impl State {
    /// The state in a word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ok => "ok",
            Self::Offline => "offline",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_keeps_the_last_success_through_failures() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::new(folder.path());
        let host: HostName = "luv".parse().unwrap();
        assert_eq!(marks.read(&host), None);
        let at = |secs| DateTime::from_timestamp(secs, 0).unwrap();
        let mut mark = Mark::begin(&host, None, at(100));
        assert_eq!(mark.fresh_at(), at(100));
        mark.success =
            Some(Success { start: at(100), end: at(160), files: 3, bytes: 4, sources: [("home".into(), 2)].into() });
        mark.state = State::Ok;
        marks.write(&mark).unwrap();
        let next = Mark::begin(&host, marks.read(&host).as_ref(), at(900));
        assert_ne!(next.scratch, mark.scratch, "after a good pull nothing is left");
        assert_eq!(Mark::begin(&host, Some(&next), at(901)).scratch, next.scratch);
        marks.write(&next).unwrap();
        let read = marks.read(&host).unwrap();
        assert_eq!((read.state, read.end, read.fresh_at(), read.known_since), (State::Running, None, at(100), at(100)));
        assert_eq!(read.length().unwrap().num_seconds(), 60);
        std::fs::write(folder.path().join(".phobos/luv.json"), "{").unwrap();
        assert_eq!(marks.read(&host), None);
    }

    #[test]
    fn a_copy_of_a_time_to_come_has_no_age() {
        let at = |hours: i64| DateTime::from_timestamp(hours * 3600, 0).unwrap();
        let mark = Mark::begin(&"luv".parse().unwrap(), None, at(1000));
        assert_eq!(mark.age(at(1048)), Some(TimeDelta::days(2)));
        assert_eq!(mark.age(at(999)), Some(TimeDelta::hours(-1)), "the clock was put right");
        // One without a battery begins in 1970.
        assert_eq!(mark.age(at(0)), None);
    }

    #[test]
    fn fuzz_mark() {
        phobos_fuzz::target("mark", &[br#"{"version":1,"host":"luv","state":"ok","start":"2026-01-02T03:04:05Z","end":"2026-01-02T04:04:05Z","error":"","note":"","known_since":"2026-01-02T03:04:05Z","success":{"start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:05Z","files":7,"bytes":9,"sources":{"/home":7}}}"#], |input| {
            if let Ok(mark) = serde_json::from_slice::<Mark>(input) {
                std::hint::black_box(mark.length());
            }
        });
    }
}
