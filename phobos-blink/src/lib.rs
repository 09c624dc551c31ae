//! The light: a drop-in for blinkstick, and the arbiter for a light that many jobs share.
//!
//! The first argument decides: `job`, `show`, `ack` and `jobs` are the arbiter's commands; none of them is a colour, so
//! that everything else can be blinkstick's own command line without loss.

mod arguments;
mod breathe;
mod color;
#[cfg(test)]
mod golden;
mod help;
mod hid;
mod number;
mod options;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod python;
mod raw;
mod show;
mod stick;
mod udev;
mod usb;

use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use log::LevelFilter;
use phobos_core::error::Chain;
use phobos_core::process::Process;
use phobos_site::config::Config;
use phobos_site::exit::{self, exit_of, line};
use phobos_site::led::{Board, LedError, State};
use phobos_site::logging;

use crate::hid::Usb;
use crate::options::Parsed;
use crate::raw::{RawError, Words, World};
use crate::show::ShowError;
use crate::stick::{Bus, BusError};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The process that is to be posted for is not there.
#[derive(Debug, thiserror::Error)]
#[error("cannot find the process {pid}")]
struct NoProcess {
    pid: u32,
    source: io::Error,
}

/// The name under which the help tells of more than blinkstick.
const OWN_NAME: &str = "phobos-blink";

/// The words that make a command line the arbiter's.
const COMMANDS: [&str; 4] = ["job", "show", "ack", "jobs"];

/// The arbiter's command line.
///
/// It is declared for clap, which makes manual page and completions of it, but read by a parser of its own: that makes
/// the program a fifth smaller.
#[derive(Debug, PartialEq, Eq, Parser)]
#[command(name = "phobos-blink", version, about, max_term_width = exit::WIDTH)]
pub struct Cli {
    /// Read the configuration from FILE
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// Post what a job does, and put the light right
    Job {
        /// The job
        name: String,
        /// working, waiting, attention, unsafe, ok, failed or off
        #[arg(value_parser = arguments::state)]
        state: State,
        /// Say more about it
        #[arg(long, default_value = "")]
        text: String,
        /// The process that is at work; the job has failed if it dies [default: the one that runs this]
        #[arg(long)]
        pid: Option<u32>,
    },
    /// Put what the jobs have posted on the light
    Show {
        /// Let the light breathe while a job works, until standard input ends
        #[arg(long)]
        breathe: bool,
    },
    /// Acknowledge the failure of a job, or of all
    Ack {
        /// The job
        name: Option<String>,
    },
    /// List the jobs
    Jobs {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// The whole command line, blinkstick's options and the arbiter's commands, for a manual page and for completions.
pub fn documented() -> clap::Command {
    arguments::documented()
}

/// Runs the program with the arguments `args`, its own name the first, and returns its exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    logging::init(LevelFilter::Info);
    let args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|word| COMMANDS.iter().any(|command| word == command)) {
        return command(&args);
    }
    let mut words = args.iter().map(|arg| arg.to_string_lossy().into_owned());
    let name = words.next().unwrap_or_default();
    let program = Path::new(&name).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let words: Vec<_> = words.collect();
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    drop_in(&program, &words, &usb, &mut Here, &mut out, &mut err).into()
}

/// This machine's sticks.
fn usb() -> Result<Box<dyn Bus>, BusError> {
    Ok(Box::new(Usb::new()?))
}

/// Runs one of the arbiter's commands.
fn command(args: &[OsString]) -> ExitCode {
    let result = match arguments::parse(args.get(1..).unwrap_or_default()) {
        Ok(Some(cli)) => cli.run(),
        Ok(None) => return told(logging::result(&format!("{}\n{}\n", arguments::HELP, exit::HELP)), 0).into(),
        Err(error) => {
            log::error!("{error}; see `phobos-blink jobs --help`");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{}", line(error.as_ref()));
            match (error.downcast_ref::<ShowError>(), error.downcast_ref::<LedError>()) {
                (Some(error), _) => error.code().into(),
                (None, Some(LedError::Name { .. })) => ExitCode::from(2),
                (None, _) => exit_of(error.as_ref()).into(),
            }
        }
    }
}

impl Cli {
    fn run(&self) -> Result<(), BoxError> {
        let settings = Config::load_led(self.config.as_deref())?;
        let board = Board::system();
        let show = || show::show(&settings, &board, &usb);
        // Once a post stands, a light that cannot be reached is no reason to fail.
        let show_or_warn = || {
            if let Err(error) = show() {
                log::warn!("{}", Chain(&error));
            }
        };
        match &self.command {
            Command::Show { breathe: true } => breathe::breathe(&settings, &board, &usb)?,
            Command::Show { breathe: false } => {
                show()?;
            }
            Command::Job { name, state, text, pid } => {
                board.post_as(name, *state, text, poster(*pid)?)?;
                show_or_warn();
            }
            Command::Ack { name } => {
                for name in board.ack(name.as_deref())? {
                    log::info!("the failure of {name} is acknowledged");
                }
                show_or_warn();
            }
            Command::Jobs { json } => {
                let jobs = board.jobs()?;
                let picture = show::picture(&settings, &jobs);
                let text = if *json { picture.json(&jobs)? } else { picture.table(&jobs) };
                logging::result(&text)?;
            }
        }
        Ok(())
    }
}

/// The process on whose behalf a command posts: the given one, or the one that runs it unless that is the init system.
fn poster(pid: Option<u32>) -> Result<Option<Process>, NoProcess> {
    match pid {
        Some(pid) => Process::with_pid(pid).map(Some).map_err(|source| NoProcess { pid, source }),
        None => Ok(Some(parent_id()).filter(|pid| *pid > 1).and_then(|pid| Process::with_pid(pid).ok())),
    }
}

/// Runs one of blinkstick's commands and returns its exit code.
fn drop_in(
    program: &str,
    args: &[String],
    bus: &dyn Fn() -> Result<Box<dyn Bus>, BusError>,
    world: &mut dyn World,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let columns = std::env::var("COLUMNS").ok();
    let help = || {
        // Under the original's name there is the original's text and nothing else.
        let more = if program == OWN_NAME { format!("{}\n{}\n", arguments::MORE, exit::HELP) } else { String::new() };
        help::help(program, columns.as_deref()) + &more
    };
    let options = match options::parse(args) {
        Ok(Parsed::Options(options)) => options,
        Ok(Parsed::Help) => return told(out.write_all(help().as_bytes()), 0),
        Ok(Parsed::Version) => return told(writeln!(out, "phobos-blink {}", env!("CARGO_PKG_VERSION")), 0),
        Err(error) => return told(write!(err, "{}\n{program}: error: {error}\n", help::usage(program)), 2),
    };
    let mut words = Words { out, help: &help, program };
    let result = bus().map_err(RawError::from).and_then(|bus| raw::run(&options, bus.as_ref(), world, &mut words));
    match result {
        Ok(()) => 0,
        Err(error) => {
            if !matches!(error, RawError::Rule) {
                log::error!("{}", Chain(&error));
            }
            error.code(options.strict)
        }
    }
}

/// `code`, unless what was to be told could not be written.
fn told(result: io::Result<()>, code: u8) -> u8 {
    match result {
        Ok(()) => code,
        Err(error) => {
            log::error!("{}", Chain(&error));
            1
        }
    }
}

/// This machine's clock and dice.
struct Here;

impl World for Here {
    fn sleep(&mut self, seconds: f64) {
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }

    fn random(&mut self) -> u8 {
        // Each state is seeded anew by the system; good enough for a colour, and no crate more.
        let [byte, ..] = RandomState::new().hash_one(0).to_le_bytes();
        byte
    }
}
