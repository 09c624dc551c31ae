//! What a killed pull leaves behind: a half of rsync that goes on writing what it has already got.

use std::fs;
use std::io;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::AsFd;

/// How long a process that was killed may take to end, in milliseconds.
const LIMIT: u16 = 60_000;

/// Ends all processes that work in `space`; the caller holds its lock, so none of them is a pull's.
///
/// # Errors
///
/// When one cannot be ended.
pub(crate) fn end(space: &Path) -> io::Result<()> {
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else { continue };
        // The descriptor names this process and no later one with its number.
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => continue,
            Err(error) => return Err(error.into()),
        };
        if !fs::read_link(Path::new("/proc").join(&name).join("cwd")).is_ok_and(|folder| folder.starts_with(space)) {
            continue;
        }
        if !is_pull(&name) {
            continue;
        }
        log::warn!("ending the process {} that an earlier pull has left in {}", pid, space.display());
        match pidfd_send_signal(&process, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        // It is readable when the process has ended; a disk that does not answer holds up even a process that was killed.
        if poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], LIMIT)? == 0 {
            return Err(io::Error::other(format!("the process {pid} does not end although it was killed")));
        }
    }
    Ok(())
}

/// Whether the process is of a kind that a pull starts: an administrator's shell may stay where it is.
fn is_pull(pid: &std::ffi::OsStr) -> bool {
    let name = fs::read_to_string(Path::new("/proc").join(pid).join("comm")).unwrap_or_default();
    matches!(name.trim_end(), "rsync" | "ssh" | "phobos-pull" | "setpriv")
}
