//! `phobos-ext drill`: restores files from a drive, and says whether they are what they have to be.

mod opening;
mod restoring;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::borg::archive::ArchiveError;
use phobos_core::borg::config::ExportedKey;
use phobos_core::error::Chain;
use phobos_core::exec::{Secret, System};
use phobos_core::fs::{Dir, Kind, make_private, shown};
use phobos_core::human;
use phobos_core::mount::Access;
use phobos_core::notify::Notifier;
use phobos_core::signal::Signals;
use phobos_core::teardown;
use phobos_site::archives;
use phobos_site::config::{Config, DriveChoice};
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::job::{Ending, Frame, Spec, Visibility};
use phobos_site::led::Board;
use phobos_site::ledger::{Book, Drill, Ledger};
use phobos_site::logging;
use phobos_site::paths::Paths;
use serde::Serialize;

use self::restoring::{Restored, Restoring};
use super::at_drive::{AtDrive, Beginning, light};
use super::verify::require_mirror;
use crate::progress::Monitor;
use crate::session::{Place, Session};
use crate::{Cli, boxed, opened};

/// The job's name in the history and, with the drive's name, on the light.
const JOB: &str = "drill";

/// The version of what is printed as JSON.
const SCHEMA_VERSION: u32 = 1;

/// How many damaged files the error names.
const NAMED: usize = 3;

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Args {
    /// The drive: its name in the configuration, or the UUID of its LUKS container; else the one that is plugged in
    #[arg(value_name = "NAME", value_parser = crate::drive_name)]
    name: Option<DriveChoice>,
    /// For how long to restore, such as 30m, instead of `drill-time`
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// Restore everything that the newest archives have, to nowhere, however long that takes
    #[arg(long, conflicts_with = "time")]
    full: bool,
    /// Open it with its recovery passphrase and the key that was exported, as somebody does who has nothing of this machine
    #[arg(long)]
    recovery: bool,
    /// Do nothing, and end well, where no drive is plugged in
    #[arg(long)]
    if_here: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    schema_version: u32,
    drive: &'a str,
    files: u64,
    bytes: u64,
    /// How many of the files have another content here meanwhile, or are gone.
    changed: u64,
    hosts: Vec<HostLine<'a>>,
    /// Hosts with a holding space that no archive has files of.
    missing: &'a [String],
    damaged: Vec<Line<'a>>,
}

#[derive(Debug, Serialize)]
struct HostLine<'a> {
    host: &'a str,
    archive: &'a str,
    made: DateTime<Utc>,
    /// How many files the archive has of it.
    all: u64,
    files: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    path: String,
    archive: &'a str,
    why: &'a str,
}

/// Restores files from the drive.
pub(crate) fn run(cli: &Cli, args: &Args) -> Result<(), anyhow::Error> {
    exit::require_root()?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let paths = Paths::from_environment();
    let caught = || signals.caught();
    let board = Board::system().lit_by(cli.config.as_deref());
    let mut frame = Frame::new(&system, &caught, &paths, board, Instant::now());
    let drive = args.name.as_ref().or(cli.drive.as_ref());
    let beginning = Beginning { job: JOB, drive, programs: &["borg", "mount", "umount"], until: |_, _| None };
    let begun = beginning.begin(cli, &mut frame);
    if let Some(error) =
        begun.as_ref().err().filter(|error| args.if_here && exit::exit_of(error.as_ref()) == Exit::Absent)
    {
        log::info!("{}", Chain(error.as_ref()));
        return Ok(());
    }
    let (config, target, _drive) = begun.inspect_err(|error| frame.failed_early(JOB, &Chain(error.as_ref())))?;
    let name = target.name.as_str();
    let spec = Spec {
        name: JOB,
        object: name,
        light: light(JOB, &target),
        working: format!("restoring files from the drive {name}"),
        visibility: Visibility::All,
        expected_end: None,
    };
    let systemd = Notifier::from_environment();
    systemd.status(&spec.working);
    let job = frame.begin(spec, Some(&config.led), &|text| log::info!("{text}"));
    let at_drive = AtDrive {
        config: &config,
        target: &target,
        exec: &system,
        interrupted: &caught,
        systemd: &systemd,
        paths: &paths,
    };
    let ledger = Ledger::new(&paths.ledger());
    let result = at_drive.enter(&frame, &job).and_then(|()| at_drive.drill(&ledger, args));
    let result = result.and_then(|restored| {
        print(args, name, &restored);
        judge(&config, name, &restored).map(|()| restored)
    });
    let book = at_drive.note(&ledger, args, &result);
    at_drive.tell(cli, &frame, &ledger, &book);
    match &result {
        Ok(restored) => {
            let text = format!("the drive {name} restores, and is safe to take away");
            systemd.status(&text);
            job.end(&Ending { bytes: Some(restored.bytes), text, ..Ending::default() });
        }
        Err(error) => job.end(&Ending::failed(error.as_ref())),
    }
    result.map(drop)
}

/// A drive that is drilled, and what opens its archives.
struct Drilled<'a> {
    session: &'a Session<'a>,
    folder: &'a Path,
    passphrase: Secret,
    /// The key that was exported, and its file.
    exported: Option<(PathBuf, ExportedKey)>,
}

impl AtDrive<'_> {
    /// Opens the drive read-only, restores, and closes it.
    fn drill(&self, ledger: &Ledger, args: &Args) -> Result<Restored, anyhow::Error> {
        let opening::Kept { target, key: exported } = if args.recovery {
            opening::kept(self.target, self.interrupted)?
        } else {
            opening::Kept { target: self.target.clone(), key: None }
        };
        let passphrase = archives::passphrase(&self.config.backup.repository, exported.is_some(), self.interrupted)?;
        let time = args.time.unwrap_or(self.config.external.drill_time.0);
        let until = if args.full { None } else { Instant::now().checked_add(time) };
        let wanted = self.hosts(ledger)?;
        let folder = opened::read_folder(self.paths, &self.target.name);
        make_private(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mapping = opened::read_mapping(&self.target.name)?;
        let place = Place { folder: &folder, mapping: &mapping };
        let session = Session::open_at(self.exec, self.config, &target, Access::Look, &place);
        let session = session.map_err(|error| opening::locked(&target, error))?;
        let opened = Drilled { session: &session, folder: &folder, passphrase, exported };
        let restored = self.restore(&opened, (until, args.full), &wanted);
        Ok(teardown::join(restored.map_err(boxed), session.close())?)
    }

    fn restore(
        &self,
        opened: &Drilled<'_>,
        (until, is_full): (Option<Instant>, bool),
        wanted: &BTreeMap<OsString, u64>,
    ) -> Result<Restored, anyhow::Error> {
        let Drilled { session, folder, passphrase, exported } = opened;
        let root = session.root()?;
        require_mirror(session, self.target)?;
        let config = &self.config.backup;
        let inner = config.repository.strip_prefix(&config.mount).context("the repository is not below its mount")?;
        let keys = opening::keys(self.config, root, inner, exported.as_ref().map(|(_, key)| key))?;
        let notes = archives::notes(self.paths, JOB, self.target.name.as_str(), archives::user()?)
            .context("cannot make a place for what Borg notes")?;
        let mut archives = archives::confined(self.exec, &folder.join(inner), notes.folder(), passphrase.clone())
            .context("cannot find this program")?;
        if let Some((file, _)) = exported {
            archives.sandbox.read.push(file.clone());
            archives.key_file = Some(file.clone());
        }
        let holding = Dir::open(&config.holding)?;
        let inside = config.holding.strip_prefix("/").unwrap_or(&config.holding);
        let mut monitor = Monitor::new(None, self.interrupted, self.systemd, folder);
        let mut handler = monitor.handler();
        let mut restoring = Restoring::new(&archives, &holding, inside, until, &mut handler);
        let done = if is_full { restoring.all(wanted) } else { restoring.sample(wanted) };
        let done = done.map_err(|error| match error.downcast_ref::<ArchiveError>() {
            Some(ArchiveError::Unopened { why }) => opening::unopened(&self.target.name, *why, keys),
            Some(ArchiveError::Damaged { said }) => {
                let text = format!("the repository on the drive {} cannot be opened: {said}", self.target.name);
                Stop::new(Exit::Refused, text).into()
            }
            _ => error,
        });
        let restored = std::mem::take(&mut restoring.restored);
        notes.close().context("cannot remove what Borg has noted")?;
        done?;
        // Of a drive that is not there any more nothing can be restored either.
        session.prove()?;
        if !self.target.device.exists() {
            return Err(anyhow!("the drive was unplugged while files were restored from it"));
        }
        Ok(restored)
    }

    /// The hosts that have holding spaces, and where in the circle each goes on.
    fn hosts(&self, ledger: &Ledger) -> Result<BTreeMap<OsString, u64>, anyhow::Error> {
        let book = ledger.read();
        let next =
            book.drives.get(self.target.name.as_str()).map(|entry| entry.drills.next.clone()).unwrap_or_default();
        let holding = Dir::open(&self.config.backup.holding)?;
        let mut hosts = BTreeMap::new();
        for entry in holding.entries()? {
            let is_folder = holding.stat(Path::new(&entry.name))?.is_some_and(|stat| stat.kind == Kind::Dir);
            if is_folder && !entry.name.as_encoded_bytes().starts_with(b".") {
                let from = next.get(entry.name.to_string_lossy().as_ref()).copied().unwrap_or_default();
                hosts.insert(entry.name, from);
            }
        }
        if hosts.is_empty() {
            let text = format!("there is no holding space in {} to compare with", self.config.backup.holding.display());
            return Err(Stop::new(Exit::Config, text).into());
        }
        Ok(hosts)
    }

    /// Writes down how it went; what a person or another job is in the way of says nothing of the drive.
    fn note(&self, ledger: &Ledger, args: &Args, result: &Result<Restored, anyhow::Error>) -> Book {
        let (name, now) = (self.target.name.as_str(), Utc::now());
        ledger.update_or_warn(|book| {
            let is_mirrored = book.drives.get(name).is_some_and(|entry| entry.mirror.is_some());
            let drills = book.drills(name);
            match result {
                Ok(restored) => {
                    let next = restored.hosts.iter().filter_map(|host| Some((host.name.clone(), host.next?)));
                    drills.turn(next.collect());
                    let archived = restored.hosts.iter().map(|host| host.archive.made).min().unwrap_or(now);
                    let (files, bytes) = (restored.files, restored.bytes);
                    // Of a drive that is not encrypted there was no passphrase to try.
                    let (full, recovery) = (args.full, args.recovery && self.target.luks.is_some());
                    drills.went_well(Drill { at: now, files, bytes, archived, full, recovery });
                }
                Err(error) if is_mirrored && exit::exit_of(error.as_ref()) == Exit::Refused => {
                    drills.went_wrong(now, Chain(error.as_ref()).to_string());
                }
                Err(_) => {}
            }
        })
    }
}

/// Prints what was restored; that nobody reads it changes nothing of what was found.
fn print(args: &Args, drive: &str, restored: &Restored) {
    let text = if args.json {
        let printed = Printed {
            schema_version: SCHEMA_VERSION,
            drive,
            files: restored.files,
            bytes: restored.bytes,
            changed: restored.changed,
            hosts: restored.hosts.iter().map(HostLine::from).collect(),
            missing: &restored.missing,
            damaged: restored
                .damaged
                .iter()
                .map(|damaged| Line { path: shown(&damaged.path), archive: &damaged.archive, why: &damaged.why })
                .collect(),
        };
        serde_json::to_string_pretty(&printed)
    } else {
        Ok(summary(drive, restored))
    };
    if let Err(error) = text.map_err(io::Error::from).and_then(|text| logging::result(&(text + "\n"))) {
        log::warn!("{}", Chain(&error));
    }
}

impl<'a> From<&'a restoring::Host> for HostLine<'a> {
    fn from(host: &'a restoring::Host) -> Self {
        let archive = host.archive.name.as_str();
        Self { host: &host.name, archive, made: host.archive.made, all: host.all, files: host.files, bytes: host.bytes }
    }
}

/// The same on one line.
fn summary(drive: &str, restored: &Restored) -> String {
    let hosts: Vec<_> =
        restored.hosts.iter().map(|host| format!("{} of {} of {}", host.files, host.all, host.name)).collect();
    let changed = match restored.changed {
        0 => String::new(),
        count => format!("; {count} of them have changed here since"),
    };
    let missing = if restored.missing.is_empty() {
        String::new()
    } else {
        format!("; in no archive: {}", human::first_of(&restored.missing, NAMED, ", "))
    };
    let size = human::size(restored.bytes);
    format!("{} files restored from {drive}, {size}: {}{changed}{missing}", restored.files, hosts.join(", "))
}

fn judge(config: &Config, drive: &str, restored: &Restored) -> Result<(), anyhow::Error> {
    let mut wrong = Vec::new();
    if !restored.damaged.is_empty() {
        let count = restored.damaged.len();
        let files = if count == 1 { "file is" } else { "files are" };
        let named = restored.named(NAMED);
        wrong.push(format!(
            "{count} {files} not what was archived: {named}; `phobos-ext verify {drive} --all` looks at all of it"
        ));
    }
    let age = TimeDelta::from_std(config.external.drill_age.0).unwrap_or(TimeDelta::MAX);
    let old = |host: &&restoring::Host| Utc::now().signed_duration_since(host.archive.made) > age;
    let old: Vec<_> = restored.hosts.iter().filter(old).collect();
    if let Some(host) = old.iter().min_by_key(|host| host.archive.made) {
        let names: Vec<_> = old.iter().map(|host| host.name.as_str()).collect();
        wrong.push(format!(
            "the newest archive of {} on it was made on {}, more than {} ago; mirror to it, or look why no newer one is made",
            human::first_of(&names, NAMED, ", "),
            human::day(host.archive.made),
            human::duration(config.external.drill_age.0)
        ));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Stop::new(Exit::Refused, format!("the drive {drive} does not restore as it should: {}", wrong.join("; and ")))
        .into())
}
