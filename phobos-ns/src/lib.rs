//! `phobos-ns`: the private mount namespace in which the backup file system is mounted, and jobs in it.
//!
//! Without arguments the drop-in for `mkbackupns`: makes the namespace if it is not there.

mod exec;
mod make;
mod remove;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use phobos_site::config::{Config, Table};
use phobos_site::led::Board;
use phobos_site::lock::Locks;
use phobos_site::paths::Paths;
use phobos_site::{exit, logging};

/// The private mount namespace of the backups; without a command, make it if it is not there
#[derive(Debug, Parser)]
#[command(name = "phobos-ns", version)]
pub struct Cli {
    /// Read this configuration instead of /etc/phobos/phobos.toml
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command in the namespace, under locks
    Exec(exec::Args),
    /// Show what is mounted and who is in it, and who holds or awaits which lock
    Status(status::Args),
    /// Unmount the backups and take the namespace away, when nothing runs in it
    Remove,
}

/// Runs the program and returns its exit code.
pub fn main(cli: &Cli) -> ExitCode {
    logging::init(log::LevelFilter::Info);
    exit::guarded(|| match run(cli) {
        Ok(code) => code,
        Err(error) => exit::conclude(Err(error)),
    })
}

fn run(cli: &Cli) -> Result<ExitCode, anyhow::Error> {
    exit::require_root()?;
    let config = Config::load(cli.config.as_deref(), &[Table::Backup, Table::Locks])?;
    let paths = Paths::from_environment();
    let locks = Locks::new(&paths.locks());
    match &cli.command {
        None => make::run(&config, &locks),
        Some(Command::Exec(args)) => {
            return exec::run(&config, args, &paths, Board::system().lit_by(cli.config.as_deref()));
        }
        Some(Command::Status(args)) => status::run(&config, &locks, args),
        Some(Command::Remove) => remove::run(&config, &locks),
    }?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
