//! What copies did, or would do, counted for each source, so that an empty one never empties its folder because another
//! source of the host is full.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use phobos_core::progress::{Change, ChangeKind};
use phobos_site::pull::MaxDelete;

use crate::deletions;

/// How many names a refusal gives.
const EXAMPLES: usize = 3;

/// What a copy did, or would do, to one source's files in the holding space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Files, links and the like that were not there before.
    pub(crate) created: u64,
    /// Those that went.
    pub(crate) deleted: u64,
    /// Those that went, and folders.
    pub(crate) deletions: u64,
    /// Some of their names.
    pub(crate) examples: Vec<String>,
}

/// The tallies of a connection's sources, by their place below the folder that rsync copies into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tallies(BTreeMap<PathBuf, Tally>);

/// What deleting must not go beyond.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits<'a> {
    /// How much of each source.
    pub(crate) most: MaxDelete,
    /// The folder that rsync copies into, below the holding space.
    pub(crate) landing: &'a Path,
    /// How many files each source had before the pull, by the place that the tallies have.
    pub(crate) before: &'a BTreeMap<PathBuf, u64>,
}

impl Tallies {
    /// Nothing yet, for sources in these places; none is within another.
    pub(crate) fn new(places: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(places.into_iter().map(|place| (place, Tally::default())).collect())
    }

    /// Takes a change that rsync tells.
    pub(crate) fn take(&mut self, change: Change<'_>) {
        let name = change.name;
        let Some((_, tally)) = self.0.iter_mut().find(|(place, _)| Path::new(name).starts_with(place)) else {
            return;
        };
        let is_folder = name.ends_with('/');
        match change.kind {
            ChangeKind::Created if !is_folder => tally.created += 1,
            ChangeKind::Deleted => {
                tally.deletions += 1;
                tally.deleted += u64::from(!is_folder);
                if !is_folder && tally.examples.len() < EXAMPLES {
                    tally.examples.push(name.to_owned());
                }
            }
            ChangeKind::Created | ChangeKind::Changed => {}
        }
    }

    /// The tally of each place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PathBuf, &Tally)> {
        self.0.iter()
    }

    /// Adds what another copy did.
    pub(crate) fn add(&mut self, other: &Self) {
        for (place, tally) in &other.0 {
            let sum = self.0.entry(place.clone()).or_default();
            sum.created += tally.created;
            sum.deleted += tally.deleted;
            sum.deletions += tally.deletions;
            let room = EXAMPLES.saturating_sub(sum.examples.len());
            sum.examples.extend(tally.examples.iter().take(room).cloned());
        }
    }

    /// How many deletions there are, those of folders included.
    pub(crate) fn deletions(&self) -> u64 {
        self.0.values().map(|tally| tally.deletions).sum()
    }

    /// Why the deletions are too many, if they are.
    pub(crate) fn objection(&self, limits: Limits<'_>) -> Option<String> {
        let objections: Vec<String> = self
            .0
            .iter()
            .filter_map(|(place, tally)| {
                let before = limits.before.get(place).copied().unwrap_or_default();
                (!deletions::is_allowed(limits.most, before, tally.deleted)).then(|| {
                    let rest = tally.deleted.saturating_sub(u64::try_from(tally.examples.len()).unwrap_or(u64::MAX));
                    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
                    let examples = tally.examples.iter().map(|name| limits.landing.join(name).display().to_string());
                    let examples: Vec<_> = examples.collect();
                    let which =
                        if tally.deleted >= before { "all".to_owned() } else { format!("{} of", tally.deleted) };
                    let place = shown(&limits.landing.join(place));
                    format!("{which} {before} files in {place} ({}{more})", examples.join(", "))
                })
            })
            .collect();
        (!objections.is_empty()).then(|| objections.join("; "))
    }
}

/// A place below a holding space, for people.
fn shown(place: &Path) -> String {
    Path::new("/").join(place).components().collect::<PathBuf>().display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use phobos_core::rsync;

    fn tallies(lines: &[&str]) -> Tallies {
        let mut tallies = Tallies::new(["home".into(), "etc".into()]);
        lines.iter().filter_map(|line| rsync::change(line)).for_each(|change| tallies.take(change));
        tallies
    }

    fn tally(tallies: &Tallies, place: &str) -> Tally {
        tallies.0[Path::new(place)].clone()
    }

    fn objection(lines: &[&str], home: u64, etc: u64) -> Option<String> {
        let before = [("home".into(), home), ("etc".into(), etc)].into();
        tallies(lines).objection(Limits { most: MaxDelete::Percent(50), landing: Path::new(""), before: &before })
    }

    #[test]
    fn files_are_counted_and_folders_are_not() {
        let tallies = tallies(&[
            "*deleting   home/d/",
            "*deleting   home/d/f1",
            ">f+++++++++ home/new",
            "cd+++++++++ home/newer/",
            ">f.st...... etc/fstab",
            "*deleting   homework",
            "sent 5 bytes",
        ]);
        let home = tally(&tallies, "home");
        assert_eq!((home.created, home.deleted, home.deletions), (1, 1, 2));
        assert_eq!(tally(&tallies, "etc"), Tally::default());
        assert_eq!(tallies.deletions(), 2);
    }

    #[test]
    fn an_empty_source_never_empties_its_folder_although_another_is_full() {
        let gone = ["*deleting   etc/a", "*deleting   etc/b"];
        assert_eq!(objection(&gone, 100_000, 3), None);
        assert_eq!(objection(&gone, 100_000, 2).unwrap(), "all 2 files in /etc (etc/a, etc/b)");
    }

    #[test]
    fn a_refusal_names_places_as_they_are_in_the_holding_space() {
        let mut tallies = Tallies::new([PathBuf::new()]);
        tallies.take(Change::deleted("song"));
        let before = [(PathBuf::new(), 1)].into();
        let limits = Limits { most: MaxDelete::Percent(50), landing: Path::new("music"), before: &before };
        assert_eq!(tallies.objection(limits).unwrap(), "all 1 files in /music (music/song)");
    }

    #[test]
    fn half_of_many_is_the_limit() {
        let lines: Vec<_> = (0..52).map(|n| format!("*deleting   home/{n}")).collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        assert_eq!(objection(&lines, 104, 0), None);
        let said = objection(&lines, 103, 0).unwrap();
        assert_eq!(said, "52 of 103 files in /home (home/0, home/1, home/2 and 49 more)");
        assert_eq!(objection(&lines, 100, 0), None, "of few, any but the last");
    }
}
