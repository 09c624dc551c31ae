//! `phobos-ext close`: unmounts and locks a drive, in whatever state a killed run or `phobos-ext open` has left it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, System};
use phobos_core::luks::{self, MapperName, Mapping, Uuid};
use phobos_core::mount::{self, Entry};
use phobos_core::signal::Signals;
use phobos_site::config::{Config, DriveChoice, External};
use phobos_site::drives::{CRYPTTAB, Target};
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::lock::{LockName, Locks, Mode, Patience, Word};
use phobos_site::namespace;
use phobos_site::paths::Paths;

use crate::drive;
use crate::{Cli, TABLES, opened};

/// The name under which it holds locks.
const HOLDER: &str = "phobos-ext close";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The drive: its name in the configuration, or the UUID of its LUKS container; by default all of them
    #[arg(value_name = "NAME", value_parser = crate::drive_name)]
    name: Option<DriveChoice>,
}

/// A drive that may be open: closing it takes no key.
pub(crate) struct Open {
    name: Word,
    /// The LUKS container, or the file system itself.
    device: PathBuf,
    uuid: Option<Uuid>,
}

/// How much is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What a run leaves behind where it mounts and unlocks; what `phobos-ext open` has opened stays.
    Leftovers,
    /// Everything, proved in the end.
    All,
}

/// What a drive is closed with.
pub(crate) struct Closing<'a> {
    pub(crate) exec: &'a dyn Exec,
    pub(crate) config: &'a Config,
    pub(crate) paths: &'a Paths,
    pub(crate) locks: &'a Locks,
    pub(crate) interrupted: &'a dyn Fn() -> Option<i32>,
}

/// Closes the drive that is meant, or all that are known, and says of each whether it may be unplugged.
pub(crate) fn run(cli: &Cli, args: &Args) -> Result<(), anyhow::Error> {
    exit::require_root()?;
    let wanted = args.name.as_ref().or(cli.drive.as_ref());
    let config = match (Config::load(cli.config.as_deref(), &TABLES), wanted) {
        // A drive that is open has to be closed, whatever somebody is doing to the configuration.
        (Err(error), Some(DriveChoice::Uuid(_))) => {
            log::warn!("{}; going on with the defaults", Chain(&error));
            Config::default()
        }
        (config, _) => config?,
    };
    let drives = drives(&config.external, wanted)?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let paths = Paths::from_environment();
    let locks = Locks::new(&paths.locks());
    let interrupted = || signals.caught();
    let closing = Closing { exec: &system, config: &config, paths: &paths, locks: &locks, interrupted: &interrupted };
    // systemd sets it for what it calls after a service (systemd.exec(5)): that cleans up and does no more.
    let scope = if std::env::var_os("SERVICE_RESULT").is_some() { Scope::Leftovers } else { Scope::All };
    let mut result = Ok(());
    for drive in &drives {
        let closed = closing.alone(drive, scope);
        if scope == Scope::All && closed.is_ok() && (wanted.is_some() || drive.device.exists()) {
            let word = if drive.device.exists() { "is closed and safe to unplug" } else { "is not plugged in" };
            log::info!("the drive {} {word}", drive.name);
        }
        result = result.and(closed);
    }
    result
}

/// The drives to close; one that is no longer configured can still be closed by its UUID.
fn drives(external: &External, wanted: Option<&DriveChoice>) -> Result<Vec<Open>, anyhow::Error> {
    match (drive::known(external, Path::new(CRYPTTAB), wanted), wanted) {
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

impl Closing<'_> {
    /// Takes the drive's lock and closes it. A run that holds the lock closes the drive itself.
    fn alone(&self, drive: &Open, scope: Scope) -> Result<(), anyhow::Error> {
        let mut patience = Patience::none().interrupted_by(self.interrupted);
        let name = LockName::Drive(drive.name.clone());
        let _lock = self.locks.take(&name, Mode::Exclusive, HOLDER, None, &mut patience)?;
        self.close(drive, scope)
    }

    /// Unmounts and locks `drive`, if it is open; the caller holds its lock.
    pub(crate) fn close(&self, drive: &Open, scope: Scope) -> Result<(), anyhow::Error> {
        if let Some(uuid) = &drive.uuid {
            luks::clear_half_made(self.exec, uuid)?;
        }
        let usual = &self.config.external.mapping;
        let active = drive.uuid.as_ref().map(|_| luks::active(Path::new("/sys"))).transpose()?.unwrap_or_default();
        let read = opened::read_mapping(&drive.name)?;
        let is_meant = |name: &str| scope == Scope::All || [usual.as_str(), read.as_str()].contains(&name);
        let mappings: Vec<_> = active
            .into_iter()
            .filter(|active| drive.uuid.as_ref().is_some_and(|uuid| active.is_of(uuid)) && is_meant(&active.name))
            .collect();
        let numbers: Vec<_> = match &drive.uuid {
            Some(_) => mappings.iter().map(|mapping| mapping.number.clone()).collect(),
            None => mount::device_number(&drive.device).into_iter().collect(),
        };
        // Without a mapping there is nothing of a container that could be mounted.
        if !numbers.is_empty() && !self.unmount(drive, &numbers, scope)? {
            return Ok(());
        }
        for mapping in &mappings {
            let (Some(uuid), Ok(name)) = (&drive.uuid, MapperName::try_from(mapping.name.clone())) else { continue };
            if let Some(mapping) = Mapping::adopt(self.exec, uuid, &name)? {
                mapping.close()?;
                log::info!("locked the drive {}", drive.name);
            }
        }
        if scope == Scope::All {
            mount::prove_free(&drive.device)?;
        }
        Ok(())
    }

    /// Unmounts what the namespace has of the devices `numbers`; `false` if all of it is to stay.
    fn unmount(&self, drive: &Open, numbers: &[String], scope: Scope) -> Result<bool, anyhow::Error> {
        let place: &Path = &self.config.external.mount;
        let opened = opened::folder(self.paths, &drive.name);
        let read = opened::read_folder(self.paths, &drive.name);
        let is_a_runs = |target: &Path| target == place || target == read;
        let mut patience = Patience::until(Instant::now() + namespace::WAIT)
            .on_wait(|whom| log::info!("waiting for {whom}"))
            .interrupted_by(self.interrupted);
        let entered = namespace::enter(self.exec, &self.config.backup, self.locks, HOLDER, &mut patience);
        if let Err(error) = entered {
            log::warn!("{}", Chain(&error));
        }
        let table = mount::table()?;
        let is_ours = |entry: &Entry| numbers.iter().any(|number| entry.is_on(number));
        if mount::at(&table, &self.config.backup.mount).is_some_and(is_ours) {
            let text = format!("{} is the disk of the backups itself, not a drive", drive.device.display());
            return Err(Stop::new(Exit::Refused, text).into());
        }
        if scope == Scope::Leftovers && mount::at(&table, &opened).is_some_and(is_ours) {
            return Ok(false);
        }
        // What is mounted outside is somebody else's, who is named in the end.
        let outside = mount::table_of(Path::new("/proc/1/mountinfo"))?;
        let is_outside =
            |entry: &Entry| outside.iter().any(|other| other.target == entry.target && other.number == entry.number);
        let mut targets: Vec<_> = table.iter().rev().filter(|entry| is_ours(entry) && !is_outside(entry)).collect();
        targets.retain(|entry| scope == Scope::All || is_a_runs(&entry.target));
        for entry in targets {
            // Several that lie upon each other went with the first.
            if !mount::table()?.iter().any(|now| now.target == entry.target && is_ours(now)) {
                continue;
            }
            if is_a_runs(&entry.target) {
                log::warn!("unmounting {}, which a run has left mounted", entry.target.display());
            } else {
                log::info!("unmounting {}", entry.target.display());
            }
            mount::clear(self.exec, &entry.target)?;
        }
        match std::fs::remove_dir(&opened) {
            Err(error) if scope == Scope::All && error.kind() != ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {error}", opened.display());
            }
            _ => {}
        }
        Ok(true)
    }
}
