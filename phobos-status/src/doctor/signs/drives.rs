//! What is seen of the off-site drives: their disks, the ways into them, and the units that wait for them.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::path::{Path, PathBuf};

use phobos_core::block::{self, Health};
use phobos_core::exec::Exec;
use phobos_core::fs::Dir;
use phobos_core::{luks, systemd};

/// How a unit is called that waits for a device, without the device's name (systemd.unit(5)).
const WANTS: &str = ".device.wants";

/// What the units begin with that mirror to a drive: phobos's own, and the owner's.
const MIRRORS: [&str; 3] = ["phobos-ext", "backup-exthdd", "phobos-backup-monthly"];

/// What a disk says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Asked {
    /// What it is for.
    pub(in crate::doctor) what: String,
    pub(in crate::doctor) health: Health,
}

/// The ways into a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Ways {
    pub(in crate::doctor) drive: String,
    /// How many passphrases and key files open it, where that can be seen.
    pub(in crate::doctor) slots: Option<usize>,
    /// Whether a recovery sheet has it.
    pub(in crate::doctor) is_on_sheet: bool,
}

/// Asks the disks of what is plugged in: of the device, and what that is for.
pub(in crate::doctor) fn ask(exec: &dyn Exec, devices: &[(PathBuf, String)]) -> Vec<Asked> {
    let here = devices.iter().filter(|(device, _)| device.exists());
    here.map(|(device, what)| Asked { what: what.clone(), health: block::health(exec, device) }).collect()
}

/// How many keys open the container whose header is in this file.
pub(in crate::doctor) fn slots(exec: &dyn Exec, header: &Path) -> Option<usize> {
    luks::key_slots(exec, header).ok()
}

/// The units that mirror, each with the device that it waits for.
pub(in crate::doctor) fn waiting(units: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let Ok(folder) = Dir::open(units) else { return found };
    for entry in folder.entries().unwrap_or_default() {
        let Some(device) = entry.name.to_str().and_then(|name| name.strip_suffix(WANTS)) else { continue };
        let Some(path) =
            systemd::unescape(device).map(|path| PathBuf::from(format!("/{}", path.trim_start_matches('/'))))
        else {
            continue;
        };
        let wanted = Dir::open(&units.join(&entry.name)).and_then(|folder| folder.entries()).unwrap_or_default();
        let names = wanted.into_iter().filter_map(|entry| entry.name.into_string().ok());
        let mirrors = names.filter(|name| MIRRORS.iter().any(|start| name.starts_with(start)));
        found.extend(mirrors.map(|unit| (unit, path.clone())));
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_unit_that_mirrors_is_found_with_what_it_waits_for() {
        let folder = tempfile::tempdir().unwrap();
        let wants = |device: &str, unit: &str| {
            let folder = folder.path().join(format!("{device}.device.wants"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(unit), "").unwrap();
        };
        wants(r"dev-disk-by\x2duuid-11\x2d22", r"phobos-ext@11\x2d22.service");
        wants(r"dev-disk-by\x2dlabel-extbackup", "backup-exthdd.service");
        wants(r"dev-disk-by\x2dlabel-other", "somebody-elses.service");
        fs::create_dir(folder.path().join("multi-user.target.wants")).unwrap();
        let found = waiting(folder.path());
        let want = [
            ("backup-exthdd.service", "/dev/disk/by-label/extbackup"),
            (r"phobos-ext@11\x2d22.service", "/dev/disk/by-uuid/11-22"),
        ];
        assert_eq!(found, want.map(|(unit, device)| (unit.to_owned(), PathBuf::from(device))));
        assert!(waiting(Path::new("/nowhere")).is_empty());
    }
}
