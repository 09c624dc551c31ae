//! `phobos-ns`: makes the private mount namespace in which the backup file system is mounted, if it is not there.
//!
//! The drop-in for `mkbackupns`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use phobos_core::config::Config;
use phobos_core::exec::{self, System};
use phobos_core::lock::{LockName, Locks, Mode, Patience};
use phobos_core::namespace::{self, Entered, Plan};
use phobos_core::signal::Signals;
use phobos_core::{folders, journal, report};

/// How long to wait for another call that makes the namespace.
const LOCK_WAIT: Duration = Duration::from_secs(120);

/// Make the private mount namespace of the backups, if it is not there
#[derive(Debug, Parser)]
#[command(name = "phobos-ns", version)]
pub struct Cli {
    /// Read this configuration instead of /etc/phobos/phobos.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the program and returns its exit code.
pub fn main(cli: &Cli) -> ExitCode {
    journal::init(log::LevelFilter::Info);
    report::conclude(make(cli))
}

fn make(cli: &Cli) -> Result<(), anyhow::Error> {
    report::require_root()?;
    let config = Config::load(cli.config.as_deref())?;
    exec::require(&["mount"])?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let mut patience = Patience {
        deadline: Instant::now() + LOCK_WAIT,
        on_wait: &mut |whom| log::info!("waiting for {whom}"),
        interrupted: &|| signals.caught(),
    };
    let _lock = Locks::new(&folders::runtime().join("lock")).take(
        &LockName::Namespace,
        Mode::Exclusive,
        "phobos-ns",
        None,
        &mut patience,
    )?;
    let backup = &config.backup;
    let plan = Plan { file: &backup.namespace, target: &backup.mount, fstab: Path::new("/etc/fstab") };
    match namespace::enter(&system, plan)? {
        Entered::Made => log::info!("made the namespace {}", backup.namespace.display()),
        Entered::Found | Entered::Inside => log::debug!("the namespace {} was there", backup.namespace.display()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
