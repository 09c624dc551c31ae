//! What is shown of a mirror while it runs: a line now and then in the journal, one that moves on a terminal; and what ends it.

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use phobos_core::borg::RepositoryLock;
use phobos_core::human;
use phobos_core::mount;
use phobos_core::notify::Notifier;
use phobos_core::progress::{Backoff, CopyEvent, Halt, Phase, Progress};
use phobos_site::logging;

/// How many warnings are logged: the first ones say what is wrong.
const WARNINGS: u64 = 20;

/// The width of the bar in characters.
const BAR_WIDTH: u8 = 30;

/// How often Borg's lock and the mounts are looked at, at most.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// How often systemd is told how far the copy has come, at most.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// Shows how a copy goes, and ends it when it may not go on.
pub(crate) struct Monitor<'m> {
    /// Borg's lock, once it is there.
    lock: Option<&'m RefCell<RepositoryLock>>,
    interrupted: &'m dyn Fn() -> Option<i32>,
    systemd: &'m Notifier,
    /// Where the drive is mounted.
    place: &'m Path,
    /// Whether the source and the drive are still mounted.
    still_there: Option<&'m dyn Fn() -> Result<(), String>>,
    /// For an engine that does not say how far it has come.
    filling: Option<Filling>,
    looked: Instant,
    /// When systemd was told.
    told: Option<Instant>,
    phase: Phase,
    backoff: Backoff,
    on_terminal: bool,
    /// Whether the terminal's last line is the one that moves.
    has_drawn: bool,
    changes: u64,
    warnings: u64,
}

/// How full the drive was at the beginning, and how much it will have more in the end.
struct Filling {
    begun: Instant,
    used: u64,
    expected: u64,
}

impl<'m> Monitor<'m> {
    pub(crate) fn new(
        lock: Option<&'m RefCell<RepositoryLock>>,
        interrupted: &'m dyn Fn() -> Option<i32>,
        systemd: &'m Notifier,
        place: &'m Path,
    ) -> Self {
        Self {
            lock,
            interrupted,
            systemd,
            place,
            still_there: None,
            filling: None,
            looked: Instant::now(),
            told: None,
            phase: Phase::Comparing,
            backoff: Backoff::default(),
            on_terminal: io::stderr().is_terminal(),
            has_drawn: false,
            changes: 0,
            warnings: 0,
        }
    }

    /// Ends the copy also when `still_there` fails.
    pub(crate) fn until_gone(mut self, still_there: &'m dyn Fn() -> Result<(), String>) -> Self {
        self.still_there = Some(still_there);
        self
    }

    /// Shows by how much the drive has become fuller, of `expected` bytes, where the engine tells nothing.
    pub(crate) fn filling(mut self, expected: u64) -> Self {
        let usage = mount::usage(self.place).ok();
        self.filling = usage.map(|usage| Filling { begun: Instant::now(), used: usage.used, expected });
        self
    }

    /// Whether somebody watches; for the journal it is enough to see the drive fill.
    pub(crate) fn is_watched(&self) -> bool {
        self.on_terminal
    }

    /// How many changes were shown.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// What takes the events of a copy.
    pub(crate) fn handler(&mut self) -> impl FnMut(CopyEvent<'_>) -> Result<(), Halt> {
        |event| self.take(event)
    }

    /// Takes one event.
    pub(crate) fn take(&mut self, event: CopyEvent<'_>) -> Result<(), Halt> {
        match event {
            CopyEvent::Phase(phase) => self.phase = phase,
            CopyEvent::Progress(progress) => self.show(&progress),
            CopyEvent::Change(change) => {
                self.changes += 1;
                self.wipe();
                logging::say(format_args!("{change}"));
            }
            CopyEvent::Warning(line) => {
                self.warnings += 1;
                if self.warnings <= WARNINGS {
                    self.wipe();
                    log::warn!("{line}");
                }
            }
            _ => {}
        }
        self.may_go_on()
    }

    fn may_go_on(&mut self) -> Result<(), Halt> {
        if let Some(signal) = (self.interrupted)() {
            return Err(Halt::Signal(signal));
        }
        if self.looked.elapsed() < LOOK_PAUSE {
            return Ok(());
        }
        self.looked = Instant::now();
        if let Some(still_there) = self.still_there {
            still_there().map_err(Halt::Because)?;
        }
        if self.lock.is_some_and(|lock| !lock.borrow_mut().is_held()) {
            return Err(Halt::Because("Borg's lock was lost".to_owned()));
        }
        self.look_at_the_drive();
        Ok(())
    }

    /// Shows how far a copy has come that does not say it itself.
    fn look_at_the_drive(&mut self) {
        let Some(filling) = self.filling.as_ref().filter(|_| !self.on_terminal) else { return };
        let Ok(usage) = mount::usage(self.place) else { return };
        let done = usage.used.saturating_sub(filling.used);
        self.show(&Progress::new(done, Some(filling.expected), filling.begun.elapsed()));
    }

    fn show(&mut self, progress: &Progress) {
        let is_stale = self.told.is_none_or(|told| told.elapsed() >= STATUS_PAUSE);
        let is_shown = self.on_terminal || self.backoff.is_due();
        if !is_stale && !is_shown {
            return;
        }
        let room = match (self.phase, mount::usage(self.place)) {
            (Phase::Copying, Ok(usage)) => format!(", {} free on the drive", human::size(usage.free)),
            _ => String::new(),
        };
        let text = format!("{} {}{room}", self.phase.done(), progress.words());
        if is_stale {
            self.told = Some(Instant::now());
            self.systemd.status(&text);
        }
        if self.on_terminal {
            self.has_drawn = true;
            logging::draw(&format!("\r\x1b[K{} {text}", progress.bar(BAR_WIDTH)));
        } else if is_shown {
            log::info!("{text}");
        }
    }

    fn wipe(&mut self) {
        if std::mem::take(&mut self.has_drawn) {
            logging::draw("\r\x1b[K");
        }
    }
}

impl Drop for Monitor<'_> {
    fn drop(&mut self) {
        self.wipe();
        if self.warnings > WARNINGS {
            log::warn!("and {} more warnings like these", self.warnings - WARNINGS);
        }
    }
}
