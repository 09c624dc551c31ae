//! `migrate`: runs the script that has the original's units call phobos's programs, as it is installed too.

use crate::files::MIGRATE;
use crate::{project, root_cmd};
use anyhow::Result;
use xshell::{Shell, cmd};

/// The command line of `migrate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Options and units for phobos-migrate: `--apply`, `--revert`, `--root DIR`, `--help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    args: Vec<String>,
}

/// Runs it; as root where it changes anything.
///
/// # Errors
///
/// If it has left something alone.
pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let script = project().join("xtask/assets").join(MIGRATE);
    let changes = args.args.iter().any(|arg| arg == "--apply" || arg == "--revert");
    if changes {
        let line: Vec<&str> = args.args.iter().map(String::as_str).collect();
        return Ok(root_cmd(sh, &script.to_string_lossy(), &line).quiet().run()?);
    }
    Ok(cmd!(sh, "{script}").args(&args.args).quiet().run()?)
}

#[cfg(test)]
mod tests;
