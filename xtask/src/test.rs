//! `test`: every check and test of the project, one after the other, with a summary.

use crate::{as_root, project, root_cmd, say, setup, target};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use xshell::{Cmd, Shell, cmd};

/// How long the whole may take.
const LIMIT: Duration = Duration::from_secs(25 * 60);

/// How many of the slowest tests the summary names.
const SLOWEST: usize = 10;

/// How many cases a property is tried on in a long run.
const LONG_CASES: &str = "50000";

/// How often a long run makes command lines by lot for `blinkstick` and `phobos-blink`; each has a seed of its own and tells it.
const LONG_LOTS: u32 = 20;

/// How many stories are told at once on this machine: they wait for disks and for each other's programs half of the time.
const AT_ONCE: &str = "4";

/// The package of the tests on real namespaces, in containers and on a machine in QEMU.
const RIG: &str = "phobos-tests";

/// The command line of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what runs on this machine: format, lints, unit and command line tests, stories on real namespaces
    #[arg(long, conflicts_with = "rig")]
    host: bool,
    /// Only the scenarios on the rig's Debian: in containers, and on the machine in QEMU
    #[arg(long)]
    rig: bool,
    /// Also what is worth hours: every property on many more cases, and command lines by lot with many seeds, which are
    /// printed
    #[arg(long)]
    long: bool,
    /// Only tests whose names contain one of these; format and lints are left out then
    filter: Vec<String>,
    /// Options for the test programs, as `-- --nocapture`
    #[arg(last = true)]
    options: Vec<String>,
}

/// Runs the parts that were asked for, all of them even where one fails.
///
/// # Errors
///
/// If one of them failed.
pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let mut parts = Parts::default();
    parts.run("setup", || setup::run(sh));
    // It takes minutes of one core, and most of what is tested before it leaves one idle.
    let ready = (!args.rig && !args.host && args.filter.is_empty()).then(|| thread::spawn(make_ready));
    if !args.rig {
        if args.filter.is_empty() {
            check(sh, &mut parts);
        }
        host(sh, args, &mut parts);
    }
    if let Some(ready) = ready {
        parts.run("rest of its machine", || ready.join().map_err(|_| anyhow!("it panicked"))?);
    }
    if !args.host {
        rig(sh, args, &mut parts);
    }
    parts.summary()
}

/// Makes the rig's machine ready, silently unless that fails.
fn make_ready() -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project());
    cmd!(sh, "cargo build --quiet --locked --package {RIG} --bin rig").quiet().run()?;
    let rig = target()?.join("debug/rig");
    let output = root_cmd(&sh, &rig.to_string_lossy(), &["--ready"]).quiet().ignore_status().output()?;
    if !output.status.success() {
        bail!("{}", [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat());
    }
    Ok(())
}

/// Format and lints, where the toolchain has the components for them.
fn check(sh: &Shell, parts: &mut Parts) {
    if has(sh, "fmt") {
        parts.run("format", || Ok(cmd!(sh, "cargo fmt --all --check").run()?));
    } else {
        parts.skip("format", "the toolchain has no rustfmt");
    }
    if has(sh, "clippy") {
        let lints = || Ok(cmd!(sh, "cargo clippy --locked --workspace --all-targets -- -D warnings").run()?);
        parts.run("lints", lints);
    } else {
        parts.skip("lints", "the toolchain has no clippy");
    }
    parts.run("stories as shell scripts", || shell(sh));
}

/// The stories on a NAS in miniature, and what they have at hand.
fn shell(sh: &Shell) -> Result<()> {
    let scripts =
        cmd!(sh, "git ls-files --cached --others --exclude-standard tests/host/story tests/host/*.sh").read()?;
    Ok(cmd!(sh, "shellcheck").args(scripts.lines()).run()?)
}

fn has(sh: &Shell, component: &str) -> bool {
    let version = cmd!(sh, "cargo {component} --version").quiet().ignore_stdout().ignore_stderr();
    version.run().is_ok()
}

fn host(sh: &Shell, args: &Args, parts: &mut Parts) {
    let (runner, tail) = (&runner_with_times(), &args.tail());
    let cases = if args.long { LONG_CASES } else { "256" };
    parts.tests("unit and command line", || {
        let tests = cmd!(
            sh,
            "cargo test --locked --no-fail-fast --config {runner} --workspace --exclude {RIG} --lib --bins --tests"
        );
        tests.args(["--", "-Zunstable-options", "--report-time"]).args(tail).env("PROPTEST_CASES", cases)
    });
    parts.run("examples", || {
        Ok(cmd!(sh, "cargo test --locked --no-fail-fast --workspace --exclude {RIG} --doc -- {tail...}").run()?)
    });
    parts.tests("the rig's own", || stories(sh, &["--lib", "--bins"], tail));
    parts.tests("host, as root", || stories(sh, &["--test", "host"], tail));
}

fn rig(sh: &Shell, args: &Args, parts: &mut Parts) {
    let tail = &args.tail();
    parts.tests("booted, in containers", || stories(sh, &["--test", "booted"], tail));
    parts.tests("rig", || {
        // Its machines are two, and each is busy with one story.
        stories(sh, &["--test", "e2e"], tail).env_remove("RUST_TEST_THREADS")
    });
    for lot in 0..if args.long { LONG_LOTS } else { 0 } {
        let name = format!("lot {} of {LONG_LOTS}", lot + 1);
        parts.tests(&name, || {
            stories(sh, &["--test", "e2e"], &["blinkstick_and_phobos_blink_do_the_same"]).env_remove("PHOBOS_SEED")
        });
    }
}

/// The call of those tests of the rig's package that `which` says, as root.
fn stories<'a>(sh: &'a Shell, which: &[&str], tail: &[&str]) -> Cmd<'a> {
    let runner = runner_with_times();
    let call = cmd!(sh, "cargo test --locked --no-fail-fast --config {runner} --package {RIG} {which...}");
    call.args(["--", "-Zunstable-options", "--report-time"]).args(tail).env("RUST_TEST_THREADS", AT_ONCE)
}

/// [`runner`], with which a test program tells how long each test took: it keeps that for nightly toolchains otherwise.
fn runner_with_times() -> String {
    format!("target.'cfg(unix)'.runner = {:?}", [as_root(), &["env", "RUSTC_BOOTSTRAP=1"]].concat())
}

/// The configuration that makes cargo run what it has built as root.
pub(crate) fn runner() -> String {
    // Cargo takes an empty runner for a program without a name.
    let line = if as_root().is_empty() { &["env"] } else { as_root() };
    format!("target.'cfg(unix)'.runner = {line:?}")
}

impl Args {
    /// What the test programs get.
    fn tail(&self) -> Vec<&str> {
        self.filter.iter().chain(&self.options).map(String::as_str).collect()
    }
}

/// What ran, how it ended, and how long it took.
#[derive(Default)]
struct Parts {
    parts: Vec<Part>,
    /// How long each test took.
    tests: Vec<(Duration, String)>,
}

struct Part {
    name: String,
    outcome: Outcome,
    took: Duration,
}

enum Outcome {
    Good,
    Failed,
    Skipped(&'static str),
}

impl Parts {
    fn run(&mut self, name: &str, part: impl FnOnce() -> Result<()>) {
        say(&format!("── {name}"));
        let start = Instant::now();
        let outcome = match part() {
            Ok(()) => Outcome::Good,
            Err(error) => {
                crate::complain(&format!("error: {error:#}"));
                Outcome::Failed
            }
        };
        self.parts.push(Part { name: name.to_owned(), outcome, took: start.elapsed() });
    }

    /// Runs tests, showing what they say and noting how long each took.
    fn tests<'a>(&mut self, name: &str, call: impl FnOnce() -> Cmd<'a>) {
        let mut times = Vec::new();
        self.run(name, || {
            let mut child = Command::from(call()).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
            let mut said = BufReader::new(child.stdout.take().context("cargo has no output")?);
            let mut line = Vec::new();
            while said.read_until(b'\n', &mut line)? > 0 {
                let text = String::from_utf8_lossy(&line);
                say(text.trim_end_matches('\n'));
                times.extend(time_of(&text));
                line.clear();
            }
            let status = child.wait()?;
            ensure!(status.success(), "cargo test: {status}");
            Ok(())
        });
        self.tests.extend(times);
    }

    /// The tests that took longest, longest first.
    fn slowest(&self) -> Vec<String> {
        let mut tests = self.tests.clone();
        tests.sort_by(|a, b| b.cmp(a));
        tests.into_iter().take(SLOWEST).map(|(took, name)| format!("{} {name}", clock(took))).collect()
    }

    fn skip(&mut self, name: &str, why: &'static str) {
        self.parts.push(Part { name: name.to_owned(), outcome: Outcome::Skipped(why), took: Duration::ZERO });
    }

    fn summary(&self) -> Result<()> {
        say("── summary");
        for part in &self.parts {
            say(&part.line());
        }
        if !self.tests.is_empty() {
            say("── slowest tests");
            self.slowest().iter().for_each(|line| say(line));
        }
        let total = self.parts.iter().map(|part| part.took).sum();
        say(&format!("{:24} {}, of {} at most", "total", clock(total), clock(LIMIT)));
        let failed: Vec<&str> = self.parts.iter().filter_map(Part::failed).collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}

impl Part {
    fn line(&self) -> String {
        let Self { name, outcome, took } = self;
        match outcome {
            Outcome::Good => format!("{name:24} {}  good", clock(*took)),
            Outcome::Failed => format!("{name:24} {}  FAILED", clock(*took)),
            Outcome::Skipped(why) => format!("{name:24} left out: {why}"),
        }
    }

    fn failed(&self) -> Option<&str> {
        matches!(self.outcome, Outcome::Failed).then_some(&self.name)
    }
}

/// How long a test took and what it is called, if that is what this line of a test program's output says.
fn time_of(line: &str) -> Option<(Duration, String)> {
    let (name, end) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let secs = end.trim_end().strip_suffix("s>")?.rsplit_once('<')?.1;
    Some((Duration::try_from_secs_f64(secs.parse().ok()?).ok()?, name.to_owned()))
}

/// Minutes and seconds.
fn clock(time: Duration) -> String {
    let secs = time.as_secs();
    format!("{:2}:{:02}", secs / 60, secs % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_part_fails_the_whole_and_stops_nothing() {
        let mut parts = Parts::default();
        parts.run("first", || bail!("no"));
        parts.run("second", || Ok(()));
        parts.skip("third", "there is none");
        let lines: Vec<String> = parts.parts.iter().map(Part::line).collect();
        assert_eq!(
            lines,
            [
                "first                     0:00  FAILED",
                "second                    0:00  good",
                "third                    left out: there is none",
            ]
        );
        assert_eq!(parts.summary().unwrap_err().to_string(), "failed: first");
    }

    #[test]
    fn the_slowest_tests_come_first() {
        let said = "test a::b ... ok <0.010s>\ntest slow ... FAILED <61.5s>\ntest c ... ignored\nrunning <3s>\n";
        let parts = Parts { tests: said.lines().filter_map(time_of).collect(), ..Parts::default() };
        assert_eq!(parts.slowest(), [" 1:01 slow", " 0:00 a::b"]);
    }

    #[test]
    fn a_clock_shows_minutes() {
        assert_eq!(clock(Duration::from_secs(2405)), "40:05");
        assert_eq!(clock(Duration::from_millis(59_900)), " 0:59");
    }
}
