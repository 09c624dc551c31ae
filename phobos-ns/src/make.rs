//! Makes the namespace if it is not there: the drop-in for `mkbackupns`.

use std::time::Instant;

use anyhow::Context;
use phobos_core::exec::{Exec, System};
use phobos_core::namespace::{Entered, NamespaceError};
use phobos_core::signal::Signals;
use phobos_site::config::Config;
use phobos_site::lock::{Locks, Patience};
use phobos_site::namespace;

pub(crate) fn run(config: &Config, locks: &Locks) -> Result<(), anyhow::Error> {
    let signals = Signals::catch().context("cannot catch signals")?;
    with(config, Some(&signals), |exec, patience| namespace::enter(exec, &config.backup, locks, "phobos-ns", patience))
}

/// Makes the namespace if it is not there, and enters it, or has the backup file system in a namespace of its own. Without
/// `signals` a signal ends this process, which leaves nothing half made either.
pub(crate) fn bring(config: &Config, locks: &Locks, signals: Option<&Signals>) -> Result<(), anyhow::Error> {
    with(config, signals, |exec, patience| namespace::bring(exec, &config.backup, locks, "phobos-ns", patience))
}

fn with(
    config: &Config,
    signals: Option<&Signals>,
    enter: impl FnOnce(&dyn Exec, &mut Patience<'_>) -> Result<Entered, NamespaceError>,
) -> Result<(), anyhow::Error> {
    let system = signals.map_or_else(System::default, System::new);
    let mut patience = Patience::until(Instant::now() + namespace::WAIT)
        .on_wait(|whom| log::info!("waiting for {whom}"))
        .interrupted_by(|| signals.and_then(Signals::caught));
    match enter(&system, &mut patience)? {
        Entered::Made => log::info!("made the namespace {}", config.backup.namespace.display()),
        Entered::Found | Entered::Inside | Entered::Carried => {}
    }
    Ok(())
}
