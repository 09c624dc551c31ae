//! The spool: letters on the disk from before the first attempt to send them until a server has taken them.
//!
//! One file a letter, written whole and synced before it gets its name. Whoever sends a letter holds the kernel's lock on
//! its file, so that two runs never send one, and a run that is killed leaves nothing behind that a human must clear.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::letter::Letter;
use crate::merge;

/// How many letters, and how many bytes of them, may wait before the oldest are merged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) letters: usize,
    pub(crate) bytes: u64,
}

/// The limits of a real spool.
const LIMITS: Limits = Limits { letters: 1000, bytes: 64 << 20 };

/// From which age on a file that is not whole is a leftover.
const LEFTOVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the spool is if systemd names no folder: that of the units, if they have run here, else one of root's own.
const FOLDERS: [&str; 2] = ["/var/lib/phobos-mail", "/var/spool/phobos"];

/// The letters that wait, in a folder.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    folder: PathBuf,
    limits: Limits,
}

/// A letter in the spool that nobody else may send meanwhile.
#[derive(Debug)]
#[must_use = "dropping it lets others send the letter"]
pub(crate) struct Claim {
    _lock: File,
    path: PathBuf,
    pub(crate) letter: Letter,
}

/// The folder to keep letters in: `$STATE_DIRECTORY`, else the one of the units, else one below `/var/spool`.
pub(crate) fn folder() -> PathBuf {
    let named = std::env::var_os("STATE_DIRECTORY");
    let named = named.as_ref().and_then(|value| std::env::split_paths(value).find(|path| path.is_absolute()));
    let [units, own] = FOLDERS.map(PathBuf::from);
    named.unwrap_or(if units.is_dir() { units } else { own })
}

/// Makes a folder that only its owner can look into.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(path);
    let make = || {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        give_to_owner(&File::open(path)?, parent)?;
        sync_folder(parent)
    };
    make().with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Leaves what root has made in `folder` to the folder's owner, who has to work with it too.
pub(crate) fn give_to_owner(file: &File, folder: &Path) -> io::Result<()> {
    let owner = fs::metadata(folder)?;
    if rustix::process::geteuid().is_root() && owner.uid() != 0 {
        std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// When a file must be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synced {
    /// Before anything else is done.
    Now,
    /// Whenever the kernel writes it: a power cut may take it, but not half of it.
    Whenever,
}

/// Writes `bytes` to the new file `path` so that it is there as a whole or not at all, and returns it locked.
pub(crate) fn write(path: &Path, bytes: &[u8], synced: Synced) -> io::Result<File> {
    let (folder, name) = match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => (folder, name.to_string_lossy()),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let new = folder.join(format!(".{name}.{}", crate::host::unique()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = fill(&mut file, folder, bytes, synced).and_then(|()| fs::rename(&new, path));
    if let Err(error) = written {
        if let Err(error) = fs::remove_file(&new) {
            log::debug!("cannot remove {}: {error}", new.display());
        }
        return Err(error);
    }
    if synced == Synced::Now {
        sync_folder(folder)?;
    }
    Ok(file)
}

fn fill(file: &mut File, folder: &Path, bytes: &[u8], synced: Synced) -> io::Result<()> {
    fs2::FileExt::try_lock_exclusive(file)?;
    give_to_owner(file, folder)?;
    file.write_all(bytes)?;
    if synced == Synced::Now { file.sync_all() } else { Ok(()) }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
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
        let folder = folder.join("queue");
        make_folder(&folder)?;
        Ok(Self { folder, limits })
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
        self.add_as(&format!("{stamp:020}-{}.json", letter.id), letter)
    }

    fn add_as(&self, name: &str, letter: Letter) -> Result<Claim> {
        let path = self.folder.join(name);
        let bytes = serde_json::to_vec(&letter)?;
        let lock = write(&path, &bytes, Synced::Now).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Claim { _lock: lock, path, letter })
    }

    /// The files of all letters, oldest first.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<PathBuf>> {
        let read = || -> io::Result<Vec<PathBuf>> {
            let mut paths = Vec::new();
            for entry in fs::read_dir(&self.folder)? {
                let name = entry?.file_name();
                let text = name.to_string_lossy();
                if text.ends_with(".json") && !text.starts_with('.') {
                    paths.push(self.folder.join(&name));
                }
            }
            paths.sort_unstable();
            Ok(paths)
        };
        read().with_context(|| format!("cannot read {}", self.folder.display()))
    }

    /// Removes what a run has left that was cut off while it wrote.
    pub(crate) fn tidy(&self) {
        let tidy = || -> io::Result<()> {
            for entry in fs::read_dir(&self.folder)? {
                let entry = entry?;
                let old = entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age > LEFTOVER);
                if old && entry.file_name().to_string_lossy().starts_with('.') {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        if let Err(error) = tidy() {
            log::warn!("cannot tidy up {}: {error}", self.folder.display());
        }
    }

    /// Merges the oldest letters until one more has room.
    fn make_room(&self, letter: &Letter) -> Result<()> {
        let more = u64::try_from(letter.body.len()).unwrap_or(u64::MAX);
        let mut paths = self.list()?;
        while paths.len() >= self.limits.letters || size(&paths).saturating_add(more) > self.limits.bytes {
            let claims: Vec<_> = paths.iter().filter_map(|path| claim_or_warn(path)).collect();
            let Some(group) = merge::group(claims) else { break };
            let (count, name) = (group.len(), name_of_newest(&group));
            let merged = merge::merge(group.iter().map(|claim| &claim.letter));
            let merged = self.add_as(&format!("{name}m.json"), merged)?;
            for claim in group {
                claim.done()?;
            }
            log::warn!("the spool is full: merged {count} letters into one about {}", merged.letter.unit);
            paths = self.list()?;
        }
        Ok(())
    }
}

fn claim_or_warn(path: &Path) -> Option<Claim> {
    Claim::take(path).unwrap_or_else(|error| {
        log::warn!("{error:#}");
        None
    })
}

/// The name of the file of the newest of `group`, without its ending: a merged letter takes its place in the order.
fn name_of_newest(group: &[Claim]) -> String {
    let stem = group.last().and_then(|claim| claim.path.file_stem());
    stem.map(|stem| stem.to_string_lossy().trim_end_matches('m').to_owned()).unwrap_or_default()
}

fn size(paths: &[PathBuf]) -> u64 {
    paths.iter().filter_map(|path| fs::metadata(path).map_or(None, |metadata| Some(metadata.len()))).sum()
}

impl Claim {
    /// Claims the letter in `path`; `None` if it is sent by now, or somebody else is at it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read. One that holds no letter is put aside, so that it is told only once.
    pub(crate) fn take(path: &Path) -> Result<Option<Self>> {
        let failed = || format!("cannot read {}", path.display());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => File::from(other.with_context(failed)?),
        };
        match fs2::FileExt::try_lock_exclusive(&file) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            other => other.with_context(failed)?,
        }
        // Whoever held the lock before may have sent the letter and removed the file.
        if file.metadata().with_context(failed)?.nlink() == 0 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(failed)?;
        match serde_json::from_slice(&bytes) {
            Ok(letter) => Ok(Some(Self { _lock: file, path: path.to_owned(), letter })),
            Err(error) => {
                let aside = path.with_extension("broken");
                fs::rename(path, &aside).with_context(failed)?;
                Err(error).with_context(|| format!("{} holds no letter", aside.display()))
            }
        }
    }

    /// Whether this is the letter in `path`.
    pub(crate) fn is_in(&self, path: &Path) -> bool {
        self.path == path
    }

    /// Removes the letter: somebody has taken it.
    ///
    /// # Errors
    ///
    /// When the file cannot be removed; it will be sent once more, under the same Message-ID.
    pub(crate) fn done(self) -> Result<()> {
        let removed = fs::remove_file(&self.path).and_then(|()| self.path.parent().map_or(Ok(()), sync_folder));
        removed.with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter;

    fn about(unit: &str, body: &str) -> Letter {
        Letter { subject: format!("unit {unit} failed"), body: body.to_owned(), ..letter::blank(unit) }
    }

    fn bodies(spool: &Spool) -> Vec<String> {
        let claims = spool.list().unwrap().into_iter().map(|path| Claim::take(&path).unwrap().unwrap());
        claims.map(|claim| claim.letter.body.clone()).collect()
    }

    #[test]
    fn a_letter_is_the_property_of_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        let first = spool.add(about("a", "one\n")).unwrap();
        let [path] = &spool.list().unwrap()[..] else { panic!("one letter was added") };
        assert!(first.is_in(path) && Claim::take(path).unwrap().is_none(), "it is claimed by whoever added it");
        drop(first);
        let again = Claim::take(path).unwrap().unwrap();
        assert_eq!(again.letter.body, "one\n");
        again.done().unwrap();
        assert!(Claim::take(path).unwrap().is_none());
        assert!(spool.list().unwrap().is_empty());
    }

    #[test]
    fn letters_wait_in_the_order_in_which_they_came() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        for body in ["1", "2", "3", "4", "5"] {
            drop(spool.add(about("a", body)).unwrap());
        }
        assert_eq!(bodies(&spool), ["1", "2", "3", "4", "5"]);
    }

    #[test]
    fn a_half_written_file_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        let path = folder.path().join("queue/1.json");
        fs::write(&path, "{\"id\":").unwrap();
        fs::write(folder.path().join("queue/.2.json.new"), "").unwrap();
        assert_eq!(spool.list().unwrap(), std::slice::from_ref(&path));
        let error = Claim::take(&path).unwrap_err().to_string();
        assert!(error.ends_with("1.broken holds no letter"), "{error}");
        assert!(spool.list().unwrap().is_empty());
    }

    #[test]
    fn a_full_spool_merges_the_unit_that_fills_it() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::with_limits(folder.path(), Limits { letters: 6, bytes: 1 << 20 }).unwrap();
        for (unit, body) in [("b", "b failed once.\n"), ("a", "a failed 1.\n"), ("a", "a failed 2.\n")] {
            drop(spool.add(about(unit, body)).unwrap());
        }
        for number in 3..30 {
            drop(spool.add(about("a", &format!("a failed {number}.\n"))).unwrap());
            assert!(spool.list().unwrap().len() <= 6);
        }
        let bodies = bodies(&spool);
        assert_eq!(bodies[0], "b failed once.\n");
        for number in 1..30 {
            let line = format!("a failed {number}.\n");
            assert!(bodies.iter().any(|body| body.contains(&line)), "{line} is lost: {bodies:#?}");
        }
    }

    /// Fills the spool without the care that each letter takes on its own.
    fn fill_up(spool: &Spool, letters: usize, body: &str) {
        let letter = serde_json::to_vec(&about("a", body)).unwrap();
        for number in 0..letters {
            fs::write(spool.folder.join(format!("{number:020}-x.json")), &letter).unwrap();
        }
    }

    #[test]
    fn no_more_than_a_thousand_letters_and_64_megabytes_wait() {
        for (letters, body) in [(1000, "a failed.\n".to_owned()), (63, format!("a failed.\n{}", "x".repeat(1 << 20)))] {
            let folder = tempfile::tempdir().unwrap();
            let spool = Spool::open(folder.path()).unwrap();
            fill_up(&spool, letters, &body);
            assert_eq!(spool.list().unwrap().len(), letters);
            drop(spool.add(about("b", &format!("b failed.\n{}", "y".repeat(1 << 20)))).unwrap());
            let paths = spool.list().unwrap();
            assert!(paths.len() < letters && size(&paths) <= 64 << 20, "{} letters", paths.len());
            let letters_in = |path: &PathBuf| Claim::take(path).unwrap().unwrap().letter.merged.max(1);
            assert_eq!(paths.iter().map(letters_in).sum::<u64>(), u64::try_from(letters).unwrap() + 1, "none is lost");
        }
    }

    #[test]
    fn a_spool_of_many_units_stays_within_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::with_limits(folder.path(), Limits { letters: 100, bytes: 20_000 }).unwrap();
        for number in 0..60 {
            let body = format!("unit {number} failed.\n{}", "x".repeat(1000));
            drop(spool.add(about(&format!("u{number}"), &body)).unwrap());
            assert!(size(&spool.list().unwrap()) < 22_000);
        }
        let all = bodies(&spool).concat();
        assert!((0..60).all(|number| all.contains(&format!("unit {number} failed."))), "{all}");
    }
}
