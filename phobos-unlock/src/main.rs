//! The program `phobos-unlock`; all of it lives in the library beside this file.

use clap::Parser;
use phobos_site::usage;
use std::process::ExitCode;

fn main() -> ExitCode {
    match phobos_unlock::Cli::try_parse() {
        Ok(cli) => phobos_unlock::main(&cli),
        Err(error) if error.use_stderr() => usage::refuse("phobos-unlock", &error.to_string()),
        Err(help) => help.exit(),
    }
}
