//! `mutants`: changes the lines that a green light hangs on, one at a time, and finds out which change no test notices.
//!
//! What survives has to be in the list `mutants.txt` with a reason, or the chore fails.

use crate::{project, say, target};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use xshell::{Shell, cmd};

/// The version of cargo-mutants that is installed where there is none; the list's names are its own.
const VERSION: &str = "26.0.0";

/// A file of the chain to green: its package, its path, the unit tests that are about it, and the host stories that are told of
/// what those let pass.
type Link = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// The chain to green.
const CHAIN: [Link; 12] = [
    ("phobos-core", "phobos-core/src/copy/survey.rs", "copy::", &["mirror::a_hostile_drive"]),
    ("phobos-core", "phobos-core/src/copy/plan.rs", "copy::", &["ext::a_mirror_is_whole"]),
    ("phobos-core", "phobos-core/src/copy/apply.rs", "copy::", &["ext::a_mirror_is_whole", "mirror::the_generation"]),
    ("phobos-core", "phobos-core/src/copy/pairs.rs", "copy::", &["mirror::where_nothing_has_changed"]),
    ("phobos-core", "phobos-core/src/copy/side.rs", "copy::", &["mirror::where_nothing_has_changed"]),
    (
        "phobos-ext",
        "phobos-ext/src/session.rs",
        "",
        &[
            "mirror::an_rsync_that_lies",
            "mirror::another_partition",
            "ext::one_run_at_a_time",
            "drives::other_file_systems",
        ],
    ),
    ("phobos-ext", "phobos-ext/src/gate.rs", "", &["mirror::damage_to_the_source", "ext::a_mirror_is_whole"]),
    ("phobos-site", "phobos-site/src/job.rs", "job::", &["jobs::a_failure", "jobs::the_holder_says"]),
    ("phobos-site", "phobos-site/src/job/killed.rs", "job::", &["jobs::a_killed_job"]),
    ("phobos-site", "phobos-site/src/history/running.rs", "history::running", &["jobs::a_killed_job"]),
    ("phobos-site", "phobos-site/src/led.rs", "led::", &["jobs::a_failure"]),
    ("phobos-site", "phobos-site/src/led/board.rs", "led::", &["jobs::a_failure"]),
];

/// What a type's `Debug` writes is for developers.
const NOT_TRIED: &str = "fmt::Debug";

/// Changes that no test notices, and why that may be so.
const KNOWN: &str = "xtask/mutants.txt";

/// The command line of `mutants`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Packages or files of the chain to green; without any, all of it, which takes hours
    what: Vec<String>,
    /// Tell what survives the unit tests some host stories as well, as root: half a minute for each
    #[arg(long)]
    stories: bool,
}

/// Tries the changes in the files that were asked for.
///
/// # Errors
///
/// If there is no such file in the chain, if the tests fail without a change, or if one that is not in the list survives.
pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let is_meant = |package: &str, file: &str| {
        args.what.is_empty() || args.what.iter().any(|what| what == package || Path::new(file).ends_with(what))
    };
    let chosen: Vec<_> = CHAIN.iter().filter(|(package, file, ..)| is_meant(package, file)).collect();
    let files: Vec<_> = CHAIN.iter().map(|(_, file, ..)| *file).collect();
    ensure!(!chosen.is_empty(), "nothing of that is in the chain to green, which is {}", files.join(", "));
    let known = known(&fs::read_to_string(project().join(KNOWN)).with_context(|| format!("cannot read {KNOWN}"))?)?;
    if cmd!(sh, "cargo mutants --version").quiet().ignore_stdout().ignore_stderr().run().is_err() {
        say(&format!("mutants: installing cargo-mutants {VERSION}"));
        cmd!(sh, "cargo install --locked cargo-mutants --version {VERSION}").run()?;
    }
    let mut survivors = Vec::new();
    for (package, file, unit, stories) in chosen {
        say(&format!("── {file}"));
        let unit: Vec<_> = ["--lib"].into_iter().chain((!unit.is_empty()).then_some(*unit)).collect();
        let mut found = unnoticed(sh, file, package, &unit, None)?;
        if args.stories && !found.is_empty() {
            let stories: Vec<&str> = [&["--test", "host", "--"], *stories].concat();
            found = unnoticed(sh, file, "phobos-tests", &stories, Some(&found))?;
        }
        survivors.extend(found.into_iter().map(|name| without_place(&name)));
    }
    let new: Vec<_> = survivors.iter().filter(|name| !known.contains_key(*name)).collect();
    for name in survivors.iter().filter(|name| known.contains_key(*name)) {
        say(&format!("known: {name}: {}", known.get(name).map_or("", String::as_str)));
    }
    for name in &new {
        say(&format!("survives: {name}"));
    }
    if !new.is_empty() {
        bail!("{} changes were noticed by no test; write one that does, or give the reason in {KNOWN}", new.len());
    }
    Ok(())
}

/// The changes in `file`, or of those `only` these, that no test of `package` notices.
fn unnoticed(sh: &Shell, file: &str, package: &str, tests: &[&str], only: Option<&[String]>) -> Result<Vec<String>> {
    let folder = target()?.join("mutants");
    fs::create_dir_all(&folder)?;
    let names: Vec<String> = only.unwrap_or_default().iter().map(|name| format!("--re=^{}$", escaped(name))).collect();
    // A copy of the project is changed; what is built of it stays, so that the next run need not do it again.
    let call = cmd!(
        sh,
        "cargo mutants --jobs 1 --no-shuffle --colors never --file {file} --exclude-re {NOT_TRIED} --test-package {package} --output {folder} {names...} -- --locked {tests...}"
    );
    let status = call.env("CARGO_TARGET_DIR", folder.join("build")).ignore_status().quiet();
    status.run()?;
    let out = folder.join("mutants.out");
    let outcomes = fs::read_to_string(out.join("outcomes.json")).context("cargo-mutants has left no outcomes")?;
    let outcomes: serde_json::Value = serde_json::from_str(&outcomes).context("cannot understand cargo-mutants")?;
    let is_sound = outcomes["outcomes"][0]["summary"] == "Success";
    ensure!(is_sound, "the tests fail without a change; see {}", out.join("log/baseline.log").display());
    Ok(fs::read_to_string(out.join("missed.txt"))?.lines().map(str::to_owned).collect())
}

/// A change without its line and column, which move: `FILE: replace < with <= in judge`.
fn without_place(name: &str) -> String {
    let mut parts = name.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(change)) => format!("{file}:{change}"),
        _ => name.to_owned(),
    }
}

/// The list: each line a change, ` — ` and the reason.
fn known(text: &str) -> Result<BTreeMap<String, String>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, reason) = line.split_once(" — ").with_context(|| format!("{KNOWN}: no reason in: {line}"))?;
            ensure!(!reason.trim().is_empty(), "{KNOWN}: no reason in: {line}");
            Ok((name.to_owned(), reason.to_owned()))
        })
        .collect()
}

/// `text` as a regular expression that means it.
fn escaped(text: &str) -> String {
    let special = |c: char| !(c.is_alphanumeric() || matches!(c, ' ' | '_' | '/' | ':' | '<' | '>' | '=' | '"'));
    text.chars()
        .fold(String::new(), |text, c| if special(c) { text + "\\" + &c.to_string() } else { text + &c.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_there_and_each_reason_is_of_one_of_its_files() {
        for (package, file, ..) in CHAIN {
            assert!(file.starts_with(package) && project().join(file).exists(), "{file}");
        }
        let known = known(&fs::read_to_string(project().join(KNOWN)).unwrap()).unwrap();
        for name in known.keys() {
            assert!(CHAIN.iter().any(|(_, file, ..)| name.starts_with(&format!("{file}: "))), "{name}");
        }
        for (.., stories) in CHAIN {
            for story in stories {
                let (module, name) = story.split_once("::").unwrap();
                let all = crate::list(&project().join("tests/host/stories").join(module)).unwrap();
                let mut names = all.iter().map(|path| path.file_name().unwrap().to_string_lossy());
                assert!(names.any(|story| story.starts_with(name)), "{story}");
            }
        }
    }

    #[test]
    fn a_change_is_known_wherever_its_line_is() {
        let name = "phobos-ext/src/gate.rs:157:34: replace < with <= in judge";
        assert_eq!(without_place(name), "phobos-ext/src/gate.rs: replace < with <= in judge");
        let known = known("# why\n\nphobos-ext/src/gate.rs: replace < with <= in judge — it is the same\n").unwrap();
        assert_eq!(known[&without_place(name)], "it is the same");
        assert!(super::known("a: b\n").is_err());
        assert_eq!(escaped("a (b) -> c.d"), r"a \(b\) \-> c\.d");
    }
}
