//! The mirror: what was judged is copied and proved, and then the new copy is put in place with one rename.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use chrono::Utc;
use phobos_core::borg::{Repository, RepositoryLock};
use phobos_core::copy::{self, CopyError, Plan, Proof, Unproved};
use phobos_core::exec::Exec;
use phobos_core::fs::{Dir, Durability, FsError, shown};
use phobos_core::human;
use phobos_core::notify::Notifier;
use phobos_core::progress::{Change, CopyEvent};
use phobos_core::rsync::{self, Extras, Mirror, Pass, Stats};
use phobos_core::teardown;
use phobos_site::config::Config;
use phobos_site::ledger;

use crate::exchange;
use crate::gate;
use crate::progress::Monitor;
use crate::proof::SegmentProof;
use crate::record::{self, DriveRecord, FOLDER, GUIDE, INCOMING, RunRecord};
use crate::room;
use crate::seen::{Opened, Seen};
use crate::session::Session;
use crate::source::Source;
use crate::spaces::{self, Room};
use crate::verdict::{self, Verdict};
use crate::{Cli, boxed};

/// What somebody needs who has nothing but the drive.
const GUIDE_TEXT: &str = include_str!("how-to-restore.txt");

/// All that a mirror needs.
pub(crate) struct Mirroring<'a> {
    pub(crate) cli: &'a Cli,
    pub(crate) config: &'a Config,
    pub(crate) exec: &'a dyn Exec,
    pub(crate) interrupted: &'a dyn Fn() -> Option<i32>,
    pub(crate) systemd: &'a Notifier,
    pub(crate) borg: &'a RefCell<RepositoryLock>,
    /// What is to be remembered of the mirror, once it is complete.
    pub(crate) noted: &'a RefCell<Option<ledger::Mirror>>,
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
        // The copy must not be open any more when the drive is let go of, to be looked at anew.
        let done = self.carry_out(verdict, source, session)?;
        self.conclude(source, session, done)
    }

    /// Copies, the repository beside its old copy and all else in its place, and says on the drive what is under way.
    fn carry_out(&self, verdict: Verdict, source: &Source<'_>, session: &Session<'_>) -> Result<Done, anyhow::Error> {
        let root = session.root()?;
        let Verdict { plan, seen: Seen { copy, unproved, apart, .. }, .. } = &verdict;
        let transaction = source.side.state.last().map(u64::from);
        let run = RunRecord::new(Utc::now(), transaction);
        // The time of the first run that is not proved counts until one is.
        let since = unproved.as_ref().map_or(run.since, |before| before.since.min(run.since));
        let record_of_run = RunRecord { since, ..run.clone() };
        let needed = plan.bytes().saturating_add(apart.room.added).saturating_add(apart.room.beside);
        let first = copy.as_ref().filter(|_| self.cli.delete_first).map(|dir| (dir, plan.gone.as_slice()));
        room::make(root, needed, first, &record_of_run, &mut self.monitor().handler())?;
        let is_rest_alike = self.is_rest_alike(&verdict, source, root)?;
        let names = |names: &mut dyn Iterator<Item = &OsString>| -> Vec<String> {
            names.filter_map(|name| name.to_str().map(str::to_owned)).collect()
        };
        let mut done = Done::nothing(DriveRecord {
            transaction,
            names: names(&mut verdict.seen.judged.intersection(&verdict.seen.tops)),
            ..verdict.seen.record.clone()
        });
        if verdict.is_same && is_rest_alike {
            return Ok(done);
        }
        // Before anything is written it says whose the drive is, and what will be put there.
        let record = DriveRecord { names: names(&mut verdict.seen.judged.iter()), ..verdict.seen.record.clone() };
        record.write(root)?;
        if let Some(before) = unproved {
            log::warn!("an earlier run did not prove that all is on the disk: what it wrote is copied again");
            spaces::distrust(root, &verdict.seen.spaces, before.since, &mut self.monitor().handler())?;
        }
        record_of_run.write(root)?;

        // What is not in place is of no use to anybody.
        let copied = self.copy(&verdict, is_rest_alike, &run, source, session);
        let (fresh, stats) = copied.inspect_err(|_| room::clear(root, &mut self.monitor().handler()))?;
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

    /// What of the repository was written, and what rsync did: nothing, where nothing was to be done.
    fn copy(
        &self,
        verdict: &Verdict,
        is_rest_alike: bool,
        run: &RunRecord,
        source: &Source<'_>,
        session: &Session<'_>,
    ) -> Result<(Option<Vec<copy::Written>>, Option<Stats>), anyhow::Error> {
        let (root, from) = (session.root()?, &source.place.root);
        let Seen { copy, spaces, filters, apart, .. } = &verdict.seen;
        let fresh = (!verdict.is_same).then(|| self.build(source, root, copy.as_ref(), &verdict.plan)).transpose()?;
        session.prove()?;
        if is_rest_alike {
            return Ok((fresh, None));
        }
        let stats = self.copy_rest(source, filters, session, apart.room)?;
        root.sync_file_system()?;
        session.prove()?;
        source.place.prove(&self.config.backup)?;
        match spaces::verify(from, root, spaces, run.since, &mut self.monitor().handler())? {
            Some(wrong) => Err(anyhow!("rsync said that everything is copied, but {wrong}")),
            None => Ok((fresh, Some(stats))),
        }
    }

    /// Puts the new copy in place, proves that the drive keeps what it was told to, and says on it that the mirror is complete.
    fn conclude(&self, source: &Source<'_>, session: &mut Session<'_>, done: Done) -> Result<Stats, anyhow::Error> {
        let settled = self.settle(source, session, &done);
        if let (Err(_), Ok(root)) = (&settled, session.root()) {
            room::clear(root, &mut self.monitor().handler());
        }
        settled?;
        if done.has_fresh {
            exchange::put_in_place(session.root()?, &source.place.inner)?;
            session.renew()?;
            self.look_at_what_is_kept(source, session.root()?, &source.place.inner, &[])?;
        }
        self.borg.borrow_mut().let_go();
        let root = session.root()?;
        let record = DriveRecord { mirrored: Some(Utc::now()), ..done.record };
        record.write(root)?;
        write_guide(root)?;
        if done.has_copied {
            RunRecord::take_back(root)?;
        }
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
            spaces::verify(&source.place.root, root, spaces, i64::MAX, &mut self.monitor().handler())?
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

    /// Makes the new copy beside the old one, and proves that the drive has it.
    fn build(
        &self,
        source: &Source<'_>,
        root: &Dir,
        copy: Option<&Dir>,
        plan: &Plan,
    ) -> Result<Vec<copy::Written>, anyhow::Error> {
        let fresh = root.open_dir(Path::new(FOLDER))?.make_dir(Path::new(INCOMING), 0o700)?;
        let proof = |path: &Path| -> Box<dyn Proof + '_> {
            match gate::segment_of(path) {
                Some((_, number)) => Box::new(SegmentProof::new(number, &source.side.state)),
                None => Box::new(Unproved),
            }
        };
        let began = Instant::now();
        let written = copy::build(&source.place.dir, copy, &fresh, plan, &proof, &mut self.monitor().handler())?;
        root.sync_file_system()?;
        let copied = Instant::now();
        copy::verify(&fresh, &written, &mut self.monitor().handler())?;
        log::info!(
            "the repository's new files were copied in {}, and read back in {}",
            to_the_millisecond(copied.duration_since(began)),
            to_the_millisecond(copied.elapsed())
        );
        Ok(written)
    }

    fn copy_rest(
        &self,
        source: &Source<'_>,
        filters: &[String],
        session: &Session<'_>,
        needed: Room,
    ) -> Result<Stats, anyhow::Error> {
        let still_there = || {
            let proved = source.place.prove(&self.config.backup).and_then(|()| session.prove());
            proved.map_err(|error| format!("{error:#}"))
        };
        still_there().map_err(|why| anyhow!("{why}"))?;
        let mut monitor = self.monitor().until_gone(&still_there).filling(needed.added);
        let times = record::times(session.root()?)?;
        let mirror = self.rsync(filters, &monitor).times(times).expecting(needed.copied);
        Ok(rsync::mirror(self.exec, &mirror, &mut monitor.handler())?)
    }

    fn rsync<'m>(&'m self, filters: &'m [String], monitor: &Monitor<'_>) -> Mirror<'m> {
        Mirror::new(&self.config.backup.mount, &self.config.external.mount)
            .max_alloc(self.config.external.max_alloc.as_str())
            .filters(filters)
            .extras(if self.config.external.attributes { Extras::All } else { Extras::Attributes })
            .pass(if self.cli.dry_run { Pass::DryRun } else { Pass::Real })
            .in_its_own_view()
            .progress(monitor.is_watched())
    }

    fn monitor(&self) -> Monitor<'_> {
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
}

/// Says on the drive how everything is got back, unless it says that already.
fn write_guide(root: &Dir) -> Result<(), FsError> {
    let (name, text) = (Path::new(GUIDE), GUIDE_TEXT.as_bytes());
    match root.read(name, text.len() as u64) {
        Ok(Some(there)) if there == text => Ok(()),
        _ => root.replace(name, text, 0o644, Durability::Synced),
    }
}

impl Done {
    /// A run that had nothing to do.
    fn nothing(record: DriveRecord) -> Self {
        Self { record, spaces: Vec::new(), has_fresh: false, has_copied: false, stats: Stats::default() }
    }
}

fn to_the_millisecond(length: Duration) -> humantime::FormattedDuration {
    let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(millis))
}
