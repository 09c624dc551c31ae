//! The pull of one host: its locks, its mark, its copies, and what is told of it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, Invocation};
use phobos_core::human;
use phobos_core::sandbox::{Alias, Lent};
use phobos_core::signal::Signals;
use phobos_core::teardown;
use phobos_site::config::Config;
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::job::{Ending, Frame, Job, Spec, Visibility};
use phobos_site::lock::{LockName, Mode};
use phobos_site::paths::Paths;
use phobos_site::pull::{Host, HostName};
use serde::Serialize;

use crate::allowed::USER;
use crate::deletions::{self, Limits, TEMPORARY, Tallies};
use crate::leftovers;
use crate::mark::{Mark, Marks, State, Success};
use crate::reserve::Keeper;
use crate::scope::Scope;
use crate::screen::Screen;
use crate::secrets::Secrets;
use crate::space::{self, Space};
use crate::transfer::{Copied, Deletions, Transfer};

/// The job's name in the history and, with the host's name, on the light.
const NAME: &str = "pull";

/// How many folders may go with a few files, without asking rsync for a list.
const FOLDERS: u64 = 16;

/// The permissions of the folder in which rsync makes files.
const TEMPORARY_MODE: u32 = 0o700;

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

/// How the pull of a host went.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) host: HostName,
    /// A mark's state, `busy` if the pull never began, or `rehearsed`.
    pub(crate) state: &'static str,
    pub(crate) exit: u8,
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) error: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
    pub(crate) waited_secs: u64,
    #[serde(flatten)]
    pub(crate) done: Done,
    /// Whether the host may be away.
    #[serde(skip)]
    tolerated: bool,
}

/// What the copies of a host did.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Done {
    /// Regular files copied.
    files_copied: u64,
    /// Their size in bytes.
    bytes_copied: u64,
    /// Files, folders and links deleted.
    deleted: u64,
    /// Files, folders and links that the host has.
    files: u64,
    /// Their size in bytes.
    bytes: u64,
    /// How many files each source has in the holding space.
    #[serde(skip)]
    sources: BTreeMap<PathBuf, u64>,
    /// Whether anything was created, changed or deleted.
    #[serde(skip)]
    changed: bool,
    #[serde(skip)]
    notes: Vec<String>,
}

impl Outcome {
    /// A pull that ended before it began.
    pub(crate) fn unbegun(host: &HostName, error: &str, exit: Exit) -> Self {
        let now = Utc::now();
        Self {
            host: host.clone(),
            state: "busy",
            exit: exit.code(),
            start: now,
            end: now,
            error: error.to_owned(),
            note: String::new(),
            waited_secs: 0,
            done: Done::default(),
            tolerated: false,
        }
    }
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
            light: light_job(host),
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
            outcome.state = "rehearsed";
            return self.copy_all(host, earlier.as_ref(), &mut outcome.done);
        }
        let mut mark = Mark::begin(&host.name, earlier.as_ref(), outcome.start);
        let cannot_mark = || format!("cannot mark the holding space of {}", host.name);
        self.marks.write(&mark).with_context(cannot_mark)?;
        let mut result = self.copy_all(host, earlier.as_ref(), &mut outcome.done);
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
            let age = Utc::now() - mark.fresh_at();
            outcome.tolerated = age <= TimeDelta::from_std(host.stale_after.0).unwrap_or(TimeDelta::MAX);
            if !outcome.tolerated {
                let limit = humantime::format_duration(host.stale_after.0);
                result = result.with_context(|| format!("its copy is {}, older than {limit}", days(age)));
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
    fn copy_all(&self, host: &Host, earlier: Option<&Mark>, done: &mut Done) -> Result<(), anyhow::Error> {
        let holding: &Path = &self.config.backup.holding;
        let keeper = Keeper::new(holding, &host.name, self.config.backup.reserve)
            .with_context(|| format!("cannot open {}", holding.display()))?;
        let keeper = (self.scope != Scope::DryRun).then_some(keeper);
        if let Some(Err(reason)) = keeper.as_ref().map(Keeper::check) {
            return Err(Stop::new(Exit::Failed, reason).into());
        }
        let Space { path: space, owner } = space::prepare(holding, host, self.config.backup.uid_base, self.scope)?;
        // Nobody but this pull may be at work for the host, and when it ends nobody is.
        self.sweep(owner)?;
        if earlier.is_some_and(|mark| mark.state == State::Running) {
            let failed = || format!("cannot end what an earlier pull has left in {}", space.display());
            leftovers::end(&space).with_context(failed)?;
        }
        let temporary = Temporary::make(&space, self.scope)?;
        let secrets = Secrets::lend(self.config, self.paths, host, owner, "")?;
        let users = (owner != 0).then(|| self.lend_users(host, owner)).transpose()?;
        let alias = users.as_ref().map(|users| Alias { id: owner, passwd: users.path().to_owned() });
        let deadline = Instant::now().checked_add(host.time_limit.0).context("the time-limit is too long")?;
        let work = host.connections().iter().try_for_each(|connection| {
            let transfer = Transfer {
                host,
                connection,
                space: &space,
                alias: alias.as_ref(),
                files: Secrets::files(secrets.as_ref()),
                program: &self.program,
                deadline,
                echoes: self.scope == Scope::DryRun,
                keeper: keeper.as_ref(),
            };
            self.copy(&transfer, earlier, done)
        });
        let work = teardown::join(work.map_err(boxed), self.sweep(owner).map_err(boxed));
        let work = teardown::join(work, temporary.remove().map_err(boxed));
        let work = match keeper.filter(Keeper::was_hit) {
            // What was cut off would keep the room from the others that it has taken from them.
            Some(_) => teardown::join(work, remove_parts(&space).map_err(boxed)),
            None => work,
        };
        let work = teardown::join(work, users.map_or(Ok(()), Lent::close));
        teardown::join(work, secrets.map_or(Ok(()), Secrets::close))?;
        if self.scope == Scope::DryRun {
            return Ok(());
        }
        if earlier.is_some_and(|mark| mark.state != State::Ok) {
            remove_parts(&space)?;
        }
        let failed = || format!("cannot bring {} to the disk", space.display());
        if done.changed {
            // What is marked as good must be on the disk.
            File::open(&space).and_then(|space| Ok(rustix::fs::syncfs(space)?)).with_context(failed)?;
        }
        Ok(())
    }

    /// What the host's user finds in the place of the system's users: it has a name there.
    fn lend_users(&self, host: &Host, owner: u32) -> Result<Lent, anyhow::Error> {
        let users = Alias::users(owner, USER).context("cannot read the users of this machine")?;
        let folder = self.paths.runtime.join("pull");
        Ok(Lent::text(&users, owner, &folder, &format!(".{}.users", host.name))?)
    }

    /// Ends what a confined program has started and left behind: all processes of the host's own user.
    fn sweep(&self, owner: u32) -> Result<(), anyhow::Error> {
        if owner == 0 {
            return Ok(());
        }
        let program = self.program.to_string_lossy().into_owned();
        let call = Invocation::new(&program).args(["sweep", &owner.to_string()]).shielded();
        self.exec.run(&call).with_context(|| format!("cannot end the processes of the user {owner}"))?;
        Ok(())
    }

    /// Copies from one connection: first all that is new, then, if it may be, what is gone is deleted.
    fn copy(&self, transfer: &Transfer<'_>, earlier: Option<&Mark>, done: &mut Done) -> Result<(), anyhow::Error> {
        let host = transfer.host;
        let first = match self.scope {
            Scope::DryRun => Deletions::Rehearsed,
            _ if !host.delete => Deletions::Never,
            Scope::AllowDelete => Deletions::All,
            Scope::Usual => Deletions::KeptBack,
        };
        let copied = self.run(transfer, first)?;
        let was_good = earlier.is_some_and(|mark| mark.state == State::Ok);
        let recorded = |place: &Path| earlier?.success.as_ref()?.sources.get(place).copied();
        let landing = host.landing(transfer.connection.origin);
        let counted = |place: &Path| {
            let path = transfer.space.join(&landing).join(place);
            deletions::count(&path).with_context(|| format!("cannot count the files in {}", path.display()))
        };
        if self.scope == Scope::DryRun {
            done.settle(transfer, &copied)?;
            let before = copied.tallies.iter().map(|(place, _)| {
                let good = counted(place)?.min(recorded(&landing.join(place)).unwrap_or(u64::MAX));
                Ok((place.clone(), good))
            });
            let before = before.collect::<Result<BTreeMap<_, _>, anyhow::Error>>()?;
            if let Some(objection) =
                copied.tallies.objection(Limits { most: host.max_delete, landing: &landing, before: &before })
            {
                self.screen.say(
                    log::Level::Warn,
                    &host.name,
                    &format!("would delete nothing: {}", too_much(&objection, host)),
                );
            }
            return Ok(());
        }
        if copied.fetched.kept_back == 0 {
            done.settle(transfer, &copied)?;
            for (place, tally) in copied.tallies.iter() {
                let full = landing.join(place);
                let files = match recorded(&full) {
                    // A pull that failed may have created files that nobody has counted.
                    Some(files) if tally.deleted == 0 && was_good => files + tally.created,
                    _ => counted(place)?,
                };
                done.sources.insert(full, files);
            }
            return Ok(());
        }
        let mut before = BTreeMap::new();
        for (place, tally) in copied.tallies.iter() {
            let now = counted(place)?;
            let full = landing.join(place);
            // What an earlier pull copied and then refused to delete for is no part of what was good.
            let good = now.saturating_sub(tally.created).min(recorded(&full).unwrap_or(u64::MAX));
            before.insert(place.clone(), good);
            done.sources.insert(full, now);
        }
        done.add(&copied);
        let deleted = self.delete(transfer, copied.fetched.kept_back, &before, done)?;
        for (place, tally) in deleted.iter() {
            if let Some(files) = done.sources.get_mut(&landing.join(place)) {
                *files = (*files + tally.created).saturating_sub(tally.deleted);
            }
        }
        Ok(())
    }

    /// Deletes what the host no longer has, if it is not too much; `before` says how many files each source had.
    ///
    /// rsync has kept back so many files. If any one source could lose them all, they are deleted without further ado;
    /// otherwise rsync says first of which source they are.
    fn delete(
        &self,
        transfer: &Transfer<'_>,
        kept_back: u64,
        before: &BTreeMap<PathBuf, u64>,
        done: &mut Done,
    ) -> Result<Tallies, anyhow::Error> {
        let landing = transfer.host.landing(transfer.connection.origin);
        let limits = Limits { most: transfer.host.max_delete, landing: &landing, before };
        let mut so_far = None;
        if kept_back <= limits.of_any() {
            let most = limits.of_any().min(kept_back.saturating_mul(2).saturating_add(FOLDERS));
            let copied = self.run(transfer, Deletions::AtMost(most))?;
            if copied.fetched.kept_back == 0 {
                done.settle(transfer, &copied)?;
                return Ok(copied.tallies);
            }
            done.add(&copied);
            so_far = Some(copied.tallies);
        }
        let plan = self.run(transfer, Deletions::Rehearsed)?;
        transfer.verdict(&plan)?;
        let mut all = plan.tallies.clone();
        if let Some(tallies) = &so_far {
            all.add(tallies);
        }
        if let Some(objection) = all.objection(limits) {
            let text =
                format!("everything new was copied, nothing was deleted: {}", too_much(&objection, transfer.host));
            return Err(Stop::new(Exit::Refused, text).into());
        }
        let copied = self.run(transfer, Deletions::AtMost(plan.tallies.deletions()))?;
        done.settle(transfer, &copied)?;
        if copied.fetched.kept_back > 0 {
            done.notes.push("more was gone in the end, and is deleted by the next pull".to_owned());
        }
        let mut deleted = copied.tallies;
        if let Some(tallies) = &so_far {
            deleted.add(tallies);
        }
        Ok(deleted)
    }

    /// Runs rsync once; an end that other runs cannot make good is an error.
    fn run(&self, transfer: &Transfer<'_>, deletions: Deletions) -> Result<Copied, anyhow::Error> {
        let copied = transfer.run(self.exec, &self.screen, deletions).map_err(|error| transfer.stopped(error))?;
        // What is in the way of a new file is deleted by the next run, which will then have nothing to complain of.
        let may_be_made_good = copied.fetched.kept_back > 0 && matches!(copied.fetched.code, 0 | 23..=25);
        if !may_be_made_good {
            let verdict = transfer.verdict(&copied);
            let level = match &verdict {
                Err(error) if transfer.host.optional && exit::exit_of(error.as_ref()) == Exit::Absent => {
                    log::Level::Debug
                }
                Err(_) => log::Level::Warn,
                Ok(_) => log::Level::Info,
            };
            copied.complaints.each().for_each(|line| self.screen.say(level, &transfer.host.name, &line));
            verdict?;
        }
        Ok(copied)
    }

    /// Tells the journal how a pull went.
    fn say_end(&self, host: &Host, outcome: &Outcome) {
        let (level, text) = match (outcome.exit, outcome.error.is_empty()) {
            (0, true) => (log::Level::Info, outcome.done.words(outcome.end - outcome.start)),
            (0, false) => (log::Level::Info, format!("{}; that is no failure before its time", outcome.error)),
            _ => (log::Level::Error, outcome.error.clone()),
        };
        self.screen.say(level, &host.name, &text);
        if !outcome.note.is_empty() {
            self.screen.say(log::Level::Info, &host.name, &outcome.note);
        }
    }
}

impl Done {
    /// Takes the last copy from a connection as its result.
    fn settle(&mut self, transfer: &Transfer<'_>, copied: &Copied) -> Result<(), anyhow::Error> {
        self.notes.extend(transfer.verdict(copied)?);
        self.add(copied);
        self.files += copied.fetched.stats.total_files;
        self.bytes += copied.fetched.stats.total_bytes;
        Ok(())
    }

    fn add(&mut self, copied: &Copied) {
        let stats = &copied.fetched.stats;
        self.files_copied += stats.files_transferred;
        self.bytes_copied += stats.bytes_transferred;
        self.deleted += stats.deleted;
        self.changed |= copied.has_changes;
    }

    fn success(&self, mark: &Mark) -> Success {
        Success {
            start: mark.start,
            end: mark.end.unwrap_or(mark.start),
            files: self.files,
            bytes: self.bytes,
            sources: self.sources.clone(),
        }
    }

    fn words(&self, length: TimeDelta) -> String {
        format!(
            "copied {} files with {}, deleted {}, in {}; the host has {} files, folders and links with {}",
            self.files_copied,
            human::size(self.bytes_copied),
            self.deleted,
            human::span(length),
            self.files,
            human::size(self.bytes)
        )
    }
}

/// The folder in which rsync makes files: what a killed one leaves there is not taken for the host's.
#[derive(Debug)]
struct Temporary(Option<PathBuf>);

impl Temporary {
    /// Makes it anew, for the owner of `space`.
    fn make(space: &Path, scope: Scope) -> Result<Self, anyhow::Error> {
        if scope == Scope::DryRun {
            return Ok(Self(None));
        }
        let temporary = Self(Some(space.join(TEMPORARY)));
        temporary.clear()?;
        let make = |folder: &Path| {
            let owner = fs::metadata(space)?;
            DirBuilder::new().mode(TEMPORARY_MODE).create(folder)?;
            // Of the link, should the host have put one there.
            lchown(folder, Some(owner.uid()), Some(owner.gid()))
        };
        if let Some(folder) = &temporary.0 {
            make(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(temporary)
    }

    fn clear(&self) -> Result<(), anyhow::Error> {
        let Some(folder) = &self.0 else { return Ok(()) };
        // It follows no link, and nobody else works here while the host's lock is held.
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(anyhow::Error::new(error).context(format!("cannot remove {}", folder.display())))
            }
            _ => Ok(()),
        }
    }

    /// Removes it and what rsync has left in it.
    fn remove(mut self) -> Result<(), anyhow::Error> {
        let result = self.clear();
        self.0 = None;
        result
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            log::error!("{error:#}");
        }
    }
}

/// Removes what was cut off in `space`.
fn remove_parts(space: &Path) -> Result<(), anyhow::Error> {
    deletions::remove_parts(space).with_context(|| format!("cannot remove what was cut off in {}", space.display()))
}

/// The name of the host's pull on the light and in records of locks.
fn light_job(host: &Host) -> String {
    format!("{NAME}-{}", host.name)
}

/// Why not everything is deleted, and how it can be.
fn too_much(objection: &str, host: &Host) -> String {
    format!("{objection} would go; if that is right, run `phobos-pull --allow-delete {}` once", host.name)
}

/// A length of time in days, or in hours if it is short.
pub(crate) fn days(age: TimeDelta) -> String {
    match (age.num_days(), age.num_hours()) {
        (0, 0) => format!("{} minutes", age.num_minutes().max(0)),
        (0, 1) => "1 hour".to_owned(),
        (0, hours) => format!("{hours} hours"),
        (1, _) => "1 day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}

/// An error that still knows its type, and so its exit code.
fn boxed(error: anyhow::Error) -> Box<dyn Error + Send + Sync> {
    error.reallocate_into_boxed_dyn_error_without_backtrace()
}
