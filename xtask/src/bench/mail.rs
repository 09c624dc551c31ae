//! The mail beside the original's pipeline, on the rig's Debian machine: its systemd, its journal, its exim and mailx.

use super::{Cost, compare_wall, heading};
use crate::test::runner;
use crate::{say, setup};
use anyhow::{Result, ensure};
use std::time::Duration;
use xshell::{Shell, cmd};

/// How often each mail is sent.
const RUNS: usize = 10;

/// What the machine is told in one line: let a unit fail, then mail about it by the original's script and by phobos in
/// turns, each once the mail before has been delivered. Each round gives a line: microseconds of the one, of the other.
///
/// Both run as root, because under the owner's unit the original's mail is lost.
const ROUNDS: &str = r##"bash -c '
set -eu;
printf "[Service]\nType=oneshot\nExecStart=/bin/sh -c \"seq 200; exit 3\"\n" > /run/systemd/system/bench.service;
systemctl daemon-reload;
systemctl start bench.service 2>/dev/null || true;
printf "#!/bin/sh\nsystemctl status --full \"\$1\" | mail -s \"unit \$1 failed\" root\n" > /run/systemd-email;
chmod 755 /run/systemd-email;
timed() {
    start=$EPOCHREALTIME;
    "$@" >&2;
    end=$EPOCHREALTIME;
    until [ "$(grep -c "^From " /var/mail/owner)" = $count ]; do sleep 0.1; done 2>/dev/null;
    took=$((${end/./} - ${start/./}));
};
for round in $(seq RUNS); do
    export STATE_DIRECTORY=$(mktemp -d);
    count=$((2 * round - 1));
    timed /run/systemd-email bench.service;
    script=$took;
    count=$((2 * round));
    timed phobos-mail bench.service;
    echo $script $took;
done
'"##;

/// Sends mail from the machine and prints a line of the table.
///
/// Of phobos everything counts from exec to exit, which comes a little after the server's "250 OK".
///
/// # Errors
///
/// If there is no machine, or a mail does not arrive.
pub(super) fn measure(sh: &Shell) -> Result<()> {
    setup::run(sh)?;
    say("the mail, on the rig's machine");
    let rounds = ROUNDS.replace("RUNS", &RUNS.to_string()).replace('\n', " ");
    let runner = runner();
    let said = cmd!(sh, "cargo run --quiet --locked --config {runner} --package phobos-tests --bin rig")
        .stdin(format!("{rounds}\nquit\n"))
        .read()?;
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

    #[test]
    fn the_rounds_are_one_line_of_shell() {
        let line = ROUNDS.replace('\n', " ");
        assert!(line.starts_with("bash -c '") && line.ends_with('\''));
        assert_eq!(line.matches('\'').count(), 2, "nothing in it ends the quotes");
    }
}
