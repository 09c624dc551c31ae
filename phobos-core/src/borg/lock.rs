//! Borg's own lock on a repository: taken shared through `borg serve`, or exclusively through `borg with-lock`, and held
//! as a guard; and what its files say of those who hold it.
//!
//! `borg serve` changes nothing in the repository and leaves readers alone; `borg with-lock` keeps everybody out, and
//! commits a transaction each time. Either waits in phobos, which says for whom, and not in Borg.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::owner::Owner;
use super::serve::{self, Answer, Listener};
use super::{BorgError, Repository};
use crate::exec::{Conversation, Exec, ExecError, Hold, Invocation, Observer};
use crate::fs::{Dir, shown_text};
use crate::lock::Patience;

/// The parts of a repository that belong to a running Borg, not to the repository: a copy must not have them.
pub const LOCK_FILES: [&str; 2] = ["lock.exclusive", "lock.roster"];

/// What `borg with-lock` runs: it says that the lock is held, and holds it until its standard input is closed.
const HOLDER: [&str; 3] = ["sh", "-c", "echo locked; exec cat"];

/// How long Borg may take to answer, and to end: Python from a disk that has to spin up first takes its time.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How often a busy lock is looked at; trying it costs a start of Borg, looking at it costs nothing.
const LOOK: Duration = Duration::from_secs(1);

/// After how long a busy lock is tried again although nothing about it has changed: its holder may have died.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// How often a waiting job says again for whom it waits.
const REMIND: Duration = Duration::from_secs(30 * 60);

/// The largest roster that is read, in bytes: a hundred thousand holders.
const MAX_ROSTER: u64 = 4 * 1024 * 1024;

/// Borg's lock on a repository, held by a child.
#[derive(Debug)]
#[must_use = "dropping it lets go of the lock"]
pub struct RepositoryLock {
    hold: Box<dyn Hold>,
    repository: Repository,
    /// Our child as the roster names it, where it does.
    own: Option<LockHolder>,
}

/// Borg's lock on a repository, which a child has been told to take and has not said yet that it has.
#[derive(Debug)]
#[must_use = "dropping it lets go of the lock"]
pub struct Locking<'e> {
    repository: Repository,
    talk: Box<dyn Conversation + 'e>,
}

/// A process that Borg's lock files name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Borg's id of the machine: `NAME@NUMBER`, or what `BORG_HOST_ID` says.
    pub host: String,
    /// The process on that machine.
    pub pid: u32,
}

impl Repository {
    /// Takes Borg's lock, shared with other readers, waiting for writers as long as `patience` allows.
    ///
    /// Nothing in the repository changes. Borg runs as the owner of the repository's folder, so that nothing becomes
    /// somebody else's.
    ///
    /// # Errors
    ///
    /// When it is still busy at the deadline, when a signal ended the wait, or at once when Borg fails otherwise or does
    /// not answer.
    pub fn lock(&self, exec: &dyn Exec, patience: &mut Patience<'_>) -> Result<RepositoryLock, BorgError> {
        self.lock_through(&self.serve()?.limit(ANSWER_LIMIT), exec, patience)
    }

    /// As [`Repository::lock`], through this call.
    fn lock_through(
        &self,
        call: &Invocation,
        exec: &dyn Exec,
        patience: &mut Patience<'_>,
    ) -> Result<RepositoryLock, BorgError> {
        self.take(patience, || exec.converse(call).and_then(tried))
    }

    /// Begins to take Borg's lock as [`Repository::lock`] does: Borg takes a moment to start, and what does not need the lock can
    /// be done meanwhile.
    ///
    /// # Errors
    ///
    /// When Borg cannot be started.
    pub fn begin_to_lock<'e>(&self, exec: &'e dyn Exec) -> Result<Locking<'e>, BorgError> {
        let talk = exec.converse(&self.serve()?.limit(ANSWER_LIMIT));
        let talk = talk.map_err(|source| BorgError::Lock { verb: "take", path: self.path.clone(), source })?;
        Ok(Locking { repository: self.clone(), talk })
    }

    /// Takes Borg's lock exclusively, by `borg with-lock`, waiting for others as long as `patience` allows. Borg commits a
    /// transaction for it, as this process's user.
    ///
    /// # Errors
    ///
    /// As for [`Repository::lock`].
    pub fn lock_alone(&self, exec: &dyn Exec, patience: &mut Patience<'_>) -> Result<RepositoryLock, BorgError> {
        let call = Invocation::new("borg").args(["with-lock", "--lock-wait", "1"]).arg(&self.path).args(HOLDER);
        let call = call.own_group();
        self.take(patience, || match exec.hold(&call, "locked", &mut Silent) {
            Ok(hold) => Ok(Tried::Held(hold)),
            Err(error) if is_busy(&error) => Ok(Tried::Busy),
            Err(error) => Err(error),
        })
    }

    /// Tries again and again until the lock is held or trying makes no sense.
    fn take(
        &self,
        patience: &mut Patience<'_>,
        mut attempt: impl FnMut() -> Result<Tried, ExecError>,
    ) -> Result<RepositoryLock, BorgError> {
        let mut said: Option<Instant> = None;
        loop {
            if let Some(lock) = self.held(attempt())? {
                return Ok(lock);
            }
            let holders = self.lock_holders();
            self.say_now_and_then(&holders, &mut said, patience);
            self.wait_for_change(&holders, patience)?;
        }
    }

    /// What an attempt has come to: the lock, or `None` while somebody else holds it.
    fn held(&self, tried: Result<Tried, ExecError>) -> Result<Option<RepositoryLock>, BorgError> {
        let path = self.path.clone();
        match tried {
            Ok(Tried::Held(hold)) => {
                let own = hold.pid().and_then(|pid| self.holder_of(pid));
                Ok(Some(RepositoryLock { hold, repository: self.clone(), own }))
            }
            Ok(Tried::Busy) => Ok(None),
            Ok(Tried::Refused(words)) => Err(BorgError::Refused { path, words }),
            Err(ExecError::Interrupted { signal, .. }) => Err(BorgError::Interrupted { path, signal }),
            Err(ExecError::TimedOut { limit, .. }) => Err(BorgError::Mute { path, limit }),
            Err(source) => Err(BorgError::Lock { verb: "take", path, source }),
        }
    }

    /// The call of `borg serve` for this repository alone, as the owner of its folder.
    fn serve(&self) -> Result<Invocation, BorgError> {
        let read = |source| BorgError::Read { path: self.path.clone(), source };
        let path = serve::literal(&std::fs::canonicalize(&self.path).map_err(read)?);
        let owner = Owner::of(&path).map_err(read)?;
        let call = Invocation::new("borg").args(["serve", "--restrict-to-repository"]).arg(&path);
        // What Borg would try of itself at the start has to do with archives, and takes 45 MB and a tenth of its time.
        let call = call.stdin(serve::requests(&path)).env("BORG_SELFTEST", "disabled");
        Ok(owner.runs(call))
    }

    /// Who holds Borg's lock, shared or exclusive, by the lock's own files; what cannot be read is left out.
    pub fn lock_holders(&self) -> Vec<LockHolder> {
        let Ok(folder) = Dir::open(&self.path) else { return Vec::new() };
        let exclusive = folder.open_dir(Path::new("lock.exclusive")).and_then(|lock| lock.entries());
        let exclusive = exclusive.unwrap_or_default();
        let exclusive = exclusive.iter().filter_map(|entry| LockHolder::parse(entry.name.to_str()?));
        let shared = roster(&folder).unwrap_or_default();
        exclusive.chain(shared).collect()
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

    /// The holder that is the process `pid` or its child, which a packed Borg is.
    fn holder_of(&self, pid: u32) -> Option<LockHolder> {
        let ours = |holder: &LockHolder| holder.pid == pid || parent_of(holder.pid) == Some(pid);
        self.lock_holders().into_iter().find(|holder| holder.is_here() && ours(holder))
    }

    /// Says for whom we wait, at first and once in a while.
    fn say_now_and_then(&self, holders: &[LockHolder], said: &mut Option<Instant>, patience: &mut Patience<'_>) {
        if said.is_none_or(|since| since.elapsed() >= REMIND) {
            *said = Some(Instant::now());
            let whom = self.describe(holders);
            patience.say(&format!("Borg's lock on {}, held by {whom}", self.path.display()));
        }
    }

    /// The holders in words, with the command of a process of this machine, and how to break a lock that is stale.
    pub(super) fn describe(&self, holders: &[LockHolder]) -> String {
        let remedy = format!("break the lock with `{} break-lock {}`", self.command, self.path.display());
        let words: Vec<_> = holders
            .iter()
            .map(|holder| {
                let LockHolder { host, pid } = holder;
                let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
                let command = shown_text(&command.chars().take(120).collect::<String>());
                match (holder.is_here(), command.is_empty()) {
                    (true, false) => format!("`{command}` (pid {pid})"),
                    // Borg clears it, unless the machine's network card is another one since, which it knows machines by.
                    (true, true) => format!("pid {pid}, which has ended; if Borg does not see that, {remedy}"),
                    (false, _) => {
                        format!("pid {pid} on {}; if nothing runs there any more, {remedy}", shown_text(host))
                    }
                }
            })
            .collect();
        if words.is_empty() { "a process that it does not name".to_owned() } else { words.join(" and ") }
    }

    fn wait_for_change(&self, holders: &[LockHolder], patience: &Patience<'_>) -> Result<(), BorgError> {
        let again = Instant::now() + TRY_AGAIN;
        loop {
            if let Some(signal) = patience.signal() {
                return Err(BorgError::Interrupted { path: self.path.clone(), signal });
            }
            let now = Instant::now();
            if now >= patience.deadline() {
                return Err(BorgError::Busy { path: self.path.clone(), holders: self.describe(holders) });
            }
            std::thread::sleep(LOOK.min(patience.deadline().saturating_duration_since(now)));
            let changed = holders.iter().any(|holder| !self.lock_holders().contains(holder) || !holder.may_be_alive());
            if now >= again || changed || holders.is_empty() {
                return Ok(());
            }
        }
    }
}

impl Locking<'_> {
    /// Waits until Borg has the lock; `None` while somebody else holds it, which [`Repository::lock`] waits for.
    ///
    /// # Errors
    ///
    /// As for [`Repository::lock`].
    pub fn answer(self) -> Result<Option<RepositoryLock>, BorgError> {
        let Self { repository, talk } = self;
        repository.held(tried(talk))
    }
}

impl RepositoryLock {
    /// Whether the lock is still held: its holder lives, and nobody has broken the lock.
    pub fn is_held(&mut self) -> bool {
        self.hold.is_alive() && !self.is_broken()
    }

    /// Whether the roster has been taken away from under us. One that cannot be read is being written by another reader.
    fn is_broken(&self) -> bool {
        let Some(own) = &self.own else { return false };
        let Ok(folder) = Dir::open(&self.repository.path) else { return true };
        let gone = !self.repository.lock_holders().contains(own);
        gone && (roster(&folder).is_some() || matches!(folder.stat(Path::new("lock.roster")), Ok(None)))
    }

    /// Starts to let go of the lock, when the repository is no longer read; [`RepositoryLock::close`] waits until that is
    /// done.
    pub fn let_go(&mut self) {
        self.hold.let_go();
    }

    /// Lets go of the lock.
    ///
    /// # Errors
    ///
    /// When Borg did not end well: the lock may have been lost on the way, or is left for the next Borg to clear.
    pub fn close(mut self) -> Result<(), BorgError> {
        let path = || self.repository.path.clone();
        self.hold.release().map_err(|source| BorgError::Lock { verb: "release", path: path(), source })
    }
}

/// What Borg answers to the attempt that it was told to make.
fn tried(talk: Box<dyn Conversation + '_>) -> Result<Tried, ExecError> {
    let mut listener = Listener::default();
    let mut hold = talk.listen(&mut |bytes| listener.hear(bytes))?;
    let tried = match listener.answer() {
        Some(Answer::Opened) => return Ok(Tried::Held(hold)),
        Some(Answer::Busy) => Tried::Busy,
        Some(Answer::Refused(words)) => Tried::Refused(words),
        None => Tried::Refused("nothing".to_owned()),
    };
    // What Borg said says more than how it then ends.
    if let Err(error) = hold.release() {
        log::debug!("{}", crate::error::Chain(&error));
    }
    Ok(tried)
}

/// The result of one attempt to take the lock.
#[derive(Debug)]
enum Tried {
    Held(Box<dyn Hold>),
    Busy,
    Refused(String),
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
        if std::env::var("BORG_HOST_ID").is_ok_and(|id| id == self.host) {
            return true;
        }
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = name.trim();
        let host = self.host.split('@').next().unwrap_or_default();
        !name.is_empty() && (host == name || host.split('.').next() == name.split('.').next())
    }

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

/// Who holds the lock shared; `None` if there is no roster or it cannot be understood.
fn roster(folder: &Dir) -> Option<Vec<LockHolder>> {
    let bytes = folder.read(Path::new("lock.roster"), MAX_ROSTER).ok()??;
    let roster: Roster = serde_json::from_slice(&bytes).ok()?;
    Some(roster.shared.into_iter().map(|(host, pid, _)| LockHolder { host, pid }).collect())
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Ignores all output; the last lines of Borg's standard error are in the error anyway.
struct Silent;

impl Observer for Silent {
    fn out(&mut self, _line: &str) {}
    fn err(&mut self, _line: &str) {}
}

/// Whether `borg with-lock` failed because somebody else holds the lock, and for no other reason.
fn is_busy(error: &ExecError) -> bool {
    let busy = |text: &str| text.contains("Failed to create/acquire the lock") && text.contains("(timeout)");
    matches!(error, ExecError::Failed { stderr, .. } if busy(stderr))
}

#[cfg(test)]
mod tests;
