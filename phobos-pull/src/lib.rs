//! `phobos-pull`: will pull the hosts of the house into holding spaces. It does not pull yet, and says so.

mod authorize;
mod check;
mod client;
mod confined;
mod trust;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser;
use phobos_core::config::Config;
use phobos_core::{journal, report};

/// Pull hosts into their holding spaces (not yet: it only says so)
#[derive(Debug, Parser)]
#[command(name = "phobos-pull", version, subcommand_precedence_over_arg = true)]
pub struct Cli {
    /// Read this configuration instead of /etc/phobos/phobos.toml
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
    /// The hosts
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the line of authorized_keys that lets a host be read, and nothing else be done to it
    Authorize(authorize::Args),
    /// Prove that a host can be read, and that nothing else can be done to it
    Check(check::Args),
    /// Show the keys of a host's ssh server, and trust them
    Trust(trust::Args),
    /// Confine this process and become a program
    #[command(hide = true)]
    Confined(confined::Args),
}

/// Runs the program and returns its exit code.
pub fn main(cli: Cli) -> ExitCode {
    journal::init(log::LevelFilter::Info);
    if let Some(command) = cli.command {
        return report::conclude(run(cli.config.as_deref(), command));
    }
    let hosts = if cli.hosts.is_empty() { "anything".to_owned() } else { cli.hosts.join(", ") };
    report::conclude(Err(anyhow!(
        "cannot pull {hosts}: phobos-pull does not pull yet; keep the rsync job that you have"
    )))
}

fn run(config: Option<&Path>, command: Command) -> Result<(), anyhow::Error> {
    report::require_root()?;
    match command {
        Command::Authorize(args) => authorize::run(&Config::load(config)?, &args),
        Command::Check(args) => check::run(&Config::load(config)?, &args),
        Command::Trust(args) => trust::run(&Config::load(config)?, &args),
        Command::Confined(args) => confined::run(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
