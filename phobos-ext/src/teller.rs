//! What a mirror tells while it runs: lines for the journal, one line that moves for a terminal.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use phobos_core::borg::RepositoryLock;
use phobos_core::mount;
use phobos_core::rsync::{Progress, Rhythm, Teller};
use phobos_site::logging;

/// The width of the bar in characters.
const BAR_WIDTH: u8 = 30;

/// Tells how a mirror goes, and ends it when Borg's lock is lost.
pub(crate) struct MirrorTeller<'l> {
    lock: &'l RefCell<RepositoryLock>,
    rhythm: Rhythm,
    on_terminal: bool,
    changes: u64,
    /// Where the drive is mounted, and how many bytes of it were in use at the beginning.
    place: &'l Path,
    used: Option<u64>,
}

impl<'l> MirrorTeller<'l> {
    pub(crate) fn new(lock: &'l RefCell<RepositoryLock>, place: &'l Path) -> Self {
        let used = mount::used_bytes(place).ok();
        Self { lock, rhythm: Rhythm::default(), on_terminal: io::stderr().is_terminal(), changes: 0, place, used }
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
        self.changes
    }
}

impl Teller for MirrorTeller<'_> {
    fn progress(&mut self, progress: Progress<'_>) {
        logging::draw(&format!("\r\x1b[K{}", progress.bar(BAR_WIDTH)));
    }

    fn change(&mut self, line: &str) {
        self.changes += 1;
        if let Err(error) = writeln!(io::stdout().lock(), "{line}") {
            log::warn!("cannot write to standard output: {error}");
        }
    }

    fn complaint(&mut self, line: &str) {
        log::warn!("{line}");
    }

    fn may_go_on(&mut self) -> Result<(), String> {
        if !self.on_terminal && self.rhythm.is_due() {
            if let (Some(before), Ok(now)) = (self.used, mount::used_bytes(self.place)) {
                log::info!("copied {} MB so far", now.saturating_sub(before) / 1_000_000);
            }
        }
        let held = self.lock.borrow_mut().is_held();
        held.then_some(()).ok_or_else(|| "Borg's lock was lost".to_owned())
    }
}
