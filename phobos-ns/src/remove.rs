//! Unmounts the backups and takes the namespace away.

use std::time::Instant;

use anyhow::Context;
use phobos_core::exec::System;
use phobos_core::namespace;
use phobos_core::signal::Signals;
use phobos_site::config::Config;
use phobos_site::lock::{LockName, Locks, Mode, Patience};
use phobos_site::namespace::{WAIT, plan};

pub(crate) fn run(config: &Config, locks: &Locks) -> Result<(), anyhow::Error> {
    let signals = Signals::catch().context("cannot catch signals")?;
    let mut patience = Patience::until(Instant::now() + WAIT)
        .on_wait(|whom| log::info!("waiting for {whom}"))
        .interrupted_by(|| signals.caught());
    let _lock = locks.take(&LockName::Namespace, Mode::Exclusive, "phobos-ns remove", None, &mut patience)?;
    if namespace::remove(&System::new(&signals), plan(&config.backup))? {
        log::info!("removed the namespace {}", config.backup.namespace.display());
    } else {
        log::info!("there is no namespace {}", config.backup.namespace.display());
    }
    Ok(())
}
