//! What phobos keeps on a drive: what the drive is, and whether a run is under way.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use phobos_core::copy::Checksum;
use phobos_core::fs::{Dir, Durability, FsError, Times};
use phobos_core::mount;
use phobos_site::exit::{Exit, Stop};
use phobos_site::ledger::{Mirror, Room};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The folder at the top of a drive that is phobos's own.
pub(crate) const FOLDER: &str = ".phobos";

/// Where a new copy is made, in that folder.
pub(crate) const INCOMING: &str = "incoming";

/// Where the copy before the last one is, in that folder.
pub(crate) const GENERATION: &str = "generation";

/// What tells a stranger how to get everything back.
pub(crate) const GUIDE: &str = "HOW-TO-RESTORE.txt";

/// What an ext file system holds from the start.
pub(crate) const LOST_AND_FOUND: &str = "lost+found";

/// What the drive is.
pub(crate) const DRIVE: &str = "drive.json";

/// That a run is under way.
const RUN: &str = "run.json";

/// The largest record that is read, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// How many generations are counted.
const GENERATIONS: usize = 1000;

/// By how much file systems and clocks round, in seconds, with one to spare.
const ROUNDING: i64 = 2;

/// The version of both records.
const VERSION: u32 = 1;

/// What a drive is, as of its last complete mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DriveRecord {
    pub(crate) version: u32,
    /// The id of the repository that the drive belongs to.
    pub(crate) repository: String,
    /// What people call the drive.
    pub(crate) drive: String,
    /// The repository's last transaction.
    pub(crate) transaction: Option<u64>,
    /// When the mirror was complete, written and read back.
    pub(crate) mirrored: Option<DateTime<Utc>>,
    /// The names at the drive's top that the mirrors have put there.
    #[serde(default)]
    pub(crate) names: Vec<String>,
}

/// The record as the drive has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    record: DriveRecord,
    /// The checksum of all of it while this is empty.
    sum: String,
}

/// A run that has begun to write, and has not proved yet that all is on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RunRecord {
    pub(crate) version: u32,
    /// When it began, in seconds since 1970: what changed on the drive since then is unproved.
    pub(crate) since: i64,
    /// The transaction that it was to bring.
    pub(crate) transaction: Option<u64>,
}

impl DriveRecord {
    pub(crate) fn new(repository: &str, drive: &str) -> Self {
        Self {
            version: VERSION,
            repository: repository.to_owned(),
            drive: drive.to_owned(),
            transaction: None,
            mirrored: None,
            names: Vec::new(),
        }
    }

    /// What the drive says that it is; `None` for one that is nobody's yet.
    pub(crate) fn read(root: &Dir) -> Result<Option<Self>, anyhow::Error> {
        let Some(bytes) = bytes(root, DRIVE)? else { return Ok(None) };
        let record: Self = understood(&bytes, DRIVE)?;
        known(record.version, DRIVE).map(|()| Some(record))
    }

    /// The same, where the copy itself says whose the drive is: a record that cannot be understood is none.
    pub(crate) fn read_or_forget(root: &Dir) -> Result<Option<Self>, anyhow::Error> {
        let Some(bytes) = bytes(root, DRIVE)? else { return Ok(None) };
        let Ok(record) = understood::<Self>(&bytes, DRIVE) else {
            log::warn!("{FOLDER}/{DRIVE} on the drive is damaged; it is written anew");
            return Ok(None);
        };
        known(record.version, DRIVE).map(|()| Some(record))
    }

    /// Writes it so that a power cut leaves the old one or the new one, with a checksum of its own.
    pub(crate) fn write(&self, root: &Dir) -> Result<(), anyhow::Error> {
        let bare = Kept { record: self.clone(), sum: String::new() };
        let sum = Checksum::of(&serde_json::to_vec_pretty(&bare)?).to_string();
        write(root, DRIVE, &Kept { sum, ..bare })
    }

    /// Whether the drive's record is what was written, by its own checksum.
    pub(crate) fn is_as_written(root: &Dir) -> bool {
        let is_kept = || -> Option<bool> {
            let bytes = root.read(&Path::new(FOLDER).join(DRIVE), LIMIT).ok()??;
            let kept: Kept = serde_json::from_slice(&bytes).ok()?;
            let bare = Kept { sum: String::new(), ..kept.clone() };
            let sum = Checksum::of(&serde_json::to_vec_pretty(&bare).ok()?).to_string();
            Some(kept.sum == sum && serde_json::to_vec_pretty(&kept).ok()? == bytes)
        };
        is_kept().unwrap_or_default()
    }
}

impl DriveRecord {
    /// What the ledger keeps of it, with how full the drive is, which is mounted at `place`; `None` before the first mirror.
    pub(crate) fn noted(&self, root: &Dir, place: &Path) -> Option<Mirror> {
        let usage = mount::usage(place).map(|usage| Room { used: usage.used, free: usage.free });
        let own = root.open_dir(Path::new(FOLDER)).and_then(|own| match own.stat(Path::new(GENERATION))? {
            Some(_) => own.open_dir(Path::new(GENERATION))?.entries_up_to(GENERATIONS).map(|entries| entries.len()),
            None => Ok(0),
        });
        let generations = own.unwrap_or_default();
        Some(Mirror {
            repository: self.repository.clone(),
            transaction: self.transaction,
            room: usage.ok(),
            generations: u64::try_from(generations).unwrap_or_default(),
            ..Mirror::at(self.mirrored?)
        })
    }
}

impl RunRecord {
    /// A run that begins at `now`; a second earlier counts too, because file systems and clocks round.
    pub(crate) fn new(now: DateTime<Utc>, transaction: Option<u64>) -> Self {
        Self { version: VERSION, since: now.timestamp().saturating_sub(ROUNDING), transaction }
    }

    /// The run that has left its record. One that cannot be understood has begun at no time that is known: nothing is proved.
    pub(crate) fn read(root: &Dir) -> Result<Option<Self>, anyhow::Error> {
        let Some(bytes) = bytes(root, RUN)? else { return Ok(None) };
        let Ok(record) = understood::<Self>(&bytes, RUN) else {
            log::warn!("{FOLDER}/{RUN} on the drive is damaged; nothing on it is believed");
            return Ok(Some(Self { version: VERSION, since: 0, transaction: None }));
        };
        known(record.version, RUN)?;
        if record.since > Utc::now().timestamp() {
            log::warn!(
                "{FOLDER}/{RUN} on the drive is of a run that has yet to begin, so that a clock was wrong; nothing on it is believed"
            );
            return Ok(Some(Self { since: 0, ..record }));
        }
        Ok(Some(record))
    }

    /// Since when what has changed on the drive is unproved, now that the run has taken so long by a clock that is never set: one that
    /// was set back gives earlier times to what was written then.
    pub(crate) fn since_by(&self, now: DateTime<Utc>, taken: Duration) -> i64 {
        let taken = i64::try_from(taken.as_secs()).unwrap_or(i64::MAX);
        self.since.min(now.timestamp().saturating_sub(taken).saturating_sub(ROUNDING))
    }

    /// Writes it, durably.
    pub(crate) fn write(&self, root: &Dir) -> Result<(), anyhow::Error> {
        write(root, RUN, self)
    }

    /// Takes it back: all that the run wrote is on the disk.
    pub(crate) fn take_back(root: &Dir) -> Result<(), anyhow::Error> {
        let folder = root.open_dir(Path::new(FOLDER))?;
        folder.remove(Path::new(RUN))?;
        Ok(folder.sync()?)
    }
}

/// How finely the drive's file system keeps times. A drive that has no record yet has nothing to compare with either.
pub(crate) fn times(root: &Dir) -> Result<Times, anyhow::Error> {
    match root.stat(Path::new(FOLDER))? {
        Some(_) => Ok(root.open_dir(Path::new(FOLDER))?.times()?),
        None => Ok(Times::Seconds),
    }
}

fn bytes(root: &Dir, name: &str) -> Result<Option<Vec<u8>>, FsError> {
    match root.stat(Path::new(FOLDER))? {
        Some(_) => root.open_dir(Path::new(FOLDER))?.read(Path::new(name), LIMIT),
        None => Ok(None),
    }
}

fn understood<T: DeserializeOwned>(bytes: &[u8], name: &str) -> Result<T, Stop> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = format!(
            "{FOLDER}/{name} on the drive cannot be understood ({error}); delete it, and the next run looks at the copy \
             itself"
        );
        Stop::new(Exit::Refused, text)
    })
}

fn known(version: u32, name: &str) -> Result<(), anyhow::Error> {
    if version == VERSION {
        return Ok(());
    }
    let text = format!("{FOLDER}/{name} on the drive is of version {version}, which this phobos does not know");
    Err(Stop::new(Exit::Refused, text).into())
}

fn write<T: Serialize>(root: &Dir, name: &str, record: &T) -> Result<(), anyhow::Error> {
    let folder = root.make_dir(Path::new(FOLDER), 0o700)?;
    let bytes = serde_json::to_vec_pretty(record)?;
    Ok(folder.replace(Path::new(name), &bytes, 0o600, Durability::Synced)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn records_come_back_and_what_is_no_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = Dir::open(folder.path()).unwrap();
        assert_eq!(DriveRecord::read(&root).unwrap(), None);
        let drive = DriveRecord { names: vec!["borg".to_owned()], ..DriveRecord::new("ab", "A") };
        drive.write(&root).unwrap();
        assert_eq!(DriveRecord::read(&root).unwrap(), Some(drive));
        let (path, sound) =
            (folder.path().join(".phobos/drive.json"), fs::read(folder.path().join(".phobos/drive.json")));
        let sound = sound.unwrap();
        assert!(DriveRecord::is_as_written(&root));
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            assert!(!DriveRecord::is_as_written(&root), "a bit of byte {at}");
        }
        RunRecord::new(Utc::now() + chrono::TimeDelta::days(1), None).write(&root).unwrap();
        assert_eq!(RunRecord::read(&root).unwrap().map(|run| run.since), Some(0), "a clock was wrong");
        let run = RunRecord::new(DateTime::UNIX_EPOCH, Some(7));
        run.write(&root).unwrap();
        assert_eq!(RunRecord::read(&root).unwrap(), Some(run));
        fs::write(folder.path().join(".phobos/run.json"), [0; 80]).unwrap();
        assert_eq!(RunRecord::read(&root).unwrap().map(|run| run.since), Some(0), "all of it is unproved");
        RunRecord::take_back(&root).unwrap();
        assert_eq!(RunRecord::read(&root).unwrap(), None);
        for text in
            ["", "{", r#"{"version": 2, "repository": "x", "drive": "A", "transaction": null, "mirrored": null}"#]
        {
            fs::write(folder.path().join(".phobos/drive.json"), text).unwrap();
            assert!(DriveRecord::read(&root).is_err(), "{text}");
            assert_eq!(DriveRecord::read_or_forget(&root).is_err(), text.contains("version"), "{text}");
        }
        fs::File::create(folder.path().join(".phobos/drive.json")).unwrap().set_len(1 << 33).unwrap();
        assert!(DriveRecord::read(&root).unwrap_err().to_string().contains("more than"));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_proved() {
        let at = |seconds| DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds);
        let run = RunRecord::new(at(10_000), None);
        let since = |now, taken| run.since_by(at(now), Duration::from_secs(taken));
        assert_eq!((run.since, since(10_060, 60), since(70_000, 60)), (9_998, 9_998, 9_998));
        assert_eq!(since(5_000, 60), 4_938, "it may have been set back right after the beginning");
        assert_eq!(run.since_by(at(0), Duration::MAX), i64::MIN);
    }

    #[test]
    fn a_link_in_their_place_leads_nowhere() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = Dir::open(folder.path()).unwrap();
        symlink(outside.path(), folder.path().join(FOLDER)).unwrap();
        assert!(DriveRecord::new("ab", "A").write(&root).is_err() && DriveRecord::read(&root).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
