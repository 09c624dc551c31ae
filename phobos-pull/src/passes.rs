//! The passes of rsync over one connection: first all that is new, then, if it may be, what is gone is deleted.
//!
//! What may be deleted is decided by [`deletions`] alone; here it is counted, asked for and done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use phobos_core::exec::Exec;
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::pull::Host;

use crate::deletions::{self, Plan};
use crate::mark::{Mark, State};
use crate::outcome::Done;
use crate::parts;
use crate::scope::Scope;
use crate::screen::Screen;
use crate::tallies::{Limits, Tallies};
use crate::transfer::{Copied, Deletions, Transfer};

/// What the passes of all hosts share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passes<'a> {
    pub(crate) exec: &'a dyn Exec,
    pub(crate) screen: &'a Screen,
    /// What may be deleted and copied.
    pub(crate) scope: Scope,
}

/// What is known of the sources of one connection in the holding space.
struct Known<'a> {
    transfer: &'a Transfer<'a>,
    landing: PathBuf,
    /// How the pull before this one went, and what the last good one left.
    earlier: Option<&'a Mark>,
}

impl Passes<'_> {
    /// Copies from one connection.
    ///
    /// # Errors
    ///
    /// When rsync fails, or too much would be deleted; what was copied until then stays.
    pub(crate) fn copy(
        &self,
        transfer: &Transfer<'_>,
        earlier: Option<&Mark>,
        done: &mut Done,
    ) -> Result<(), anyhow::Error> {
        let host = transfer.host;
        let first = match self.scope {
            Scope::DryRun => Deletions::DryRun,
            _ if !host.delete => Deletions::Never,
            Scope::AllowDelete => Deletions::All,
            Scope::Usual => Deletions::KeptBack,
        };
        let copied = self.run(transfer, first)?;
        let known = Known { transfer, landing: host.landing(transfer.connection.origin), earlier };
        if self.scope == Scope::DryRun {
            done.settle(transfer, &copied)?;
            // Nothing was created: what is there is what was there.
            let before = copied.tallies.iter().map(|(place, _)| Ok((place.clone(), known.good(place, 0)?.1)));
            let before = before.collect::<Result<BTreeMap<_, _>, anyhow::Error>>()?;
            if let Some(objection) = copied.tallies.objection(known.limits(&before)) {
                let text = format!("would delete nothing: {}", too_much(&objection, host));
                self.screen.say(log::Level::Warn, &host.name, &text);
            }
            return Ok(());
        }
        if copied.fetched.kept_back == 0 {
            done.settle(transfer, &copied)?;
            let was_good = earlier.is_some_and(|mark| mark.state == State::Ok);
            for (place, tally) in copied.tallies.iter() {
                let files = match known.recorded(place) {
                    // A pull that failed may have created files that nobody has counted.
                    Some(files) if tally.deleted == 0 && was_good => files.saturating_add(tally.created),
                    _ => known.count(place)?,
                };
                done.sources.insert(known.landing.join(place), files);
            }
            return Ok(());
        }
        let mut before = BTreeMap::new();
        for (place, tally) in copied.tallies.iter() {
            let (now, good) = known.good(place, tally.created)?;
            before.insert(place.clone(), good);
            done.sources.insert(known.landing.join(place), now);
        }
        done.add(&copied);
        let deleted = self.delete(transfer, copied.fetched.kept_back, known.limits(&before), done)?;
        for (place, tally) in deleted.iter() {
            if let Some(files) = done.sources.get_mut(&known.landing.join(place)) {
                *files = files.saturating_add(tally.created).saturating_sub(tally.deleted);
            }
        }
        Ok(())
    }

    /// Deletes what the host no longer has, if it is not too much. rsync has kept back so many files.
    fn delete(
        &self,
        transfer: &Transfer<'_>,
        kept_back: u64,
        limits: Limits<'_>,
        done: &mut Done,
    ) -> Result<Tallies, anyhow::Error> {
        let mut so_far = None;
        if let Plan::AtOnce(most) = deletions::plan(limits.most, limits.before.values().copied(), kept_back) {
            let copied = self.run(transfer, Deletions::AtMost(most))?;
            if copied.fetched.kept_back == 0 {
                done.settle(transfer, &copied)?;
                return Ok(copied.tallies);
            }
            done.add(&copied);
            so_far = Some(copied.tallies);
        }
        let plan = self.run(transfer, Deletions::DryRun)?;
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
        let copied = transfer.run(self.exec, self.screen, deletions).map_err(|error| transfer.stopped(error))?;
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
}

impl Known<'_> {
    /// How many files the source at `place` had after the last good pull.
    fn recorded(&self, place: &Path) -> Option<u64> {
        self.earlier?.success.as_ref()?.sources.get(&self.landing.join(place)).copied()
    }

    fn count(&self, place: &Path) -> Result<u64, anyhow::Error> {
        let path = self.transfer.space.join(&self.landing).join(place);
        parts::count(&path, self.transfer.scratch)
            .with_context(|| format!("cannot count the files in {}", path.display()))
    }

    /// How many files the source at `place` has, and how many of them are good; this pull has created some.
    fn good(&self, place: &Path, created: u64) -> Result<(u64, u64), anyhow::Error> {
        let now = self.count(place)?;
        Ok((now, deletions::good(now, created, self.recorded(place))))
    }

    fn limits<'l>(&'l self, before: &'l BTreeMap<PathBuf, u64>) -> Limits<'l> {
        Limits { most: self.transfer.host.max_delete, landing: &self.landing, before }
    }
}

/// Why not everything is deleted, and how it can be.
fn too_much(objection: &str, host: &Host) -> String {
    format!("{objection} would go; if that is right, run `phobos-pull --allow-delete {}` once", host.name)
}
