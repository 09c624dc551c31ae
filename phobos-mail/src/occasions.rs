//! What phobos-mail is called for: a failure, a recovery, a spool to be emptied, a test.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use chrono::Local;
use phobos_core::exec::System;
use phobos_site::exit::{Exit, Stop};
use phobos_site::led::Board;
use phobos_site::mail::{Address, Settings};

use crate::deliver::{self, Outcome, Own, within};
use crate::gather::{self, Findings};
use crate::letter::{self, Letter};
use crate::light::{self, Showing};
use crate::spool::{Claim, Spool};
use crate::storm::{self, Held, Open, Recovery, Verdict};
use crate::text;
use crate::transport::Deadline;
use crate::unit::{Monitor, Name};

/// By when a run is over, its last attempt included.
pub(crate) const LIMIT: Duration = Duration::from_secs(55);

/// How long it may take to find out about a failure: a dying disk under the journal must not keep the mail.
const GATHER_LIMIT: Duration = Duration::from_secs(15);

/// How long a mail is tried that nobody keeps; the light may have to wait as long to turn red.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every occasion needs.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    /// Whatever the receiver should know about how this mail came to be.
    pub(crate) notes: Vec<String>,
    pub(crate) deadline: Deadline,
    /// The folder of the spool.
    pub(crate) folder: std::path::PathBuf,
}

/// Mails that `unit` failed, or holds that back if it was told less than an hour ago.
///
/// # Errors
///
/// When a letter could not be sent; it is kept, or else lost.
pub(crate) fn failure(context: Context, unit: &Name, to: Option<&str>) -> Result<()> {
    let Context { settings, mut notes, deadline, folder } = context;
    let monitor = Monitor::of(unit, |name| std::env::var(name).ok());
    let to = to.and_then(|to| checked(to, &mut notes));
    let spool = open(&folder);
    let mut record = spool.as_ref().and_then(|_| record(&folder, unit));
    let invocation = monitor.invocation.as_deref();
    let verdict = record.as_mut().map(|open| open.record.failed(Local::now().timestamp(), invocation, to.as_deref()));
    let own = match verdict {
        Some(Verdict::Hold(count)) => {
            let times = text::count(count, "time");
            log::info!("{} failed {times} since the last mail about it; a mail an hour says so", unit.shown());
            Vec::new()
        }
        other => {
            let held = other.and_then(|verdict| if let Verdict::Tell(held) = verdict { held } else { None });
            let mut findings = find_out(unit, &monitor);
            findings.notes.append(&mut notes);
            let mut letter = letter::about_failure(unit, &findings, held.as_ref());
            letter.to = to;
            vec![keep(spool.as_ref(), letter)]
        }
    };
    // After the letter is in the spool: a power cut in between tells too much rather than too little.
    if let Some(Err(error)) = record.as_ref().map(Open::save) {
        log::warn!("{error:#}");
    }
    drop(record);
    conclude(&deliver::all(spool, own, settings, deadline), &folder, Showing::Later)
}

/// Mails that `unit` works again, if a mail has told that it failed.
///
/// # Errors
///
/// As for [`failure`].
pub(crate) fn recovery(context: Context, unit: &Name, to: Option<&str>) -> Result<()> {
    let Context { settings, mut notes, deadline, folder } = context;
    let to = to.and_then(|to| checked(to, &mut notes));
    let spool = Spool::open(&folder)?;
    let mut open = storm::open(&folder, &unit.shown())?;
    let now = Local::now().timestamp();
    let own = match open.record.resolved(now) {
        Recovery::NoNews => return Ok(()),
        Recovery::Noted => Vec::new(),
        Recovery::Tell(held) => {
            let mut letter = letter::about_recovery(unit, held.as_ref());
            letter.to = to;
            vec![keep(Some(&spool), letter)]
        }
    };
    open.save()?;
    drop(open);
    conclude(&deliver::all(Some(spool), own, settings, deadline), &folder, Showing::Later)
}

/// Sends what waits, and tells what was held back for an hour.
///
/// # Errors
///
/// When something is left.
pub(crate) fn flush(context: Context) -> Result<()> {
    let Context { settings, deadline, folder, .. } = context;
    let spool = Spool::open(&folder)?;
    spool.tidy();
    let own = summaries(&folder, &spool).unwrap_or_else(|error| {
        log::warn!("cannot tell what was held back: {error:#}");
        Vec::new()
    });
    let outcome = deliver::all(Some(spool), own, settings, deadline);
    if outcome.sent > 0 {
        log::info!("sent {}", text::count(outcome.sent, "message"));
    }
    conclude(&outcome, &folder, Showing::IfStale)
}

/// The messages that wait, one a line, oldest first.
///
/// # Errors
///
/// When the spool cannot be read.
pub(crate) fn waiting(folder: &Path) -> Result<Vec<String>> {
    let spool = Spool::open(folder)?;
    let letters = spool.list()?.into_iter().filter_map(|path| match Claim::take(&path) {
        Ok(claim) => claim.map(|claim| claim.letter.clone()),
        Err(error) => {
            log::warn!("{error:#}");
            None
        }
    });
    Ok(letters.map(|letter| format!("{} {}", text::stamp(text::local(letter.written)), letter.subject)).collect())
}

/// Sends a test, which nobody keeps, and returns the way it left.
///
/// # Errors
///
/// When it could not be sent.
pub(crate) fn test(context: Context, to: Option<String>) -> Result<String> {
    let mut letter = letter::test();
    if let Some(to) = to {
        letter.to = Some(to.parse::<Address>()?.as_str().to_owned());
    }
    let outcome = deliver::one(letter, context.settings, context.deadline);
    let trouble = outcome.why.as_deref().map(|why| format!("no mail can be sent: {why}"));
    light::tell(&System::default(), &Board::system(), trouble.as_deref(), Showing::Now);
    outcome.way.ok_or_else(|| anyhow!("cannot send the test: {}", outcome.why.unwrap_or_default()))
}

/// Posts to the light whether mail waits, or whether the unit that this is a part of has failed.
///
/// # Errors
///
/// When the spool cannot be read.
pub(crate) fn show(folder: &Path, showing: Showing) -> Result<()> {
    let failed = std::env::var("SERVICE_RESULT").is_ok_and(|result| result != "success");
    let count = u64::try_from(Spool::open(folder)?.list()?.len())?;
    let trouble = match count {
        0 if failed => Some("mail cannot be sent".to_owned()),
        0 => None,
        _ => Some(format!("{} cannot be sent", text::count(count, "message"))),
    };
    light::tell(&System::default(), &Board::system(), trouble.as_deref(), showing);
    Ok(())
}

/// The address `to`, if it is one; a mail to the usual receiver is better than none.
fn checked(to: &str, notes: &mut Vec<String>) -> Option<String> {
    match to.parse::<Address>() {
        Ok(address) => Some(address.as_str().to_owned()),
        Err(error) => {
            log::warn!("{error}; the mail goes to the usual receiver");
            notes.push(format!("To whom this should go: {}", text::line(&error.to_string(), 300)));
            None
        }
    }
}

/// The spool, if there can be one: under `DynamicUser=yes` without `StateDirectory=` there is no folder to write to.
fn open(folder: &Path) -> Option<Spool> {
    match Spool::open(folder) {
        Ok(spool) => Some(spool),
        Err(error) => {
            log::warn!(
                "{error:#}; if the mail cannot be sent now, it is lost: the unit needs StateDirectory=phobos-mail"
            );
            None
        }
    }
}

/// The record of `unit`, if it can be had; without it, every failure is told.
fn record(folder: &Path, unit: &Name) -> Option<Open> {
    match storm::open(folder, &unit.shown()) {
        Ok(open) => Some(open),
        Err(error) => {
            log::warn!("{error:#}; every failure of {} is told", unit.shown());
            None
        }
    }
}

fn find_out(unit: &Name, monitor: &Monitor) -> Findings {
    let (name, copy) = (unit.clone(), monitor.clone());
    let found = within(GATHER_LIMIT, move || gather::about(&System::default(), &name, &copy));
    found.unwrap_or_else(|| {
        log::warn!("systemd and the journal take too long; the mail goes without them");
        gather::nothing(monitor)
    })
}

/// Puts `letter` into the spool, if there is one that takes it.
fn keep(spool: Option<&Spool>, letter: Letter) -> Own {
    let Some(spool) = spool else { return Own::Loose(letter, PATIENCE) };
    match spool.add(letter.clone()) {
        Ok(claim) => Own::Kept(claim),
        Err(error) => {
            log::warn!("{error:#}; if the mail cannot be sent now, it is lost");
            Own::Loose(letter, PATIENCE)
        }
    }
}

/// Writes the letters about failures that were held back for an hour.
fn summaries(folder: &Path, spool: &Spool) -> Result<Vec<Own>> {
    let now = Local::now().timestamp();
    let mut written = Vec::new();
    for mut open in storm::open_all(folder, now)? {
        let Some(held) = open.record.due(now) else { continue };
        let letter = summary(&open.record.unit, &held);
        written.push(Own::Kept(spool.add(letter)?));
        if let Err(error) = open.save() {
            log::warn!("{error:#}");
        }
    }
    Ok(written)
}

fn summary(unit: &str, held: &Held) -> Letter {
    let unit = Name::new(unit);
    let monitor = Monitor { invocation: held.invocation.clone(), ..Monitor::default() };
    let findings = find_out(&unit, &monitor);
    let mut letter = letter::about_storm(&unit, held, &findings);
    letter.to.clone_from(&held.to);
    letter
}

/// Tells the light and the caller what a delivery came to.
fn conclude(outcome: &Outcome, folder: &Path, showing: Showing) -> Result<()> {
    let why = outcome.why.clone().unwrap_or_default();
    let count = text::count(outcome.left, "message");
    let result = match outcome {
        Outcome { lost: true, .. } => Err(Stop::new(Exit::Failed, format!("a mail is lost: {why}"))),
        Outcome { left: 0, .. } => Ok(()),
        Outcome { .. } => {
            let message = format!("{count} kept in {} and tried again later: {why}", folder.display());
            Err(Stop::new(Exit::Busy, message))
        }
    };
    let trouble = result.as_ref().err().map(ToString::to_string);
    light::tell(&System::default(), &Board::system(), trouble.as_deref(), showing);
    if let (Ok(()), Some(way)) = (&result, &outcome.way) {
        log::info!("sent through {way}");
    }
    result.map_err(Into::into)
}
