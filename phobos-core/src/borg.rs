//! Borg: what a repository is, whether it is intact, and its lock as a guard.
//!
//! The formats are those of Borg 1.x (`docs/internals/data-structures.rst`): `config` names the repository, `hints.N`
//! and `index.N` are written after the transaction that ended in segment N, `data/D/N` are the segments.

pub mod segment;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::error::{Class, Classified};
use crate::exec::{Exec, ExecError, Hold, Invocation, Observer};
use crate::lock::Patience;

/// The parts of a repository that belong to a running Borg, not to the repository: a copy must not have them.
pub const LOCK_FILES: [&str; 2] = ["lock.exclusive", "lock.roster"];

/// What `borg with-lock` runs: it says that the lock is held, and holds it until its standard input is closed.
const HOLDER: [&str; 3] = ["sh", "-c", "echo locked; exec cat"];

/// How often a busy lock is looked at; trying it costs a start of Borg, looking at it costs nothing.
const LOOK: Duration = Duration::from_secs(1);

/// After how long a busy lock is tried again although nothing about it has changed: its holder may have died.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// How often a waiting job says again for whom it waits.
const REMIND: Duration = Duration::from_secs(30 * 60);

/// The smallest segment: its magic alone.
const SEGMENT_MAGIC_BYTES: u64 = 8;

/// The id of a repository: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryId(String);

/// A Borg repository in a folder of this machine.
#[derive(Debug, Clone)]
pub struct Repository {
    path: PathBuf,
    id: RepositoryId,
    segments_per_dir: u64,
}

/// Borg's exclusive lock on a repository, held by a child.
#[derive(Debug)]
#[must_use = "dropping it lets go of the lock"]
pub struct RepositoryLock {
    hold: Box<dyn Hold>,
    path: PathBuf,
}

/// A process that Borg's lock files name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Borg's id of the machine: `NAME@NUMBER`, or what `BORG_HOST_ID` says.
    pub host: String,
    /// The process on that machine.
    pub pid: u32,
}

/// What is wrong with a repository or its lock.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BorgError {
    /// The folder holds no repository.
    #[error("no Borg repository in {}: {why}", path.display())]
    NotARepository {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// Parts of the repository are gone.
    #[error("the Borg repository {} is damaged: {why}; run `borg check {0}`", path.display())]
    Damaged {
        /// The repository.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// Something in the repository cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else held Borg's lock until the deadline.
    #[error("gave up waiting for Borg's lock on {}, held by {holders}", path.display())]
    Busy {
        /// The repository.
        path: PathBuf,
        /// Who holds it.
        holders: String,
    },
    /// A signal ended the wait.
    #[error("stopped by signal {signal} while waiting for Borg's lock on {}", path.display())]
    Interrupted {
        /// The repository.
        path: PathBuf,
        /// The signal's number.
        signal: i32,
    },
    /// Borg failed to take the lock, or to end well after it.
    #[error("cannot {verb} Borg's lock on {}", path.display())]
    Lock {
        /// `take` or `release`.
        verb: &'static str,
        /// The repository.
        path: PathBuf,
        /// What Borg said.
        source: ExecError,
    },
}

impl Classified for BorgError {
    fn class(&self) -> Class {
        match self {
            Self::NotARepository { .. } | Self::Damaged { .. } => Class::Refused,
            Self::Busy { .. } => Class::Busy,
            Self::Interrupted { signal, .. } => Class::Signal(*signal),
            Self::Read { .. } | Self::Lock { .. } => Class::Source,
        }
    }
}

impl Repository {
    /// Reads which repository is in the folder `path`.
    ///
    /// # Errors
    ///
    /// When there is none, or when it cannot be read.
    pub fn open(path: &Path) -> Result<Self, BorgError> {
        let none = |why: &str| BorgError::NotARepository { path: path.to_owned(), why: why.to_owned() };
        let file = path.join("config");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(none("there is no file `config`"));
            }
            Err(source) => return Err(BorgError::Read { path: file, source }),
        };
        let values = section(&text, "repository");
        if values.get("version") != Some(&"1") {
            return Err(none("its `config` is not that of a repository of Borg 1.x"));
        }
        let id =
            values.get("id").and_then(|id| RepositoryId::parse(id)).ok_or_else(|| none("its `config` has no id"))?;
        let segments_per_dir = values.get("segments_per_dir").and_then(|number| number.parse().ok());
        let segments_per_dir = segments_per_dir.filter(|number| *number > 0).unwrap_or(1000);
        Ok(Self { path: path.to_owned(), id, segments_per_dir })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which one it is.
    pub fn id(&self) -> &RepositoryId {
        &self.id
    }

    /// The segment in which the last complete transaction ended: it only ever grows. `None` for a repository that has
    /// had none.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn transaction(&self) -> Result<Option<u64>, BorgError> {
        let read = |source| BorgError::Read { path: self.path.clone(), source };
        let mut last = None;
        for entry in fs::read_dir(&self.path).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("hints.")?.parse().ok());
            last = last.max(number);
        }
        Ok(last)
    }

    /// Checks that every segment that the last transaction needs is there: what a half-lost disk or a half-restored
    /// repository lacks. It reads no data; `borg check` does.
    ///
    /// To be called with the lock held, when Borg has written its hints for the state as it is.
    ///
    /// # Errors
    ///
    /// [`BorgError::Damaged`] names what is missing.
    pub fn check_segments(&self) -> Result<(), BorgError> {
        let damaged = |why: String| BorgError::Damaged { path: self.path.clone(), why };
        let Some(transaction) = self.transaction()? else {
            return Err(damaged("it has no hints file, so nothing was ever written to it".to_owned()));
        };
        let file = self.path.join(format!("hints.{transaction}"));
        let bytes = fs::read(&file).map_err(|source| BorgError::Read { path: file.clone(), source })?;
        let segments = needed_segments(&bytes).ok_or_else(|| damaged(format!("{} cannot be read", file.display())))?;
        let lost: Vec<_> = segments.iter().filter(|segment| !self.has_segment(**segment)).collect();
        match lost.first() {
            None => Ok(()),
            Some(first) => Err(damaged(format!(
                "{} of the {} segments it needs are missing or empty, data/{}/{first} first",
                lost.len(),
                segments.len(),
                *first / self.segments_per_dir
            ))),
        }
    }

    /// Takes Borg's exclusive lock, waiting for others as long as `patience` allows.
    ///
    /// # Errors
    ///
    /// When it is still busy at the deadline, when a signal ended the wait, or when Borg fails otherwise.
    pub fn lock(&self, exec: &dyn Exec, patience: &mut Patience<'_>) -> Result<RepositoryLock, BorgError> {
        let call = Invocation::new("borg").args(["with-lock", "--lock-wait", "1"]).arg(&self.path).args(HOLDER);
        let call = call.own_group();
        let mut said: Option<Instant> = None;
        loop {
            match exec.hold(&call, "locked", &mut Silent) {
                Ok(hold) => return Ok(RepositoryLock { hold, path: self.path.clone() }),
                Err(error) if is_busy(&error) => {}
                Err(ExecError::Interrupted { signal, .. }) => {
                    return Err(BorgError::Interrupted { path: self.path.clone(), signal });
                }
                Err(source) => {
                    return Err(BorgError::Lock { verb: "take", path: self.path.clone(), source });
                }
            }
            let holders = self.lock_holders();
            self.say_now_and_then(&holders, &mut said, patience);
            self.wait_for_change(&holders, patience)?;
        }
    }

    /// Who holds Borg's lock, shared or exclusive, by the lock's own files; what cannot be read is left out.
    pub fn lock_holders(&self) -> Vec<LockHolder> {
        let exclusive = fs::read_dir(self.path.join("lock.exclusive")).map(|entries| {
            entries.flatten().filter_map(|entry| LockHolder::parse(entry.file_name().to_str()?)).collect()
        });
        let mut holders: Vec<LockHolder> = exclusive.unwrap_or_default();
        let roster = fs::read(self.path.join("lock.roster")).unwrap_or_default();
        if let Ok(roster) = serde_json::from_slice::<Roster>(&roster) {
            let shared = roster.shared.into_iter().map(|(host, pid, _)| LockHolder { host, pid });
            holders.extend(shared);
        }
        holders
    }

    /// Waits until nobody holds Borg's lock, without taking it: for a job that will take it itself and that would give up
    /// after Borg's own second. A holder that is a dead process of this machine does not count; Borg clears it.
    ///
    /// # Errors
    ///
    /// When it is still held at the deadline, or when a signal ended the wait.
    pub fn wait_until_free(&self, patience: &mut Patience<'_>) -> Result<(), BorgError> {
        let mut said = None;
        loop {
            let holders: Vec<_> = self.lock_holders().into_iter().filter(LockHolder::may_be_alive).collect();
            if holders.is_empty() {
                return Ok(());
            }
            self.say_now_and_then(&holders, &mut said, patience);
            self.wait_for_change(&holders, patience)?;
        }
    }

    /// Says for whom we wait, at first and once in a while.
    fn say_now_and_then(&self, holders: &[LockHolder], said: &mut Option<Instant>, patience: &mut Patience<'_>) {
        if said.is_none_or(|since| since.elapsed() >= REMIND) {
            *said = Some(Instant::now());
            let whom = self.describe(holders);
            (patience.on_wait)(&format!("Borg's lock on {}, held by {whom}", self.path.display()));
        }
    }

    /// The holders in words, with the command of a process of this machine, and how to break a lock that is stale.
    fn describe(&self, holders: &[LockHolder]) -> String {
        let remedy = format!("break the lock with `{} break-lock {}`", borg_from_outside(), self.path.display());
        let words: Vec<_> = holders
            .iter()
            .map(|holder| {
                let LockHolder { host, pid } = holder;
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
                match (holder.is_here(), command.is_empty()) {
                    (true, false) => format!("`{}` (pid {pid})", command.chars().take(120).collect::<String>()),
                    // Borg clears it, unless the machine's network card is another one since, which it knows machines by.
                    (true, true) => format!("pid {pid}, which has ended; if Borg does not see that, {remedy}"),
                    (false, _) => format!("pid {pid} on {host}; if nothing runs there any more, {remedy}"),
                }
            })
            .collect();
        if words.is_empty() { "a process that it does not name".to_owned() } else { words.join(" and ") }
    }

    fn has_segment(&self, segment: u64) -> bool {
        let folder = (segment / self.segments_per_dir).to_string();
        let file = self.path.join("data").join(folder).join(segment.to_string());
        fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.len() > SEGMENT_MAGIC_BYTES)
    }

    fn wait_for_change(&self, holders: &[LockHolder], patience: &Patience<'_>) -> Result<(), BorgError> {
        let again = Instant::now() + TRY_AGAIN;
        loop {
            if let Some(signal) = (patience.interrupted)() {
                return Err(BorgError::Interrupted { path: self.path.clone(), signal });
            }
            let now = Instant::now();
            if now >= patience.deadline {
                return Err(BorgError::Busy { path: self.path.clone(), holders: self.describe(holders) });
            }
            std::thread::sleep(LOOK.min(patience.deadline.saturating_duration_since(now)));
            let changed = holders.iter().any(|holder| !self.lock_holders().contains(holder) || !holder.may_be_alive());
            if now >= again || changed || holders.is_empty() {
                return Ok(());
            }
        }
    }
}

impl RepositoryLock {
    /// Whether the lock is still held.
    pub fn is_held(&mut self) -> bool {
        self.hold.is_alive()
    }

    /// Starts to let go of the lock, when the repository is no longer read; [`RepositoryLock::close`] waits until that is
    /// done. Borg takes a moment for its commit, in which other things can be closed.
    pub fn let_go(&mut self) {
        self.hold.let_go();
    }

    /// Lets go of the lock.
    ///
    /// # Errors
    ///
    /// When Borg did not end well: the lock may have been lost on the way, or its last commit may be missing.
    pub fn close(mut self) -> Result<(), BorgError> {
        self.hold.release().map_err(|source| BorgError::Lock { verb: "release", path: self.path.clone(), source })
    }
}

impl RepositoryId {
    /// Reads an id; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        good.then(|| Self(text.to_ascii_lowercase()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl LockHolder {
    /// Reads the name of a file in `lock.exclusive`: `HOST.PID-THREAD`.
    fn parse(name: &str) -> Option<Self> {
        let (host, rest) = name.rsplit_once('.')?;
        let pid = rest.split_once('-')?.0.parse().ok()?;
        Some(Self { host: host.to_owned(), pid })
    }

    /// Whether it is a process of this machine, as far as the machine's name tells.
    fn is_here(&self) -> bool {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = name.trim();
        let host = self.host.split('@').next().unwrap_or_default();
        !name.is_empty() && (host == name || host.split('.').next() == name.split('.').next())
    }
}

impl LockHolder {
    /// Whether the process may still hold the lock: it runs, or it is on another machine.
    fn may_be_alive(&self) -> bool {
        !self.is_here() || Path::new("/proc").join(self.pid.to_string()).exists()
    }
}

/// `lock.roster`, as far as it is needed.
#[derive(Deserialize)]
struct Roster {
    #[serde(default)]
    shared: Vec<(String, u32, u64)>,
}

/// Passes nothing on; the end of Borg's standard error is in the error all the same.
struct Silent;

impl Observer for Silent {
    fn out(&mut self, _line: &str) {}
    fn err(&mut self, _line: &str) {}
}

/// How somebody outside calls Borg on a repository that this process sees: one in the namespace is not there outside.
fn borg_from_outside() -> &'static str {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    match (namespace("self"), namespace("1")) {
        (Ok(own), Ok(first)) if own != first => "phobos-ns exec -- borg",
        _ => "borg",
    }
}

/// Whether Borg failed because somebody else holds the lock; its exit code says so only in its modern set (73).
fn is_busy(error: &ExecError) -> bool {
    matches!(error, ExecError::Failed { stderr, .. } if stderr.contains("Failed to create/acquire the lock"))
}

/// The keys and values of one section of an INI file, as Python's configparser writes it.
fn section<'t>(text: &'t str, name: &str) -> HashMap<&'t str, &'t str> {
    let mut inside = false;
    let mut values = HashMap::new();
    for line in text.lines() {
        if let Some(header) = line.strip_prefix('[') {
            inside = header.strip_suffix(']') == Some(name);
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside) {
            values.insert(key.trim(), value.trim());
        }
    }
    values
}

/// The segments with live objects in a hints file: a `MessagePack` map whose `segments` maps segments to numbers of
/// objects. `None` if it is something else.
fn needed_segments(mut bytes: &[u8]) -> Option<Vec<u64>> {
    let hints = rmpv::decode::read_value(&mut bytes).ok()?;
    let key = |value: &rmpv::Value| value.as_slice() == Some(b"segments") || value.as_str() == Some("segments");
    let (_, segments) = hints.as_map()?.iter().find(|(name, _)| key(name))?;
    let live = segments.as_map()?.iter().filter(|(_, objects)| objects.as_u64().is_some_and(|objects| objects > 0));
    live.map(|(segment, _)| segment.as_u64()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::fake::Script;

    const HINTS: &[u8] = include_bytes!("../fixtures/borg-1.2.4-hints.12");
    const CONFIG: &str = include_str!("../fixtures/borg-1.2.4-config");

    /// A repository with the segments that its hints need, each one byte longer than its magic.
    fn repository() -> (tempfile::TempDir, Repository) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config"), CONFIG).unwrap();
        fs::write(folder.path().join("hints.12"), HINTS).unwrap();
        fs::create_dir_all(folder.path().join("data/0")).unwrap();
        for segment in needed_segments(HINTS).unwrap() {
            fs::write(folder.path().join(format!("data/0/{segment}")), "BORG_SEG.").unwrap();
        }
        let repository = Repository::open(folder.path()).unwrap();
        (folder, repository)
    }

    #[test]
    fn a_repository_is_known_by_its_config() {
        let (folder, repository) = repository();
        assert_eq!(repository.id().as_str().len(), 64);
        assert_eq!(repository.transaction().unwrap(), Some(12));
        let cases = [
            ("", "its `config` is not that of a repository of Borg 1.x"),
            ("[repository]\nversion = 1\n", "its `config` has no id"),
            ("[repository]\nversion = 1\nid = 12", "its `config` has no id"),
        ];
        for (config, why) in cases {
            fs::write(folder.path().join("config"), config).unwrap();
            let error = Repository::open(folder.path()).unwrap_err().to_string();
            assert_eq!(error, format!("no Borg repository in {}: {why}", folder.path().display()));
        }
        fs::remove_file(folder.path().join("config")).unwrap();
        assert!(matches!(Repository::open(folder.path()), Err(BorgError::NotARepository { .. })));
    }

    #[test]
    fn a_lost_segment_is_noticed() {
        let (folder, repository) = repository();
        repository.check_segments().unwrap();
        let needed = needed_segments(HINTS).unwrap();
        let (first, last) = (needed.first().unwrap(), needed.last().unwrap());
        fs::write(folder.path().join(format!("data/0/{last}")), "BORG_SEG").unwrap();
        fs::remove_file(folder.path().join(format!("data/0/{first}"))).unwrap();
        let error = repository.check_segments().unwrap_err().to_string();
        let want = format!("are missing or empty, data/0/{first} first; run `borg check ");
        assert!(error.contains(&want), "{error}");
    }

    #[test]
    fn hints_that_are_no_hints_are_damage() {
        for bytes in [&b""[..], b"\x01", b"\x80", &HINTS[..40]] {
            assert_eq!(needed_segments(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn the_holder_of_a_lock_is_named() {
        let (folder, repository) = repository();
        fs::create_dir(folder.path().join("lock.exclusive")).unwrap();
        fs::write(folder.path().join("lock.exclusive/elsewhere.example@3281355014145.19284-0"), "").unwrap();
        fs::write(folder.path().join("lock.roster"), r#"{"exclusive": [], "shared": [["other@1", 7, 0]]}"#).unwrap();
        let said = repository.describe(&repository.lock_holders());
        assert!(
            said.starts_with("pid 19284 on elsewhere.example@3281355014145; if nothing runs there any more, "),
            "{said}"
        );
        assert!(said.contains(&format!("borg break-lock {}` and pid 7 on other@1", folder.path().display())), "{said}");
    }

    #[test]
    fn a_busy_lock_is_waited_for_by_name_and_with_a_limit() {
        let (folder, repository) = repository();
        fs::create_dir(folder.path().join("lock.exclusive")).unwrap();
        fs::write(folder.path().join("lock.exclusive/elsewhere@1.7-0"), "").unwrap();
        let busy = "Failed to create/acquire the lock /backup/borg/lock.exclusive (timeout).";
        let script = Script::new().fails(2, busy);
        let mut said = Vec::new();
        let mut patience = Patience {
            deadline: Instant::now(),
            on_wait: &mut |whom| said.push(whom.to_owned()),
            interrupted: &|| None,
        };
        let error = repository.lock(&script, &mut patience).unwrap_err().to_string();
        assert!(error.starts_with("gave up waiting for Borg's lock on "), "{error}");
        assert!(error.contains(", held by pid 7 on elsewhere@1; if nothing runs there"), "{error}");
        assert_eq!(said.len(), 1, "{said:?}");
    }
}
