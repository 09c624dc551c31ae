//! The source of a mirror: a repository on the mounted file system of the backups.

use phobos_core::borg::Repository;
use phobos_core::mount;
use phobos_site::config::Backup;
use phobos_site::exit::{Exit, Stop};
use phobos_site::namespace;

/// Proves that the backup file system is mounted here and holds a repository.
pub(crate) fn check(backup: &Backup) -> Result<Repository, anyhow::Error> {
    if mount::at(&mount::table()?, &backup.mount).is_none() {
        let text = format!("{} is not mounted; refusing to mirror an empty folder", backup.mount.display());
        return Err(Stop::new(Exit::Refused, text).into());
    }
    Ok(Repository::open(&backup.repository)?.called_as(namespace::borg_from_outside()))
}
