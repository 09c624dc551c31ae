//! Runs a command in the namespace, under locks.
//!
//! The command keeps the caller's environment, descriptors and, where it exists in the namespace, working directory;
//! nsenter changes that to `/`. It is a child of phobos-ns, which passes signals on and its exit status back; where
//! nothing has to be done afterwards, phobos-ns becomes the command.
//!
//! The locks are phobos-ns's own and not inherited: they end with the command, whatever it leaves running. A phobos-ns that
//! is killed lets go of them at once; the command gets SIGTERM then.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use chrono::Utc;
use phobos_core::borg::{BorgError, Repository};
use phobos_core::error::Chain;
use phobos_core::exec::{self, Exec, ExecError, Invocation, Status, System};
use phobos_core::signal::Signals;
use phobos_site::config::Config;
use phobos_site::exit;
use phobos_site::history::{History, Run};
use phobos_site::led::{self, Board, State};
use phobos_site::namespace;
use phobos_site::lock::{BadLockName, Lock, LockName, Mode, Patience};
use phobos_site::paths;

use crate::{locks, make};

/// What a shell returns for a program that it cannot find, and for one that it cannot start.
const NOT_FOUND: u8 = 127;
const NOT_STARTED: u8 = 126;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tell light and history about the command under this name
    #[arg(long, value_name = "NAME", value_parser = job_name)]
    job: Option<String>,
    /// Hold this lock: holding, holding/HOST, repository, drive/NAME or local/NAME
    #[arg(long, value_name = "NAME[:shared]")]
    lock: Vec<LockArg>,
    /// Wait this long for locks, such as 12h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    lock_wait: Option<Duration>,
    /// Stay outside the namespace
    #[arg(long)]
    no_namespace: bool,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// A lock and how it is to be held, as `NAME` or `NAME:shared`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LockArg {
    name: LockName,
    shared: bool,
}

pub(crate) fn run(config: &Config, args: &Args, board: Board) -> Result<ExitCode, anyhow::Error> {
    let call = invocation(&args.command)?;
    if args.job.is_none() && args.lock.is_empty() {
        enter(config, args, None)?;
        return Ok(ExitCode::from(not_run(&exec::replace(&call))));
    }
    let signals = Signals::catch_to_pass_on().context("cannot catch signals")?;
    let job = Job { config, args, system: &System::new(&signals), signals: &signals, board };
    job.run(&call.bound())
}

struct Job<'a> {
    config: &'a Config,
    args: &'a Args,
    system: &'a System<'a>,
    signals: &'a Signals,
    board: Board,
}

impl Job<'_> {
    fn run(&self, call: &Invocation) -> Result<ExitCode, anyhow::Error> {
        let start = Utc::now();
        let began = Instant::now();
        let locks = enter(self.config, self.args, Some(self.signals)).and_then(|()| self.take_locks());
        let waited = began.elapsed();
        let mut run = Run { waited_secs: waited.as_secs(), ..Run::new(self.name(), "", start) };
        let result = locks.map(|locks| self.attach(call, locks, &mut run));
        match &result {
            Ok(code) => run.exit = *code,
            Err(error) => {
                run.exit = exit::exit_of(error.as_ref()).code();
                run.origin = exit::origin_of(error.as_ref()).unwrap_or_default();
                run.error = Chain(error.as_ref()).to_string();
            }
        }
        run.end = Utc::now();
        self.tell(&run);
        result.map(ExitCode::from)
    }

    /// Runs the command while the locks are held; returns its exit code.
    fn attach(&self, call: &Invocation, locks: Vec<Lock>, run: &mut Run) -> u8 {
        self.post_if_watched(State::Working, "");
        let result = self.system.attach(call);
        drop(locks);
        match result {
            Ok(status) => {
                run.origin = match status {
                    Status::Code(0) => String::new(),
                    Status::Code(_) => program(&self.args.command),
                    Status::Signal(_) => "signal".to_owned(),
                };
                if status != Status::Code(0) {
                    run.error = format!("{} {status}", program(&self.args.command));
                }
                status.shell_code()
            }
            Err(error) => {
                run.error = Chain(&error).to_string();
                not_run(&error)
            }
        }
    }

    /// Takes all locks in the one order that keeps jobs from waiting for each other in a circle.
    fn take_locks(&self) -> Result<Vec<Lock>, anyhow::Error> {
        let wait = self.args.lock_wait.unwrap_or(self.config.external.lock_wait.0);
        let deadline = Instant::now().checked_add(wait).ok_or_else(|| anyhow!("the lock wait is too long"))?;
        let mut wanted = self.args.lock.clone();
        wanted.sort();
        wanted.dedup_by(|later, earlier| later.name == earlier.name);
        let until = History::new(&history_file()).expected_end(self.name(), "", Utc::now());
        let all = locks();
        let mut held = Vec::new();
        for lock in wanted {
            let mut on_wait = |whom: &str| {
                log::info!("waiting for {whom}");
                self.post_if_watched(State::Waiting, &format!("waiting for {whom}"));
            };
            let mut patience = Patience { deadline, on_wait: &mut on_wait, interrupted: &|| self.signals.caught() };
            let mode = if lock.shared { Mode::Shared } else { Mode::Exclusive };
            held.push(all.take(&lock.name, mode, self.name(), until, &mut patience)?);
            // A job that phobos did not start has Borg's own lock only, and the command may not wait for it long.
            if lock.name == LockName::Repository {
                self.wait_for_borg(&mut patience)?;
            }
        }
        Ok(held)
    }

    fn wait_for_borg(&self, patience: &mut Patience<'_>) -> Result<(), BorgError> {
        match Repository::open(&self.config.backup.repository) {
            Ok(repository) => repository.called_as(namespace::borg_from_outside()).wait_until_free(patience),
            // Outside the namespace, or before the first backup, there is none.
            Err(BorgError::NotARepository { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells history and light about a run with a name.
    fn tell(&self, run: &Run) {
        if self.args.job.is_none() {
            return;
        }
        if let Err(error) = History::new(&history_file()).append(run) {
            log::warn!("{}", Chain(&error));
        }
        if run.exit != 0 {
            self.post(State::Failed, &run.error);
        } else if is_watched() {
            self.post(State::Ok, "");
        } else {
            led::make_good(self.system, &self.board, self.name());
        }
    }

    /// Scheduled jobs show on the light only that they failed; one that somebody watches shows all it does.
    fn post_if_watched(&self, state: State, text: &str) {
        if self.args.job.is_some() && is_watched() {
            self.post(state, text);
        }
    }

    fn post(&self, state: State, text: &str) {
        led::tell(self.system, &self.board, self.name(), state, text);
    }

    fn name(&self) -> &str {
        self.args.job.as_deref().unwrap_or("phobos-ns exec")
    }
}

/// Enters the namespace, unless it is not wanted, and stays in the caller's folder.
fn enter(config: &Config, args: &Args, signals: Option<&Signals>) -> Result<(), anyhow::Error> {
    if args.no_namespace {
        return Ok(());
    }
    let folder = std::env::current_dir();
    make::enter(config, signals)?;
    if let Ok(folder) = folder {
        return_to(&folder);
    }
    Ok(())
}

fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

fn history_file() -> std::path::PathBuf {
    paths::state().join("history.jsonl")
}

/// Goes back to where the caller was: entering the namespace has led to `/`.
fn return_to(folder: &Path) {
    if let Err(error) = std::env::set_current_dir(folder) {
        log::warn!("{} is not there in the namespace ({error}); going on in /", folder.display());
    }
}

fn invocation(command: &[OsString]) -> Result<Invocation, anyhow::Error> {
    let (program, args) = command.split_first().context("no command was given")?;
    let program = program.to_str().context("the command's name is not UTF-8")?;
    Ok(Invocation::new(program).args(args))
}

/// The command's name, without its folder.
fn program(command: &[OsString]) -> String {
    let name = command.first().and_then(|program| Path::new(program).file_name());
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Says why the command was not run, and returns the exit code that a shell would.
fn not_run(error: &ExecError) -> u8 {
    log::error!("{}", Chain(error));
    match error {
        ExecError::Missing { .. } => NOT_FOUND,
        ExecError::Interrupted { .. } => exit::exit_of(error).code(),
        _ => NOT_STARTED,
    }
}

fn job_name(text: &str) -> Result<String, String> {
    if led::is_job_name(text) {
        Ok(text.to_owned())
    } else {
        Err("a job's name has 1 to 64 letters, digits, - and _".to_owned())
    }
}

impl FromStr for LockArg {
    type Err = BadLockName;

    fn from_str(text: &str) -> Result<Self, BadLockName> {
        let (name, shared) = match text.strip_suffix(":shared") {
            Some(name) => (name, true),
            None => (text, false),
        };
        Ok(Self { name: name.parse()?, shared })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_exclusive_unless_it_says_shared() {
        assert!(!"holding".parse::<LockArg>().unwrap().shared);
        assert!("holding:shared".parse::<LockArg>().unwrap().shared);
        assert!("holding:sharde".parse::<LockArg>().is_err());
    }
}
