//! The job from plug to green: each step a guard, taken down in reverse order, always.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use chrono::Utc;
use phobos_core::borg::{LOCK_FILES, Repository, RepositoryLock};
use phobos_core::error::Chain;
use phobos_core::exec::{self, Exec, System};
use phobos_core::luks::{self, Mapping};
use phobos_core::mount::{self, Mount};
use phobos_core::rsync::{self, Extras, Mirror, RsyncError, Stats};
use phobos_core::signal::Signals;
use phobos_core::teardown;
use phobos_site::config::Config;
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::history::{History, Run};
use phobos_site::led::{self, Board, State};
use phobos_site::lock::{Lock, LockName, Locks, Mode, Patience};
use phobos_site::namespace;
use phobos_site::paths;

use crate::Cli;
use crate::close;
use crate::drive::{self, Target};
use crate::marker::{self, Claim, Marker};
use crate::source::{self, Extent};
use crate::teller::MirrorTeller;

/// The job's name in the history and, with the drive's name, on the light.
pub(crate) const NAME: &str = "ext";

/// What a run needs all the time.
struct Job<'a> {
    cli: &'a Cli,
    config: &'a Config,
    target: &'a Target,
    exec: &'a dyn Exec,
    interrupted: &'a dyn Fn() -> Option<i32>,
    light: Light<'a>,
    locks: Locks,
    history: History,
    deadline: Instant,
    /// Whether the light shows that the run waits.
    waits: Cell<bool>,
    /// How long it has waited for locks.
    waited: Cell<Duration>,
}

/// The light, as one drive's job sees it.
#[derive(Clone)]
struct Light<'a> {
    exec: &'a dyn Exec,
    board: Board,
    job: String,
}

/// Runs the whole job.
pub(crate) fn run(cli: &Cli) -> Result<(), anyhow::Error> {
    let words = format!("{} ({})", program(), cli.text.join(" "));
    say(format_args!("starting {words}"));
    exit::require_root()?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let history = History::new(&paths::state().join("history.jsonl"));
    // Until the drive's lock is held, the drive's own light and the history are those of the run that holds it.
    let early = Light { exec: &system, board: Board::system().lit_by(cli.config.as_deref()), job: NAME.to_owned() };
    let told = |error: anyhow::Error| {
        if !cli.dry_run {
            early.post_failure(&Chain(error.as_ref()).to_string());
        }
        error
    };
    let (config, target) = prepare(cli, &history).map_err(told)?;
    let light = Light { job: format!("{NAME}-{}", target.name), ..early.clone() };
    let wait = cli.lock_wait.unwrap_or(config.external.lock_wait.0);
    let job = Job {
        cli,
        config: &config,
        target: &target,
        exec: &system,
        interrupted: &|| signals.caught(),
        light,
        locks: Locks::new(&paths::runtime().join("lock")),
        history,
        deadline: Instant::now().checked_add(wait).ok_or_else(|| anyhow!("the lock wait is too long"))?,
        waits: Cell::new(false),
        waited: Cell::default(),
    };
    let mut on_wait = |whom: &str| log::info!("waiting for {whom}");
    let _drive = target
        .lock_name()
        .map_err(anyhow::Error::from)
        .and_then(|name| job.lock_until(&name, job.deadline, &mut on_wait))
        .map_err(told)?;
    job.tell_and_mirror()?;
    say(format_args!("{words} finished"));
    Ok(())
}

/// Reads the configuration, finds the drive, and makes sure that every program is here, before anything is done.
fn prepare(cli: &Cli, history: &History) -> Result<(Config, Target), anyhow::Error> {
    let config = Config::load(cli.config.as_deref())?;
    let target = drive::find(&config.external, Path::new(drive::CRYPTTAB), cli.drive.as_deref(), history)?;
    let cryptsetup = target.luks.is_some().then_some("cryptsetup");
    let programs: Vec<_> = ["borg", "rsync", "mount", "umount", "setpriv"].into_iter().chain(cryptsetup).collect();
    exec::require(&programs)?;
    Ok((config, target))
}

impl Job<'_> {
    /// Mirrors, and tells light and history how it went: green comes last, when everything else is done.
    fn tell_and_mirror(&self) -> Result<(), anyhow::Error> {
        let start = Utc::now();
        self.post_working();
        let breath = led::breathe(self.exec, &self.light.board, &self.config.led);
        let result: Result<Stats, anyhow::Error> = self.mirror().or_else(|error| {
            // A run that failed early has not adopted what systemd opened for it, and nobody else would close it.
            let closed = close::close(self.exec, self.config, self.target, &self.locks, self.interrupted);
            Ok(teardown::join(Err(boxed(error)), closed.map_err(boxed))?)
        });
        if let Some(Err(error)) = breath.map(|mut breath| breath.release()) {
            log::warn!("the light did not breathe to the end: {}", Chain(&error));
        }
        let error = result.as_ref().err().map_or(String::new(), |error| Chain(error.as_ref()).to_string());
        if self.cli.dry_run {
            self.light.post(State::Off, "");
            return result.map(drop);
        }
        let run = Run {
            end: Utc::now(),
            waited_secs: self.waited.get().as_secs(),
            origin: result.as_ref().err().and_then(|error| exit::origin_of(error.as_ref())).unwrap_or_default(),
            exit: result.as_ref().map_or_else(|error| exit::exit_of(error.as_ref()).code(), |_| 0),
            error: error.clone(),
            bytes: result.as_ref().ok().map(|stats| stats.bytes_transferred),
            ..Run::new(NAME, &self.target.name, start)
        };
        if let Err(error) = self.history.append(&run) {
            log::warn!("{}", Chain(&error));
        }
        match &result {
            Ok(_) => {
                self.light.forgive(NAME);
                self.light.post(State::Ok, &format!("the drive {} is safe to take away", self.target.name));
            }
            Err(_) => self.light.post(State::Failed, &error),
        }
        result.map(drop)
    }

    /// Takes the remaining locks, mirrors, and proves that the drive may be unplugged.
    fn mirror(&self) -> Result<Stats, anyhow::Error> {
        self.enter_namespace()?;
        source::check(&self.config.backup)?;
        let _holding = self.lock(&LockName::Holding, self.deadline)?;
        let _repository = self.lock(&LockName::Repository, self.deadline)?;
        let repository = source::check(&self.config.backup)?;
        let began = Instant::now();
        let borg = repository.lock(self.exec, &mut self.patience(self.deadline, &mut |whom| self.on_wait(whom)));
        self.waited.set(self.waited.get() + began.elapsed());
        let borg = borg?;
        if self.waits.replace(false) {
            self.post_working();
        }
        let borg = RefCell::new(borg);
        let work = self.mirror_locked(&repository, &borg);
        let stats = teardown::join(work.map_err(boxed), borg.into_inner().close())?;
        mount::prove_free(&self.target.device)?;
        Ok(stats)
    }

    /// Unlocks and mounts the drive, mirrors, and locks it again.
    fn mirror_locked(&self, repository: &Repository, borg: &RefCell<RepositoryLock>) -> Result<Stats, anyhow::Error> {
        repository.check_segments()?;
        let external = &self.config.external;
        let place: &Path = &external.mount;
        self.clear_leftovers(place)?;
        let (mapping, device) = match &self.target.luks {
            Some((uuid, key_file)) => {
                luks::clear_leftover(self.exec, uuid, &external.mapping)?;
                let mapping = Mapping::obtain(self.exec, uuid, &external.mapping, key_file)?;
                let device = mapping.device();
                (Some(mapping), device)
            }
            None => (None, self.target.device.clone()),
        };
        let fstab = mount::fstab_entry(Path::new(paths::FSTAB), place)?;
        let mount = Mount::new(self.exec, &device, place, fstab.as_ref(), mapping)?;
        let work = self.mirror_mounted(repository, borg);
        Ok(teardown::join(work.map_err(boxed), mount.close())?)
    }

    /// Proves that the drive may get this mirror, and makes it.
    fn mirror_mounted(&self, repository: &Repository, borg: &RefCell<RepositoryLock>) -> Result<Stats, anyhow::Error> {
        let backup = &self.config.backup;
        let external = &self.config.external;
        let place: &Path = &external.mount;
        let inner = backup.repository.strip_prefix(&backup.mount).context("the repository is not below its mount")?;
        let copy = place.join(inner);
        let claim = marker::claim(place, &copy, repository.id())?;
        let extent = Extent::of(repository)?;
        let known = match &claim {
            Claim::Ours(marker) => Some(marker),
            Claim::Empty | Claim::Copy => None,
        };
        extent.may_replace(Extent::of_copy(&copy, known)?, self.cli.accept_smaller)?;
        let mut marker = known.cloned().unwrap_or_else(|| Marker::new(repository.id()));
        if self.cli.dry_run {
            log::info!("would mirror {} to the drive {}", backup.mount.display(), self.target.name);
        } else if known.is_none() {
            log::info!(
                "the drive {} belongs to the repository {} from now on",
                self.target.name,
                repository.id().as_str()
            );
            marker.write(place).with_context(|| format!("cannot write the marker on {}", place.display()))?;
        }

        let hidden = LOCK_FILES.iter().map(|name| rsync::rule('H', &inner.join(name)));
        let kept = marker::own_files().map(|name| rsync::rule('-', &name));
        let filters: Vec<_> = hidden.chain(kept).collect();
        let mut teller = MirrorTeller::new(borg, place);
        let mirror = Mirror {
            source: &backup.mount,
            target: place,
            max_alloc: external.max_alloc.as_str(),
            filters: &filters,
            extras: if external.attributes { Extras::All } else { Extras::HardLinks },
            rehearsal: self.cli.dry_run,
            progress: teller.shows_progress(),
        };
        let result = self.copy(&mirror, inner, &mut teller);
        let changes = teller.finish();
        let stats = result?;
        if self.cli.dry_run {
            log::info!("{changes} changes would be made");
            return Ok(stats);
        }
        if !borg.borrow_mut().is_held() {
            return Err(anyhow!("Borg's lock was lost while the repository was copied"));
        }
        borg.borrow_mut().let_go();
        log::info!(
            "copied {} files with {} MB, deleted {}; the drive holds {} MB",
            stats.files_transferred,
            stats.bytes_transferred / 1_000_000,
            stats.deleted,
            stats.total_bytes / 1_000_000
        );
        marker.transaction = extent.transaction;
        marker.segment_bytes = Some(extent.segment_bytes);
        marker.mirrored = Some(Utc::now());
        marker.write(place).with_context(|| format!("cannot write the marker on {}", place.display()))?;
        Ok(stats)
    }

    /// Copies: first the repository's new segments, which appear on the drive all at once, then everything else.
    ///
    /// Whenever it is cut short, the copy on the drive is a repository whose index and segments fit: rsync by itself would
    /// copy a new index before the segments that it speaks of, and segment 10 before segment 9.
    fn copy(&self, mirror: &Mirror<'_>, inner: &Path, teller: &mut MirrorTeller<'_>) -> Result<Stats, RsyncError> {
        let data = inner.join("data");
        if mirror.rehearsal || !mirror.target.join(&data).is_dir() {
            return rsync::mirror(self.exec, mirror, teller);
        }
        let segments = rsync::stage(self.exec, mirror, &data, teller)?;
        let rest = rsync::mirror(self.exec, mirror, teller)?;
        Ok(Stats {
            files_transferred: segments.files_transferred + rest.files_transferred,
            bytes_transferred: segments.bytes_transferred + rest.bytes_transferred,
            ..rest
        })
    }

    /// Unmounts what an earlier run has left at the drive's place in the namespace.
    fn clear_leftovers(&self, place: &Path) -> Result<(), anyhow::Error> {
        let outside = mount::table_of(Path::new("/proc/1/mountinfo"))?;
        if mount::at(&outside, place).is_some() {
            let text = format!("{0} is mounted outside the namespace; run `umount {0}` first", place.display());
            return Err(Stop::new(Exit::Refused, text).into());
        }
        if mount::at(&mount::table()?, place).is_some() {
            log::warn!("unmounting {}, which an earlier run has left mounted", place.display());
            mount::unmount(self.exec, place)?;
        }
        Ok(())
    }

    fn enter_namespace(&self) -> Result<(), anyhow::Error> {
        let mut on_wait = |whom: &str| self.on_wait(whom);
        let mut patience = self.patience(Instant::now() + namespace::WAIT, &mut on_wait);
        namespace::enter(self.exec, &self.config.backup, &self.locks, &self.light.job, &mut patience)?;
        Ok(())
    }

    /// Takes a lock alone; the light shows a wait.
    fn lock(&self, name: &LockName, deadline: Instant) -> Result<Lock, anyhow::Error> {
        self.lock_until(name, deadline, &mut |whom| self.on_wait(whom))
    }

    fn lock_until(
        &self,
        name: &LockName,
        deadline: Instant,
        on_wait: &mut dyn FnMut(&str),
    ) -> Result<Lock, anyhow::Error> {
        let until = self.history.expected_end(NAME, &self.target.name, Utc::now());
        let began = Instant::now();
        let lock =
            self.locks.take(name, Mode::Exclusive, &self.light.job, until, &mut self.patience(deadline, on_wait));
        self.waited.set(self.waited.get() + began.elapsed());
        Ok(lock?)
    }

    fn patience<'p>(&'p self, deadline: Instant, on_wait: &'p mut dyn FnMut(&str)) -> Patience<'p> {
        Patience { deadline, on_wait, interrupted: self.interrupted }
    }

    fn post_working(&self) {
        self.light.post(State::Working, &format!("mirroring to the drive {}", self.target.name));
    }

    fn on_wait(&self, whom: &str) {
        self.waits.set(true);
        log::info!("waiting for {whom}");
        self.light.post(State::Waiting, &format!("waiting for {whom}"));
    }
}

impl Light<'_> {
    fn post(&self, state: State, text: &str) {
        led::tell(self.exec, &self.board, &self.job, state, text);
    }

    /// Posts a failure that is about to be told: what the light says to it is not worth a second line, for a configuration
    /// that cannot be read is the light's too.
    fn post_failure(&self, text: &str) {
        if let Err(error) = self.board.post(&self.job, State::Failed, text) {
            log::debug!("{}", Chain(&error));
        }
        if let Err(error) = led::show(self.exec, &self.board) {
            log::debug!("{}", Chain(&error));
        }
    }

    /// Ends the failure of `job`, if it has one: a run that could not begin has been made good.
    fn forgive(&self, job: &str) {
        if let Err(error) = self.board.make_good(job) {
            log::warn!("cannot take the failure of {job} off the light: {}", Chain(&error));
        }
    }
}

/// An error that still knows its type, and so its exit code.
fn boxed(error: anyhow::Error) -> Box<dyn Error + Send + Sync> {
    error.reallocate_into_boxed_dyn_error_without_backtrace()
}

/// Prints what the original prints.
#[expect(clippy::print_stdout, reason = "the original's two lines go to standard output")]
fn say(line: fmt::Arguments<'_>) {
    println!("{line}");
}

/// The name under which the program was called: an administrator may keep the original's name as a link.
fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name().map_or_else(|| "phobos-ext".to_owned(), |name| name.to_string_lossy().into_owned())
}
