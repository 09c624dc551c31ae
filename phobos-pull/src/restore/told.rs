//! What there is in a holding space or an archive, and what would be given back, as lines and as JSON.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::{DateTime, Local, Utc};
use phobos_core::borg::archive::{Archive, Entry, listed};
use phobos_core::fs::{Dir, FsError, Kind, Stat, shown, shown_text};
use phobos_site::logging;
use serde::Serialize;

use super::asked::Asked;
use super::kept;

/// The version of what is printed as JSON.
const SCHEMA_VERSION: u32 = 1;

/// How many folders deep a rehearsal looks: each takes a descriptor.
const DEEPEST: usize = 200;

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    schema_version: u32,
    files: &'a [Line],
}

/// What is printed of archives as JSON.
#[derive(Debug, Serialize)]
struct PrintedArchives<'a> {
    schema_version: u32,
    archives: &'a [ArchiveLine<'a>],
}

#[derive(Debug, Serialize)]
struct ArchiveLine<'a> {
    name: &'a str,
    made: DateTime<Utc>,
}

/// One file.
#[derive(Debug, Serialize)]
struct Line {
    /// Its name, escaped.
    name: String,
    /// Kind and permissions, as `ls` shows them.
    mode: String,
    /// Of what an archive has, these are not listed.
    uid: Option<u32>,
    gid: Option<u32>,
    size: u64,
    /// In seconds since 1970.
    mtime: i64,
    /// Where a link leads; of which file it is another name, in an archive, whose size it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Whether something is there already that stays as it is.
    #[serde(skip_serializing_if = "is_false")]
    left: bool,
}

/// Prints what is asked for: of folders what is in them.
///
/// # Errors
///
/// When a folder cannot be read, or nobody takes what is printed.
pub(super) fn list(space: &Dir, found: &[Asked], json: bool) -> Result<(), anyhow::Error> {
    let mut lines = Vec::new();
    for asked in found {
        if asked.stat.kind != Kind::Dir {
            lines.push(line(&asked.above, &asked.last, &asked.stat, &asked.last)?);
            continue;
        }
        let folder =
            if asked.last.as_os_str().is_empty() { space.try_clone()? } else { asked.above.open_dir(&asked.last)? };
        let mut entries = folder.entries()?;
        entries.sort_by(|one, two| one.name.cmp(&two.name));
        for entry in entries {
            let name = Path::new(&entry.name);
            if let Some(stat) = folder.stat(name)? {
                lines.push(line(&folder, name, &stat, name)?);
            }
        }
    }
    print_lines(&lines, json)
}

/// Prints what would be given back to `target`, and what is there already.
///
/// # Errors
///
/// As for [`list`].
pub(super) fn rehearse(found: &[Asked], target: &Dir, overwrite: bool, json: bool) -> Result<(), anyhow::Error> {
    let mut rehearsal = Rehearsal { overwrite, lines: Vec::new() };
    for asked in found {
        if asked.last.as_os_str().is_empty() {
            rehearsal.within(&asked.above, Path::new(""), Some(target), DEEPEST)?;
        } else {
            rehearsal.one(&asked.above, &asked.last, Path::new(""), Some(target), DEEPEST)?;
        }
    }
    print_lines(&rehearsal.lines, json)
}

/// What would be given back, as far as it was looked at.
struct Rehearsal {
    overwrite: bool,
    lines: Vec<Line>,
}

impl Rehearsal {
    /// Looks at what is in a folder that is called `below`, and in those in it, no deeper than `depth`.
    fn within(&mut self, folder: &Dir, below: &Path, target: Option<&Dir>, depth: usize) -> Result<(), anyhow::Error> {
        let Some(depth) = depth.checked_sub(1) else {
            log::warn!("what is in {} is too deep to be listed", shown(below));
            return Ok(());
        };
        let mut entries = folder.entries()?;
        entries.sort_by(|one, two| one.name.cmp(&two.name));
        for entry in entries {
            self.one(folder, Path::new(&entry.name), below, target, depth)?;
        }
        Ok(())
    }

    /// Looks at `name` in a folder that is called `below`.
    fn one(
        &mut self,
        folder: &Dir,
        name: &Path,
        below: &Path,
        target: Option<&Dir>,
        depth: usize,
    ) -> Result<(), anyhow::Error> {
        let Some(stat) = folder.stat(name)? else { return Ok(()) };
        let there = target.map(|target| target.stat(name)).transpose()?.flatten();
        let (is_dir, path) = (stat.kind == Kind::Dir, below.join(name));
        let left = there.as_ref().is_some_and(|there| stays(there, is_dir, self.overwrite));
        self.lines.push(Line { left, ..line(folder, name, &stat, &path)? });
        if is_dir && !left {
            let target = target.filter(|_| there.is_some()).map(|target| target.open_dir(name)).transpose()?;
            self.within(&folder.open_dir(name)?, &path, target.as_ref(), depth)?;
        }
        Ok(())
    }
}

/// Whether what is there stays, in whose place a folder or something else would come.
fn stays(there: &Stat, is_dir: bool, overwrite: bool) -> bool {
    if is_dir { there.kind != Kind::Dir } else { there.kind == Kind::Dir || !overwrite }
}

fn line(folder: &Dir, name: &Path, stat: &Stat, path: &Path) -> Result<Line, anyhow::Error> {
    let kept = kept::of(folder, name, stat);
    let target = if kept.kind == 'l' { kept::leads(folder, name, stat)? } else { None };
    Ok(Line {
        name: shown(path),
        mode: kept.letters(),
        uid: Some(kept.uid),
        gid: Some(kept.gid),
        size: stat.size,
        mtime: stat.mtime.0,
        target,
        left: false,
    })
}

fn print_lines(lines: &[Line], json: bool) -> Result<(), anyhow::Error> {
    if json {
        return print(&Printed { schema_version: SCHEMA_VERSION, files: lines });
    }
    let mut text = String::new();
    for Line { name, mode, uid, gid, size, mtime, target, left } in lines {
        let time =
            DateTime::from_timestamp(*mtime, 0).map(|time| time.with_timezone(&Local).format("%F %R").to_string());
        let time = time.unwrap_or_else(|| "-".to_owned());
        let target = target.as_ref().map(|target| format!(" -> {target}")).unwrap_or_default();
        let [uid, gid] = [uid, gid].map(|id| id.map_or_else(|| "-".to_owned(), |id| id.to_string()));
        let left = if *left { "  (there already, stays as it is)" } else { "" };
        writeln!(text, "{mode} {uid:>6} {gid:>6} {size:>12} {time:16} {name}{target}{left}")?;
    }
    Ok(logging::result(&text)?)
}

/// Prints the archives there are.
///
/// # Errors
///
/// When nobody takes what is printed.
pub(super) fn archives(all: &[Archive], json: bool) -> Result<(), anyhow::Error> {
    let lines: Vec<_> = all.iter().map(|archive| ArchiveLine { name: &archive.name, made: archive.made }).collect();
    if json {
        return print(&PrintedArchives { schema_version: SCHEMA_VERSION, archives: &lines });
    }
    let mut text = String::new();
    for ArchiveLine { name, made } in &lines {
        writeln!(text, "{}  {}", made.with_timezone(&Local).format("%F %R"), shown_text(name))?;
    }
    Ok(logging::result(&text)?)
}

/// What an archive has, as it is gathered for [`Archived::print`].
#[derive(Debug, Default)]
pub(super) struct Archived {
    lines: Vec<Line>,
}

impl Archived {
    /// Adds what lies directly in one of the folders that were asked for, or is what was asked for itself.
    pub(super) fn list(&mut self, asked: &[PathBuf], path: &Path, entry: &Entry) {
        let is_in = |asked: &PathBuf| path.parent() == Some(Path::new(&listed(asked.as_os_str())));
        let is_itself = |asked: &PathBuf| entry.kind != 'd' && path == Path::new(&listed(asked.as_os_str()));
        if asked.iter().any(|asked| is_in(asked) || is_itself(asked)) {
            let name = path.file_name().map(PathBuf::from).unwrap_or_default();
            self.lines.push(archived(&name, entry, false));
        }
    }

    /// Adds what would land at `path` in `target`.
    ///
    /// # Errors
    ///
    /// When what is there cannot be looked at.
    pub(super) fn rehearse(
        &mut self,
        path: &Path,
        entry: &Entry,
        target: &Dir,
        overwrite: bool,
    ) -> Result<(), anyhow::Error> {
        let there = there(target, path)?;
        let left = there.is_some_and(|there| stays(&there, entry.kind == 'd', overwrite));
        self.lines.push(archived(path, entry, left));
        Ok(())
    }

    /// Prints them.
    ///
    /// # Errors
    ///
    /// When nobody takes what is printed.
    pub(super) fn print(mut self, json: bool) -> Result<(), anyhow::Error> {
        self.lines.sort_by(|one, two| one.name.cmp(&two.name));
        print_lines(&self.lines, json)
    }
}

/// Prints what would be sent to a host out of `space`: of each where it is there, as what it would land, and whether something is there
/// already that stays.
///
/// # Errors
///
/// As for [`list`].
pub(super) fn sent<'a>(
    space: &Dir,
    names: impl Iterator<Item = (PathBuf, &'a Path, bool)>,
    json: bool,
) -> Result<(), anyhow::Error> {
    let mut lines = Vec::new();
    for (place, name, left) in names {
        if let Some(stat) = space.stat(&place)? {
            lines.push(Line { left, ..line(space, &place, &stat, name)? });
        }
    }
    print_lines(&lines, json)
}

/// What is at `path` below `target`; in what is no folder there is nothing.
fn there(target: &Dir, path: &Path) -> Result<Option<Stat>, anyhow::Error> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    if above.as_os_str().is_empty() {
        return Ok(target.stat(Path::new(name))?);
    }
    match target.open_dir(above) {
        Ok(above) => Ok(above.stat(Path::new(name))?),
        Err(FsError::Io { source, .. })
            if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&source.kind()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn archived(path: &Path, entry: &Entry, left: bool) -> Line {
    Line {
        name: shown(path),
        // Rights and owners are kept beside the files, where Borg does not list them.
        mode: format!("{}?????????", entry.kind),
        uid: None,
        gid: None,
        size: entry.size,
        mtime: entry.mtime.map(|time| time.timestamp()).unwrap_or_default(),
        target: entry.leads_to.as_deref().map(shown),
        left,
    }
}

/// Prints `what` as JSON.
///
/// # Errors
///
/// When nobody takes it.
pub(super) fn print(what: &impl Serialize) -> Result<(), anyhow::Error> {
    Ok(logging::result(&(serde_json::to_string_pretty(what).context("cannot write JSON")? + "\n"))?)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
