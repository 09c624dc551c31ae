//! The gate: what a repository must prove before it may replace the copy on a drive.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use phobos_core::borg::LOCK_FILES;
use phobos_core::borg::config::{Config, MAX_CONFIG};
use phobos_core::borg::descent::{self, Contents, Whose};
use phobos_core::borg::segment::{Checker, Summary};
use phobos_core::borg::state::{Segment, State, path_of};
use phobos_core::copy::{self, CopyError, Plan, Survey};
use phobos_core::fs::{Dir, FsError, Kind, shown};
use phobos_core::human;
use phobos_core::progress::{CopyEvent, Handler};
use phobos_site::exit::{Exit, Stop};

/// A copy that is smaller than this needs no guarding, in bytes.
const SMALL: u64 = 1024 * 1024;

/// How many names a source may have: 500 TB of Borg's segments.
pub(crate) const NAMES: usize = 1_000_000;

/// How many findings a refusal names.
const NAMED: usize = 10;

/// How much of a segment is read at once, in bytes.
const PIECE: usize = 1024 * 1024;

/// A difference that may be right, and that a person has to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What it is, in plain words.
    pub(crate) text: String,
    /// Exactly what differs.
    pub(crate) exactly: String,
}

/// What a repository's folder has in it.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub(crate) survey: Survey,
    /// Whether there is a lock or something half written, which no copy may have.
    pub(crate) has_passing: bool,
    /// Which repository its `config` says that it is.
    pub(crate) id: Option<String>,
}

/// A repository, as far as the gate has to know it.
#[derive(Debug)]
pub(crate) struct Side<'d> {
    pub(crate) state: State,
    pub(crate) dir: &'d Dir,
}

/// Looks into the folder `dir`, which should have no more than `names` names; nothing is believed yet.
pub(crate) fn look(dir: &Dir, names: usize, handler: Handler<'_>) -> Result<Look, anyhow::Error> {
    let is_passing = |path: &Path| {
        let name = path.to_string_lossy();
        LOCK_FILES.iter().any(|lock| path.starts_with(lock)) || name.ends_with(".tmp") || name.starts_with("lock.")
    };
    let survey = copy::survey_up_to(dir, names, handler)?;
    let all = survey.items.len();
    let survey = survey.without(&is_passing);
    let has_passing = survey.items.len() != all;
    // One that is no file was seen in the survey already.
    let is_file = survey.items.get(Path::new("config")).is_some_and(|item| item.kind == Kind::File);
    let config = if is_file { dir.read(Path::new("config"), MAX_CONFIG)? } else { None };
    let id = config.and_then(|config| Config::parse(&config).ok()).map(|config| config.id.as_str().to_owned());
    Ok(Look { survey, has_passing, id })
}

/// Reads what the repository in `dir` is, which has been looked at.
pub(crate) fn read(dir: &Dir) -> Result<Side<'_>, anyhow::Error> {
    let state = State::read(dir).with_context(|| format!("cannot judge the repository in {}", shown(dir.path())))?;
    Ok(Side { state, dir })
}

/// A survey without what no transaction has completed: a killed Borg has left it, and drops it when it writes again.
pub(crate) fn settled(survey: Survey, state: &State) -> Survey {
    let Some(committed) = state.committed else { return survey };
    survey.without(&|path| segment_of(path).is_some_and(|(_, number)| number > committed.into()))
}

/// Refuses a repository in which there is anything but files and folders, by its names alone: before Borg's lock is taken,
/// which takes a link that leads nowhere for a failure of its own. Another Borg may be at work there. Returns how many names there
/// are.
pub(crate) fn shape(dir: &Dir) -> Result<usize, anyhow::Error> {
    let data = Path::new("data");
    if dir.stat(data)?.is_none() {
        return Err(refused("the repository is damaged: it has no folder `data`".to_owned()).into());
    }
    let (mut folders, mut names) = (vec![PathBuf::new(), data.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        let opened = if folder.as_os_str().is_empty() { dir.try_clone() } else { dir.open_dir(&folder) };
        let opened = match opened {
            // Borg removes a folder whose segments it has compacted.
            Err(FsError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            opened => opened?,
        };
        for entry in opened.entries_up_to(NAMES)? {
            names += 1;
            let path = folder.join(&entry.name);
            let kind = match entry.kind {
                None => opened.stat(Path::new(&entry.name))?.map(|stat| stat.kind),
                kind => kind,
            };
            match kind {
                Some(Kind::Dir) if folder == data => folders.push(path),
                None | Some(Kind::File | Kind::Dir) => {}
                Some(kind) => return Err(strange(&path, kind).into()),
            }
        }
    }
    Ok(names)
}

/// Refuses a source with something in it that is none of Borg's, whatever is on the drive.
pub(crate) fn is_borgs(source: &Survey, segments_per_dir: u64) -> Result<(), Stop> {
    if let Some((path, kind)) = source.strange() {
        return Err(strange(path, kind));
    }
    let is_stray = |path: &&Path| {
        path.starts_with("data")
            && segment_of(path).is_none_or(|(folder, number)| folder != number / segments_per_dir.max(1))
    };
    let mut strays = source.files().map(|(path, _)| path).filter(is_stray);
    let Some(first) = strays.next() else { return Ok(()) };
    let more = match strays.count() {
        0 => String::new(),
        more => format!(", and so are {more} more"),
    };
    Err(refused(format!(
        "the repository is damaged: {} is no segment of Borg{more}; Borg never makes such files: they were renamed by \
         something else, as ransomware does, or do not belong there",
        shown(first)
    )))
}

/// Judges the source by itself and against the copy on the drive, if there is one; `plan` keeps what is found to be the same.
///
/// # Errors
///
/// A refusal that nothing can accept.
pub(crate) fn judge(
    source: &Side<'_>,
    copy: Option<&Side<'_>>,
    plan: &mut Plan,
    handler: Handler<'_>,
) -> Result<Vec<Finding>, anyhow::Error> {
    let mut contents = OnDisks { source, copy, same: BTreeSet::new(), handler };
    let found = descent::judge(&source.state, copy.map(|copy| &copy.state), &mut contents)?;
    let same = contents.same;
    let is_same = |number: u64| u32::try_from(number).is_ok_and(|number| same.contains(&number));
    plan.keep(&|path| segment_of(path).is_some_and(|(_, number)| is_same(number)));
    if found.iter().any(|finding| !finding.may_be_accepted()) {
        let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
        return Err(refused(format!("{}; the drive is left as it was", texts.join("; and "))).into());
    }
    let mut findings: Vec<_> = found
        .iter()
        .map(|finding| Finding { text: finding.to_string(), exactly: exactly(finding, source, copy) })
        .collect();
    let Some(copy) = copy else { return Ok(findings) };
    let (now, before) = (segment_bytes(&source.state), segment_bytes(&copy.state));
    if has_shrunk(before, now) {
        findings.push(Finding {
            text: format!(
                "the repository has {} where the copy on the drive has {}",
                human::size(now),
                human::size(before)
            ),
            exactly: format!("{now} {before} {:?}", source.state.committed),
        });
    }
    Ok(findings)
}

/// Whether a repository of `before` bytes has lost most of them.
fn has_shrunk(before: u64, now: u64) -> bool {
    before > SMALL && now < before / 2
}

/// Ends the run with all `findings`, unless `accepted` is the hash of exactly these.
pub(crate) fn pass(findings: &[Finding], accepted: Option<&str>) -> Result<(), Stop> {
    if findings.is_empty() {
        return Ok(());
    }
    let all: Vec<_> = findings.iter().map(|finding| finding.exactly.as_str()).collect();
    let plan = hash(&all.join("\n"));
    if accepted.is_some_and(|accepted| accepted.eq_ignore_ascii_case(&plan)) {
        for finding in findings {
            log::warn!("accepted: {}", finding.text);
        }
        return Ok(());
    }
    let texts: Vec<_> = findings.iter().map(|finding| finding.text.as_str()).collect();
    let stale = if accepted.is_some() { "; what was accepted is another difference than this one" } else { "" };
    Err(refused(format!(
        "{}{stale}; the drive is left as it was; if all of that is right, run once with --accept {plan}",
        human::first_of(&texts, NAMED, "; and ")
    )))
}

/// `data/D/N` as its two numbers.
pub(crate) fn segment_of(path: &Path) -> Option<(u64, u64)> {
    let mut parts = path.components().map(|part| part.as_os_str().to_str());
    let (data, folder, number) = (parts.next()??, parts.next()??, parts.next()??);
    (data == "data" && parts.next().is_none()).then_some(())?;
    Some((folder.parse().ok()?, number.parse().ok()?))
}

fn segment_bytes(state: &State) -> u64 {
    state.segments.values().fold(0, |sum, segment| sum.saturating_add(segment.size))
}

/// What was found, and the segments that it is about, exactly.
fn exactly(finding: &descent::Finding, source: &Side<'_>, copy: Option<&Side<'_>>) -> String {
    let of =
        |side: &Side<'_>, segment| side.state.segments.get(&segment).map(|Segment { size, mtime }| (*size, *mtime));
    let lines = finding.segments().iter().map(|segment| {
        format!("\n{segment} {:?} {:?}", of(source, *segment), copy.and_then(|copy| of(copy, *segment)))
    });
    format!("{finding:?}{}", lines.collect::<String>())
}

/// Eight digits that stand for `text` (FNV-1a, folded): enough to tell what a person has looked at from anything else.
fn hash(text: &str) -> String {
    let long = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{:08x}", (long >> 32) ^ (long & 0xffff_ffff))
}

fn strange(path: &Path, kind: Kind) -> Stop {
    refused(format!("the repository is damaged: {} in it is {}, which Borg never makes", shown(path), kind.name()))
}

fn refused(text: String) -> Stop {
    Stop::new(Exit::Refused, text)
}

/// What the segments of both sides have in them.
struct OnDisks<'s, 'w> {
    source: &'s Side<'s>,
    copy: Option<&'s Side<'s>>,
    /// Those that were found to be the same.
    same: BTreeSet<u32>,
    handler: Handler<'w>,
}

impl OnDisks<'_, '_> {
    fn open(&self, whose: Whose, segment: u32) -> Result<Option<(PathBuf, File)>, CopyError> {
        let side = match whose {
            Whose::Source => Some(self.source),
            Whose::Copy => self.copy,
        };
        let Some(side) = side else { return Ok(None) };
        let path = path_of(segment, side.state.config.segments_per_dir);
        let file = side.dir.open_file(&path)?;
        Ok(Some((path, file)))
    }
}

impl Contents for OnDisks<'_, '_> {
    type Error = CopyError;

    fn is_same(&mut self, segment: u32) -> Result<bool, CopyError> {
        let sides = (self.open(Whose::Source, segment)?, self.open(Whose::Copy, segment)?);
        let (Some((path, mut from)), Some((_, to))) = sides else { return Ok(false) };
        let same = copy::same_content(&mut from, &to, self.handler)?;
        let same = same.map_err(|source| CopyError::Read { path: path.clone(), source })?.is_some();
        if same {
            self.same.insert(segment);
        }
        Ok(same)
    }

    fn prove(&mut self, whose: Whose, segment: u32) -> Result<Option<Summary>, CopyError> {
        let Some((path, mut file)) = self.open(whose, segment)? else { return Ok(None) };
        let mut checker = Checker::new();
        let mut piece = vec![0; PIECE];
        loop {
            let count = match file.read(&mut piece) {
                Ok(0) => return Ok(checker.finish().ok()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(source) => return Err(CopyError::Read { path, source }),
            };
            (self.handler)(CopyEvent::Tick)?;
            if checker.feed(piece.get(..count).unwrap_or_default()).is_err() {
                return Ok(None);
            }
        }
    }
}

impl Look {
    /// Whether there is any file.
    pub(crate) fn has_files(&self) -> bool {
        self.survey.items.values().any(|item| item.kind == Kind::File)
    }
}

#[cfg(test)]
mod tests;
