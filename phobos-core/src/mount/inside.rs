//! What is mounted within a mounted file system, and a view of the mounts in which that does not change.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use super::{Entry, MountError, table};

/// The words before a program that make it see the mounts as they are when it begins, whatever becomes of them in the meantime.
///
/// The kernel kills it with this process.
pub fn view_of_its_own() -> [&'static str; 8] {
    ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private"]
}

/// Proves that nothing is mounted in the file system at `target`, which would hide a part of it.
///
/// # Errors
///
/// [`MountError::Hidden`] with what is.
pub fn prove_whole(target: &Path) -> Result<(), MountError> {
    nothing(&table()?, target)
}

/// The same by a table that was read already.
pub(super) fn nothing(table: &[Entry], target: &Path) -> Result<(), MountError> {
    match targets(table, target).into_iter().find(|found| found != target) {
        Some(found) => Err(MountError::Hidden { target: target.to_owned(), found }),
        None => Ok(()),
    }
}

/// Lets go of what the kernel keeps of a device's content; it does so by itself when nobody else has the device open.
pub(super) fn let_go(device: &Path) {
    let dropped = File::open(device).and_then(|file| Ok(fadvise(&file, 0, None, Advice::DontNeed)?));
    if let Err(error) = dropped {
        log::debug!("the kernel keeps what it has of {}: {error}", device.display());
    }
}

/// The places of all mounts on `target` and in it, in the order in which they were made.
pub(super) fn targets(table: &[Entry], target: &Path) -> Vec<PathBuf> {
    table.iter().map(|entry| &entry.target).filter(|found| found.starts_with(target)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::table::parse;

    const TABLE: &str = "\
30 22 7:0 / /backup rw - ext4 /dev/loop0 rw
31 30 0:27 / /backup/holding/luv rw - tmpfs tmpfs rw
32 22 7:1 / /backup2 rw - ext4 /dev/loop1 rw
33 30 0:28 / /backup rw - tmpfs tmpfs rw
";

    #[test]
    fn what_is_mounted_within_is_found_and_a_neighbour_is_not() {
        let table = parse(TABLE).unwrap();
        let found = |target: &str| nothing(&table, Path::new(target)).map_err(|error| error.to_string());
        let why = "/backup/holding/luv is mounted in /backup, and hides what is there; unmount it";
        assert_eq!(found("/backup"), Err(why.to_owned()));
        assert_eq!(found("/backup2"), Ok(()));
        let all = ["/backup", "/backup/holding/luv", "/backup"].map(PathBuf::from);
        assert_eq!(targets(&table, Path::new("/backup")), all, "the last one goes first");
    }
}
