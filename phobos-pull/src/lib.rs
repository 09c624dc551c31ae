//! `phobos-pull`: pulls the hosts of the house into holding spaces, side by side and each under its own lock.

mod allowed;
mod authorize;
mod check;
mod client;
mod confined;
mod deletions;
mod ending;
mod host;
mod leftovers;
mod list;
mod mark;
mod outcome;
mod parts;
mod passes;
mod pull;
mod remote;
mod reserve;
mod restore;
mod scope;
mod screen;
mod secrets;
mod space;
mod tallies;
mod transfer;
mod trust;
mod unbegun;
mod users;
mod version;
mod walk;

use std::num::NonZeroU8;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use phobos_site::config::{Config, Table};
use phobos_site::pull::HostName;
use phobos_site::{exit, logging};

/// What this program reads of the configuration.
const TABLES: [Table; 3] = [Table::Backup, Table::Locks, Table::Pull];

/// Pull hosts into their holding spaces
#[derive(Debug, Parser)]
#[command(
    name = "phobos-pull",
    version,
    max_term_width = exit::WIDTH,
    subcommand_negates_reqs = true,
    subcommand_precedence_over_arg = true,
    disable_help_subcommand = true,
    after_help = exit::HELP
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Cli {
    /// Read this configuration instead of /etc/phobos/phobos.toml
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Pull these hosts
    #[arg(value_name = "HOST", required_unless_present = "all", conflicts_with = "all")]
    hosts: Vec<HostName>,
    /// Pull all hosts
    #[arg(long)]
    all: bool,
    /// Pull so many hosts at once
    #[arg(short, long, value_name = "N", default_value = "8")]
    jobs: NonZeroU8,
    /// Wait this long for locks, such as 12h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    lock_wait: Option<Duration>,
    /// Delete whatever the hosts no longer have, however much it is
    #[arg(long, conflicts_with = "all")]
    allow_delete: bool,
    /// Say what would be copied and deleted, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print the outcomes as JSON
    #[arg(long)]
    json: bool,
    /// Do something else than pull
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print what to add to a host so that it can be read, and nothing else be done to it
    Authorize(authorize::Args),
    /// Prove that a host can be read, and that nothing else can be done to it
    Check(check::Args),
    /// Show the keys of a host's ssh server, and trust them
    Trust(trust::Args),
    /// Show when each host was pulled last, how that went, and when it is pulled next
    List(list::Args),
    /// Give files back from a host's holding space
    Restore(restore::Args),
    /// Confine this process and become a program
    #[command(hide = true)]
    Confined(confined::Args),
    /// End all processes of a user
    #[command(hide = true)]
    Sweep(confined::Sweep),
}

/// Runs the program and returns its exit code.
pub fn main(mut cli: Cli) -> ExitCode {
    logging::init(log::LevelFilter::Info);
    exit::guarded(|| {
        let result = match cli.command.take() {
            Some(command) => run(&cli, command).map(|()| ExitCode::SUCCESS),
            None => pull::run(&cli),
        };
        match result {
            Ok(code) => code,
            Err(error) => exit::conclude(Err(error)),
        }
    })
}

fn run(cli: &Cli, command: Command) -> Result<(), anyhow::Error> {
    exit::require_root()?;
    let config = || Config::load(cli.config.as_deref(), &TABLES);
    match command {
        Command::List(args) => list::run(cli, &args),
        Command::Authorize(args) => authorize::run(&config()?, &args),
        Command::Check(args) => check::run(&config()?, &args),
        Command::Trust(args) => trust::run(&config()?, &args),
        Command::Restore(args) => restore::run(cli, &config()?, &args),
        Command::Confined(args) => confined::run(args),
        Command::Sweep(args) => confined::sweep(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// `%I` turns a dash into a slash: `phobos-pull@my-laptop.service` would pull `my/laptop`.
    #[test]
    fn the_units_take_the_host_as_it_is_written() {
        let units = [include_str!("../dist/phobos-pull@.service"), include_str!("../dist/phobos-pull@.timer")];
        for unit in units {
            assert!(!unit.contains("%I") && unit.contains("%i"), "{unit}");
        }
    }

    #[test]
    fn help_ends_with_the_exit_codes() {
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("Exit codes:") && help.contains("  66     the drive or the host is not there"), "{help}");
    }

    #[test]
    fn hosts_or_all_and_never_a_path() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["phobos-pull"], args].concat());
        assert_eq!(parse(&["luv", "chew", "-j", "2"]).unwrap().hosts.len(), 2);
        assert!(parse(&["--all"]).unwrap().all);
        for wrong in [&[][..], &["--all", "luv"], &["../luv"], &["--all", "--allow-delete"], &["luv", "--jobs", "0"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(matches!(parse(&["list", "--json"]).unwrap().command, Some(Command::List(_))));
    }
}
