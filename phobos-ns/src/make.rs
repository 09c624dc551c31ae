//! Makes the namespace if it is not there: the drop-in for `mkbackupns`.

use std::time::Instant;

use anyhow::Context;
use phobos_core::config::Config;
use phobos_core::exec::{self, System};
use phobos_core::lock::Patience;
use phobos_core::namespace::{self, Entered};
use phobos_core::signal::Signals;

use crate::{NAMESPACE_WAIT, locks, plan};

pub(crate) fn run(config: &Config) -> Result<(), anyhow::Error> {
    let signals = Signals::catch().context("cannot catch signals")?;
    enter(config, &System::new(&signals), &signals)
}

/// Makes the namespace if it is not there, and enters it.
pub(crate) fn enter(config: &Config, system: &System<'_>, signals: &Signals) -> Result<(), anyhow::Error> {
    exec::require(&["mount"])?;
    let mut patience = Patience {
        deadline: Instant::now() + NAMESPACE_WAIT,
        on_wait: &mut |whom| log::info!("waiting for {whom}"),
        interrupted: &|| signals.caught(),
    };
    match namespace::enter(system, plan(config), &locks(), "phobos-ns", &mut patience)? {
        Entered::Made => log::info!("made the namespace {}", config.backup.namespace.display()),
        Entered::Found | Entered::Inside => {}
    }
    Ok(())
}
