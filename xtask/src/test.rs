//! `test`: every check and test of the project, one after the other, with a summary.

use crate::{as_root, project, root_cmd, say, setup, target};
use anyhow::{Result, anyhow, bail};
use std::thread;
use std::time::{Duration, Instant};
use xshell::{Shell, cmd};

/// How long the whole may take.
const LIMIT: Duration = Duration::from_secs(40 * 60);

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
}

fn has(sh: &Shell, component: &str) -> bool {
    let version = cmd!(sh, "cargo {component} --version").quiet().ignore_stdout().ignore_stderr();
    version.run().is_ok()
}

fn host(sh: &Shell, args: &Args, parts: &mut Parts) {
    let tail = &args.tail();
    parts.run("unit and command line", || {
        Ok(cmd!(sh, "cargo test --locked --workspace --exclude {RIG} -- {tail...}").run()?)
    });
    parts.run("the rig's own", || Ok(cmd!(sh, "cargo test --locked --package {RIG} --lib --bins -- {tail...}").run()?));
    let runner = &runner();
    parts.run("host, as root", || {
        let stories = cmd!(sh, "cargo test --locked --config {runner} --package {RIG} --test host -- {tail...}");
        Ok(stories.env("RUST_TEST_THREADS", AT_ONCE).run()?)
    });
}

fn rig(sh: &Shell, args: &Args, parts: &mut Parts) {
    let runner = &runner();
    let tail = &args.tail();
    parts.run("booted, in containers", || {
        let stories = cmd!(sh, "cargo test --locked --config {runner} --package {RIG} --test booted -- {tail...}");
        Ok(stories.env("RUST_TEST_THREADS", AT_ONCE).run()?)
    });
    parts.run("rig", || {
        Ok(cmd!(sh, "cargo test --locked --config {runner} --package {RIG} --test e2e -- {tail...}").run()?)
    });
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
struct Parts(Vec<Part>);

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
        self.0.push(Part { name: name.to_owned(), outcome, took: start.elapsed() });
    }

    fn skip(&mut self, name: &str, why: &'static str) {
        self.0.push(Part { name: name.to_owned(), outcome: Outcome::Skipped(why), took: Duration::ZERO });
    }

    fn summary(&self) -> Result<()> {
        say("── summary");
        for part in &self.0 {
            say(&part.line());
        }
        let total = self.0.iter().map(|part| part.took).sum();
        say(&format!("{:24} {}, of {} at most", "total", clock(total), clock(LIMIT)));
        let failed: Vec<&str> = self.0.iter().filter_map(Part::failed).collect();
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
        let lines: Vec<String> = parts.0.iter().map(Part::line).collect();
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
    fn a_clock_shows_minutes() {
        assert_eq!(clock(Duration::from_secs(2405)), "40:05");
        assert_eq!(clock(Duration::from_millis(59_900)), " 0:59");
    }
}
