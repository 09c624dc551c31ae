//! `phobos-pull`: will pull the hosts of the house into holding spaces. It does not pull yet, and says so.

mod confined;

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser;
use phobos_core::{journal, report};

/// Pull hosts into their holding spaces (not yet: it only says so)
#[derive(Debug, Parser)]
#[command(name = "phobos-pull", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The hosts
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Confine this process and become a program
    #[command(hide = true)]
    Confined(confined::Args),
}

/// Runs the program and returns its exit code.
pub fn main(cli: Cli) -> ExitCode {
    journal::init(log::LevelFilter::Info);
    if let Some(Command::Confined(args)) = cli.command {
        return report::conclude(confined::run(args));
    }
    let hosts = if cli.hosts.is_empty() { "anything".to_owned() } else { cli.hosts.join(", ") };
    report::conclude(Err(anyhow!(
        "cannot pull {hosts}: phobos-pull does not pull yet; keep the rsync job that you have"
    )))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
