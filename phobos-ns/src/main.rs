//! The program `phobos-ns`; all of it lives in the library beside this file.

use phobos_site::usage;
use std::process::ExitCode;

fn main() -> ExitCode {
    match phobos_ns::arguments() {
        Ok(cli) => phobos_ns::main(&cli),
        Err(error) if error.use_stderr() => usage::refuse("phobos-ns", &error.to_string()),
        Err(help) => help.exit(),
    }
}
