//! What comes before and after files are taken away: units that still work, and what the programs have written.

use super::Manifest;
use super::place;
use crate::files::{PRIVATE, STATE};
use crate::{list, say};
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use xshell::{Shell, cmd};

/// Says which units of the manifest are enabled or, on this machine itself (`here`), at work, and refuses unless `anyway`.
///
/// # Errors
///
/// If there are some.
pub(super) fn stop_first(sh: &Shell, tree: &Path, manifest: &Manifest, here: bool, anyway: bool) -> Result<()> {
    let ours: BTreeSet<String> = manifest
        .keys()
        .filter(|target| target.parent().is_some_and(|folder| folder.ends_with("systemd/system")))
        .filter_map(|target| Some(target.file_name()?.to_str()?.to_owned()))
        .collect();
    let mut units = enabled(tree, &ours)?;
    if here {
        // Where systemd does not run, nothing is at work.
        let said = cmd!(sh, "systemctl list-units --plain --no-legend --state=active,activating")
            .quiet()
            .ignore_stderr()
            .ignore_status()
            .read()
            .unwrap_or_default();
        units.extend(active(&said, &ours));
    }
    if units.is_empty() {
        return Ok(());
    }
    let units: Vec<String> = units.iter().map(|unit| quoted(unit)).collect();
    say("first:");
    say(&format!("  systemctl disable --now {}", units.join(" ")));
    if !anyway {
        bail!("units of phobos are enabled or at work; disable them first, or say --anyway");
    }
    Ok(())
}

/// The units that links in `tree` enable.
fn enabled(tree: &Path, ours: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let mut units = BTreeSet::new();
    for wanting in list(&tree.join("etc/systemd/system"))? {
        let name = wanting.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if wanting.is_symlink() || ![".wants", ".requires", ".upholds"].iter().any(|end| name.ends_with(end)) {
            continue;
        }
        for link in list(&wanting)? {
            let unit = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if link.is_symlink() && is_ours(&unit, ours) {
                units.insert(unit);
            }
        }
    }
    Ok(units)
}

/// The units that `systemctl list-units` shows.
fn active(said: &str, ours: &BTreeSet<String>) -> BTreeSet<String> {
    let units = said.lines().filter_map(|line| line.split_whitespace().next());
    units.filter(|unit| is_ours(unit, ours)).map(str::to_owned).collect()
}

fn is_ours(unit: &str, ours: &BTreeSet<String>) -> bool {
    let template = unit.split_once('@').and_then(|(name, rest)| Some(format!("{name}@.{}", rest.rsplit_once('.')?.1)));
    ours.contains(template.as_deref().unwrap_or(unit))
}

/// A unit's name as a shell takes it.
fn quoted(unit: &str) -> String {
    if unit.contains('\\') { format!("'{unit}'") } else { unit.to_owned() }
}

/// Removes the configuration and what the programs have written. Keys and headers stay: without them a drive cannot be opened.
///
/// # Errors
///
/// If something cannot be removed.
pub(super) fn purge(tree: &Path, dry_run: bool) -> Result<()> {
    let keep: Vec<&Path> = PRIVATE.iter().map(Path::new).collect();
    let mut gone: Vec<PathBuf> = STATE.iter().map(PathBuf::from).collect();
    let configuration = Path::new("etc/phobos");
    for path in list(&tree.join(configuration))? {
        let target = configuration.join(path.file_name().unwrap_or_default());
        if !keep.contains(&target.as_path()) {
            gone.push(target);
        }
    }
    for target in gone {
        if place::remove_tree(tree, &target, dry_run)? {
            say(&format!("purged     {}", tree.join(&target).display()));
        }
    }
    for folder in keep {
        let path = tree.join(folder);
        if !path.is_dir() {
            continue;
        }
        if list(&path)?.is_empty() {
            if !dry_run {
                place::remove_folder(tree, folder)?;
            }
        } else {
            say(&format!("kept       {}: without it a drive cannot be opened", path.display()));
        }
    }
    if !dry_run {
        place::remove_folder(tree, configuration)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn units_that_are_enabled_or_at_work_are_named_first() {
        let sh = Shell::new().unwrap();
        let folder = sh.create_temp_dir().unwrap();
        let wants = folder.path().join("etc/systemd/system/timers.target.wants");
        fs::create_dir_all(&wants).unwrap();
        let manifest: Manifest = ["phobos-pull@.timer", "phobos-ext@.service", "phobos-ns.service"]
            .map(|unit| (Path::new("etc/systemd/system").join(unit), String::new()))
            .into();
        assert!(stop_first(&sh, folder.path(), &manifest, false, false).is_ok());
        symlink("/etc/systemd/system/other.timer", wants.join("other.timer")).unwrap();
        assert!(stop_first(&sh, folder.path(), &manifest, false, false).is_ok());
        symlink("/etc/systemd/system/phobos-pull@.timer", wants.join("phobos-pull@luv.timer")).unwrap();
        assert!(stop_first(&sh, folder.path(), &manifest, false, false).is_err());
        assert!(stop_first(&sh, folder.path(), &manifest, false, true).is_ok());

        let ours = ["phobos-ext@.service".to_owned()].into();
        let said = "phobos-ext@a\\x2db.service loaded active running x\nssh.service loaded active running y\n";
        assert_eq!(active(said, &ours), ["phobos-ext@a\\x2db.service".to_owned()].into());
        assert_eq!(quoted("a\\x2db"), "'a\\x2db'");
    }

    #[test]
    fn a_purge_leaves_keys_and_what_is_elsewhere() {
        let sh = Shell::new().unwrap();
        let folder = sh.create_temp_dir().unwrap();
        let tree = folder.path();
        let elsewhere = tree.join("elsewhere");
        for made in ["etc/phobos/keys", "etc/phobos/headers", "etc/phobos/drives.d", "var/lib/phobos/led", "elsewhere"]
        {
            fs::create_dir_all(tree.join(made)).unwrap();
        }
        for file in ["etc/phobos/phobos.toml", "etc/phobos/keys/A.key", "var/lib/phobos/led/x", "elsewhere/whole"] {
            fs::write(tree.join(file), "x").unwrap();
        }
        symlink(&elsewhere, tree.join("var/lib/phobos/led/out")).unwrap();
        symlink(&elsewhere, tree.join("var/lib/phobos-mail")).unwrap();
        let all = || cmd!(sh, "find {tree}").quiet().read().unwrap();
        let before = all();
        purge(tree, true).unwrap();
        assert_eq!(all(), before, "a rehearsal changes nothing");
        purge(tree, false).unwrap();
        assert!(elsewhere.join("whole").exists());
        assert!(tree.join("etc/phobos/keys/A.key").exists());
        for gone in ["etc/phobos/phobos.toml", "etc/phobos/headers", "var/lib/phobos", "var/lib/phobos-mail"] {
            assert!(fs::symlink_metadata(tree.join(gone)).is_err(), "{gone}");
        }
    }
}
