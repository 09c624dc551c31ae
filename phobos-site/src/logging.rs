//! Log lines for the journal and for a terminal, on standard error.

use std::cell::Cell;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;

use phobos_core::error::Chain;

use log::{Level, LevelFilter, Log, Metadata, Record};

thread_local! {
    /// What this thread panicked of.
    static LAST_PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// Writes each record as one line to standard error, with systemd's priority prefix where that is the journal.
#[derive(Debug)]
struct Lines {
    to_journal: bool,
}

/// Sends all log records to standard error from here on; `<6>text` for the journal, `info: text` for a terminal.
///
/// A panic, which is a mistake of phobos itself, becomes one line too. A second call changes the level only.
pub fn init(level: LevelFilter) {
    log::set_max_level(level);
    if log::set_boxed_logger(Box::new(Lines { to_journal: is_journal() })).is_err() {
        log::debug!("the log was set up before");
    }
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic");
        let place = info.location().map_or_else(String::new, |place| format!(" ({}:{})", place.file(), place.line()));
        let what = format!("{text}{place}");
        log::error!("internal error: {what}; please report it");
        LAST_PANIC.set(Some(what));
    }));
}

/// What this thread panicked of last, and where.
pub fn last_panic() -> Option<String> {
    LAST_PANIC.take()
}

/// Whether standard error is what systemd put into `JOURNAL_STREAM` as `device:inode` (systemd.exec(5)).
pub fn is_journal() -> bool {
    let Ok(stderr) = fs::metadata("/proc/self/fd/2") else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Writes `text` to the terminal that is standard error, as it is: a bar, or the codes that wipe one.
pub fn draw(text: &str) {
    let mut stderr = io::stderr().lock();
    // A terminal that is gone must not stop what is told of.
    if let Err(error) = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()) {
        log::debug!("cannot write to the terminal: {error}");
    }
}

/// Writes `text`, which was all that was asked for, to standard output.
///
/// # Errors
///
/// When it cannot be written: the disk is full, or nobody reads it.
pub fn result(text: &str) -> io::Result<()> {
    write_result(&mut io::stdout().lock(), text)
}

/// Writes a line to standard output that comes beside the work: where it cannot be written, that is a warning.
pub fn say(line: fmt::Arguments<'_>) {
    if let Err(error) = result(&format!("{line}\n")) {
        log::warn!("{}", Chain(&error));
    }
}

fn write_result(out: &mut impl Write, text: &str) -> io::Result<()> {
    // Flushed here, where a failure can be told.
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| io::Error::new(error.kind(), format!("cannot write to standard output: {error}")))
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line(self.to_journal, record.level(), &record.args().to_string());
        // Nobody is left to be told that telling failed, and it must not stop the work.
        drop(io::stderr().lock().write_all(line.as_bytes()));
    }

    fn flush(&self) {}
}

/// One record as one line; line breaks within the text become `|`, so that a record stays one entry.
fn line(to_journal: bool, level: Level, text: &str) -> String {
    let text = text.trim_end().replace(['\n', '\r'], " | ");
    if to_journal {
        format!("<{}>{text}\n", priority(level))
    } else {
        format!("{}: {text}\n", level.as_str().to_ascii_lowercase())
    }
}

/// The syslog priority of a level (sd-daemon(3)).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_cannot_be_written_is_an_error_that_says_so() {
        let mut full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (reader, mut unread) = io::pipe().unwrap();
        drop(reader);
        for error in [write_result(&mut full, "x\n").unwrap_err(), write_result(&mut unread, "x\n").unwrap_err()] {
            assert!(error.to_string().starts_with("cannot write to standard output: "), "{error}");
        }
        let mut out = Vec::new();
        write_result(&mut out, "x\n").unwrap();
        assert_eq!(out, b"x\n");
    }

    #[test]
    fn a_record_is_one_line() {
        assert_eq!(line(true, Level::Info, "caught signal 15"), "<6>caught signal 15\n");
        assert_eq!(line(false, Level::Warn, "two\nlines\n"), "warn: two | lines\n");
    }
}
