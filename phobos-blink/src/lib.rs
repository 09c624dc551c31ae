//! The light: a drop-in for blinkstick, and the arbiter for a light that many jobs share.

use clap::Parser;
use std::process::ExitCode;

/// The command line of `phobos-blink`.
#[derive(Debug, Parser)]
#[command(name = "phobos-blink", version, about)]
pub struct Cli {}

/// Runs the program and returns its exit code.
pub fn main(_cli: &Cli) -> ExitCode {
    ExitCode::FAILURE
}
