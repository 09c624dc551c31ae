//! What is read of this machine, once: all that the model knows.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use phobos_site::history::UnderWay;
use phobos_site::led;
use phobos_site::lock::Holder;
use phobos_site::rotation;
use serde::Deserialize;

use crate::digest::{Digest, Key};

/// All that is known, as it was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// The machine's name.
    pub(crate) machine: String,
    /// The runs that ended.
    pub(crate) past: Digest,
    /// The runs that have not.
    pub(crate) under_way: Vec<UnderWay>,
    /// The locks that are held or waited for.
    pub(crate) locks: Vec<LockFact>,
    /// What units say of themselves, by unit.
    pub(crate) progress: BTreeMap<String, String>,
    /// What the jobs have posted for the light.
    pub(crate) board: Vec<led::Job>,
    /// The off-site drives, and how long after the last mirror the next is due.
    pub(crate) drives: Vec<rotation::Drive>,
    pub(crate) overdue: TimeDelta,
    /// The hosts of the configuration.
    pub(crate) hosts: Vec<String>,
    /// What their holding spaces say; `None` if they cannot be seen.
    pub(crate) spaces: Option<Vec<Space>>,
    /// What the timers start.
    pub(crate) timers: Vec<Timed>,
    /// The mail that is still here; `None` if it cannot be seen.
    pub(crate) letters: Option<Vec<Letter>>,
    /// How full the backup disk is; `None` if it cannot be seen.
    pub(crate) room: Option<Room>,
    /// What could not be read, and why.
    pub(crate) troubles: Vec<String>,
    /// What somebody who is not root cannot see.
    pub(crate) unseen: Vec<String>,
}

/// A lock that somebody holds or waits for.
#[derive(Debug, Clone)]
pub(crate) struct LockFact {
    pub(crate) name: String,
    pub(crate) holders: Vec<Holder>,
    pub(crate) waiters: Vec<Holder>,
}

/// A holding space, as `phobos-pull list --json` tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Space {
    pub(crate) host: String,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) stale: bool,
    pub(crate) last_success: Option<DateTime<Utc>>,
    pub(crate) bytes: Option<u64>,
    pub(crate) files: Option<u64>,
    #[serde(default)]
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) note: String,
}

/// A letter, as `phobos-mail list --json` tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Letter {
    pub(crate) state: String,
    pub(crate) written: Option<DateTime<Utc>>,
    pub(crate) subject: Option<String>,
    pub(crate) reason: Option<String>,
}

/// How full a file system is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) used: u64,
    pub(crate) free: u64,
}

/// A timer that starts a job of phobos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timed {
    /// The timer.
    pub(crate) unit: String,
    /// What it starts.
    pub(crate) activates: String,
    /// Which job that is.
    pub(crate) work: Work,
    /// When it elapses, as far as that was asked for, the next time first.
    pub(crate) planned: Vec<DateTime<Utc>>,
}

/// What a unit calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    /// One job, with these locks.
    Job { key: Key, claims: Vec<Claim> },
    /// Pulls of these hosts; of all, if none is named.
    Pulls(Vec<String>),
}

/// A lock that a job takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) lock: String,
    pub(crate) shared: bool,
}

impl Claim {
    pub(crate) fn alone(lock: &str) -> Self {
        Self { lock: lock.to_owned(), shared: false }
    }

    pub(crate) fn shared(lock: &str) -> Self {
        Self { lock: lock.to_owned(), shared: true }
    }
}

/// The locks of a pull.
pub(crate) fn pull_claims(host: &str) -> Vec<Claim> {
    vec![Claim::shared("holding"), Claim::alone(&format!("holding/{host}"))]
}

/// The locks of a mirror.
pub(crate) fn mirror_claims() -> Vec<Claim> {
    vec![Claim::alone("holding"), Claim::alone("repository")]
}

impl Work {
    /// What a unit's command line starts, if it is one of phobos's jobs.
    pub(crate) fn of_command(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip_while(|word| !is_program(word));
        let program = words.next()?.rsplit('/').next()?;
        let mut own = words.take_while(|word| *word != "--");
        match program {
            "phobos-ns" => {
                let (mut job, mut claims) = (None, Vec::new());
                while let Some(word) = own.next() {
                    match word.split_once('=').map_or_else(|| (word, None), |(word, value)| (word, Some(value))) {
                        ("--job", value) => job = value.or_else(|| own.next()),
                        ("--lock", value) => claims.extend(value.or_else(|| own.next()).map(claim)),
                        _ => {}
                    }
                }
                Some(Self::Job { key: Key::new(job?, ""), claims })
            }
            "phobos-pull" => {
                let mut hosts = Vec::new();
                while let Some(word) = own.next() {
                    if ["--config", "--jobs", "-j", "--lock-wait"].contains(&word) {
                        own.next();
                    } else if !word.starts_with('-') {
                        hosts.push(word.to_owned());
                    }
                }
                let is_other =
                    matches!(hosts.first().map(String::as_str), Some("list" | "check" | "trust" | "authorize"));
                (!is_other).then_some(Self::Pulls(hosts))
            }
            _ => None,
        }
    }
}

fn is_program(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word);
    ["phobos-ns", "phobos-pull"].contains(&name)
}

fn claim(text: &str) -> Claim {
    text.strip_suffix(":shared").map_or_else(|| Claim::alone(text), Claim::shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_command_line_tells_its_job_and_its_locks() {
        let line =
            "/usr/local/bin/phobos-ns exec --job borgmatic --lock holding --lock=repository:shared -- phobos-pull x";
        let claims = vec![Claim::alone("holding"), Claim::shared("repository")];
        assert_eq!(Work::of_command(line), Some(Work::Job { key: Key::new("borgmatic", ""), claims }));
        let luv = Work::Pulls(vec!["luv".to_owned()]);
        for line in ["/usr/local/bin/phobos-pull luv", "nice /x/phobos-pull --config /a luv", "phobos-pull -v luv"] {
            assert_eq!(Work::of_command(line), Some(luv.clone()), "{line}");
        }
        assert_eq!(Work::of_command("/usr/local/bin/phobos-pull --all"), Some(Work::Pulls(Vec::new())));
        for line in ["", "/usr/local/bin/phobos-ns", "/bin/true", "phobos-pull list --json", "phobos-ns exec --job"] {
            assert_eq!(Work::of_command(line), None, "{line}");
        }
    }

    #[test]
    fn fuzz_unit_command() {
        let seeds: [&[u8]; 2] = [
            b"/usr/local/bin/phobos-ns exec --job a --lock holding:shared --lock=b -- x",
            b"phobos-pull --all -j 4 luv",
        ];
        phobos_fuzz::target("unit command", &seeds, |bytes| {
            std::hint::black_box(Work::of_command(&String::from_utf8_lossy(bytes)));
        });
    }
}
