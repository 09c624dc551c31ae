//! The off-site drives that are known, by the configuration or else by crypttab, and how each of them stands.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::block;
use phobos_core::luks::{self, Unlock, Uuid};

use crate::config::{Container, Crypttab, Drive, DriveChoice, External};
use crate::exit::{Exit, Stop};
use crate::ledger::{Book, Mirror};
use crate::lock::{LockName, Word};
use crate::rotation::{self, Failure, Place, Standing};

/// The table that names a drive where the configuration names none.
pub const CRYPTTAB: &str = "/etc/crypttab";

/// The name of the job that mirrors to a drive, in the history.
pub const JOB: &str = "ext";

/// A drive that is known, plugged in or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What people call it.
    pub name: Word,
    /// Its block device: of the LUKS container, or of the file system itself.
    pub device: PathBuf,
    /// How it is unlocked, where it is locked.
    pub luks: Option<(Uuid, Unlock)>,
}

/// What the history says of a drive's runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// How its last run went wrong, if it did.
    pub failure: Option<Failure>,
    /// When its last good run ended.
    pub good: Option<DateTime<Utc>>,
}

/// The drives that are known: the configured ones, and crypttab's where the configuration's own file names none.
///
/// # Errors
///
/// When none is configured and crypttab cannot be read, or names none.
pub fn known(external: &External, crypttab: &Path) -> Result<Vec<Target>, Stop> {
    let mut known: Vec<_> = external.drive.iter().map(Target::from).collect();
    if known.is_empty() {
        return Ok(vec![from_crypttab(external, crypttab)?]);
    }
    if external.crypttab == Crypttab::Beside {
        match from_crypttab(external, crypttab) {
            Ok(target) if known.iter().any(|other| other.uuid() == target.uuid() || other.name == target.name) => {}
            Ok(target) => known.push(target),
            // It need not name one.
            Err(stop) => log::debug!("{stop}"),
        }
    }
    Ok(known)
}

/// How each of the drives stands, worst first; `past` is asked by a drive's name.
pub fn standings(
    external: &External,
    targets: &[Target],
    book: &Book,
    past: &dyn Fn(&str) -> Past,
    now: DateTime<Utc>,
) -> Vec<Standing> {
    let overdue = TimeDelta::from_std(external.overdue.0).unwrap_or(TimeDelta::MAX);
    rotation::judge(drives(targets, book, past, now), overdue, now)
}

/// What is known of each of the drives, for [`rotation::judge`]; `past` is asked by a drive's name.
pub fn drives(
    targets: &[Target],
    book: &Book,
    past: &dyn Fn(&str) -> Past,
    now: DateTime<Utc>,
) -> Vec<rotation::Drive> {
    targets.iter().map(|target| drive(target, book, past(target.name.as_str()), now)).collect()
}

/// What is known of a drive: from the ledger, from the history where that knows nothing, and by whether it is plugged in.
fn drive(target: &Target, book: &Book, past: Past, now: DateTime<Utc>) -> rotation::Drive {
    let name = target.name.as_str();
    let mut entry = book.drives.get(name).cloned().unwrap_or_default();
    if entry.mirror.is_none() {
        entry.mirror = past.good.map(Mirror::at);
    }
    let place = if target.device.exists() {
        Place::PluggedIn(block::plugged_in_since(&target.device, now))
    } else {
        Place::Away(entry.seen.or(entry.mirror.as_ref().map(|mirror| mirror.mirrored)))
    };
    rotation::Drive { name: name.to_owned(), place, entry, failure: past.failure }
}

fn from_crypttab(external: &External, crypttab: &Path) -> Result<Target, Stop> {
    let name = external.mapping.as_str();
    let file = crypttab.display();
    let text = match fs::read_to_string(crypttab) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Stop::new(Exit::Failed, format!("cannot read {file}: {error}"))),
    };
    let config = |text: String| Stop::new(Exit::Config, text);
    let entry = luks::crypttab_entry(&text, &external.mapping).map_err(|error| config(format!("{file}: {error}")))?;
    let entry = entry.ok_or_else(|| {
        config(format!("no drive is configured: add [[external.drive]], or an entry for {name} in {file}"))
    })?;
    let uuid = entry.uuid().ok_or_else(|| {
        let text = format!("no drive is plugged in; {file} names {} for {name}", entry.device);
        Stop::new(Exit::Absent, text)
    })?;
    let name = name.parse().map_err(|error| config(format!("the entry for {name} in {file}: {error}")))?;
    Ok(Target { name, device: uuid.device(), luks: Some((uuid, entry.unlock)) })
}

impl Target {
    /// The name of the lock that everybody takes who uses the drive.
    pub fn lock_name(&self) -> LockName {
        LockName::Drive(self.name.clone())
    }

    /// Its LUKS container, where it has one.
    pub fn uuid(&self) -> Option<&Uuid> {
        self.luks.as_ref().map(|(uuid, _)| uuid)
    }

    /// Whether somebody who says `wanted` means this drive.
    pub fn is_called(&self, wanted: &DriveChoice) -> bool {
        match wanted {
            DriveChoice::Name(name) => self.name == *name,
            DriveChoice::Uuid(uuid) => self.uuid() == Some(uuid) || self.name.as_str() == uuid.as_str(),
        }
    }
}

impl From<&Drive> for Target {
    fn from(drive: &Drive) -> Self {
        let name = Word::from(&drive.name);
        match &drive.container {
            Container::Luks { uuid, key_file } => {
                Self { name, device: uuid.device(), luks: Some((uuid.clone(), Unlock::with_key_file(key_file))) }
            }
            Container::Plain { device } => Self { name, device: device.to_path_buf(), luks: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Table};

    fn day(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(day)
    }

    /// The owner's drive is in crypttab alone; a second one gets a file of its own, by `phobos-ext prepare` or by hand.
    #[test]
    fn the_drive_in_crypttab_is_not_forgotten_when_another_gets_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (file, crypttab) = (folder.path().join("phobos.toml"), folder.path().join("crypttab"));
        let uuid = |digit: &str| "00000000-0000-4000-8000-000000000000".replace('0', digit);
        let own = |name: &str, digit: &str| {
            format!("[[external.drive]]\nname = '{name}'\nuuid = '{}'\nkey-file = '/k'\n", uuid(digit))
        };
        let entry = |digit: &str| format!("extbackup UUID={} /k luks,noauto\n", uuid(digit));
        fs::create_dir(folder.path().join("drives.d")).unwrap();
        fs::write(&file, "").unwrap();
        fs::write(folder.path().join("drives.d/B.toml"), own("B", "b")).unwrap();
        let names = || {
            let external = Config::load(Some(&file), &[Table::External]).unwrap().external;
            known(&external, &crypttab).unwrap().iter().map(|target| target.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(), ["B"], "there is no crypttab");
        fs::write(&crypttab, "# none\n").unwrap();
        assert_eq!(names(), ["B"]);
        fs::write(&crypttab, entry("a")).unwrap();
        assert_eq!(names(), ["B", "extbackup"]);
        fs::write(&crypttab, entry("b")).unwrap();
        assert_eq!(names(), ["B"], "it is the same drive");
        fs::write(&crypttab, entry("a")).unwrap();
        fs::write(&file, own("C", "c")).unwrap();
        assert_eq!(names(), ["C", "B"], "the owner's list is whole");
    }

    #[test]
    fn the_ledger_counts_and_the_history_where_it_is_gone() {
        let target = |name: &str| Target { name: name.parse().unwrap(), device: "/nowhere".into(), luks: None };
        let targets = ["A", "B", "C"].map(target);
        let external = Config::parse(Path::new("test"), "[external]\noverdue = '10d'").unwrap().external;
        let mut book = Book::default();
        book.record("A", Mirror { transaction: Some(7), ..Mirror::at(day(3)) });
        let failure = Failure { at: day(5), error: "no".to_owned() };
        let past = |name: &str| match name {
            "A" => Past { good: Some(day(2)), failure: None },
            "B" => Past { good: Some(day(1)), failure: Some(failure.clone()) },
            _ => Past::default(),
        };
        let standings = standings(&external, &targets, &book, &past, day(6));
        let of = |name: &str| standings.iter().find(|standing| standing.drive.name == name).unwrap();
        assert_eq!(of("A").mirror().map(|mirror| (mirror.mirrored, mirror.transaction)), Some((day(3), Some(7))));
        assert_eq!(of("A").drive.place, Place::Away(Some(day(3))));
        assert_eq!(of("B").mirror(), Some(&Mirror::at(day(1))));
        assert_eq!(of("B").drive.failure, Some(failure.clone()));
        assert_eq!((of("C").mirror(), of("C").drive.place), (None, Place::Away(None)));
        assert_eq!((of("C").turn, of("C").due_by), (0, Some(day(13))));
        assert_eq!(standings[0].drive.name, "B", "what has failed stands first");
    }
}
