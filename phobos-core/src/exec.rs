//! Programs: a call as data, one trait to run it, and nothing else in phobos that starts a process.
//!
//! [`System`] runs calls for real, on one thread: it polls the child's output, its pidfd and the signal pipe, so that a
//! job may enter a mount namespace at any time. [`fake::Script`] answers calls in tests.

mod activity;
mod child;
mod command;
pub mod fake;
mod invocation;
mod sink;
mod system;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Class, Classified};
pub use invocation::{Call, Invocation, Secret};
pub use system::System;

use invocation::Lifetime;

use crate::human;

/// Where programs are looked for after `PATH`: a user's `PATH` often lacks the sbin directories.
const MORE_FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How much of a program's standard error is kept for an error message, in bytes.
const TAIL_BYTES: usize = 2048;

/// A program that has exited with 0, and its standard output where that was captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// Standard output; empty for a streamed call, whose lines the observer has seen.
    pub stdout: Vec<u8>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It returned this exit code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// A word as a shell takes it, quoted where it must be: for commands that people or other programs are given to run.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The program was not found, neither in `PATH` nor in the system's folders.
    #[error("cannot find the program {program}; install it")]
    Missing {
        /// Its name.
        program: String,
    },
    /// The program could not be started, or its end not be waited for.
    #[error("cannot run `{invocation}`")]
    Start {
        /// The call, as text.
        invocation: Call,
        /// What the system said.
        source: io::Error,
    },
    /// The program ended with anything but 0.
    #[error("`{invocation}` {status}{}", Tail(stderr))]
    Failed {
        /// The call, as text.
        invocation: Call,
        /// How it ended.
        status: Status,
        /// The end of its standard error.
        stderr: String,
    },
    /// A signal to this process ended the work; the program was ended, or never started.
    #[error("stopped by signal {signal} in `{invocation}`")]
    Interrupted {
        /// The call, as text.
        invocation: Call,
        /// The signal's number.
        signal: i32,
    },
    /// The program was ended because it took longer than its limit.
    #[error("`{invocation}` was ended after {}", human::duration(*limit))]
    TimedOut {
        /// The call, as text.
        invocation: Call,
        /// The limit that it passed.
        limit: Duration,
    },
    /// The program was ended because it made no progress.
    #[error("`{invocation}` was ended: it has done nothing for {}", human::duration(*stall))]
    Stalled {
        /// The call, as text.
        invocation: Call,
        /// How long it did nothing.
        stall: Duration,
    },
    /// The program was ended because the observer asked for it.
    #[error("`{invocation}` was ended: {reason}")]
    Stopped {
        /// The call, as text.
        invocation: Call,
        /// What the observer said.
        reason: String,
    },
}

impl Classified for ExecError {
    fn class(&self) -> Class {
        match self {
            Self::Missing { .. } => Class::Config,
            Self::Interrupted { signal, .. } => Class::Signal(*signal),
            Self::Start { .. }
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Stalled { .. }
            | Self::Stopped { .. } => Class::Source,
        }
    }
}

/// Sees a streamed program's output as it comes.
pub trait Observer {
    /// Takes a line of standard output; a carriage return ends a line too, as progress displays use it.
    fn out(&mut self, line: &str);

    /// Takes a line of standard error.
    fn err(&mut self, line: &str);

    /// Is called about once a second.
    ///
    /// # Errors
    ///
    /// The reason why the program must be ended now.
    fn tick(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A program that holds something as long as its standard input is open.
pub trait Hold: fmt::Debug {
    /// The program's process, while it runs.
    fn pid(&self) -> Option<u32>;

    /// Whether the program still runs, and so still holds what it holds.
    fn is_alive(&mut self) -> bool;

    /// Closes the program's standard input, so that it lets go of what it holds; its end is waited for by `release`.
    fn let_go(&mut self);

    /// Closes the program's standard input and waits for its end; a second call does nothing.
    ///
    /// # Errors
    ///
    /// [`ExecError`] if it did not exit with 0; it no longer runs.
    fn release(&mut self) -> Result<(), ExecError>;
}

/// Runs programs. Several threads may use it at once.
pub trait Exec: fmt::Debug + Sync {
    /// Runs `invocation` to its end.
    ///
    /// # Streams
    ///
    /// Standard input: what the invocation carries, or empty. Standard output: captured. Standard error: its tail goes
    /// into the error.
    ///
    /// # Errors
    ///
    /// [`ExecError`] if the program cannot be started or exits with anything but 0; it no longer runs.
    fn run(&self, invocation: &Invocation) -> Result<Finished, ExecError>;

    /// Runs `invocation` to its end and shows its output to `observer` line by line.
    ///
    /// # Streams
    ///
    /// As for [`Exec::run`], but standard output and standard error go to the observer as they come.
    ///
    /// # Errors
    ///
    /// As for [`Exec::run`].
    fn stream(&self, invocation: &Invocation, observer: &mut dyn Observer) -> Result<Finished, ExecError>;

    /// Runs `invocation` to its end and passes its output to `heard` as it comes, byte by byte as it was written.
    ///
    /// # Streams
    ///
    /// As for [`Exec::run`], but standard output goes to `heard`, however much it is.
    ///
    /// # Errors
    ///
    /// As for [`Exec::run`].
    fn pour(&self, invocation: &Invocation, heard: &mut dyn FnMut(&[u8])) -> Result<(), ExecError> {
        heard(&self.run(invocation)?.stdout);
        Ok(())
    }

    /// Runs `invocation` to its end with this process's own standard streams, as a shell would, and passes on the signals
    /// that are caught; SIGINT and SIGQUIT only where they do not come from a terminal, which sends them to both.
    ///
    /// # Streams
    ///
    /// All three: this process's own.
    ///
    /// # Errors
    ///
    /// [`ExecError`] if the program cannot be started or its end not be waited for; how it ends is no error.
    fn attach(&self, invocation: &Invocation) -> Result<Status, ExecError>;

    /// Starts `invocation` and waits until it has written the line `ready`; it then holds until released.
    ///
    /// # Streams
    ///
    /// Standard input: a pipe that stays open. Standard output: read up to the line `ready`, lines before it go to the
    /// observer. Standard error: to the observer until then, afterwards its tail goes into the error.
    ///
    /// # Errors
    ///
    /// [`ExecError`] if the program ends before it is ready; it no longer runs.
    fn hold(
        &self,
        invocation: &Invocation,
        ready: &str,
        observer: &mut dyn Observer,
    ) -> Result<Box<dyn Hold>, ExecError>;

    /// Starts `invocation`, which will answer what it is told; what it has to say is heard later, so that something else can be
    /// done until then.
    ///
    /// # Streams
    ///
    /// Standard input: a pipe that has the invocation's bytes in it, a few kilobytes at most, and stays open. Standard
    /// output: to who listens. Standard error: its tail goes into the error.
    ///
    /// # Errors
    ///
    /// [`ExecError`] if the program cannot be started.
    fn converse(&self, invocation: &Invocation) -> Result<Box<dyn Conversation + '_>, ExecError>;
}

/// A program that was told something, and has not been listened to yet. Dropping it closes the program's standard input and
/// waits for its end.
pub trait Conversation: fmt::Debug {
    /// Passes the program's output to `heard` as it comes, until that returns true. The program then holds until it is
    /// released. The invocation's limit counts from now until then, and again for the release.
    ///
    /// # Errors
    ///
    /// [`ExecError`] if the program ends before `heard` returns true, or takes too long; it no longer runs.
    fn listen(self: Box<Self>, heard: &mut dyn FnMut(&[u8]) -> bool) -> Result<Box<dyn Hold>, ExecError>;
}

/// Replaces this process by the program (execve(2)): it keeps the process id, streams, environment and ignored signals; locks
/// are released.
///
/// Returns only if that fails.
pub fn replace(invocation: &Invocation) -> ExecError {
    command::replace(invocation)
}

/// Finds all of `programs`.
///
/// # Errors
///
/// The names of all that are missing; nothing was done.
pub fn require(programs: &[&str]) -> Result<(), MissingPrograms> {
    let missing: Vec<_> =
        programs.iter().filter(|name| find(Path::new(name)).is_none()).map(|name| (*name).to_owned()).collect();
    if missing.is_empty() { Ok(()) } else { Err(MissingPrograms(missing)) }
}

/// Programs that are needed and not there.
#[derive(Debug, thiserror::Error)]
#[error("cannot find the programs {}; install them", .0.join(", "))]
pub struct MissingPrograms(Vec<String>);

impl Classified for MissingPrograms {
    fn class(&self) -> Class {
        Class::Config
    }
}

/// Finds `program` in `PATH`, then in the system's folders; a path with a slash is taken as it is.
pub fn find(program: &Path) -> Option<PathBuf> {
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE_FOLDERS.map(PathBuf::from))
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok() && candidate.is_file())
}

impl Status {
    /// The status as a shell tells it: the exit code, or 128 and the signal's number.
    pub fn shell_code(self) -> u8 {
        let code = match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        };
        u8::try_from(code).unwrap_or(u8::MAX)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "failed with exit code {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

impl Finished {
    /// Standard output as text, without the white space around it; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// `: ` and the last lines of a standard error on one line, or nothing.
struct Tail<'a>(&'a str);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = lines.len().saturating_sub(4);
        match lines.get(last..) {
            Some(lines) if !lines.is_empty() => write!(f, ": {}", lines.join(" | ")),
            _ => Ok(()),
        }
    }
}
