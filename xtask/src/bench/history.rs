//! How long it takes to read ten years of a busy machine's history.

use super::{mark, median, shown, timed};
use crate::{project, say};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::time::Duration;
use xshell::{Shell, cmd};

/// An example of phobos-core that reads a history and prints the last run of each job.
const READER: &str = "last_runs";

const LINES: usize = 200_000;

const LIMIT: Duration = Duration::from_millis(150);

const RUNS: usize = 21;

/// What phobos-status shows of it, and how long that may take.
const SCREENS: [(&str, &[&str], Duration); 2] =
    [("phobos-status", &[], Duration::from_millis(150)), ("phobos-status page", &["page"], Duration::from_millis(300))];

/// How much memory it may take for that, in KiB.
const MOST_KIB: u64 = 30 * 1024;

/// Measures and prints a line.
///
/// # Errors
///
/// If something cannot be set up or fails; a missed target is no failure.
pub(super) fn measure(sh: &Shell) -> Result<()> {
    cmd!(sh, "cargo build --quiet --locked --release --package phobos-site --example {READER}").run()?;
    let folder = project().join("target/bench");
    let (text, file) = (history()?, folder.join("history.jsonl"));
    sh.create_dir(&folder)?;
    sh.write_file(&file, &text)?;
    // Where this program lies tells the target directory, however cargo was told to use another one.
    let here = std::env::current_exe()?;
    let target = here.ancestors().nth(2).context("xtask was not started by cargo")?;
    let reader = target.join("release/examples").join(READER);
    let runs = (0..RUNS).map(|_| timed(cmd!(sh, "{reader} {file}"))).collect::<Result<Vec<_>>>()?;
    let read = median(&runs, |cost| cost.wall);
    let name = format!("read a history of {LINES} lines");
    say(&format!("{name:34}{:>12}{:>12}{:>9}  < {} {}", "", shown(read), "", shown(LIMIT), mark(read < LIMIT)));
    cmd!(sh, "cargo build --quiet --locked --release --package phobos-status").run()?;
    let status = target.join("release/phobos-status");
    for (name, word, limit) in SCREENS {
        // It looks for the history in the folder that systemd would name.
        let call = || cmd!(sh, "{status} {word...}").env("STATE_DIRECTORY", &folder).ignore_stdout();
        let runs = (0..RUNS).map(|_| timed(call())).collect::<Result<Vec<_>>>()?;
        let (wall, cpu) = (median(&runs, |cost| cost.wall), median(&runs, |cost| cost.cpu));
        let peak = runs.iter().map(|cost| cost.peak_kib).max().unwrap_or_default();
        let is_met = wall < limit && peak < MOST_KIB;
        let memory = format!("{} MB", peak / 1024);
        say(&format!("{name:34}{memory:>12}{:>12}{:>9}  < {} {}", shown(wall), shown(cpu), shown(limit), mark(is_met)));
    }
    say(&format!("\nmedian of {RUNS} runs of the whole program; {} MB\n", text.len() / 1_000_000));
    Ok(())
}

/// A history as the programs write it, long.
fn history() -> Result<String> {
    let jobs = [("borgmatic", ""), ("pull", "luv"), ("pull", "nuhc"), ("ext", "A"), ("borg-check", "")];
    let mut text = String::new();
    for (number, (job, object)) in jobs.into_iter().cycle().take(LINES).enumerate() {
        let object = if object.is_empty() { String::new() } else { format!(r#""object":"{object}","#) };
        let end = if number % 50 == 0 {
            r#""exit":1,"error":"`rsync -a --delete …` failed with exit code 23: 3 files could not be copied","origin":"rsync""#
        } else {
            r#""exit":0,"waited_secs":12,"bytes":48123456"#
        };
        let day = format!("20{:02}-{:02}-{:02}", 16 + number / 20_000, number % 12 + 1, number % 28 + 1);
        let (start, stop) = (format!("{day}T03:00:00.123456789Z"), format!("{day}T03:12:34.987654321Z"));
        writeln!(text, r#"{{"schema_version":1,"job":"{job}",{object}"start":"{start}","end":"{stop}",{end}}}"#)?;
    }
    Ok(text)
}
