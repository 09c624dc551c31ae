//! What a run shows while it runs: lines for the journal, and on a terminal, and to systemd, what each running host is at.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, MutexGuard, PoisonError};

use phobos_core::notify::Notifier;
use phobos_site::logging;
use phobos_site::pull::HostName;

/// Where all hosts of a run are told of.
#[derive(Debug)]
pub(crate) struct Screen {
    on_terminal: bool,
    systemd: Notifier,
    lines: Mutex<Vec<(HostName, String)>>,
}

impl Screen {
    /// The screen of this process's standard error.
    pub(crate) fn new() -> Self {
        Self { on_terminal: io::stderr().is_terminal(), systemd: Notifier::from_environment(), lines: Mutex::default() }
    }

    /// Whether somebody watches.
    pub(crate) fn is_watched(&self) -> bool {
        self.on_terminal
    }

    /// Logs a line about `host`.
    pub(crate) fn say(&self, level: log::Level, host: &HostName, text: &str) {
        let lines = self.lines();
        self.wipe(&lines);
        log::log!(level, "{host}: {text}");
        self.draw(&lines);
    }

    /// Shows `text` in the line of `host` from now on.
    pub(crate) fn show(&self, host: &HostName, text: &str) {
        let mut lines = self.lines();
        self.wipe(&lines);
        match lines.iter_mut().find(|(name, _)| name == host) {
            Some((_, line)) => text.clone_into(line),
            None => lines.push((host.clone(), text.to_owned())),
        }
        self.draw(&lines);
        self.tell(&lines);
    }

    /// Takes the line of `host` away.
    pub(crate) fn end(&self, host: &HostName) {
        let mut lines = self.lines();
        self.wipe(&lines);
        lines.retain(|(name, _)| name != host);
        self.draw(&lines);
        self.tell(&lines);
    }

    /// Tells systemd how the run has ended.
    pub(crate) fn conclude(&self, text: &str) {
        self.systemd.status(text);
    }

    /// Tells systemd what is in the lines.
    fn tell(&self, lines: &[(HostName, String)]) {
        let texts: Vec<_> = lines.iter().map(|(host, line)| format!("{host}: {line}")).collect();
        self.systemd.status(&texts.join("; "));
    }

    fn lines(&self) -> MutexGuard<'_, Vec<(HostName, String)>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clears what `draw` has drawn, and goes back to where it began.
    fn wipe(&self, lines: &[(HostName, String)]) {
        if self.on_terminal && !lines.is_empty() {
            logging::draw(&format!("\x1b[{}A\x1b[J", lines.len()));
        }
    }

    fn draw(&self, lines: &[(HostName, String)]) {
        if self.on_terminal && !lines.is_empty() {
            let width = lines.iter().map(|(host, _)| host.as_str().len()).max().unwrap_or_default();
            // A line that the terminal would wrap could not be wiped: without wrapping it is cut off.
            let mut text = String::from("\x1b[?7l");
            for (host, line) in lines {
                text.extend([host.as_str(), &" ".repeat(width - host.as_str().len() + 2), line, "\n"]);
            }
            text.push_str("\x1b[?7h");
            logging::draw(&text);
        }
    }
}
