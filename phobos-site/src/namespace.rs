//! The namespace of this machine's backups.

use std::path::Path;
use std::time::Duration;

use phobos_core::exec::Exec;
use phobos_core::namespace::{self, Entered, NamespaceError, Plan};

use crate::config::Backup;
use crate::lock::{Lock, LockError, LockName, Locks, Mode, Patience};
use crate::paths;

/// How long to wait for another job that makes or removes the namespace.
pub const WAIT: Duration = Duration::from_secs(120);

/// The namespace that the configuration wants.
pub fn plan(backup: &Backup) -> Plan<'_> {
    Plan { file: &backup.namespace, target: &backup.mount, fstab: Path::new(paths::FSTAB) }
}

/// Brings this process into the namespace, on behalf of `job`; see [`namespace::enter`].
///
/// # Errors
///
/// As for [`namespace::enter`].
pub fn enter(
    exec: &dyn Exec,
    backup: &Backup,
    locks: &Locks,
    job: &str,
    patience: &mut Patience<'_>,
) -> Result<Entered, NamespaceError> {
    namespace::enter(exec, plan(backup), || turn(locks, job, patience))
}

/// Brings this process to the backups, on behalf of `job`, in a mount namespace of its own if it has one; see
/// [`namespace::bring`].
///
/// # Errors
///
/// As for [`namespace::bring`].
pub fn bring(
    exec: &dyn Exec,
    backup: &Backup,
    locks: &Locks,
    job: &str,
    patience: &mut Patience<'_>,
) -> Result<Entered, NamespaceError> {
    namespace::bring(exec, plan(backup), || turn(locks, job, patience))
}

/// Keeps other jobs from making or removing the namespace.
fn turn(locks: &Locks, job: &str, patience: &mut Patience<'_>) -> Result<Lock, LockError> {
    locks.take(&LockName::Namespace, Mode::Exclusive, job, None, patience)
}

/// How somebody outside calls Borg on a repository that this process sees: one in the namespace is not there outside.
pub fn borg_from_outside() -> &'static str {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt"));
    match (namespace("self"), namespace("1")) {
        (Ok(own), Ok(first)) if own != first => "phobos-ns exec -- borg",
        _ => "borg",
    }
}
