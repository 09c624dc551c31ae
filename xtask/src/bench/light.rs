//! phobos-blink beside the Python original, with no stick on this machine and with an emulated one in the rig's.

use super::{Cost, compared, mark, median, shown, timed};
use crate::{build, project, say, setup, test};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use xshell::{Shell, cmd};

/// The Python original and the library that it needs on Linux, which its wheel does not name.
const ORIGINAL: [&str; 2] = ["BlinkStick==1.2.0", "pyusb==1.3.1"];

/// How often each program is run on this machine.
const RUNS: usize = 30;

/// At least 30 times faster, at most a fifth of the memory.
const TIME_TARGET: f64 = 1.0 / 30.0;
const MEMORY_TARGET: f64 = 0.2;

/// The largest that the program may be, in bytes.
const SIZE_TARGET: u64 = 700_000;

/// The largest share of a processor that a breathing light may take.
const BREATHING_TARGET: f64 = 0.01;

/// Counts to a million and prints how many seconds of the processor that took, as the rig's script does.
const COUNT: &str = "import time
began = time.process_time()
for _ in range(1_000_000): pass
print(time.process_time() - began)";

/// Measures both programs and prints a table.
///
/// # Errors
///
/// If something cannot be set up or fails; a missed target is no failure.
pub(super) fn measure(sh: &Shell) -> Result<()> {
    setup::run(sh)?;
    let phobos = build(sh, "release")?.join("phobos-blink");
    let original = original(sh)?;
    say("the light, without a stick");
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let script = original.join("bin/blinkstick");
        theirs.push(timed(cmd!(sh, "/usr/bin/python3 {script} --set-color red").env("PYTHONPATH", &original))?);
        ours.push(timed(cmd!(sh, "{phobos} --set-color red"))?);
    }
    say("the light, on an emulated stick in the rig");
    let rig = in_the_rig(sh)?;

    say("");
    say(&format!("{:34}{:>12}{:>12}{:>9}  target", "", "original", "phobos", "ratio"));
    compare("set a colour, no stick", &theirs, &ours);
    compare("set a colour, emulated stick", &rig.original, &rig.phobos);
    let here: f64 = cmd!(sh, "/usr/bin/python3 -c {COUNT}").quiet().read()?.parse()?;
    let slowdown = rig.count / here;
    let share = rig.breathing / slowdown;
    say(&format!(
        "{:34}{:>12}{:>10.2} %{:>9}  < {:.0} % {}",
        "breathing, share of a processor",
        "",
        share * 100.0,
        "",
        BREATHING_TARGET * 100.0,
        mark(share < BREATHING_TARGET)
    ));
    let size = fs::metadata(&phobos)?.len();
    say(&format!(
        "{:34}{:>12}{:>9} kB{:>9}  < {} kB {}",
        "size of phobos-blink",
        "",
        size / 1000,
        "",
        SIZE_TARGET / 1000,
        mark(size < SIZE_TARGET)
    ));
    say(&format!("\nmedians of {RUNS} runs in turns, {} in the rig", rig.phobos.len()));
    let nothing = shown(Duration::from_secs_f64(rig.nothing));
    say(&format!("in the rig, a program that does nothing takes {nothing}, and the kernel 50 ms to open a HID device"));
    let emulated = rig.breathing * 100.0;
    say(&format!(
        "breathing takes {emulated:.2} % in the rig, whose processor is {slowdown:.0} times slower than this one\n"
    ));
    Ok(())
}

/// Two lines of the table: wall time and peak memory.
fn compare(name: &str, original: &[Cost], phobos: &[Cost]) {
    let wall = |cost: &Cost| cost.wall;
    let (line, ratio) = compared(name, median(original, wall), median(phobos, wall));
    say(&format!("{line}  ≤ {TIME_TARGET:.3} {}", mark(ratio <= TIME_TARGET)));
    let peak = |costs: &[Cost]| costs.iter().map(|cost| cost.peak_kib).max().unwrap_or_default();
    let (original, phobos) = (peak(original), peak(phobos));
    #[expect(clippy::cast_precision_loss, reason = "some megabytes in KiB")]
    let ratio = phobos as f64 / original as f64;
    say(&format!(
        "{:34}{original:>9} kB{phobos:>9} kB{ratio:>9.3}  ≤ {MEMORY_TARGET} {}",
        "  peak memory",
        mark(ratio <= MEMORY_TARGET)
    ));
}

/// The folder with the original, fetched once.
fn original(sh: &Shell) -> Result<PathBuf> {
    let folder = project().join("target/bench/blinkstick");
    let mark = folder.join("complete");
    if !mark.exists() {
        sh.remove_path(&folder)?;
        let options = ["--quiet", "--no-deps", "--root-user-action=ignore", "--disable-pip-version-check"];
        cmd!(sh, "pip3 install {options...} --target {folder} {ORIGINAL...}").run()?;
        sh.write_file(&mark, "")?;
    }
    Ok(folder)
}

/// What was measured in the rig's machine.
#[derive(Debug)]
struct InTheRig {
    original: Vec<Cost>,
    phobos: Vec<Cost>,
    /// The share of a processor that a breathing light takes.
    breathing: f64,
    /// The seconds in which the processor counts to a million.
    count: f64,
    /// The seconds that a program takes that does nothing.
    nothing: f64,
}

fn in_the_rig(sh: &Shell) -> Result<InTheRig> {
    let script = project().join("xtask/src/bench/light.py");
    let script = cmd!(sh, "base64 --wrap=0 {script}").quiet().read()?;
    let lines = format!("echo {script} | base64 --decode >/root/light.py; python3 /root/light.py\nquit\n");
    let runner = test::runner();
    let said = cmd!(sh, "cargo run --quiet --config {runner} --package phobos-tests --bin rig").stdin(lines).read()?;
    let numbers = |name: &str| numbers(&said, name).with_context(|| format!("the rig said nothing of {name}: {said}"));
    let costs = |name: &str| -> Result<Vec<Cost>> {
        let numbers = numbers(name)?;
        let (peak, times) = numbers.split_first().context("no numbers")?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some megabytes in KiB")]
        let cost =
            |time: &f64| Cost { wall: Duration::from_secs_f64(*time), peak_kib: *peak as u64, ..Cost::default() };
        ensure!(!times.is_empty(), "no runs of {name}: {said}");
        Ok(times.iter().map(cost).collect())
    };
    let one = |name: &str| numbers(name)?.first().copied().context("no number");
    let (breathing, count, nothing) = (one("breathing")?, one("count")?, one("nothing")?);
    Ok(InTheRig { original: costs("original")?, phobos: costs("phobos")?, breathing, count, nothing })
}

/// The numbers on the line that begins with `name`.
fn numbers(said: &str, name: &str) -> Option<Vec<f64>> {
    let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.split(' ').map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_rig_says_is_read() {
        let said = "ssh -p 1\noriginal 21504 1.5 2\nbreathing 0.004\n";
        assert_eq!(super::numbers(said, "original"), Some(vec![21504.0, 1.5, 2.0]));
        assert_eq!(super::numbers(said, "breathing"), Some(vec![0.004]));
        assert_eq!(super::numbers(said, "phobos"), None);
    }
}
