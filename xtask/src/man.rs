//! `man` and `sample`: the man pages, completions, schemas and the sample configuration, written by `phobos-manual`.

use crate::{build_packages, project, say, target};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use xshell::{Shell, cmd};

/// The program that writes them.
const PROGRAM: &str = "phobos-manual";

/// The sample configuration.
const SAMPLE: &str = "phobos-ext/dist/phobos.toml";

/// The command line of `man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cargo profile to build with
    #[arg(long, default_value = "dev")]
    profile: String,
}

/// Writes them.
///
/// # Errors
///
/// If the program cannot be built, or a file cannot be written.
pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let folder = make(sh, &args.profile)?;
    say(&format!("written to {}; `man -l FILE` shows a page", folder.display()));
    Ok(())
}

/// Writes the sample configuration that is installed, as the types of the settings are now.
///
/// # Errors
///
/// If the program cannot be built, or the file cannot be written.
pub(crate) fn sample(sh: &Shell) -> Result<()> {
    let program = build_packages(sh, "dev", &[PROGRAM.to_owned()])?.join(PROGRAM);
    let (folder, file) = (target()?.join("manual"), project().join(SAMPLE));
    cmd!(sh, "{program} {folder} --date 1970-01-01 --sample {file}").quiet().run()?;
    say(&format!("written to {SAMPLE}"));
    Ok(())
}

/// Builds the program that writes them, and has it write them.
///
/// # Errors
///
/// If it cannot be built, or a file cannot be written.
pub(crate) fn make(sh: &Shell, profile: &str) -> Result<PathBuf> {
    let built = build_packages(sh, profile, &[PROGRAM.to_owned()])?;
    from(sh, &built)?.with_context(|| format!("cargo has built no {PROGRAM}"))
}

/// Has the program among the `built` ones write them, if it is there.
///
/// # Errors
///
/// If a file cannot be written.
pub(crate) fn from(sh: &Shell, built: &Path) -> Result<Option<PathBuf>> {
    let program = built.join(PROGRAM);
    if !program.exists() {
        return Ok(None);
    }
    let folder = target()?.join("manual");
    let stamp = stamp(sh)?.to_string();
    let date = cmd!(sh, "date --utc --date=@{stamp} +%F").quiet().read()?;
    cmd!(sh, "{program} {folder} --date {date}").quiet().run()?;
    Ok(Some(folder))
}

/// When this state of the project was made, in seconds since 1970, so that two builds of it are the same: `SOURCE_DATE_EPOCH`,
/// or its last commit, or now where neither is known.
///
/// # Errors
///
/// If `SOURCE_DATE_EPOCH` is no number.
pub(crate) fn stamp(sh: &Shell) -> Result<u64> {
    if let Ok(epoch) = sh.var("SOURCE_DATE_EPOCH") {
        let Ok(epoch) = epoch.parse() else { bail!("SOURCE_DATE_EPOCH is no number of seconds: {epoch}") };
        return Ok(epoch);
    }
    // Root is not asked for a repository that is somebody else's: git would refuse.
    let committed = cmd!(sh, "git log -1 --format=%ct").quiet().ignore_stderr().read();
    if let Some(committed) = committed.ok().and_then(|said| said.parse().ok()) {
        return Ok(committed);
    }
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_when() {
        let sh = Shell::new().unwrap();
        sh.set_var("SOURCE_DATE_EPOCH", "86400");
        assert_eq!(stamp(&sh).unwrap(), 86400);
        sh.set_var("SOURCE_DATE_EPOCH", "yesterday");
        assert!(stamp(&sh).unwrap_err().to_string().contains("yesterday"));
    }
}
