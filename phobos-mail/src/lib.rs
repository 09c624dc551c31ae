//! The mail about a failed unit: a drop-in for systemd-email.

mod gather;
mod host;
mod journal;
mod letter;
mod meaning;
mod message;
mod text;
mod transport;
mod unit;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use phobos_core::exec::System;
use phobos_core::mail::Settings;
use phobos_core::report;

use transport::{Deadline, Sender};
use unit::{Monitor, Name};

/// How long everything may take.
const LIMIT: Duration = Duration::from_secs(55);

/// The command line of `phobos-mail`.
#[derive(Debug, Parser)]
#[command(name = "phobos-mail", version, about)]
pub struct Cli {
    /// The unit that failed; before it, the address that gets the mail
    #[arg(value_name = "[ADDRESS] UNIT", num_args = 1..=2, required = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Runs the program and returns its exit code.
pub fn main(cli: &Cli) -> ExitCode {
    phobos_core::journal::init(log::LevelFilter::Info);
    report::conclude(run(cli))
}

fn run(cli: &Cli) -> Result<()> {
    let deadline = Deadline::after(LIMIT);
    let settings = Settings::default();
    let words: Vec<_> = cli.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (to, unit) = match &words[..] {
        [unit] => (None, unit),
        [to, unit, ..] => (Some(to.clone()), unit),
        [] => return Ok(()),
    };
    let unit = Name::new(unit.as_str());
    let exec = System::default();
    let monitor = Monitor::of(&unit, |name| std::env::var(name).ok());
    let findings = gather::about(exec, &unit, &monitor);
    let mut letter = letter::about_failure(&unit, &findings);
    letter.to = to;
    let way = Sender::new(&exec, &settings, deadline).send(&letter).map_err(|failure| {
        anyhow::anyhow!("cannot send the mail about {}: {failure}", letter.unit)
    })?;
    log::info!("sent the mail about {} through {way}", letter.unit);
    Ok(())
}
