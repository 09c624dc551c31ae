//! The program `phobos-ext`; all of it lives in the library beside this file.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    phobos_ext::main(&phobos_ext::Cli::parse())
}
