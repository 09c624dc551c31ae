//! Runs calls for real: duct starts the child, one poll loop watches it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use duct::unix::HandleExt;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use super::activity::Activity;
use super::child::{Child, Input, TICK, pidfd_of, status_of};
use super::command::bare;
use super::sink::{Capture, Lines, Listener, Sink};
use super::{Conversation, Exec, ExecError, Finished, Hold, Invocation, Lifetime, Observer, Status, find};
use crate::signal::Signals;

/// How long a program that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(20);

/// How long a program that was killed may take to be gone: one that the kernel cannot end, because a device does not answer,
/// must not keep this process as well.
const KILL_GRACE: Duration = Duration::from_secs(40);

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
        if invocation.lifetime == Lifetime::Shielded { None } else { self.signals.and_then(Signals::caught) }
    }

    /// Starts `invocation`, unless this process has been asked to end.
    fn start(&self, invocation: &Invocation, input: Input) -> Result<Child, ExecError> {
        let program = self.locate(invocation)?;
        Child::start(invocation, &program, input)
            .map_err(|source| ExecError::Start { invocation: invocation.call(), source })
    }

    /// Finds the program, unless this process has been asked to end.
    fn locate(&self, invocation: &Invocation) -> Result<PathBuf, ExecError> {
        match self.ending(invocation) {
            Some(signal) => Err(ExecError::Interrupted { invocation: invocation.call(), signal }),
            None => find(&invocation.program)
                .ok_or_else(|| ExecError::Missing { program: invocation.program.display().to_string() }),
        }
    }

    /// Feeds the child's output to `sink` until the child has ended, or until `sink` has seen what it waits for.
    fn attend(&self, child: &mut Child, invocation: &Invocation, sink: &mut dyn Sink) -> Result<(), ExecError> {
        let failed = |source| ExecError::Start { invocation: invocation.call(), source };
        let began = Instant::now();
        let mut last_tick = began;
        let mut verdict: Option<ExecError> = None;
        let mut asked: Option<Instant> = None;
        let mut activity = Activity::of(child.handle.pids().first().copied().unwrap_or_default());
        loop {
            let signal_pipe = if self.ending(invocation).is_some() || invocation.lifetime == Lifetime::Shielded {
                None
            } else {
                self.signals
            };
            let ready = child.wait_for_output(signal_pipe.map(Signals::wake)).map_err(failed)?;
            if child.read(ready, sink).map_err(failed)? > 0 {
                activity.note();
            }
            if ready.ended {
                child.drain(sink).map_err(failed)?;
                if invocation.to_the_last && !child.outlive(sink, GRACE).map_err(failed)? {
                    log::warn!("`{invocation}` has ended, but a process of it has not; it is left behind");
                }
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
        let text = || invocation.call();
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

    fn pour(&self, invocation: &Invocation, heard: &mut dyn FnMut(&[u8])) -> Result<(), ExecError> {
        let mut child = self.start(invocation, Input::Bytes)?;
        let mut never = |bytes: &[u8]| {
            heard(bytes);
            false
        };
        self.attend(&mut child, invocation, &mut Listener { heard: &mut never, content: false })
    }

    fn attach(&self, invocation: &Invocation) -> Result<Status, ExecError> {
        let failed = |source| ExecError::Start { invocation: invocation.call(), source };
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
        Err(ExecError::Failed { invocation: invocation.call(), status: Status::Code(0), stderr })
    }

    fn converse(&self, invocation: &Invocation) -> Result<Box<dyn Conversation + '_>, ExecError> {
        let child = self.start(invocation, Input::Open)?;
        let holder = Holder { child: Some(child), invocation: invocation.clone() };
        Ok(Box::new(Talk { system: self, holder }))
    }
}

/// A [`Conversation`] with a real child.
#[derive(Debug)]
struct Talk<'s> {
    system: &'s System<'s>,
    holder: Holder,
}

impl Conversation for Talk<'_> {
    fn listen(self: Box<Self>, heard: &mut dyn FnMut(&[u8]) -> bool) -> Result<Box<dyn Hold>, ExecError> {
        let Self { system, mut holder } = *self;
        let mut listener = Listener { heard, content: false };
        if let Some(mut child) = holder.child.take() {
            system.attend(&mut child, &holder.invocation, &mut listener)?;
            holder.child = Some(child).filter(|_| listener.content);
        }
        if listener.content {
            return Ok(Box::new(holder));
        }
        let stderr = "it ended without an answer".to_owned();
        Err(ExecError::Failed { invocation: holder.invocation.call(), status: Status::Code(0), stderr })
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

/// Whether a terminal has sent `signal` to all processes in its foreground, and so to the child as well.
fn is_from_terminal(signal: i32) -> bool {
    let in_foreground = || {
        let terminal = File::open("/dev/tty")?;
        Ok::<_, io::Error>(rustix::termios::tcgetpgrp(terminal)? == rustix::process::getpgrp())
    };
    // Without a terminal there is nothing to open.
    matches!(signal, SIGINT | SIGQUIT) && in_foreground().unwrap_or(false)
}

#[cfg(test)]
mod tests;
