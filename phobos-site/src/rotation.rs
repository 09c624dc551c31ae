//! Whose turn it is: of several drives the one with the oldest complete mirror, until when it is due, and what is not as it
//! should be. Pure: what is known of each drive and the moment come from outside.

use std::cmp::Reverse;
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::human;

use crate::ledger::{BadDrill, Checkup, Damage, Entry, Mirror, Room};

/// How long two drives may be plugged in together.
const TOGETHER: TimeDelta = TimeDelta::days(1);

/// A drive with less than this part of its room free is nearly full.
const NEARLY_FULL: u64 = 20;

/// What is known of a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// What the ledger says of it.
    pub entry: Entry,
    /// How its last run went wrong, if it did.
    pub failure: Option<Failure>,
}

/// Where a drive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is plugged in, since then where that is known.
    PluggedIn(Option<DateTime<Utc>>),
    /// It is elsewhere; it was last seen then, if it ever was.
    Away(Option<DateTime<Utc>>),
}

/// A run that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// What it said.
    pub error: String,
}

/// A drive and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The drive.
    pub drive: Drive,
    /// How many drives have their turn before it: 0 is due next.
    pub turn: usize,
    /// Until when it is to be brought; not known before the first mirror.
    pub due_by: Option<DateTime<Utc>>,
    /// When it will be full, at the rate of its last two visits.
    pub full_by: Option<DateTime<Utc>>,
    /// What is not as it should be, worst first.
    pub attention: Vec<Attention>,
}

/// What is not as it should be with a drive; the later in this list, the worse.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attention {
    /// It has little room left.
    NearlyFull {
        /// The drive.
        drive: String,
        /// What is free, in bytes.
        free: u64,
    },
    /// It came twice in a row, while another one is due.
    Twice {
        /// The drive.
        drive: String,
        /// When it came the first time.
        at: DateTime<Utc>,
        /// The one that is due.
        due: String,
    },
    /// It has been at home together with others for more than a day.
    Together {
        /// The drive.
        drive: String,
        /// The others.
        others: Vec<String>,
    },
    /// It was to be brought before.
    Overdue {
        /// The drive.
        drive: String,
        /// Until when.
        due_by: DateTime<Utc>,
    },
    /// Its disk says that it fails.
    Fails {
        /// The drive.
        drive: String,
        /// What it complains of.
        what: String,
    },
    /// What was written to it and read back well was found damaged later.
    Rots {
        /// The drive.
        drive: String,
        /// How many files.
        files: u64,
        /// When that was last found.
        at: DateTime<Utc>,
    },
    /// It did not give back what was to be restored from it, the last time that was tried.
    NotRestored {
        /// The drive.
        drive: String,
        /// When that was tried.
        at: DateTime<Utc>,
        /// What was wrong.
        error: String,
    },
}

impl Standing {
    /// Whether it was to be brought before.
    pub fn is_overdue(&self) -> bool {
        self.attention.iter().any(|attention| matches!(attention, Attention::Overdue { .. }))
    }

    /// Its last complete mirror.
    pub fn mirror(&self) -> Option<&Mirror> {
        self.drive.entry.mirror.as_ref()
    }
}

impl Attention {
    /// What tells it from others: it is told once for as long as it lasts.
    pub fn key(&self) -> String {
        match self {
            Self::NearlyFull { drive, .. } => format!("nearly-full {drive}"),
            Self::Twice { drive, at, .. } => format!("twice {drive} {}", at.timestamp()),
            Self::Together { drive, others } => {
                let mut all = [std::slice::from_ref(drive), others].concat();
                all.sort();
                format!("together {}", all.join(" "))
            }
            Self::Overdue { drive, .. } => format!("overdue {drive}"),
            Self::Fails { drive, .. } => format!("fails {drive}"),
            Self::Rots { drive, at, .. } => format!("rots {drive} {}", at.timestamp()),
            Self::NotRestored { drive, at, .. } => format!("not-restored {drive} {}", at.timestamp()),
        }
    }
}

impl fmt::Display for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NearlyFull { drive, free } => {
                write!(f, "the drive {drive} is nearly full: {} are free", human::size(*free))
            }
            Self::Twice { drive, due, .. } => {
                write!(f, "the drive {drive} was mirrored to twice in a row, and {due} is due; bring {due}")
            }
            Self::Together { drive, others } => {
                let others = others.join(" and ");
                write!(
                    f,
                    "the drives {drive} and {others} have been plugged in together for more than a day; take one away"
                )
            }
            Self::Overdue { drive, due_by } => {
                write!(f, "the drive {drive} is overdue: it was to be brought by {}", human::day(*due_by))
            }
            Self::Fails { drive, what } => write!(f, "the disk of the drive {drive} fails: {what}; replace it"),
            Self::Rots { drive, files, at } => {
                let found =
                    if *files == 1 { "a damaged file was".to_owned() } else { format!("{files} damaged files were") };
                write!(f, "the drive {drive} rots: {found} found on it, last on {}; replace it", human::day(*at))
            }
            Self::NotRestored { drive, at, error } => {
                write!(f, "the drive {drive} did not pass its drill on {}: {error}", human::day(*at))
            }
        }
    }
}

/// How each of the drives stands at `now`, worst first. The next one is due `overdue` after the last mirror, and each one once in
/// as many times `overdue` as there are drives, so that one that is lost is missed while the others come and go.
pub fn judge(drives: Vec<Drive>, overdue: TimeDelta, now: DateTime<Utc>) -> Vec<Standing> {
    let mut drives = drives;
    // One that was never mirrored to comes first.
    drives.sort_by_key(|drive| (drive.entry.mirror.as_ref().map(Mirror::order), drive.name.clone()));
    let plugged_in: Vec<_> =
        drives.iter().filter(|drive| is_long_here(drive, now)).map(|drive| drive.name.clone()).collect();
    let orders: Vec<_> = drives.iter().map(|drive| drive.entry.mirror.as_ref().map(Mirror::order)).collect();
    let next = drives.first().map(|drive| drive.name.clone()).unwrap_or_default();
    // A clock that was ahead must not put anything off.
    let time = |mirror: &Mirror| mirror.mirrored.min(now);
    let last = drives.iter().filter_map(|drive| drive.entry.mirror.as_ref()).map(time).max();
    let count = drives.len();
    let standing = |(turn, drive): (usize, Drive)| {
        let own = drive.entry.mirror.as_ref();
        let in_turn = last.and_then(|last| later(last, overdue, turn.saturating_add(1)));
        let in_all = own.and_then(|own| later(time(own), overdue, count));
        let due_by = in_turn.into_iter().chain(in_all).min();
        let full_by = full_by(&drive.entry);
        let name = || drive.name.clone();
        let mut attention = Vec::new();
        if let Some(due_by) = due_by.filter(|due_by| *due_by < now) {
            attention.push(Attention::Overdue { drive: name(), due_by });
        }
        let others: Vec<_> = plugged_in.iter().filter(|other| **other != drive.name).cloned().collect();
        if plugged_in.contains(&drive.name) && !others.is_empty() {
            attention.push(Attention::Together { drive: name(), others });
        }
        if let Some(before) = drive.entry.before.as_ref().filter(|before| came_twice(before, turn, &orders)) {
            attention.push(Attention::Twice { drive: name(), at: before.mirrored, due: next.clone() });
        }
        if let Some(room) = own.and_then(|own| own.room).filter(|room| is_nearly_full(*room, &drive.entry)) {
            attention.push(Attention::NearlyFull { drive: name(), free: room.free });
        }
        if let Some(what) = drive.entry.checkup.as_ref().and_then(Checkup::complaint) {
            attention.push(Attention::Fails { drive: name(), what: what.to_owned() });
        }
        if let Some(Damage { at, files, .. }) = drive.entry.rounds.damage {
            attention.push(Attention::Rots { drive: name(), files, at });
        }
        if let Some(BadDrill { at, error }) = drive.entry.drills.bad.clone() {
            attention.push(Attention::NotRestored { drive: name(), at, error });
        }
        attention.sort_by(|one, other| other.cmp(one));
        Standing { drive, turn, due_by, full_by, attention }
    };
    let mut standings: Vec<_> = drives.into_iter().enumerate().map(standing).collect();
    standings.sort_by_key(|standing| (Reverse(rank(standing)), standing.turn));
    standings
}

/// All that is not as it should be, each thing once, worst first.
pub fn attention(standings: &[Standing]) -> Vec<Attention> {
    let mut all: Vec<_> = standings.iter().flat_map(|standing| standing.attention.clone()).collect();
    all.sort_by(|one, other| other.cmp(one));
    let mut keys = std::collections::BTreeSet::new();
    all.retain(|attention| keys.insert(attention.key()));
    all
}

/// How bad it is.
fn rank(standing: &Standing) -> u8 {
    match standing.attention.first() {
        Some(Attention::Fails { .. } | Attention::Rots { .. } | Attention::NotRestored { .. }) => 5,
        Some(Attention::Overdue { .. }) => 4,
        _ if standing.drive.failure.is_some() => 3,
        Some(_) => 2,
        None => u8::from(standing.mirror().is_none()),
    }
}

fn is_long_here(drive: &Drive, now: DateTime<Utc>) -> bool {
    matches!(drive.place, Place::PluggedIn(Some(since)) if now.signed_duration_since(since) > TOGETHER)
}

/// Whether no other drive has had a mirror since the visit `before` the last one of the drive, although another's turn it was.
fn came_twice(before: &Mirror, turn: usize, orders: &[Option<(u64, DateTime<Utc>)>]) -> bool {
    let before = Some(before.order());
    let mut others = orders.iter().enumerate().filter(|(other, _)| *other != turn).map(|(_, order)| *order).peekable();
    others.peek().is_some() && others.all(|order| order < before)
}

fn later(time: DateTime<Utc>, span: TimeDelta, times: usize) -> Option<DateTime<Utc>> {
    let times = i32::try_from(times).ok()?;
    time.checked_add_signed(span.checked_mul(times)?)
}

/// By how much the drive became fuller from one visit to the last, and how long that took.
fn growth(entry: &Entry) -> Option<(u64, TimeDelta)> {
    let (before, last) = (entry.before.as_ref()?, entry.mirror.as_ref()?);
    let bytes = last.room?.used.checked_sub(before.room?.used).filter(|bytes| *bytes > 0)?;
    let span = last.mirrored.signed_duration_since(before.mirrored);
    (span > TimeDelta::zero()).then_some((bytes, span))
}

fn full_by(entry: &Entry) -> Option<DateTime<Utc>> {
    let (bytes, span) = growth(entry)?;
    let last = entry.mirror.as_ref()?;
    let seconds =
        i128::from(last.room?.free).checked_mul(i128::from(span.num_seconds()))?.checked_div(i128::from(bytes))?;
    last.mirrored.checked_add_signed(TimeDelta::try_seconds(i64::try_from(seconds).ok()?)?)
}

/// Whether less than a twentieth is free, or less than the last visit needed.
fn is_nearly_full(room: Room, entry: &Entry) -> bool {
    let whole = room.used.saturating_add(room.free);
    room.free < whole / NEARLY_FULL || growth(entry).is_some_and(|(bytes, _)| room.free < bytes)
}

#[cfg(test)]
mod tests;
