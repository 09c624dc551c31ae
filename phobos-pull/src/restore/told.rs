//! What there is in a holding space, and what would be given back, as lines and as JSON.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use chrono::{DateTime, Local};
use phobos_core::fs::{Dir, Kind, Stat, shown};
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

/// One file.
#[derive(Debug, Serialize)]
struct Line {
    /// Its name, escaped.
    name: String,
    /// Kind and permissions, as `ls` shows them.
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    /// In seconds since 1970.
    mtime: i64,
    /// Where a link leads.
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
        let stays = |there: &Stat| {
            if is_dir { there.kind != Kind::Dir } else { there.kind == Kind::Dir || !self.overwrite }
        };
        let left = there.as_ref().is_some_and(stays);
        self.lines.push(Line { left, ..line(folder, name, &stat, &path)? });
        if is_dir && !left {
            let target = target.filter(|_| there.is_some()).map(|target| target.open_dir(name)).transpose()?;
            self.within(&folder.open_dir(name)?, &path, target.as_ref(), depth)?;
        }
        Ok(())
    }
}

fn line(folder: &Dir, name: &Path, stat: &Stat, path: &Path) -> Result<Line, anyhow::Error> {
    let kept = kept::of(folder, name, stat);
    let target = if kept.kind == 'l' { kept::leads(folder, name, stat)? } else { None };
    Ok(Line {
        name: shown(path),
        mode: kept.letters(),
        uid: kept.uid,
        gid: kept.gid,
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
        let left = if *left { "  (there already, stays as it is)" } else { "" };
        writeln!(text, "{mode} {uid:>6} {gid:>6} {size:>12} {time:16} {name}{target}{left}")?;
    }
    Ok(logging::result(&text)?)
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
