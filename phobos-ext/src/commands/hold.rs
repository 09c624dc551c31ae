//! `phobos-ext hold`: for a while no drive that is plugged in is mirrored to.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use chrono::{DateTime, Utc};
use phobos_core::fs::{Dir, Durability, make_shared, replace};
use phobos_core::human;
use phobos_core::schema::SchemaVersion;
use phobos_site::exit;
use phobos_site::paths::Paths;
use serde::{Deserialize, Serialize};

use crate::say;

/// The file that says so; it ends with the machine.
const FILE: &str = "hold.json";

/// The most that is read of it, in bytes.
const LIMIT: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long, such as 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "2h")]
    length: Duration,
    /// End it now
    #[arg(long, conflicts_with = "length")]
    off: bool,
}

/// That drives are not mirrored to for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hold {
    #[serde(default)]
    schema_version: SchemaVersion<1>,
    /// The end of it.
    until: DateTime<Utc>,
}

/// Begins or ends it.
pub(crate) fn run(args: &Args) -> Result<(), anyhow::Error> {
    exit::require_root()?;
    let file = file(&Paths::from_environment());
    if args.off {
        if end(&file)? {
            say(format_args!("drives that are plugged in are mirrored to again"));
        } else {
            say(format_args!("drives that are plugged in are mirrored to"));
        }
        return Ok(());
    }
    let until = chrono::TimeDelta::from_std(args.length).ok().and_then(|length| Utc::now().checked_add_signed(length));
    let until = until.ok_or_else(|| exit::Stop::new(exit::Exit::Usage, "this is too long"))?;
    begin(&file, until)?;
    say(format_args!("no drive that is plugged in is mirrored to until {}", human::local(until)));
    Ok(())
}

/// Until when no drive is mirrored to, if that is so now. One that is over is removed.
///
/// # Errors
///
/// When the file is there and cannot be understood: whoever wanted this has to be heard.
pub(crate) fn until(paths: &Paths, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, anyhow::Error> {
    let file = file(paths);
    let Some(hold) = read(&file).with_context(|| advice(&file))? else { return Ok(None) };
    if hold.until > now {
        return Ok(Some(hold.until));
    }
    end(&file)?;
    Ok(None)
}

fn file(paths: &Paths) -> PathBuf {
    paths.runtime.join(FILE)
}

fn advice(file: &Path) -> String {
    format!("cannot tell from {} whether to mirror; `phobos-ext hold --off` removes it", file.display())
}

fn begin(file: &Path, until: DateTime<Utc>) -> Result<(), anyhow::Error> {
    let bytes = serde_json::to_vec(&Hold { schema_version: SchemaVersion, until })?;
    let folder = file.parent().ok_or_else(|| anyhow!("{} is in no folder", file.display()))?;
    let written = make_shared(folder).and_then(|()| replace(file, &bytes, 0o600, Durability::Loose));
    written.with_context(|| format!("cannot write {}", file.display()))
}

fn read(file: &Path) -> Result<Option<Hold>, anyhow::Error> {
    let Some(folder) = file.parent().filter(|folder| folder.is_dir()) else { return Ok(None) };
    let bytes = Dir::open(folder)?.read(Path::new(FILE), LIMIT)?;
    Ok(bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
}

/// Ends it; `false` where there was none.
fn end(file: &Path) -> Result<bool, anyhow::Error> {
    match std::fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(anyhow::Error::new(error).context(format!("cannot remove {}", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_lasts_until_its_end_and_is_gone_then() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths { runtime: folder.path().join("run"), state: folder.path().to_owned() };
        let now = Utc::now();
        assert_eq!(until(&paths, now).unwrap(), None);
        assert!(!end(&file(&paths)).unwrap());
        let later = now + TimeDelta::hours(2);
        begin(&file(&paths), later).unwrap();
        assert_eq!(fs::metadata(file(&paths)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(until(&paths, later - TimeDelta::seconds(1)).unwrap(), Some(later));
        assert_eq!(until(&paths, later).unwrap(), None);
        assert!(!file(&paths).exists());
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths { runtime: folder.path().to_owned(), state: folder.path().to_owned() };
        for text in ["", "{}", r#"{"schema_version":2,"until":"2026-01-02T03:04:05Z"}"#] {
            fs::write(file(&paths), text).unwrap();
            let said = until(&paths, Utc::now()).unwrap_err().to_string();
            assert!(said.contains("`phobos-ext hold --off` removes it"), "{said}");
        }
    }
}
