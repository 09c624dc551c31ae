//! The data of the model: what is printed as JSON, and what all screens are drawn from.

use chrono::{DateTime, Utc};
use phobos_core::schema::SchemaVersion;
use phobos_site::history::Run;
use phobos_site::led;
use phobos_site::rotation::{Place, Standing};
use serde::{Serialize, Serializer};

use super::plan::{Gap, Planned};
use super::usual::Usual;
use super::words::clean;
use crate::facts::Claim;
use crate::zone::Zone;

/// How the machine stands.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Model {
    pub(super) schema_version: SchemaVersion<1>,
    pub(crate) machine: String,
    /// The moment that all of this is true of.
    pub(crate) at: DateTime<Utc>,
    /// The worst of the findings.
    pub(crate) state: Severity,
    /// What is not as it should be, worst first.
    pub(crate) findings: Vec<Finding>,
    pub(crate) running: Vec<Running>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) drives: Vec<Drive>,
    /// What is not as it should be with the drives, and what to do about it; among the findings too.
    #[serde(skip)]
    pub(crate) attention: Vec<(String, String)>,
    /// `None` if it cannot be seen.
    pub(crate) mail: Option<Mail>,
    pub(crate) light: Light,
    /// How full the backup disk is.
    pub(crate) room: Option<Room>,
    /// What is planned, and what goes on, in the order of their starts.
    pub(crate) planned: Vec<Planned>,
    pub(crate) best_time: Option<Gap>,
    /// What somebody who is not root cannot see.
    pub(crate) unseen: Vec<String>,
    #[serde(skip)]
    pub(crate) zone: Zone,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// All is well.
    Ok,
    /// Something is to be done, and nothing has failed.
    Attention,
    /// Something has failed.
    Failed,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) what: String,
    /// What to do.
    pub(crate) remedy: String,
}

/// What kind of job it is; the columns of the owner's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Borg's backups and checks, and what else works on the repository.
    Borg,
    /// A pull of a host.
    Pull,
    /// A mirror to an off-site drive.
    Drive,
    /// What else the administrator runs.
    Other,
}

/// A job: its last runs, what is usual, and when it runs next.
#[derive(Debug, Clone, Serialize)]
#[expect(clippy::struct_field_names, reason = "`job` and `object` are the history's own names")]
pub(crate) struct Job {
    /// What people call it.
    pub(crate) name: String,
    #[serde(serialize_with = "cleaned")]
    pub(crate) job: String,
    #[serde(serialize_with = "cleaned")]
    pub(crate) object: String,
    pub(crate) kind: Kind,
    pub(crate) last: Option<Ended>,
    /// When its last good run ended.
    pub(crate) last_good: Option<DateTime<Utc>>,
    pub(crate) usual: Option<Usual>,
    pub(crate) next: Option<DateTime<Utc>>,
    /// Whether its last good run is longer ago than it should be.
    pub(crate) late: bool,
    /// What is in a host's holding space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) space: Option<Space>,
    /// Whether anything plans it: a timer, or the configuration.
    #[serde(skip)]
    pub(crate) is_planned: bool,
    /// What starts it.
    #[serde(skip)]
    pub(crate) unit: Option<String>,
    #[serde(skip)]
    pub(crate) claims: Vec<Claim>,
    #[serde(skip)]
    pub(crate) recent: Vec<Ended>,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Ended {
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    pub(crate) exit: u8,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) error: String,
    pub(crate) waited_secs: u64,
    pub(crate) bytes: Option<u64>,
}

/// What a host's holding space says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Space {
    pub(crate) state: String,
    pub(crate) stale: bool,
    pub(crate) last_success: Option<DateTime<Utc>>,
    pub(crate) bytes: Option<u64>,
    pub(crate) files: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) error: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
}

/// A run that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) since: DateTime<Utc>,
    /// When it should end.
    pub(crate) until: Option<DateTime<Utc>>,
    /// What its unit says of itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) progress: String,
    /// For which locks it waits, and who holds them.
    pub(crate) waits_for: Vec<Wait>,
    /// The locks that it holds.
    #[serde(skip)]
    pub(crate) claims: Vec<Claim>,
}

/// A wait for a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Wait {
    pub(crate) lock: String,
    pub(crate) holders: Vec<String>,
    pub(crate) since: DateTime<Utc>,
    /// When the last of them should end.
    pub(crate) until: Option<DateTime<Utc>>,
}

/// An off-site drive.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Drive {
    pub(crate) name: String,
    pub(crate) plugged_in: bool,
    /// Since when it is plugged in, or when it was last seen.
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) mirrored: Option<DateTime<Utc>>,
    /// In bytes, as of its last complete mirror.
    pub(crate) used: Option<u64>,
    pub(crate) free: Option<u64>,
    /// By how much it became fuller from one visit to the last, in bytes, and in how many seconds.
    pub(crate) grew: Option<(u64, i64)>,
    pub(crate) full_by: Option<DateTime<Utc>>,
    /// How many drives have their turn before it.
    pub(crate) turn: usize,
    pub(crate) due_by: Option<DateTime<Utc>>,
    pub(crate) overdue: bool,
}

/// The mail that is still here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Mail {
    pub(crate) waiting: usize,
    pub(crate) set_aside: usize,
    pub(crate) oldest: Option<DateTime<Utc>>,
    /// Why the oldest is still here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
}

/// What the light shows, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Light {
    pub(crate) state: led::State,
    pub(crate) job: Option<String>,
    pub(crate) text: String,
}

/// How full the backup disk is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Room {
    pub(crate) used: u64,
    pub(crate) free: u64,
    /// When it is full, if the repository grows as it did between the last visits of a drive.
    pub(crate) full_by: Option<DateTime<Utc>>,
}

/// Whoever prints JSON on a terminal has it obey nothing either.
fn cleaned<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&clean(text))
}

impl From<&Run> for Ended {
    fn from(run: &Run) -> Self {
        let (start, end, exit, waited_secs, bytes) = (run.start, run.end, run.exit, run.waited_secs, run.bytes);
        Self { start, end, exit, error: clean(&run.error), waited_secs, bytes }
    }
}

impl From<&crate::facts::Space> for Space {
    fn from(space: &crate::facts::Space) -> Self {
        Self {
            state: clean(&space.state),
            stale: space.stale,
            last_success: space.last_success,
            bytes: space.bytes,
            files: space.files,
            error: clean(&space.error),
            note: clean(&space.note),
        }
    }
}

impl From<&Standing> for Drive {
    fn from(standing: &Standing) -> Self {
        let room = standing.mirror().and_then(|mirror| mirror.room);
        let (plugged_in, since) = match standing.drive.place {
            Place::PluggedIn(since) => (true, since),
            Place::Away(since) => (false, since),
        };
        let entry = &standing.drive.entry;
        let before = entry.before.as_ref().and_then(|before| Some((before.mirrored, before.room?.used)));
        let grew = before.zip(standing.mirror()).and_then(|((at, used), mirror)| {
            let span = mirror.mirrored.signed_duration_since(at).num_seconds();
            Some((mirror.room?.used.checked_sub(used)?, span)).filter(|(bytes, span)| *bytes > 0 && *span > 0)
        });
        Self {
            name: clean(&standing.drive.name),
            plugged_in,
            since,
            mirrored: standing.mirror().map(|mirror| mirror.mirrored),
            used: room.map(|room| room.used),
            free: room.map(|room| room.free),
            grew,
            full_by: standing.full_by,
            turn: standing.turn,
            due_by: standing.due_by,
            overdue: standing.is_overdue(),
        }
    }
}
