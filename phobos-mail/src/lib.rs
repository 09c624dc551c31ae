//! `phobos-mail`: the mail about a failed unit, and the spool that keeps it until it can be sent.
//!
//! The drop-in for `systemd-email`.

mod bounded;
mod certificate;
mod commands;
mod deliver;
mod exit_meaning;
mod gather;
mod giving_on;
mod host;
mod journal;
mod letter;
mod light;
mod merge;
mod message;
mod owned;
mod smtp;
mod spool;
mod text;
mod throttle;
mod tls;
mod transport;
mod trial;
mod unit;
mod unit_properties;
mod waiting;

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use phobos_core::error::Chain;
use phobos_site::config::{Config, Table};
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::mail::Settings;

use commands::{Context, SetAside};
use deliver::Which;
use light::Showing;
use transport::Deadline;
use unit::Name;

/// What `--help` ends with.
const EXITS: &str = "Exit codes: 0 sent, or nothing to send; 1 failed: a mail is lost, or no server will take it; 2 wrong arguments; \
75 it waits and is tried again; 77 not permitted; 78 the configuration is wrong. \
A first word that is no command is a unit's name.";

/// How much of a note is read, in bytes.
const NOTE_LIMIT: u64 = 64 * 1024;

/// Mail root about a unit that failed
#[derive(Debug, Parser)]
#[command(name = "phobos-mail", version, max_term_width = exit::WIDTH, subcommand_negates_reqs = true)]
#[command(after_help = EXITS)]
#[command(override_usage = "phobos-mail [OPTIONS] [ADDRESS] UNIT\n       phobos-mail [OPTIONS] COMMAND")]
pub struct Cli {
    /// The unit that failed; or the address that gets the mail, if a unit comes behind it
    #[arg(value_name = "UNIT", required = true, allow_hyphen_values = true)]
    first: Option<OsString>,

    /// The unit that failed, behind an address
    #[arg(hide = true, allow_hyphen_values = true)]
    second: Option<OsString>,

    /// The unit works again: say so, if a mail said that it failed
    #[arg(long)]
    resolved: bool,

    /// Read this configuration instead of /etc/phobos/phobos.toml
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send what could not be sent so far
    Flush {
        /// Only list what waits
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Try those, too, that wait for a later attempt
        #[arg(long)]
        now: bool,
        /// Try those again that were set aside
        #[arg(long)]
        refused: bool,
        /// How long it may take: an answer to a message has all the time that is left
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "55s")]
        limit: Duration,
    },
    /// Send a note that is about no failure: the text is read from standard input
    Note {
        /// Its subject
        subject: String,
    },
    /// List the messages that wait, and those that were set aside
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Throw away a message that waits or was set aside
    Drop {
        /// Its id as `list` shows it, or the beginning of it
        id: String,
    },
    /// Send a test message as the units do, and print which way it left
    Test {
        /// Send it to this address
        address: Option<String>,
        /// Send it as whoever calls, not as the units do
        #[arg(long)]
        here: bool,
        /// Send it as the last step of a unit does
        #[arg(long, hide = true)]
        given_on: bool,
    },
    /// Hand what root's own calls have left over to the units' spool: for phobos-mail-flush.service
    #[command(hide = true)]
    Collect,
    /// Give on what the unit could not send, and post to the light whether mail waits: for units that are not root's, after the prefix +
    Light {
        /// Mail was sent apart from any failure: clear the light of an attention that is over
        #[arg(long)]
        flushed: bool,
    },
}

/// Runs the program and returns its exit code.
pub fn main(cli: &Cli) -> ExitCode {
    phobos_site::logging::init(log::LevelFilter::Info);
    exit::guarded(|| exit::conclude(run(cli)))
}

fn run(cli: &Cli) -> Result<()> {
    let deadline = Deadline::after(commands::LIMIT);
    let folders = spool::folders();
    let config = Config::load(cli.config.as_deref(), &[Table::Mail]);
    if let Some(mistake) = cli.first.as_ref().and_then(|word| mistaken(&word.to_string_lossy(), cli.second.is_none())) {
        return Err(Stop::new(Exit::Usage, mistake).into());
    }
    let [first, second] = [&cli.first, &cli.second].map(|word| word.as_ref().map(|word| word.to_string_lossy()));
    let (to, unit) = match (first, second, &cli.command) {
        (Some(unit), None, None) => (None, unit),
        (Some(to), Some(unit), None) => (Some(to), unit),
        (None, None, Some(command)) => {
            let settings = config?.mail;
            return other(command, Context { settings, notes: Vec::new(), deadline, folders }, cli.config.as_deref());
        }
        _ => {
            return Err(
                Stop::new(Exit::Usage, "give a unit, or one of the commands flush, list, note, drop and test").into()
            );
        }
    };
    // A mistake in the configuration must not keep a failure from a human.
    let (settings, notes) = match config {
        Ok(config) => (config.mail, Vec::new()),
        Err(error) => {
            let error = Chain(&error).to_string();
            log::error!("{error}; going on with the defaults");
            (Settings::default(), vec![format!("How this should be sent: {}", text::line(&error, 500))])
        }
    };
    let context = Context { settings, notes, deadline, folders };
    let (to, unit) = (to.as_deref(), Name::new(unit));
    if cli.resolved { commands::recovery(context, &unit, to) } else { commands::failure(context, &unit, to) }
}

/// What is wrong with a first word that somebody has mistyped; in a unit of systemd, every word is a failure to be told.
fn mistaken(word: &str, is_alone: bool) -> Option<String> {
    if std::env::var_os("INVOCATION_ID").is_some() {
        return None;
    }
    let shown = text::line(word, 100);
    let option = word.trim_start_matches('-').split('=').next().unwrap_or_default();
    let is_plain = !option.is_empty() && option.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    if word.starts_with('-') && is_plain {
        return Some(format!("{shown} is no option of phobos-mail, and no unit is called that; --help shows them"));
    }
    let near = COMMANDS.iter().find(|command| strsim::osa_distance(word, command) <= 1);
    near.filter(|_| is_alone).map(|command| format!("{shown} is no command; did you mean {command}?"))
}

/// The commands that a word may be meant for.
const COMMANDS: [&str; 5] = ["flush", "list", "note", "test", "drop"];

/// Prints results; a reader that has gone away has seen enough.
fn print(lines: &[String]) -> Result<()> {
    let text = lines.join("\n") + if lines.is_empty() { "" } else { "\n" };
    match phobos_site::logging::result(&text) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn other(command: &Command, context: Context, config: Option<&Path>) -> Result<()> {
    match command {
        Command::Flush { dry_run: true, .. } | Command::List { json: false } => {
            print(&waiting::list(&context.folders)?.lines())?;
        }
        Command::Flush { dry_run: false, now, refused, limit } => {
            let which = if *now || *refused { Which::All } else { Which::Due };
            let set_aside = if *refused { SetAside::TakeBack } else { SetAside::Leave };
            let context = Context { deadline: Deadline::after(*limit), ..context };
            commands::flush(context, which, set_aside)?;
        }
        Command::List { json: true } => {
            print(&[serde_json::to_string_pretty(&waiting::list(&context.folders)?)?])?;
        }
        Command::Note { subject } => {
            let mut body = Vec::new();
            std::io::stdin().lock().take(NOTE_LIMIT).read_to_end(&mut body)?;
            commands::note(context, subject, &String::from_utf8_lossy(&body))?;
        }
        Command::Drop { id } => print(&[format!("dropped {}", commands::drop_letter(&context.folders, id)?)])?,
        Command::Collect => commands::collect(&context.folders)?,
        Command::Test { address, given_on: true, .. } => {
            let way = commands::test_given_on(&context, address.clone())?;
            let said = way.map(|way| format!("the test left through {way}, free of the unit's confinement"));
            print(&said.into_iter().collect::<Vec<_>>())?;
        }
        Command::Test { address, here: true, .. } => {
            let way = commands::test(context, address.clone())?;
            print(&[format!("the test left through {way}")])?;
        }
        Command::Test { address, here: false, .. } => {
            let said = commands::test_as_units(context, config, address.clone())?;
            print(&[said])?;
        }
        Command::Light { flushed: true } => commands::show(&context, Showing::IfStale)?,
        Command::Light { flushed: false } => commands::show(&context, Showing::Later)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
