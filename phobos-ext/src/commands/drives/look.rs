//! What the drives that are plugged in say of themselves: each is opened to be looked at, and closed again.

use std::time::Instant;

use anyhow::Context;
use chrono::Utc;
use phobos_core::exec::System;
use phobos_core::mount::Access;
use phobos_core::signal::Signals;
use phobos_core::teardown;
use phobos_site::config::Config;
use phobos_site::exit;
use phobos_site::ledger::{Ledger, Mirror};
use phobos_site::lock::{LockName, Locks, Mode, Patience};
use phobos_site::namespace;
use phobos_site::paths::Paths;

use crate::drive::Target;
use crate::record::DriveRecord;
use crate::session::Session;
use crate::{boxed, source};

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
            ledger.update(|book| match mirror {
                Some(mirror) => book.learn(target.name.as_str(), mirror, Utc::now()),
                None => book.saw(target.name.as_str(), Utc::now()),
            })?;
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
    let take = |name: &LockName| {
        let mut patience = Patience::none().interrupted_by(|| signals.caught());
        locks.take(name, Mode::Exclusive, HOLDER, None, &mut patience)
    };
    let _drive = take(&target.lock_name())?;
    // All drives are mounted at one place, and who mirrors to another one has this lock.
    let _place = take(&LockName::Repository)?;
    let mut patience = Patience::until(Instant::now() + namespace::WAIT).interrupted_by(|| signals.caught());
    namespace::enter(system, &config.backup, locks, HOLDER, &mut patience)?;
    let session = Session::open(system, config, target, Access::Look)?;
    let read = || -> Result<Option<Mirror>, anyhow::Error> {
        let root = session.root()?;
        let Some(record) = DriveRecord::read(root)? else { return Ok(None) };
        let own = source::check(&config.backup)?;
        if record.repository != own.id().as_str() {
            log::warn!("the drive {} belongs to another repository than {}", target.name, own.id().as_str());
            return Ok(None);
        }
        Ok(record.noted(root, &config.external.mount))
    };
    let read = read();
    Ok(teardown::join(read.map_err(boxed), session.close())?)
}
