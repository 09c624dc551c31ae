//! How far a drive has been read again, past what its mirrors wrote: in rounds, each of which reads everything once.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How many damaged files are kept in mind by name: of more than that the drive is to be replaced at once.
const NAMES: usize = 200;

/// After how many whole rounds without damage a drive is trusted again: months, for one that comes now and then.
const CLEAN: u64 = 3;

/// What is known of a drive that was read again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rounds {
    /// The round that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Round>,
    /// The last round that came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Round>,
    /// What was found to be damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
}

/// One round through all that is on a drive; what came meanwhile was read back when it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Round {
    /// When it began: everything was read since then when it ends.
    pub began: DateTime<Utc>,
    /// When something was last read.
    pub ended: DateTime<Utc>,
    /// In how many goes.
    pub visits: u64,
    /// How many bytes were read.
    pub bytes: u64,
    /// Where it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// The last thing that was read, in the order in which a drive is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// The segment of this number.
    Segment(u64),
    /// This file of the generation before.
    Generation(String),
    /// This file of those that rsync copies.
    Space(String),
    /// A part of such a file, which is too large for one go.
    Within(Within),
}

/// How far a large file was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Within {
    /// The file's path.
    pub path: String,
    /// The CRC-32 that the whole file has to have: with another one it is another file, and is read from its beginning.
    pub wanted: String,
    /// How many bytes of it were read.
    pub read: u64,
    /// Their CRC-32.
    pub crc: String,
}

/// Damage that was found, until so many whole rounds as [`CLEAN`] have found none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Damage {
    /// When it was last found.
    pub at: DateTime<Utc>,
    /// How many files.
    pub files: u64,
    /// One of them, and what is wrong with it.
    pub first: String,
    /// How many whole rounds that began later have found none.
    #[serde(default)]
    pub clean: u64,
    /// Those that no mirror has mended yet, by their paths from the top of the drive.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unmended: BTreeSet<String>,
    /// How many more no mirror has mended, whose names are not kept: only reading everything again finds them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unnamed: u64,
}

/// One go at reading a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Go {
    /// When it began.
    pub began: DateTime<Utc>,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// How many bytes it read.
    pub bytes: u64,
    /// Whether it began with the beginning, wherever the round was.
    pub anew: bool,
    /// Whether it is the rest of one that was noted before.
    pub continues: bool,
    /// Whether it came to the end.
    pub whole: bool,
    /// Where the next one goes on; `None` for the beginning.
    pub position: Option<Position>,
    /// The damaged files, by their paths, and what is wrong with each.
    pub damaged: Vec<(String, String)>,
    /// How many more were damaged.
    pub more: u64,
}

impl Rounds {
    /// Takes note of `go`.
    pub fn note(&mut self, go: Go) {
        let Go { began, ended, bytes, anew, continues, whole, position, damaged, more } = go;
        let round = self.current.take().filter(|_| !anew);
        let mut round = round.unwrap_or(Round { began, ended, visits: 0, bytes: 0, position: None });
        round.ended = ended;
        round.visits = round.visits.saturating_add(u64::from(!continues));
        round.bytes = round.bytes.saturating_add(bytes);
        round.position = position;
        if let Some((path, why)) = damaged.first() {
            let before = self.damage.take();
            let before = before.map(|before| (before.files, before.unmended, before.unnamed));
            let (files, mut unmended, unnamed) = before.unwrap_or_default();
            let first = format!("{path}: {why}");
            let mut new: Vec<_> =
                damaged.into_iter().map(|(path, _)| path).filter(|path| !unmended.contains(path)).collect();
            let files = files.saturating_add(count(new.len())).saturating_add(more);
            let nameless = new.split_off(new.len().min(NAMES.saturating_sub(unmended.len()))).len();
            unmended.extend(new);
            let unnamed = unnamed.saturating_add(count(nameless)).saturating_add(more);
            self.damage = Some(Damage { at: ended, files, first, clean: 0, unmended, unnamed });
        } else if let Some(damage) = self.damage.as_mut().filter(|damage| whole && damage.at < round.began) {
            damage.clean = damage.clean.saturating_add(1);
        }
        self.damage = self.damage.take().filter(|damage| damage.clean < CLEAN);
        if whole {
            self.whole = Some(round);
        } else {
            self.current = Some(round);
        }
    }

    /// Where the next go begins.
    pub fn position(&self) -> Option<&Position> {
        self.current.as_ref()?.position.as_ref()
    }

    /// The files that are known to be damaged.
    pub fn unmended(&self) -> impl Iterator<Item = &str> {
        self.damage.iter().flat_map(|damage| &damage.unmended).map(String::as_str)
    }

    /// Whether more are known to be damaged than are known by name.
    pub fn has_unnamed(&self) -> bool {
        self.damage.as_ref().is_some_and(|damage| damage.unnamed > 0)
    }

    /// Takes note that a complete mirror has mended what was damaged.
    pub fn mended(&mut self) {
        if let Some(damage) = &mut self.damage {
            damage.unmended.clear();
            damage.unnamed = 0;
        }
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn day(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(day)
    }

    fn go(at: i64, position: Option<u64>, damaged: &[&str]) -> Go {
        Go {
            began: day(at),
            ended: day(at) + TimeDelta::hours(1),
            bytes: 10,
            anew: false,
            continues: false,
            whole: position.is_none(),
            position: position.map(Position::Segment),
            damaged: damaged.iter().map(|path| ((*path).to_owned(), "it is wrong".to_owned())).collect(),
            more: 0,
        }
    }

    #[test]
    fn a_round_goes_on_until_it_is_whole() {
        let mut rounds = Rounds::default();
        rounds.note(go(1, Some(5), &[]));
        rounds.note(go(30, Some(9), &[]));
        assert_eq!(rounds.position(), Some(&Position::Segment(9)));
        assert_eq!(rounds.whole, None);
        rounds.note(go(60, None, &[]));
        let whole = rounds.whole.clone().unwrap();
        assert_eq!(
            (whole.began, whole.ended, whole.visits, whole.bytes),
            (day(1), day(60) + TimeDelta::hours(1), 3, 30)
        );
        assert_eq!((rounds.position(), &rounds.current), (None, &None));
        rounds.note(go(90, Some(2), &[]));
        rounds.note(Go { anew: true, ..go(91, None, &[]) });
        assert_eq!(rounds.whole.as_ref().map(|whole| (whole.began, whole.visits)), Some((day(91), 1)));
    }

    /// A signal may come before anything was read.
    #[test]
    fn a_go_that_came_to_nothing_is_no_whole_round() {
        let mut rounds = Rounds::default();
        rounds.note(Go { whole: false, ..go(1, None, &[]) });
        assert_eq!((rounds.whole.as_ref(), rounds.position()), (None, None));
        rounds.note(go(2, None, &[]));
        assert_eq!(rounds.whole.map(|whole| (whole.began, whole.visits)), Some((day(1), 2)));
    }

    #[test]
    fn damage_is_kept_in_mind_until_whole_rounds_begun_later_find_none() {
        let mut rounds = Rounds::default();
        rounds.note(go(1, Some(5), &["a", "b"]));
        rounds.note(go(2, Some(6), &["b", "c"]));
        let damage = rounds.damage.clone().unwrap();
        assert_eq!((damage.files, damage.first.as_str()), (3, "b: it is wrong"));
        assert_eq!(rounds.unmended().collect::<Vec<_>>(), ["a", "b", "c"]);
        rounds.mended();
        assert_eq!(rounds.unmended().count(), 0);
        rounds.note(go(3, None, &[]));
        assert_eq!(rounds.damage.as_ref().map(|damage| damage.clean), Some(0), "the round had begun before");
        for day in 4..6 {
            rounds.note(go(day, None, &[]));
            assert!(rounds.damage.is_some(), "day {day}");
        }
        rounds.note(go(6, None, &[]));
        assert_eq!(rounds.damage, None);
    }

    #[test]
    fn however_much_is_damaged_the_names_are_few() {
        let mut rounds = Rounds::default();
        let names: Vec<String> = (0..NAMES * 2).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        rounds.note(Go { more: 7, ..go(1, None, &names) });
        let damage = rounds.damage.clone().unwrap();
        assert_eq!((damage.files, damage.unmended.len(), damage.unnamed), (407, NAMES, 207));
        rounds.note(go(2, None, &names));
        let damage = rounds.damage.clone().unwrap();
        assert_eq!((damage.files, damage.unmended.len(), damage.unnamed), (607, NAMES, 407));
        assert!(rounds.has_unnamed());
        rounds.mended();
        assert!(!rounds.has_unnamed());
    }
}
