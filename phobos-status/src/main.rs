//! The program `phobos-status`; all of it lives in the library beside this file.

use clap::Parser;
use phobos_site::usage;
use std::process::ExitCode;

fn main() -> ExitCode {
    match phobos_status::Cli::try_parse() {
        Ok(cli) => phobos_status::main(&cli),
        Err(error) if error.use_stderr() => usage::refuse("phobos-status", &error.to_string()),
        Err(help) => help.exit(),
    }
}
