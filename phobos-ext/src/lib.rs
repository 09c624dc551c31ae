//! The off-site drive: unlock, mount, mirror, unmount, lock.

use clap::Parser;
use std::process::ExitCode;

/// The command line of `phobos-ext`.
#[derive(Debug, Parser)]
#[command(name = "phobos-ext", version, about)]
pub struct Cli {}

/// Runs the program and returns its exit code.
pub fn main(_cli: &Cli) -> ExitCode {
    ExitCode::FAILURE
}
