//! The source of a mirror: a repository on the mounted file system of the backups, held open from the beginning.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use phobos_core::borg::Repository;
use phobos_core::copy::{CopyError, Survey};
use phobos_core::fs::{Dir, FsError};
use phobos_core::mount;
use phobos_core::progress::Handler;
use phobos_site::config::Backup;
use phobos_site::exit::{Exit, Stop};
use phobos_site::namespace;

use crate::gate::{self, Side};

/// The folders of the source.
pub(crate) struct Place {
    /// The top of the file system.
    pub(crate) root: Dir,
    /// The repository.
    pub(crate) dir: Dir,
    /// The repository's place below the mount.
    pub(crate) inner: PathBuf,
}

/// Proves that the backup file system is mounted here and holds a repository.
pub(crate) fn check(backup: &Backup) -> Result<Repository, anyhow::Error> {
    if mount::at(&mount::table()?, &backup.mount).is_none() {
        let text = format!("{} is not mounted; refusing to mirror an empty folder", backup.mount.display());
        return Err(Stop::new(Exit::Refused, text).into());
    }
    Ok(Repository::open(&backup.repository)?.called_as(namespace::borg_from_outside()))
}

/// The source, as it was when the run began.
pub(crate) struct Source<'p> {
    pub(crate) place: &'p Place,
    /// What belongs to its last transaction: what a killed Borg has left behind it is left out.
    pub(crate) survey: Survey,
    /// Borg's part of it.
    pub(crate) side: Side<'p>,
}

impl Place {
    /// Opens them.
    pub(crate) fn open(backup: &Backup) -> Result<Self, anyhow::Error> {
        let inner = backup.repository.strip_prefix(&backup.mount).context("the repository is not below its mount")?;
        let root = Dir::open(&backup.mount)?;
        let dir = root.open_dir(inner)?;
        // Where nothing is mounted in it, all of it is one file system; a subvolume has a number of its own.
        mount::prove_whole(&backup.mount)?;
        Ok(Self { root, dir, inner: inner.to_owned() })
    }

    /// Looks at the repository, which has to be the one that was opened before.
    pub(crate) fn look(&self, repository: &Repository, handler: Handler<'_>) -> Result<Source<'_>, anyhow::Error> {
        let look = gate::look(&self.dir, gate::NAMES, handler)?;
        if look.id.as_deref() != Some(repository.id().as_str()) {
            return Err(Stop::new(Exit::Refused, "the repository's config has changed meanwhile").into());
        }
        gate::is_borgs(&look.survey, repository.segments_per_dir())?;
        let side = gate::read(&self.dir)?;
        Ok(Source { place: self, survey: gate::settled(look.survey, &side.state), side })
    }

    /// Proves that what is held is still what is seen at its place, and nothing over it or in it.
    pub(crate) fn prove(&self, backup: &Backup) -> Result<(), anyhow::Error> {
        if !mount::is_mount_point(&backup.mount)? {
            return Err(anyhow!(
                "{} is not mounted any more; the copy on the drive is as it was",
                backup.mount.display()
            ));
        }
        let seen = Dir::open(&backup.mount)?;
        if !is_same(&seen, &self.root)? {
            let text = format!("something else is mounted on {} than when the run began", backup.mount.display());
            return Err(Stop::new(Exit::Refused, text).into());
        }
        mount::prove_whole(&backup.mount)?;
        let there = seen.stat(&self.inner)?.map(|_| seen.open_dir(&self.inner)).transpose()?;
        match there {
            Some(repository) if is_same(&repository, &self.dir)? => Ok(()),
            _ => Err(CopyError::Changed { path: backup.repository.to_path_buf() }.into()),
        }
    }
}

fn is_same(one: &Dir, other: &Dir) -> Result<bool, FsError> {
    let (one, other) = (one.stat_self()?, other.stat_self()?);
    Ok((one.dev, one.ino) == (other.dev, other.ino))
}
