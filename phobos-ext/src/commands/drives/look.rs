//! What the drives that are plugged in say of themselves: each is opened to be looked at, and closed again.

use anyhow::Context;
use chrono::Utc;
use phobos_core::exec::System;
use phobos_core::mount::Access;
use phobos_core::signal::Signals;
use phobos_site::config::Config;
use phobos_site::drives::Target;
use phobos_site::exit;
use phobos_site::ledger::{Ledger, Mirror};
use phobos_site::lock::Locks;
use phobos_site::paths::Paths;

use crate::commands::alone;
use crate::record::DriveRecord;
use crate::session::Session;
use crate::source;

/// The name under which it holds locks.
const HOLDER: &str = "phobos-ext drives";

/// Looks at all drives that are plugged in, and writes down what they say.
///
/// # Errors
///
/// The first drive's that cannot be looked at, or that another run uses; the others are looked at all the same.
pub(super) fn at(config: &Config, targets: &[Target], paths: &Paths) -> Result<(), anyhow::Error> {
    exit::require_root()?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let locks = Locks::new(&paths.locks());
    let ledger = Ledger::new(&paths.ledger());
    let mut result = Ok(());
    for target in targets.iter().filter(|target| target.device.exists()) {
        let said = said(&system, &signals, config, target, &locks);
        let written = said.and_then(|mirror| {
            ledger.update(|book| book.learn(target.name.as_str(), mirror, Utc::now()))?;
            Ok(())
        });
        result = result.and(written.with_context(|| format!("cannot look at the drive {}", target.name)));
    }
    result
}

/// What the drive says of its last complete mirror of this machine's repository.
fn said(
    system: &System<'_>,
    signals: &Signals,
    config: &Config,
    target: &Target,
    locks: &Locks,
) -> Result<Option<Mirror>, anyhow::Error> {
    let _alone = alone(system, signals, config, locks, target, HOLDER)?;
    Session::with(system, config, target, Access::Look, |root| {
        let Some(record) = DriveRecord::read(root)? else { return Ok(None) };
        let own = source::check(&config.backup)?;
        if record.repository != own.id().as_str() {
            log::warn!("the drive {} belongs to another repository than {}", target.name, own.id().as_str());
            return Ok(None);
        }
        Ok(record.noted(root, &config.external.mount))
    })
}
