//! `phobos-ext open`: unlocks and mounts a drive to be looked at, and leaves it so until `phobos-ext close`.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use phobos_core::exec::{Exec, System};
use phobos_core::fs::make_private;
use phobos_core::mount::{self, Access};
use phobos_core::signal::Signals;
use phobos_site::config::{Config, DriveChoice};
use phobos_site::drives::{CRYPTTAB, Target};
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::lock::{Locks, Mode, Patience};
use phobos_site::logging;
use phobos_site::namespace;
use phobos_site::paths::Paths;

use super::close::{Closing, Open, Scope};
use crate::drive;
use crate::session::{Place, Session};
use crate::{Cli, TABLES, opened};

/// The name under which it holds locks.
const HOLDER: &str = "phobos-ext open";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The drive: its name in the configuration, or the UUID of its LUKS container
    #[arg(value_name = "NAME", value_parser = crate::drive_name)]
    name: DriveChoice,
    /// Let it be written to
    #[arg(long)]
    read_write: bool,
}

/// Opens the drive, and prints where it is.
pub(crate) fn run(cli: &Cli, args: &Args) -> Result<(), anyhow::Error> {
    exit::require_root()?;
    let config = Config::load(cli.config.as_deref(), &TABLES)?;
    let targets = drive::known(&config.external, Path::new(CRYPTTAB), Some(&args.name))?;
    let absent = || Stop::new(Exit::Absent, format!("the drive {} is not plugged in", args.name));
    let target = targets.into_iter().find(|target| target.device.exists()).ok_or_else(absent)?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let paths = Paths::from_environment();
    let locks = Locks::new(&paths.locks());
    let mut patience = Patience::none().interrupted_by(|| signals.caught());
    let _lock = locks.take(&target.lock_name(), Mode::Exclusive, HOLDER, None, &mut patience)?;
    let mut patience = Patience::until(Instant::now() + namespace::WAIT).interrupted_by(|| signals.caught());
    namespace::enter(&system, &config.backup, &locks, HOLDER, &mut patience)?;
    let folder = opened::folder(&paths, &target.name);
    if mount::is_mount_point(&folder)? {
        log::info!("the drive {} is open already; `phobos-ext close {0}` closes it", target.name);
    } else {
        // What a killed run has left, or systemd has unlocked for one that is held, is in the way.
        let interrupted = || signals.caught();
        let closing =
            Closing { exec: &system, config: &config, paths: &paths, locks: &locks, interrupted: &interrupted };
        closing.close(&Open::from(&target), Scope::Leftovers)?;
        open(&system, &config, &target, &folder, if args.read_write { Access::Write } else { Access::Look })?;
        log::info!("the drive {} is open until `phobos-ext close {0}`; do not unplug it before", target.name);
    }
    let inside = format!("nsenter --mount={} --", config.backup.namespace.display());
    log::info!("it is seen in the namespace only: {inside} ls {}", folder.display());
    Ok(logging::result(&format!("{}\n", folder.display()))?)
}

fn open(exec: &dyn Exec, config: &Config, target: &Target, folder: &Path, access: Access) -> Result<(), anyhow::Error> {
    make_private(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mapping = opened::mapping(&target.name)?;
    let place = Place { folder, mapping: &mapping };
    let session = Session::open_at(exec, config, target, access, &place)?;
    session.leave();
    Ok(())
}
