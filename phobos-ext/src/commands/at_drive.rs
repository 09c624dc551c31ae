//! What jobs at a drive begin with, and what those have in common that only look at it.

use std::path::Path;
use std::time::Instant;

use anyhow::anyhow;
use phobos_core::exec::{self, Exec};
use phobos_core::notify::Notifier;
use phobos_site::config::{Config, DriveChoice};
use phobos_site::drives::{CRYPTTAB, Target};
use phobos_site::history::History;
use phobos_site::job::{Frame, Job};
use phobos_site::ledger::{Book, Ledger};
use phobos_site::lock::{Lock, Mode};
use phobos_site::namespace;
use phobos_site::paths::Paths;

use super::close::{Closing, Open, Scope};
use crate::{Cli, TABLES, drive, opened, standing, telling};

/// What a job is called on the light, at this drive.
pub(super) fn light(job: &str, target: &Target) -> String {
    format!("{job}-{}", target.name)
}

/// A job that begins.
pub(super) struct Beginning<'a> {
    pub(super) job: &'a str,
    /// The drive that was asked for.
    pub(super) drive: Option<&'a DriveChoice>,
    /// The programs that it takes, but for those that only an encrypted drive does.
    pub(super) programs: &'a [&'a str],
    /// When a run at this drive usually has ended, for whoever waits for the lock.
    pub(super) until: fn(&History, &Target) -> Option<chrono::DateTime<chrono::Utc>>,
}

impl Beginning<'_> {
    /// Reads the configuration, finds the drive, makes sure that every program is here, and takes the drive's lock, before
    /// anything is done.
    pub(super) fn begin(&self, cli: &Cli, frame: &mut Frame<'_>) -> Result<(Config, Target, Lock), anyhow::Error> {
        let config = Config::load(cli.config.as_deref(), &TABLES)?;
        let target = drive::find(&config.external, Path::new(CRYPTTAB), self.drive, &frame.history)?;
        let cryptsetup = target.uuid().is_some().then_some("cryptsetup");
        exec::require(&self.programs.iter().copied().chain(cryptsetup).collect::<Vec<_>>())?;
        let wait = cli.lock_wait.unwrap_or(config.locks.wait.0);
        frame.deadline = Instant::now().checked_add(wait).ok_or_else(|| anyhow!("the lock wait is too long"))?;
        let until = (self.until)(&frame.history, &target);
        let lock = frame.lock(&target.lock_name(), Mode::Exclusive, &light(self.job, &target), until)?;
        Ok((config, target, lock))
    }
}

/// A job that looks at a drive.
pub(super) struct AtDrive<'a> {
    pub(super) config: &'a Config,
    pub(super) target: &'a Target,
    pub(super) exec: &'a dyn Exec,
    pub(super) interrupted: &'a dyn Fn() -> Option<i32>,
    pub(super) systemd: &'a Notifier,
    pub(super) paths: &'a Paths,
}

impl AtDrive<'_> {
    /// Enters the namespace, and closes what an earlier run has left open of the drive.
    pub(super) fn enter(&self, frame: &Frame<'_>, job: &Job<'_>) -> Result<(), anyhow::Error> {
        job.waiting(Instant::now() + namespace::WAIT, |patience| {
            namespace::enter(self.exec, &self.config.backup, &frame.locks, job.light(), patience)
        })?;
        opened::refuse(self.paths, &self.target.name)?;
        let AtDrive { config, exec, interrupted, paths, .. } = *self;
        let closing = Closing { exec, config, paths, locks: &frame.locks, interrupted };
        closing.close(&Open::from(self.target), Scope::Leftovers)
    }

    /// Tells how all drives stand now.
    pub(super) fn tell(&self, cli: &Cli, frame: &Frame<'_>, ledger: &Ledger, book: &Book) {
        let standings = standing::now(&self.config.external, book, &frame.history);
        telling::in_journal(&standings);
        telling::by_mail(self.exec, cli.config.as_deref(), ledger, book, &standings, None);
    }
}
