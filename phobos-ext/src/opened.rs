//! Drives that somebody has opened to look at them: where they are, for as long as they are not closed.

use std::path::{Path, PathBuf};

use phobos_core::luks::MapperName;
use phobos_core::mount::{self, MountError};
use phobos_site::exit::{Exit, Stop};
use phobos_site::lock::Word;
use phobos_site::paths::Paths;

/// The folder of the mount points, below that of what ends with the machine.
const FOLDER: &str = "open";

/// What the mappings' names begin with.
const PREFIX: &str = "phobos-open-";

/// The same for jobs that only read a drive.
const READ: &str = "read";
const READ_PREFIX: &str = "phobos-read-";

/// Where the drive is mounted, in the namespace alone.
pub(crate) fn folder(paths: &Paths, drive: &Word) -> PathBuf {
    paths.runtime.join(FOLDER).join(drive.as_str())
}

/// The name of its mapping.
pub(crate) fn mapping(drive: &Word) -> Result<MapperName, anyhow::Error> {
    // A mapping from crypttab may have dots in its name, for a lock; a mapping's name may not.
    Ok(MapperName::try_from(format!("{PREFIX}{}", drive.as_str().replace('.', "_")))?)
}

/// Where a job that only reads has the drive mounted: nobody has asked for it to stay, so that what one has left there, killed, is in
/// nobody's way.
pub(crate) fn read_folder(paths: &Paths, drive: &Word) -> PathBuf {
    paths.runtime.join(READ).join(drive.as_str())
}

/// The name of its mapping then.
pub(crate) fn read_mapping(drive: &Word) -> Result<MapperName, anyhow::Error> {
    Ok(MapperName::try_from(format!("{READ_PREFIX}{}", drive.as_str().replace('.', "_")))?)
}

/// Whether the drive is open; asked in the namespace.
///
/// # Errors
///
/// When what is mounted cannot be read.
pub(crate) fn is_open(paths: &Paths, drive: &Word) -> Result<bool, MountError> {
    mount::is_mount_point(&folder(paths, drive))
}

/// Refuses a mirror to a drive that is open; asked in the namespace.
pub(crate) fn refuse(paths: &Paths, drive: &Word) -> Result<(), anyhow::Error> {
    if !is_open(paths, drive)? {
        return Ok(());
    }
    let place = folder(paths, drive);
    let text = format!("the drive {drive} is open at {}; run `phobos-ext close {drive}` first", shown(&place));
    Err(Stop::new(Exit::Busy, text).into())
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}
