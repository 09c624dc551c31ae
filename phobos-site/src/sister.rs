//! Calls of phobos's other programs, by one that is told where the configuration is.

use std::path::Path;

use phobos_core::exec::Invocation;

/// The call of `program` with the same configuration; without `config`, it reads its own default as the caller does.
pub fn call(program: &str, config: Option<&Path>) -> Invocation {
    let call = Invocation::new(program);
    config.into_iter().fold(call, |call, file| call.arg("--config").arg(file))
}
