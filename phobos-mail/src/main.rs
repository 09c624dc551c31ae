//! The program `phobos-mail`; all of it lives in the library beside this file.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    phobos_mail::main(&phobos_mail::Cli::parse())
}
