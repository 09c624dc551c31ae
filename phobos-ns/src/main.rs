//! The program `phobos-ns`; all of it lives in the library beside this file.

use std::process::ExitCode;

fn main() -> ExitCode {
    phobos_ns::main(&phobos_ns::arguments())
}
