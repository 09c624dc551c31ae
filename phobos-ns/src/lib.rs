//! `phobos-ns`: the private mount namespace in which the backup file system is mounted, and jobs in it.
//!
//! Without arguments the drop-in for `mkbackupns`: makes the namespace if it is not there.

mod exec;
mod make;
mod remove;
mod status;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};
use phobos_core::error::Chain;
use phobos_core::exec::System;
use phobos_site::config::{Config, Table};
use phobos_site::led::Board;
use phobos_site::lock::Locks;
use phobos_site::paths::Paths;
use phobos_site::{exit, job, logging};

/// The private mount namespace of the backups; without a command, make it if it is not there
#[derive(Debug, Parser)]
#[command(name = "phobos-ns", version, max_term_width = exit::WIDTH, after_help = exit::HELP)]
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

/// The command line.
///
/// # Errors
///
/// clap's own, with a hint where only `--` is missing; help and version are such errors, too.
pub fn arguments() -> Result<Cli, clap::Error> {
    read(&std::env::args_os().collect::<Vec<_>>())
}

fn read(args: &[OsString]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(args).map_err(|mut error| {
        if let Some(hint) = hint(args, &error) {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
        }
        error
    })
}

/// How a command is given to `exec`, for whoever has left out the `--` before it.
fn hint(args: &[OsString], error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return None };
    let at = args.iter().position(|arg| arg == word.as_str())?;
    let (before, behind) = args.split_at(at);
    if word.starts_with('-') || !before.iter().any(|arg| arg == "exec") || before.iter().any(|arg| arg == "--") {
        return None;
    }
    let words = |args: &[OsString]| args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let before = words(before.get(1..).unwrap_or_default());
    Some(format!("the command goes behind `--`: phobos-ns {before} -- {}", words(behind)))
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
    let board = || Board::system().lit_by(cli.config.as_deref());
    let config = Config::load(cli.config.as_deref(), &[Table::Backup, Table::Locks]).inspect_err(|error| {
        // A job that cannot even begin has failed like any other.
        if let Some(Command::Exec(exec::Args { job: Some(job), .. })) = &cli.command {
            job::failed_early(&System::default(), &board(), job, &Chain(error));
        }
    })?;
    let paths = Paths::from_environment();
    let locks = Locks::new(&paths.locks());
    match &cli.command {
        None => make::run(&config, &locks),
        Some(Command::Exec(args)) => {
            return exec::run(&config, args, &paths, board());
        }
        Some(Command::Status(args)) => status::run(&config, &locks, args),
        Some(Command::Remove) => remove::run(&config, &locks),
    }?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn a_command_without_the_dashes_gets_a_hint() {
        let said = |line: &str| read(&line.split(' ').map(OsString::from).collect::<Vec<_>>()).unwrap_err().to_string();
        let hints = [
            ("phobos-ns exec ls", "phobos-ns exec -- ls"),
            ("phobos-ns exec ls -l /backup", "phobos-ns exec -- ls -l /backup"),
            ("phobos-ns exec --lock holding borg check", "phobos-ns exec --lock holding -- borg check"),
        ];
        for (line, hint) in hints {
            assert!(said(line).contains(&format!("the command goes behind `--`: {hint}\n")), "{}", said(line));
        }
        for line in ["phobos-ns exce", "phobos-ns exec --nope -- ls", "phobos-ns status ls"] {
            assert!(!said(line).contains("goes behind"), "{}", said(line));
        }
    }

    #[test]
    fn the_help_tells_the_exit_codes() {
        assert!(Cli::command().render_help().to_string().contains(exit::HELP));
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
