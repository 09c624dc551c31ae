//! The pull of one host: its locks, its mark, its copies, and what is told of it.

use std::cell::Cell;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use chrono::{TimeDelta, Utc};
use phobos_core::error::Chain;
use phobos_core::exec::Exec;
use phobos_core::fs::Dir;
use phobos_core::sandbox::{Alias, Control, Lent};
use phobos_core::signal::Signals;
use phobos_core::teardown;
use phobos_site::config::Config;
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::job::{Ending, Frame, Job, Spec, Visibility};
use phobos_site::lock::{LockName, Mode};
use phobos_site::paths::Paths;
use phobos_site::pull::{Host, HostName};

use crate::leftovers;
use crate::mark::{Mark, Marks, State};
use crate::outcome::{Done, Outcome, days};
use crate::parts::{self, Scratch};
use crate::passes::Passes;
use crate::remote::Files;
use crate::reserve::Keeper;
use crate::scope::Scope;
use crate::screen::Screen;
use crate::secrets::Secrets;
use crate::space::{self, Space, Temporary};
use crate::transfer::Transfer;
use crate::users;

/// The job's name in the history and, with the host's name, on the light.
pub(crate) const NAME: &str = "pull";

/// What all pulls of a run share.
#[derive(Debug)]
pub(crate) struct Puller<'a> {
    pub(crate) config: &'a Config,
    pub(crate) exec: &'a dyn Exec,
    pub(crate) signals: &'a Signals,
    pub(crate) screen: Screen,
    pub(crate) marks: Marks,
    /// What every job runs in.
    pub(crate) frame: &'a Frame<'a>,
    /// Where keys are lent.
    pub(crate) paths: &'a Paths,
    /// The program that confines: this one.
    pub(crate) program: PathBuf,
    /// What may be deleted and copied.
    pub(crate) scope: Scope,
}

impl Puller<'_> {
    /// Pulls `host` and tells journal, history and light how it went.
    pub(crate) fn pull(&self, host: &Host) -> Outcome {
        let mut outcome = Outcome::unbegun(&host.name, "", Exit::Failed);
        let say = |text: &str| {
            self.screen.say(log::Level::Info, &host.name, text);
            self.screen.show(&host.name, text);
        };
        let length = self.marks.read(&host.name).as_ref().and_then(Mark::length);
        let spec = Spec {
            name: NAME,
            object: host.name.as_str(),
            light: light_job(&host.name),
            working: String::new(),
            // Scheduled pulls show on the light only that they failed.
            visibility: match self.scope {
                Scope::DryRun => Visibility::Nothing,
                _ if self.screen.is_watched() => Visibility::All,
                _ => Visibility::Failures,
            },
            expected_end: length.and_then(|length| Utc::now().checked_add_signed(length)),
        };
        let job = self.frame.begin(spec, None, &say);
        let result = self.pull_locked(host, &job, &mut outcome);
        outcome.end = Utc::now();
        outcome.waited_secs = job.waited().as_secs();
        self.screen.end(&host.name);
        let mut ending = match &result {
            Ok(()) => Ending::default(),
            Err(error) => Ending::failed(error.as_ref()),
        };
        ending.bytes = Some(outcome.done.bytes_copied);
        ending.tolerated = outcome.tolerated;
        outcome.exit = if outcome.tolerated { 0 } else { ending.exit };
        outcome.error.clone_from(&ending.error);
        self.say_end(host, &outcome);
        job.end(&ending);
        outcome
    }

    /// Takes the locks, marks the holding space, copies, and marks it again.
    fn pull_locked(&self, host: &Host, job: &Job<'_>, outcome: &mut Outcome) -> Result<(), anyhow::Error> {
        let _holding = job.lock(&LockName::Holding, Mode::Shared)?;
        let _own = job.lock(&host.lock(), Mode::Exclusive)?;
        // A pull begins when it has its locks.
        outcome.start = job.begins();
        // While the lock was awaited, another pull of the host may have ended.
        let earlier = self.marks.read(&host.name);
        if self.scope == Scope::DryRun {
            outcome.state = "dry-run";
            let mark = Mark::begin(&host.name, earlier.as_ref(), outcome.start);
            return self.copy_all(host, &mark.scratch, earlier.as_ref(), &mut outcome.done);
        }
        let mut mark = Mark::begin(&host.name, earlier.as_ref(), outcome.start);
        let cannot_mark = || format!("cannot mark the holding space of {}", host.name);
        self.marks.write(&mark).with_context(cannot_mark)?;
        let mut result = self.copy_all(host, &mark.scratch, earlier.as_ref(), &mut outcome.done);
        mark.end = Some(Utc::now());
        mark.note = outcome.done.notes.join("; ");
        mark.state = match &result {
            Ok(()) => State::Ok,
            Err(error) => match exit::exit_of(error.as_ref()) {
                Exit::Absent => State::Offline,
                Exit::Refused => State::Refused,
                _ => State::Failed,
            },
        };
        if mark.state == State::Offline && host.optional {
            let age = mark.age(Utc::now());
            let limit = TimeDelta::from_std(host.stale_after.0).unwrap_or(TimeDelta::MAX);
            outcome.tolerated = age.is_some_and(|age| age <= limit);
            let limit = humantime::format_duration(host.stale_after.0);
            match age {
                _ if outcome.tolerated => {}
                Some(age) => result = result.with_context(|| format!("its copy is {}, older than {limit}", days(age))),
                None => {
                    let date = mark.fresh_at().format("%F");
                    result = result.with_context(|| {
                        format!("its copy is of {date}, which is yet to come by this machine's clock: set the clock, then pull it")
                    });
                }
            }
        }
        match &result {
            Ok(()) => mark.success = Some(outcome.done.success(&mark)),
            Err(error) => mark.error = Chain(error.as_ref()).to_string(),
        }
        outcome.state = mark.state.word();
        outcome.note.clone_from(&mark.note);
        Ok(teardown::join(result.map_err(boxed), self.marks.write(&mark).with_context(cannot_mark).map_err(boxed))?)
    }

    /// Copies from all of the host's connections, and stops at the first that fails.
    fn copy_all(
        &self,
        host: &Host,
        scratch: &Scratch,
        earlier: Option<&Mark>,
        done: &mut Done,
    ) -> Result<(), anyhow::Error> {
        let holding: &Path = &self.config.backup.holding;
        let keeper = Keeper::new(holding, &host.name, self.config.backup.reserve)
            .with_context(|| format!("cannot open {}", holding.display()))?;
        let keeper = (self.scope != Scope::DryRun).then_some(keeper);
        if let Some(Err(reason)) = keeper.as_ref().map(Keeper::check) {
            return Err(Stop::new(Exit::Failed, reason).into());
        }
        let Space { path: space, owner } = space::prepare(holding, host, self.config.backup.uid_base, self.scope)?;
        let times = Dir::open(&space)?.times()?;
        // Nobody but this pull may be at work for the host, and when it ends nobody is.
        users::sweep(self.exec, &self.program, owner)?;
        if earlier.is_some_and(|mark| mark.state == State::Running) {
            let failed = || format!("cannot end what an earlier pull has left in {}", space.display());
            leftovers::end(&space).with_context(failed)?;
        }
        let temporary = Temporary::make(&space, scratch, self.scope)?;
        let secrets = Secrets::lend(self.config, self.paths, host, &host.identity(&self.config.folder), owner, "")?;
        let users =
            (owner != 0).then(|| users::lend(owner, self.paths, &format!(".{}.users", host.name))).transpose()?;
        let alias = users.as_ref().map(|users| Alias { id: owner, passwd: users.path().to_owned() });
        let deadline = Instant::now().checked_add(host.time_limit.0).context("the time-limit is too long")?;
        // A pull that may delete comes back over the same connection.
        let shares = self.scope == Scope::Usual && host.delete && secrets.is_some();
        let place = self.paths.runtime.join("pull").join(format!(".{owner}.control"));
        let control = shares.then(|| Control::new(&place, owner)).transpose();
        let control = control.with_context(|| format!("cannot make {}", place.display()))?;
        let (files, heard) = (Files { control: control.as_ref(), ..Secrets::files(secrets.as_ref()) }, Cell::new(0));
        let passes = Passes { exec: self.exec, screen: &self.screen, scope: self.scope };
        let work = host.connections().iter().try_for_each(|connection| {
            let transfer = Transfer {
                host,
                connection,
                space: &space,
                times,
                scratch,
                alias: alias.as_ref(),
                files,
                heard: &heard,
                program: &self.program,
                deadline,
                echoes: self.scope == Scope::DryRun,
                keeper: keeper.as_ref(),
            };
            passes.copy(&transfer, earlier, done)
        });
        let work = teardown::join(work.map_err(boxed), users::sweep(self.exec, &self.program, owner).map_err(boxed));
        let work = teardown::join(work, temporary.remove().map_err(boxed));
        let work = match keeper.filter(Keeper::was_hit) {
            // What was cut off would keep the room from the others that it has taken from them.
            Some(_) => teardown::join(work, remove_parts(&space, scratch).map_err(boxed)),
            None => work,
        };
        let work = teardown::join(work, control.map_or(Ok(()), Control::close));
        let work = teardown::join(work, users.map_or(Ok(()), Lent::close));
        teardown::join(work, secrets.map_or(Ok(()), Secrets::close))?;
        if self.scope == Scope::DryRun {
            return Ok(());
        }
        if earlier.is_some_and(|mark| mark.state != State::Ok) {
            remove_parts(&space, scratch)?;
        }
        let failed = || format!("cannot bring {} to the disk", space.display());
        if done.changed {
            // What is marked as good must be on the disk.
            File::open(&space).and_then(|space| Ok(rustix::fs::syncfs(space)?)).with_context(failed)?;
        }
        Ok(())
    }

    /// Tells the journal how a pull went.
    fn say_end(&self, host: &Host, outcome: &Outcome) {
        let (level, text) = outcome.words();
        self.screen.say(level, &host.name, &text);
        if !outcome.note.is_empty() {
            self.screen.say(log::Level::Info, &host.name, &outcome.note);
        }
    }
}

/// Removes what was cut off in `space`.
fn remove_parts(space: &Path, scratch: &Scratch) -> Result<(), anyhow::Error> {
    parts::remove(space, scratch).with_context(|| format!("cannot remove what was cut off in {}", space.display()))
}

/// The name of the host's pull on the light and in records of locks.
pub(crate) fn light_job(host: &HostName) -> String {
    format!("{NAME}-{host}")
}

/// An error that still knows its type, and so its exit code.
pub(crate) fn boxed(error: anyhow::Error) -> Box<dyn Error + Send + Sync> {
    error.reallocate_into_boxed_dyn_error_without_backtrace()
}
