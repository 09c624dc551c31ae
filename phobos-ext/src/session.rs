//! A drive at work: unlocked, mounted, held by a descriptor, and proved to be the one that was meant, until it is closed.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use phobos_core::block;
use phobos_core::exec::{self, Exec};
use phobos_core::fs::Dir;
use phobos_core::fsck::{Checker, FsckError};
use phobos_core::luks::{self, MapperName, Mapping};
use phobos_core::mount::{self, Access, FstabEntry, Mount};
use phobos_core::teardown::{self, TeardownError};
use phobos_site::config::Config;
use phobos_site::drives::Target;
use phobos_site::exit::{Exit, Stop};
use phobos_site::paths;

use crate::fitness;

/// Where a drive is mounted, and the name of its mapping.
pub(crate) struct Place<'p> {
    pub(crate) folder: &'p Path,
    pub(crate) mapping: &'p MapperName,
}

/// An open drive.
pub(crate) struct Session<'e> {
    mount: Mount<'e, Option<Mapping<'e>>>,
    /// What is mounted.
    device: PathBuf,
    /// What is plugged in.
    drive: PathBuf,
    fstab: Option<FstabEntry>,
    access: Access,
    exec: &'e dyn Exec,
    /// What checks its file system.
    checker: Option<Checker>,
}

impl<'e> Session<'e> {
    /// Unlocks and mounts the drive where drives are mirrored to; see [`Session::open_at`].
    pub(crate) fn open(
        exec: &'e dyn Exec,
        config: &Config,
        target: &Target,
        access: Access,
    ) -> Result<Self, anyhow::Error> {
        let place = Place { folder: &config.external.mount, mapping: &config.external.mapping };
        Self::open_at(exec, config, target, access, &place)
    }

    /// Opens the drive, does `work` at its top, and closes it whatever happens.
    pub(crate) fn with<T>(
        exec: &dyn Exec,
        config: &Config,
        target: &Target,
        access: Access,
        work: impl FnOnce(&Dir) -> Result<T, anyhow::Error>,
    ) -> Result<T, anyhow::Error> {
        let session = Session::open(exec, config, target, access)?;
        let done = session.root().and_then(work);
        Ok(teardown::join(done.map_err(crate::boxed), session.close())?)
    }

    /// Unlocks and mounts the drive at `place`, and proves that it is the one that was meant and can hold a mirror.
    pub(crate) fn open_at(
        exec: &'e dyn Exec,
        config: &Config,
        target: &Target,
        access: Access,
        place: &Place<'_>,
    ) -> Result<Self, anyhow::Error> {
        let mapping = place.mapping;
        let place = place.folder;
        clear_leftovers(exec, place)?;
        let (mapping, device) = match &target.luks {
            Some((uuid, unlock)) => {
                luks::clear_leftover(exec, uuid, mapping)?;
                let mapping = Mapping::obtain(exec, uuid, mapping, unlock)?;
                let device = mapping.device();
                (Some(mapping), device)
            }
            None => (None, target.device.clone()),
        };
        refuse_the_backups_disk(config, &device)?;
        fitness::of_device(&device)?;
        // Type and options are those of all drives, wherever this one is mounted.
        let fstab = mount::fstab_entry(Path::new(paths::FSTAB), &config.external.mount)?;
        let mount = Mount::new(exec, &device, place, fstab.as_ref(), access, mapping)?;
        let checker = None;
        let mut session = Self { mount, device, drive: target.device.clone(), fstab, access, exec, checker };
        match session.is_fit(place, access) {
            Ok(()) => Ok(session),
            Err(error) => {
                teardown::join::<(), _, _>(Err(crate::boxed(error)), session.close())?;
                Err(anyhow!("the drive is not fit for a mirror"))
            }
        }
    }

    /// The top of the drive's file system, held since it was mounted.
    pub(crate) fn root(&self) -> Result<&Dir, anyhow::Error> {
        self.mount.root().ok_or_else(|| anyhow!("the drive is not mounted"))
    }

    /// Whether what is seen of the drive is neither its new nor its old state, because it is only looked at.
    pub(crate) fn is_between_states(&self) -> bool {
        self.access == Access::Look && fitness::has_to_be_replayed(&self.device)
    }

    /// Proves that the drive is still mounted, and nothing over it.
    pub(crate) fn prove(&self) -> Result<(), anyhow::Error> {
        Ok(self.mount.prove(&self.device)?)
    }

    /// Unmounts the drive and mounts it again: what it shows then it has kept. Whatever was opened below its top has to be closed.
    pub(crate) fn renew(&mut self) -> Result<(), TeardownError> {
        self.mount.renew(&self.device, self.fstab.as_ref(), self.access, &mut || Ok(()))
    }

    /// Does the same, and has the file system checked meanwhile, where there is a checker for it: what shows every file as it was
    /// written may have lost what keeps the next write away from them.
    pub(crate) fn renew_checked(&mut self) -> Result<(), TeardownError> {
        let (exec, device, checker) = (self.exec, &self.device, self.checker);
        let mut check = || match checker.map(|checker| (checker, checker.check(exec, device))) {
            None | Some((_, Ok(()))) => Ok(()),
            Some((checker, Err(error @ FsckError::Damaged { .. }))) => {
                let text = format!(
                    "the drive or its cable is failing: {error}; nothing is written to it until `{}` has repaired it, with the \
                     drive unlocked and not mounted, and it is to be replaced",
                    checker.program()
                );
                Err(TeardownError::of(anyhow!(text)))
            }
            Some((_, Err(error))) => Err(TeardownError::of(error)),
        };
        self.mount.renew(device, self.fstab.as_ref(), self.access, &mut check)
    }

    /// Writes everything to the disk, unmounts, locks, and proves that nothing uses the drive any more.
    pub(crate) fn close(mut self) -> Result<(), TeardownError> {
        let unmounted = self.mount.unmount();
        // Nobody is told of what goes wrong with the last writes but by the mark that the file system has then.
        let judged = match self.access {
            Access::Write => fitness::of_device(&self.device).map_err(TeardownError::of),
            Access::Look => Ok(()),
        };
        let unmounted = teardown::join(unmounted, judged);
        let closed = teardown::join(unmounted, self.mount.close());
        let free = mount::prove_free(&self.drive);
        teardown::join(closed, free)
    }

    /// Leaves the drive open, for `phobos-ext close` to close.
    pub(crate) fn leave(self) {
        if let Some(Some(mapping)) = self.mount.leave() {
            mapping.leave();
        }
    }

    fn is_fit(&mut self, place: &Path, access: Access) -> Result<(), anyhow::Error> {
        let table = mount::table()?;
        let kind = mount::at(&table, place).map_or("", |entry| entry.kind.as_str());
        fitness::of_kind(kind)?;
        self.checker = Checker::of(kind).filter(|_| access == Access::Write);
        if let Some(checker) = self.checker {
            exec::require(&[checker.program()])?;
        }
        fitness::of_names(self.root()?, access)
    }
}

/// Refuses a device on the disk of the backups: what takes the one takes the other.
fn refuse_the_backups_disk(config: &Config, device: &Path) -> Result<(), anyhow::Error> {
    let table = mount::table()?;
    let Some(backups) = mount::at(&table, &config.backup.mount) else { return Ok(()) };
    let what = if mount::device_number(device).is_some_and(|number| backups.is_on(&number)) {
        "is the disk of the backups itself"
    } else if !block::disks_of_mount(backups).is_disjoint(&block::disks(device)) {
        "is on the same disk as the backups"
    } else {
        return Ok(());
    };
    Err(Stop::new(Exit::Refused, format!("{} {what}, not a drive", device.display())).into())
}

/// Writes and unmounts what an earlier run has left at the drive's place in the namespace.
fn clear_leftovers(exec: &dyn Exec, place: &Path) -> Result<(), anyhow::Error> {
    let outside = mount::table_of(Path::new("/proc/1/mountinfo"))?;
    if mount::at(&outside, place).is_some() {
        let text = format!("{0} is mounted outside the namespace; run `umount {0}` first", place.display());
        return Err(Stop::new(Exit::Refused, text).into());
    }
    if mount::at(&mount::table()?, place).is_some() {
        log::warn!("unmounting {}, which an earlier run has left mounted", place.display());
        mount::clear(exec, place)?;
    }
    Ok(())
}
