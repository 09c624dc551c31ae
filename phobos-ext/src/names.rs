//! Whose the names at the top of the source and of a drive are.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use phobos_core::fs::Dir;
use phobos_core::rsync;

use crate::record::{FOLDER, GUIDE, LOST_AND_FOUND};

/// The names at the source's top, the repository's own left out.
pub(crate) fn tops(source: &Dir, inner: &Path) -> Result<BTreeSet<OsString>, anyhow::Error> {
    let names = source.entries()?.into_iter().map(|entry| entry.name);
    Ok(names.filter(|name| !is_own(name, inner)).collect())
}

/// Whether a name at the top is phobos's, the file system's, or leads to the repository.
pub(crate) fn is_own(name: &OsString, inner: &Path) -> bool {
    [FOLDER, GUIDE, LOST_AND_FOUND].iter().any(|own| name == own)
        || inner.components().next().is_some_and(|first| first.as_os_str() == name.as_os_str())
}

/// The filters that keep rsync off what is phobos's own, what is foreign, and what is to be left out.
pub(crate) fn filters(inner: &Path, foreign: &[OsString], skipped: Option<&Path>) -> Vec<String> {
    let own = [Path::new(FOLDER), Path::new(GUIDE), Path::new(LOST_AND_FOUND), inner];
    let own = own.into_iter().chain(skipped).map(|path| rsync::rule('-', path));
    own.chain(foreign.iter().map(|name| rsync::rule('-', Path::new(name)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_phobos_own_is_neither_copied_nor_deleted() {
        let filters = filters(Path::new("repos/borg"), &["film*".into()], Some(Path::new("holding")));
        assert_eq!(
            filters,
            ["- /.phobos", "- /HOW-TO-RESTORE.txt", "- /lost+found", "- /repos/borg", "- /holding", r"- /film\*"]
        );
        assert!(is_own(&"repos".into(), Path::new("repos/borg")) && !is_own(&"borg".into(), Path::new("repos/borg")));
    }
}
