//! `phobos-ext close`: unmounts and locks a drive that a run could not, because it was killed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, System};
use phobos_core::luks::{Mapping, Uuid};
use phobos_core::mount;
use phobos_core::signal::Signals;
use phobos_site::config::{Config, DriveChoice, External};
use phobos_site::exit;
use phobos_site::lock::{LockName, Locks, Mode, Patience, Word};
use phobos_site::namespace;
use phobos_site::paths::Paths;

use crate::drive::{self, Target};
use crate::{Cli, TABLES};

/// A drive that may be open: closing it takes no key.
pub(crate) struct Open {
    name: Word,
    /// The LUKS container, or the file system itself.
    device: PathBuf,
    uuid: Option<Uuid>,
}

/// Closes the drive that is meant, or all that are known.
pub(crate) fn run(cli: &Cli) -> Result<(), anyhow::Error> {
    exit::require_root()?;
    let config = Config::load(cli.config.as_deref(), &TABLES)?;
    let drives = drives(&config.external, cli.drive.as_ref())?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let locks = Locks::new(&Paths::from_environment().locks());
    for drive in drives {
        // A run that holds the drive closes it itself.
        let mut patience = Patience::none().interrupted_by(|| signals.caught());
        let _lock = locks.take(
            &LockName::Drive(drive.name.clone()),
            Mode::Exclusive,
            "phobos-ext close",
            None,
            &mut patience,
        )?;
        close(&system, &config, &drive, &locks, &|| signals.caught())?;
    }
    Ok(())
}

/// The drives to close; one that is no longer configured can still be closed by its UUID.
fn drives(external: &External, wanted: Option<&DriveChoice>) -> Result<Vec<Open>, anyhow::Error> {
    match (drive::known(external, Path::new(drive::CRYPTTAB), wanted), wanted) {
        (Err(_), Some(DriveChoice::Uuid(uuid))) => {
            Ok(vec![Open { name: uuid.as_str().parse()?, device: uuid.device(), uuid: Some(uuid.clone()) }])
        }
        (targets, _) => Ok(targets?.iter().map(Open::from).collect()),
    }
}

impl From<&Target> for Open {
    fn from(target: &Target) -> Self {
        Self { name: target.name.clone(), device: target.device.clone(), uuid: target.uuid().cloned() }
    }
}

/// Unmounts and locks `drive`, if it is open; the caller holds its lock.
pub(crate) fn close(
    exec: &dyn Exec,
    config: &Config,
    drive: &Open,
    locks: &Locks,
    interrupted: &dyn Fn() -> Option<i32>,
) -> Result<(), anyhow::Error> {
    let place: &Path = &config.external.mount;
    let (mapping, number) = match &drive.uuid {
        Some(uuid) => match Mapping::adopt(exec, uuid, &config.external.mapping)? {
            Some(mapping) => {
                let number = mount::device_number(&mapping.device());
                (Some(mapping), number)
            }
            // Without a mapping there is nothing that could be mounted.
            None => return Ok(()),
        },
        None => (None, mount::device_number(&drive.device)),
    };
    let mut patience = Patience::until(Instant::now() + namespace::WAIT)
        .on_wait(|whom| log::info!("waiting for {whom}"))
        .interrupted_by(interrupted);
    if let Err(error) = namespace::enter(exec, &config.backup, locks, "phobos-ext close", &mut patience) {
        log::warn!("{}", Chain(&error));
    }
    let table = mount::table()?;
    if mount::at(&table, place).is_some_and(|entry| number.as_ref().is_some_and(|number| entry.is_on(number))) {
        log::warn!("unmounting {}, which a run has left mounted", place.display());
        mount::clear(exec, place)?;
    }
    if let Some(mapping) = mapping {
        mapping.close()?;
        log::info!("locked the drive {}", drive.name);
    }
    Ok(())
}
