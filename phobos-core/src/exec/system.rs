//! Runs calls for real: duct starts the child, one poll loop watches it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use duct::unix::HandleExt;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::MemfdFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use signal_hook::consts::{SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use super::activity::Activity;
use super::{Exec, ExecError, Finished, Hold, Invocation, Observer, Status, TAIL_BYTES, find};
use crate::signal::Signals;

/// How often an observer's `tick` is called.
const TICK: Duration = Duration::from_secs(1);

/// How long a program that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(20);

/// How long a program that was killed may take to be gone: one that the kernel cannot end, because a device does not answer,
/// must not keep this process as well.
const KILL_GRACE: Duration = Duration::from_secs(40);

/// The longest line that is handed over whole, in bytes; a longer one comes in pieces. A line of journalctl has a message of
/// a megabyte in it.
const LONGEST_LINE: usize = 2 << 20;

/// The most standard output that is kept, in bytes.
const MOST_OUTPUT: usize = 64 * 1024 * 1024;

/// How much of what an ended program has left in its pipes is read; a pipe holds at most 1 MiB, and whoever else has it
/// open may write to it for ever.
const MOST_LEFT: usize = 2 * 1024 * 1024;

/// What fits into any pipe at once, in bytes.
const PIPE_BUF: usize = 4096;

/// How long a held program may take to end after its standard input was closed, if its call has no shorter limit.
const RELEASE_LIMIT: Duration = Duration::from_secs(120);

/// Runs programs on this machine.
#[derive(Debug, Clone, Default)]
pub struct System<'s> {
    signals: Option<&'s Signals>,
}

impl<'s> System<'s> {
    /// Runs programs that end when this process is asked to end.
    pub fn new(signals: &'s Signals) -> Self {
        Self { signals: Some(signals) }
    }

    /// The signal that asked this process to end, as far as `invocation` regards it.
    fn ending(&self, invocation: &Invocation) -> Option<i32> {
        if invocation.shielded { None } else { self.signals.and_then(Signals::caught) }
    }

    /// Starts `invocation`, unless this process has been asked to end.
    fn start(&self, invocation: &Invocation, input: Input) -> Result<Child, ExecError> {
        let program = self.locate(invocation)?;
        Child::start(invocation, &program, input)
            .map_err(|source| ExecError::Start { invocation: invocation.to_string(), source })
    }

    /// Finds the program, unless this process has been asked to end.
    fn locate(&self, invocation: &Invocation) -> Result<PathBuf, ExecError> {
        match self.ending(invocation) {
            Some(signal) => Err(ExecError::Interrupted { invocation: invocation.to_string(), signal }),
            None => find(&invocation.program)
                .ok_or_else(|| ExecError::Missing { program: invocation.program.display().to_string() }),
        }
    }

    /// Feeds the child's output to `sink` until the child has ended, or until `sink` has seen what it waits for.
    fn attend(&self, child: &mut Child, invocation: &Invocation, sink: &mut dyn Sink) -> Result<(), ExecError> {
        let failed = |source| ExecError::Start { invocation: invocation.to_string(), source };
        let began = Instant::now();
        let mut last_tick = began;
        let mut verdict: Option<ExecError> = None;
        let mut asked: Option<Instant> = None;
        let mut activity = Activity::of(child.handle.pids().first().copied().unwrap_or_default());
        loop {
            let signal_pipe =
                if self.ending(invocation).is_some() || invocation.shielded { None } else { self.signals };
            let ready = child.wait_for_output(signal_pipe.map(Signals::wake)).map_err(failed)?;
            if child.read(ready, sink).map_err(failed)? > 0 {
                activity.note();
            }
            if ready.ended {
                child.drain(sink).map_err(failed)?;
                break;
            }
            if verdict.is_none() && sink.is_content() {
                return Ok(());
            }
            if verdict.is_none() {
                verdict = self.verdict(invocation, began, &mut last_tick, &mut activity, sink);
            }
            match (verdict.is_some(), asked) {
                (true, None) => {
                    child.handle.send_signal(SIGTERM).map_err(failed)?;
                    asked = Some(Instant::now());
                }
                (true, Some(since)) if since.elapsed() > GRACE => {
                    child.handle.send_signal(SIGKILL).map_err(failed)?;
                    if let Some(error) = verdict.take_if(|_| since.elapsed() > GRACE + KILL_GRACE) {
                        log::error!("`{invocation}` does not end although it was killed; it is left behind");
                        return Err(error);
                    }
                }
                _ => {}
            }
        }
        match verdict {
            Some(error) => {
                child.handle.wait().map_err(failed)?;
                Err(error)
            }
            None => child.conclude(invocation),
        }
    }

    /// Why the program must be ended now, if it must.
    fn verdict(
        &self,
        invocation: &Invocation,
        began: Instant,
        last_tick: &mut Instant,
        activity: &mut Activity,
        sink: &mut dyn Sink,
    ) -> Option<ExecError> {
        let text = || invocation.to_string();
        if let Some(signal) = self.ending(invocation) {
            return Some(ExecError::Interrupted { invocation: text(), signal });
        }
        if let Some(limit) = invocation.limit.filter(|limit| began.elapsed() > *limit) {
            return Some(ExecError::TimedOut { invocation: text(), limit });
        }
        if let Some(stall) = invocation.stall.filter(|stall| activity.has_stalled(*stall)) {
            return Some(ExecError::Stalled { invocation: text(), stall });
        }
        if last_tick.elapsed() >= TICK {
            *last_tick = Instant::now();
            if let Err(reason) = sink.tick() {
                return Some(ExecError::Stopped { invocation: text(), reason });
            }
        }
        None
    }
}

impl Exec for System<'_> {
    fn run(&self, invocation: &Invocation) -> Result<Finished, ExecError> {
        let mut child = self.start(invocation, Input::Bytes)?;
        let mut stdout = Vec::new();
        self.attend(&mut child, invocation, &mut Capture(&mut stdout))?;
        Ok(Finished { stdout })
    }

    fn stream(&self, invocation: &Invocation, observer: &mut dyn Observer) -> Result<Finished, ExecError> {
        let mut child = self.start(invocation, Input::Bytes)?;
        let mut lines = Lines::new(observer, None);
        let result = self.attend(&mut child, invocation, &mut lines);
        lines.finish();
        result.map(|()| Finished::default())
    }

    fn attach(&self, invocation: &Invocation) -> Result<Status, ExecError> {
        let failed = |source| ExecError::Start { invocation: invocation.to_string(), source };
        let program = self.locate(invocation)?;
        let handle = bare(invocation, &program).unchecked().start().map_err(failed)?;
        let pidfd = pidfd_of(&handle).map_err(failed)?;
        let mut passed_on = Vec::new();
        loop {
            for signal in self.signals.map(Signals::take).unwrap_or_default() {
                // A program that ends its whole process group sends such a signal back to us: once is enough.
                if passed_on.contains(&signal) || is_from_terminal(signal) {
                    continue;
                }
                handle.send_signal(signal).map_err(failed)?;
                if !matches!(signal, SIGUSR1 | SIGUSR2) {
                    passed_on.push(signal);
                }
            }
            let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.signals.map(|signals| PollFd::new(signals.nudge(), PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::try_from(TICK).map_err(io::Error::other).map_err(failed)?) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
            if let Some(output) = handle.try_wait().map_err(failed)? {
                return Ok(status_of(output.status));
            }
        }
    }

    fn hold(
        &self,
        invocation: &Invocation,
        ready: &str,
        observer: &mut dyn Observer,
    ) -> Result<Box<dyn Hold>, ExecError> {
        let mut child = self.start(invocation, Input::Open)?;
        let mut lines = Lines::new(observer, Some(ready));
        self.attend(&mut child, invocation, &mut lines)?;
        if lines.is_content() {
            return Ok(Box::new(Holder { child: Some(child), invocation: invocation.clone() }));
        }
        lines.finish();
        let stderr = format!("it ended without saying `{ready}`");
        Err(ExecError::Failed { invocation: invocation.to_string(), status: Status::Code(0), stderr })
    }

    fn converse(
        &self,
        invocation: &Invocation,
        heard: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<Box<dyn Hold>, ExecError> {
        let mut child = self.start(invocation, Input::Open)?;
        let mut listener = Listener { heard, content: false };
        self.attend(&mut child, invocation, &mut listener)?;
        if listener.content {
            return Ok(Box::new(Holder { child: Some(child), invocation: invocation.clone() }));
        }
        let stderr = "it ended without an answer".to_owned();
        Err(ExecError::Failed { invocation: invocation.to_string(), status: Status::Code(0), stderr })
    }
}

/// What a child reads from its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// The invocation's bytes.
    Bytes,
    /// Nothing yet; the pipe stays open until the holder closes it.
    Open,
}

/// A running child, its output pipes, and the tail of its standard error.
#[derive(Debug)]
struct Child {
    handle: duct::Handle,
    pidfd: OwnedFd,
    stdin: Option<OwnedFd>,
    stdout: Option<File>,
    stderr: Option<File>,
    tail: Vec<u8>,
}

/// Which of a child's descriptors have something to say.
#[derive(Debug, Clone, Copy)]
struct Ready {
    stdout: bool,
    stderr: bool,
    ended: bool,
}

impl Child {
    fn start(invocation: &Invocation, program: &std::path::Path, input: Input) -> io::Result<Self> {
        let (stdout, stdout_end) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_end) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdin_end, stdin) = match input {
            Input::Bytes => (in_memory(&invocation.stdin)?, None),
            Input::Open => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                // More than that might not fit into a pipe that nobody reads yet.
                if invocation.stdin.len() > PIPE_BUF {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "what it is to be told is too long"));
                }
                let mut write = File::from(write);
                write.write_all(&invocation.stdin)?;
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
    fn wait_for_output(&self, signal: Option<BorrowedFd<'_>>) -> io::Result<Ready> {
        let mut fds = vec![PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let pipes = [self.stdout.as_ref(), self.stderr.as_ref()];
        fds.extend(pipes.iter().flatten().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        fds.extend(signal.map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)));
        let timeout = PollTimeout::try_from(TICK).map_err(io::Error::other)?;
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => {
                return Ok(Ready { stdout: false, stderr: false, ended: false });
            }
            Err(error) => return Err(error.into()),
        }
        let mut states = fds.iter().map(|fd| fd.any().unwrap_or(false));
        let ended = states.next().unwrap_or(false);
        let stdout = self.stdout.is_some() && states.next().unwrap_or(false);
        let stderr = self.stderr.is_some() && states.next().unwrap_or(false);
        Ok(Ready { stdout, stderr, ended })
    }

    /// Reads once from each pipe that is ready, and tells how much; a pipe at its end is closed.
    fn read(&mut self, ready: Ready, sink: &mut dyn Sink) -> io::Result<usize> {
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
    fn drain(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
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

    /// The ended child's status as a result.
    fn conclude(&self, invocation: &Invocation) -> Result<(), ExecError> {
        let text = || invocation.to_string();
        let output = self.handle.wait().map_err(|source| ExecError::Start { invocation: text(), source })?;
        let status = status_of(output.status);
        if status == Status::Code(0) {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&self.tail).trim().to_owned();
        Err(ExecError::Failed { invocation: text(), status, stderr })
    }
}

/// A [`Hold`] on a real child.
#[derive(Debug)]
struct Holder {
    child: Option<Child>,
    invocation: Invocation,
}

impl Hold for Holder {
    fn pid(&self) -> Option<u32> {
        self.child.as_ref()?.handle.pids().first().copied()
    }

    fn is_alive(&mut self) -> bool {
        self.child.as_ref().is_some_and(|child| matches!(child.handle.try_wait(), Ok(None)))
    }

    fn let_go(&mut self) {
        if let Some(child) = &mut self.child {
            child.stdin = None;
        }
    }

    fn release(&mut self) -> Result<(), ExecError> {
        self.let_go();
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let limit = self.invocation.limit.map_or(RELEASE_LIMIT, |limit| limit.min(RELEASE_LIMIT));
        let invocation = self.invocation.clone().shielded().limit(limit);
        System::default().attend(&mut child, &invocation, &mut Capture(&mut Vec::new()))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            log::error!("{}", crate::error::Chain(&error));
        }
    }
}

/// Takes a child's output.
trait Sink {
    fn out(&mut self, bytes: &[u8]);
    fn err(&mut self, bytes: &[u8]);
    fn tick(&mut self) -> Result<(), String>;
    /// Whether what the sink waits for has come, so that the child may be left running.
    fn is_content(&self) -> bool;
}

/// Keeps standard output whole, up to a limit that nothing reaches which is meant to be captured.
struct Capture<'a>(&'a mut Vec<u8>);

impl Sink for Capture<'_> {
    fn out(&mut self, bytes: &[u8]) {
        let room = MOST_OUTPUT.saturating_sub(self.0.len());
        self.0.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
    fn err(&mut self, _bytes: &[u8]) {}
    fn tick(&mut self) -> Result<(), String> {
        if self.0.len() < MOST_OUTPUT { Ok(()) } else { Err("it writes without an end".to_owned()) }
    }
    fn is_content(&self) -> bool {
        false
    }
}

/// Shows standard output to somebody who says when they have heard enough.
struct Listener<'a> {
    heard: &'a mut dyn FnMut(&[u8]) -> bool,
    content: bool,
}

impl Sink for Listener<'_> {
    fn out(&mut self, bytes: &[u8]) {
        self.content = self.content || (self.heard)(bytes);
    }
    fn err(&mut self, _bytes: &[u8]) {}
    fn tick(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn is_content(&self) -> bool {
        self.content
    }
}

/// Cuts output into lines for an observer, and looks for the line `ready`.
struct Lines<'a> {
    observer: &'a mut dyn Observer,
    ready: Option<&'a str>,
    seen: bool,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn new(observer: &'a mut dyn Observer, ready: Option<&'a str>) -> Self {
        Self { observer, ready, seen: false, out: Vec::new(), err: Vec::new() }
    }

    fn out_line(&mut self, line: &str) {
        if self.ready == Some(line) {
            self.seen = true;
        } else {
            self.observer.out(line);
        }
    }

    /// Hands over what came after the last line end.
    fn finish(&mut self) {
        self.out(b"\n");
        self.err(b"\n");
    }
}

impl Sink for Lines<'_> {
    fn out(&mut self, bytes: &[u8]) {
        for line in cut(&mut self.out, bytes) {
            self.out_line(&line);
        }
    }

    fn err(&mut self, bytes: &[u8]) {
        for line in cut(&mut self.err, bytes) {
            self.observer.err(&line);
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        self.observer.tick()
    }

    fn is_content(&self) -> bool {
        self.seen
    }
}

/// Adds `bytes` to `rest` and takes the complete, non-empty lines out of it; of a line without an end, pieces.
fn cut(rest: &mut Vec<u8>, bytes: &[u8]) -> Vec<String> {
    // Only what is new is searched: what is left of earlier has no line end.
    let end = bytes.iter().rposition(|byte| matches!(byte, b'\n' | b'\r'));
    let end = end.map(|end| rest.len() + end + 1);
    rest.extend_from_slice(bytes);
    let end = end.or_else(|| (rest.len() > LONGEST_LINE).then_some(rest.len()));
    let whole: Vec<u8> = rest.drain(..end.unwrap_or(0)).collect();
    whole
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .filter(|line| !line.is_empty())
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect()
}

/// Becomes the program; returns only if that fails.
pub(super) fn replace(invocation: &Invocation) -> ExecError {
    let Some(program) = find(&invocation.program) else {
        return ExecError::Missing { program: invocation.program.display().to_string() };
    };
    #[expect(clippy::disallowed_methods, reason = "the one place that starts programs")]
    let mut command = std::process::Command::new(program);
    if invocation.only_env.is_some() {
        command.env_clear();
    }
    let source = command.arg0(&invocation.program).args(&invocation.args).envs(variables(invocation)).exec();
    ExecError::Start { invocation: invocation.to_string(), source }
}

/// Whether a terminal has sent `signal` to all processes in its foreground, and so to the child as well.
fn is_from_terminal(signal: i32) -> bool {
    let in_foreground = || {
        let terminal = File::open("/dev/tty")?;
        Ok::<_, io::Error>(rustix::termios::tcgetpgrp(terminal)? == rustix::process::getpgrp())
    };
    // Without a terminal there is nothing to open.
    matches!(signal, SIGINT | SIGQUIT) && in_foreground().unwrap_or(false)
}

/// The program with its arguments and variables, and nothing else changed.
fn bare(invocation: &Invocation, program: &std::path::Path) -> duct::Expression {
    with_variables(program_of(invocation, program, "TERM"), invocation)
}

/// The variables that are set for the call, those kept of this process's first.
fn variables(invocation: &Invocation) -> Vec<(OsString, OsString)> {
    let kept = invocation.only_env.unwrap_or_default().iter();
    let kept = kept.filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    kept.chain(invocation.env.iter().cloned()).collect()
}

fn with_variables(expression: duct::Expression, invocation: &Invocation) -> duct::Expression {
    let variables = variables(invocation);
    if invocation.only_env.is_some() {
        return expression.full_env(variables);
    }
    variables.into_iter().fold(expression, |expression, (name, value)| expression.env(name, value))
}

/// A descriptor that becomes readable when the child ends.
fn pidfd_of(handle: &duct::Handle) -> io::Result<OwnedFd> {
    let pid = handle.pids().first().and_then(|pid| i32::try_from(*pid).ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the child has no process id"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn status_of(status: std::process::ExitStatus) -> Status {
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Code(code),
        (None, signal) => Status::Signal(signal.unwrap_or_default()),
    }
}

/// The program with its arguments; a bound one gets `signal` when this process dies.
fn program_of(invocation: &Invocation, program: &std::path::Path, signal: &str) -> duct::Expression {
    // A program in front binds itself: it may have to become another user first, with which the kernel forgets it.
    let bound = invocation.bound && invocation.through.is_empty();
    let setpriv = bound.then(|| find("setpriv".as_ref())).flatten();
    let mut line: Vec<OsString> = Vec::new();
    if let Some(setpriv) = setpriv {
        line.extend([setpriv.into(), "--pdeathsig".into(), signal.into(), "--".into()]);
    }
    if !invocation.through.is_empty() {
        line.extend(invocation.through.iter().cloned().chain(["--".into()]));
    }
    line.push(program.into());
    line.extend(invocation.args.iter().cloned());
    let first = line.remove(0);
    #[expect(clippy::disallowed_methods, reason = "the one place that starts programs")]
    duct::cmd(first, line)
}

/// The call as duct takes it.
fn expression(invocation: &Invocation, program: &std::path::Path) -> duct::Expression {
    let expression = program_of(invocation, program, "KILL");
    let expression = with_variables(expression.env("LC_ALL", "C.UTF-8"), invocation);
    if invocation.own_group {
        expression.before_spawn(|command| {
            command.process_group(0);
            Ok(())
        })
    } else {
        expression
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what it sees; ends the program when told to.
    #[derive(Default)]
    struct Notes {
        out: Vec<String>,
        err: Vec<String>,
        stop: Option<&'static str>,
    }

    impl Observer for Notes {
        fn out(&mut self, line: &str) {
            self.out.push(line.to_owned());
        }
        fn err(&mut self, line: &str) {
            self.err.push(line.to_owned());
        }
        fn tick(&mut self) -> Result<(), String> {
            self.stop.map_or(Ok(()), |reason| Err(reason.to_owned()))
        }
    }

    fn sh(script: &str) -> Invocation {
        Invocation::new("sh").args(["-c", script])
    }

    #[test]
    fn a_call_gets_its_input_and_gives_its_output() {
        let call = sh("cat; echo $LC_ALL$MORE").stdin(b"hello ".to_vec()).env("MORE", "!");
        assert_eq!(System::default().run(&call).unwrap().text(), "hello C.UTF-8!");
    }

    #[test]
    fn a_failure_tells_call_status_and_the_end_of_stderr() {
        let error = System::default().run(&sh("seq 1000 >&2; echo no >&2; exit 5")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sh -c 'seq 1000 >&2; echo no >&2; exit 5'` failed with exit code 5: 998 | 999 | 1000 | no"
        );
        let error = System::default().run(&sh("kill -9 $$")).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'kill -9 $$'` was killed by signal 9");
    }

    #[test]
    fn a_call_goes_through_another_program_and_messages_do_not_show_it() {
        let through = ["sh", "-c", "shift; echo through; exec \"$@\"", "sh"];
        let call = sh("echo $PATH$HOME; exit 3").through(through);
        assert_eq!(call.to_string(), "sh -c 'echo $PATH$HOME; exit 3'");
        let call = sh("echo $MORE${HOME-none}$LC_ALL").through(through).only_env(&["PATH"]).env("MORE", "more ");
        assert_eq!(System::default().run(&call).unwrap().text(), "through\nmore noneC.UTF-8");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = System::default().run(&Invocation::new("no-such-program")).unwrap_err();
        assert_eq!(error.to_string(), "cannot find the program no-such-program; install it");
        let error = super::super::require(&["sh", "no-such", "nor-this"]).unwrap_err();
        assert_eq!(error.to_string(), "cannot find the programs no-such, nor-this; install them");
    }

    #[test]
    fn a_streamed_call_shows_lines_as_they_come() {
        let mut notes = Notes::default();
        System::default().stream(&sh(r"printf 'a\rb\n'; echo oops >&2; printf rest"), &mut notes).unwrap();
        assert_eq!(notes.out, ["a", "b", "rest"]);
        assert_eq!(notes.err, ["oops"]);
    }

    #[test]
    fn an_observer_can_end_the_program() {
        let mut notes = Notes { stop: Some("the lock is lost"), ..Notes::default() };
        let error = System::default().stream(&sh("exec sleep 60"), &mut notes).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exec sleep 60'` was ended: the lock is lost");
    }

    #[test]
    fn a_limit_ends_the_program() {
        let error = System::default().run(&sh("exec sleep 60").limit(Duration::from_millis(10))).unwrap_err();
        assert!(matches!(error, ExecError::TimedOut { .. }), "{error}");
    }

    #[test]
    fn what_does_nothing_is_ended_and_what_gets_on_is_not() {
        let stopped = sh("kill -STOP $$").while_it_gets_on(Duration::from_millis(300)).own_group();
        let error = System::default().run(&stopped).unwrap_err();
        assert!(matches!(error, ExecError::Stalled { .. }), "{error}");
        let talks = sh("for i in 1 2 3 4 5 6; do sleep 0.2; echo; done").while_it_gets_on(Duration::from_millis(900));
        System::default().run(&talks).unwrap();
    }

    #[test]
    fn a_line_without_an_end_comes_in_pieces_and_costs_no_more_than_its_bytes() {
        let mut notes = Notes::default();
        let began = Instant::now();
        System::default().stream(&sh("head -c 30000000 /dev/zero | tr '\\0' x >&2"), &mut notes).unwrap();
        assert_eq!(notes.err.iter().map(String::len).sum::<usize>(), 30_000_000);
        assert!(notes.err.iter().all(|piece| piece.len() <= 2 * LONGEST_LINE));
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }

    #[test]
    fn output_without_an_end_is_neither_kept_nor_waited_for() {
        let error = System::default().run(&sh("exec cat /dev/zero")).unwrap_err();
        assert!(error.to_string().ends_with("was ended: it writes without an end"), "{error}");
        // Nor is that of a process that the program leaves behind, and that goes on writing.
        System::default().run(&sh("(timeout 20 yes || :) & sleep 0.1; exit 0")).unwrap();
    }

    #[test]
    fn a_background_process_does_not_hold_up_the_end() {
        let began = Instant::now();
        System::default().run(&sh("sleep 30 & exit 0")).unwrap();
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn an_attached_program_keeps_its_own_status() {
        assert_eq!(System::default().attach(&sh("exit 75")).unwrap().shell_code(), 75);
        assert_eq!(System::default().attach(&sh("kill -9 $$")).unwrap().shell_code(), 137);
        assert!(matches!(System::default().attach(&Invocation::new("no-such")), Err(ExecError::Missing { .. })));
    }

    #[test]
    fn a_holder_holds_until_it_is_released() {
        let mut notes = Notes::default();
        let call = sh("echo first; echo locked; cat; echo gone >&2; exit 0");
        let mut holder = System::default().hold(&call, "locked", &mut notes).unwrap();
        assert!(holder.is_alive());
        holder.release().unwrap();
        assert_eq!(notes.out, ["first"]);
    }

    #[test]
    fn a_holder_that_never_gets_ready_is_an_error() {
        let error = System::default().hold(&sh("echo no >&2; exit 2"), "locked", &mut Notes::default()).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'echo no >&2; exit 2'` failed with exit code 2: no");
        let error = System::default().hold(&sh("exit 0"), "locked", &mut Notes::default()).unwrap_err();
        assert!(error.to_string().contains("without saying `locked`"), "{error}");
    }

    #[test]
    fn a_holder_that_dies_is_noticed() {
        let mut holder =
            System::default().hold(&sh("echo locked; exec sleep 0.01"), "locked", &mut Notes::default()).unwrap();
        let limit = Instant::now() + Duration::from_secs(20);
        while holder.is_alive() {
            assert!(Instant::now() < limit, "the holder's death was not noticed");
            std::thread::yield_now();
        }
    }
}
