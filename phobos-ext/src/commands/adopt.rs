//! `phobos-ext adopt`: takes over a drive that was prepared by hand, with what is on it, and writes nothing to it but `.phobos/`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::Utc;
use phobos_core::borg::Repository;
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, Invocation, System};
use phobos_core::fs::{Dir, Durability, make_shared, replace, shown, shown_text};
use phobos_core::human;
use phobos_core::luks::{self, Uuid};
use phobos_core::mount::Access;
use phobos_core::signal::Signals;
use phobos_core::systemd;
use phobos_site::config::{AbsolutePath, Config, Container, DRIVES, Drive, DriveName};
use phobos_site::drives::Target;
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::ledger::{Ledger, Mirror};
use phobos_site::lock::Locks;
use phobos_site::paths::Paths;

use super::alone;
use crate::names::{is_own, tops};
use crate::record::DriveRecord;
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
        return Ok(Drive { name, container: Container::Plain { device: absolute(&device)? } });
    };
    let default = PathBuf::from(format!("/etc/phobos/keys/{}.key", name.as_str()));
    let key_file = args.key_file.clone().map_or_else(|| absolute(&default), Ok)?;
    if !key_file.is_file() {
        let text = format!("there is no key file {}; name it with --key-file", key_file.display());
        return Err(Stop::new(Exit::Config, text).into());
    }
    Ok(Drive { name, container: Container::Luks { uuid, key_file } })
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

/// Whether the configuration does not have the drive yet; one that has another drive of that name, or this one by another, is wrong.
fn is_new(config: &Config, drive: &Drive) -> Result<bool, Stop> {
    let name = drive.name.as_str();
    for other in &config.external.drive {
        let is_same = match (&other.container, &drive.container) {
            (Container::Luks { uuid, .. }, Container::Luks { uuid: own, .. }) => uuid == own,
            (Container::Plain { device }, Container::Plain { device: own }) => {
                let real = |path: &Path| fs::canonicalize(path).ok();
                device == own || (real(device).is_some() && real(device) == real(own))
            }
            _ => false,
        };
        match (other.name == drive.name, is_same) {
            (true, true) => return Ok(false),
            (false, false) => {}
            (true, false) => {
                return Err(Stop::new(
                    Exit::Config,
                    format!("another drive is called {name}; give this one another name"),
                ));
            }
            (false, true) => {
                let text = format!("this drive is configured already, as {}", other.name.as_str());
                return Err(Stop::new(Exit::Config, text));
            }
        }
    }
    Ok(true)
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
        let names = found.names.iter().filter(|name| tops.contains(*name)).filter_map(|name| name.to_str());
        DriveRecord { names: names.map(str::to_owned).collect(), ..DriveRecord::new(id, name) }
    });
    let is_ours = |name: &OsString| {
        tops.contains(name) || name.to_str().is_some_and(|name| record.names.iter().any(|own| own == name))
    };
    let foreign = found.names.iter().filter(|name| !is_ours(name)).cloned().collect();
    Ok(Adoption { record: DriveRecord { drive: name.to_owned(), ..record }, foreign })
}

/// Writes down what the drive says of itself; that it cannot is a warning.
fn remember(ledger: &Ledger, drive: &Drive, mirror: Option<Mirror>) {
    let written = ledger.update(|book| book.learn(drive.name.as_str(), mirror, Utc::now()));
    if let Err(error) = written {
        log::warn!("{}", Chain(&error));
    }
}

/// Gives the drive its file in the configuration.
fn configure(config: &Config, drive: &Drive) -> Result<(), anyhow::Error> {
    let file = config.folder.join(DRIVES).join(format!("{}.toml", drive.name.as_str()));
    if file.exists() {
        let text = format!("{} is there already, and is not this drive's; move it away", file.display());
        return Err(Stop::new(Exit::Config, text).into());
    }
    let text = text(drive);
    let written = make_shared(&config.folder.join(DRIVES))
        .and_then(|()| replace(&file, text.as_bytes(), 0o644, Durability::Synced));
    written.with_context(|| format!("cannot write {}", file.display()))?;
    log::info!("wrote {}", file.display());
    Ok(())
}

/// The file of the configuration; TOML's strings are JSON's, as far as these names and paths go.
fn text(drive: &Drive) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let container = match &drive.container {
        Container::Luks { uuid, key_file } => {
            format!("uuid = {}\nkey-file = {}\n", quoted(uuid.as_str()), quoted(&key_file.to_string_lossy()))
        }
        Container::Plain { device } => format!("device = {}\n", quoted(&device.to_string_lossy())),
    };
    format!("[[external.drive]]\nname = {}\n{container}", quoted(drive.name.as_str()))
}

/// Has systemd mirror when the drive is plugged in; where it cannot, that is a warning with the command.
fn enable(exec: &dyn Exec, drive: &Drive) {
    let Container::Luks { uuid, .. } = &drive.container else { return };
    let unit = unit(uuid);
    if let Err(error) = exec.run(&Invocation::new("systemctl").args(["enable", &unit])) {
        log::warn!("{}; plugging the drive in starts a mirror after `systemctl enable '{unit}'`", Chain(&error));
    }
}

fn unit(uuid: &Uuid) -> String {
    format!("phobos-ext@{}.service", systemd::escape(uuid.as_str()))
}

fn name(text: &str) -> Result<DriveName, String> {
    DriveName::try_from(text.to_owned()).map_err(|error| error.to_string())
}

fn path(text: &str) -> Result<AbsolutePath, String> {
    AbsolutePath::try_from(PathBuf::from(text)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<OsString> {
        names.iter().map(OsString::from).collect()
    }

    fn found(record: Option<&str>, copy: Copy, names: &[&str]) -> Found {
        Found { record: record.map(|id| DriveRecord::new(id, "old")), copy, names: set(names) }
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
    }

    #[test]
    fn the_file_that_is_written_is_read_as_the_drive_that_was_meant() {
        let uuid = Uuid::try_from("11111111-2222-4333-8444-555555555555".to_owned()).unwrap();
        let path = |text: &str| AbsolutePath::try_from(PathBuf::from(text)).unwrap();
        let containers = [
            Container::Luks { uuid: uuid.clone(), key_file: path("/etc/phobos/keys/A \"1\".key") },
            Container::Plain { device: path("/dev/disk/by-label/ext\\x20b") },
        ];
        for container in containers {
            let drive = Drive { name: DriveName::try_from("A".to_owned()).unwrap(), container };
            let read = Config::parse(Path::new("A.toml"), &text(&drive)).unwrap().external.drive;
            assert_eq!((read[0].name.as_str(), &read[0].container), ("A", &drive.container));
        }
        assert_eq!(unit(&uuid), r"phobos-ext@11111111\x2d2222\x2d4333\x2d8444\x2d555555555555.service");
    }

    #[test]
    fn a_drive_that_is_configured_is_not_added_again() {
        let text =
            "[[external.drive]]\nname = 'A'\ndevice = '/dev/x'\n[[external.drive]]\nname = 'B'\ndevice = '/dev/y'\n";
        let config = Config::parse(Path::new("test"), text).unwrap();
        let drive = |name: &str, device: &str| Drive {
            name: DriveName::try_from(name.to_owned()).unwrap(),
            container: Container::Plain { device: AbsolutePath::try_from(PathBuf::from(device)).unwrap() },
        };
        let said = |drive: &Drive| is_new(&config, drive).map_err(|stop| stop.to_string());
        assert_eq!((said(&drive("A", "/dev/x")), said(&drive("C", "/dev/z"))), (Ok(false), Ok(true)));
        assert!(said(&drive("A", "/dev/y")).unwrap_err().contains("another drive is called A"));
        assert!(said(&drive("C", "/dev/y")).unwrap_err().contains("configured already, as B"));
    }
}
