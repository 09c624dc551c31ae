//! The mail beside the original's pipeline: the rig's Debian with its systemd, its journal, its exim and mailx, on this
//! machine's own processor.
//!
//! Not in the rig's machine: where that is emulated, the start of a program costs many times what it costs beside the rest.

use super::{Cost, compare_wall, heading, median, shown};
use crate::test::runner;
use crate::{build, private_cmd, project, say, setup};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use xshell::{Shell, cmd};

/// How often each mail is sent.
const RUNS: usize = 20;

/// Sends mail from the machine and prints its part of the table; both mails count until the server's "250 OK".
///
/// # Errors
///
/// If the Debian cannot be started, or a mail does not arrive.
pub(super) fn measure(sh: &Shell) -> Result<()> {
    setup::run(sh)?;
    let programs = build(sh, "release")?;
    say("the mail, in the rig's Debian on this processor");
    let runner = runner();
    let ready = cmd!(sh, "cargo run --quiet --config {runner} --package phobos-tests --bin rig -- --ready").read()?;
    let image = ready.lines().last().context("the rig did not say where its Debian lies")?;
    let scripts = project().join("xtask/src/bench");
    let [boot, measure] = ["mail.sh", "mail.py"].map(|name| scripts.join(name).display().to_string());
    let (programs, folder) =
        (programs.display().to_string(), project().join("target/bench/mail").display().to_string());
    let runs = RUNS.to_string();
    let said = private_cmd(sh, &["bash", &boot, image, &programs, &measure, &runs, &folder]).quiet().read()?;
    let rounds: Vec<_> = said.lines().filter_map(round).collect();
    ensure!(rounds.len() == RUNS, "the rig's Debian said: {said}");
    let column = |index: usize| rounds.iter().map(|round| cost(round[index])).collect::<Vec<_>>();
    let [returned, script, phobos] = [0, 1, 2].map(column);
    heading("script");
    compare_wall("mail about a failed unit", &script, &phobos, 0.5);
    let returned = shown(median(&returned, |cost| cost.wall));
    say(&format!("{:34}{returned:>12}", "    until the script itself has ended"));
    say(&format!("medians of {RUNS} mails in turns, until an SMTP server has said 250 OK"));
    Ok(())
}

/// The three times of a line that has nothing else.
fn round(line: &str) -> Option<[Duration; 3]> {
    let times: Result<Vec<_>, _> = line.split(' ').map(|time| time.parse().map(Duration::from_micros)).collect();
    times.ok()?.try_into().ok()
}

fn cost(wall: Duration) -> Cost {
    Cost { wall, ..Cost::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_a_line_of_three_times() {
        assert_eq!(round("26000 520000 180000").unwrap().map(|time| time.as_millis()), [26, 520, 180]);
        assert!(round("ssh -q -F none").is_none() && round("1 2").is_none());
    }
}
