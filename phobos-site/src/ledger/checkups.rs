//! What a drive's disk said of its own health when it was last here.

use std::path::Path;

use chrono::{DateTime, Utc};
use phobos_core::block::{self, Health};
use phobos_core::exec::Exec;
use serde::{Deserialize, Serialize};

/// What the disk of a drive said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checkup {
    /// When it was asked.
    pub at: DateTime<Utc>,
    /// What it said.
    pub state: State,
    /// What it complains of, or why it said nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// How often the kernel had to reset it on its bus since the machine had booted, where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets: Option<u64>,
}

/// What a disk says of itself, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has no complaint.
    Good,
    /// It expects to fail, or has lost something.
    Failing,
    /// It cannot be asked, or does not tell; also what a later version has written.
    #[serde(other)]
    Unknown,
}

impl Checkup {
    /// Asks the disk that `device` is on, which takes it as long as it likes: nobody may be told before that it is at rest.
    pub fn of(exec: &dyn Exec, device: &Path, at: DateTime<Utc>) -> Self {
        let (state, what) = match block::health(exec, device) {
            Health::Good => (State::Good, String::new()),
            Health::Failing(what) => (State::Failing, what),
            Health::Unknown(why) => (State::Unknown, why),
            _ => (State::Unknown, String::new()),
        };
        Self { at, state, what, resets: None }
    }

    /// Counts how often the disk was reset; the disk itself is not asked.
    pub fn count_resets(&mut self, exec: &dyn Exec, device: &Path) {
        self.resets = block::usb_resets(exec, device);
    }

    /// What it complains of.
    pub fn complaint(&self) -> Option<&str> {
        (self.state == State::Failing).then_some(self.what.as_str())
    }
}
