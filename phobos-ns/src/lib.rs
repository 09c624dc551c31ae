//! The persistent private mount namespace: a drop-in for mkbackupns.

use clap::Parser;
use std::process::ExitCode;

/// The command line of `phobos-ns`.
#[derive(Debug, Parser)]
#[command(name = "phobos-ns", version, about)]
pub struct Cli {}

/// Runs the program and returns its exit code.
pub fn main(_cli: &Cli) -> ExitCode {
    ExitCode::FAILURE
}
