//! rsync: the mirror of a tree, its progress, its statistics, and what its exit codes mean.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::exec::{Exec, ExecError, Invocation, Observer, Status};
use crate::fs::Times;
use crate::human;
use crate::mount;
use crate::progress::{Change, ChangeKind, CopyEvent, Halt, Handler, Phase, Progress};

/// The only variables of this process's environment that rsync gets: others, such as `RSYNC_RSH`, would change what it does.
const ENVIRONMENT: &[&str] = &["PATH", "TMPDIR"];

/// How long a copy may do nothing at all before it is ended.
const STALL: Duration = Duration::from_secs(30 * 60);

/// A mirror to be made: the target gets what the source has, and loses what the source has not.
#[derive(Debug, Clone)]
#[must_use = "it is made by `mirror`"]
pub struct Mirror<'a> {
    source: &'a Path,
    target: &'a Path,
    max_alloc: Option<&'a str>,
    filters: &'a [String],
    extras: Extras,
    pass: Pass,
    times: Times,
    progress: bool,
    expected: Option<u64>,
    max_delete: Option<u64>,
    own_view: bool,
}

/// Whether a copy is made, or only told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Says what would be done, name by name, and changes nothing.
    DryRun,
    /// Does it.
    Real,
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

/// What rsync did in a copy whose exit code the caller judges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetched {
    /// What it did.
    pub stats: Stats,
    /// Its exit code.
    pub code: i32,
    /// How many files it did not delete because `--max-delete` did not allow it; 0 if it had none to delete.
    pub kept_back: u64,
}

impl<'a> Mirror<'a> {
    /// The content of the folder `source` to the folder `target`, with hard links, and nothing said of how far it has come.
    pub fn new(source: &'a Path, target: &'a Path) -> Self {
        Self {
            source,
            target,
            max_alloc: None,
            filters: &[],
            extras: Extras::HardLinks,
            pass: Pass::Real,
            times: Times::Seconds,
            progress: false,
            expected: None,
            max_delete: None,
            own_view: false,
        }
    }

    /// With rsync's `--max-alloc`, such as `4GiB`.
    pub fn max_alloc(self, max_alloc: &'a str) -> Self {
        Self { max_alloc: Some(max_alloc), ..self }
    }

    /// With filter rules (rsync(1), "FILTER RULES"), in this order.
    pub fn filters(self, filters: &'a [String]) -> Self {
        Self { filters, ..self }
    }

    /// With this metadata besides owners, modes and times.
    pub fn extras(self, extras: Extras) -> Self {
        Self { extras, ..self }
    }

    /// As a dry run or in earnest.
    pub fn pass(self, pass: Pass) -> Self {
        Self { pass, ..self }
    }

    /// With times that are compared as finely as the target's file system keeps them, by [`window`].
    pub fn times(self, times: Times) -> Self {
        Self { times, ..self }
    }

    /// With [`CopyEvent::Progress`], if `progress`: rsync tells it after each file, which makes many small ones a tenth
    /// slower.
    pub fn progress(self, progress: bool) -> Self {
        Self { progress, ..self }
    }

    /// Through rsync in a mount namespace of its own: it sees the mounts as they are when it begins, so that it takes nothing for
    /// gone which is hidden or unmounted in the meantime. Only root can have that.
    pub fn in_its_own_view(self) -> Self {
        Self { own_view: true, ..self }
    }

    /// That deletes no more than so many files, and fails (25) where there are more to delete (rsync(1), "--max-delete").
    pub fn max_delete(self, most: u64) -> Self {
        Self { max_delete: Some(most), ..self }
    }

    /// Of which it is known that so many bytes will be copied.
    pub fn expecting(self, bytes: u64) -> Self {
        Self { expected: Some(bytes), ..self }
    }
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
/// When rsync ends with anything but 0, or the handler ends it: the target may have got new files, and has lost none unless
/// all were read.
pub fn mirror(exec: &dyn Exec, mirror: &Mirror<'_>, handler: Handler<'_>) -> Result<Stats, RsyncError> {
    // A slash at the end of the source means its content.
    let folder = |path: &Path| {
        let mut text: OsString = path.into();
        text.push("/");
        text
    };
    let call = invocation(mirror).arg("--").arg(folder(mirror.source)).arg(folder(mirror.target)).bound();
    let call = if mirror.own_view { call.through(mount::view_of_its_own()) } else { call };
    let mut lines = Lines::new(handler, mirror.expected);
    lines.tell(CopyEvent::Phase(Phase::Copying));
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
pub fn fetch(exec: &dyn Exec, call: &Invocation, handler: Handler<'_>) -> Result<Fetched, ExecError> {
    let mut lines = Lines::new(handler, None);
    lines.tell(CopyEvent::Phase(Phase::Copying));
    let code = match exec.stream(&call.clone().to_the_last(), &mut lines) {
        Ok(_) => 0,
        Err(ExecError::Failed { status: Status::Code(code), .. }) => code,
        Err(error) => return Err(error),
    };
    Ok(Fetched { stats: lines.stats, code, kept_back: lines.kept_back })
}

/// The name that rsync shows as `shown`: of whatever cannot be shown it gives the bytes, as `\#` and three octal digits (rsync(1),
/// "OUTPUT", `--8-bit-output`).
pub fn name(shown: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(shown.len());
    let mut rest = shown;
    while let Some((before, after)) = rest.split_once("\\#") {
        bytes.extend_from_slice(before.as_bytes());
        let digits = after.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        rest = if let Some(byte) = byte {
            bytes.push(byte);
            after.get(3..).unwrap_or_default()
        } else {
            bytes.extend_from_slice(b"\\#");
            after
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    OsString::from_vec(bytes).into()
}

/// The options that make rsync write what [`fetch`] reads; with `progress` also how far it has come.
pub fn told(progress: bool) -> [&'static str; 3] {
    let info = if progress { "--info=progress2,stats2,nonreg0" } else { "--info=stats2,nonreg0" };
    ["--outbuf=Line", "--no-human-readable", info]
}

/// The option that makes rsync compare times as finely as the target keeps them (rsync(1), "--modify-window"). Without it two states
/// of a file within one second, if they are as long, are one to rsync; with it, all is copied each time to where whole seconds are kept.
pub fn window(times: Times) -> Option<&'static str> {
    (times == Times::Nanoseconds).then_some("--modify-window=-1")
}

/// The words of a command for rsync's `--rsh`, which splits it at spaces and knows quotes, but no backslash.
///
/// The command is killed with rsync: rsync's receiving process would go on without its parent.
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

fn invocation(mirror: &Mirror<'_>) -> Invocation {
    let call = base(mirror).arg("--delete-after");
    let call = call.args(mirror.max_delete.map(|most| format!("--max-delete={most}")));
    let call = mirror.filters.iter().fold(call, |call, filter| call.arg(format!("--filter={filter}")));
    match mirror.pass {
        Pass::DryRun => call.args(["--dry-run", "--itemize-changes"]),
        Pass::Real => call,
    }
}

/// The options of every mirror.
fn base(mirror: &Mirror<'_>) -> Invocation {
    let call = Invocation::new("rsync").only_env(ENVIRONMENT);
    let call = call.args(["--archive", "--hard-links", "--sparse", "--numeric-ids"]);
    let call = match mirror.extras {
        Extras::HardLinks => call,
        // Once is not enough: rsync's own attributes are copied only with the second.
        Extras::Attributes => call.args(["--xattrs", "--xattrs"]),
        Extras::All => call.args(["--acls", "--xattrs", "--xattrs"]),
    };
    let call = call.args(window(mirror.times));
    let call = call.args(mirror.max_alloc.map(|most| format!("--max-alloc={most}"))).args(told(mirror.progress));
    call.while_it_gets_on(STALL).to_the_last()
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

/// Sorts rsync's lines into events and statistics.
struct Lines<'a> {
    handler: Handler<'a>,
    /// How many bytes will be copied, where the caller knows.
    expected: Option<u64>,
    begun: Instant,
    stats: Stats,
    kept_back: u64,
    /// Why the handler ends the copy; rsync is ended at the next tick.
    halt: Option<Halt>,
}

impl<'a> Lines<'a> {
    fn new(handler: Handler<'a>, expected: Option<u64>) -> Self {
        Self { handler, expected, begun: Instant::now(), stats: Stats::default(), kept_back: 0, halt: None }
    }

    fn tell(&mut self, event: CopyEvent<'_>) {
        if self.halt.is_none() {
            self.halt = (self.handler)(event).err();
        }
    }
}

impl Observer for Lines<'_> {
    fn out(&mut self, line: &str) {
        if let Some(progress) = parse_progress(line, self.expected, self.begun.elapsed()) {
            self.tell(CopyEvent::Progress(progress));
        } else if !self.stats.take(line) {
            if let Some(change) = change(line) {
                self.tell(CopyEvent::Change(change));
            } else if let Some(name) = line.strip_suffix(" exists") {
                self.tell(CopyEvent::Left(name));
            }
        }
    }

    fn err(&mut self, line: &str) {
        match parse_kept_back(line) {
            Some(files) => self.kept_back = self.kept_back.max(files),
            None => self.tell(CopyEvent::Warning(line)),
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        self.tell(CopyEvent::Tick);
        match &self.halt {
            Some(Halt::Because(reason)) => Err(reason.clone()),
            // Whoever runs rsync sees the signal, and ends rsync as one that was interrupted.
            Some(Halt::Signal(_)) | None => Ok(()),
        }
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
fn parse_progress(line: &str, total: Option<u64>, so_far: Duration) -> Option<Progress> {
    let mut fields = line.split_whitespace();
    let done = fields.next()?.replace(',', "").parse().ok()?;
    let percent: u8 = fields.next()?.strip_suffix('%')?.parse().ok()?;
    let speed = fields.next().and_then(parse_speed)?;
    let by_total = Progress { speed, ..Progress::new(done, total, so_far) };
    if total.is_some() {
        return Some(by_total);
    }
    let left = human::remaining(percent.into(), 100, so_far);
    Some(Progress { percent: Some(percent), left, ..by_total })
}

/// Reads `11.77MB/s`, in which a kB has 1024 bytes (rsync's `progress.c`).
fn parse_speed(text: &str) -> Option<u64> {
    let number = text.strip_suffix("B/s")?;
    let (number, unit) = match number.chars().last()? {
        'k' | 'K' => (number.get(..number.len().checked_sub(1)?)?, 1 << 10),
        'M' => (number.get(..number.len().checked_sub(1)?)?, 1 << 20),
        'G' => (number.get(..number.len().checked_sub(1)?)?, 1 << 30),
        _ => (number, 1_u64),
    };
    let (whole, hundredths) = number.split_once('.').unwrap_or((number, "0"));
    let hundredths: u64 = format!("{hundredths:0<2}").get(..2)?.parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    Some(whole.saturating_mul(unit).saturating_add(hundredths.saturating_mul(unit) / 100))
}

/// Reads `Deletions stopped due to --max-delete limit (6 skipped)`.
fn parse_kept_back(line: &str) -> Option<u64> {
    let number = line.strip_prefix("Deletions stopped due to --max-delete limit (")?.strip_suffix(" skipped)")?;
    number.parse().ok()
}

/// Reads a line with which rsync itemizes a change: `>f+++++++++ name` or `*deleting   name` (rsync(1),
/// `--itemize-changes`).
pub fn change(line: &str) -> Option<Change<'_>> {
    let is_gone = line.starts_with("*deleting ");
    if !is_gone && !line.starts_with(['<', '>', 'c', 'h', '.']) {
        return None;
    }
    let (item, name) = (line.get(..11)?, line.get(11..)?.strip_prefix(' ')?);
    let kind = match item.get(2..) {
        _ if is_gone => ChangeKind::Deleted,
        Some("+++++++++") => ChangeKind::Created,
        _ => ChangeKind::Changed,
    };
    Some(Change { kind, item, name })
}

#[cfg(test)]
mod tests;
