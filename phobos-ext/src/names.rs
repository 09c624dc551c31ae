//! Whose the names at the top of the source and of a drive are.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use phobos_core::fs::{Dir, shown};
use phobos_core::rsync;
use phobos_site::exit::{Exit, Stop};

use crate::checksums;
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

/// Names as a record keeps them: any name, also one that is no text.
pub(crate) fn noted<'n>(names: impl Iterator<Item = &'n OsString>) -> Vec<String> {
    names.map(|name| checksums::to_text(Path::new(name))).collect()
}

/// The names of a record.
pub(crate) fn of(noted: &[String]) -> BTreeSet<OsString> {
    noted.iter().filter_map(|text| checksums::from_text(text)).map(Into::into).collect()
}

/// Refuses to put the source's names where somebody else has put their own: `there` is what the drive has, and `ours` what mirrors
/// have put there.
pub(crate) fn prove_ours(
    there: &BTreeSet<OsString>,
    tops: &BTreeSet<OsString>,
    ours: &BTreeSet<OsString>,
) -> Result<(), Stop> {
    let Some(first) = there.iter().find(|name| tops.contains(*name) && !ours.contains(*name)) else { return Ok(()) };
    let text = format!(
        "{} is on the drive, where phobos did not put it, and now among the backups as well, so that what is in it would be \
         mirrored over; the drive is left as it was; give it another name on the drive, or move it away",
        shown(Path::new(first))
    );
    Err(Stop::new(Exit::Refused, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn any_name_is_kept_in_a_record() {
        let names: BTreeSet<OsString> =
            [b"films".to_vec(), b"a\\b".to_vec(), b"new\nline".to_vec(), b"\xff\xfe".to_vec()]
                .map(OsString::from_vec)
                .into();
        assert_eq!(of(&noted(names.iter())), names);
        assert_eq!(of(&["\\".to_owned()]), BTreeSet::new());
    }

    #[test]
    fn what_somebody_else_put_there_is_not_mirrored_over() {
        let set = |names: &[&str]| -> BTreeSet<OsString> { names.iter().map(OsString::from).collect() };
        let there = set(&["films", "holding", "photos"]);
        prove_ours(&there, &set(&["holding", "letters"]), &set(&["holding"])).unwrap();
        let error = prove_ours(&there, &set(&["holding", "photos"]), &set(&["holding"])).unwrap_err().to_string();
        assert!(error.starts_with("photos is on the drive, where phobos did not put it"), "{error}");
    }

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
