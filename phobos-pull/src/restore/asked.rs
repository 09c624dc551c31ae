//! What is asked for: paths on the host, and the folders of the holding space in which they are found.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use phobos_core::fs::{Dir, FsError, Stat, shown};
use phobos_site::exit::{Exit, Stop};
use phobos_site::pull::HostName;

/// Something that was asked for, where it is.
#[derive(Debug)]
pub(super) struct Asked {
    /// The folder that it is in.
    pub(super) above: Dir,
    /// Its last name; empty for all that is in the folder.
    pub(super) last: PathBuf,
    /// What it is; that of the folder itself where there is no last name.
    pub(super) stat: Stat,
}

/// The paths below the holding space that `paths` mean, each with an ordinary name or none. Where `lists` is set, none means all.
///
/// # Errors
///
/// For a path that is not absolute, that has `..` in it, or that would land where another one does.
pub(super) fn checked(paths: &[PathBuf], lists: bool) -> Result<Vec<PathBuf>, Stop> {
    let usage = |text: String| Stop::new(Exit::Usage, text);
    let mut below: Vec<PathBuf> = Vec::new();
    for path in paths {
        let Ok(rest) = path.strip_prefix("/") else {
            return Err(usage(format!("{}: give the path as the host has it, with a / in front", shown(path))));
        };
        if !rest.components().all(|component| matches!(component, Component::Normal(_))) {
            return Err(usage(format!("{}: give the path without ..", shown(path))));
        }
        // A slash at the end changes nothing.
        let rest: PathBuf = rest.components().collect();
        let lands_with = |other: &&PathBuf| name(other) == name(&rest);
        if let Some(other) = below.iter().find(lands_with).filter(|_| !lists) {
            let (one, two) = (shown(&Path::new("/").join(other)), shown(path));
            return Err(usage(format!("{one} and {two} would have the same name; give them back one after the other")));
        }
        below.push(rest);
    }
    if !lists && below.len() > 1 && below.iter().any(|path| path.as_os_str().is_empty()) {
        return Err(usage("/ is all that the host has; give it alone".to_owned()));
    }
    if below.is_empty() {
        below.push(PathBuf::new());
    }
    Ok(below)
}

/// Finds what is asked for in the space of `host`, which people call `place`, through no link.
///
/// # Errors
///
/// When something is not there.
pub(super) fn found(
    space: &Dir,
    host: &HostName,
    place: &str,
    asked: Vec<PathBuf>,
) -> Result<Vec<Asked>, anyhow::Error> {
    asked.into_iter().map(|path| find(space, host, place, &path)).collect()
}

fn find(space: &Dir, host: &HostName, place: &str, path: &Path) -> Result<Asked, anyhow::Error> {
    let (Some(parent), Some(last)) = (path.parent(), path.file_name()) else {
        return Ok(Asked { above: space.try_clone()?, last: PathBuf::new(), stat: space.stat_self()? });
    };
    let absent = || {
        let text = format!("{host} has no {} in its {place}", shown(&Path::new("/").join(path)));
        Stop::new(Exit::Absent, format!("{text}; `phobos-pull restore {host} --list PATH` shows what it has"))
    };
    let above = if parent.as_os_str().is_empty() { space.try_clone() } else { space.open_dir(parent) };
    let above = match above {
        Err(FsError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Err(absent().into()),
        above => above?,
    };
    let stat = above.stat(Path::new(last))?.ok_or_else(absent)?;
    Ok(Asked { above, last: last.into(), stat })
}

fn name(path: &Path) -> Option<&OsStr> {
    path.file_name()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(paths: &[&str]) -> Vec<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn a_path_is_the_hosts_and_leads_nowhere_else() {
        let good = checked(&paths(&["/home/anna//1.jpg", "/home/-rf/", "/srv/./x"]), false).unwrap();
        assert_eq!(good, paths(&["home/anna/1.jpg", "home/-rf", "srv/x"]));
        assert_eq!(checked(&paths(&["/"]), false).unwrap(), paths(&[""]));
        assert_eq!(checked(&[], true).unwrap(), paths(&[""]));
        for wrong in ["home/anna", "..", "/..", "/home/../../etc", "/home/..", "-rf", ""] {
            assert!(checked(&paths(&[wrong]), false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_that_land_at_one_name_are_refused_before_anything_is_done() {
        for wrong in [&["/a/x", "/b/x"][..], &["/a/x", "/a/x/"], &["/", "/a"], &["/", "/"]] {
            assert!(checked(&paths(wrong), false).is_err(), "{wrong:?}");
        }
        assert!(checked(&paths(&["/a/x", "/b/x"]), true).is_ok());
    }
}
