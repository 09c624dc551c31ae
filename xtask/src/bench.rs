//! `bench`: phobos beside the original, in one run: the light with no stick and on an emulated one in the rig's machine; the
//! mail, in the rig's Debian; the history; then mirrors and pulls on one NAS in miniature, with loop-mounted ext4 and no LUKS.

pub(crate) mod delay;
mod history;
mod light;
mod mail;
mod mirror;
mod namespace;
mod pull;
mod verify;

use crate::nas::{self, DISKS};
use crate::{list, project, say};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use xshell::{Cmd, Shell, cmd};

/// The command line of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    nas: nas::Inside,
    /// How many times each mirror runs; the table shows medians
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Have the disks in memory, of which that takes 13 GB: what the programs take where no disk holds them up
    #[arg(long)]
    memory: bool,
    /// Measure this alone
    #[arg(value_name = "PART")]
    part: Option<Part>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Setting a light
    Light,
    /// A mail, from a unit's failure to its server
    Mail,
    /// Reading the history
    History,
    /// The mirror to an off-site drive, the namespace, sizes
    Mirror,
    /// Reading a drive again
    Verify,
    /// Pulls of hosts
    Pull,
}

/// Runs everything and prints the table.
///
/// # Errors
///
/// If something cannot be set up or fails; a missed target is no failure.
pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let is_wanted = |part| args.part.is_none_or(|wanted| wanted == part);
    if !args.nas.is_inside() {
        if is_wanted(Part::Light) {
            light::measure(sh)?;
        }
        if is_wanted(Part::Mail) {
            mail::measure(sh)?;
        }
        if is_wanted(Part::History) {
            history::measure(sh)?;
        }
    }
    let (mirror, verify, pull) = (is_wanted(Part::Mirror), is_wanted(Part::Verify), is_wanted(Part::Pull));
    if !(mirror || verify || pull) {
        return Ok(());
    }
    let runs = args.runs.to_string();
    let disks = project().join("target/bench");
    let mut call = vec!["bench", "--runs", &runs];
    call.extend(args.memory.then_some("--memory"));
    call.extend(args.part.map(Part::word));
    nas::run(sh, &args.nas, &call, "release", Some(&disks), |sh| {
        if args.memory {
            cmd!(sh, "mount -t tmpfs -o size=13g bench {DISKS}").quiet().run()?;
        }
        if mirror {
            mirror::measure(sh, args.runs)?;
            namespace::measure(sh)?;
        }
        if verify {
            verify::measure(sh, args.runs)?;
        }
        if pull {
            pull::measure(sh, args.runs)?;
        }
        let load = fs::read_to_string("/proc/loadavg")?;
        let load = load.split_whitespace().next().unwrap_or_default();
        say(&format!("load average {load}: above 2, other work has been measured too"));
        Ok(())
    })
}

impl Part {
    fn word(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Mail => "mail",
            Self::History => "history",
            Self::Mirror => "mirror",
            Self::Verify => "verify",
            Self::Pull => "pull",
        }
    }
}

/// What one run took.
#[derive(Debug, Default)]
struct Cost {
    wall: Duration,
    /// Processor time, children included.
    cpu: Duration,
    /// The most memory that the program itself had, children not counted.
    peak_kib: u64,
    /// The same of `borg serve`, if it was started.
    holder_kib: u64,
    /// What it said on standard error.
    said: String,
    /// What it printed.
    printed: String,
}

/// Two lines of the table: wall time, which has a target, and processor time, which other work on the machine blurs less.
fn compare(name: &str, script: &[Cost], phobos: &[Cost], target: f64) {
    compare_wall(name, script, phobos, target);
    let cpu = |cost: &Cost| cost.cpu;
    say(&compared("    processor time", median(script, cpu), median(phobos, cpu)).0);
}

/// The same where the two do not do the same, so that there is no target.
fn compare_told(name: &str, script: &[Cost], phobos: &[Cost]) {
    for (name, part) in [(name, (|cost| cost.wall) as fn(&Cost) -> Duration), ("    processor time", |cost| cost.cpu)] {
        say(&compared(name, median(script, part), median(phobos, part)).0);
    }
}

/// The table's first line, with what phobos is compared with.
fn heading(other: &str) {
    say(&format!("\n{:34}{other:>12}{:>12}{:>9}  target", "", "phobos", "ratio"));
}

fn compare_wall(name: &str, script: &[Cost], phobos: &[Cost], target: f64) {
    let wall = |cost: &Cost| cost.wall;
    let (line, ratio) = compared(name, median(script, wall), median(phobos, wall));
    say(&format!("{line}  ≤ {target} {}", mark(ratio <= target)));
}

fn compared(name: &str, script: Duration, phobos: Duration) -> (String, f64) {
    let ratio = phobos.as_secs_f64() / script.as_secs_f64();
    let (script, phobos) = (shown(script), shown(phobos));
    (format!("{name:34}{script:>12}{phobos:>12}{ratio:>9.3}"), ratio)
}

fn mark(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

fn shown(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1000.0)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

/// The middle one, or the upper of the two; zero of none.
fn median(costs: &[Cost], part: impl Fn(&Cost) -> Duration) -> Duration {
    let mut times: Vec<_> = costs.iter().map(part).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Runs a program to its end and returns what it took.
fn timed(call: Cmd) -> Result<Cost> {
    let line = call.to_string();
    let mut command = Command::from(call);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (start, cpu) = (Instant::now(), cpu_of_children()?);
    let child = command.spawn().with_context(|| format!("cannot run {line}"))?;
    let (pid, done) = (child.id(), AtomicBool::new(false));
    let (wall, output, (peak_kib, holder_kib)) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut peak, mut holder) = (0, 0);
            while !done.load(Ordering::Acquire) {
                peak = peak_kib(pid).unwrap_or(0).max(peak);
                // What lives for a few milliseconds only has none.
                if start.elapsed() > Duration::from_millis(50) {
                    holder = holder_kib().unwrap_or(0).max(holder);
                }
                // Often at first, for a program that lives for a few milliseconds.
                let pause = (start.elapsed() / 50).clamp(Duration::from_micros(20), Duration::from_millis(10));
                thread::sleep(pause);
            }
            (peak, holder)
        });
        let output = child.wait_with_output();
        let wall = start.elapsed();
        done.store(true, Ordering::Release);
        (wall, output, watch.join().unwrap_or_default())
    });
    let output = output?;
    ensure!(
        output.status.success(),
        "{line} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(Cost { wall, cpu: cpu_of_children()?.saturating_sub(cpu), peak_kib, holder_kib, said, printed })
}

/// The processor time of all descendants that have ended.
fn cpu_of_children() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    parse_cpu(&stat).context("cannot make sense of /proc/self/stat")
}

/// Fields 16 and 17 of `proc_pid_stat(5)`, in ticks of 10 ms; the second may hold blanks, in parentheses.
fn parse_cpu(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// The most memory that a process ever had, children not counted.
fn peak_kib(pid: u32) -> Option<u64> {
    parse_peak(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// The most memory that a `borg serve` in this PID namespace ever had; there is one at a time.
fn holder_kib() -> Option<u64> {
    list(Path::new("/proc")).ok()?.into_iter().find_map(|process| {
        let line = fs::read(process.join("cmdline")).ok()?;
        let is_holder = line.split(|byte| *byte == 0).any(|word| word == b"serve");
        parse_peak(&fs::read_to_string(process.join("status")).ok().filter(|_| is_holder)?)
    })
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_one() {
        let cost = |secs| Cost { wall: Duration::from_secs(secs), ..Cost::default() };
        assert_eq!(median(&[cost(9), cost(1), cost(5)], |cost| cost.wall), Duration::from_secs(5));
        assert_eq!(median(&[], |cost| cost.wall), Duration::ZERO);
    }

    #[test]
    fn processor_time_of_children_is_read_from_stat() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 100 200 30 12 20 0 1 0 500 1000 100";
        assert_eq!(parse_cpu(stat), Some(Duration::from_millis(420)));
        assert_eq!(parse_cpu("7 (a"), None);
    }

    #[test]
    fn times_are_shown_in_a_readable_unit() {
        assert_eq!(shown(Duration::from_micros(6789)), "6.8 ms");
        assert_eq!(shown(Duration::from_millis(12_345)), "12.35 s");
    }

    #[test]
    fn peak_memory_is_read_from_status() {
        assert_eq!(parse_peak("Name:\tx\nVmPeak:\t  9000 kB\nVmHWM:\t    5120 kB\n"), Some(5120));
        assert_eq!(parse_peak("Name:\tkthreadd\n"), None);
    }
}
