//! The program `phobos-blink`; all of it lives in the library beside this file.

use std::process::ExitCode;

fn main() -> ExitCode {
    phobos_blink::main(std::env::args_os())
}
