//! The mirror: survey, gate, copy, proof, and then the new copy put in place with one rename.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use chrono::Utc;
use phobos_core::borg::{Repository, RepositoryLock};
use phobos_core::copy::{self, CopyError, Plan, Proof, Survey, Unproved};
use phobos_core::exec::Exec;
use phobos_core::fs::{Dir, Durability, shown};
use phobos_core::human;
use phobos_core::mount::Access;
use phobos_core::notify::Notifier;
use phobos_core::progress::{Change, CopyEvent};
use phobos_core::rsync::{self, Extras, Mirror, Pass, Stats};
use phobos_core::teardown;
use phobos_site::config::Config;
use phobos_site::exit::{Exit, Stop};
use phobos_site::ledger;

use crate::drive::Target;
use crate::exchange;
use crate::gate::{self, Look, Side};
use crate::names;
use crate::progress::Monitor;
use crate::proof::SegmentProof;
use crate::record::{self, DriveRecord, FOLDER, GUIDE, INCOMING, RunRecord};
use crate::room;
use crate::session::Session;
use crate::source::Place;
use crate::spaces::{self, Judged, Room};
use crate::{Cli, boxed};

/// How many names more than twice the source's a copy may have.
const MORE_NAMES: usize = 20_000;

/// How many names a message names.
const NAMED: usize = 5;

/// What somebody needs who has nothing but the drive.
const GUIDE_TEXT: &str = include_str!("how-to-restore.txt");

/// All that a mirror needs.
pub(crate) struct Mirroring<'a> {
    pub(crate) cli: &'a Cli,
    pub(crate) config: &'a Config,
    pub(crate) target: &'a Target,
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

/// The source, as it was when the run began.
struct Source<'p> {
    place: &'p Place,
    /// What belongs to its last transaction: what a killed Borg has left behind it is left out.
    survey: Survey,
    side: Side<'p>,
}

impl Mirroring<'_> {
    /// Mirrors onto the drive, and closes it whatever happens.
    pub(crate) fn run(&self, repository: &Repository) -> Result<Stats, anyhow::Error> {
        self.systemd.status(&format!("mirroring to the drive {}", self.target.name));
        let place = Place::open(&self.config.backup)?;
        let source = self.look_at_source(&place, repository)?;
        let access = if self.cli.dry_run { Access::Look } else { Access::Write };
        let mut session = Session::open(self.exec, self.config, self.target, access)?;
        let work = self.mirror(repository, &source, &session).and_then(|done| match done {
            Some(done) => self.conclude(&source, &mut session, done),
            None => Ok(Stats::default()),
        });
        Ok(teardown::join(work.map_err(boxed), session.close())?)
    }

    fn look_at_source<'p>(&self, place: &'p Place, repository: &Repository) -> Result<Source<'p>, anyhow::Error> {
        let look = gate::look(&place.dir, gate::NAMES, &mut self.monitor().handler())?;
        if look.id.as_deref() != Some(repository.id().as_str()) {
            return Err(Stop::new(Exit::Refused, "the repository's config has changed meanwhile").into());
        }
        gate::is_borgs(&look.survey, repository.segments_per_dir())?;
        let side = gate::read(&place.dir)?;
        Ok(Source { place, survey: gate::settled(look.survey, &side.state), side })
    }

    fn mirror(
        &self,
        repository: &Repository,
        source: &Source<'_>,
        session: &Session<'_>,
    ) -> Result<Option<Done>, anyhow::Error> {
        let root = session.root()?;
        let (inner, from) = (source.place.inner.as_path(), &source.place.root);
        let id = repository.id().as_str();
        let copy_dir = match root.stat(inner)? {
            None => None,
            Some(_) => Some(root.open_dir(inner)?),
        };
        let look = match &copy_dir {
            // A copy has about as many names as its source, and a hostile drive may have any number.
            Some(dir) => gate::look(dir, source.survey.items.len() * 2 + MORE_NAMES, &mut self.monitor().handler())?,
            None => Look::default(),
        };
        if let Some((path, kind)) = look.survey.strange() {
            let text = format!("{} in the copy on the drive is {}; remove it", shown(path), kind.name());
            return Err(Stop::new(Exit::Refused, text).into());
        }
        let tops = names::tops(from, inner)?;
        let record = self.claim(root, id, &look, &tops)?;
        let copy = copy_dir.as_ref().filter(|_| look.has_files());
        let copy = copy.map(gate::read).transpose()?;
        let mut plan = Plan::of(&source.survey, &look.survey);
        let is_same = !look.has_passing && source.survey == look.survey;
        // The largest that is in memory, twice with what is looked at again in the end.
        drop(look);
        if is_same {
            plan.steps = Vec::new();
        }
        let mut findings = gate::judge(&source.side, copy.as_ref(), &mut plan, &mut self.monitor().handler())?;
        let holding = self.config.backup.holding.strip_prefix(&self.config.backup.mount).ok();
        let holding = holding.filter(|_| self.config.external.holding);
        let mut judged = tops.clone();
        judged.extend(record.names.iter().map(OsString::from).filter(|name| !names::is_own(name, inner)));
        let skipped = self.config.backup.holding.strip_prefix(&self.config.backup.mount).ok();
        judged.retain(|top| self.config.external.holding || skipped.is_none_or(|skipped| !skipped.starts_with(top)));
        let spaces = spaces::list(from, root, &judged, inner, holding)?;
        let acls = self.config.external.attributes;
        let unproved = RunRecord::read(root)?;
        let since = unproved.as_ref().map(|before| before.since);
        let Judged { lost, room, alike } =
            spaces::judge(from, root, &spaces, acls, since, &mut self.monitor().handler())?;
        findings.extend(lost);
        gate::pass(&findings, self.cli.accept.as_deref())?;
        let foreign = self.foreign(root, &judged, inner)?;
        let filters = names::filters(inner, &foreign, skipped.filter(|_| !self.config.external.holding));
        if self.cli.dry_run {
            self.show_plan(root, &plan, inner, &filters)?;
            return Ok(None);
        }
        let transaction = source.side.state.last().map(u64::from);
        // The time of the first run that is not proved counts until one is.
        let run = RunRecord::new(Utc::now(), transaction);
        let since = unproved.as_ref().map_or(run.since, |before| before.since.min(run.since));
        let record_of_run = RunRecord { since, ..run.clone() };
        let needed_bytes = plan.bytes().saturating_add(room.added).saturating_add(room.beside);
        let first = copy_dir.as_ref().filter(|_| self.cli.delete_first).map(|dir| (dir, plan.gone.as_slice()));
        room::make(root, needed_bytes, first, &record_of_run, &mut self.monitor().handler())?;
        // Before anything is written it says whose the drive is, and what will be put there.
        let names: BTreeSet<_> = judged.iter().filter_map(|name| name.to_str().map(str::to_owned)).collect();
        let record = DriveRecord { names: names.into_iter().collect(), ..record };
        record.write(root)?;
        if let Some(before) = &unproved {
            log::warn!("an earlier run did not prove that all is on the disk: what it wrote is copied again");
            spaces::distrust(root, &spaces, before.since, &mut self.monitor().handler())?;
        }
        record_of_run.write(root)?;

        drop(copy);
        let copied = || -> Result<_, anyhow::Error> {
            let fresh = (!is_same).then(|| self.build(source, root, copy_dir.as_ref(), &plan)).transpose()?;
            session.prove()?;
            let mut stats = None;
            // Nothing to do is told by one look at both sides, which takes less than rsync's beginning.
            let is_alike = unproved.is_none() && alike;
            if !(is_alike && spaces::is_rest_alike(from, root, inner, holding, acls, &mut self.monitor().handler())?) {
                stats = Some(self.copy_rest(source, &filters, session, room)?);
                root.sync_file_system()?;
                session.prove()?;
                source.place.prove(&self.config.backup)?;
                if let Some(wrong) = spaces::verify(from, root, &spaces, run.since, &mut self.monitor().handler())? {
                    return Err(anyhow!("rsync said that everything is copied, but {wrong}"));
                }
            }
            Ok((fresh, stats))
        };
        // What is not in place is of no use to anybody.
        let (fresh, stats) = copied().inspect_err(|_| room::clear(root, &mut self.monitor().handler()))?;
        let names =
            judged.iter().filter(|name| tops.contains(*name)).filter_map(|name| name.to_str().map(str::to_owned));
        let names = names.collect();
        let record = DriveRecord { transaction, mirrored: Some(Utc::now()), names, ..record };
        let (has_fresh, has_copied) = (fresh.is_some(), fresh.is_some() || stats.is_some());
        let (written, stats) = (fresh.unwrap_or_default(), stats.unwrap_or_default());
        let stats = Stats {
            files_transferred: stats.files_transferred + written.len() as u64,
            bytes_transferred: written.iter().fold(stats.bytes_transferred, |sum, file| sum.saturating_add(file.size)),
            deleted: stats.deleted + plan.gone.len() as u64,
            ..stats
        };
        Ok(Some(Done { record, spaces, has_fresh, has_copied, stats }))
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
        let (root, record) = (session.root()?, done.record);
        record.write(root)?;
        root.replace(Path::new(GUIDE), GUIDE_TEXT.as_bytes(), 0o644, Durability::Synced)?;
        RunRecord::take_back(root)?;
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

    /// Whether the drive may become, or is, this repository's.
    fn claim(
        &self,
        root: &Dir,
        id: &str,
        copy: &Look,
        tops: &BTreeSet<OsString>,
    ) -> Result<DriveRecord, anyhow::Error> {
        let refused = |text: String| Err(Stop::new(Exit::Refused, text).into());
        if let Some(record) = DriveRecord::read(root)? {
            if record.repository != id {
                return refused(format!(
                    "the drive belongs to the repository {}, not to {id}; if that is over, delete {FOLDER} from it",
                    phobos_core::fs::shown_text(&record.repository)
                ));
            }
            if copy.has_files() && copy.id.as_deref() != Some(id) {
                return refused(format!("the copy on the drive is not one of the repository {id}, as its config says"));
            }
            return Ok(record);
        }
        if copy.has_files() && copy.id.as_deref() != Some(id) {
            let other = copy.id.as_deref().unwrap_or("without an id");
            return refused(format!("the drive holds the repository {}, not {id}", phobos_core::fs::shown_text(other)));
        }
        let inner = self.config.backup.repository.strip_prefix(&self.config.backup.mount)?;
        let known = |name: &OsString| names::is_own(name, inner) || (copy.has_files() && tops.contains(name));
        let foreign: Vec<_> = root.entries()?.into_iter().map(|entry| entry.name).filter(|name| !known(name)).collect();
        if let Some(first) = foreign.first() {
            return refused(format!(
                "the drive holds something else than a mirror of this repository, such as {}; empty it first if it is not \
                 needed",
                shown(Path::new(first))
            ));
        }
        if !self.cli.dry_run {
            log::info!("the drive {} belongs to the repository {id} from now on", self.target.name);
        }
        Ok(DriveRecord::new(id, self.target.name.as_str()))
    }

    /// What neither phobos nor the source has put at the drive's top: it is left alone, and named.
    fn foreign(&self, root: &Dir, judged: &BTreeSet<OsString>, inner: &Path) -> Result<Vec<OsString>, anyhow::Error> {
        let names = root.entries()?.into_iter().map(|entry| entry.name);
        let foreign: Vec<_> = names.filter(|name| !judged.contains(name) && !names::is_own(name, inner)).collect();
        let skipped = self.config.backup.holding.strip_prefix(&self.config.backup.mount).ok();
        let told: Vec<_> = foreign
            .iter()
            .filter(|name| skipped.is_none_or(|skipped| !skipped.starts_with(name)))
            .map(|name| shown(Path::new(name)))
            .collect();
        if !told.is_empty() {
            let names = human::first_of(&told, NAMED, ", ");
            log::warn!("left alone on the drive, because phobos did not put it there: {names}");
        }
        Ok(foreign)
    }

    /// Says what would be changed on the drive.
    fn show_plan(&self, root: &Dir, plan: &Plan, inner: &Path, filters: &[String]) -> Result<Stats, anyhow::Error> {
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
        Monitor::new(self.borg, self.interrupted, self.systemd, &self.config.external.mount)
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

fn to_the_millisecond(length: Duration) -> humantime::FormattedDuration {
    let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(millis))
}
