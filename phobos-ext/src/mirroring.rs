//! The mirror: what was judged is copied and proved, and then the new copy is put in place with one rename.

mod copying;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::anyhow;
use chrono::Utc;
use phobos_core::borg::{Repository, RepositoryLock};
use phobos_core::copy::CopyError;
use phobos_core::exec::Exec;
use phobos_core::fs::{Dir, Durability, FsError, shown};
use phobos_core::human;
use phobos_core::notify::Notifier;
use phobos_core::progress::{Change, CopyEvent};
use phobos_core::rsync::{self, Stats};
use phobos_core::teardown;
use phobos_site::config::Config;
use phobos_site::exit::{Exit, Stop};
use phobos_site::ledger;

use self::copying::Copied;
use crate::checksums::Drafted;
use crate::exchange;
use crate::gate;
use crate::names;
use crate::progress::Monitor;
use crate::reading::{Notes, Reader, Reading};
use crate::record::{self, DriveRecord, FOLDER, GUIDE, INCOMING, RunRecord};
use crate::room;
use crate::sealing::{self, Sealing};
use crate::seen::{Looking, Opened, Seen};
use crate::session::Session;
use crate::source::Source;
use crate::spaces::{self, Room};
use crate::verdict::{self, Verdict};
use crate::{Cli, boxed, sheet};

/// How many damaged files a line names.
const NAMED: usize = 5;

/// All that a mirror needs.
pub(crate) struct Mirroring<'a> {
    pub(crate) cli: &'a Cli,
    pub(crate) config: &'a Config,
    pub(crate) exec: &'a dyn Exec,
    pub(crate) interrupted: &'a dyn Fn() -> Option<i32>,
    pub(crate) systemd: &'a Notifier,
    pub(crate) borg: &'a RefCell<RepositoryLock>,
    /// Looks at the drive once more.
    pub(crate) looking: &'a Looking<'a>,
    /// What is to be remembered of the mirror, once it is complete.
    pub(crate) noted: &'a RefCell<Option<ledger::Mirror>>,
    /// How far the drive has been read again.
    pub(crate) rounds: &'a ledger::Rounds,
    /// What was read of it in the end.
    pub(crate) read: &'a RefCell<Option<ledger::Go>>,
}

/// What was found to be damaged.
#[derive(Default)]
struct Damage {
    /// From the top of the drive.
    files: BTreeSet<PathBuf>,
    /// How many more.
    more: u64,
}

/// What a run has copied.
struct Done {
    /// What the drive is in the end.
    record: DriveRecord,
    /// The spaces that were compared.
    spaces: Vec<PathBuf>,
    /// Whether there is a new copy of the repository, to be put in place.
    has_fresh: bool,
    /// Whether anything was copied at all.
    has_copied: bool,
    stats: Stats,
    /// The lists of checksums that are new.
    lists: Vec<Drafted>,
}

impl Mirroring<'_> {
    /// Mirrors onto the drive, and closes it whatever happens.
    pub(crate) fn run(&self, repository: &Repository, opened: Opened<'_>) -> Result<Stats, anyhow::Error> {
        let Opened { place, mut session, seen } = opened;
        let source = place.look(repository, &mut self.monitor().handler());
        let work = source.and_then(|source| self.mirror(&source, seen, &mut session));
        Ok(teardown::join(work.map_err(boxed), session.close())?)
    }

    fn mirror(&self, source: &Source<'_>, seen: Seen, session: &mut Session<'_>) -> Result<Stats, anyhow::Error> {
        let verdict = verdict::judge(seen, source, self.cli.accept.as_deref(), &|| self.monitor())?;
        if self.cli.dry_run {
            return self.show_plan(session.root()?, &verdict, &source.place.inner);
        }
        let is_first = verdict.seen.copy.is_none();
        let damaged = &self.looking.damaged;
        // The copy must not be open any more when the drive is let go of, to be looked at anew.
        let done = self.carry_out(verdict, source, session, damaged)?;
        let stats = self.conclude(source, session, done, damaged)?;
        if is_first {
            self.all_was_read_back(source);
        } else {
            let Damage { files, more } = self.read_again(session.root()?, source)?;
            if !files.is_empty() {
                self.mend(source, session, &files)?;
            }
            if more > 0 {
                let text = format!(
                    "the drive {} is damaged in {more} files more than the {} that were copied again: replace it; until then each \
                     further run copies some more",
                    self.looking.target.name,
                    files.len()
                );
                return Err(Stop::new(Exit::Refused, text).into());
            }
        }
        self.borg.borrow_mut().let_go();
        Ok(stats)
    }

    /// A first mirror is a whole round by itself.
    fn all_was_read_back(&self, source: &Source<'_>) {
        let reading = Reading { bytes: source.survey.bytes(), whole: true, ..Reading::default() };
        self.read.replace(Some(Notes::of_the_end(true).end(&reading)));
    }

    /// Reads some of the drive again, for as long as the configuration says; all of it, where more is known to be damaged than has
    /// a name. Returns what is damaged.
    fn read_again(&self, root: &Dir, source: &Source<'_>) -> Result<Damage, anyhow::Error> {
        let time = self.config.external.verify_time.0;
        let is_all = self.rounds.has_unnamed();
        if time.is_zero() && !is_all {
            return Ok(Damage::default());
        }
        self.systemd.status("reading the drive again");
        let until = Instant::now().checked_add(time).filter(|_| !is_all);
        let from = self.rounds.position().cloned().filter(|_| !is_all);
        let mut notes = Notes::of_the_end(is_all);
        // The copy is what the source is, as was looked at right before.
        let (inner, state) = (source.place.inner.as_path(), Some(&source.side.state));
        let reader = Reader { root, inner, until, from, known: &[], state };
        let reading = reader.read(&mut self.monitor().handler(), &mut notes)?;
        self.read.replace(Some(notes.end(&reading)));
        let Reading { damaged, more, .. } = reading.whole_go()?;
        Ok(Damage { files: damaged.into_iter().map(|damaged| damaged.path).collect(), more })
    }

    /// Copies again what is damaged, where the source proves that it is not, and reads that back.
    fn mend(
        &self,
        source: &Source<'_>,
        session: &mut Session<'_>,
        damaged: &BTreeSet<PathBuf>,
    ) -> Result<(), anyhow::Error> {
        let names: Vec<_> = damaged.iter().map(|path| shown(path)).collect();
        log::warn!("damaged on the drive, and copied again: {}", human::first_of(&names, NAMED, ", "));
        let seen = self.looking.look(source.place, session.root()?, source.survey.items.len(), damaged)?;
        let verdict = verdict::judge(seen, source, self.cli.accept.as_deref(), &|| self.monitor())?;
        let done = self.carry_out(verdict, source, session, damaged)?;
        self.conclude(source, session, done, damaged)?;
        Ok(())
    }

    /// Copies, the repository beside its old copy and all else in its place, and says on the drive what is under way.
    fn carry_out(
        &self,
        verdict: Verdict,
        source: &Source<'_>,
        session: &Session<'_>,
        damaged: &BTreeSet<PathBuf>,
    ) -> Result<Done, anyhow::Error> {
        let root = session.root()?;
        let Verdict { plan, seen: Seen { copy, unproved, apart, .. }, .. } = &verdict;
        let transaction = source.side.state.last().map(u64::from);
        let (run, began) = (RunRecord::new(Utc::now(), transaction), Instant::now());
        // The time of the first run that is not proved counts until one is.
        let since = unproved.as_ref().map_or(run.since, |before| before.since.min(run.since));
        let record_of_run = RunRecord { since, ..run.clone() };
        let Room { added, beside, listed, .. } = apart.room;
        let needed = [added, beside, listed].iter().fold(plan.bytes(), |sum, more| sum.saturating_add(*more));
        let first = copy.as_ref().filter(|_| self.cli.delete_first).map(|dir| (dir, plan.gone.as_slice()));
        room::make(root, needed, first, &record_of_run, &mut self.monitor().handler())?;
        let is_rest_alike = self.is_rest_alike(&verdict, source, root)?;
        // What is left out this time stays phobos's.
        let left_out: BTreeSet<OsString> = verdict.seen.left_out();
        let mut done = Done::nothing(DriveRecord {
            transaction,
            names: names::noted(verdict.seen.judged.intersection(&verdict.seen.tops).chain(&left_out)),
            ..verdict.seen.record.clone()
        });
        if verdict.is_same && is_rest_alike && damaged.is_empty() {
            return Ok(done);
        }
        // From here on nothing that is sealed has to be as it was. Before more is written the drive says whose it is, and what will
        // be put there.
        record_of_run.write(root)?;
        let record = DriveRecord {
            names: names::noted(verdict.seen.judged.iter().chain(&left_out)),
            ..verdict.seen.record.clone()
        };
        record.write(root)?;
        if let Some(before) = unproved {
            log::warn!("an earlier run did not prove that all is on the disk: what it wrote is copied again");
            spaces::distrust(root, &verdict.seen.spaces, before.since, &mut self.monitor().handler())?;
        }
        let believed = &verdict.seen.believed;
        spaces::distrust_damaged(
            &source.place.root,
            root,
            believed,
            damaged,
            &source.place.inner,
            &mut self.monitor().handler(),
        )?;

        // What is not in place is of no use to anybody.
        let copied = self.copy(&verdict, is_rest_alike, (&run, began), source, session);
        let Copied { fresh, stats, lists } =
            copied.inspect_err(|_| room::clear(root, &mut self.monitor().handler()))?;
        done.lists = lists;
        (done.has_fresh, done.has_copied) = (fresh.is_some(), true);
        let (written, stats) = (fresh.unwrap_or_default(), stats.unwrap_or_default());
        done.stats = Stats {
            files_transferred: stats.files_transferred + written.len() as u64,
            bytes_transferred: written.iter().fold(stats.bytes_transferred, |sum, file| sum.saturating_add(file.size)),
            deleted: stats.deleted + plan.gone.len() as u64,
            ..stats
        };
        done.spaces = verdict.seen.spaces;
        Ok(done)
    }

    /// Whether rsync would find nothing to do, which is told by one look at both sides, and takes less than rsync's beginning.
    fn is_rest_alike(&self, verdict: &Verdict, source: &Source<'_>, root: &Dir) -> Result<bool, anyhow::Error> {
        let Seen { apart, holding, unproved, .. } = &verdict.seen;
        if unproved.is_some() || !apart.alike {
            return Ok(false);
        }
        let (from, inner) = (&source.place.root, &source.place.inner);
        let (acls, holding) = (self.config.external.attributes, holding.as_deref());
        Ok(spaces::is_rest_alike(from, root, inner, holding, acls, &mut self.monitor().handler())?)
    }

    /// Puts the new copy in place, proves that the drive keeps what it was told to, and says on it that the mirror is complete.
    fn conclude(
        &self,
        source: &Source<'_>,
        session: &mut Session<'_>,
        done: Done,
        damaged: &BTreeSet<PathBuf>,
    ) -> Result<Stats, anyhow::Error> {
        let settled = self.settle(source, session, &done);
        if let (Err(_), Ok(root)) = (&settled, session.root()) {
            room::clear(root, &mut self.monitor().handler());
        }
        settled?;
        let (root, inner) = (session.root()?, source.place.inner.as_path());
        let generation = if done.has_fresh { exchange::put_in_place(root, inner)? } else { None };
        let record = DriveRecord { mirrored: Some(Utc::now()), ..done.record };
        record.write(root)?;
        let has_written = self.write_guide(root, inner)?;
        if done.has_copied || has_written {
            Sealing { root, inner, lists: &done.lists, generation: generation.as_deref(), damaged }
                .seal(&mut self.monitor().handler())?;
        }
        if done.has_copied {
            // All that counts is written, and until the run's own record is taken back none of it is believed.
            self.systemd.status("checking the drive's file system");
            session.renew_checked()?;
            let root = session.root()?;
            self.look_at_what_is_kept(source, root, inner, &[])?;
            sealing::prove(root, &record, &mut self.monitor().handler())?;
            RunRecord::take_back(root)?;
        }
        let root = session.root()?;
        self.noted.replace(record.noted(root, &self.config.external.mount));
        log::info!(
            "copied {} files with {}, deleted {}; the repository on the drive has {}",
            done.stats.files_transferred,
            human::size(done.stats.bytes_transferred),
            done.stats.deleted,
            human::size(source.survey.bytes())
        );
        Ok(done.stats)
    }

    /// Proves what was copied, and right before it is put in place that the source and the drive are still what they were.
    fn settle(&self, source: &Source<'_>, session: &mut Session<'_>, done: &Done) -> Result<(), anyhow::Error> {
        if done.has_copied {
            session.renew()?;
            let incoming = Path::new(FOLDER).join(INCOMING);
            let copy = if done.has_fresh { &incoming } else { &source.place.inner };
            self.look_at_what_is_kept(source, session.root()?, copy, &done.spaces)?;
        }
        self.look_again(source, session)
    }

    /// Looks at the drive as whoever mounts it sees it: which names it has, and what they are. Content was read back before.
    fn look_at_what_is_kept(
        &self,
        source: &Source<'_>,
        root: &Dir,
        copy: &Path,
        spaces: &[PathBuf],
    ) -> Result<(), anyhow::Error> {
        let look = gate::look(&root.open_dir(copy)?, gate::NAMES, &mut self.monitor().handler())?;
        let wrong = if source.survey.is_kept_by(&look.survey) {
            let from = &source.place.root;
            spaces::verify(from, root, spaces, i64::MAX, &mut |_, _| Ok(()), &mut self.monitor().handler())?
        } else {
            Some(format!("{} is another one than was written", shown(copy)))
        };
        match wrong {
            Some(wrong) => {
                Err(anyhow!("the drive does not keep what it was told to, it or its cable is failing: {wrong}"))
            }
            None => Ok(()),
        }
    }

    /// Says what would be changed on the drive.
    fn show_plan(&self, root: &Dir, verdict: &Verdict, inner: &Path) -> Result<Stats, anyhow::Error> {
        let Verdict { plan, seen: Seen { filters, .. }, .. } = verdict;
        let mut monitor = self.monitor();
        let mirror = self.rsync(filters, &monitor).times(record::times(root)?);
        let stats = rsync::mirror(self.exec, &mirror, &mut monitor.handler())?;
        for step in plan.copied() {
            let name = shown(&inner.join(&step.path));
            monitor.take(CopyEvent::Change(Change::created(&name))).map_err(CopyError::from)?;
        }
        for path in &plan.gone {
            let name = shown(&inner.join(path));
            monitor.take(CopyEvent::Change(Change::deleted(&name))).map_err(CopyError::from)?;
        }
        let all = monitor.changes();
        log::info!("{all} changes would be made, with {} of the repository", human::size(plan.bytes()));
        Ok(stats)
    }

    pub(crate) fn monitor(&self) -> Monitor<'_> {
        Monitor::new(Some(self.borg), self.interrupted, self.systemd, &self.config.external.mount)
    }

    /// Proves that the source and the drive are still what they were.
    fn look_again(&self, source: &Source<'_>, session: &Session<'_>) -> Result<(), anyhow::Error> {
        session.prove()?;
        source.place.prove(&self.config.backup)?;
        let look = gate::look(&source.place.dir, gate::NAMES, &mut self.monitor().handler())?;
        let survey = gate::settled(look.survey, &source.side.state);
        if survey != source.survey {
            return Err(CopyError::Changed { path: self.config.backup.repository.to_path_buf() }.into());
        }
        if !self.borg.borrow_mut().is_held() {
            return Err(anyhow!("Borg's lock was lost while the repository was copied"));
        }
        Ok(())
    }

    /// Says on the drive how everything is got back, unless it says that already; whether it did not.
    fn write_guide(&self, root: &Dir, inner: &Path) -> Result<bool, FsError> {
        let backup = &self.config.backup;
        let holding = backup.holding.strip_prefix(&backup.mount).ok().filter(|_| self.config.external.holding);
        let (name, text) = (Path::new(GUIDE), sheet::guide(inner, holding));
        match root.read(name, text.len() as u64) {
            Ok(Some(there)) if there == text.as_bytes() => Ok(false),
            _ => root.replace(name, text.as_bytes(), 0o644, Durability::Synced).map(|()| true),
        }
    }
}

impl Done {
    /// A run that had nothing to do.
    fn nothing(record: DriveRecord) -> Self {
        Self {
            record,
            spaces: Vec::new(),
            has_fresh: false,
            has_copied: false,
            stats: Stats::default(),
            lists: Vec::new(),
        }
    }
}
