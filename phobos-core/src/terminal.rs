//! A person at a terminal: a question and a line of an answer.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// How often somebody who waits looks whether a signal came.
const TICK: Duration = Duration::from_millis(200);

/// The longest line that is read, in bytes.
const LONGEST: usize = 4096;

/// Whether what is typed is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// It is.
    On,
    /// It is not, because it is a secret.
    Off,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This line, without its end.
    Line(String),
    /// Standard input has ended.
    End,
    /// A signal came first.
    Interrupted(i32),
}

/// What has ended an answer that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was whole.
    OfLine,
    /// Standard input has ended before it.
    OfInput,
    /// A signal came first.
    Interrupted(i32),
}

/// Whether somebody can be asked.
pub fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// Reads a line from standard input, until a signal comes; byte by byte, so that what is behind it stays for others.
///
/// # Errors
///
/// When it cannot be read, or is longer than any answer. The terminal shows again what is typed.
pub fn line(echo: Echo, interrupted: &dyn Fn() -> Option<i32>) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    Ok(match read(echo, interrupted, LONGEST, &mut bytes)? {
        End::OfLine => Answer::Line(String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned()),
        End::OfInput => Answer::End,
        End::Interrupted(signal) => Answer::Interrupted(signal),
    })
}

/// Reads a line that is not shown into `secret`, up to its capacity, so that it is nowhere else in memory; see [`line`].
///
/// # Errors
///
/// As for [`line`].
pub fn secret(secret: &mut Vec<u8>, interrupted: &dyn Fn() -> Option<i32>) -> io::Result<End> {
    let longest = secret.capacity();
    read(Echo::Off, interrupted, longest, secret)
}

fn read(echo: Echo, interrupted: &dyn Fn() -> Option<i32>, longest: usize, bytes: &mut Vec<u8>) -> io::Result<End> {
    let stdin = io::stdin();
    let _quiet = (echo == Echo::Off).then(Quiet::begin).transpose()?;
    let tick = Timespec::try_from(TICK).map_err(io::Error::other)?;
    loop {
        if let Some(signal) = interrupted() {
            return Ok(End::Interrupted(signal));
        }
        let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut polled, Some(&tick)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        let mut byte = [0];
        match rustix::io::read(stdin.as_fd(), &mut byte) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) if bytes.is_empty() => return Ok(End::OfInput),
            Ok(count) if count == 0 || byte == *b"\n" => return Ok(End::OfLine),
            Ok(_) if bytes.len() < longest => bytes.extend(byte),
            Ok(_) => return Err(io::Error::other("the line is too long")),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet(Option<Termios>);

impl Quiet {
    fn begin() -> io::Result<Self> {
        if !is_there() {
            return Ok(Self(None));
        }
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let Some(before) = &self.0 else { return };
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Now, before) {
            log::warn!("the terminal does not show what is typed (`stty echo` mends that): {error}");
        }
    }
}
