//! How the pull of a host went: what its copies did, and how that is told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::human;
use phobos_site::exit::Exit;
use phobos_site::pull::HostName;
use serde::Serialize;

use crate::mark::{Mark, Success};
use crate::transfer::{Copied, Transfer};

/// How the pull of a host went.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) host: HostName,
    /// A mark's state, `busy` if the pull never began, or `dry-run`.
    pub(crate) state: &'static str,
    pub(crate) exit: u8,
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) error: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
    pub(crate) waited_secs: u64,
    #[serde(flatten)]
    pub(crate) done: Done,
    /// Whether the host may be away.
    #[serde(skip)]
    pub(crate) tolerated: bool,
}

/// What the copies of a host did.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Done {
    /// Regular files copied.
    pub(crate) files_copied: u64,
    /// Their size in bytes.
    pub(crate) bytes_copied: u64,
    /// Files, folders and links deleted.
    pub(crate) deleted: u64,
    /// Files, folders and links that the host has.
    pub(crate) files: u64,
    /// Their size in bytes.
    pub(crate) bytes: u64,
    /// How many files each source has in the holding space.
    #[serde(skip)]
    pub(crate) sources: BTreeMap<PathBuf, u64>,
    /// Whether anything was created, changed or deleted.
    #[serde(skip)]
    pub(crate) changed: bool,
    #[serde(skip)]
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    /// A pull that ended before it began.
    pub(crate) fn unbegun(host: &HostName, error: &str, exit: Exit) -> Self {
        let now = Utc::now();
        Self {
            host: host.clone(),
            state: "busy",
            exit: exit.code(),
            start: now,
            end: now,
            error: error.to_owned(),
            note: String::new(),
            waited_secs: 0,
            done: Done::default(),
            tolerated: false,
        }
    }
}

impl Outcome {
    /// What the journal is told, and how loudly.
    pub(crate) fn words(&self) -> (log::Level, String) {
        match (self.exit, self.error.is_empty()) {
            (0, true) => (log::Level::Info, self.done.words(self.end - self.start)),
            (0, false) => (log::Level::Info, format!("{}; that is no failure before its time", self.error)),
            _ => (log::Level::Error, self.error.clone()),
        }
    }
}

impl Done {
    /// Takes the last copy from a connection as its result.
    pub(crate) fn settle(&mut self, transfer: &Transfer<'_>, copied: &Copied) -> Result<(), anyhow::Error> {
        self.notes.extend(transfer.verdict(copied)?);
        self.add(copied);
        self.files = self.files.saturating_add(copied.fetched.stats.total_files);
        self.bytes = self.bytes.saturating_add(copied.fetched.stats.total_bytes);
        Ok(())
    }

    /// Takes a copy that is not the last one.
    pub(crate) fn add(&mut self, copied: &Copied) {
        let stats = &copied.fetched.stats;
        self.files_copied = self.files_copied.saturating_add(stats.files_transferred);
        self.bytes_copied = self.bytes_copied.saturating_add(stats.bytes_transferred);
        self.deleted = self.deleted.saturating_add(stats.deleted);
        self.changed |= copied.has_changes;
    }

    /// What the mark keeps of a good pull.
    pub(crate) fn success(&self, mark: &Mark) -> Success {
        Success {
            start: mark.start,
            end: mark.end.unwrap_or(mark.start),
            files: self.files,
            bytes: self.bytes,
            sources: self.sources.clone(),
        }
    }

    fn words(&self, length: TimeDelta) -> String {
        format!(
            "copied {} files with {}, deleted {}, in {}; the host has {} files, folders and links with {}",
            self.files_copied,
            human::size(self.bytes_copied),
            self.deleted,
            human::span(length),
            self.files,
            human::size(self.bytes)
        )
    }
}

/// A length of time in days, or in hours if it is short.
pub(crate) fn days(age: TimeDelta) -> String {
    match (age.num_days(), age.num_hours()) {
        (0, 0) => format!("{} minutes", age.num_minutes().max(0)),
        (0, 1) => "1 hour".to_owned(),
        (0, hours) => format!("{hours} hours"),
        (1, _) => "1 day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}
