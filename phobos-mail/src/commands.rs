//! What phobos-mail is called for: a failure, a recovery, a note, a spool to be emptied, a test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use chrono::Local;
use phobos_core::exec::System;
use phobos_site::exit::{Exit, Stop};
use phobos_site::led::Board;
use phobos_site::mail::{Address, Settings};

use crate::bounded::within;
use crate::deliver::{self, Outcome, Own, Which};
use crate::gather::{self, Findings};
use crate::giving_on;
use crate::letter::{self, Letter};
use crate::light::{self, Showing};
use crate::spool::Spool;
use crate::text;
use crate::throttle::{self, Held, Open, Recovery, Verdict};
use crate::transport::Deadline;
use crate::trial::{self, Trial};
use crate::unit::{Monitor, Name};
use crate::waiting;

/// By when a run is over, its last attempt included.
pub(crate) const LIMIT: Duration = Duration::from_secs(55);

/// How long it may take to find out about a failure: a dying disk under the journal must not keep the mail.
const GATHER_LIMIT: Duration = Duration::from_secs(15);

/// How long a mail is tried that nobody keeps; the light may have to wait as long to turn red.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every command needs.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    /// Whatever the receiver should know about how this mail came to be.
    pub(crate) notes: Vec<String>,
    pub(crate) deadline: Deadline,
    /// The folders of the spools, the one first that new letters are kept in.
    pub(crate) folders: Vec<PathBuf>,
}

impl Context {
    /// The folder that new letters are kept in.
    fn folder(&self) -> PathBuf {
        self.folders.first().cloned().unwrap_or_default()
    }

    /// Sends what waits, and `own` with it, and tells how that went.
    fn deliver(self, spools: Vec<Spool>, own: Vec<Own>, which: Which, showing: Showing) -> Result<Outcome> {
        let outcome = deliver::all(spools, own, which, self.settings, self.deadline);
        conclude(&outcome, &self.folders, showing).map(|()| outcome)
    }
}

/// Mails that `unit` failed, or holds that back if it was told less than an hour ago.
///
/// # Errors
///
/// When a letter could not be sent; it is kept, or else lost.
pub(crate) fn failure(context: Context, unit: &Name, to: Option<&str>) -> Result<()> {
    let mut context = context;
    let folder = context.folder();
    let mut notes = std::mem::take(&mut context.notes);
    let monitor = Monitor::of(unit, |name| std::env::var(name).ok());
    let to = to.and_then(|to| checked(to, &mut notes));
    let spool = open(&folder);
    let mut record = spool.as_ref().and_then(|_| record(&folder, unit));
    let invocation = monitor.invocation.as_deref();
    let verdict = record.as_mut().map(|open| open.record.failed(Local::now().timestamp(), invocation, to.as_deref()));
    let own = match verdict {
        Some(Verdict::Hold(count)) => {
            let times = text::count(count, "time");
            log::info!("{} failed {times} since the last mail about it; a mail an hour says so", unit.printable());
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
    context.deliver(spool.into_iter().collect(), own, Which::Due, Showing::Later).map(drop)
}

/// Mails that `unit` works again, if a mail has told that it failed.
///
/// # Errors
///
/// As for [`failure`].
pub(crate) fn recovery(context: Context, unit: &Name, to: Option<&str>) -> Result<()> {
    let mut context = context;
    let folder = context.folder();
    let mut notes = std::mem::take(&mut context.notes);
    let to = to.and_then(|to| checked(to, &mut notes));
    let spool = Spool::open(&folder)?;
    let mut open = throttle::open(&folder, &unit.printable())?;
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
    context.deliver(vec![spool], own, Which::Due, Showing::Later).map(drop)
}

/// Mails a note, which is about no unit's failure; the light stays as it is.
///
/// # Errors
///
/// When it could not be sent; it is kept, or else lost.
pub(crate) fn note(context: Context, subject: &str, body: &str) -> Result<()> {
    let spool = open(&context.folder());
    let own = vec![keep(spool.as_ref(), letter::note(subject, body))];
    context.deliver(spool.into_iter().collect(), own, Which::Due, Showing::Later).map(drop)
}

/// Sends what waits, and tells what was held back for an hour.
///
/// # Errors
///
/// When something is left.
pub(crate) fn flush(context: Context, which: Which, set_aside: SetAside) -> Result<()> {
    // The first spool is made, so that it is known whether it can be.
    let mut spools = vec![Spool::open(&context.folder())?];
    spools.extend(waiting::spools(context.folders.get(1..).unwrap_or_default())?);
    let mut own = Vec::new();
    for spool in &spools {
        spool.tidy();
        if set_aside == SetAside::TakeBack {
            take_back(spool)?;
        }
        match summaries(spool) {
            Ok(written) => own.extend(written),
            Err(error) => log::warn!("cannot tell what was held back: {error:#}"),
        }
    }
    let outcome = context.deliver(spools, own, which, Showing::IfStale)?;
    if outcome.sent > 0 {
        log::info!("sent {}", text::count(outcome.sent, "message"));
    }
    Ok(())
}

/// Whether letters that were set aside are tried, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetAside {
    Leave,
    TakeBack,
}

fn take_back(spool: &Spool) -> Result<()> {
    for name in spool.list_refused()? {
        spool.take_back(&name)?;
    }
    Ok(())
}

/// Hands what waits in root's own spool over to the units', whose timer sees to it.
///
/// # Errors
///
/// When a letter cannot be handed over; it waits where it is.
pub(crate) fn collect(folders: &[PathBuf]) -> Result<()> {
    let [units, own] = folders else { return Ok(()) };
    if let (Some(units), Some(own)) = (Spool::find(units)?, Spool::find(own)?) {
        let count = waiting::hand_over(&own, &units)?;
        if count > 0 {
            log::info!("took over {} of root's own", text::count(count, "message"));
        }
    }
    Ok(())
}

/// Drops a letter, and tells the light what is left.
///
/// # Errors
///
/// As for [`waiting::drop_letter`].
pub(crate) fn drop_letter(folders: &[PathBuf], id: &str) -> Result<String> {
    let dropped = waiting::drop_letter(folders, id)?;
    light::tell(&System::default(), &Board::system(), waiting::trouble(folders)?.as_deref(), Showing::IfStale);
    Ok(dropped)
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
    let Context { settings, deadline, folders, .. } = context;
    let outcome = deliver::one(letter, settings, deadline);
    told_of_test(&folders, outcome.way.is_none().then(|| outcome.why.clone().unwrap_or_default()).as_deref());
    outcome.way.ok_or_else(|| anyhow!("cannot send the test: {}", outcome.why.unwrap_or_default()))
}

/// The same as the last step of a unit, for a test that the unit itself could not send: it returns the way, or nothing where this
/// is none.
///
/// # Errors
///
/// When it could not be sent.
pub(crate) fn test_given_on(context: &Context, to: Option<String>) -> Result<Option<String>> {
    if std::env::var("EXIT_STATUS").is_ok_and(|status| status == "0") {
        return Ok(None);
    }
    let letter = Letter { to, ..letter::test() };
    match giving_on::test(letter, &context.folders, &context.settings)? {
        None => Ok(None),
        Some(Outcome { way: Some(way), .. }) => Ok(Some(way)),
        Some(Outcome { why, .. }) => Err(anyhow!("cannot send the test: {}", why.unwrap_or_default())),
    }
}

/// Sends a test by the failures' own unit, and returns what is to be told of it. Where there is no such unit, or the caller is
/// not root, it is sent as whoever calls, and what that does not prove is said.
///
/// # Errors
///
/// When it could not be sent.
pub(crate) fn test_as_units(context: Context, config: Option<&Path>, to: Option<String>) -> Result<String> {
    let exec = System::default();
    let to = to.map(|to| to.parse::<Address>()).transpose()?.map(|to| to.as_str().to_owned());
    let trial = if rustix::process::geteuid().is_root() {
        let config = config.map(std::path::absolute).transpose()?;
        trial::run(&exec, config.as_deref(), to.as_deref())?
    } else {
        Trial::Untried("only root can start units".to_owned())
    };
    match trial {
        Trial::Sent(said) => {
            told_of_test(&context.folders, None);
            Ok(format!("{said}, as status-email-user@.service sends it"))
        }
        Trial::Failed(why) => {
            told_of_test(&context.folders, Some(&why));
            Err(anyhow!("status-email-user@.service cannot send mail: {why}"))
        }
        Trial::Untried(why) => {
            let way = test(context, to)?;
            log::warn!(
                "sent by the caller of this test ({why}): it is proved that mail leaves this machine, and not that the \
                 units' user may send any, nor that it gets a credential"
            );
            Ok(format!("the test left through {way}"))
        }
    }
}

/// Tells the light how a test went: one that went well says nothing about mail that waits.
pub(crate) fn told_of_test(folders: &[PathBuf], why: Option<&str>) {
    let waiting =
        waiting::trouble(folders).unwrap_or_else(|error| Some(format!("cannot look after the mail: {error:#}")));
    let trouble = why.map(|why| format!("no mail can be sent: {why}")).or(waiting);
    light::tell(&System::default(), &Board::system(), trouble.as_deref(), Showing::Now);
}

/// The last step of a unit, which is root's: gives on what the unit could not send, and posts to the light whether mail waits, or
/// whether the unit has failed.
///
/// # Errors
///
/// When the spool cannot be read, or when the unit has left a message that waits still: it has failed then.
pub(crate) fn show(context: &Context, showing: Showing) -> Result<()> {
    let folders = &context.folders;
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set == value);
    let failed = std::env::var("SERVICE_RESULT").is_ok_and(|result| result != "success");
    // The unit's own exit code, which SuccessExitStatus= makes no failure yet.
    let left = is("EXIT_STATUS", &Exit::Busy.code().to_string());
    let given_on = if left { giving_on::waiting(folders, &context.settings)? } else { None };
    if let Some(Outcome { sent: sent @ 1.., way, .. }) = &given_on {
        let way = way.clone().unwrap_or_default();
        log::info!("{} sent through {way}, free of the unit's confinement", text::count(*sent, "message"));
    }
    let trouble = waiting::trouble(folders);
    let told = match &trouble {
        Ok(None) if failed => Some("mail cannot be sent".to_owned()),
        Ok(trouble) => trouble.clone(),
        Err(error) => Some(format!("cannot look after the mail: {error:#}")),
    };
    light::tell(&System::default(), &Board::system(), told.as_deref(), showing);
    let waits = trouble?.filter(|_| left && waiting::any(folders).unwrap_or(true));
    match (waits, given_on.and_then(|outcome| outcome.why)) {
        (None, _) => Ok(()),
        (Some(waits), None) => Err(anyhow!("{waits}")),
        (Some(waits), Some(why)) => Err(anyhow!("{waits}: {why}")),
    }
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
    match throttle::open(folder, &unit.printable()) {
        Ok(open) => Some(open),
        Err(error) => {
            log::warn!("{error:#}; every failure of {} is told", unit.printable());
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
fn summaries(spool: &Spool) -> Result<Vec<Own>> {
    let now = Local::now().timestamp();
    let mut written = Vec::new();
    for mut open in throttle::open_all(spool.folder(), now)? {
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
fn conclude(outcome: &Outcome, folders: &[PathBuf], showing: Showing) -> Result<()> {
    let why = outcome.why.clone().unwrap_or_default();
    let folder = folders.first().map(|folder| folder.display().to_string()).unwrap_or_default();
    let [left, set_aside] = [outcome.left, outcome.set_aside].map(|count| text::count(count, "message"));
    let refused = format!("{set_aside} set aside in {folder}/refused, for no server takes it (phobos-mail list, drop)");
    let kept = format!("{left} kept in {folder} and tried again later");
    let result = match outcome {
        Outcome { lost: true, .. } => Err(Stop::new(Exit::Failed, format!("a mail is lost: {why}"))),
        Outcome { left: 0, set_aside: 0, .. } => Ok(()),
        Outcome { left: 0, .. } => Err(Stop::new(Exit::Failed, format!("{refused}: {why}"))),
        Outcome { set_aside: 0, .. } => Err(Stop::new(Exit::Busy, format!("{kept}: {why}"))),
        Outcome { .. } => Err(Stop::new(Exit::Busy, format!("{kept}; {refused}: {why}"))),
    };
    let trouble = match &result {
        Err(stop) => Some(stop.to_string()),
        // What was set aside before is still there, whatever was sent now.
        Ok(()) => {
            waiting::trouble(folders).unwrap_or_else(|error| Some(format!("cannot look after the mail: {error:#}")))
        }
    };
    light::tell(&System::default(), &Board::system(), trouble.as_deref(), showing);
    if let (Ok(()), Some(way)) = (&result, &outcome.way) {
        log::info!("sent through {way}");
    }
    result.map_err(Into::into)
}
