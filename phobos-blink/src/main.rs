//! The program `phobos-blink`; all of it lives in the library beside this file.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    phobos_blink::main(&phobos_blink::Cli::parse())
}
