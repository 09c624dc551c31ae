//! `fuzz`: feeds parsers with damaged input for as long as one likes; each is a test called `fuzz_NAME` in its own crate.

use crate::{project, say};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};
use xshell::{Shell, cmd};

/// The command line of `fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to feed; without a name, all that there is, one after the other
    name: Option<String>,
    /// For how many seconds each
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What to draw lots with; another number each time if it is not given
    #[arg(long)]
    seed: Option<u64>,
}

/// A target, and the package that it is in.
type Target = (String, String);

/// Feeds the targets that were asked for.
///
/// # Errors
///
/// If there is none of that name, or when a parser does not bear its input: that is printed, and kept in a file.
pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let all = targets()?;
    let chosen: Vec<&Target> =
        all.iter().filter(|(name, _)| args.name.as_ref().is_none_or(|wanted| wanted == name)).collect();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(!chosen.is_empty(), "there is no such target; there are {}", names.join(", "));
    let by_clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let (seconds, seed) = (args.seconds.to_string(), args.seed.unwrap_or(by_clock).to_string());
    for (name, package) in chosen {
        say(&format!("── {name}, in {package}, with the seed {seed}"));
        let test = format!("fuzz_{name}");
        let call = cmd!(sh, "cargo test --quiet --locked --package {package} --lib {test} -- --nocapture");
        call.env("PHOBOS_FUZZ_SECONDS", &seconds).env("PHOBOS_FUZZ_SEED", &seed).quiet().run()?;
    }
    Ok(())
}

/// All targets, found in the crates' sources.
fn targets() -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for package in crate::crates()? {
        let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut folders = vec![package.join("src")];
        while let Some(folder) = folders.pop() {
            for path in crate::list(&folder)? {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") {
                    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                    let found =
                        text.lines().filter_map(|line| line.trim().strip_prefix("fn fuzz_")?.strip_suffix("() {"));
                    targets.extend(found.map(|target| (target.to_owned(), name.clone())));
                }
            }
        }
    }
    targets.sort();
    ensure!(!targets.is_empty(), "there are no targets below {}", project().display());
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parser_is_a_target_of_its_own_name() {
        let targets = targets().unwrap();
        let mut names: Vec<&str> = targets.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.len() >= 28, "{names:?}");
        names.dedup();
        assert_eq!(names.len(), targets.len(), "a name is there twice");
        assert!(targets.contains(&("mountinfo".to_owned(), "phobos-core".to_owned())));
    }
}
