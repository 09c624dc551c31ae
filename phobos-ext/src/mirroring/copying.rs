//! Copying onto the drive: the repository beside its old copy, all else by rsync, and all of it read back.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use chrono::Utc;
use phobos_core::copy::{self, Plan, Proof, Unproved};
use phobos_core::fs::Dir;
use phobos_core::rsync::{self, Extras, Mirror, Pass, Stats};

use super::Mirroring;
use crate::checksums::{Draft, Drafted, List};
use crate::gate;
use crate::progress::Monitor;
use crate::proof::SegmentProof;
use crate::record::{self, FOLDER, INCOMING, RunRecord};
use crate::sealing;
use crate::seen::Seen;
use crate::session::Session;
use crate::source::Source;
use crate::spaces;
use crate::verdict::Verdict;

/// What was copied: nothing, where nothing was to be done.
#[derive(Default)]
pub(super) struct Copied {
    /// Of the repository.
    pub(crate) fresh: Option<Vec<copy::Written>>,
    /// By rsync.
    pub(crate) stats: Option<Stats>,
    pub(crate) lists: Vec<Drafted>,
}

impl Mirroring<'_> {
    /// Copies what is to be copied, of the repository and of all else, and reads it back; the run has begun then.
    pub(super) fn copy(
        &self,
        verdict: &Verdict,
        is_rest_alike: bool,
        run: (&RunRecord, Instant),
        source: &Source<'_>,
        session: &Session<'_>,
    ) -> Result<Copied, anyhow::Error> {
        let (root, from, inner) = (session.root()?, &source.place.root, &source.place.inner);
        let Verdict { plan, seen: Seen { copy, believed, .. }, .. } = verdict;
        let fresh = (!verdict.is_same).then(|| self.build(source, root, copy.as_ref(), plan)).transpose()?;
        let list =
            |written: &Vec<_>| sealing::of_repository(root, inner, plan, written, believed.contains(&List::Repository));
        let mut lists: Vec<Drafted> = fresh.as_ref().map(list).transpose()?.into_iter().collect();
        session.prove()?;
        if is_rest_alike {
            return Ok(Copied { fresh, stats: None, lists });
        }
        let stats = self.copy_rest(source, &verdict.seen, session)?;
        root.sync_file_system()?;
        session.prove()?;
        source.place.prove(&self.config.backup)?;
        spaces::prove(from, &verdict.seen.apart.folders)?;
        lists.push(self.read_back(&verdict.seen, run, from, root)?);
        Ok(Copied { fresh, stats: Some(stats), lists })
    }

    /// Reads back what rsync has written, compares it with the source, and lists its checksums.
    fn read_back(
        &self,
        seen: &Seen,
        (run, began): (&RunRecord, Instant),
        from: &Dir,
        root: &Dir,
    ) -> Result<Drafted, anyhow::Error> {
        let (holding, is_believed) = (seen.holding.as_deref(), seen.believed.contains(&List::Spaces));
        // What is on no list was never read by phobos, and is read once.
        let since = if is_believed { run.since_by(Utc::now(), began.elapsed()) } else { i64::MIN };
        let mut list = Draft::new(root, List::Spaces)?;
        if is_believed {
            list.keep(root, &mut |path| spaces::is_kept(root, path, holding, since))?;
        }
        let mut noted = |path: &Path, known| list.add(path, known);
        let wrong = spaces::verify(from, root, &seen.spaces, since, &mut noted, &mut self.monitor().handler())?;
        if let Some(wrong) = wrong {
            return Err(anyhow!("rsync said that everything is copied, but {wrong}"));
        }
        if let Some(holding) = holding {
            spaces::note_marks(root, holding, &mut noted, &mut self.monitor().handler())?;
        }
        Ok(list.close()?)
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

    fn copy_rest(&self, source: &Source<'_>, seen: &Seen, session: &Session<'_>) -> Result<Stats, anyhow::Error> {
        let Seen { filters, apart, most_gone, .. } = seen;
        let needed = apart.room;
        let still_there = || {
            let proved = source.place.prove(&self.config.backup).and_then(|()| session.prove());
            let proved = proved.and_then(|()| Ok(spaces::prove(&source.place.root, &apart.folders)?));
            proved.map_err(|error| format!("{error:#}"))
        };
        still_there().map_err(|why| anyhow!("{why}"))?;
        let mut monitor = self.monitor().until_gone(&still_there).filling(needed.added);
        let times = record::times(session.root()?)?;
        let mirror = self.rsync(filters, &monitor).times(times).expecting(needed.copied);
        // What vanishes from now on takes nothing with it.
        let mirror = most_gone.iter().fold(mirror, |mirror, most| mirror.max_delete(*most));
        Ok(rsync::mirror(self.exec, &mirror, &mut monitor.handler())?)
    }

    pub(super) fn rsync<'m>(&'m self, filters: &'m [String], monitor: &Monitor<'_>) -> Mirror<'m> {
        Mirror::new(&self.config.backup.mount, &self.config.external.mount)
            .max_alloc(self.config.external.max_alloc.as_str())
            .filters(filters)
            .extras(if self.config.external.attributes { Extras::All } else { Extras::Attributes })
            .pass(if self.cli.dry_run { Pass::DryRun } else { Pass::Real })
            .in_its_own_view()
            .progress(monitor.is_watched())
    }
}

fn to_the_millisecond(length: Duration) -> humantime::FormattedDuration {
    let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(millis))
}
