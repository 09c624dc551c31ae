//! The job from plug to green: each step a guard, taken down in reverse order, always.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

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
use phobos_site::job::{Ending, Frame, Job, Spec, Visibility};
use phobos_site::led::Board;
use phobos_site::lock::{Lock, LockName, Mode};
use phobos_site::namespace;
use phobos_site::paths::{self, Paths};

use crate::close;
use crate::drive::{self, Target};
use crate::marker::{self, Claim, Marker};
use crate::source::{self, Extent};
use crate::teller::MirrorTeller;
use crate::{Cli, JOB, TABLES};

/// What a run needs all the time.
struct Run<'a> {
    cli: &'a Cli,
    config: &'a Config,
    target: &'a Target,
    exec: &'a dyn Exec,
    frame: &'a Frame<'a>,
    job: &'a Job<'a>,
}

/// Runs the whole job.
pub(crate) fn run(cli: &Cli) -> Result<(), anyhow::Error> {
    let words = format!("{} ({})", program(), cli.text.join(" "));
    say(format_args!("starting {words}"));
    exit::require_root()?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let paths = Paths::from_environment();
    let caught = || signals.caught();
    let board = Board::system().lit_by(cli.config.as_deref());
    let mut frame = Frame::new(&system, &caught, &paths, board, Instant::now());
    // Until the drive's lock is held, the drive's own light and the history are those of the run that holds it.
    let begun = begin(cli, &mut frame);
    let (config, target, _drive) = begun.inspect_err(|error| {
        if !cli.dry_run {
            frame.failed_early(JOB, &Chain(error.as_ref()));
        }
    })?;
    let spec = Spec {
        name: JOB,
        object: &target.name,
        light: light(&target),
        working: format!("mirroring to the drive {}", target.name),
        visibility: if cli.dry_run { Visibility::Nothing } else { Visibility::All },
        expected_end: None,
    };
    let job = frame.begin(spec, Some(&config.led), &|text| log::info!("{text}"));
    let run = Run { cli, config: &config, target: &target, exec: &system, frame: &frame, job: &job };
    let result = run.mirror().or_else(|error| {
        // A run that failed early has not adopted what systemd opened for it, and nobody else would close it.
        let closed = close::close(&system, &config, &target, &frame.locks, &caught);
        Ok::<_, anyhow::Error>(teardown::join(Err(boxed(error)), closed.map_err(boxed))?)
    });
    match &result {
        Ok(stats) => {
            if !cli.dry_run {
                forgive(&frame.board);
            }
            let text = format!("the drive {} is safe to take away", target.name);
            job.end(&Ending { bytes: Some(stats.bytes_transferred), text, ..Ending::default() });
        }
        Err(error) => job.end(&Ending::failed(error.as_ref())),
    }
    result?;
    say(format_args!("{words} finished"));
    Ok(())
}

/// Reads the configuration, finds the drive, makes sure that every program is here, and takes the drive's lock, before
/// anything is done.
fn begin(cli: &Cli, frame: &mut Frame<'_>) -> Result<(Config, Target, Lock), anyhow::Error> {
    let config = Config::load(cli.config.as_deref(), &TABLES)?;
    let target = drive::find(&config.external, Path::new(drive::CRYPTTAB), cli.drive.as_deref(), &frame.history)?;
    let cryptsetup = target.luks.is_some().then_some("cryptsetup");
    let programs: Vec<_> = ["borg", "rsync", "mount", "umount", "setpriv"].into_iter().chain(cryptsetup).collect();
    exec::require(&programs)?;
    let wait = cli.lock_wait.unwrap_or(config.locks.wait.0);
    frame.deadline = Instant::now().checked_add(wait).ok_or_else(|| anyhow!("the lock wait is too long"))?;
    let until = frame.history.expected_end(JOB, &target.name, Utc::now());
    let lock = frame.lock(&target.lock_name()?, Mode::Exclusive, &light(&target), until)?;
    Ok((config, target, lock))
}

impl Run<'_> {
    /// Takes the remaining locks, mirrors, and proves that the drive may be unplugged.
    fn mirror(&self) -> Result<Stats, anyhow::Error> {
        self.enter_namespace()?;
        source::check(&self.config.backup)?;
        let _holding = self.job.lock(&LockName::Holding, Mode::Exclusive)?;
        let _repository = self.job.lock(&LockName::Repository, Mode::Exclusive)?;
        let repository = source::check(&self.config.backup)?;
        let borg = self.job.waiting(self.job.deadline(), |patience| repository.lock(self.exec, patience))?;
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
        self.job.waiting(Instant::now() + namespace::WAIT, |patience| {
            namespace::enter(self.exec, &self.config.backup, &self.frame.locks, self.job.light(), patience)
        })?;
        Ok(())
    }
}

/// The job's name on the light.
fn light(target: &Target) -> String {
    format!("{JOB}-{}", target.name)
}

/// Ends the failure of a run that could not begin: it has been made good.
fn forgive(board: &Board) {
    if let Err(error) = board.make_good(JOB) {
        log::warn!("cannot take the failure of {JOB} off the light: {}", Chain(&error));
    }
}

/// An error that still knows its type, and so its exit code.
fn boxed(error: anyhow::Error) -> Box<dyn Error + Send + Sync> {
    error.reallocate_into_boxed_dyn_error_without_backtrace()
}

/// Prints what the original prints; that nobody reads it must not keep anything from being mirrored.
fn say(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout().lock(), "{line}") {
        log::warn!("cannot write to standard output: {error}");
    }
}

/// The name under which the program was called: an administrator may keep the original's name as a link.
fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name().map_or_else(|| "phobos-ext".to_owned(), |name| name.to_string_lossy().into_owned())
}
