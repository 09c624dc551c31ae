//! What cannot leave through a unit's confinement is given on by the unit's last step, which is root's and has none.
//!
//! The `sendmail` of dma, nullmailer and postfix becomes another user or group, which no program can in a unit that gains no
//! privileges. So it is called once more here, as the spool's owner, who is nobody in particular, and for what a unit could not send.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use phobos_site::mail::{Settings, Transport};

use crate::deliver::{self, Outcome};
use crate::letter::Letter;
use crate::spool::Spool;
use crate::transport::Deadline;

/// How long it may take to give everything on.
const LIMIT: Duration = Duration::from_secs(40);

/// How long what `sendmail` has left at work may go on: systemd ends all that is left of the unit.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// How often it is looked for.
const PAUSE: Duration = Duration::from_millis(50);

/// The units' spool, and whose it is; `None` where there is nobody to be, or `sendmail` is no way out.
fn spool(folders: &[PathBuf], settings: &Settings) -> Result<Option<(Spool, (u32, u32))>> {
    if !rustix::process::geteuid().is_root() || matches!(settings.transport, Transport::Smtp(_)) {
        return Ok(None);
    }
    let spool = folders.first().map(|folder| Spool::find(folder)).transpose()?.flatten();
    Ok(spool.and_then(|spool| spool.owner().map(|owner| (spool, owner))))
}

/// Gives on what waits in the units' spool and is due; `None` if this is no way.
///
/// # Errors
///
/// When the spool cannot be read.
pub(crate) fn waiting(folders: &[PathBuf], settings: &Settings) -> Result<Option<Outcome>> {
    let Some((spool, owner)) = spool(folders, settings)? else { return Ok(None) };
    if spool.list()?.is_empty() {
        return Ok(None);
    }
    looking_after(|| deliver::by_sendmail(vec![spool], Vec::new(), settings.clone(), Deadline::after(LIMIT), owner))
        .map(Some)
}

/// Sends a test in the same way; `None` if this is none.
///
/// # Errors
///
/// When the spool cannot be read.
pub(crate) fn test(letter: Letter, folders: &[PathBuf], settings: &Settings) -> Result<Option<Outcome>> {
    let Some((_, owner)) = spool(folders, settings)? else { return Ok(None) };
    let own = vec![deliver::Own::Test(letter)];
    looking_after(|| deliver::by_sendmail(Vec::new(), own, settings.clone(), Deadline::after(LIMIT), owner)).map(Some)
}

/// Does `work`, and waits for what it has left running: dma delivers when its `sendmail` has ended.
fn looking_after<T>(work: impl FnOnce() -> T) -> Result<T> {
    set_child_subreaper(true).context("cannot look after what sendmail starts")?;
    let result = work();
    let began = Instant::now();
    while began.elapsed() < AFTERWARDS {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(PAUSE),
            Ok(_) | Err(Errno::EINTR) => {}
            // There is none, or nobody knows.
            Err(_) => break,
        }
    }
    Ok(result)
}
