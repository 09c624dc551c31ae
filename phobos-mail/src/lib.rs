//! `phobos-mail`: the mail about a failed unit, and the spool that keeps it until it can be sent.
//!
//! The drop-in for `systemd-email`.

mod certificate;
mod deliver;
mod gather;
mod host;
mod journal;
mod letter;
mod light;
mod meaning;
mod merge;
mod message;
mod occasions;
mod shown;
mod smtp;
mod spool;
mod storm;
mod text;
mod tls;
mod transport;
mod unit;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use phobos_core::error::Chain;
use phobos_site::config::{Config, Table};
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::mail::Settings;

use light::Showing;
use occasions::Context;
use transport::Deadline;
use unit::Name;

/// Mail root about a unit that failed
#[derive(Debug, Parser)]
#[command(name = "phobos-mail", version, subcommand_negates_reqs = true)]
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
    },
    /// Send a test message and print which way it left
    Test {
        /// Send it to this address
        address: Option<String>,
    },
    /// Post to the light whether mail waits: for units that are not root's, after the prefix +
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
    let deadline = Deadline::after(occasions::LIMIT);
    let folder = spool::folder();
    let config = Config::load(cli.config.as_deref(), &[Table::Mail]);
    let [first, second] = [&cli.first, &cli.second].map(|word| word.as_ref().map(|word| word.to_string_lossy()));
    let (to, unit) = match (first, second, &cli.command) {
        (Some(unit), None, None) => (None, unit),
        (Some(to), Some(unit), None) => (Some(to), unit),
        (None, None, Some(command)) => {
            let settings = config?.mail;
            return other(command, Context { settings, notes: Vec::new(), deadline, folder });
        }
        _ => return Err(Stop::new(Exit::Usage, "give a unit, or one of the commands flush and test").into()),
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
    let context = Context { settings, notes, deadline, folder };
    let (to, unit) = (to.as_deref(), Name::new(unit));
    if cli.resolved { occasions::recovery(context, &unit, to) } else { occasions::failure(context, &unit, to) }
}

#[expect(clippy::print_stdout, reason = "results of a command line program")]
fn other(command: &Command, context: Context) -> Result<()> {
    match command {
        Command::Flush { dry_run: false } => occasions::flush(context)?,
        Command::Flush { dry_run: true } => {
            occasions::waiting(&context.folder)?.iter().for_each(|line| println!("{line}"));
        }
        Command::Test { address } => {
            let way = occasions::test(context, address.clone())?;
            println!("the test left through {way}");
        }
        Command::Light { flushed: true } => occasions::show(&context.folder, Showing::IfStale)?,
        Command::Light { flushed: false } => occasions::show(&context.folder, Showing::Later)?,
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
