//! `phobos-status`: what ran, what runs, what is due, and what is wrong.
//!
//! Everything is read once (`collect`), judged by a pure function of that and the moment (`model`), and drawn by pure functions
//! of the model: a screen, JSON, the schedule, a page. It changes nothing but the page's own file.

mod check;
mod collect;
mod digest;
mod doctor;
mod facts;
mod hook;
mod layout;
mod metrics;
mod model;
mod page;
mod schedule;
mod screen;
mod serve;
mod settings;
mod weekly;
mod zone;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use chrono::{TimeDelta, Utc};
use clap::{Parser, Subcommand};
use phobos_core::exec::System;
use phobos_core::fs::{self, Durability, make_shared, shown};
use phobos_core::signal::Signals;
use phobos_site::config::{Config, Table};
use phobos_site::exit::{Exit, Stop};
use phobos_site::led::Board;
use phobos_site::ledger::Ledger;
use phobos_site::paths::Paths;
use phobos_site::{exit, logging};

use collect::Sources;
use doctor::Looking;
use model::Model;
use settings::Wanted;
use zone::Zone;

/// How often the screen is drawn again.
const EVERY: std::time::Duration = std::time::Duration::from_secs(2);

/// How far ahead the screen looks.
const AHEAD: TimeDelta = TimeDelta::days(2);

/// What ran, what runs, what is due and what is wrong, the worst first
#[derive(Debug, Parser)]
#[command(
    name = "phobos-status",
    version,
    max_term_width = exit::WIDTH,
    disable_help_subcommand = true,
    after_help = exit::HELP
)]
pub struct Cli {
    /// Read this configuration instead of /etc/phobos/phobos.toml
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Draw the screen again every two seconds, until Ctrl-C
    #[arg(long)]
    watch: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show when the jobs usually run, what is planned, and when a drive is best plugged in
    Schedule {
        /// Show the runs of so many days, and plan so many ahead
        #[arg(long, value_name = "N", default_value = "3", value_parser = schedule::days)]
        days: u32,
    },
    /// Write all of it as one HTML file that needs nothing else, to standard output if nothing else is said
    Page {
        /// Write it to this file, in one step
        #[arg(long, value_name = "FILE", conflicts_with = "serve")]
        output: Option<PathBuf>,
        /// Serve it to browsers at this address, such as 127.0.0.1:8080; whoever reaches it may read it
        #[arg(long, value_name = "ADDRESS:PORT")]
        serve: Option<SocketAddr>,
    },
    /// Write all figures for Prometheus, as node-exporter's textfile collector reads them
    Metrics {
        /// Write them to this file, in one step, and not to standard output
        #[arg(long, value_name = "FILE.prom")]
        output: Option<PathBuf>,
    },
    /// Tell the hooks of the configuration what has happened since the last time
    Hook {
        /// Remember in this file what was told
        #[arg(long, value_name = "FILE")]
        memory: PathBuf,
    },
    /// Mail all of it to root: that all is well, or what is not
    Digest,
    /// Check the whole configuration, every table and file of it, and tell all mistakes at once
    Config {
        /// Check this file and those beside it
        #[arg(value_name = "FILE", conflicts_with = "config")]
        file: Option<PathBuf>,
        /// Where all is well, show every setting that is in force, and where it comes from
        #[arg(long)]
        show: bool,
    },
    /// Print one line with figures for Nagios and its like, and end with 0, 1, 2 or 3 as it wants
    Check,
    /// Look for what is set up wrongly on this machine, and say how to mend it; ends with 1 if something is
    Doctor {
        /// Run these checks only
        #[arg(value_name = "CHECK")]
        checks: Vec<String>,
    },
}

/// Runs the program and returns its exit code.
pub fn main(cli: &Cli) -> ExitCode {
    logging::init(log::LevelFilter::Info);
    exit::guarded(|| match (&cli.command, run(cli)) {
        (_, Ok(code)) => code,
        (Some(Command::Check), Err(error)) => {
            log::error!("{}", exit::line(error.as_ref()));
            ExitCode::from(check::UNKNOWN)
        }
        (_, Err(error)) => exit::conclude(Err(error)),
    })
}

fn run(cli: &Cli) -> Result<ExitCode, anyhow::Error> {
    if cli.watch && (cli.json || cli.command.is_some()) {
        return Err(Stop::new(Exit::Usage, "--watch is for the screen alone; see `phobos-status --help`").into());
    }
    let has_json = matches!(
        cli.command,
        None | Some(Command::Schedule { .. } | Command::Doctor { .. } | Command::Config { show: true, .. })
    );
    if cli.json && !has_json {
        return Err(Stop::new(Exit::Usage, "this has no JSON; `phobos-status --json` tells the same").into());
    }
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let reading = Reading { cli, system: &system, paths: Paths::from_environment() };
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match &cli.command {
        None if cli.watch => watch(&reading, colours, &signals)?,
        None if cli.json => {
            let json = serde_json::to_string_pretty(&reading.model(AHEAD)).context("cannot write JSON")?;
            logging::result(&(json + "\n"))?;
        }
        None => logging::result(&screen::draw(&reading.model(AHEAD), colours))?,
        Some(Command::Schedule { days }) => {
            let model = reading.model(TimeDelta::days(i64::from(*days)));
            if cli.json {
                logging::result(&(schedule::json(&model).context("cannot write JSON")? + "\n"))?;
            } else {
                logging::result(&schedule::draw(&model, *days, colours))?;
            }
        }
        Some(Command::Page { serve: Some(address), .. }) => {
            let ready = |address| log::info!("serving the page at http://{address}/");
            let page = || page::draw(&reading.model(AHEAD));
            serve::serve(*address, &ready, &page, &|| signals.caught().is_some())?;
        }
        Some(Command::Page { output, .. }) => write(output.as_deref(), &page::draw(&reading.model(AHEAD)))?,
        Some(Command::Metrics { output }) => write(output.as_deref(), &metrics::draw(&reading.model(AHEAD)))?,
        Some(Command::Hook { memory }) => tell_hooks(&reading, memory)?,
        Some(Command::Digest) => {
            exit::require_root()?;
            weekly::send(&system, cli.config.as_deref(), &reading.model(AHEAD))?;
        }
        Some(Command::Config { file, show }) => {
            let file = file.as_deref().or(cli.config.as_deref());
            return settings::tell(
                file,
                if !show {
                    Wanted::Check
                } else if cli.json {
                    Wanted::Json
                } else {
                    Wanted::Text
                },
            );
        }
        Some(Command::Doctor { checks }) => {
            let looking = Looking {
                exec: &system,
                config: cli.config.as_deref(),
                is_root: rustix::process::geteuid().is_root(),
                model: &|| reading.model(AHEAD),
                book: &Ledger::new(&reading.paths.ledger()).read(),
                wanted: checks,
            };
            let signs = looking.look();
            let report = doctor::run(checks, &signs)?;
            if cli.json {
                logging::result(&(serde_json::to_string_pretty(&report).context("cannot write JSON")? + "\n"))?;
            } else {
                logging::result(&report.draw(colours))?;
            }
            return Ok(if report.is_well() { ExitCode::SUCCESS } else { Exit::Failed.into() });
        }
        Some(Command::Check) => {
            let (code, line) = check::draw(&reading.model(AHEAD));
            logging::result(&(line + "\n"))?;
            return Ok(code.into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells the hooks what has happened since what the file `memory` remembers.
fn tell_hooks(reading: &Reading<'_>, memory: &Path) -> Result<(), anyhow::Error> {
    let hooks = Config::load(reading.cli.config.as_deref(), &[Table::Hook])?.hook;
    if hooks.is_empty() {
        return Ok(());
    }
    let (told, now) = hook::news(hook::remembered(memory).as_ref(), &reading.model(AHEAD));
    hook::remember(memory, &now).with_context(|| format!("cannot write {}", shown(memory)))?;
    hook::tell(reading.system, &hooks, &told);
    Ok(())
}

/// Writes to a file, in one step and for all to read, or to standard output.
fn write(file: Option<&Path>, text: &str) -> Result<(), anyhow::Error> {
    let Some(file) = file else { return Ok(logging::result(text)?) };
    // A name alone is in this folder.
    let path = std::path::absolute(file).context("there is no folder to write to")?;
    let made = path.parent().map_or(Ok(()), make_shared);
    let written = made.and_then(|()| fs::replace(&path, text.as_bytes(), 0o644, Durability::Loose));
    written.with_context(|| format!("cannot write {}", shown(file)))
}

/// Draws the screen again and again, until a signal ends that.
fn watch(reading: &Reading<'_>, colours: bool, signals: &Signals) -> Result<(), anyhow::Error> {
    let clear = if std::io::stdout().is_terminal() { "\u{1b}[H\u{1b}[2J" } else { "" };
    while signals.caught().is_none() {
        logging::result(&format!("{clear}{}", screen::draw(&reading.model(AHEAD), colours)))?;
        signals.wait(EVERY).context("cannot wait")?;
    }
    Ok(())
}

/// What this machine is read with.
struct Reading<'a> {
    cli: &'a Cli,
    system: &'a System<'a>,
    paths: Paths,
}

impl Reading<'_> {
    /// How the machine stands now; its plan goes so far `ahead`.
    fn model(&self, ahead: TimeDelta) -> Model {
        let now = Utc::now();
        let facts = collect::collect(&Sources {
            exec: self.system,
            config: self.cli.config.as_deref(),
            paths: &self.paths,
            board: &Board::system(),
            ahead: Some(ahead),
            is_root: rustix::process::geteuid().is_root(),
            now,
        });
        Model::new(&facts, now, ahead, Zone::system())
    }
}

#[cfg(test)]
mod tests;
