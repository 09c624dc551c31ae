//! rsync: the mirror of a tree, its progress, its statistics, and what its exit codes mean.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::exec::{Exec, ExecError, Invocation, Observer, Status};
use crate::human;

/// What rsync keeps of this process's environment: variables of its own would change what it does.
const ENVIRONMENT: &[&str] = &["PATH", "TMPDIR"];

/// How long a copy may do nothing at all before it is ended.
const STALL: Duration = Duration::from_secs(30 * 60);

/// How often progress is told, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// A mirror to be made: the target gets what the source has, and loses what the source has not.
#[derive(Debug, Clone)]
pub struct Mirror<'a> {
    /// The tree to copy; its content, not the folder itself.
    pub source: &'a Path,
    /// The folder that becomes like it.
    pub target: &'a Path,
    /// rsync's `--max-alloc`.
    pub max_alloc: &'a str,
    /// Filter rules (rsync(1), "FILTER RULES"), in order.
    pub filters: &'a [String],
    /// Which metadata is copied besides owners, modes and times.
    pub extras: Extras,
    /// Whether to say what would be done and do nothing.
    pub rehearsal: bool,
    /// Whether rsync says how far it has come: it does so after each file, which makes many small ones a tenth slower.
    pub progress: bool,
}

/// Metadata that costs time: rsync asks for it file by file, on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extras {
    /// Hard links only, which cost next to nothing.
    HardLinks,
    /// Hard links and extended attributes, those included in which rsync itself keeps owners, modes and links.
    Attributes,
    /// Hard links, ACLs and extended attributes.
    All,
}

/// What rsync did, by its own statistics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Regular files copied.
    pub files_transferred: u64,
    /// Their size in bytes.
    pub bytes_transferred: u64,
    /// Files, folders and links deleted on the target.
    pub deleted: u64,
    /// The size of the whole tree in bytes.
    pub total_bytes: u64,
    /// Files, folders, links and whatever else is in the whole tree.
    pub total_files: u64,
}

/// What rsync did in a copy whose exit codes have meanings that its caller sorts out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetched {
    /// What it did.
    pub stats: Stats,
    /// Its exit code.
    pub code: i32,
    /// How many files it did not delete because `--max-delete` did not allow it; 0 if it had none to delete.
    pub kept_back: u64,
}

/// A change as rsync itemizes it with `--out-format='%i %n%L'`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Something that was not there before.
    Created(&'a str),
    /// Something that was there.
    Changed(&'a str),
    /// Something that goes.
    Deleted(&'a str),
}

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Bytes copied so far.
    pub bytes: u64,
    /// Part of what is known to be copied, in percent.
    pub percent: u8,
    /// Speed, as rsync writes it: `12.34MB/s`.
    pub speed: &'a str,
}

impl Progress<'_> {
    /// In words, for the journal.
    pub fn words(&self) -> String {
        format!("copied {}, {} % of what was found, {}", human::size(self.bytes), self.percent, self.speed)
    }

    /// As a bar of `width` characters and the words, for a terminal.
    pub fn bar(&self, width: u8) -> String {
        let full = usize::from(u16::from(self.percent.min(100)) * u16::from(width) / 100);
        let empty = usize::from(width) - full;
        format!("[{}{}] {}", "#".repeat(full), " ".repeat(empty), self.words())
    }
}

/// What is told while a copy runs.
pub trait Teller {
    /// Takes progress as often as rsync gives it, several times a second.
    fn progress(&mut self, progress: Progress<'_>);

    /// Takes a file that a rehearsal would copy, create or delete, as rsync itemizes it.
    fn change(&mut self, line: &str);

    /// Takes a line that rsync wrote to standard error.
    fn complaint(&mut self, line: &str);

    /// Is asked about once a second.
    ///
    /// # Errors
    ///
    /// The reason why the copy must end now.
    fn may_go_on(&mut self) -> Result<(), String>;
}

/// Why a mirror was not made.
#[derive(Debug, thiserror::Error)]
#[error("cannot mirror {from} to {to}{}", .meaning.map_or(String::new(), |meaning| format!(" ({meaning})")))]
pub struct RsyncError {
    from: String,
    to: String,
    meaning: Option<&'static str>,
    source: ExecError,
}

/// Makes `mirror`.
///
/// Everything is deleted after everything was copied, and nothing at all if something could not be read: rsync's own
/// default deletes while it copies, and has then deleted files before it meets the error.
///
/// # Errors
///
/// When rsync ends with anything but 0: the target may have got new files, and has lost none unless all were read.
pub fn mirror(exec: &dyn Exec, mirror: &Mirror<'_>, teller: &mut dyn Teller) -> Result<Stats, RsyncError> {
    run(exec, mirror, invocation(mirror), teller)
}

fn run(exec: &dyn Exec, mirror: &Mirror<'_>, call: Invocation, teller: &mut dyn Teller) -> Result<Stats, RsyncError> {
    // A slash at the end of the source means its content.
    let folder = |path: &Path| {
        let mut text: OsString = path.into();
        text.push("/");
        text
    };
    let call = call.arg("--").arg(folder(mirror.source)).arg(folder(mirror.target)).bound();
    let mut lines = Lines { teller, stats: Stats::default(), kept_back: 0 };
    match exec.stream(&call, &mut lines) {
        Ok(_) => Ok(lines.stats),
        Err(source) => {
            let meaning = match &source {
                ExecError::Failed { status: Status::Code(code), .. } => meaning(*code),
                _ => None,
            };
            let (from, to) = (mirror.source.display().to_string(), mirror.target.display().to_string());
            Err(RsyncError { from, to, meaning, source })
        }
    }
}

/// Runs `call`, a copy with rsync that is told to write what [`told`] asks for.
///
/// # Errors
///
/// When rsync could not be started, was ended, or was killed; an exit code of its own is no error.
pub fn fetch(exec: &dyn Exec, call: &Invocation, teller: &mut dyn Teller) -> Result<Fetched, ExecError> {
    let mut lines = Lines { teller, stats: Stats::default(), kept_back: 0 };
    let code = match exec.stream(call, &mut lines) {
        Ok(_) => 0,
        Err(ExecError::Failed { status: Status::Code(code), .. }) => code,
        Err(error) => return Err(error),
    };
    Ok(Fetched { stats: lines.stats, code, kept_back: lines.kept_back })
}

/// The options that make rsync write what [`fetch`] reads; how far it has come only with `progress`.
pub fn told(progress: bool) -> [&'static str; 3] {
    let info = if progress { "--info=progress2,stats2,nonreg0" } else { "--info=stats2,nonreg0" };
    ["--outbuf=Line", "--no-human-readable", info]
}

/// The words of a command for rsync's `--rsh`, which splits it at spaces and knows quotes, but no backslash.
///
/// The command ends when rsync is killed: its other process would go on to receive without it.
pub fn rsh(words: &[String]) -> String {
    let quoted = words.iter().map(|word| {
        if word.is_empty() || word.contains([' ', '\'', '"']) {
            format!("'{}'", word.replace('\'', "''"))
        } else {
            word.clone()
        }
    });
    let bound = ["setpriv", "--pdeathsig", "KILL", "--"].into_iter().map(str::to_owned);
    bound.chain(quoted).collect::<Vec<_>>().join(" ")
}

/// A moment for each telling, so that the journal gets a line every so often and not a thousand.
#[derive(Debug)]
pub struct Backoff {
    last: Instant,
    pause: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { last: Instant::now(), pause: Duration::from_secs(10) }
    }
}

impl Backoff {
    /// Whether it is time to tell: after 10 s, then after pauses that double up to 5 minutes.
    pub fn is_due(&mut self) -> bool {
        let due = self.last.elapsed() >= self.pause;
        if due {
            self.last = Instant::now();
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        due
    }
}

fn invocation(mirror: &Mirror<'_>) -> Invocation {
    let call = base(mirror).arg("--delete-after");
    let call = mirror.filters.iter().fold(call, |call, filter| call.arg(format!("--filter={filter}")));
    if mirror.rehearsal { call.args(["--dry-run", "--itemize-changes"]) } else { call }
}

/// What every copy is told.
fn base(mirror: &Mirror<'_>) -> Invocation {
    let call = Invocation::new("rsync").only_env(ENVIRONMENT);
    let call = call.args(["--archive", "--hard-links", "--sparse", "--numeric-ids"]);
    let call = match mirror.extras {
        Extras::HardLinks => call,
        // Once is not enough: rsync's own attributes are copied only with the second.
        Extras::Attributes => call.args(["--xattrs", "--xattrs"]),
        Extras::All => call.args(["--acls", "--xattrs", "--xattrs"]),
    };
    let call = call.arg(format!("--max-alloc={}", mirror.max_alloc)).args(told(mirror.progress));
    call.while_it_gets_on(STALL)
}

/// A filter rule for exactly `path` below the tree: `rule` is rsync's letter, such as `-` or `H`.
pub fn rule(rule: char, path: &Path) -> String {
    let text = path.display().to_string();
    // A backslash escapes only in a pattern that has a wildcard (rsync(1), "PATTERN MATCHING RULES").
    let text = if text.contains(['*', '?', '[']) {
        text.chars().flat_map(|c| matches!(c, '*' | '?' | '[' | '\\').then_some('\\').into_iter().chain([c])).collect()
    } else {
        text
    };
    format!("{rule} /{}", text.trim_start_matches('/'))
}

/// What an exit code of rsync means, where the code alone does not say it (rsync(1), "EXIT VALUES").
pub fn meaning(code: i32) -> Option<&'static str> {
    Some(match code {
        11 => "an error of file I/O, such as a full or a failing disk",
        12 => "one of rsync's processes was killed",
        20 => "rsync was told to end",
        22 => "more memory needed than max-alloc allows",
        23 => "some files could not be copied",
        24 => "some files vanished while they were read",
        25 => "more to delete than max-delete allows",
        30 => "no data for too long",
        _ => return None,
    })
}

/// Sorts rsync's lines into progress, statistics and changes.
struct Lines<'a> {
    teller: &'a mut dyn Teller,
    stats: Stats,
    kept_back: u64,
}

impl Observer for Lines<'_> {
    fn out(&mut self, line: &str) {
        if let Some(progress) = parse_progress(line) {
            self.teller.progress(progress);
        } else if !self.stats.take(line) && is_change(line) {
            self.teller.change(line);
        }
    }

    fn err(&mut self, line: &str) {
        match parse_kept_back(line) {
            Some(files) => self.kept_back = self.kept_back.max(files),
            None => self.teller.complaint(line),
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        self.teller.may_go_on()
    }
}

impl Stats {
    /// Takes a line of `--info=stats2`; whether it was one.
    fn take(&mut self, line: &str) -> bool {
        let Some((key, value)) = line.split_once(": ") else { return false };
        let digits: String =
            value.chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(char::is_ascii_digit).collect();
        let Ok(number) = digits.parse() else { return false };
        match key {
            "Number of regular files transferred" => self.files_transferred = number,
            "Total transferred file size" => self.bytes_transferred = number,
            "Number of deleted files" => self.deleted = number,
            "Total file size" => self.total_bytes = number,
            "Number of files" => self.total_files = number,
            _ => return false,
        }
        true
    }
}

/// Reads a line of `--info=progress2`: `  1,234,567  12%   11.77MB/s    0:00:10 (xfr#5, to-chk=10/100)`.
fn parse_progress(line: &str) -> Option<Progress<'_>> {
    let mut fields = line.split_whitespace();
    let bytes = fields.next()?.replace(',', "").parse().ok()?;
    let percent = fields.next()?.strip_suffix('%')?.parse().ok()?;
    let speed = fields.next().filter(|speed| speed.ends_with("B/s"))?;
    Some(Progress { bytes, percent, speed })
}

/// Reads `Deletions stopped due to --max-delete limit (6 skipped)`.
fn parse_kept_back(line: &str) -> Option<u64> {
    let number = line.strip_prefix("Deletions stopped due to --max-delete limit (")?.strip_suffix(" skipped)")?;
    number.parse().ok()
}

impl<'a> Change<'a> {
    /// Reads a line that itemizes a change.
    pub fn parse(line: &'a str) -> Option<Self> {
        if !is_change(line) {
            return None;
        }
        let (item, name) = (line.get(..11)?, line.get(12..)?);
        Some(match item.get(2..) {
            _ if item.starts_with('*') => Self::Deleted(name),
            Some("+++++++++") => Self::Created(name),
            _ => Self::Changed(name),
        })
    }
}

/// Whether a line itemizes a change: `>f+++++++++ name` or `*deleting   name` (rsync(1), `--itemize-changes`).
fn is_change(line: &str) -> bool {
    line.starts_with("*deleting ") || (line.get(11..12) == Some(" ") && line.starts_with(['<', '>', 'c', 'h', '.']))
}

#[cfg(test)]
mod tests;
