//! The job from plug to green: each step a guard, taken down in reverse order, always.

use std::cell::RefCell;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use chrono::{DateTime, Utc};
use phobos_core::block;
use phobos_core::borg::{Repository, RepositoryLock};
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, System};
use phobos_core::fs::Dir;
use phobos_core::human;
use phobos_core::mount;
use phobos_core::notify::Notifier;
use phobos_core::rsync::Stats;
use phobos_core::signal::Signals;
use phobos_core::teardown;
use phobos_site::config::Config;
use phobos_site::drives::Target;
use phobos_site::exit;
use phobos_site::job::{self, Ending, Frame, Job, Spec, Visibility};
use phobos_site::led::{self, Board, State};
use phobos_site::ledger::{Book, Checkup, Go, Ledger, Mirror, Rounds};
use phobos_site::lock::{LockName, Mode};
use phobos_site::namespace;
use phobos_site::paths::Paths;

use super::at_drive::{Beginning, light};
use super::close::{Closing, Open, Scope};
use super::{hold, verify};
use crate::checksums;
use crate::gate;
use crate::mirroring::Mirroring;
use crate::seen::{Looking, Opened};
use crate::source;
use crate::{Cli, JOB, boxed, opened, say, standing, telling};

/// What a run needs all the time.
struct Run<'a> {
    cli: &'a Cli,
    config: &'a Config,
    target: &'a Target,
    exec: &'a dyn Exec,
    frame: &'a Frame<'a>,
    job: &'a Job<'a>,
    noted: &'a RefCell<Option<Mirror>>,
    rounds: &'a Rounds,
    read: &'a RefCell<Option<Go>>,
    systemd: &'a Notifier,
    paths: &'a Paths,
}

/// Runs the whole job.
pub(crate) fn run(cli: &Cli) -> Result<(), anyhow::Error> {
    let words = format!("{} ({})", program(), cli.text.join(" "));
    say(format_args!("starting {words}"));
    exit::require_root()?;
    let board = Board::system().lit_by(cli.config.as_deref());
    // Without a descriptor to spare nothing else works either, and that has to be told.
    let signals = Signals::catch().context("cannot catch signals").inspect_err(|error| {
        if !cli.dry_run {
            job::failed_early(&System::default(), &board, JOB, &Chain(error.as_ref()));
        }
    })?;
    let system = System::new(&signals);
    let paths = Paths::from_environment();
    let caught = || signals.caught();
    let mut frame = Frame::new(&system, &caught, &paths, board, Instant::now());
    // Until the drive's lock is held, the drive's own light and the history are those of the run that holds it.
    let beginning = Beginning {
        job: JOB,
        drive: cli.drive.as_ref(),
        programs: &["borg", "rsync", "mount", "umount", "setpriv"],
        until: |history, target| history.expected_end(JOB, target.name.as_str(), Utc::now()),
    };
    let begun = beginning.begin(cli, &mut frame);
    let (config, target, _drive) = begun.inspect_err(|error| {
        if !cli.dry_run {
            frame.failed_early(JOB, &Chain(error.as_ref()));
        }
    })?;
    let closing = Closing { exec: &system, config: &config, paths: &paths, locks: &frame.locks, interrupted: &caught };
    let until = if is_plug_in() && !cli.dry_run { hold::until(&paths, Utc::now()) } else { Ok(None) };
    let until = until.inspect_err(|error| frame.failed_early(JOB, &Chain(error.as_ref())))?;
    if let Some(until) = until {
        return held(&closing, &frame, &target, until);
    }
    let spec = Spec {
        name: JOB,
        object: target.name.as_str(),
        light: light(JOB, &target),
        working: format!("mirroring to the drive {}", target.name),
        visibility: if cli.dry_run { Visibility::Nothing } else { Visibility::All },
        expected_end: None,
    };
    let systemd = Notifier::from_environment();
    systemd.status(&spec.working);
    let on_wait = |text: &str| {
        log::info!("{text}");
        systemd.status(text);
    };
    let job = frame.begin(spec, Some(&config.led), &on_wait);
    let checkups = if cli.dry_run { Vec::new() } else { standing::checkups(&system, &config.external) };
    let (noted, read, systemd) = (RefCell::default(), RefCell::default(), &systemd);
    let ledger = Ledger::new(&paths.ledger());
    let rounds = ledger.read().drives.remove(target.name.as_str()).unwrap_or_default().rounds;
    let run = Run {
        cli,
        config: &config,
        target: &target,
        exec: &system,
        frame: &frame,
        job: &job,
        noted: &noted,
        rounds: &rounds,
        read: &read,
        systemd,
        paths: &paths,
    };
    let result = run.mirror().or_else(|error| {
        // A run that failed early has not adopted what systemd opened for it, and nobody else would close it.
        let closed = closing.close(&Open::from(&target), Scope::Leftovers);
        Ok::<_, anyhow::Error>(teardown::join(Err(boxed(error)), closed.map_err(boxed))?)
    });
    let complete = noted.take().filter(|_| result.is_ok());
    let book = (!cli.dry_run).then(|| remember(&system, &ledger, checkups, &target, complete, read.take())).flatten();
    let result = result.and_then(|stats| run.power_off().map(|()| stats));
    match &result {
        Ok(stats) => {
            if !cli.dry_run {
                // What a reading has found is mended, or it could not begin.
                for light in [JOB, verify::JOB, &light(verify::JOB, &target)] {
                    telling::forgive(&frame.board, light);
                }
            }
            let text = format!("the drive {} is safe to take away", target.name);
            systemd.status(&text);
            job.end(&Ending { bytes: Some(stats.bytes_transferred), text, ..Ending::default() });
        }
        Err(error) => {
            let ending = Ending::failed(error.as_ref());
            systemd.status(&ending.error);
            job.end(&ending);
        }
    }
    result?;
    say(format_args!("{words} finished"));
    if let Some(book) = book {
        tell(cli, &config, &frame, &target, &ledger, &book);
    }
    Ok(())
}

/// Says until when drives are held, and mirrors nothing.
fn held(closing: &Closing<'_>, frame: &Frame<'_>, target: &Target, until: DateTime<Utc>) -> Result<(), anyhow::Error> {
    let text = format!(
        "the drive {} is not mirrored to: drives are held until {}; `phobos-ext hold --off` ends that",
        target.name,
        human::local(until)
    );
    log::warn!("{text}");
    led::tell(frame.exec, &frame.board, &light(JOB, target), State::Attention, &text);
    // What systemd has unlocked for this run nobody else would lock.
    let closed = closing.close(&Open::from(target), Scope::Leftovers);
    closed.inspect_err(|error| frame.failed_early(&light(JOB, target), &Chain(error.as_ref())))
}

/// Tells what is not as it should be with the drives, now that this one is safe: in the journal, and once by mail, with the
/// notice that somebody may want. The green light stays; what has ended is taken off.
fn tell(cli: &Cli, config: &Config, frame: &Frame<'_>, target: &Target, ledger: &Ledger, book: &Book) {
    let external = &config.external;
    let standings = standing::now(external, book, &frame.history);
    telling::in_journal(&standings);
    telling::take_back(frame.exec, &frame.board, &standings);
    let notice = external.notice.then(|| telling::notice(target.name.as_str(), &standings));
    telling::by_mail(frame.exec, cli.config.as_deref(), ledger, book, &standings, notice.as_deref());
}

impl Run<'_> {
    /// Takes the remaining locks, mirrors, and proves that the drive may be unplugged.
    fn mirror(&self) -> Result<Stats, anyhow::Error> {
        self.enter_namespace()?;
        opened::refuse(self.paths, &self.target.name)?;
        source::check(&self.config.backup)?;
        let _holding = self.job.lock(&LockName::Holding, Mode::Exclusive)?;
        let _repository = self.job.lock(&LockName::Repository, Mode::Exclusive)?;
        let repository = source::check(&self.config.backup)?;
        let looking = Looking {
            cli: self.cli,
            config: self.config,
            target: self.target,
            exec: self.exec,
            interrupted: self.frame.interrupted,
            systemd: self.systemd,
            id: repository.id().as_str(),
            damaged: self.rounds.unmended().filter_map(checksums::from_text).collect(),
        };
        // Links and the like Borg takes for failures of its own.
        gate::shape(&Dir::open(&self.config.backup.repository)?)?;
        // Borg takes a moment to start.
        let begun = repository.begin_to_lock(self.exec)?;
        let opened = looking.open()?;
        match self.job.waiting(self.job.deadline(), |_| begun.answer()) {
            Ok(Some(borg)) => self.with_lock(borg, &repository, &looking, opened),
            Ok(None) => {
                // Until morning, maybe: the drive is not left open meanwhile, and what was seen is forgotten.
                drop(opened.seen);
                opened.session.close()?;
                let borg = self.job.waiting(self.job.deadline(), |patience| repository.lock(self.exec, patience))?;
                match looking.open() {
                    Ok(opened) => self.with_lock(borg, &repository, &looking, opened),
                    Err(error) => Ok(teardown::join(Err(boxed(error)), borg.close())?),
                }
            }
            Err(error) => {
                drop(opened.seen);
                Ok(teardown::join(Err(error), opened.session.close())?)
            }
        }
    }

    fn with_lock(
        &self,
        borg: RepositoryLock,
        repository: &Repository,
        looking: &Looking<'_>,
        opened: Opened<'_>,
    ) -> Result<Stats, anyhow::Error> {
        self.systemd.status(&format!("mirroring to the drive {}", self.target.name));
        let borg = RefCell::new(borg);
        let mirroring = Mirroring {
            cli: self.cli,
            config: self.config,
            exec: self.exec,
            interrupted: self.frame.interrupted,
            systemd: self.systemd,
            borg: &borg,
            looking,
            noted: self.noted,
            rounds: self.rounds,
            read: self.read,
        };
        let work = mirroring.run(repository, opened);
        Ok(teardown::join(work.map_err(boxed), borg.into_inner().close())?)
    }

    /// Stops the drive and takes it off its bus, where that is wanted: the mirror is complete by now, and known.
    fn power_off(&self) -> Result<(), anyhow::Error> {
        if self.cli.dry_run || !self.config.external.power_off {
            return Ok(());
        }
        let name = &self.target.name;
        self.systemd.status(&format!("stopping the drive {name}"));
        mount::prove_free(&self.target.device)?;
        let failed = || {
            format!(
                "the mirror to {name} is complete and the drive closed, but it was not taken off its bus, as `power-off` in [external] \
                 wants it"
            )
        };
        block::power_off(&self.target.device).with_context(failed)
    }

    fn enter_namespace(&self) -> Result<(), anyhow::Error> {
        self.job.waiting(Instant::now() + namespace::WAIT, |patience| {
            namespace::enter(self.exec, &self.config.backup, &self.frame.locks, self.job.light(), patience)
        })?;
        Ok(())
    }
}

/// Whether systemd has started this because a drive was plugged in, and not a person.
fn is_plug_in() -> bool {
    std::env::var_os("INVOCATION_ID").is_some()
}

/// Writes down which drives were here and what their disks said of themselves, and the mirror that is complete; that it cannot is a
/// warning.
fn remember(
    exec: &dyn Exec,
    ledger: &Ledger,
    mut checkups: Vec<(Target, Checkup)>,
    target: &Target,
    mirror: Option<Mirror>,
    read: Option<Go>,
) -> Option<Book> {
    // What has become of the bus meanwhile counts too.
    for (drive, checkup) in &mut checkups {
        checkup.count_resets(exec, &drive.device);
    }
    let now = Utc::now();
    let written = ledger.update(|book| {
        for (drive, checkup) in checkups {
            if drive.device.exists() {
                book.saw(drive.name.as_str(), now);
            }
            book.asked(drive.name.as_str(), checkup);
        }
        if let Some(go) = read {
            book.has_read(target.name.as_str(), go);
        }
        if let Some(mirror) = mirror {
            book.record(target.name.as_str(), mirror);
        }
    });
    written.map_err(|error| log::warn!("{}", Chain(&error))).ok()
}

/// The name under which the program was called: an administrator may keep the original's name as a link.
fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name().map_or_else(|| "phobos-ext".to_owned(), |name| name.to_string_lossy().into_owned())
}
