//! What a copy tells while it runs, the same whichever engine makes it, so that a screen or a journal need not know the engine.
//!
//! [`crate::rsync`] and [`crate::copy`] give each [`CopyEvent`] to a handler, and end the copy when it says so:
//!
//! ```
//! use phobos_core::progress::{CopyEvent, Halt};
//!
//! let mut handler = |event: CopyEvent<'_>| match event {
//!     CopyEvent::Progress(progress) if progress.done > 1_000_000_000 => Err(Halt::Because("that is enough".to_owned())),
//!     CopyEvent::Progress(progress) => {
//!         println!("copied {}", progress.words());
//!         Ok(())
//!     }
//!     _ => Ok(()),
//! };
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use crate::human;

/// How often progress is logged, at least.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// One thing that a copy tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyEvent<'a> {
    /// Another part of the work begins.
    Phase(Phase),
    /// How far this part of the work has come; several times a second.
    Progress(Progress),
    /// A name that the copy changes, or that a dry run would change.
    Change(Change<'a>),
    /// A name that stays as it is because it is there, as rsync shows it; told where rsync is to say so (`--info=skip1`).
    Left(&'a str),
    /// Something is wrong with one file; the copy goes on.
    Warning(&'a str),
    /// Nothing new. Told about once a second, so that the handler can look whether the copy may go on.
    Tick,
}

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Files are looked at, and their content where size and time do not tell enough.
    Comparing,
    /// Files are copied.
    Copying,
    /// What was written is read from the disk again.
    ReadingBack,
    /// What lies on a disk is read, whoever wrote it when.
    Reading,
}

/// How far a part of the work has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done.
    pub done: u64,
    /// How many bytes there are to do, where that is known.
    pub total: Option<u64>,
    /// Part that is done in percent: of the total, or else of what the engine has found up to now.
    pub percent: Option<u8>,
    /// Bytes per second.
    pub speed: u64,
    /// How long the rest takes at this speed. Without a total this is the most that it can take, because files that are
    /// the same on both sides count as files to be copied.
    pub left: Option<Duration>,
}

/// A name that is created, changed or deleted. It is shown as rsync itemizes it: `>f+++++++++ name`, `*deleting   name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// What happens to it.
    pub kind: ChangeKind,
    /// The eleven characters of rsync's `--itemize-changes`.
    pub item: &'a str,
    /// The name below the tree; that of a folder ends with a slash.
    pub name: &'a str,
}

/// What happens to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there before.
    Created,
    /// It was there.
    Changed,
    /// It goes.
    Deleted,
}

/// Why a handler ends a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// For this reason.
    Because(String),
    /// This signal has come.
    Signal(i32),
}

/// What is told of a copy; an error ends the copy.
pub type Handler<'h> = &'h mut dyn FnMut(CopyEvent<'_>) -> Result<(), Halt>;

impl Phase {
    /// What is done with the bytes: `copied`, `read back`.
    pub fn done(self) -> &'static str {
        match self {
            Self::Comparing => "compared",
            Self::Copying => "copied",
            Self::ReadingBack => "read back",
            Self::Reading => "read",
        }
    }
}

impl Progress {
    /// `done` bytes of `total`, which have taken `so_far`.
    pub fn new(done: u64, total: Option<u64>, so_far: Duration) -> Self {
        let millis = so_far.as_millis().max(1);
        let speed = u64::try_from(u128::from(done).saturating_mul(1000) / millis).unwrap_or(u64::MAX);
        let percent = total.filter(|total| *total > 0).map(|total| percent(done, total));
        Self { done, total, percent, speed, left: total.and_then(|total| human::remaining(done, total, so_far)) }
    }

    /// In words, without what is done: `1.23 GB, 50 % of 2.47 GB, 80.1 MB/s, about 15s left`.
    pub fn words(&self) -> String {
        let of = match (self.percent, self.total) {
            (Some(percent), Some(total)) => format!(", {percent} % of {}", human::size(total)),
            (Some(percent), None) => format!(", {percent} % of what was found"),
            (None, _) => String::new(),
        };
        let how = if self.total.is_some() { "about" } else { "at most" };
        let left = self.left.map(|left| format!(", {how} {} left", human::duration(left))).unwrap_or_default();
        format!("{}{of}, {}/s{left}", human::size(self.done), human::size(self.speed))
    }

    /// As a bar of `width` characters, for a terminal.
    pub fn bar(&self, width: u8) -> String {
        let percent = self.percent.unwrap_or(0).min(100);
        let full = usize::from(u16::from(percent) * u16::from(width) / 100);
        let empty = usize::from(width) - full;
        format!("[{}{}]", "#".repeat(full), " ".repeat(empty))
    }
}

/// `done` of `total` in percent, at most 100.
fn percent(done: u64, total: u64) -> u8 {
    let percent = u128::from(done) * 100 / u128::from(total.max(1));
    u8::try_from(percent.min(100)).unwrap_or(100)
}

impl<'a> Change<'a> {
    /// A file that is new.
    pub fn created(name: &'a str) -> Self {
        Self { kind: ChangeKind::Created, item: ">f+++++++++", name }
    }

    /// A name that goes.
    pub fn deleted(name: &'a str) -> Self {
        Self { kind: ChangeKind::Deleted, item: "*deleting  ", name }
    }
}

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.item, self.name)
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Because(reason) => f.write_str(reason),
            Self::Signal(signal) => write!(f, "signal {signal} has come"),
        }
    }
}

/// Counts the bytes of one phase, for an engine that learns of them piece by piece.
#[derive(Debug)]
pub(crate) struct Meter {
    done: u64,
    total: Option<u64>,
    begun: Instant,
}

impl Meter {
    /// Nothing is done yet of `total`.
    pub(crate) fn new(total: Option<u64>) -> Self {
        Self { done: 0, total, begun: Instant::now() }
    }

    /// How far it has come with `bytes` more.
    pub(crate) fn add(&mut self, bytes: u64) -> Progress {
        self.done = self.done.saturating_add(bytes);
        Progress::new(self.done, self.total, self.begun.elapsed())
    }
}

/// When to log progress: a line every so often and not a thousand.
#[derive(Debug)]
pub struct Backoff {
    last: Instant,
    pause: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { last: Instant::now(), pause: Duration::from_secs(10) }
    }
}

impl Backoff {
    /// Whether a line is due: after 10 s, then after pauses that double up to 5 minutes.
    pub fn is_due(&mut self) -> bool {
        let due = self.last.elapsed() >= self.pause;
        if due {
            self.last = Instant::now();
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_sizes_speed_and_what_is_left_as_people_read_them() {
        let minute = Duration::from_secs(60);
        let half = Progress::new(1_200_000_000, Some(2_400_000_000), minute);
        assert_eq!(half.words(), "1.20 GB, 50 % of 2.40 GB, 20 MB/s, about 1m left");
        let all = Progress::new(300, Some(200), minute);
        assert_eq!((all.percent, all.left), (Some(100), None), "more than was reckoned");
        assert_eq!(Progress::new(300, Some(0), minute).words(), "300 B, 5 B/s");
        assert_eq!(Progress::new(0, None, Duration::ZERO).words(), "0 B, 0 B/s");
        let found = Progress { total: None, percent: Some(7), left: Some(minute * 90), ..half };
        assert_eq!(found.words(), "1.20 GB, 7 % of what was found, 20 MB/s, at most 1h 30m left");
        assert!(!Progress::new(u64::MAX, Some(1), Duration::MAX).words().is_empty());
    }

    #[test]
    fn a_bar_is_as_full_as_the_copy() {
        let progress = Progress::new(50, Some(100), Duration::from_secs(1));
        assert_eq!(progress.bar(4), "[##  ]");
        assert_eq!(Progress { percent: Some(255), ..progress }.bar(3), "[###]");
        assert_eq!(Progress { percent: None, ..progress }.bar(3), "[   ]");
    }

    #[test]
    fn what_is_done_adds_up() {
        let mut meter = Meter::new(Some(8));
        assert_eq!(meter.add(2).done, 2);
        let last = meter.add(6);
        assert_eq!((last.done, last.percent), (8, Some(100)));
        assert_eq!(meter.add(u64::MAX).done, u64::MAX);
    }

    #[test]
    fn a_change_reads_as_rsync_itemizes_it() {
        assert_eq!(Change::created("data/0/1").to_string(), ">f+++++++++ data/0/1");
        assert_eq!(Change::deleted("data/0/1").to_string(), "*deleting   data/0/1");
    }
}
