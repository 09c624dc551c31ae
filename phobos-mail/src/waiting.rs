//! The letters that are still here: those that wait, and those that were set aside; listed, and dropped by hand.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use phobos_core::fs::{FsError, Kind, shown_text};
use phobos_site::exit::{Exit, Stop};
use serde::Serialize;

use crate::letter::Letter;
use crate::owned::Owned;
use crate::spool::Spool;
use crate::text;

/// The version of the form of [`Listing`].
const SCHEMA: u32 = 1;

/// How many characters of an id are shown, where that is enough.
const SHORT: usize = 12;

/// All letters that are still here.
#[derive(Debug, Serialize)]
pub(crate) struct Listing {
    schema_version: u32,
    letters: Vec<Listed>,
}

/// One letter, or what is in the place of one.
#[derive(Debug, Serialize)]
struct Listed {
    id: String,
    state: Standing,
    /// When it was written, as RFC 3339.
    written: Option<String>,
    to: Option<String>,
    unit: Option<String>,
    subject: Option<String>,
    /// How often a server has put it off, or not said whether it took it.
    attempts: u32,
    /// Before when it is not tried again, as RFC 3339.
    not_before: Option<String>,
    /// Why it is still here, where that is known.
    reason: Option<String>,
    /// Its file.
    file: String,
}

/// What a letter is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Standing {
    /// It will be tried again.
    Waiting,
    /// It was set aside, and waits for a human.
    SetAside,
}

/// A letter's place.
struct Place<'a> {
    spool: &'a Spool,
    standing: Standing,
    name: OsString,
}

impl Standing {
    fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::SetAside => "set aside",
        }
    }
}

impl Place<'_> {
    fn folder(&self) -> &Owned {
        match self.standing {
            Standing::Waiting => &self.spool.queue,
            Standing::SetAside => &self.spool.refused,
        }
    }
}

/// The spools of `folders` that are there.
pub(crate) fn spools(folders: &[PathBuf]) -> Result<Vec<Spool>> {
    folders.iter().filter_map(|folder| Spool::find(folder).transpose()).collect()
}

fn places(spools: &[Spool]) -> Result<Vec<Place<'_>>> {
    let mut places = Vec::new();
    for spool in spools {
        let waiting = spool.list()?.into_iter().map(|name| (Standing::Waiting, name));
        let set_aside = spool.list_refused()?.into_iter().map(|name| (Standing::SetAside, name));
        places.extend(waiting.chain(set_aside).map(|(standing, name)| Place { spool, standing, name }));
    }
    Ok(places)
}

/// Lists the letters below `folders`, without keeping anybody from sending them.
///
/// # Errors
///
/// When a spool cannot be read.
pub(crate) fn list(folders: &[PathBuf]) -> Result<Listing> {
    let spools = spools(folders)?;
    let mut letters = Vec::new();
    for place in places(&spools)? {
        // A letter that is gone by now was sent meanwhile.
        if let Some(letter) = Spool::peek(place.folder(), &place.name)? {
            letters.push(listed(&place, letter));
        }
    }
    Ok(Listing { schema_version: SCHEMA, letters })
}

fn listed(place: &Place<'_>, letter: Result<Letter, String>) -> Listed {
    let moment = |seconds: i64| text::local(seconds).to_rfc3339();
    let file = place.folder().path().join(&place.name).to_string_lossy().into_owned();
    match letter {
        Ok(letter) => Listed {
            state: place.standing,
            written: Some(moment(letter.written)),
            unit: Some(letter.unit).filter(|unit| !unit.is_empty()),
            subject: Some(letter.subject),
            attempts: letter.put_off.saturating_add(letter.unanswered),
            not_before: Some(letter.not_before).filter(|at| *at > 0).map(moment),
            reason: letter.reason,
            id: letter.id,
            to: letter.to,
            file,
        },
        Err(why) => Listed {
            id: id_of_file(&place.name),
            state: place.standing,
            written: None,
            to: None,
            unit: None,
            subject: None,
            attempts: 0,
            not_before: None,
            reason: Some(format!("it holds no letter: {why}")),
            file,
        },
    }
}

/// What stands for a letter that cannot be read: its file's name.
fn id_of_file(name: &OsString) -> String {
    Path::new(name).with_extension("").to_string_lossy().into_owned()
}

impl Listing {
    /// One letter a line: its id, when it was written, what it is here for, what it says, and why.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut length = SHORT;
        let distinct = |length: usize| {
            let mut short: Vec<String> =
                self.letters.iter().map(|letter| letter.id.chars().take(length).collect()).collect();
            short.sort_unstable();
            short.windows(2).all(|pair| pair.first() != pair.last())
        };
        while length < 64 && !distinct(length) {
            length = length.saturating_add(4);
        }
        self.letters.iter().map(|letter| letter.line(length)).collect()
    }
}

impl Listed {
    fn line(&self, length: usize) -> String {
        let id: String = match self.subject {
            Some(_) => self.id.chars().take(length).collect(),
            None => shown_text(&self.id),
        };
        let written = self.written.as_deref().map(|at| at.replacen('T', " ", 1).chars().take(19).collect::<String>());
        let what = text::line(self.subject.as_deref().unwrap_or("(no letter)"), 300);
        let to = self.to.as_deref().map(|to| format!(" to {}", text::line(to, 100))).unwrap_or_default();
        let why = self.reason.as_deref().map(|why| format!(": {}", text::line(why, 500))).unwrap_or_default();
        let written = written.unwrap_or_else(|| "?".to_owned());
        format!("{id}  {written}  {}  {what}{to}{why}", self.state.word())
    }
}

/// Drops the letter whose id begins with `id`, and returns what it said.
///
/// # Errors
///
/// When there is no such letter, or several, or when somebody sends it right now.
pub(crate) fn drop_letter(folders: &[PathBuf], id: &str) -> Result<String> {
    let spools = spools(folders)?;
    let mut found = Vec::new();
    for place in places(&spools)? {
        let Some(letter) = Spool::peek(place.folder(), &place.name)? else { continue };
        let listed = listed(&place, letter);
        if listed.id == id {
            found = vec![(place, listed)];
            break;
        }
        if !id.is_empty() && listed.id.starts_with(id) {
            found.push((place, listed));
        }
    }
    let count = found.len();
    let (Some((place, listed)), 1) = (found.pop(), count) else {
        let id = text::line(id, 100);
        let (exit, what) = match count {
            0 => (Exit::Usage, format!("no letter's id begins with {id}; `phobos-mail list` shows them")),
            _ => (Exit::Usage, format!("the ids of {count} letters begin with {id}; give more of it")),
        };
        return Err(Stop::new(exit, what).into());
    };
    match place.standing {
        Standing::SetAside => remove(place.folder(), Path::new(&place.name))?,
        Standing::Waiting => match place.spool.claim(&place.name)? {
            Some(claim) => claim.done()?,
            // It was none, and is set aside by now; or somebody is at it.
            None if place.spool.list_refused()?.contains(&place.name) => {
                remove(&place.spool.refused, Path::new(&place.name))?;
            }
            None => return Err(Stop::new(Exit::Busy, "this letter is being sent right now").into()),
        },
    }
    Ok(listed.line(SHORT))
}

/// Removes what was set aside, which may be anything; a folder must be empty.
fn remove(folder: &Owned, name: &Path) -> Result<()> {
    let removed = folder.act(|dir| match dir.stat(name)?.map(|stat| stat.kind) {
        Some(Kind::Dir) => dir.remove_dir(name),
        _ => dir.remove(name),
    })?;
    match removed {
        Err(FsError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => Ok(other?),
    }
}

/// What is to be told of the letters below `folders`, if there is anything: how many wait, and how many are set aside.
///
/// # Errors
///
/// When a spool cannot be read.
pub(crate) fn trouble(folders: &[PathBuf]) -> Result<Option<String>> {
    let (mut waiting, mut set_aside) = (0_u64, 0_u64);
    for spool in spools(folders)? {
        waiting = waiting.saturating_add(u64::try_from(spool.list()?.len())?);
        set_aside = set_aside.saturating_add(u64::try_from(spool.list_refused()?.len())?);
    }
    Ok(told(waiting, set_aside))
}

/// Whether letters wait below `folders`.
///
/// # Errors
///
/// When a spool cannot be read.
pub(crate) fn any(folders: &[PathBuf]) -> Result<bool> {
    let mut any = false;
    for spool in spools(folders)? {
        any |= !spool.list()?.is_empty();
    }
    Ok(any)
}

fn told(waiting: u64, set_aside: u64) -> Option<String> {
    let waiting = (waiting > 0).then(|| format!("{} cannot be sent", text::count(waiting, "message")));
    let set_aside = (set_aside > 0).then(|| {
        let was = if set_aside == 1 { "was" } else { "were" };
        format!("{} {was} set aside (phobos-mail list)", text::count(set_aside, "message"))
    });
    match (waiting, set_aside) {
        (Some(waiting), Some(set_aside)) => Some(format!("{waiting}, {set_aside}")),
        (waiting, set_aside) => waiting.or(set_aside),
    }
}

/// Hands the letters of root's own spool over to the units': their timer sees to no other.
///
/// # Errors
///
/// When a letter cannot be read, written or removed; it is in one of the two then, or in both.
pub(crate) fn hand_over(from: &Spool, to: &Spool) -> Result<u64> {
    let mut count = 0_u64;
    for name in from.list()? {
        // Under its own name: a run that is killed here hands it over once more, not twice.
        let Some(claim) = from.claim(&name)? else { continue };
        drop(to.add_as(claim.name().clone(), claim.letter.clone())?);
        claim.done()?;
        count = count.saturating_add(1);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter;

    #[test]
    fn what_is_told_counts_both_kinds() {
        assert_eq!(told(0, 0), None);
        assert_eq!(told(1, 0).unwrap(), "1 message cannot be sent");
        assert_eq!(told(0, 1).unwrap(), "1 message was set aside (phobos-mail list)");
        assert_eq!(told(2, 3).unwrap(), "2 messages cannot be sent, 3 messages were set aside (phobos-mail list)");
    }

    #[test]
    fn a_letter_is_listed_and_dropped_by_the_beginning_of_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        let spool = Spool::open(folder.path()).unwrap();
        let letter = letter::blank("a.service");
        let id = letter.id.clone();
        spool.add(letter).unwrap().set_aside("550 no\u{1b}[2J").unwrap();
        let claim = spool.add(letter::blank("b.service")).unwrap();
        std::fs::write(folder.path().join("refused/evil\u{1b}x.json"), "x").unwrap();
        let listing = list(&folders).unwrap();
        let lines = listing.lines();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with(&id[..12]) && lines[1].ends_with(r": 550 no\x1b[2J"), "{lines:?}");
        assert!(lines.iter().all(|line| !line.chars().any(char::is_control)), "{lines:?}");
        assert_eq!(trouble(&folders).unwrap(), told(1, 2));

        assert!(drop_letter(&folders, "nothing").is_err() && drop_letter(&folders, "").is_err());
        assert!(drop_letter(&folders, &id[..8]).unwrap().contains("550 no"));
        let busy = drop_letter(&folders, &claim.letter.id).unwrap_err();
        assert_eq!(busy.to_string(), "this letter is being sent right now");
        drop(claim);
        drop_letter(&folders, "evil").unwrap();
        assert_eq!(list(&folders).unwrap().letters.len(), 1);
    }

    #[test]
    fn letters_are_handed_over_once() {
        let folder = tempfile::tempdir().unwrap();
        let [own, units] = ["own", "units"].map(|name| Spool::open(&folder.path().join(name)).unwrap());
        drop(own.add(letter::blank("a.service")).unwrap());
        assert_eq!(hand_over(&own, &units).unwrap(), 1);
        assert_eq!((own.list().unwrap().len(), units.list().unwrap().len()), (0, 1));
    }
}
