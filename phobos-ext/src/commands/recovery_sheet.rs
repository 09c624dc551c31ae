//! `phobos-ext recovery-sheet`: prints what somebody needs to get everything back without this machine.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use chrono::Utc;
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, System};
use phobos_core::luks::{self, Proof};
use phobos_core::signal::Signals;
use phobos_core::terminal;
use phobos_site::config::Config;
use phobos_site::drives::{CRYPTTAB, Target};
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::ledger::Ledger;
use phobos_site::lock::{Locks, Patience};
use phobos_site::paths::Paths;
use phobos_site::{logging, namespace};

use super::prepare::{HEADERS, header_file};
use crate::drive;
use crate::passphrase::Passphrase;
use crate::sheet::{self, DriveFacts, Facts, Lock};
use crate::{Cli, TABLES, source};

/// The name under which it holds locks.
const HOLDER: &str = "phobos-ext recovery-sheet";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a page for a browser, which prints it on paper
    #[arg(long)]
    html: bool,
    /// Ask for the recovery passphrase of each drive, try it, and print it too
    #[arg(long)]
    with_passphrases: bool,
}

/// Prints the sheet.
pub(crate) fn run(cli: &Cli, args: &Args) -> Result<(), anyhow::Error> {
    exit::require_root()?;
    let config = Config::load(cli.config.as_deref(), &TABLES)?;
    let targets = drive::known(&config.external, Path::new(CRYPTTAB), cli.drive.as_ref())?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let caught = || signals.caught();
    let paths = Paths::from_environment();
    let ledger = Ledger::new(&paths.ledger());
    let book = ledger.read();
    let mut drives = Vec::new();
    for target in &targets {
        let known = config.external.drive.iter().find(|drive| drive.name.as_str() == target.name.as_str());
        let entry = book.drives.get(target.name.as_str());
        drives.push(DriveFacts {
            name: target.name.to_string(),
            description: known.and_then(|drive| drive.description.clone()),
            lock: lock(&system, &config, target, args.with_passphrases, &caught)?,
            mirrored: entry.and_then(|entry| entry.mirror.as_ref()).map(|mirror| mirror.mirrored),
        });
    }
    let locks = Locks::new(&paths.locks());
    let mut patience = Patience::until(Instant::now() + namespace::WAIT).interrupted_by(caught);
    namespace::enter(&system, &config.backup, &locks, HOLDER, &mut patience)?;
    let repository = source::check(&config.backup)?;
    let below = |path: &Path| path.strip_prefix(&config.backup.mount).map(Path::to_path_buf);
    let facts = Facts {
        host: host(),
        made: Utc::now(),
        repository: repository.id().as_str().to_owned(),
        inner: below(&config.backup.repository).context("the repository is not below its mount")?,
        holding: config.external.holding.then(|| below(&config.backup.holding)).and_then(Result::ok),
        key: repository.paper_key(&system)?,
        drives,
    };
    logging::result(&if args.html { sheet::html(&facts) } else { sheet::text(&facts) })?;
    // Only now it has been given to somebody.
    ledger.update_or_warn(|book| facts.drives.iter().for_each(|drive| book.on_sheet(&drive.name, facts.made)));
    Ok(())
}

/// How a drive is locked, with its passphrase where that is wanted.
fn lock(
    exec: &dyn Exec,
    config: &Config,
    target: &Target,
    with_passphrases: bool,
    interrupted: &dyn Fn() -> Option<i32>,
) -> Result<Lock, anyhow::Error> {
    let Some(container) = target.uuid() else { return Ok(Lock::None { device: target.device.clone() }) };
    let header = header_file(&config.folder.join(HEADERS), target.name.as_str(), container);
    let header = header.is_file().then_some(header);
    let passphrase = if with_passphrases { asked(exec, target, header.as_deref(), interrupted)? } else { None };
    Ok(Lock::Luks { container: container.clone(), passphrase, header })
}

/// Asks for the passphrase of a drive, and tries it on the header or on the drive itself; an empty line leaves it out.
fn asked(
    exec: &dyn Exec,
    target: &Target,
    header: Option<&Path>,
    interrupted: &dyn Fn() -> Option<i32>,
) -> Result<Option<Passphrase>, anyhow::Error> {
    let name = &target.name;
    if terminal::is_there() {
        logging::draw(&format!("the recovery passphrase of the drive {name}, or nothing to leave it out: "));
    }
    let typed = match terminal::line(terminal::Echo::Off, interrupted).context("cannot read what is typed")? {
        terminal::Answer::Line(text) => Passphrase::typed(&text),
        terminal::Answer::End => {
            let text = format!("standard input has ended before the passphrase of the drive {name}");
            return Err(Stop::new(Exit::Usage, text).into());
        }
        terminal::Answer::Interrupted(signal) => {
            return Err(Stop::by_signal(signal).into());
        }
    };
    if typed.words().is_empty() {
        return Ok(None);
    }
    let Some(file) = header.or_else(|| target.device.exists().then_some(target.device.as_path())) else {
        log::warn!(
            "the passphrase of the drive {name} was not tried: it is not plugged in, and its header was not kept"
        );
        return Ok(Some(typed));
    };
    if let Err(error) = exec.run(&luks::prove_key(file, Proof::Passphrase).stdin(typed.key())) {
        let text = format!("this passphrase does not open the drive {name}: {}", Chain(&error));
        return Err(Stop::new(Exit::Refused, text).into());
    }
    Ok(Some(typed))
}

/// What this machine is called.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "this machine".to_owned() } else { name.to_owned() }
}
