//! The mail beside the original's pipeline, on the rig's Debian machine: its systemd, its journal, its exim and mailx.

use super::{Cost, compare_wall, heading};
use crate::test::runner;
use crate::{project, say, setup};
use anyhow::{Result, ensure};
use std::time::Duration;
use xshell::{Shell, cmd};

/// How often each mail is sent.
const RUNS: usize = 10;

/// Sends mail from the machine and prints a line of the table.
///
/// Of the script all of it counts, of phobos all until the server's "250 OK"; `mail.py` tells more.
///
/// # Errors
///
/// If there is no machine, or a mail does not arrive.
pub(super) fn measure(sh: &Shell) -> Result<()> {
    setup::run(sh)?;
    say("the mail, on the rig's machine");
    let script = project().join("xtask/src/bench/mail.py");
    let script = cmd!(sh, "base64 --wrap=0 {script}").quiet().read()?;
    let lines = format!("echo {script} | base64 --decode >/root/mail.py; python3 /root/mail.py {RUNS}\nquit\n");
    let runner = runner();
    let said = cmd!(sh, "cargo run --quiet --config {runner} --package phobos-tests --bin rig").stdin(lines).read()?;
    let (script, phobos): (Vec<_>, Vec<_>) = said.lines().filter_map(round).unzip();
    ensure!(script.len() == RUNS, "the rig's machine said: {said}");
    heading();
    compare_wall("mail about a failed unit", &script, &phobos, 0.5);
    say(&format!("medians of {RUNS} mails in turns; the machine may be an emulated one"));
    Ok(())
}

/// The two times of a line that has nothing else.
fn round(line: &str) -> Option<(Cost, Cost)> {
    let cost = |text: &str| {
        let wall = Duration::from_micros(text.parse().ok()?);
        Some(Cost { wall, cpu: Duration::ZERO, peak_kib: 0 })
    };
    let (script, phobos) = line.split_once(' ')?;
    Some((cost(script)?, cost(phobos)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_a_line_of_two_times() {
        let (script, phobos) = round("520000 180000").unwrap();
        assert_eq!((script.wall.as_millis(), phobos.wall.as_millis()), (520, 180));
        assert!(round("ssh -q -F none").is_none() && round("1 2 3").is_none());
    }
}
