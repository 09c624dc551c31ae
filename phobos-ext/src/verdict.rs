//! The verdict: what is to be done with a drive, by what both sides show, before anything on either is changed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use phobos_core::copy::Plan;
use phobos_core::fs::{Dir, shown, shown_text};
use phobos_core::human;
use phobos_site::config::Config;
use phobos_site::exit::{Exit, Stop};

use crate::Cli;
use crate::gate::{self, Look};
use crate::names;
use crate::progress::Monitor;
use crate::record::{DriveRecord, FOLDER, RunRecord};
use crate::source::Source;
use crate::spaces::{self, Judged, Room};

/// How many names more than twice the source's a copy may have.
const MORE_NAMES: usize = 20_000;

/// How many names a message names.
const NAMED: usize = 5;

/// What is judged.
pub(crate) struct Case<'a> {
    pub(crate) cli: &'a Cli,
    pub(crate) config: &'a Config,
    /// What the drive is called.
    pub(crate) drive: &'a str,
    /// The top of its file system.
    pub(crate) root: &'a Dir,
    pub(crate) source: &'a Source<'a>,
    /// The repository's id.
    pub(crate) id: &'a str,
}

/// That a mirror may be made, and how.
pub(crate) struct Verdict {
    /// The repository's copy, if there is one.
    pub(crate) copy: Option<Dir>,
    /// What of the repository is to be done.
    pub(crate) plan: Plan,
    /// Whether that is nothing.
    pub(crate) is_same: bool,
    /// Whose the drive is, and what was put there.
    pub(crate) record: DriveRecord,
    /// The names at the source's top, the repository's own left out.
    pub(crate) tops: BTreeSet<OsString>,
    /// Those at both tops that are the source's.
    pub(crate) judged: BTreeSet<OsString>,
    /// The folders that rsync copies, looked at one by one.
    pub(crate) spaces: Vec<PathBuf>,
    /// How much room they need.
    pub(crate) room: Room,
    /// Whether nothing is to be done in them.
    pub(crate) alike: bool,
    /// Where the holding spaces are, if they are mirrored.
    pub(crate) holding: Option<PathBuf>,
    /// What rsync is to leave alone.
    pub(crate) filters: Vec<String>,
    /// The run before that did not prove that all is on the disk.
    pub(crate) unproved: Option<RunRecord>,
}

impl Case<'_> {
    /// Looks at the drive, and judges.
    ///
    /// # Errors
    ///
    /// If the drive is not this repository's, or its copy is not one that the source has come from, unless that was accepted.
    pub(crate) fn judge<'m>(&self, monitor: &dyn Fn() -> Monitor<'m>) -> Result<Verdict, anyhow::Error> {
        let Self { root, source, .. } = *self;
        let (inner, from) = (source.place.inner.as_path(), &source.place.root);
        let copy = match root.stat(inner)? {
            None => None,
            Some(_) => Some(root.open_dir(inner)?),
        };
        let look = match &copy {
            // A copy has about as many names as its source, and a hostile drive may have any number.
            Some(dir) => gate::look(dir, source.survey.items.len() * 2 + MORE_NAMES, &mut monitor().handler())?,
            None => Look::default(),
        };
        if let Some((path, kind)) = look.survey.strange() {
            let text = format!("{} in the copy on the drive is {}; remove it", shown(path), kind.name());
            return Err(Stop::new(Exit::Refused, text).into());
        }
        let tops = names::tops(from, inner)?;
        let record = self.claim(&look, &tops)?;
        let side = copy.as_ref().filter(|_| look.has_files()).map(gate::read).transpose()?;
        let mut plan = Plan::of(&source.survey, &look.survey);
        let is_same = !look.has_passing && source.survey == look.survey;
        // The largest that is in memory, twice with what is looked at again in the end.
        drop(look);
        if is_same {
            plan.steps = Vec::new();
        }
        let mut findings = gate::judge(&source.side, side.as_ref(), &mut plan, &mut monitor().handler())?;
        let holding = self.config.backup.holding.strip_prefix(&self.config.backup.mount).ok();
        let (holding, skipped) = if self.config.external.holding { (holding, None) } else { (None, holding) };
        let mut judged = tops.clone();
        judged.extend(record.names.iter().map(OsString::from).filter(|name| !names::is_own(name, inner)));
        judged.retain(|top| skipped.is_none_or(|skipped| !skipped.starts_with(top)));
        let spaces = spaces::list(from, root, &judged, inner, holding)?;
        let unproved = RunRecord::read(root)?;
        let since = unproved.as_ref().map(|before| before.since);
        let Judged { lost, room, alike } =
            spaces::judge(from, root, &spaces, self.config.external.attributes, since, &mut monitor().handler())?;
        findings.extend(lost);
        gate::pass(&findings, self.cli.accept.as_deref())?;
        let foreign = self.foreign(&judged)?;
        let filters = names::filters(inner, &foreign, skipped);
        Ok(Verdict {
            copy,
            plan,
            is_same,
            record,
            tops,
            judged,
            spaces,
            room,
            alike,
            holding: holding.map(Path::to_owned),
            filters,
            unproved,
        })
    }

    /// Whether the drive may become, or is, this repository's.
    fn claim(&self, copy: &Look, tops: &BTreeSet<OsString>) -> Result<DriveRecord, anyhow::Error> {
        let Self { root, id, .. } = *self;
        let refused = |text: String| Err(Stop::new(Exit::Refused, text).into());
        if let Some(record) = DriveRecord::read(root)? {
            if record.repository != id {
                return refused(format!(
                    "the drive belongs to the repository {}, not to {id}; if that is over, delete {FOLDER} from it",
                    shown_text(&record.repository)
                ));
            }
            if copy.has_files() && copy.id.as_deref() != Some(id) {
                return refused(format!("the copy on the drive is not one of the repository {id}, as its config says"));
            }
            return Ok(record);
        }
        if copy.has_files() && copy.id.as_deref() != Some(id) {
            let other = copy.id.as_deref().unwrap_or("without an id");
            return refused(format!("the drive holds the repository {}, not {id}", shown_text(other)));
        }
        let inner = &self.source.place.inner;
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
            log::info!("the drive {} belongs to the repository {id} from now on", self.drive);
        }
        Ok(DriveRecord::new(id, self.drive))
    }

    /// What neither phobos nor the source has put at the drive's top: it is left alone, and named.
    fn foreign(&self, judged: &BTreeSet<OsString>) -> Result<Vec<OsString>, anyhow::Error> {
        let inner = &self.source.place.inner;
        let names = self.root.entries()?.into_iter().map(|entry| entry.name);
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
