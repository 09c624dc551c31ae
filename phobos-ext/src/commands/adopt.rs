//! `phobos-ext adopt`: takes over a drive that was prepared by hand, with what is on it, and writes nothing to it but `.phobos/`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use phobos_core::borg::Repository;
use phobos_core::exec::System;
use phobos_core::fs::{Dir, shown, shown_text};
use phobos_core::human;
use phobos_core::luks;
use phobos_core::mount::Access;
use phobos_core::signal::Signals;
use phobos_site::config::{AbsolutePath, Config, Container, Drive, DriveName};
use phobos_site::drives::Target;
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::ledger::Ledger;
use phobos_site::lock::Locks;
use phobos_site::paths::Paths;

use super::alone;
use super::enrol::{configure, enable, is_new, name, path, remember};
use crate::names::{self, is_own, tops};
use crate::record::DriveRecord;
use crate::seal::Seal;
use crate::session::Session;
use crate::{Cli, TABLES, gate, source};

/// The name under which it holds locks.
const HOLDER: &str = "phobos-ext adopt";

/// How many names a message names.
const NAMED: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The block device: the LUKS container, or the file system of a drive that is not encrypted
    #[arg(value_name = "DEVICE")]
    device: PathBuf,
    /// What people call the drive
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: DriveName,
    /// The key file that unlocks the container; by default /etc/phobos/keys/NAME.key
    #[arg(long, value_name = "FILE", value_parser = path)]
    key_file: Option<AbsolutePath>,
}

/// What is on a drive that is to be taken over.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// What it says of itself.
    record: Option<DriveRecord>,
    copy: Copy,
    /// The names at its top that are neither phobos's nor the copy's.
    names: BTreeSet<OsString>,
}

/// What a drive has where the repository's copy is to be.
#[derive(Debug, PartialEq, Eq)]
enum Copy {
    Nothing,
    /// A repository with this id.
    Of(String),
    /// Files without the id of any.
    Unknown,
}

/// How a drive is taken over.
#[derive(Debug, PartialEq, Eq)]
struct Adoption {
    record: DriveRecord,
    /// What is left alone.
    foreign: Vec<OsString>,
}

/// Takes the drive over.
pub(crate) fn run(cli: &Cli, args: &Args) -> Result<(), anyhow::Error> {
    exit::require_root()?;
    let config = Config::load(cli.config.as_deref(), &TABLES)?;
    let drive = drive(args)?;
    let is_new = is_new(&config, &drive)?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let paths = Paths::from_environment();
    let target = Target::from(&drive);
    let locks = Locks::new(&paths.locks());
    let _alone = alone(&system, &signals, &config, &locks, &target, HOLDER)?;
    let repository = source::check(&config.backup)?;
    // Nothing is written before it is known that the drive can be taken over.
    let adoption =
        Session::with(&system, &config, &target, Access::Look, |root| look(&config, &repository, &drive, root))?;
    if !adoption.foreign.is_empty() {
        let names: Vec<_> = adoption.foreign.iter().map(|name| shown(Path::new(name))).collect();
        log::warn!(
            "left alone on the drive, because phobos did not put it there: {}",
            human::first_of(&names, NAMED, ", ")
        );
    }
    let mirror = Session::with(&system, &config, &target, Access::Write, |root| {
        // What is taken over is compared with the source once, whatever was recorded of it.
        Seal::remove(root)?;
        adoption.record.write(root)?;
        Ok(adoption.record.noted(root, &config.external.mount))
    })?;
    remember(&Ledger::new(&paths.ledger()), &drive, mirror);
    if is_new {
        configure(&config, &drive)?;
    }
    enable(&system, &drive);
    log::info!("the drive {} belongs to the repository {} from now on", drive.name.as_str(), repository.id().as_str());
    Ok(())
}

/// The drive as the configuration has it.
fn drive(args: &Args) -> Result<Drive, anyhow::Error> {
    let absent = |why: String| Stop::new(Exit::Absent, format!("{} {why}", args.device.display()));
    let real = fs::canonicalize(&args.device).map_err(|error| absent(format!("cannot be found: {error}")))?;
    if !fs::metadata(&real)?.file_type().is_block_device() {
        return Err(absent("is no block device".to_owned()).into());
    }
    let uuid = luks::container(&real).with_context(|| format!("cannot read {}", real.display()))?;
    let name = args.name.clone();
    let Some(uuid) = uuid else {
        let device = stable(Path::new("/dev/disk/by-uuid"), &real).unwrap_or_else(|| args.device.clone());
        return Ok(Drive { name, container: Container::Plain { device: absolute(&device)? }, description: None });
    };
    let default = PathBuf::from(format!("/etc/phobos/keys/{}.key", name.as_str()));
    let key_file = args.key_file.clone().map_or_else(|| absolute(&default), Ok)?;
    if !key_file.is_file() {
        let text = format!("there is no key file {}; name it with --key-file", key_file.display());
        return Err(Stop::new(Exit::Config, text).into());
    }
    Ok(Drive { name, container: Container::Luks { uuid, key_file }, description: None })
}

/// The name in `folder` that leads to the device `real`, whatever number it has the next time.
fn stable(folder: &Path, real: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let mut names: Vec<_> = entries.filter(|path| fs::canonicalize(path).is_ok_and(|to| to == real)).collect();
    names.sort();
    names.into_iter().next()
}

fn absolute(path: &Path) -> Result<AbsolutePath, anyhow::Error> {
    Ok(AbsolutePath::try_from(std::path::absolute(path)?)?)
}

/// What the drive has at its top and where the copy is to be.
fn look(config: &Config, repository: &Repository, drive: &Drive, root: &Dir) -> Result<Adoption, anyhow::Error> {
    let inner =
        config.backup.repository.strip_prefix(&config.backup.mount).context("the repository is not below its mount")?;
    let mut copy = Copy::Nothing;
    if root.stat(inner)?.is_some() {
        let look = gate::look(&root.open_dir(inner)?, gate::NAMES, &mut |_| Ok(()))?;
        if look.has_files() {
            copy = look.id.map_or(Copy::Unknown, Copy::Of);
        }
    }
    let names = root.entries()?.into_iter().map(|entry| entry.name).filter(|name| !is_own(name, inner)).collect();
    let found = Found { record: DriveRecord::read(root)?, copy, names };
    let tops = tops(&Dir::open(&config.backup.mount)?, inner)?;
    Ok(judge(found, drive.name.as_str(), repository.id().as_str(), &tops)?)
}

/// Whether a drive may be taken over as `name`, for the repository `id`, whose disk has `tops` beside it.
fn judge(found: Found, name: &str, id: &str, tops: &BTreeSet<OsString>) -> Result<Adoption, Stop> {
    let refused = |text: String| Err(Stop::new(Exit::Refused, text));
    let other = found.record.as_ref().map(|record| &record.repository).filter(|other| *other != id);
    if let Some(other) = other {
        return refused(format!("the drive belongs to the repository {}, not to {id}", shown_text(other)));
    }
    match &found.copy {
        Copy::Nothing => {}
        Copy::Of(copy) if copy == id => {}
        Copy::Of(other) => return refused(format!("the drive holds the repository {}, not {id}", shown_text(other))),
        Copy::Unknown => return refused(format!("the drive holds a repository without an id, not {id}")),
    }
    let is_mirror = found.copy != Copy::Nothing || found.record.is_some();
    if let Some(taken) = found.names.iter().find(|name| !is_mirror && tops.contains(*name)) {
        return refused(format!(
            "{} is on the drive, which has no copy of this repository, and a mirror would put its own there; move it away",
            shown(Path::new(taken))
        ));
    }
    let record = found.record.unwrap_or_else(|| {
        let names = names::noted(found.names.iter().filter(|name| tops.contains(*name)));
        DriveRecord { names, ..DriveRecord::new(id, name) }
    });
    let ours = names::of(&record.names);
    names::prove_ours(&found.names, tops, &ours)?;
    let foreign = found.names.difference(&ours).cloned().collect();
    Ok(Adoption { record: DriveRecord { drive: name.to_owned(), ..record }, foreign })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<OsString> {
        names.iter().map(OsString::from).collect()
    }

    fn found(record: Option<&str>, copy: Copy, names: &[&str]) -> Found {
        let record = record.map(|id| DriveRecord { names: vec!["holding".to_owned()], ..DriveRecord::new(id, "old") });
        Found { record, copy, names: set(names) }
    }

    /// What is left alone, or why the drive is not taken over.
    fn judged(found: Found) -> Result<Vec<OsString>, String> {
        let adoption = judge(found, "A", "ab", &set(&["holding"])).map_err(|stop| stop.to_string())?;
        assert_eq!((adoption.record.drive.as_str(), adoption.record.repository.as_str()), ("A", "ab"));
        Ok(adoption.foreign)
    }

    #[test]
    fn only_what_is_ours_or_nobodys_is_taken_over() {
        let of = |id: &str| Copy::Of(id.to_owned());
        let ours = || of("ab");
        assert_eq!(judged(found(None, Copy::Nothing, &[])), Ok(vec![]));
        assert_eq!(judged(found(None, ours(), &["holding", "films"])), Ok(vec!["films".into()]));
        assert_eq!(judged(found(Some("ab"), ours(), &["holding"])), Ok(vec![]));
        assert_eq!(judged(found(None, Copy::Nothing, &["films"])), Ok(vec!["films".into()]));
        let cases = [
            (found(Some("cd"), ours(), &[]), "belongs to the repository cd, not to ab"),
            (found(None, of("cd"), &[]), "holds the repository cd, not ab"),
            (found(Some("ab"), Copy::Unknown, &[]), "holds a repository without an id, not ab"),
            (found(None, Copy::Nothing, &["holding"]), "holding is on the drive, which has no copy"),
        ];
        for (found, why) in cases {
            let said = judged(found).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        let said = judged(Found { record: Some(DriveRecord::new("ab", "old")), ..found(None, ours(), &["holding"]) });
        assert!(said.unwrap_err().starts_with("holding is on the drive, where phobos did not put it"));
    }
}
