//! Where files are given back to: a folder of this machine, or one on the host itself.

use std::path::{Component, Path, PathBuf};

use phobos_core::fs::{Dir, shown};
use phobos_site::exit::{Exit, Stop};
use phobos_site::pull::{Host, Origin};

use super::place;

/// Where files are extracted that go on to a host, unless TMPDIR names a place: what is there is on a disk, and may be large
/// (file-hierarchy(7)).
const SCRATCH: &str = "/var/tmp";

/// Where files are given back to.
#[derive(Debug)]
pub(super) enum Target<'a> {
    /// A folder of this machine.
    Here(Dir),
    /// One on the host; and one here, or why there is none, for what only comes to be when it is extracted.
    Host(Way<'a>, Result<Dir, String>),
}

impl<'a> Target<'a> {
    /// Opens what `to` means for what `host` has.
    ///
    /// # Errors
    ///
    /// When it is no folder that anything can be given back to.
    pub(super) fn open(to: &Path, host: &'a Host) -> Result<Self, anyhow::Error> {
        Ok(match way(to, host)? {
            Some(way) => {
                let here = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from(SCRATCH), PathBuf::from);
                Self::Host(way, place::open(&here).map_err(|error| format!("{error:#}, and say so in TMPDIR")))
            }
            None => Self::Here(place::open(to)?),
        })
    }

    /// The folder of this machine that files come to be in.
    ///
    /// # Errors
    ///
    /// When there is none for what goes on to a host.
    pub(super) fn here(&self) -> Result<&Dir, Stop> {
        match self {
            Self::Here(here) | Self::Host(_, Ok(here)) => Ok(here),
            Self::Host(_, Err(why)) => Err(Stop::new(Exit::Failed, why.clone())),
        }
    }
}

/// A folder on the host.
#[derive(Debug)]
pub(super) struct Way<'a> {
    pub(super) host: &'a Host,
    /// How it is reached, by ssh.
    pub(super) origin: &'a Origin,
    pub(super) address: &'a str,
    pub(super) folder: PathBuf,
}

/// The folder on the host that `to` means as `HOST:/FOLDER`; nothing where it is a folder here.
///
/// # Errors
///
/// For another host, and for a folder that no key could be let into.
fn way<'a>(to: &Path, host: &'a Host) -> Result<Option<Way<'a>>, Stop> {
    let usage = |text: String| Err(Stop::new(Exit::Usage, text));
    let Some((name, folder)) = to.to_str().and_then(|to| to.split_once(':')) else { return Ok(None) };
    if name.contains('/') || name.is_empty() {
        return Ok(None);
    }
    if name != host.name.as_str() {
        return usage(format!(
            "--to {}: what {} has goes back to {} only, or into a folder here",
            shown(to),
            host.name,
            host.name
        ));
    }
    let folder = Path::new(folder);
    let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !folder.is_absolute() || !folder.components().all(is_plain) {
        return usage(format!(
            "--to {}: name the folder as the host has it, with a / in front and without ..",
            shown(to)
        ));
    }
    if !folder.starts_with(&*host.root) {
        let text = format!("--to {}: its key is let in below {} only (`root`)", shown(to), host.root.display());
        return Err(Stop::new(Exit::Refused, text));
    }
    let is_ssh = |origin: &&Origin| matches!(origin, Origin::Ssh { .. });
    let origin = host.sources.iter().map(|source| &source.origin).find(is_ssh);
    match origin.and_then(|origin| Some((origin, origin.address()?))) {
        Some((origin, address)) => Ok(Some(Way { host, origin, address, folder: folder.to_owned() })),
        None => Err(Stop::new(
            Exit::Refused,
            format!("{name} is not reached with ssh; give its files back into a folder here"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_meant_before_a_colon_and_only_the_one_whose_files_they_are() {
        let to = |to: &str| {
            let host = Host::parse(&"luv".parse().unwrap(), "source = ['luv:/home/']\nroot = '/home'").unwrap();
            way(Path::new(to), &host).map(|way| way.map(|way| way.folder)).map_err(|stop| stop.to_string())
        };
        assert_eq!(to("luv:/home/anna").unwrap(), Some("/home/anna".into()));
        for here in [".", "/mnt", "./luv:/home", "/a:b", ":x"] {
            assert_eq!(to(here).unwrap(), None, "{here}");
        }
        for (wrong, why) in [
            ("nuhc:/home", "goes back to luv only"),
            ("luv:", "with a / in front"),
            ("luv:home", "with a / in front"),
            ("luv:/home/../etc", "without .."),
            ("luv:/etc", "below /home only"),
        ] {
            let said = to(wrong).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        let daemon = Host::parse(&"luv".parse().unwrap(), "source = ['rsync://luv/music/']").unwrap();
        assert!(way(Path::new("luv:/music"), &daemon).unwrap_err().to_string().contains("not reached with ssh"));
    }
}
