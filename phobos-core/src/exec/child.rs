//! A running child: its pipes, its exit status, and the last lines of its standard error.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::MemfdFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::command::expression;
use super::sink::Sink;
use super::{ExecError, Invocation, Status, TAIL_BYTES};

/// What fits into any pipe at once, in bytes.
const PIPE_BUF: usize = 4096;

/// How many bytes are read from the pipes of a program that has ended. A pipe holds at most 1 MiB, but another process that
/// has it open could write for ever.
const MOST_LEFT: usize = 2 * 1024 * 1024;

/// How often an observer's `tick` is called.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// What a child reads from its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// The invocation's bytes.
    Bytes,
    /// Nothing yet; the pipe stays open until the holder closes it.
    Open,
}

/// A running child, its output pipes, and the tail of its standard error.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) handle: duct::Handle,
    pub(super) pidfd: OwnedFd,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<File>,
    pub(super) stderr: Option<File>,
    pub(super) tail: Vec<u8>,
}

/// Which of a child's descriptors are ready.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) ended: bool,
}

impl Child {
    pub(super) fn start(invocation: &Invocation, program: &Path, input: Input) -> io::Result<Self> {
        let (stdout, stdout_end) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_end) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdin_end, stdin) = match input {
            // What fits into a pipe is nowhere but in it, which is never swapped out.
            Input::Bytes if invocation.stdin.0.len() <= PIPE_BUF => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                File::from(write).write_all(&invocation.stdin.0)?;
                (read, None)
            }
            Input::Bytes => (in_memory(&invocation.stdin.0)?, None),
            Input::Open => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                // More than that might not fit into a pipe that nobody reads yet.
                if invocation.stdin.0.len() > PIPE_BUF {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "what it is to be told is too long"));
                }
                let mut write = File::from(write);
                write.write_all(&invocation.stdin.0)?;
                (read, Some(write.into()))
            }
        };
        let handle = expression(invocation, program)
            .stdin_file(stdin_end)
            .stdout_file(stdout_end)
            .stderr_file(stderr_end)
            .unchecked()
            .start()?;
        let pidfd = pidfd_of(&handle)?;
        Ok(Self { handle, pidfd, stdin, stdout: Some(stdout.into()), stderr: Some(stderr.into()), tail: Vec::new() })
    }

    /// Waits until the child has written or ended, a signal was caught, or a tick is due.
    pub(super) fn wait_for_output(&self, signal: Option<BorrowedFd<'_>>) -> io::Result<Ready> {
        self.look(Some(self.pidfd.as_fd()), signal, TICK)
    }

    /// Waits for the pipes, the child's end and a signal, those that are given, `limit` at most.
    fn look(&self, end: Option<BorrowedFd<'_>>, signal: Option<BorrowedFd<'_>>, limit: Duration) -> io::Result<Ready> {
        let of = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let [stdout, stderr] = [&self.stdout, &self.stderr].map(|pipe| pipe.as_ref().map(AsFd::as_fd));
        let mut fds: Vec<_> = [end, stdout, stderr, signal].into_iter().flatten().map(of).collect();
        match poll(&mut fds, PollTimeout::try_from(limit).map_err(io::Error::other)?) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => {
                return Ok(Ready { stdout: false, stderr: false, ended: false });
            }
            Err(error) => return Err(error.into()),
        }
        let mut states = fds.iter().map(|fd| fd.any().unwrap_or(false));
        let [ended, stdout, stderr] = [end, stdout, stderr].map(|fd| fd.is_some() && states.next().unwrap_or(false));
        Ok(Ready { stdout, stderr, ended })
    }

    /// Reads once from each pipe that is ready, and tells how much; a pipe at its end is closed.
    pub(super) fn read(&mut self, ready: Ready, sink: &mut dyn Sink) -> io::Result<usize> {
        let mut count = 0;
        if ready.stdout {
            let bytes = read_once(&mut self.stdout)?;
            count += bytes.len();
            sink.out(&bytes);
        }
        if ready.stderr {
            let bytes = read_once(&mut self.stderr)?;
            count += bytes.len();
            self.tail.extend_from_slice(&bytes);
            let excess = self.tail.len().saturating_sub(TAIL_BYTES);
            self.tail.drain(..excess);
            sink.err(&bytes);
        }
        Ok(count)
    }

    /// Reads what an ended child has left in its pipes, without waiting for others who may hold them open.
    pub(super) fn drain(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let mut count = 0;
        while count < MOST_LEFT {
            let ready = self.wait_for_output(None)?;
            if !(ready.stdout || ready.stderr) {
                break;
            }
            count += self.read(ready, sink)?;
        }
        Ok(())
    }

    /// Reads until nobody has the ended child's pipes open any more, `limit` at most; tells whether that is so.
    pub(super) fn outlive(&mut self, sink: &mut dyn Sink, limit: Duration) -> io::Result<bool> {
        let began = Instant::now();
        while self.stdout.is_some() || self.stderr.is_some() {
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            let ready = self.look(None, None, left)?;
            self.read(ready, sink)?;
        }
        Ok(true)
    }

    /// The ended child's status as a result.
    pub(super) fn conclude(&self, invocation: &Invocation) -> Result<(), ExecError> {
        let text = || invocation.call();
        let output = self.handle.wait().map_err(|source| ExecError::Start { invocation: text(), source })?;
        let status = status_of(output.status);
        if status == Status::Code(0) {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&self.tail).trim().to_owned();
        Err(ExecError::Failed { invocation: text(), status, stderr })
    }
}

/// A descriptor that becomes readable when the child ends.
pub(super) fn pidfd_of(handle: &duct::Handle) -> io::Result<OwnedFd> {
    let pid = handle.pids().first().and_then(|pid| i32::try_from(*pid).ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the child has no process id"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

pub(super) fn status_of(status: std::process::ExitStatus) -> Status {
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Code(code),
        (None, signal) => Status::Signal(signal.unwrap_or_default()),
    }
}

/// A file that exists in memory only and holds `bytes`: no thread and no full pipe between us and the child.
fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

fn read_once(pipe: &mut Option<File>) -> io::Result<Vec<u8>> {
    let Some(file) = pipe else { return Ok(Vec::new()) };
    let mut buffer = vec![0; 16 * 1024];
    let length = match file.read(&mut buffer) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if length == 0 {
        *pipe = None;
    }
    buffer.truncate(length);
    Ok(buffer)
}
