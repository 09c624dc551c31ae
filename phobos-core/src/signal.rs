//! Signals that ask the process to end: caught once, seen by the work, unseen by the clean-up.
//!
//! There is no signal thread: `setns(2)` into a mount namespace fails once a second thread runs. The handler sets a flag
//! and writes to a pipe, and [`crate::exec`] polls that pipe while it waits for a program.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The signals that ask a job to end in an orderly way.
const ENDING: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];

/// Whether, and by which signal, the process was asked to end.
#[derive(Debug)]
pub struct Signals {
    caught: Arc<AtomicUsize>,
    wake: OwnedFd,
}

impl Signals {
    /// Catches SIGTERM, SIGINT and SIGHUP from here on; the process no longer ends by them.
    ///
    /// # Errors
    ///
    /// When the pipe or a handler cannot be made; signals caught up to then stay caught.
    pub fn catch() -> io::Result<Self> {
        let caught = Arc::new(AtomicUsize::new(0));
        let (wake, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        for signal in ENDING {
            let value = usize::try_from(signal).unwrap_or(usize::MAX);
            signal_hook::flag::register_usize(signal, Arc::clone(&caught), value)?;
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Self { caught, wake })
    }

    /// The last signal caught, if any.
    pub fn caught(&self) -> Option<i32> {
        match self.caught.load(Ordering::SeqCst) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }

    /// Becomes readable when a signal is caught, and stays so.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
