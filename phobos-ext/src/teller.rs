//! What a mirror tells while it runs: lines for the journal, one line that moves for a terminal.

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use phobos_core::borg::RepositoryLock;
use phobos_core::copy::CopyError;
use phobos_core::human;
use phobos_core::mount;
use phobos_core::rsync::{Backoff, Progress, Teller};
use phobos_site::logging;

/// How many of rsync's warnings are told: the first ones say what is wrong.
const COMPLAINTS: u64 = 20;

/// The width of the bar in characters.
const BAR_WIDTH: u8 = 30;

/// Tells how a mirror goes, and ends it when Borg's lock is lost.
pub(crate) struct MirrorTeller<'l> {
    lock: &'l RefCell<RepositoryLock>,
    backoff: Backoff,
    on_terminal: bool,
    changes: u64,
    /// Where the drive is mounted, and how many bytes of it were in use at the beginning.
    place: &'l Path,
    used: Option<u64>,
    /// Whether both sides are still mounted.
    still_there: &'l dyn Fn() -> Result<(), String>,
    complaints: u64,
}

/// Tells how the engine's own copy goes, and ends it when Borg's lock is lost or a signal has come.
pub(crate) struct Pulse<'l> {
    lock: &'l RefCell<RepositoryLock>,
    interrupted: &'l dyn Fn() -> Option<i32>,
    backoff: Backoff,
    bytes: u64,
    looked: Instant,
}

impl<'l> Pulse<'l> {
    pub(crate) fn new(lock: &'l RefCell<RepositoryLock>, interrupted: &'l dyn Fn() -> Option<i32>) -> Self {
        Self { lock, interrupted, backoff: Backoff::default(), bytes: 0, looked: Instant::now() }
    }

    /// Says now and then how much was copied.
    pub(crate) fn watch(&mut self) -> impl FnMut(u64) -> Result<(), CopyError> {
        |bytes| self.beat(bytes, "copied")
    }

    /// Says now and then how much was read back.
    pub(crate) fn quiet(&mut self) -> impl FnMut(u64) -> Result<(), CopyError> {
        |bytes| self.beat(bytes, "read back")
    }

    fn beat(&mut self, bytes: u64, done: &str) -> Result<(), CopyError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(signal) = (self.interrupted)() {
            return Err(CopyError::Interrupted(signal));
        }
        if self.looked.elapsed() >= Duration::from_secs(1) {
            self.looked = Instant::now();
            if !self.lock.borrow_mut().is_held() {
                return Err(CopyError::Stopped("Borg's lock was lost".to_owned()));
            }
            if self.bytes > 0 && self.backoff.is_due() {
                log::info!("{done} {} so far", human::size(self.bytes));
            }
        }
        Ok(())
    }
}

impl<'l> MirrorTeller<'l> {
    pub(crate) fn new(
        lock: &'l RefCell<RepositoryLock>,
        place: &'l Path,
        still_there: &'l dyn Fn() -> Result<(), String>,
    ) -> Self {
        let used = mount::used_bytes(place).ok();
        let on_terminal = io::stderr().is_terminal();
        let backoff = Backoff::default();
        Self { lock, backoff, on_terminal, changes: 0, place, used, still_there, complaints: 0 }
    }

    /// Whether somebody watches; for the journal it is enough to see the drive fill.
    pub(crate) fn shows_progress(&self) -> bool {
        self.on_terminal
    }

    /// Ends the line that moves, and returns how many changes a rehearsal has shown.
    pub(crate) fn finish(self) -> u64 {
        if self.on_terminal {
            logging::draw("\r\x1b[K");
        }
        if self.complaints > COMPLAINTS {
            log::warn!("and {} more warnings like these", self.complaints - COMPLAINTS);
        }
        self.changes
    }
}

impl Teller for MirrorTeller<'_> {
    fn progress(&mut self, progress: Progress<'_>) {
        logging::draw(&format!("\r\x1b[K{}", progress.bar(BAR_WIDTH)));
    }

    fn change(&mut self, line: &str) {
        self.changes += 1;
        logging::say(format_args!("{line}"));
    }

    fn complaint(&mut self, line: &str) {
        self.complaints += 1;
        if self.complaints <= COMPLAINTS {
            log::warn!("{line}");
        }
    }

    fn may_go_on(&mut self) -> Result<(), String> {
        (self.still_there)()?;
        if !self.on_terminal && self.backoff.is_due() {
            if let (Some(before), Ok(now)) = (self.used, mount::used_bytes(self.place)) {
                log::info!("copied {} so far", human::size(now.saturating_sub(before)));
            }
        }
        let held = self.lock.borrow_mut().is_held();
        held.then_some(()).ok_or_else(|| "Borg's lock was lost".to_owned())
    }
}
