//! `phobos-ext verify`: reads a drive again, and says whether what lies on it is what was written.

mod source;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use chrono::{DateTime, Utc};
use phobos_core::error::Chain;
use phobos_core::exec::System;
use phobos_core::fs::{make_private, shown};
use phobos_core::human;
use phobos_core::mount::Access;
use phobos_core::notify::Notifier;
use phobos_core::signal::Signals;
use phobos_core::teardown;
use phobos_site::config::DriveChoice;
use phobos_site::drives::Target;
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::job::{Ending, Frame, Spec, Visibility};
use phobos_site::led::Board;
use phobos_site::ledger::{Book, Go, Ledger, Position, Rounds};
use phobos_site::logging;
use phobos_site::paths::Paths;
use serde::Serialize;

use super::at_drive::{AtDrive, Beginning, light};
use crate::progress::Monitor;
use crate::reading::{Damaged, Notes, Reader, Reading};
use crate::record::{DriveRecord, FOLDER, RunRecord};
use crate::seal::SEAL;
use crate::session::{Place, Session};
use crate::{Cli, boxed, opened, telling};

/// The job's name in the history and, with the drive's name, on the light.
pub(super) const JOB: &str = "verify";

/// The version of what is printed as JSON.
const SCHEMA_VERSION: u32 = 1;

/// How many damaged files the error names.
const NAMED: usize = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The drive: its name in the configuration, or the UUID of its LUKS container; else the one that is plugged in
    #[arg(value_name = "NAME", value_parser = crate::drive_name)]
    name: Option<DriveChoice>,
    /// For how long to read, such as 30m, instead of `verify-time`
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// Read everything once, however long that takes
    #[arg(long, conflicts_with = "time")]
    all: bool,
    /// Read the repository itself, instead of a drive
    #[arg(long, conflicts_with = "name")]
    source: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    schema_version: u32,
    /// The drive, or the repository.
    what: &'a str,
    files: u64,
    bytes: u64,
    /// Whether the end of everything was reached.
    whole: bool,
    damaged: Vec<Line>,
    /// How many more are damaged.
    more: u64,
    /// When the round began that this is a part of, or that it has ended.
    round_began: Option<DateTime<Utc>>,
    /// How many bytes were read since then.
    round_bytes: Option<u64>,
    /// In how many goes.
    round_visits: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Line {
    path: String,
    why: String,
}

/// Reads the drive.
pub(crate) fn run(cli: &Cli, args: &Args) -> Result<(), anyhow::Error> {
    exit::require_root()?;
    if args.source {
        return source::run(cli, args);
    }
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let paths = Paths::from_environment();
    let caught = || signals.caught();
    let board = Board::system().lit_by(cli.config.as_deref());
    let mut frame = Frame::new(&system, &caught, &paths, board, Instant::now());
    let drive = args.name.as_ref().or(cli.drive.as_ref());
    let beginning = Beginning { job: JOB, drive, programs: &["mount", "umount"], until: |_, _| None };
    let begun = beginning.begin(cli, &mut frame);
    let (config, target, _drive) = begun.inspect_err(|error| frame.failed_early(JOB, &Chain(error.as_ref())))?;
    let spec = Spec {
        name: JOB,
        object: target.name.as_str(),
        light: light(JOB, &target),
        working: format!("reading the drive {} again", target.name),
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
    let result = at_drive.enter(&frame, &job).and_then(|()| at_drive.read(&ledger, args));
    let result = result.and_then(|(reading, book)| {
        let rounds = book.drives.get(target.name.as_str()).map(|entry| &entry.rounds);
        print(args, &Printed::new(target.name.as_str(), &reading, rounds));
        at_drive.tell(cli, &frame, &ledger, &book);
        judge(&target, &reading).map(|()| reading)
    });
    match &result {
        Ok(reading) => {
            telling::forgive(&frame.board, JOB);
            let text = format!("the drive {} is safe to take away", target.name);
            systemd.status(&text);
            job.end(&Ending { bytes: Some(reading.bytes), text, ..Ending::default() });
        }
        Err(error) => job.end(&Ending::failed(error.as_ref())),
    }
    result.map(drop)
}

impl AtDrive<'_> {
    /// Opens the drive read-only, reads, closes it, and writes down how far it has come.
    fn read(&self, ledger: &Ledger, args: &Args) -> Result<(Reading, Book), anyhow::Error> {
        let name = self.target.name.as_str();
        let write = |go: Go| drop(ledger.update_or_warn(|book| book.has_read(name, go.clone())));
        let mut notes = Notes::begin(args.all, &write);
        let time = args.time.unwrap_or(self.config.external.verify_time.0);
        let until = if args.all { None } else { Instant::now().checked_add(time) };
        let from = ledger.read().drives.get(name).and_then(|entry| entry.rounds.position().cloned());
        let from = from.filter(|_| !args.all);
        let folder = opened::read_folder(self.paths, &self.target.name);
        make_private(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mapping = opened::read_mapping(&self.target.name)?;
        let place = Place { folder: &folder, mapping: &mapping };
        let session = Session::open_at(self.exec, self.config, self.target, Access::Look, &place)?;
        let read = self.read_at(&session, &folder, (until, from), &mut notes);
        let reading = teardown::join(read.map_err(boxed), session.close())?;
        let go = notes.end(&reading);
        let book = ledger.update_or_warn(|book| book.has_read(name, go.clone()));
        Ok((reading.whole_go()?, book))
    }

    fn read_at(
        &self,
        session: &Session<'_>,
        folder: &Path,
        (until, from): (Option<Instant>, Option<Position>),
        notes: &mut Notes<'_>,
    ) -> Result<Reading, anyhow::Error> {
        let root = session.root()?;
        require_mirror(session, self.target)?;
        let config = &self.config.backup;
        let inner = config.repository.strip_prefix(&config.mount).context("the repository is not below its mount")?;
        let mut monitor = Monitor::new(None, self.interrupted, self.systemd, folder);
        let reader = Reader { root, inner, until, from, known: &[], state: None };
        let reading = reader.read(&mut monitor.handler(), notes)?;
        // Of a drive that is not there any more nothing can be read either.
        session.prove()?;
        if !self.target.device.exists() {
            return Err(anyhow!("the drive was unplugged while it was read"));
        }
        Ok(reading)
    }
}

/// Refuses a drive that no mirror was made to, or none that is whole.
pub(super) fn require_mirror(session: &Session<'_>, target: &Target) -> Result<(), anyhow::Error> {
    if session.is_between_states() {
        let text =
            "the drive was not unmounted when it was unplugged, so that nothing on it can be told; mirror to it first";
        return Err(Stop::new(Exit::Refused, text).into());
    }
    let root = session.root()?;
    // What was sealed says that there was a mirror, whatever has become of the record.
    let is_sealed = root.stat(&Path::new(FOLDER).join(SEAL))?.is_some();
    let record = DriveRecord::read(root);
    if !is_sealed && record.is_ok_and(|record| record.is_none_or(|record| record.mirrored.is_none())) {
        let text = format!("no mirror has been made to the drive {} yet", target.name);
        return Err(Stop::new(Exit::Refused, text).into());
    }
    if RunRecord::read(root)?.is_some() {
        let text =
            "the last mirror to this drive did not end well, so that nothing on it can be told; mirror to it first";
        return Err(Stop::new(Exit::Refused, text).into());
    }
    Ok(())
}

impl<'a> Printed<'a> {
    /// What was read of `what`, a drive by its name.
    fn new(what: &'a str, reading: &Reading, rounds: Option<&Rounds>) -> Self {
        let whole = reading.whole;
        let round = rounds.and_then(|rounds| if whole { rounds.whole.as_ref() } else { rounds.current.as_ref() });
        let line = |found: &Damaged| Line { path: shown(&found.path), why: found.why.clone() };
        Self {
            schema_version: SCHEMA_VERSION,
            what,
            files: reading.files,
            bytes: reading.bytes,
            whole,
            damaged: reading.damaged.iter().map(line).collect(),
            more: reading.more,
            round_began: round.map(|round| round.began),
            round_bytes: round.map(|round| round.bytes),
            round_visits: round.map(|round| round.visits),
        }
    }

    /// The same on one line.
    fn summary(&self) -> String {
        let read = format!("{} read again of {}, in {} files", human::size(self.bytes), self.what, self.files);
        match (self.round_began, self.round_bytes) {
            (Some(began), _) if self.whole => format!("{read}; all of it was read since {}", human::local(began)),
            (Some(began), Some(bytes)) => {
                format!("{read}; {} since {}, and the next time goes on there", human::size(bytes), human::local(began))
            }
            _ => read,
        }
    }
}

/// Prints what was read; that nobody reads it changes nothing of what was found.
fn print(args: &Args, printed: &Printed<'_>) {
    let text = if args.json { serde_json::to_string_pretty(printed) } else { Ok(printed.summary()) };
    if let Err(error) = text.map_err(io::Error::from).and_then(|text| logging::result(&(text + "\n"))) {
        log::warn!("{}", Chain(&error));
    }
}

fn judge(target: &Target, reading: &Reading) -> Result<(), anyhow::Error> {
    if reading.is_sound() {
        return Ok(());
    }
    let named: Vec<_> =
        reading.damaged.iter().map(|damaged| format!("{} ({})", shown(&damaged.path), damaged.why)).collect();
    let count = reading.count();
    let text = format!(
        "the drive {} is damaged, in {count} {}: {}; the next mirror copies that again, and the drive is to be replaced",
        target.name,
        if count == 1 { "file" } else { "files" },
        human::first_of(&named, NAMED, ", ")
    );
    Err(Stop::new(Exit::Refused, text).into())
}
