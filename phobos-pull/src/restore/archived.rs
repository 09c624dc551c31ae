//! Files of a host as an archive of the repository has them, here or on a drive: Borg, confined, makes them as a holding space was
//! when it was archived, and they are given back from there.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use phobos_core::borg::archive::{self, Archive, Archives, Entry};
use phobos_core::exec::System;
use phobos_core::fs::{Dir, shown, shown_text};
use phobos_core::human;
use phobos_core::sandbox::Control;
use phobos_site::archives;
use phobos_site::config::Config;
use phobos_site::exit::{Exit, Stop};
use phobos_site::paths::Paths;
use phobos_site::pull::Host;

use super::place;

/// The word that means the newest archive, where none is called so.
pub(super) const LATEST: &str = "latest";

/// The archives of a repository, while it lives.
pub(super) struct Opened<'e> {
    /// Reads without writing anything but Borg's notes.
    reading: Archives<'e>,
    notes: Control,
    /// Where a host's holding space is, as archives have it.
    space: PathBuf,
    host: String,
}

/// What an archive has of what was asked for.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// How many bytes the files have.
    bytes: u64,
    /// How many the largest one has.
    largest: u64,
}

impl<'e> Opened<'e> {
    /// Opens those of `repository`; the passphrase comes from systemd or is asked for.
    ///
    /// # Errors
    ///
    /// When there is none, and for a host whose files only root can extract.
    pub(super) fn open(
        exec: &'e System<'e>,
        repository: &Path,
        config: &Config,
        paths: &Paths,
        host: &Host,
        interrupted: &dyn Fn() -> Option<i32>,
    ) -> Result<Self, anyhow::Error> {
        let name = host.name.as_str();
        let holding = &config.backup.holding;
        let space = holding.strip_prefix("/").unwrap_or(holding).join(name);
        if host.is_local() {
            // Its files' owners are their real ones, which a confined Borg cannot set.
            let text =
                format!("{name} is this machine itself: `borg extract` as root gives back its {}", space.display());
            return Err(Stop::new(Exit::Refused, text).into());
        }
        refuse_another(&config.backup.repository, repository)?;
        let passphrase = archives::passphrase(repository, false, interrupted)?;
        let notes = archives::own_notes(paths, super::NAME, archives::user()?)
            .context("cannot make a place for what Borg notes")?;
        let reading =
            archives::confined(exec, repository, notes.folder(), passphrase).context("cannot find this program")?;
        Ok(Self { reading, notes, space, host: name.to_owned() })
    }

    /// All archives, the newest first.
    ///
    /// # Errors
    ///
    /// When Borg cannot list them.
    pub(super) fn all(&self) -> Result<Vec<Archive>, anyhow::Error> {
        self.reading.list(None).context("cannot list the archives")
    }

    /// The archive that is called so.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(super) fn find(&self, name: &str) -> Result<Archive, anyhow::Error> {
        let mut all = self.all()?;
        let newest = || (name == LATEST && !all.is_empty()).then_some(0);
        if let Some(at) = all.iter().position(|archive| archive.name == name).or_else(newest) {
            return Ok(all.swap_remove(at));
        }
        let (name, host) = (shown_text(name), &self.host);
        let text = format!("there is no archive {name}; `phobos-pull restore {host} --list --from archive` shows them");
        Err(Stop::new(Exit::Absent, text).into())
    }

    /// Passes what `archive` has of the paths of the host, and below them, to `see`, each with its path on the host.
    ///
    /// # Errors
    ///
    /// When it has nothing of one of them.
    pub(super) fn look(
        &self,
        archive: &Archive,
        asked: &[PathBuf],
        see: &mut dyn FnMut(&Path, &Entry),
    ) -> Result<Found, anyhow::Error> {
        let paths = self.inside(asked);
        let paths: Vec<_> = paths.iter().map(PathBuf::as_path).collect();
        let top = PathBuf::from(archive::listed(self.space.as_os_str()));
        let mut missing: Vec<_> = asked.iter().map(|path| PathBuf::from(archive::listed(path.as_os_str()))).collect();
        let mut found = Found::default();
        self.reading
            .listing(archive, &paths, None, &mut |mut entry| {
                if let Some(first) = entry.leads_to.as_mut().filter(|_| entry.kind == 'h') {
                    let on_host = first.strip_prefix(&top).map(|rest| Path::new("/").join(rest));
                    *first = on_host.unwrap_or_else(|_| first.clone());
                }
                let Ok(path) = entry.path.strip_prefix(&top) else { return };
                missing.retain(|asked| asked != path);
                if entry.kind == '-' {
                    found.bytes = found.bytes.saturating_add(entry.size);
                    found.largest = found.largest.max(entry.size);
                }
                see(path, &entry);
            })
            .with_context(|| format!("cannot list what the archive {} has", shown_text(&archive.name)))?;
        let Some(path) = missing.first() else { return Ok(found) };
        let (host, name) = (&self.host, shown_text(&archive.name));
        let path = shown(&Path::new("/").join(path));
        let text = format!(
            "{host} has no {path} in the archive {name}; `phobos-pull restore {host} --list --from archive {name} PATH` shows what it has"
        );
        Err(Stop::new(Exit::Absent, text).into())
    }

    /// Has Borg make the host's files in `scratch`, which is empty; returns the holding space as it was.
    ///
    /// # Errors
    ///
    /// When there is no room for them, and when something could not be made as it was.
    pub(super) fn extract(
        &self,
        archive: &Archive,
        asked: &[PathBuf],
        found: &Found,
        scratch: &Dir,
    ) -> Result<Dir, anyhow::Error> {
        let (room, needed) = (scratch.room()?, found.bytes.saturating_add(found.largest));
        if room < needed {
            let text = format!(
                "giving them back takes room for {}, and there is room for {}; choose another folder with --to",
                human::size(needed),
                human::size(room)
            );
            return Err(Stop::new(Exit::Failed, text).into());
        }
        // Borg asks for the path of the folder that it is in, which has one in its own mount namespace only.
        let seen = place::open(scratch.path()).with_context(|| {
            let folder = shown(scratch.path());
            format!("{folder} is not seen in the namespace of the backups; choose another folder with --to")
        })?;
        let [here, there] = [seen.stat_self()?, scratch.stat_self()?];
        if (here.dev, here.ino) != (there.dev, there.ino) {
            let text = format!(
                "{} is another folder in the namespace of the backups; choose another one with --to",
                shown(scratch.path())
            );
            return Err(Stop::new(Exit::Refused, text).into());
        }
        let folder = format!("/proc/{}/fd/{}", std::process::id(), seen.as_fd().as_raw_fd());
        let mut archives = self.reading.clone();
        archives.sandbox.folder = folder.into();
        let paths = self.inside(asked);
        let paths: Vec<_> = paths.iter().map(PathBuf::as_path).collect();
        archives
            .extract(archive, &paths)
            .with_context(|| format!("cannot extract from the archive {}", shown_text(&archive.name)))?;
        Ok(scratch.open_dir(&self.space)?)
    }

    /// The host's paths as archives have them.
    fn inside(&self, asked: &[PathBuf]) -> Vec<PathBuf> {
        let below =
            |path: &PathBuf| if path.as_os_str().is_empty() { self.space.clone() } else { self.space.join(path) };
        asked.iter().map(below).collect()
    }

    /// Removes Borg's notes.
    ///
    /// # Errors
    ///
    /// When they cannot be unmounted.
    pub(super) fn close(self) -> Result<(), anyhow::Error> {
        self.notes.close().context("cannot remove what Borg has noted")
    }
}

/// Refuses a repository on a drive that is another one than is here; with none here there is nothing to compare.
fn refuse_another(here: &Path, repository: &Path) -> Result<(), Stop> {
    if here == repository || here.symlink_metadata().is_err() {
        return Ok(());
    }
    archives::refuse_another(&archives::config_of(here)?, &archives::config_of(repository)?)
}

/// Where what is given back lands: below its last name, or, of all that the host has, as it is.
pub(super) fn lands(asked: &[PathBuf], path: &Path) -> Option<PathBuf> {
    asked.iter().find_map(|asked| {
        let rest = path.strip_prefix(PathBuf::from(archive::listed(asked.as_os_str()))).ok()?;
        let name = asked.file_name().map(archive::listed).unwrap_or_default();
        let landed: PathBuf = [OsString::from(name).as_os_str(), rest.as_os_str()].iter().collect();
        Some(landed.components().collect()).filter(|path: &PathBuf| !path.as_os_str().as_bytes().is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_lands_below_its_last_name() {
        let asked = [PathBuf::from("home/anna/photos"), PathBuf::from("srv/x")];
        assert_eq!(lands(&asked, Path::new("home/anna/photos/1.jpg")), Some("photos/1.jpg".into()));
        assert_eq!(lands(&asked, Path::new("srv/x")), Some("x".into()));
        assert_eq!(lands(&asked, Path::new("srv")), None);
        let all = [PathBuf::new()];
        assert_eq!(lands(&all, Path::new("home/1")), Some("home/1".into()));
        assert_eq!(lands(&all, Path::new("")), None);
    }
}
