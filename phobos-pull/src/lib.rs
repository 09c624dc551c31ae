//! `phobos-pull`: will pull the hosts of the house into holding spaces. It does not pull yet, and says so.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser;
use phobos_core::{journal, report};

/// Pull hosts into their holding spaces (not yet: it only says so)
#[derive(Debug, Parser)]
#[command(name = "phobos-pull", version)]
pub struct Cli {
    /// The hosts
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
}

/// Runs the program and returns its exit code.
pub fn main(cli: &Cli) -> ExitCode {
    journal::init(log::LevelFilter::Info);
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
