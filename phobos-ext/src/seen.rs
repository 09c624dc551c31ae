//! What a drive shows when it is opened, and the spaces on both sides: all that can be looked at while Borg still starts to take
//! its lock.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use phobos_core::borg::state::State;
use phobos_core::exec::Exec;
use phobos_core::fs::{Dir, shown, shown_text};
use phobos_core::human;
use phobos_core::mount::Access;
use phobos_core::notify::Notifier;
use phobos_core::teardown;
use phobos_site::config::Config;
use phobos_site::drives::Target;
use phobos_site::exit::{Exit, Stop};

use crate::checksums::List;
use crate::gate::{self, Look};
use crate::names;
use crate::progress::Monitor;
use crate::record::{DriveRecord, FOLDER, RunRecord};
use crate::sealing;
use crate::session::Session;
use crate::source::Place;
use crate::spaces::{self, Judged};
use crate::{Cli, boxed};

/// How many names more than twice the source's a copy may have.
const MORE_NAMES: usize = 20_000;

/// How many names a message names.
const NAMED: usize = 5;

/// Who looks, and at what.
pub(crate) struct Looking<'a> {
    pub(crate) cli: &'a Cli,
    pub(crate) config: &'a Config,
    pub(crate) target: &'a Target,
    pub(crate) exec: &'a dyn Exec,
    pub(crate) interrupted: &'a dyn Fn() -> Option<i32>,
    pub(crate) systemd: &'a Notifier,
    /// The repository's id.
    pub(crate) id: &'a str,
    /// What is known to be damaged on the drive, from its top.
    pub(crate) damaged: BTreeSet<PathBuf>,
}

/// Both sides, open.
pub(crate) struct Opened<'e> {
    pub(crate) place: Place,
    pub(crate) session: Session<'e>,
    pub(crate) seen: Seen,
}

/// What was seen.
pub(crate) struct Seen {
    /// The repository's copy, if there is one.
    pub(crate) copy: Option<Dir>,
    pub(crate) look: Look,
    /// Borg's part of the copy.
    pub(crate) state: Option<State>,
    /// Whose the drive is, and what was put there.
    pub(crate) record: DriveRecord,
    /// The names at the source's top, the repository's own left out.
    pub(crate) tops: BTreeSet<OsString>,
    /// Those at both tops that are the source's.
    pub(crate) judged: BTreeSet<OsString>,
    /// The folders that rsync copies, looked at one by one.
    pub(crate) spaces: Vec<PathBuf>,
    /// What was found in them.
    pub(crate) apart: Judged,
    /// Where the holding spaces are, if they are mirrored.
    pub(crate) holding: Option<PathBuf>,
    /// What rsync is to leave alone.
    pub(crate) filters: Vec<String>,
    /// The run before that did not prove that all is on the disk.
    pub(crate) unproved: Option<RunRecord>,
    /// The lists of checksums that can be believed.
    pub(crate) believed: BTreeSet<List>,
    /// How many names rsync may delete, where that is known.
    pub(crate) most_gone: Option<u64>,
}

impl Seen {
    /// What mirrors have put at the top, and this one neither looks at nor changes.
    pub(crate) fn left_out(&self) -> BTreeSet<OsString> {
        names::of(&self.record.names).difference(&self.judged).cloned().collect()
    }
}

impl<'a> Looking<'a> {
    /// Opens the source and the drive, and looks at what needs no lock of Borg's. Nothing is changed on either, but that
    /// the copy gets its own `config` back where that is damaged.
    ///
    /// # Errors
    ///
    /// If the drive is not there, not fit, or not this repository's; it is closed again.
    pub(crate) fn open(&self) -> Result<Opened<'a>, anyhow::Error> {
        let place = Place::open(&self.config.backup)?;
        // Another Borg may be at work there, so that this is only about how many there are.
        let names = gate::shape(&place.dir)?;
        let access = if self.cli.dry_run { Access::Look } else { Access::Write };
        let session = Session::open(self.exec, self.config, self.target, access)?;
        match session.root().and_then(|root| self.look(&place, root, names, &self.damaged)) {
            Ok(seen) => Ok(Opened { place, session, seen }),
            Err(error) => Ok(teardown::join(Err(boxed(error)), session.close())?),
        }
    }

    /// Looks at both sides; the copy has `names` names or about as many. What is `damaged` on the drive counts as not there.
    pub(crate) fn look(
        &self,
        place: &Place,
        root: &Dir,
        names: usize,
        damaged: &BTreeSet<PathBuf>,
    ) -> Result<Seen, anyhow::Error> {
        let (inner, from) = (place.inner.as_path(), &place.root);
        let believed = sealing::believed(root, &mut self.monitor().handler())?;
        if !self.cli.dry_run && believed.contains(&List::Repository) {
            sealing::restore_config(root, inner, &place.dir, &mut self.monitor().handler())?;
        }
        let copy = match root.stat(inner)? {
            None => None,
            Some(_) => Some(root.open_dir(inner)?),
        };
        let mut look = match &copy {
            // A copy has about as many names as its source, and a hostile drive may have any number.
            Some(dir) => gate::look(dir, names * 2 + MORE_NAMES, &mut self.monitor().handler())?,
            None => Look::default(),
        };
        if let Some((path, kind)) = look.survey.strange() {
            let text = format!("{} in the copy on the drive is {}; remove it", shown(path), kind.name());
            return Err(Stop::new(Exit::Refused, text).into());
        }
        let tops = names::tops(from, inner)?;
        let record = self.claim(root, inner, &look, &tops)?;
        let state = copy.as_ref().filter(|_| look.has_files()).map(gate::read).transpose()?;
        // What is damaged, or has nothing that proves it, is copied again.
        let unlisted = sealing::unproved(root, inner, &look.survey, believed.contains(&List::Repository))?;
        look.survey = look.survey.without(&|path| unlisted.contains(path) || damaged.contains(&inner.join(path)));
        let holding = self.config.backup.holding.strip_prefix(&self.config.backup.mount).ok();
        let (holding, skipped) = if self.config.external.holding { (holding, None) } else { (None, holding) };
        let mut judged = tops.clone();
        judged.extend(names::of(&record.names).into_iter().filter(|name| !names::is_own(name, inner)));
        judged.retain(|top| skipped.is_none_or(|skipped| !skipped.starts_with(top)));
        let spaces = spaces::list(from, root, &judged, inner, holding)?;
        let unproved = RunRecord::read(root)?;
        let since = unproved.as_ref().map(|before| before.since);
        let acls = self.config.external.attributes;
        let mut apart = spaces::judge(from, root, &spaces, acls, since, &mut self.monitor().handler())?;
        // Only where nothing else can be there it is known what rsync will find to delete.
        let is_simple =
            inner.components().count() == 1 && holding.is_none_or(|holding| holding.components().count() == 1);
        let marks = holding.filter(|_| is_simple);
        let gone_marks = |holding: &Path| spaces::gone_marks(from, root, holding, &mut self.monitor().handler());
        let marks = marks.map(gone_marks).transpose()?.unwrap_or_default();
        let most_gone = is_simple.then(|| apart.gone.saturating_add(marks));
        apart.alike &= believed.contains(&List::Spaces) && damaged.iter().all(|path| path.starts_with(inner));
        let foreign = self.foreign(root, inner, &judged)?;
        let filters = names::filters(inner, &foreign, skipped);
        let state = state.map(|side| side.state);
        let holding = holding.map(Path::to_owned);
        Ok(Seen {
            copy,
            look,
            state,
            record,
            tops,
            judged,
            spaces,
            apart,
            holding,
            filters,
            unproved,
            believed,
            most_gone,
        })
    }

    fn monitor(&self) -> Monitor<'_> {
        Monitor::new(None, self.interrupted, self.systemd, &self.config.external.mount)
    }

    /// Whether the drive may become, or is, this repository's.
    fn claim(
        &self,
        root: &Dir,
        inner: &Path,
        copy: &Look,
        tops: &BTreeSet<OsString>,
    ) -> Result<DriveRecord, anyhow::Error> {
        let (id, drive) = (self.id, self.target.name.as_str());
        let refused = |text: String| Err(Stop::new(Exit::Refused, text).into());
        let is_known = copy.has_files() && copy.id.as_deref() == Some(id);
        let record = if is_known { DriveRecord::read_or_forget(root) } else { DriveRecord::read(root) };
        if let Some(record) = record? {
            if record.repository != id {
                return refused(format!(
                    "the drive belongs to the repository {}, not to {id}; if that is over, delete {FOLDER} from it",
                    shown_text(&record.repository)
                ));
            }
            if copy.has_files() && !is_known {
                return refused(match &copy.id {
                    Some(_) => format!("the copy on the drive is not one of the repository {id}, as its config says"),
                    None => format!(
                        "the copy on the drive has no `config` that can be read; the newest in {FOLDER}/{} on the drive, or the \
                         repository's own, put in its place, makes it whole again",
                        crate::exchange::CONFIGS
                    ),
                });
            }
            let there = root.entries()?.into_iter().map(|entry| entry.name).collect();
            names::prove_ours(&there, tops, &names::of(&record.names))?;
            return Ok(record);
        }
        if copy.has_files() && !is_known {
            let other = copy.id.as_deref().unwrap_or("without an id");
            return refused(format!("the drive holds the repository {}, not {id}", shown_text(other)));
        }
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
            log::info!("the drive {drive} belongs to the repository {id} from now on");
        }
        Ok(DriveRecord::new(id, drive))
    }

    /// What neither phobos nor the source has put at the drive's top: it is left alone, and named.
    fn foreign(&self, root: &Dir, inner: &Path, judged: &BTreeSet<OsString>) -> Result<Vec<OsString>, anyhow::Error> {
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
}
