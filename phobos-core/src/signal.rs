//! Signals that ask the process to end: caught once, seen by the work, unseen by the clean-up.
//!
//! There is no signal thread: `setns(2)` into a mount namespace fails once a second thread runs. The handler sets a flag
//! and writes to a pipe, and [`crate::exec`] polls that pipe while it waits for a program.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::libc::SIGXFSZ;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/// The signals that ask a job to end in an orderly way.
const ENDING: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];

/// Signals that are passed on to the child, and not acted on here.
const MORE: [i32; 3] = [SIGQUIT, SIGUSR1, SIGUSR2];

/// Whether, and by which signal, the process was asked to end.
#[derive(Debug)]
pub struct Signals {
    caught: Arc<AtomicUsize>,
    wake: OwnedFd,
    unseen: Vec<(i32, Arc<AtomicBool>)>,
    nudge: OwnedFd,
}

/// Lets this process outlive a limit on the size of files (`ulimit -f`, `LimitFSIZE=`): what cannot be written is an error then,
/// like that of a full disk, and no signal that ends the process before it has told anybody. Programs that it starts get the
/// signal as ever.
///
/// # Errors
///
/// When the signal cannot be caught.
pub fn outlive_file_limit() -> io::Result<()> {
    if ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default()) & (1 << (SIGXFSZ - 1)) == 0 {
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    }
    Ok(())
}

impl Signals {
    /// Catches SIGTERM, SIGINT and SIGHUP from here on; the process no longer ends by them. One that the parent had this
    /// process ignore, as nohup(1) does, stays ignored.
    ///
    /// # Errors
    ///
    /// When the pipe or a handler cannot be made; signals caught up to then stay caught.
    pub fn catch() -> io::Result<Self> {
        Self::catch_these(&ENDING)
    }

    /// Catches SIGQUIT, SIGUSR1 and SIGUSR2 as well, which do not ask this process to end, but may be passed on.
    ///
    /// # Errors
    ///
    /// As for [`Signals::catch`].
    pub fn catch_to_pass_on() -> io::Result<Self> {
        Self::catch_these(&[ENDING, MORE].concat())
    }

    fn catch_these(signals: &[i32]) -> io::Result<Self> {
        let caught = Arc::new(AtomicUsize::new(0));
        let (wake, write_wake) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (nudge, write_nudge) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let ignored = ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default());
        let mut unseen = Vec::new();
        for signal in signals.iter().copied().filter(|signal| ignored & (1 << (signal - 1)) == 0) {
            if ENDING.contains(&signal) {
                let value = usize::try_from(signal).unwrap_or(usize::MAX);
                signal_hook::flag::register_usize(signal, Arc::clone(&caught), value)?;
                signal_hook::low_level::pipe::register(signal, write_wake.try_clone()?)?;
            }
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(signal, write_nudge.try_clone()?)?;
            unseen.push((signal, flag));
        }
        Ok(Self { caught, wake, unseen, nudge })
    }

    /// The last signal caught that asks this process to end, if any.
    pub fn caught(&self) -> Option<i32> {
        match self.caught.load(Ordering::SeqCst) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }

    /// Waits until a signal is caught that asks this process to end, or until `limit` is over; which one it was.
    ///
    /// # Errors
    ///
    /// When the kernel does not let it wait.
    pub fn wait(&self, limit: Duration) -> io::Result<Option<i32>> {
        let until = Instant::now().checked_add(limit);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if self.caught().is_some() || left.is_some_and(|left| left.is_zero()) {
                return Ok(self.caught());
            }
            let left = left.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.wake, PollFlags::IN)], left.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Becomes readable when a signal is caught that asks this process to end, and stays so.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The signals caught since the last call.
    pub fn take(&self) -> Vec<i32> {
        // Emptied first: a signal that comes meanwhile is seen now or wakes the next poll.
        let mut bytes = [0; 64];
        while matches!(rustix::io::read(&self.nudge, &mut bytes), Ok(1..)) {}
        self.unseen.iter().filter(|(_, flag)| flag.swap(false, Ordering::SeqCst)).map(|(signal, _)| *signal).collect()
    }

    /// Is readable while there are signals to [`take`](Self::take).
    pub fn nudge(&self) -> BorrowedFd<'_> {
        self.nudge.as_fd()
    }
}

/// The signals that a process ignores, by the text of its `/proc/PID/status`: signal N is bit N - 1.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_status() {
        let hup_and_pipe = ignored("Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n");
        assert_eq!(hup_and_pipe, 1 << (SIGHUP - 1) | 1 << 12);
        assert_eq!(ignored("Name:\tx\n"), 0);
    }
}
