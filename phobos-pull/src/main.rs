//! The program `phobos-pull`; all of it lives in the library beside this file.

use clap::Parser;
use phobos_site::usage;
use std::process::ExitCode;

fn main() -> ExitCode {
    match phobos_pull::Cli::try_parse() {
        Ok(cli) => phobos_pull::main(cli),
        Err(error) if error.use_stderr() => usage::refuse("phobos-pull", &error.to_string()),
        Err(help) => help.exit(),
    }
}
