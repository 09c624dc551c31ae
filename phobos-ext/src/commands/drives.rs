//! `phobos-ext drives`: every drive, where it is, what its copy is worth and when it is due; the worst first.

mod look;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use chrono::{DateTime, Utc};
use phobos_core::exec::System;
use phobos_site::config::Config;
use phobos_site::drives::CRYPTTAB;
use phobos_site::exit;
use phobos_site::history::History;
use phobos_site::led::Board;
use phobos_site::ledger::{Ledger, State};
use phobos_site::logging;
use phobos_site::paths::Paths;
use phobos_site::rotation::{Place, Standing};
use serde::Serialize;

use crate::{Cli, TABLES, drive, listing, standing, telling};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Open the drives that are plugged in, read-only, and believe what they say of themselves
    #[arg(long)]
    look: bool,
    /// Print nothing, and tell what is not as it should be: in the journal, on the light, and once by mail
    #[arg(long, conflicts_with = "json")]
    tell: bool,
}

/// The version of what is printed as JSON.
const SCHEMA_VERSION: u32 = 1;

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    schema_version: u32,
    drives: Vec<Line<'a>>,
    /// What the ledger knows and the configuration does not.
    others: &'a [String],
}

/// What is known of one drive.
#[derive(Debug, Serialize)]
struct Line<'a> {
    name: &'a str,
    plugged_in: bool,
    /// Since when it is plugged in, or when it was last seen.
    since: Option<DateTime<Utc>>,
    mirrored: Option<DateTime<Utc>>,
    transaction: Option<u64>,
    /// In bytes, as of the last complete mirror.
    used: Option<u64>,
    free: Option<u64>,
    full_by: Option<DateTime<Utc>>,
    generations: Option<u64>,
    /// When all of it was last read again.
    read_since: Option<DateTime<Utc>>,
    read_until: Option<DateTime<Utc>>,
    /// How many damaged files were found, as long as that counts.
    damaged: Option<u64>,
    /// When files were last restored from it and were what they had to be.
    drilled: Option<DateTime<Utc>>,
    /// When everything was restored from it.
    drilled_whole: Option<DateTime<Utc>>,
    /// When it was drilled with its recovery passphrase.
    drilled_recovery: Option<DateTime<Utc>>,
    /// What its disk said of itself when it was last here: `good`, `failing` or `unknown`, why, and how often it was reset.
    health: Option<State>,
    health_detail: Option<&'a str>,
    usb_resets: Option<u64>,
    /// How many drives have their turn before it.
    turn: usize,
    due_by: Option<DateTime<Utc>>,
    overdue: bool,
    /// How its last run went wrong.
    failed: Option<Failed<'a>>,
    attention: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Failed<'a> {
    at: DateTime<Utc>,
    error: &'a str,
}

/// Prints what is known of all drives.
pub(crate) fn run(cli: &Cli, args: &Args) -> Result<(), anyhow::Error> {
    let config = Config::load(cli.config.as_deref(), &TABLES)?;
    let targets = drive::known(&config.external, Path::new(CRYPTTAB), None)?;
    let wanted = drive::known(&config.external, Path::new(CRYPTTAB), cli.drive.as_ref())?;
    let paths = Paths::from_environment();
    let looked = if args.look { look::at(&config, &wanted, &paths) } else { Ok(()) };
    let ledger = Ledger::new(&paths.ledger());
    let book = ledger.read();
    let runs = drive::runs(&History::new(&paths.history()));
    let mut standings = standing::all(&config.external, &targets, &book, &runs, Utc::now());
    if args.tell {
        exit::require_root()?;
        let system = System::default();
        let board = Board::system().lit_by(cli.config.as_deref());
        telling::in_journal(&standings);
        telling::on_light(&system, &board, &standings);
        telling::by_mail(&system, cli.config.as_deref(), &ledger, &book, &standings, None);
        return looked;
    }
    // Its turn is one among all.
    standings.retain(|standing| wanted.iter().any(|target| target.name.as_str() == standing.drive.name));
    let configured: BTreeSet<_> = targets.iter().map(|target| target.name.as_str()).collect();
    let others = book.drives.keys().filter(|name| cli.drive.is_none() && !configured.contains(name.as_str()));
    let others: Vec<_> = others.cloned().collect();
    if args.json {
        let printed = Printed {
            schema_version: SCHEMA_VERSION,
            drives: standings.iter().map(Line::from).collect(),
            others: &others,
        };
        logging::result(&(serde_json::to_string_pretty(&printed).context("cannot write JSON")? + "\n"))?;
    } else {
        logging::result(&listing::of(&standings, &others))?;
    }
    looked
}

impl<'a> From<&'a Standing> for Line<'a> {
    fn from(standing: &'a Standing) -> Self {
        let (mirror, room) = (standing.mirror(), standing.mirror().and_then(|mirror| mirror.room));
        let rounds = &standing.drive.entry.rounds;
        let checkup = standing.drive.entry.checkup.as_ref();
        let (plugged_in, since) = match standing.drive.place {
            Place::PluggedIn(since) => (true, since),
            Place::Away(since) => (false, since),
        };
        Self {
            name: &standing.drive.name,
            plugged_in,
            since,
            mirrored: mirror.map(|mirror| mirror.mirrored),
            transaction: mirror.and_then(|mirror| mirror.transaction),
            used: room.map(|room| room.used),
            free: room.map(|room| room.free),
            full_by: standing.full_by,
            generations: mirror.filter(|mirror| mirror.room.is_some()).map(|mirror| mirror.generations),
            read_since: rounds.whole.as_ref().map(|round| round.began),
            read_until: rounds.whole.as_ref().map(|round| round.ended),
            damaged: rounds.damage.as_ref().map(|damage| damage.files),
            drilled: standing.drive.entry.drills.good.as_ref().map(|drill| drill.at),
            drilled_whole: standing.drive.entry.drills.whole.as_ref().map(|drill| drill.at),
            drilled_recovery: standing.drive.entry.drills.recovered.as_ref().map(|drill| drill.at),
            health: checkup.map(|checkup| checkup.state),
            health_detail: checkup.map(|checkup| checkup.what.as_str()).filter(|what| !what.is_empty()),
            usb_resets: checkup.and_then(|checkup| checkup.resets),
            turn: standing.turn,
            due_by: standing.due_by,
            overdue: standing.is_overdue(),
            failed: standing.drive.failure.as_ref().map(|failure| Failed { at: failure.at, error: &failure.error }),
            attention: standing.attention.iter().map(ToString::to_string).collect(),
        }
    }
}
