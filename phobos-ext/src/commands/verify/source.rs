//! `phobos-ext verify --source`: reads the repository itself again, so that rot in it is known before it matters.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, anyhow};
use phobos_core::borg::LOCK_FILES;
use phobos_core::error::Chain;
use phobos_core::exec::System;
use phobos_core::fs::shown;
use phobos_core::human;
use phobos_core::notify::Notifier;
use phobos_core::signal::Signals;
use phobos_site::config::Config;
use phobos_site::exit::{Exit, Stop};
use phobos_site::job::{Ending, Frame, Job, Spec, Visibility};
use phobos_site::led::Board;
use phobos_site::ledger::{Book, Ledger};
use phobos_site::lock::{LockName, Mode};
use phobos_site::namespace;
use phobos_site::paths::Paths;

use super::{Args, JOB, NAMED, Printed, print};
use crate::progress::Monitor;
use crate::reading::{Notes, Reader, Reading};
use crate::source::{self, Place};
use crate::{Cli, TABLES, checksums};

/// What it is called in the history, on the light and in what is printed.
const SOURCE: &str = "source";

/// Reads some of the repository.
pub(super) fn run(cli: &Cli, args: &Args) -> Result<(), anyhow::Error> {
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let paths = Paths::from_environment();
    let caught = || signals.caught();
    let board = Board::system().lit_by(cli.config.as_deref());
    let mut frame = Frame::new(&system, &caught, &paths, board, Instant::now());
    let light = format!("{JOB}-{SOURCE}");
    let config =
        Config::load(cli.config.as_deref(), &TABLES).inspect_err(|error| frame.failed_early(&light, &Chain(error)))?;
    let wait = cli.lock_wait.unwrap_or(config.locks.wait.0);
    frame.deadline = Instant::now().checked_add(wait).ok_or_else(|| anyhow!("the lock wait is too long"))?;
    let spec = Spec {
        name: JOB,
        object: SOURCE,
        light,
        working: "reading the repository again".to_owned(),
        visibility: Visibility::Failures,
        expected_end: None,
    };
    let systemd = Notifier::from_environment();
    systemd.status(&spec.working);
    let job = frame.begin(spec, None, &|text| log::info!("{text}"));
    let ledger = Ledger::new(&paths.ledger());
    let read = read(&system, &config, &frame, &job, &ledger, args, &systemd);
    let result = read.and_then(|(reading, book)| {
        print(args, &printed(&reading, &book));
        judge(&reading).map(|()| reading)
    });
    match &result {
        Ok(reading) => job.end(&Ending { bytes: Some(reading.bytes), ..Ending::default() }),
        Err(error) => job.end(&Ending::failed(error.as_ref())),
    }
    result.map(drop)
}

/// Reads, with no other job at the repository, and writes down how far it has come.
fn read(
    system: &System<'_>,
    config: &Config,
    frame: &Frame<'_>,
    job: &Job<'_>,
    ledger: &Ledger,
    args: &Args,
    systemd: &Notifier,
) -> Result<(Reading, Book), anyhow::Error> {
    let _repository = job.lock(&LockName::Repository, Mode::Exclusive)?;
    job.waiting(Instant::now() + namespace::WAIT, |patience| {
        namespace::enter(system, &config.backup, &frame.locks, job.light(), patience)
    })?;
    source::check(&config.backup)?;
    let place = Place::open(&config.backup)?;
    for lock in LOCK_FILES {
        if place.dir.stat(Path::new(lock))?.is_some() {
            let text = "somebody else's Borg is at work in the repository, so that what is half written is no damage; try later";
            return Err(Stop::new(Exit::Busy, text).into());
        }
    }
    let rounds = ledger.read().source;
    // More are damaged than have a name: only reading everything finds them, or that they are mended.
    let is_all = args.all || rounds.has_unnamed();
    let known: Vec<_> = rounds.unmended().filter_map(checksums::from_text).collect();
    // What was damaged before is mended, or not, by the whole of it.
    let mut notes = Notes::of_the_end(is_all);
    let time = args.time.unwrap_or(config.external.verify_time.0);
    let reader = Reader {
        root: &place.root,
        inner: &place.inner,
        until: if is_all { None } else { Instant::now().checked_add(time) },
        from: rounds.position().cloned().filter(|_| !is_all),
        known: &known,
        state: None,
    };
    let mut monitor = Monitor::new(None, frame.interrupted, systemd, &config.backup.mount);
    let reading = reader.read(&mut monitor.handler(), &mut notes)?;
    place.prove(&config.backup)?;
    let is_mended = (reading.whole || !rounds.has_unnamed())
        && !reading.damaged.iter().any(|damaged| known.contains(&damaged.path));
    let go = notes.end(&reading);
    let book = ledger.update_or_warn(|book| {
        if is_mended {
            book.source.mended();
        }
        book.source.note(go.clone());
    });
    Ok((reading.whole_go()?, book))
}

fn printed<'a>(reading: &Reading, book: &'a Book) -> Printed<'a> {
    Printed::new("the repository", reading, Some(&book.source))
}

fn judge(reading: &Reading) -> Result<(), anyhow::Error> {
    if reading.is_sound() {
        return Ok(());
    }
    let named: Vec<_> =
        reading.damaged.iter().map(|damaged| format!("{} ({})", shown(&damaged.path), damaged.why)).collect();
    let text = format!(
        "the repository is damaged: {}; the disk is failing, and what the drives have is safe from it: copy the repository to \
         another disk, put those files back from the drive that was mirrored to last (`phobos-ext open`), then run `borg check`",
        human::first_of(&named, NAMED, ", ")
    );
    Err(Stop::new(Exit::Refused, text).into())
}
