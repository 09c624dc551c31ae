//! Pulls the hosts of the house into holding spaces.

use clap::Parser;
use std::process::ExitCode;

/// The command line of `phobos-pull`.
#[derive(Debug, Parser)]
#[command(name = "phobos-pull", version, about)]
pub struct Cli {}

/// Runs the program and returns its exit code.
pub fn main(_cli: &Cli) -> ExitCode {
    ExitCode::FAILURE
}
