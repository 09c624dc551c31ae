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
use phobos_core::borg::{BorgError, Repository};
use phobos_core::error::Chain;
use phobos_core::exec::{self, Exec, ExecError, Invocation, Status, System};
use phobos_core::signal::Signals;
use phobos_site::config::Config;
use phobos_site::exit;
use phobos_site::job::{self, Ending, Frame, Job, Spec, Visibility};
use phobos_site::led::{self, Board};
use phobos_site::lock::{BadLockName, Lock, LockName, Locks, Mode, Patience};
use phobos_site::namespace;
use phobos_site::paths::Paths;

use crate::make;

/// What a shell returns for a program that it cannot find, and for one that it cannot start.
const NOT_FOUND: u8 = 127;
const NOT_STARTED: u8 = 126;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tell light and history about the command under this name
    #[arg(long, value_name = "NAME", value_parser = job_name)]
    pub(crate) job: Option<String>,
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

pub(crate) fn run(config: &Config, args: &Args, paths: &Paths, board: Board) -> Result<ExitCode, anyhow::Error> {
    let call = invocation(&args.command)?;
    if args.job.is_none() && args.lock.is_empty() {
        enter(config, args, &Locks::new(&paths.locks()), None)?;
        return Ok(ExitCode::from(not_run(&exec::replace(&call))));
    }
    let signals = Signals::catch_to_pass_on().context("cannot catch signals").inspect_err(|error| {
        if let Some(job) = &args.job {
            job::failed_early(&System::default(), &board, job, &Chain(error.as_ref()));
        }
    })?;
    let system = System::new(&signals);
    let wait = args.lock_wait.unwrap_or(config.locks.wait.0);
    let deadline = Instant::now().checked_add(wait).ok_or_else(|| anyhow!("the lock wait is too long"))?;
    let caught = || signals.caught();
    let frame = Frame::new(&system, &caught, paths, board, deadline);
    let name = args.job.as_deref().unwrap_or("phobos-ns exec");
    let spec = Spec {
        name,
        object: "",
        light: name.to_owned(),
        working: String::new(),
        // Scheduled jobs show on the light only that they failed; one that somebody watches shows all it does.
        visibility: match &args.job {
            None => Visibility::Nothing,
            Some(_) if std::io::stderr().is_terminal() => Visibility::All,
            Some(_) => Visibility::Failures,
        },
        expected_end: None,
    };
    let job = frame.begin(spec, None, &|text| log::info!("{text}"));
    let locks = enter(config, args, &frame.locks, Some(&signals)).and_then(|()| take_locks(config, args, &job));
    match locks {
        Ok(locks) => {
            let ending = attach(&system, args, &call.bound(), locks);
            job.end(&ending);
            Ok(ExitCode::from(ending.exit))
        }
        Err(error) => {
            job.end(&Ending::failed(error.as_ref()));
            Err(error)
        }
    }
}

/// Runs the command while the locks are held.
fn attach(system: &System<'_>, args: &Args, call: &Invocation, locks: Vec<Lock>) -> Ending {
    let result = system.attach(call);
    drop(locks);
    match result {
        Ok(Status::Code(0)) => Ending::default(),
        Ok(status) => Ending {
            exit: status.shell_code(),
            error: format!("{} {status}", program(&args.command)),
            origin: match status {
                Status::Code(_) => program(&args.command),
                Status::Signal(_) => "signal".to_owned(),
            },
            ..Ending::default()
        },
        Err(error) => Ending { exit: not_run(&error), error: Chain(&error).to_string(), ..Ending::default() },
    }
}

/// Takes all locks in the one order that keeps jobs from waiting for each other in a circle.
fn take_locks(config: &Config, args: &Args, job: &Job<'_>) -> Result<Vec<Lock>, anyhow::Error> {
    let mut wanted = args.lock.clone();
    wanted.sort();
    wanted.dedup_by(|later, earlier| later.name == earlier.name);
    let mut held = Vec::new();
    for lock in wanted {
        held.push(job.lock(&lock.name, if lock.shared { Mode::Shared } else { Mode::Exclusive })?);
        // A job that phobos did not start has Borg's own lock only, and the command may not wait for it long.
        if lock.name == LockName::Repository {
            job.waiting(job.deadline(), |patience| wait_for_borg(config, patience))?;
        }
    }
    Ok(held)
}

fn wait_for_borg(config: &Config, patience: &mut Patience<'_>) -> Result<(), BorgError> {
    match Repository::open(&config.backup.repository) {
        Ok(repository) => repository.called_as(namespace::borg_from_outside()).wait_until_free(patience),
        // Outside the namespace, or before the first backup, there is none.
        Err(BorgError::NotARepository { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Enters the namespace, unless it is not wanted, and stays in the caller's folder.
fn enter(config: &Config, args: &Args, locks: &Locks, signals: Option<&Signals>) -> Result<(), anyhow::Error> {
    if args.no_namespace {
        return Ok(());
    }
    let folder = std::env::current_dir();
    make::bring(config, locks, signals)?;
    if let Ok(folder) = folder {
        return_to(&folder);
    }
    Ok(())
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
