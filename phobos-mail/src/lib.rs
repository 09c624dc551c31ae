//! The mail about a failed unit: a drop-in for systemd-email.

use clap::Parser;
use std::process::ExitCode;

/// The command line of `phobos-mail`.
#[derive(Debug, Parser)]
#[command(name = "phobos-mail", version, about)]
pub struct Cli {}

/// Runs the program and returns its exit code.
pub fn main(_cli: &Cli) -> ExitCode {
    ExitCode::FAILURE
}
