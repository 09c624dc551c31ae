//! The parts of a test run: how each ended, how long it took, and which tests took longest.

use super::LIMIT;
use crate::say;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};
use xshell::Cmd;

/// How many of the slowest tests the summary names.
const SLOWEST: usize = 10;

/// What ran, how it ended, and how long it took.
pub(super) struct Parts {
    began: Instant,
    ran: Vec<Part>,
    /// How long each test took.
    tests: Vec<Time>,
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
    /// None has run yet.
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), ran: Vec::new(), tests: Vec::new() }
    }

    /// Runs one part and returns what it came to, if it ended well.
    pub(super) fn run<T>(&mut self, name: &str, part: impl FnOnce() -> Result<T>) -> Option<T> {
        say(&format!("── {name}"));
        let start = Instant::now();
        let result = part();
        let outcome = if result.is_ok() { Outcome::Good } else { Outcome::Failed };
        self.ran.push(Part { name: name.to_owned(), outcome, took: start.elapsed() });
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                crate::complain(&format!("error: {error:#}"));
                None
            }
        }
    }

    /// Makes these calls of test programs, which have a name each: all of them even where one fails and `at_once` of them at a time,
    /// showing what they say and noting how long each test took.
    pub(super) fn tests(&mut self, name: &str, calls: Vec<(&str, Cmd<'_>)>, at_once: usize) {
        let times = RefCell::new(Vec::new());
        self.run(name, || {
            ensure!(!calls.is_empty(), "cargo has built no such test program");
            let calls = calls.into_iter().map(|(name, call)| (name, Command::from(call))).collect();
            let failed = all(calls, at_once, &mut times.borrow_mut())?;
            ensure!(failed.is_empty(), "{}", failed.join("; "));
            Ok(())
        });
        self.tests.extend(times.into_inner());
    }

    /// The tests that took longest, longest first.
    fn slowest(&self) -> Vec<String> {
        let mut tests = self.tests.clone();
        tests.sort_by(|a, b| b.cmp(a));
        tests.into_iter().take(SLOWEST).map(|(took, name)| format!("{} {name}", clock(took))).collect()
    }

    /// Notes that a part was left out.
    pub(super) fn skip(&mut self, name: &str, why: &'static str) {
        self.ran.push(Part { name: name.to_owned(), outcome: Outcome::Skipped(why), took: Duration::ZERO });
    }

    /// Prints the summary.
    ///
    /// # Errors
    ///
    /// If a part has failed.
    pub(super) fn summary(&self) -> Result<()> {
        say("── summary");
        for part in &self.ran {
            say(&part.line());
        }
        if !self.tests.is_empty() {
            say("── slowest tests");
            self.slowest().iter().for_each(|line| say(line));
        }
        say(&format!("{:24} {}, of {} at most", "total", clock(self.began.elapsed()), clock(LIMIT)));
        let failed: Vec<&str> = self.ran.iter().filter_map(Part::failed).collect();
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

/// How long a test took, and what it is called.
type Time = (Duration, String);

/// Runs test programs, `at_once` of them at a time, and returns which have failed and how.
fn all(calls: VecDeque<(&str, Command)>, at_once: usize, times: &mut Vec<Time>) -> Result<Vec<String>> {
    let (waiting, done) = (Mutex::new(calls), Mutex::new((Vec::new(), times)));
    let lock = || anyhow!("another test program's end was not noted");
    thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let Some((target, command)) = waiting.lock().map_err(|_| lock())?.pop_front() else { return Ok(()) };
                let mut of_this = Vec::new();
                let end = test(command, at_once == 1, &mut of_this);
                let mut done = done.lock().map_err(|_| lock())?;
                done.0.extend(end.err().map(|error| format!("{target}: {error:#}")));
                done.1.extend(of_this);
            }
        };
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| lock())?)
    })?;
    Ok(done.into_inner().map_err(|_| lock())?.0)
}

/// Runs a test program, showing what it says and adding how long each test took to `times`. Unless it is `alone`, what is no
/// test's end is shown in one piece, when the program has ended.
fn test(mut command: Command, alone: bool, times: &mut Vec<Time>) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start it")?;
    let mut said = BufReader::new(child.stdout.take().context("it has no output")?);
    let (mut line, mut kept) = (Vec::new(), String::new());
    while said.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let time = time_of(&text);
        if alone || time.is_some() {
            say(text.trim_end_matches('\n'));
        } else {
            kept.push_str(&text);
        }
        times.extend(time);
        line.clear();
    }
    if !kept.is_empty() {
        say(kept.trim_end_matches('\n'));
    }
    let status = child.wait()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// How long a test took and what it is called, if that is what this line of a test program's output says.
fn time_of(line: &str) -> Option<Time> {
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
    use xshell::{Shell, cmd};

    #[test]
    fn a_failed_part_fails_the_whole_and_stops_nothing() {
        let mut parts = Parts::new();
        assert_eq!(parts.run::<()>("first", || bail!("no")), None);
        assert_eq!(parts.run("second", || Ok(2)), Some(2));
        parts.skip("third", "there is none");
        let lines: Vec<String> = parts.ran.iter().map(Part::line).collect();
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
    fn of_programs_that_run_at_once_each_is_waited_for_and_named_if_it_fails() {
        let sh = Shell::new().unwrap();
        let shell = |script: &str| Command::from(cmd!(sh, "sh -c {script}"));
        let folder = sh.create_temp_dir().unwrap();
        let met = |own: &str, other: &str| {
            let at = |name: &str| folder.path().join(name).display().to_string();
            shell(&format!(
                "touch {}; until [ -e {} ]; do :; done; echo 'test {own} ... ok <1.5s>'",
                at(own),
                at(other)
            ))
        };
        let calls = [("a", met("a", "b")), ("b", met("b", "a")), ("c", shell("exit 3")), ("d", shell("echo d"))];
        let mut times = Vec::new();
        let failed = all(calls.into(), 2, &mut times).unwrap();
        assert_eq!(failed, ["c: exit status: 3"]);
        times.sort();
        assert_eq!(times, ["a", "b"].map(|name| (Duration::from_millis(1500), name.to_owned())));
    }

    #[test]
    fn the_slowest_tests_come_first() {
        let said = "test a::b ... ok <0.010s>\ntest slow ... FAILED <61.5s>\ntest c ... ignored\nrunning <3s>\n";
        let parts = Parts { tests: said.lines().filter_map(time_of).collect(), ..Parts::new() };
        assert_eq!(parts.slowest(), [" 1:01 slow", " 0:00 a::b"]);
    }

    #[test]
    fn a_clock_shows_minutes() {
        assert_eq!(clock(Duration::from_secs(2405)), "40:05");
        assert_eq!(clock(Duration::from_millis(59_900)), " 0:59");
    }
}
