//! What drills have shown: whether a drive gives files back, and which files have their turn next.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What is known of a drive that was drilled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Drills {
    /// The last drill that went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Drill>,
    /// The last one that restored everything and went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Drill>,
    /// The last one that went well with what is kept for a day without this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Drill>,
    /// How the last one went wrong, until one goes well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<BadDrill>,
    /// Where in the circle of its files each host goes on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub next: BTreeMap<String, u64>,
}

/// A drill that went well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Drill {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// How many files were restored.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
    /// When the oldest of the archives was made that they came from, the newest of each host.
    pub archived: DateTime<Utc>,
    /// Whether everything was restored, and not a sample.
    #[serde(default)]
    pub full: bool,
    /// Whether the drive was opened with its recovery passphrase, and the archives with the key that was exported, if there is one.
    #[serde(default)]
    pub recovery: bool,
}

/// A drill that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BadDrill {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// What it said.
    pub error: String,
}

impl Drills {
    /// Takes note of a drill that went well.
    pub fn went_well(&mut self, drill: Drill) {
        if drill.full {
            self.whole = Some(drill.clone());
        }
        if drill.recovery {
            self.recovered = Some(drill.clone());
        }
        self.good = Some(drill);
        self.bad = None;
    }

    /// Takes note of one that went wrong.
    pub fn went_wrong(&mut self, at: DateTime<Utc>, error: String) {
        self.bad = Some(BadDrill { at, error });
    }

    /// Takes note of which files have their turn next, of each of these hosts.
    pub fn turn(&mut self, next: BTreeMap<String, u64>) {
        self.next.extend(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_kept_until_a_drill_goes_well() {
        let at = DateTime::UNIX_EPOCH;
        let good = Drill { at, files: 3, bytes: 7, archived: at, full: false, recovery: false };
        let mut drills = Drills::default();
        drills.went_well(good.clone());
        drills.turn(BTreeMap::from([("luv".to_owned(), 5), ("chew".to_owned(), 6)]));
        drills.went_wrong(at, "wrong".to_owned());
        assert_eq!(
            (drills.good.as_ref(), drills.bad.as_ref().map(|bad| bad.error.as_str())),
            (Some(&good), Some("wrong"))
        );
        drills.turn(BTreeMap::from([("luv".to_owned(), 8)]));
        drills.went_well(good);
        assert_eq!((drills.bad, drills.next.into_values().collect::<Vec<_>>()), (None, vec![6, 8]));
    }
}
