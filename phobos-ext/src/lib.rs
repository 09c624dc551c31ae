//! `phobos-ext`: mirrors the backups onto an off-site drive: unlock, mount, mirror, unmount, lock.
//!
//! The drop-in for `backup-exthdd`, also known as `phobos-backup-monthly`.

mod checksums;
mod commands;
mod drill;
mod drive;
mod exchange;
mod fitness;
mod gate;
mod listing;
mod mirroring;
mod names;
mod opened;
mod passphrase;
mod progress;
mod proof;
mod reading;
mod record;
mod room;
mod seal;
mod sealing;
mod seen;
mod session;
mod sheet;
mod source;
mod spaces;
mod standing;
mod telling;
mod verdict;
mod words;

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use phobos_core::systemd;
use phobos_site::config::{DriveChoice, Table};
use phobos_site::drives::JOB;
use phobos_site::{exit, logging};

/// What this program reads of the configuration.
const TABLES: [Table; 4] = [Table::Backup, Table::External, Table::Locks, Table::Led];

/// Mirror the backups onto the off-site drive that is plugged in
#[derive(Debug, Parser)]
#[command(
    name = "phobos-ext",
    version,
    max_term_width = exit::WIDTH,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    after_help = exit::HELP
)]
pub struct Cli {
    /// Read this configuration instead of /etc/phobos/phobos.toml
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The drive that is meant: its name in the configuration, or the UUID of its LUKS container
    #[arg(long, value_name = "NAME|UUID", global = true, value_parser = drive_name)]
    drive: Option<DriveChoice>,
    /// Wait this long for locks, such as 12h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    lock_wait: Option<Duration>,
    /// Mirror although the repository differs from the copy as a refusal has said, by the hash in it
    #[arg(long, value_name = "PLAN")]
    accept: Option<String>,
    /// Delete what the repository no longer has before the new is copied, where there is no room for both
    #[arg(long)]
    delete_first: bool,
    /// Say what would be done and copied, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do something else than mirror; TEXT that begins with another word goes behind `--`
    #[command(subcommand)]
    command: Option<Command>,
    /// Is echoed at the start and at the end
    #[arg(value_name = "TEXT")]
    text: Vec<String>,
}

/// What else can be done with a drive.
#[derive(Debug, Subcommand)]
enum Command {
    /// Take over a drive that was prepared by hand, with what is on it
    Adopt(commands::adopt::Args),
    /// Unmount and lock a drive, whatever has left it open, and say whether it may be unplugged
    Close(commands::close::Args),
    /// Restore a sample of files from a drive, and say whether they are what they have to be
    Drill(commands::drill::Args),
    /// Become another program, confined
    #[command(hide = true)]
    Confined(commands::confined::Args),
    /// List the drives: where each is, what its copy is worth, and when it is due
    Drives(commands::drives::Args),
    /// Let no drive that is plugged in be mirrored to for a while; a mirror that is asked for by hand is made all the same
    Hold(commands::hold::Args),
    /// Unlock and mount a drive to look at it, in the namespace only, until it is closed; prints where it is
    Open(commands::open::Args),
    /// Make a drive of a disk, which loses all that is on it: encrypted, with a file system, known to this machine
    Prepare(commands::prepare::Args),
    /// Print a sheet that says how to get everything back without this machine
    RecoverySheet(commands::recovery_sheet::Args),
    /// Read a drive again, for a while, and say whether what lies on it is what was written
    Verify(commands::verify::Args),
}

/// Runs the program and returns its exit code.
pub fn main(cli: &Cli) -> ExitCode {
    logging::init(log::LevelFilter::Info);
    if let Some(mistake) = mistake(cli) {
        log::error!("{mistake}");
        return exit::Exit::Usage.into();
    }
    exit::guarded(|| {
        exit::conclude(match &cli.command {
            None => commands::mirror::run(cli),
            Some(Command::Adopt(args)) => commands::adopt::run(cli, args),
            Some(Command::Close(args)) => commands::close::run(cli, args),
            Some(Command::Confined(args)) => commands::confined::run(args),
            Some(Command::Drill(args)) => commands::drill::run(cli, args),
            Some(Command::Drives(args)) => commands::drives::run(cli, args),
            Some(Command::Hold(args)) => commands::hold::run(args),
            Some(Command::Open(args)) => commands::open::run(cli, args),
            Some(Command::Prepare(args)) => commands::prepare::run(cli, args),
            Some(Command::RecoverySheet(args)) => commands::recovery_sheet::run(cli, args),
            Some(Command::Verify(args)) => commands::verify::run(cli, args),
        })
    })
}

/// What is wrong with the words that are no command, if anything is.
fn mistake(cli: &Cli) -> Option<String> {
    let commands: Vec<String> = Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let args: Vec<_> = std::env::args_os().collect();
    words::mistake(&cli.text, &commands, &args, std::env::var_os("INVOCATION_ID").is_some())
}

/// An error that still knows its type, and so its exit code.
fn boxed(error: anyhow::Error) -> Box<dyn Error + Send + Sync> {
    error.reallocate_into_boxed_dyn_error_without_backtrace()
}

/// Prints what the original prints; that nobody reads it must not keep anything from being mirrored.
fn say(line: fmt::Arguments<'_>) {
    logging::say(line);
}

/// The drive's name or UUID; a unit's instance is taken as it is in the unit's name, escaped by systemd or not.
fn drive_name(text: &str) -> Result<DriveChoice, String> {
    let plain = if text.contains('\\') { systemd::unescape(text) } else { Some(text.to_owned()) };
    let plain = plain.ok_or_else(|| "this is not as systemd-escape writes it".to_owned())?;
    plain.parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_instance_is_a_drive_escaped_or_not() {
        for (said, drive) in [("A", "A"), ("my-drive", "my-drive"), (r"my\x2ddrive", "my-drive")] {
            let cli = Cli::parse_from(["phobos-ext", "--drive", said]);
            assert_eq!(cli.drive, drive.parse().ok());
        }
        assert!(Cli::try_parse_from(["phobos-ext", "--drive", r"A\x2"]).is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn any_text_is_taken_as_the_original_takes_it() {
        let cli = Cli::parse_from(["phobos-ext", "manually", "by jon", "--", "--drive"]);
        assert_eq!(cli.text, ["manually", "by jon", "--drive"]);
        let cli = Cli::parse_from(["phobos-ext", "--drive", "A", "close"]);
        assert!(
            matches!(cli.command, Some(Command::Close(_))) && cli.drive.is_some_and(|drive| drive.to_string() == "A")
        );
        let cli = Cli::parse_from(["phobos-ext", "please", "close"]);
        assert!(cli.command.is_none() && cli.text == ["please", "close"]);
    }
}
