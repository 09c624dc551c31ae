//! The work of a drill: draws files of each host from its newest archive, and has Borg restore them to nowhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use phobos_core::borg::archive::{Archive, ArchiveError, Archives};
use phobos_core::fs::{Dir, shown, shown_text};
use phobos_core::human;
use phobos_core::progress::{CopyEvent, Handler, Phase, Progress};
use phobos_site::exit::{Exit, Stop};

use crate::drill::{self, Candidate, Comparing, Draw, Outcome};

/// How many archives are searched for hosts at most.
const ARCHIVES: usize = 32;

/// What Borg restores by its first call for a host, and by no call more than, in files and bytes: each call costs Borg a look at the
/// whole archive, and a call that time cuts short counts for less.
const FIRST: (usize, u64) = (4, 32 << 20);
const LAST: (usize, u64) = (512, 1 << 30);

/// For how long at least a first look is let be: however short the time, something is restored.
const LEAST: Duration = Duration::from_secs(60);

/// After how many damaged files no more is tried: the drive is to be replaced.
const ENOUGH: usize = 20;

/// How many bytes come between two looks at the progress.
const PIECE: u64 = 1 << 20;

/// What restores, and what it is compared with.
pub(super) struct Restoring<'a, 'h> {
    pub(super) archives: &'a Archives<'a>,
    pub(super) holding: &'a Dir,
    /// Where the holding spaces are, as archives have it.
    pub(super) inside: &'a Path,
    pub(super) until: Option<Instant>,
    pub(super) handler: Handler<'h>,
    pub(super) restored: Restored,
    /// The archives that samples were drawn from, with how many bytes their files have.
    drawn: Vec<(Archive, u64)>,
    /// How many bytes all of it has, where all of it is restored.
    total: Option<u64>,
    begun: Instant,
    told: u64,
}

/// What was restored.
#[derive(Debug, Default)]
pub(super) struct Restored {
    pub(super) hosts: Vec<Host>,
    /// Hosts that no archive has files of.
    pub(super) missing: Vec<String>,
    pub(super) damaged: Vec<Damaged>,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// How many of the files have another content here meanwhile, or are gone.
    pub(super) changed: u64,
}

/// A host whose files were restored.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) archive: Archive,
    /// How many files the archive has of it.
    pub(super) all: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Where in the circle the next drill begins.
    pub(super) next: Option<u64>,
}

/// A file that was not restored as it was archived.
#[derive(Debug)]
pub(super) struct Damaged {
    pub(super) path: PathBuf,
    pub(super) archive: String,
    pub(super) why: String,
}

/// A host whose turn comes again and again.
struct Waiting {
    host: usize,
    /// How many bytes the archive has of it.
    bytes: u64,
    files: std::vec::IntoIter<Candidate>,
    most: (usize, u64),
}

impl<'a, 'h> Restoring<'a, 'h> {
    pub(super) fn new(
        archives: &'a Archives<'a>,
        holding: &'a Dir,
        inside: &'a Path,
        until: Option<Instant>,
        handler: Handler<'h>,
    ) -> Self {
        let (restored, drawn, begun) = (Restored::default(), Vec::new(), Instant::now());
        Self { archives, holding, inside, until, handler, restored, drawn, total: None, begun, told: 0 }
    }

    /// Restores files of the hosts that are `wanted`, each from its place in the circle on.
    pub(super) fn sample(&mut self, wanted: &BTreeMap<OsString, u64>) -> Result<(), anyhow::Error> {
        self.handler_phase()?;
        let mut waiting = self.draw(wanted)?;
        while let Some(Waiting { host, mut files, most: (count, bytes), bytes: all }) = waiting.pop_front() {
            let batch = drill::batch(&mut files, count, bytes);
            let is_first = count == FIRST.0;
            let is_over = !is_first && self.is_over();
            if batch.is_empty() || is_over || self.restored.damaged.len() >= ENOUGH {
                continue;
            }
            if self.batch(host, &batch, is_first)? {
                let most = (count.saturating_mul(4).min(LAST.0), bytes.saturating_mul(4).min(LAST.1));
                waiting.push_back(Waiting { host, files, most, bytes: all });
            }
        }
        Ok(())
    }

    /// Restores all that is in the newest archives of these hosts.
    pub(super) fn all(&mut self, wanted: &BTreeMap<OsString, u64>) -> Result<(), anyhow::Error> {
        self.handler_phase()?;
        let waiting = self.draw(wanted)?;
        let drawn = std::mem::take(&mut self.drawn);
        self.total = Some(drawn.iter().map(|(_, bytes)| bytes).sum());
        for (archive, bytes) in drawn {
            let before = self.restored.bytes;
            let archives = self.archives;
            let ended = archives.everything(&archive, &mut |piece| {
                self.came(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            });
            let came = self.restored.bytes.saturating_sub(before);
            match ended {
                Ok(()) if came == bytes => {}
                Ok(()) => self.damaged(Path::new(""), &archive, format!("{came} bytes came of {bytes}")),
                Err(ArchiveError::Damaged { said }) => self.damaged(Path::new(""), &archive, said),
                Err(error) => return Err(error.into()),
            }
        }
        if self.restored.damaged.is_empty() {
            for Waiting { host, bytes, .. } in waiting {
                if let Some(host) = self.restored.hosts.get_mut(host) {
                    (host.files, host.bytes) = (host.all, bytes);
                    self.restored.files = self.restored.files.saturating_add(host.all);
                }
            }
        }
        Ok(())
    }

    /// Draws the sample of each host, from the newest archive that has files of it.
    fn draw(&mut self, wanted: &BTreeMap<OsString, u64>) -> Result<VecDeque<Waiting>, anyhow::Error> {
        let list = self.archives.list(self.limit(true))?;
        let mut missing = wanted.clone();
        let mut waiting = VecDeque::new();
        for archive in drill::newest(list).into_iter().take(ARCHIVES) {
            if missing.is_empty() || (!waiting.is_empty() && self.is_over()) {
                break;
            }
            let mut draw = Draw::new(self.inside, &missing);
            // Half of the time at most is for looking.
            let limit = self.limit(true).map(|limit| (limit / 2).max(LEAST));
            match self.archives.files(&archive, limit, &mut |item| draw.see(item)) {
                Ok(()) => {}
                Err(ArchiveError::Time) if !draw.samples.is_empty() => {}
                Err(ArchiveError::Damaged { said }) => {
                    self.damaged(Path::new(""), &archive, said);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let Draw { samples, bytes: all, .. } = draw;
            if !samples.is_empty() {
                self.drawn.push((archive.clone(), all));
            }
            for (host, sample) in samples {
                missing.remove(&host);
                let (name, all) = (host.to_string_lossy().into_owned(), sample.files);
                let (host, bytes) = (self.restored.hosts.len(), sample.bytes);
                let archive = archive.clone();
                self.restored.hosts.push(Host { name, archive, all, files: 0, bytes: 0, next: None });
                waiting.push_back(Waiting { host, bytes, files: sample.in_turn().into_iter(), most: FIRST });
            }
        }
        self.restored.missing = missing.into_keys().map(|host| host.to_string_lossy().into_owned()).collect();
        if self.restored.hosts.is_empty() && self.restored.damaged.is_empty() {
            let text = "no archive on the drive has a file of a holding space in it";
            return Err(Stop::new(Exit::Refused, text).into());
        }
        Ok(waiting)
    }

    /// Restores some files of a host; whether there was time for all.
    fn batch(&mut self, host: usize, batch: &[Candidate], is_first: bool) -> Result<bool, anyhow::Error> {
        let Some(archive) = self.restored.hosts.get(host).map(|host| host.archive.clone()) else { return Ok(false) };
        let mut groups = VecDeque::from([drill::in_archive(batch)]);
        let (mut done, mut has_time) = (BTreeSet::new(), true);
        let found = self.restored.damaged.len();
        while let Some(group) = groups.pop_front() {
            let paths: Vec<_> = group.iter().map(|candidate| candidate.item.path.as_path()).collect();
            let (archives, limit) = (self.archives, self.limit(is_first));
            let mut comparing = Comparing::new(self.holding, archive.made, group.clone());
            let mut heard = |bytes: &[u8]| {
                let before = comparing.bytes;
                comparing.feed(bytes);
                self.came(comparing.bytes.saturating_sub(before));
            };
            let came = archives.contents(&archive, &paths, limit, &mut heard);
            let current = comparing.current();
            if let (Ok(()), Some(current)) = (&came, current) {
                // What has come cannot be told apart: each by itself.
                if group.len() > 1 {
                    groups.extend(group.into_iter().map(|candidate| vec![candidate]));
                } else {
                    let why = format!("{} bytes came of {}", comparing.bytes, current.item.size);
                    self.damaged(&current.item.path, &archive, why);
                }
                continue;
            }
            let outcomes: Vec<_> = comparing.outcomes().collect();
            for (candidate, outcome) in &outcomes {
                self.count(host, candidate, *outcome, &archive);
                done.insert(&candidate.inside);
            }
            match (came, current) {
                (Ok(()), _) => {}
                (Err(ArchiveError::Damaged { said }), Some(current)) => {
                    self.damaged(&current.item.path, &archive, said);
                    let rest = group.get(outcomes.len().saturating_add(1)..).unwrap_or_default();
                    if !rest.is_empty() && self.restored.damaged.len() < ENOUGH {
                        groups.push_back(rest.to_vec());
                    }
                }
                (Err(ArchiveError::Damaged { said }), None) => self.damaged(Path::new(""), &archive, said),
                (Err(ArchiveError::Time), _) => {
                    has_time = false;
                    break;
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
        // What was damaged is tried first the next time.
        if self.restored.damaged.len() == found {
            let in_turn = batch.iter().take_while(|candidate| done.contains(&candidate.inside)).last();
            // A file for which there is never time enough keeps no other one waiting.
            let too_long = || batch.first().filter(|_| is_first);
            if let Some(host) = self.restored.hosts.get_mut(host) {
                host.next = in_turn.or_else(too_long).map(Candidate::next).or(host.next);
            }
        }
        Ok(has_time)
    }

    fn count(&mut self, host: usize, candidate: &Candidate, outcome: Outcome, archive: &Archive) {
        match outcome {
            Outcome::Same => {}
            Outcome::Changed => self.restored.changed = self.restored.changed.saturating_add(1),
            Outcome::Other => {
                let why = "it has another content than here, where it has not changed since it was archived";
                self.damaged(&candidate.item.path, archive, why.to_owned());
                return;
            }
        }
        self.restored.files = self.restored.files.saturating_add(1);
        if let Some(host) = self.restored.hosts.get_mut(host) {
            host.files = host.files.saturating_add(1);
            host.bytes = host.bytes.saturating_add(candidate.item.size);
        }
    }

    fn damaged(&mut self, path: &Path, archive: &Archive, why: String) {
        let archive = shown_text(&archive.name);
        let text = format!("not restored from the archive {archive}: {}: {why}", shown(path));
        if let Err(halt) = (self.handler)(CopyEvent::Warning(&text)) {
            log::debug!("{halt}");
        }
        self.restored.damaged.push(Damaged { path: path.to_owned(), archive, why });
    }

    fn came(&mut self, bytes: u64) {
        self.restored.bytes = self.restored.bytes.saturating_add(bytes);
        if self.restored.bytes.saturating_sub(self.told) < PIECE {
            return;
        }
        self.told = self.restored.bytes;
        let progress = Progress::new(self.restored.bytes, self.total, self.begun.elapsed());
        // Borg is ended by what runs it, when this process is asked to end.
        if let Err(halt) = (self.handler)(CopyEvent::Progress(progress)) {
            log::debug!("{halt}");
        }
    }

    fn handler_phase(&mut self) -> Result<(), anyhow::Error> {
        (self.handler)(CopyEvent::Phase(Phase::Reading)).map_err(phobos_core::copy::CopyError::from)?;
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// How long a call may take.
    fn limit(&self, is_first: bool) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(Instant::now());
        Some(if is_first { left.max(LEAST) } else { left })
    }
}

impl Restored {
    /// Of those that were not restored: what, from which archive, and why.
    pub(super) fn named(&self, most: usize) -> String {
        let line = |damaged: &Damaged| match shown(&damaged.path) {
            path if damaged.path.as_os_str().is_empty() => {
                format!("{} itself ({}){path}", damaged.archive, damaged.why)
            }
            path => format!("{path} ({})", damaged.why),
        };
        let named: Vec<_> = self.damaged.iter().map(line).collect();
        human::first_of(&named, most, ", ")
    }
}
