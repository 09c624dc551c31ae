//! The program `phobos-ext`; all of it lives in the library beside this file.

use clap::Parser;
use phobos_site::usage;
use std::process::ExitCode;

fn main() -> ExitCode {
    match phobos_ext::Cli::try_parse() {
        Ok(cli) => phobos_ext::main(&cli),
        Err(error) if error.use_stderr() => usage::refuse("phobos-ext", &error.to_string()),
        Err(help) => help.exit(),
    }
}
