//! The gate: what a repository must prove before it may replace the copy on a drive.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use phobos_core::borg::LOCK_FILES;
use phobos_core::borg::config::{Config, Key, MAX_CONFIG};
use phobos_core::borg::descent;
use phobos_core::borg::state::State;
use phobos_core::copy::{self, CopyError, Item, Plan, Survey, Watch};
use phobos_core::fs::{Dir, Kind, shown};
use phobos_core::human;
use phobos_site::exit::{Exit, Stop};

/// A copy that is smaller than this needs no guarding, in bytes.
const SMALL: u64 = 1024 * 1024;

/// How a segment ends in which a transaction was completed: an entry of 9 bytes, COMMIT, with its checksum.
const COMMIT: [u8; 9] = [0x40, 0xf4, 0x3c, 0x25, 9, 0, 0, 0, 2];

/// A difference that may be right, and that a person has to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What it is, in plain words.
    pub(crate) text: String,
    /// Exactly what differs.
    pub(crate) exactly: String,
}

/// A repository, as far as the gate has to know it.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) survey: Survey,
    /// Whether there is a lock or something half written, which no copy may have.
    pub(crate) has_passing: bool,
    /// The segments, by number.
    segments: BTreeMap<u64, (PathBuf, Item)>,
    /// The segment that the last transaction ended in.
    pub(crate) transaction: Option<u64>,
    pub(crate) id: Option<String>,
    key: Key,
}

/// Looks at the repository in the folder `dir`, which is shown in messages as what it is: `the repository` or `the copy`.
pub(crate) fn look(dir: &Dir, watch: Watch<'_>) -> Result<Side, anyhow::Error> {
    let is_passing = |path: &Path| {
        let name = path.to_string_lossy();
        LOCK_FILES.iter().any(|lock| path.starts_with(lock)) || name.ends_with(".tmp") || name.starts_with("lock.")
    };
    let survey = copy::survey(dir, watch)?;
    let all = survey.items.len();
    let survey = survey.without(&is_passing);
    let has_passing = survey.items.len() != all;
    // A copy's that cannot be understood has no id; the source's has been read before.
    let config = dir.read(Path::new("config"), MAX_CONFIG)?.and_then(|config| Config::parse(&config).ok());
    let per_dir = config.as_ref().map_or(1000, |config| config.segments_per_dir);
    let mut segments = BTreeMap::new();
    for (path, item) in survey.files() {
        if let Some((folder, number)) = segment_of(path) {
            if folder != number / per_dir {
                continue;
            }
            segments.insert(number, (path.to_owned(), *item));
        }
    }
    let mut transaction = None;
    for (number, (path, item)) in segments.iter().rev() {
        if is_committed(dir, path, item.size)? {
            transaction = Some(*number);
            break;
        }
    }
    Ok(Side {
        survey,
        has_passing,
        segments,
        transaction,
        id: config.as_ref().map(|config| config.id.as_str().to_owned()),
        key: config.map_or(Key::Absent, |config| config.key),
    })
}

/// Refuses a source that no drive may get, whatever is on it.
pub(crate) fn is_sound(source: &Side) -> Result<u64, Stop> {
    if let Some((path, kind)) = source.survey.strange() {
        return Err(refused(format!(
            "the repository is damaged: {} in it is {}, which Borg never makes",
            shown(path),
            kind.name()
        )));
    }
    for (path, _) in source.survey.files().filter(|(path, _)| path.starts_with("data")) {
        if segment_of(path).is_none_or(|(_, number)| source.segments.get(&number).is_none_or(|(own, _)| own != path)) {
            return Err(refused(format!("the repository is damaged: {} is no segment of Borg", shown(path))));
        }
    }
    let Some(transaction) = source.transaction else {
        return Err(refused("the repository is damaged: no segment of it ends a transaction".to_owned()));
    };
    if let Some(hints) = last_of(&source.survey, "hints.").max(last_of(&source.survey, "index.")) {
        if hints > transaction {
            return Err(refused(format!(
                "the repository is damaged: it has hints or an index of the transaction {hints}, and the last segment \
                 that ends a transaction is {transaction}"
            )));
        }
    }
    Ok(transaction)
}

/// What the repository lacks by its own hints and index: what a person has to accept.
///
/// Hints and index that are missing or damaged say nothing, because Borg makes them anew.
///
/// # Errors
///
/// A refusal of what nothing can accept.
pub(crate) fn is_whole(source: &State) -> Result<Vec<Finding>, Stop> {
    let found = descent::judge(source, None, |_| Ok::<_, std::convert::Infallible>(true));
    let found = found.unwrap_or_else(|never| match never {});
    if let Some(worst) = found.iter().find(|finding| !finding.may_be_accepted()) {
        return Err(refused(worst.to_string()));
    }
    Ok(found.iter().map(|finding| Finding { text: finding.to_string(), exactly: format!("{finding:?}") }).collect())
}

/// Compares the source with the copy on the drive; `plan` keeps what is found to be the same.
///
/// # Errors
///
/// A refusal that nothing can accept.
pub(crate) fn judge(
    (source, state, source_dir): (&Side, &State, &Dir),
    (copy, copy_dir): (&Side, &Dir),
    plan: &mut Plan,
    watch: Watch<'_>,
) -> Result<Vec<Finding>, anyhow::Error> {
    check_key(source, copy)?;
    let committed =
        |path: &Path| segment_of(path).map(|(_, number)| number).filter(|number| Some(*number) <= copy.transaction);
    let mut findings = Vec::new();
    let mut changed: Vec<PathBuf> = plan.resized.iter().filter(|path| committed(path).is_some()).cloned().collect();
    let touched: Vec<PathBuf> = plan.touched.iter().filter(|path| committed(path).is_some()).cloned().collect();
    for path in touched {
        let mut from = source_dir.open_file(&path)?;
        let to = copy_dir.open_file(&path)?;
        let same = copy::same_content(&mut from, &to, watch)?;
        if same.map_err(|source| CopyError::Read { path: path.clone(), source })? {
            plan.keep(&path);
        } else {
            changed.push(path);
        }
    }
    changed.sort();
    if let Some(first) = changed.first() {
        findings.push(Finding {
            text: format!(
                "{} of the copy's segments are other files in the repository, {} first. Borg never changes a segment: \
                 the repository is damaged there, or encrypted by somebody else, or it is an older one that was put back \
                 and has gone another way since",
                changed.len(),
                shown(first)
            ),
            exactly: exactly(&changed, &source.survey, &copy.survey),
        });
    }
    let older = source.transaction < copy.transaction;
    if older {
        let words = |number: Option<u64>| number.map_or("none".to_owned(), |number| number.to_string());
        let mut text = format!(
            "the repository is older than the copy on the drive: its last transaction is {}, the copy's is {}; restore it \
             from the drive, or empty the drive if the copy is not needed",
            words(source.transaction),
            words(copy.transaction)
        );
        for finding in &findings {
            write!(text, "; and {}", finding.text)?;
        }
        return Err(refused(text).into());
    }
    let gone: Vec<PathBuf> = plan.gone.iter().filter(|path| committed(path).is_some()).cloned().collect();
    let is_told = state.noted == state.committed && (state.hints.is_some() || state.index.is_some());
    let unexplained = source.transaction == copy.transaction || !is_told;
    if let Some(first) = gone.first().filter(|_| unexplained) {
        findings.push(Finding {
            text: format!(
                "{} segments that the copy has are gone, {} first, and no later transaction with hints or an index of \
                 its own explains it: the repository has lost them, or Borg has to make those anew, which any backup does",
                gone.len(),
                shown(first)
            ),
            exactly: exactly(&gone, &source.survey, &copy.survey),
        });
    }
    let (now, before) = (segment_bytes(source), segment_bytes(copy));
    if before > SMALL && now < before / 2 {
        findings.push(Finding {
            text: format!(
                "the repository has {} where the copy on the drive has {}",
                human::size(now),
                human::size(before)
            ),
            exactly: format!("{now} {before} {:?}", source.transaction),
        });
    }
    Ok(findings)
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
        texts.join("; and ")
    )))
}

/// A copy whose `config` has a key needs one for good; whether it is a whole one the source alone tells.
fn check_key(source: &Side, copy: &Side) -> Result<(), Stop> {
    if source.key != Key::Absent || copy.key == Key::Absent {
        return Ok(());
    }
    let text = "the repository's config has no key, and the copy's has one: without it nothing can be read; restore the \
                config from the drive";
    Err(refused(text.to_owned()))
}

/// `data/D/N` as its two numbers.
pub(crate) fn segment_of(path: &Path) -> Option<(u64, u64)> {
    let mut parts = path.components().map(|part| part.as_os_str().to_str());
    let (data, folder, number) = (parts.next()??, parts.next()??, parts.next()??);
    (data == "data" && parts.next().is_none()).then_some(())?;
    Some((folder.parse().ok()?, number.parse().ok()?))
}

fn last_of(survey: &Survey, prefix: &str) -> Option<u64> {
    survey.files().filter_map(|(path, _)| path.to_str()?.strip_prefix(prefix)?.parse().ok()).max()
}

fn is_committed(dir: &Dir, path: &Path, size: u64) -> Result<bool, anyhow::Error> {
    let Some(at) = size.checked_sub(COMMIT.len() as u64) else { return Ok(false) };
    let mut tail = [0; COMMIT.len()];
    match dir.open_file(path)?.read_exact_at(&mut tail, at) {
        Ok(()) => Ok(tail == COMMIT),
        Err(source) => Err(CopyError::Read { path: dir.path().join(path), source }.into()),
    }
}

fn segment_bytes(side: &Side) -> u64 {
    side.segments.values().fold(0, |sum, (_, item)| sum.saturating_add(item.size))
}

/// The difference in these files, exactly.
fn exactly(paths: &[PathBuf], source: &Survey, copy: &Survey) -> String {
    let of = |survey: &Survey, path: &Path| survey.items.get(path).map(|item| (item.size, item.mtime));
    let lines = paths.iter().map(|path| format!("{} {:?} {:?}", shown(path), of(source, path), of(copy, path)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Eight digits that stand for `text` (FNV-1a, folded): enough to tell what a person has looked at from anything else.
fn hash(text: &str) -> String {
    let long = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{:08x}", (long >> 32) ^ (long & 0xffff_ffff))
}

fn refused(text: String) -> Stop {
    Stop::new(Exit::Refused, text)
}

impl Side {
    /// Takes out what no transaction has completed: a killed Borg has left it, and drops it when it writes again.
    pub(crate) fn drop_uncommitted(&mut self) {
        let Some(transaction) = self.transaction else { return };
        let later: Vec<_> = self.segments.range(transaction.saturating_add(1)..).map(|(number, _)| *number).collect();
        for (path, _) in later.iter().filter_map(|number| self.segments.remove(number)) {
            self.survey.items.remove(&path);
        }
    }

    /// A side without anything: a drive that has no copy yet.
    pub(crate) fn nothing() -> Self {
        Self {
            survey: Survey::default(),
            has_passing: false,
            segments: BTreeMap::new(),
            transaction: None,
            id: None,
            key: Key::Absent,
        }
    }

    /// Whether there is any file.
    pub(crate) fn has_files(&self) -> bool {
        self.survey.items.values().any(|item| item.kind == Kind::File)
    }
}

#[cfg(test)]
mod tests;
