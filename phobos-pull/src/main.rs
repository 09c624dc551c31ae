//! The program `phobos-pull`; all of it lives in the library beside this file.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    phobos_pull::main(phobos_pull::Cli::parse())
}
