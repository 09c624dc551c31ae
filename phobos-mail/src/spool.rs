//! The spool: letters on the disk from before the first attempt to send them until a server has taken them.
//!
//! One file a letter, written whole and synced before it gets its name. Whoever sends a letter holds the kernel's lock on
//! its file, so that two runs never send one, and a run that is killed leaves nothing behind that a human must clear.
//! Beside the queue is a folder of letters that were set aside: nobody takes them, or they are none.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use phobos_core::error::Chain;
use phobos_core::fs::{Dir, FsError, Kind, shown};

use crate::letter::Letter;
use crate::merge;
use crate::owned::Owned;

/// How many letters, and how many bytes of them, may wait before the oldest are merged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) letters: usize,
    pub(crate) bytes: u64,
}

/// The limits of a real spool.
const LIMITS: Limits = Limits { letters: 1000, bytes: 64 << 20 };

/// How large a letter may be, in bytes.
const LARGEST: u64 = 8 << 20;

/// From which age on a file that is not whole is a leftover.
const LEFTOVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The spool of the units, whose user it belongs to, and the same as systemd has it; and one of root's own, for root's
/// calls on a machine where no unit has run yet.
const UNITS: [&str; 2] = ["/var/lib/phobos-mail", "/var/lib/private/phobos-mail"];
const OWN: &str = "/var/spool/phobos";

/// The letters that wait, and those that were set aside.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    pub(crate) queue: Arc<Owned>,
    pub(crate) refused: Arc<Owned>,
    folder: PathBuf,
    limits: Limits,
}

/// A letter in the spool that nobody else may send meanwhile.
#[derive(Debug)]
#[must_use = "dropping it lets others send the letter"]
pub(crate) struct Claim {
    lock: File,
    spool: Spool,
    name: OsString,
    pub(crate) letter: Letter,
}

/// The folders of the spools, the one first that new letters are kept in.
///
/// `$STATE_DIRECTORY`, or else the units' if they have run here, or else root's own. Root sees to both of the latter.
pub(crate) fn folders() -> Vec<PathBuf> {
    let places = Places::of_this_machine();
    let named = std::env::var_os("STATE_DIRECTORY");
    let named = named.as_ref().and_then(|value| std::env::split_paths(value).find(|path| path.is_absolute()));
    places.folders(named, rustix::process::geteuid().is_root())
}

/// Where the units' spool and root's own are.
#[derive(Debug)]
struct Places {
    units: Vec<PathBuf>,
    own: PathBuf,
}

impl Places {
    /// The usual places, or those that tests name.
    fn of_this_machine() -> Self {
        let [units, own] =
            ["PHOBOS_MAIL_UNITS", "PHOBOS_MAIL_OWN"].map(|name| std::env::var_os(name).map(PathBuf::from));
        Self {
            units: units.map_or_else(|| UNITS.map(PathBuf::from).to_vec(), |units| vec![units]),
            own: own.unwrap_or_else(|| OWN.into()),
        }
    }

    fn folders(self, named: Option<PathBuf>, is_root: bool) -> Vec<PathBuf> {
        let units = self.units.first().cloned().unwrap_or_default();
        let first = match named {
            Some(named) if !self.units.contains(&named) => return vec![named],
            Some(named) => named,
            None if units.is_dir() => units,
            None => self.own.clone(),
        };
        let mut folders = vec![first];
        if is_root && self.own.is_dir() && !folders.contains(&self.own) {
            folders.push(self.own);
        }
        folders
    }
}

/// Writes `bytes` to the new file `name` of `folder` so that it is there as a whole and on the disk, or not at all, and
/// returns it locked.
fn write(folder: &Owned, name: &Path, bytes: &[u8]) -> Result<File> {
    let new = PathBuf::from(format!(".{}", crate::host::unique()));
    let mut file = folder.act(|dir| dir.create_new(&new, 0o600))??;
    let filled = fs2::FileExt::try_lock_exclusive(&file)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", shown(&folder.path().join(name))));
    let placed = filled
        .and_then(|()| folder.act(|dir| dir.rename(&new, dir, name).and_then(|()| dir.sync()))?.map_err(Into::into));
    if let Err(error) = placed {
        if let Err(error) = folder.act(|dir| dir.remove(&new))? {
            log::debug!("{}", Chain(&error));
        }
        return Err(error);
    }
    Ok(file)
}

impl Spool {
    /// The spool in `folder`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        Self::with_limits(folder, LIMITS)
    }

    pub(crate) fn with_limits(folder: &Path, limits: Limits) -> Result<Self> {
        Self::below(&Owned::make(folder)?, folder, limits)
    }

    /// The spool in `folder`; `None` if there is no such folder.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub(crate) fn find(folder: &Path) -> Result<Option<Self>> {
        Owned::open(folder)?.map(|top| Self::below(&top, folder, LIMITS)).transpose()
    }

    fn below(top: &Owned, folder: &Path, limits: Limits) -> Result<Self> {
        let [queue, refused] = ["queue", "refused"].map(|name| top.folder(Path::new(name)).map(Arc::new));
        Ok(Self { queue: queue?, refused: refused?, folder: folder.to_owned(), limits })
    }

    /// Whose the spool is, if it is somebody else's.
    pub(crate) fn owner(&self) -> Option<(u32, u32)> {
        self.queue.owner()
    }

    /// Where the spool is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps `letter` until it is sent; the claim on it is the caller's from the start.
    ///
    /// # Errors
    ///
    /// When the disk does not take it; nothing is left of it.
    pub(crate) fn add(&self, letter: Letter) -> Result<Claim> {
        if let Err(error) = self.make_room(&letter) {
            log::warn!("the spool is full, and its letters cannot be merged: {error:#}");
        }
        let stamp = chrono::Local::now().timestamp_micros();
        self.add_as(format!("{stamp:020}-{}.json", letter.id).into(), letter)
    }

    /// Keeps `letter` under a name of the caller's.
    ///
    /// # Errors
    ///
    /// As for [`Spool::add`].
    pub(crate) fn add_as(&self, name: OsString, letter: Letter) -> Result<Claim> {
        let lock = write(&self.queue, Path::new(&name), &serde_json::to_vec(&letter)?)?;
        Ok(Claim { lock, spool: self.clone(), name, letter })
    }

    /// The names of all letters that wait, oldest first.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<OsString>> {
        names(&self.queue)
    }

    /// The names of all that was set aside, oldest first.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub(crate) fn list_refused(&self) -> Result<Vec<OsString>> {
        names(&self.refused)
    }

    /// Claims the letter `name`; `None` if it is sent by now, if somebody else is at it, or if it is none, which is told.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or not set aside.
    pub(crate) fn claim(&self, name: &OsString) -> Result<Option<Claim>> {
        let path = Path::new(name);
        let opened = self.queue.act(|dir| match dir.stat(path)? {
            None => Ok(None),
            Some(_) => dir.open_file(path).map(Some),
        })?;
        let file = match opened {
            Ok(None) => return Ok(None),
            Ok(Some(file)) => file,
            Err(FsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return self.set_aside(path, &Chain(&error).to_string()).map(|()| None),
        };
        let failed = || format!("cannot read {}", shown(&self.queue.path().join(path)));
        match fs2::FileExt::try_lock_exclusive(&file) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            other => other.with_context(failed)?,
        }
        // Whoever held the lock before may have sent the letter and removed the file.
        if file.metadata().with_context(failed)?.nlink() == 0 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let count = (&file).take(LARGEST.saturating_add(1)).read_to_end(&mut bytes).with_context(failed)?;
        let letter = if u64::try_from(count).is_ok_and(|count| count <= LARGEST) {
            Letter::read(&bytes)
        } else {
            Err(format!("it has more than {LARGEST} bytes"))
        };
        match letter {
            Ok(letter) => Ok(Some(Claim { lock: file, spool: self.clone(), name: name.clone(), letter })),
            Err(why) => self.set_aside(path, &why).map(|()| None),
        }
    }

    /// Sets aside what is in the place of a letter and is none.
    fn set_aside(&self, name: &Path, why: &str) -> Result<()> {
        let refused = self.refused.act(Dir::try_clone)??;
        self.queue.act(|queue| queue.rename_new(name, &refused, name))??;
        log::error!("{} holds no letter, and is set aside: {why}", shown(&self.refused.path().join(name)));
        Ok(())
    }

    /// Reads what was set aside, or waits, under `name` in `folder`, without a claim: only to show it.
    pub(crate) fn peek(folder: &Owned, name: &OsString) -> Result<Option<Result<Letter, String>>> {
        Ok(match folder.act(|dir| dir.read(Path::new(name), LARGEST))? {
            Ok(None) => None,
            Ok(Some(bytes)) => Some(Letter::read(&bytes)),
            Err(error) => Some(Err(Chain(&error).to_string())),
        })
    }

    /// Puts a letter that was set aside into the queue again, as if it were new.
    ///
    /// # Errors
    ///
    /// When it cannot be written or removed.
    pub(crate) fn take_back(&self, name: &OsString) -> Result<()> {
        if let Some(Ok(mut letter)) = Self::peek(&self.refused, name)? {
            letter.start_anew();
            drop(self.add_as(name.clone(), letter)?);
            self.refused.act(|dir| dir.remove(Path::new(name)))??;
        }
        Ok(())
    }

    /// Removes what a run has left that was cut off while it wrote.
    pub(crate) fn tidy(&self) {
        for folder in [&self.queue, &self.refused] {
            if let Err(error) = tidy(folder) {
                log::warn!("cannot tidy up {}: {error:#}", folder.path().display());
            }
        }
    }

    /// Merges the oldest letters until one more has room.
    fn make_room(&self, letter: &Letter) -> Result<()> {
        let more = u64::try_from(letter.body.len()).unwrap_or(u64::MAX);
        let mut names = self.list()?;
        while names.len() >= self.limits.letters || self.size(&names)?.saturating_add(more) > self.limits.bytes {
            let claims: Vec<_> = names.iter().filter_map(|name| self.claim_or_warn(name)).collect();
            let Some(group) = merge::group(claims, |claim: &Claim| &claim.letter) else { break };
            let (count, name) = (group.len(), name_of_newest(&group));
            let merged = merge::merge(group.iter().map(|claim| &claim.letter));
            let merged = self.add_as(format!("{name}m.json").into(), merged)?;
            for claim in group {
                claim.done()?;
            }
            log::warn!("the spool is full: merged {count} letters into one about {}", merged.letter.unit);
            names = self.list()?;
        }
        Ok(())
    }

    /// Claims a letter where a failure to do so is only told.
    pub(crate) fn claim_or_warn(&self, name: &OsString) -> Option<Claim> {
        self.claim(name).unwrap_or_else(|error| {
            log::warn!("{error:#}");
            None
        })
    }

    /// How large all of `names` are together.
    fn size(&self, names: &[OsString]) -> Result<u64> {
        self.queue.act(|dir| {
            let sizes = names.iter().filter_map(|name| dir.stat(Path::new(name)).ok().flatten());
            sizes.fold(0_u64, |sum, stat| sum.saturating_add(stat.size))
        })
    }
}

/// The names of letters in `folder`, oldest first.
fn names(folder: &Owned) -> Result<Vec<OsString>> {
    let entries = folder.act(Dir::entries)??;
    let is_letter = |name: &OsString| {
        let text = name.to_string_lossy();
        text.ends_with(".json") && !text.starts_with('.')
    };
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).filter(is_letter).collect();
    names.sort_unstable();
    Ok(names)
}

fn tidy(folder: &Owned) -> Result<()> {
    for entry in folder.act(Dir::entries)?? {
        let name = Path::new(&entry.name);
        let Some(stat) = folder.act(|dir| dir.stat(name))?? else { continue };
        let written = u64::try_from(stat.mtime.0).unwrap_or_default();
        let written = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(written));
        let is_old = written.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > LEFTOVER);
        if is_old && stat.kind == Kind::File && entry.name.to_string_lossy().starts_with('.') {
            folder.act(|dir| dir.remove(name))??;
        }
    }
    Ok(())
}

/// The name of the file of the newest of `group`, without its ending: a merged letter takes its place in the order.
fn name_of_newest(group: &[Claim]) -> String {
    let stem = group.last().and_then(|claim| Path::new(&claim.name).file_stem());
    stem.map(|stem| stem.to_string_lossy().trim_end_matches('m').to_owned()).unwrap_or_default()
}

impl Claim {
    /// Whether this is the letter `name` of `spool`.
    pub(crate) fn is(&self, spool: &Spool, name: &OsString) -> bool {
        self.name == *name && self.spool.folder == spool.folder
    }

    /// The name of the letter's file.
    pub(crate) fn name(&self) -> &OsString {
        &self.name
    }

    /// Removes the letter: somebody has taken it, or nobody wants it any more.
    ///
    /// # Errors
    ///
    /// When the file cannot be removed; it will be sent once more, under the same Message-ID.
    pub(crate) fn done(self) -> Result<()> {
        let name = Path::new(&self.name);
        Ok(self.spool.queue.act(|dir| dir.remove(name).and_then(|()| dir.sync()))??)
    }

    /// Writes down what has become of the letter, which stays claimed.
    ///
    /// # Errors
    ///
    /// When the disk does not take it; it is as it was before.
    pub(crate) fn save(&mut self) -> Result<()> {
        self.lock = write(&self.spool.queue, Path::new(&self.name), &serde_json::to_vec(&self.letter)?)?;
        Ok(())
    }

    /// Sets the letter aside: no server will take it.
    ///
    /// # Errors
    ///
    /// When the disk does not take it; it is in the queue still.
    pub(crate) fn set_aside(self, reason: &str) -> Result<()> {
        let letter = Letter { reason: Some(reason.to_owned()), ..self.letter.clone() };
        drop(write(&self.spool.refused, Path::new(&self.name), &serde_json::to_vec(&letter)?)?);
        self.done()
    }
}

#[cfg(test)]
mod tests;
