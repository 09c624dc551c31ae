//! What phobos-ext can be told to do: a module for each word, with the sequence of its steps, and what several of them begin with.

use std::time::Instant;

use phobos_core::exec::System;
use phobos_core::signal::Signals;
use phobos_site::config::Config;
use phobos_site::drives::Target;
use phobos_site::lock::{Lock, LockName, Locks, Mode, Patience};
use phobos_site::namespace;

pub(crate) mod adopt;
mod at_drive;
pub(crate) mod close;
pub(crate) mod confined;
pub(crate) mod drill;
pub(crate) mod drives;
mod enrol;
pub(crate) mod hold;
pub(crate) mod mirror;
pub(crate) mod open;
pub(crate) mod prepare;
pub(crate) mod recovery_sheet;
pub(crate) mod verify;

/// Has the drive `target`, and the place where drives are mounted, for `holder` alone, and enters the namespace.
///
/// # Errors
///
/// When a run uses one of them, which is not waited for, or when there is no namespace.
fn alone(
    system: &System<'_>,
    signals: &Signals,
    config: &Config,
    locks: &Locks,
    target: &Target,
    holder: &str,
) -> Result<[Lock; 2], anyhow::Error> {
    let take = |name: &LockName| {
        let mut patience = Patience::none().interrupted_by(|| signals.caught());
        locks.take(name, Mode::Exclusive, holder, None, &mut patience)
    };
    // All drives are mounted at one place, and who mirrors to another one has this lock.
    let taken = [take(&target.lock_name())?, take(&LockName::Repository)?];
    let mut patience = Patience::until(Instant::now() + namespace::WAIT).interrupted_by(|| signals.caught());
    namespace::enter(system, &config.backup, locks, holder, &mut patience)?;
    Ok(taken)
}
