//! A run: which hosts, in which order, how many at once, and what it comes to.

use std::cell::Cell;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, anyhow};
use chrono::Utc;
use phobos_core::exec::{self, System};
use phobos_core::human;
use phobos_core::sandbox;
use phobos_core::signal::Signals;
use phobos_site::config::Config;
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::job::Frame;
use phobos_site::led::{self, Board};
use phobos_site::lock::{Locks, Patience};
use phobos_site::namespace;
use phobos_site::paths::Paths;
use phobos_site::pull::{Host, HostName, Origin};
use phobos_site::usage;
use serde::Serialize;

use crate::client;
use crate::host::{NAME, Puller};
use crate::mark::Marks;
use crate::outcome::Outcome;
use crate::scope::Scope;
use crate::screen::Screen;
use crate::{Cli, TABLES, unbegun};

/// The commands that a host's name may be meant for.
const COMMANDS: [&str; 5] = ["authorize", "check", "trust", "list", "restore"];

/// How many hosts a line names.
const NAMED: usize = 5;

/// The version of what is printed as JSON.
const SCHEMA_VERSION: u32 = 1;

/// What a run prints as JSON.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    schema_version: u32,
    pulls: &'a [Outcome],
}

/// Pulls the hosts that the command line names; a run that cannot even begin is told of like a pull that fails.
pub(crate) fn run(cli: &Cli) -> Result<ExitCode, anyhow::Error> {
    exit::require_root()?;
    let (start, begun) = (Utc::now(), Cell::new(false));
    run_from(cli, &begun).inspect_err(|error| {
        if !begun.get() {
            unbegun::tell(cli, start, error);
        }
    })
}

/// The same; `begun` tells from when on the pulls tell of themselves.
fn run_from(cli: &Cli, begun: &Cell<bool>) -> Result<ExitCode, anyhow::Error> {
    let config = Config::load(cli.config.as_deref(), &TABLES)?;
    let hosts = chosen(&config, cli)?;
    if hosts.is_empty() {
        // The timer of a fresh install has nothing to do, which is no fault: no namespace is made, and nobody gets a mail.
        log::info!("{}", no_host(&config));
        if cli.json {
            print_json(&[])?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    require_programs(&hosts)?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let wait = cli.lock_wait.unwrap_or(config.locks.wait.0);
    let deadline = Instant::now().checked_add(wait).context("the lock wait is too long")?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let paths = Paths::from_environment();
    let caught = || signals.caught();
    let frame = Frame::new(&system, &caught, &paths, Board::system().lit_by(cli.config.as_deref()), deadline);
    enter_namespace(&config, &system, &signals, &frame.locks)?;
    let holding: &Path = &config.backup.holding;
    phobos_core::fs::make_passage(holding).with_context(|| format!("cannot make {}", holding.display()))?;
    let puller = Puller {
        config: &config,
        exec: &system,
        signals: &signals,
        screen: Screen::new(),
        marks: Marks::new(holding),
        frame: &frame,
        paths: &paths,
        program,
        scope: match (cli.dry_run, cli.allow_delete) {
            (true, _) => Scope::DryRun,
            (false, true) => Scope::AllowDelete,
            (false, false) => Scope::Usual,
        },
    };
    let hosts = in_turn(hosts, &puller.marks);
    if hosts.iter().any(|host| !host.is_local()) {
        if let Some(shortfall) = sandbox::support().shortfall() {
            log::warn!("{shortfall}");
        }
    }
    begun.set(true);
    if cli.all && puller.scope != Scope::DryRun {
        // A run of all hosts that could not begin is made good by one that can.
        led::make_good(&system, &frame.board, NAME);
    }
    let outcomes = pull_all(&puller, &hosts, usize::from(cli.jobs.get()));
    puller.screen.conclude(&summary(&outcomes));
    if cli.json {
        print_json(&outcomes)?;
    }
    Ok(worst(&outcomes))
}

/// The hosts that are meant, each once.
pub(crate) fn chosen(config: &Config, cli: &Cli) -> Result<Vec<Host>, anyhow::Error> {
    if cli.all {
        return config.hosts().map_err(Into::into);
    }
    let mut hosts: Vec<Host> = Vec::new();
    for name in &cli.hosts {
        if hosts.iter().all(|host| host.name != *name) {
            hosts.push(find(config, name)?);
        }
    }
    Ok(hosts)
}

/// Says that there is nothing to pull, and how that can be changed.
pub(crate) fn no_host(config: &Config) -> String {
    let folder = config.folder.display();
    format!(
        "no host is configured, nothing to pull; one is a [[pull]] table in phobos.toml or a file {folder}/pull.d/NAME.toml"
    )
}

/// The host called `name`.
pub(crate) fn find(config: &Config, name: &HostName) -> Result<Host, anyhow::Error> {
    let found = config.host(name)?;
    found.ok_or_else(|| {
        let hosts = config.hosts().unwrap_or_default();
        let of_hosts = hosts.iter().map(|host| host.name.as_str());
        let meant = match usage::nearest(name.as_str(), of_hosts.chain(COMMANDS)) {
            Some(command) if COMMANDS.contains(&command) => format!("did you mean `phobos-pull {command}`? If not, "),
            Some(host) => format!("did you mean {host}? If not, "),
            None => String::new(),
        };
        let text = format!(
            "no host is called {name}; {meant}give it a [[pull]] table in phobos.toml or the file {}/pull.d/{name}.toml",
            config.folder.display()
        );
        Stop::new(Exit::Config, text).into()
    })
}

fn require_programs(hosts: &[Host]) -> Result<(), anyhow::Error> {
    let asks_ssh =
        hosts.iter().flat_map(|host| &host.sources).any(|source| matches!(source.origin, Origin::Ssh { .. }));
    let ssh = asks_ssh.then_some("ssh");
    let programs: Vec<_> = ["rsync", "mount", "setpriv"].into_iter().chain(ssh).collect();
    Ok(exec::require(&programs)?)
}

/// Brings this process to where the backups are: before any second thread runs, which the kernel wants it to be.
pub(crate) fn enter_namespace(
    config: &Config,
    system: &System<'_>,
    signals: &Signals,
    locks: &Locks,
) -> Result<(), anyhow::Error> {
    let mut patience = Patience::until(Instant::now() + namespace::WAIT)
        .on_wait(|whom| log::info!("waiting for {whom}"))
        .interrupted_by(|| signals.caught());
    namespace::bring(system, &config.backup, locks, "pull", &mut patience)?;
    Ok(())
}

/// The hosts in the order of their last success, those without any first.
fn in_turn(mut hosts: Vec<Host>, marks: &Marks) -> Vec<Host> {
    if hosts.len() > 1 {
        hosts.sort_by_cached_key(|host| marks.read(&host.name).and_then(|mark| mark.success).map(|good| good.start));
    }
    hosts
}

/// Pulls all `hosts`, up to `jobs` at once.
fn pull_all(puller: &Puller<'_>, hosts: &[Host], jobs: usize) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::with_capacity(hosts.len()));
    let work = || {
        while let Some(host) = hosts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = match puller.signals.caught() {
                None => pull_guarded(puller, host),
                Some(signal) => {
                    let error = format!("stopped by signal {signal} before its turn");
                    puller.screen.say(log::Level::Error, &host.name, &error);
                    Outcome::unbegun(&host.name, &error, Exit::Signal(signal))
                }
            };
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.min(hosts.len()) {
            scope.spawn(work);
        }
        work();
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Pulls one host; a mistake of phobos's own, which its job tells of, costs no other host its pull.
fn pull_guarded(puller: &Puller<'_>, host: &Host) -> Outcome {
    let pull = std::panic::AssertUnwindSafe(|| puller.pull(host));
    std::panic::catch_unwind(pull)
        .unwrap_or_else(|_| Outcome::unbegun(&host.name, "internal error; please report it", Exit::Failed))
}

/// A line for a whole run.
fn summary(outcomes: &[Outcome]) -> String {
    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| outcome.exit != 0 || outcome.tolerated).map(|outcome| &outcome.host).collect();
    let pulled = outcomes.len() - failed.len();
    let which =
        if failed.is_empty() { String::new() } else { format!("; not {}", human::first_of(&failed, NAMED, ", ")) };
    format!("pulled {pulled} of {} hosts{which}", outcomes.len())
}

/// The exit code that matters most.
fn worst(outcomes: &[Outcome]) -> ExitCode {
    // Absence matters least: it may be over tomorrow.
    let rank = |exit: u8| match exit {
        0 => 0,
        66 => 1,
        75 => 2,
        65 => 3,
        1 => 4,
        78 => 5,
        _ => 6,
    };
    ExitCode::from(outcomes.iter().map(|outcome| outcome.exit).max_by_key(|exit| rank(*exit)).unwrap_or_default())
}

fn print_json(pulls: &[Outcome]) -> Result<(), anyhow::Error> {
    let text = serde_json::to_string_pretty(&Printed { schema_version: SCHEMA_VERSION, pulls })
        .map_err(|error| anyhow!("cannot write JSON: {error}"))?;
    client::say(&format!("{text}\n"))
}
