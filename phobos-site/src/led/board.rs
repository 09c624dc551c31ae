//! Where the jobs post: one file per job, replaced as a whole, under one lock.
//!
//! Nobody but the board's owner can open the lock. A failure, or that a job is at work, is posted without it rather than not
//! at all; only what takes a failure away needs it.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

mod files;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use self::files::{NamedPost, Post, VERSION, broken, make_folder, read_folder, remove, write};
use super::State;
use phobos_core::error::Chain;
use phobos_core::flock;
use phobos_core::fs::{Dir, Durability, FsError, is_hidden};
use phobos_core::human;
use phobos_core::process::{Process, boot_id};

/// How long a post waits for another to be done; each takes a millisecond.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// From how many failures on, that are kept at once, the disk is waited for once and not for each.
const MANY: usize = 8;

/// The longest text of a post, in characters.
const TEXT_LIMIT: usize = 500;

/// The variables that name the folders of [`Board::system`].
const VARIABLES: [&str; 2] = ["PHOBOS_LED_RUN", "PHOBOS_LED_KEPT"];

/// The folders of [`Board::system`] where the variables name none.
const FOLDERS: [&str; 2] = ["/run/phobos/led", "/var/lib/phobos/led"];

/// The two folders that the jobs' posts live in.
///
/// Time stamps are for people: a post from the future counts like any other. A file that cannot be understood, because
/// it is half written or of another version, counts as a failure of its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    run: PathBuf,
    kept: PathBuf,
    config: Option<PathBuf>,
}

/// What one job says, or what must be thought of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Its last post; `failed` if the process that posted died at work.
    pub state: State,
    /// What it said.
    pub text: String,
    /// When it said so.
    pub since: DateTime<Utc>,
    /// The process that is at work.
    pub process: Option<Process>,
    /// An earlier failure that nobody has acknowledged and that no success has made good.
    pub failure: Option<Failure>,
}

/// A failure that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What the job said.
    pub text: String,
    /// When it failed.
    pub since: DateTime<Utc>,
}

/// Why a post came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedError {
    /// The job's name could lead out of the folder, or is no name at all.
    #[error("cannot post for {name:?}: a name is 1 to 200 of A-Z a-z 0-9 _ - . : @ + \\, the first no dot or dash")]
    Name {
        /// The name.
        name: String,
    },
    /// A file or folder could not be read or written; the posts are as they were before, or as they are meant to be.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder is not what it has to be, or the system refused it; the posts are as they were before.
    #[error(transparent)]
    File(#[from] FsError),
    /// Another process held the lock for too long; nothing was changed.
    #[error("cannot lock {}: it is held for more than {}", path.display(), human::duration(LOCK_LIMIT))]
    Busy {
        /// The lock.
        path: PathBuf,
    },
}

/// Whether `name` may name a job: it is a file's name and never a path or an option.
pub fn is_job_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:@+\\".contains(&byte);
    (1..=200).contains(&name.len()) && !name.starts_with(['.', '-']) && name.bytes().all(is_good)
}

impl Job {
    /// The state that the light shows for it: a failure stays until it is made good.
    pub fn light(&self) -> State {
        if self.failure.is_some() { State::Failed } else { self.state }
    }

    /// When it came into the state that the light shows.
    pub fn light_since(&self) -> DateTime<Utc> {
        self.earlier_failure().map_or(self.since, |failure| failure.since)
    }

    /// What it said about the state that the light shows.
    pub fn light_text(&self) -> &str {
        self.earlier_failure().map_or(&self.text, |failure| &failure.text)
    }

    /// The failure that outshines the last post; a post that is a failure itself is newer.
    fn earlier_failure(&self) -> Option<&Failure> {
        self.failure.as_ref().filter(|_| self.state != State::Failed)
    }
}

impl Board {
    /// A board in these folders, which are made when something is posted.
    pub fn new(run: &Path, kept: &Path) -> Self {
        Self { run: run.to_owned(), kept: kept.to_owned(), config: None }
    }

    /// The machine's board: `/run/phobos/led` and `/var/lib/phobos/led`, unless `PHOBOS_LED_RUN` and `PHOBOS_LED_KEPT`
    /// name others.
    ///
    /// `RUNTIME_DIRECTORY` and `STATE_DIRECTORY` are not regarded: they belong to one unit, the light to all.
    pub fn system() -> Self {
        let folder = |variable: &str, default: &str| {
            let given = std::env::var_os(variable).filter(|given| !given.is_empty());
            given.map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        Self { run: folder(VARIABLES[0], FOLDERS[0]), kept: folder(VARIABLES[1], FOLDERS[1]), config: None }
    }

    /// The same board, whose light is the one in this configuration; without one, in the default configuration.
    #[must_use]
    pub fn lit_by(self, config: Option<&Path>) -> Self {
        // Whoever is given it may be in another folder, as this process is once it has entered a namespace.
        let config = config.map(|config| std::path::absolute(config).unwrap_or_else(|_| config.to_owned()));
        Self { config, ..self }
    }

    /// The configuration that names the light, if it is not the default one.
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The variables that lead another process to this board.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [(VARIABLES[0], self.run.clone()), (VARIABLES[1], self.kept.clone())]
    }

    /// The folder that ends with the machine.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The folder of the failures that stay.
    pub fn kept(&self) -> &Path {
        &self.kept
    }

    /// Posts that this process, working for `job`, is in `state`.
    ///
    /// `ok` makes an earlier failure of the job good; nothing else but [`Board::make_good`] and [`Board::ack`] does.
    ///
    /// # Errors
    ///
    /// [`LedError`] if the name is none or the files cannot be written; an earlier post then still stands.
    pub fn post(&self, job: &str, state: State, text: &str) -> Result<(), LedError> {
        // Only who is at work is looked for later; a failure is posted even where `/proc` cannot be read.
        let process = state.needs_process().then(Process::own).transpose();
        let process =
            process.map_err(|source| LedError::Io { action: "read", path: "/proc/self/stat".into(), source })?;
        self.post_as(job, state, text, process)
    }

    /// Posts on behalf of `process`; without one, nobody will notice if a job at work dies.
    ///
    /// # Errors
    ///
    /// As for [`Board::post`]; a failure that cannot be kept is posted until the machine's next start all the same.
    pub fn post_as(&self, job: &str, state: State, text: &str, process: Option<Process>) -> Result<(), LedError> {
        check(job)?;
        let boot = match boot_id() {
            // A failure counts whatever the boot is.
            Err(_) if state == State::Failed => String::new(),
            boot => boot.map_err(|source| LedError::Io {
                action: "read",
                path: "/proc/sys/kernel/random/boot_id".into(),
                source,
            })?,
        };
        let text: String = text.chars().map(|c| if is_hidden(c) { ' ' } else { c }).take(TEXT_LIMIT).collect();
        let process = process.filter(|_| state.needs_process());
        let post = Post { version: VERSION, state, text, since: Utc::now(), boot, process };
        let takes_a_failure_away = matches!(state, State::Ok | State::Off);
        let run = make_folder(&self.run);
        let lock = match run.as_ref().map(|run| self.lock(run)) {
            Ok(Ok(lock)) => Some(lock),
            Ok(Err(error)) if takes_a_failure_away => return Err(error),
            Ok(Err(error)) => {
                log::warn!("posting without the lock: {}", Chain(&error));
                None
            }
            Err(_) => None,
        };
        if let Some(Err(error)) = lock.as_ref().map(|_| self.settle_locked()) {
            log::warn!("{}", Chain(&error));
        }
        match state {
            // The failure is kept before the post goes, so that it is never missing from both.
            State::Failed => match self.keep(&[(job, &post)]) {
                Ok(()) => run.map_or(Ok(()), |run| remove(&run, job)),
                Err(error) => run.and_then(|run| write(&run, job, &post, Durability::Loose)).and(Err(error)),
            },
            State::Ok => {
                write(&run?, job, &post, Durability::Loose)?;
                self.forget(job)
            }
            State::Off => remove(&run?, job),
            State::Working | State::Waiting | State::Attention | State::Unsafe => {
                write(&run?, job, &post, Durability::Loose)
            }
        }
    }

    /// Takes `job` off the board, an earlier failure included: it has succeeded, and that is nothing to show.
    ///
    /// # Errors
    ///
    /// [`LedError`] if the name is none or a file cannot be removed; the failure may still stand.
    pub fn make_good(&self, job: &str) -> Result<(), LedError> {
        check(job)?;
        let run = make_folder(&self.run)?;
        let _lock = self.lock(&run)?;
        remove(&run, job)?;
        self.forget(job)
    }

    /// What all jobs say, by name; a job whose process died at work has failed.
    ///
    /// # Errors
    ///
    /// [`LedError`] if a folder is there and cannot be read.
    pub fn jobs(&self) -> Result<Vec<Job>, LedError> {
        // The run folder first: a failure moves from there to the other, so that it is seen at least once.
        let boot = boot_id().unwrap_or_default();
        let judged = read_folder(&self.run)?.into_iter().filter_map(|(name, read)| judge(&name, read, &boot));
        let mut jobs: BTreeMap<String, Job> = judged.map(|job| (job.name.clone(), job)).collect();
        for (name, read) in read_folder(&self.kept)? {
            let Post { text, since, .. } = read.unwrap_or_else(|reason| broken(&reason));
            let failure = Some(Failure { text: text.clone(), since });
            jobs.entry(name.clone())
                .or_insert(Job { name, state: State::Failed, text, since, process: None, failure: None })
                .failure = failure;
        }
        Ok(jobs.into_values().collect())
    }

    /// Acknowledges the failure of `job`, or of all jobs, and returns the names of those that had failed.
    ///
    /// # Errors
    ///
    /// [`LedError`] if the name is none or a file cannot be removed; the other failures may be gone.
    pub fn ack(&self, job: Option<&str>) -> Result<Vec<String>, LedError> {
        job.map_or(Ok(()), check)?;
        if !self.run.is_dir() && !self.kept.is_dir() {
            return Ok(Vec::new());
        }
        let run = make_folder(&self.run)?;
        let _lock = self.lock(&run)?;
        let mut acked = Vec::new();
        for failed in self.jobs()? {
            let is_meant = job.is_none_or(|job| job == failed.name);
            if !is_meant || failed.light() != State::Failed {
                continue;
            }
            if failed.state == State::Failed {
                remove(&run, &failed.name)?;
            }
            self.forget(&failed.name)?;
            acked.push(failed.name);
        }
        Ok(acked)
    }

    /// Keeps the failures of jobs that died at work, so that they outlast the machine's next start.
    ///
    /// # Errors
    ///
    /// [`LedError`] if a file cannot be written; the failures are still found by [`Board::jobs`] until then.
    pub fn settle(&self) -> Result<(), LedError> {
        if !self.run.is_dir() {
            return Ok(());
        }
        let _lock = self.lock(&Dir::open(&self.run)?)?;
        self.settle_locked()
    }

    fn settle_locked(&self) -> Result<(), LedError> {
        let boot = boot_id().unwrap_or_default();
        let failed = |(name, read): NamedPost| match judge(&name, read, &boot) {
            Some(Job { state: State::Failed, text, since, .. }) => {
                let boot = boot.clone();
                Some((name, Post { version: VERSION, state: State::Failed, text, since, boot, process: None }))
            }
            _ => None,
        };
        let failed: Vec<_> = read_folder(&self.run)?.into_iter().filter_map(failed).collect();
        if failed.is_empty() {
            return Ok(());
        }
        self.keep(&failed.iter().map(|(name, post)| (name.as_str(), post)).collect::<Vec<_>>())?;
        let run = Dir::open(&self.run)?;
        failed.iter().try_for_each(|(name, _)| remove(&run, name))
    }

    /// Writes failures where they outlast the machine's next start, a loss of power right after included.
    fn keep(&self, failures: &[(&str, &Post)]) -> Result<(), LedError> {
        let kept = make_folder(&self.kept)?;
        let durability = if failures.len() < MANY { Durability::Synced } else { Durability::Loose };
        failures.iter().try_for_each(|(job, post)| write(&kept, job, post, durability))?;
        // Of many, the names alone are waited for: a post that a loss of power has emptied counts as failed as well.
        match durability {
            Durability::Loose => Ok(kept.sync()?),
            Durability::Synced => Ok(()),
        }
    }

    /// Removes a failure that was kept.
    fn forget(&self, job: &str) -> Result<(), LedError> {
        if !self.kept.is_dir() {
            return Ok(());
        }
        remove(&Dir::open(&self.kept)?, job)
    }

    /// Takes the lock of all who change the posts, which the kernel lets go of when the file is closed.
    fn lock(&self, run: &Dir) -> Result<File, LedError> {
        let name = Path::new(".lock");
        let path = || self.run.join(name);
        flock::within(flock::open(run, name)?, LOCK_LIMIT)
            .map_err(|source| LedError::Io { action: "lock", path: path(), source })?
            .ok_or_else(|| LedError::Busy { path: path() })
    }
}

/// What a post means now: `None` if it is from before the machine started.
fn judge(name: &str, read: Result<Post, String>, boot: &str) -> Option<Job> {
    let post = read.unwrap_or_else(|reason| broken(&reason));
    let is_of_this_boot = post.boot == boot || boot.is_empty();
    let is_dead = post.process.as_ref().is_some_and(|process| !process.is_alive());
    let died = || format!("it died while {}: {}", post.state.word(), post.text);
    let (state, text) = match post.state {
        State::Failed => (State::Failed, post.text),
        _ if !is_of_this_boot => return None,
        state if is_dead && state.needs_process() => (State::Failed, died().trim_end_matches([' ', ':']).to_owned()),
        state => (state, post.text),
    };
    let process = post.process.filter(|_| state.needs_process());
    Some(Job { name: name.to_owned(), state, text, since: post.since, process, failure: None })
}

fn check(job: &str) -> Result<(), LedError> {
    if is_job_name(job) { Ok(()) } else { Err(LedError::Name { name: job.to_owned() }) }
}

#[cfg(test)]
mod tests;
