//! Work that is given up after a limit, whatever it does.

use std::sync::mpsc;
use std::time::Duration;

/// Runs `work` on a thread of its own; `None` if it takes longer than `limit`. It is then left to itself, and ends with
/// the process.
pub(crate) fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (send, receive) = mpsc::channel();
    let thread = std::thread::Builder::new().spawn(move || {
        if send.send(work()).is_err() {
            log::debug!("nobody waits for this any more");
        }
    });
    if let Err(error) = thread {
        log::error!("cannot start a thread: {error}");
        return None;
    }
    receive.recv_timeout(limit).ok()
}
