//! Which drive is meant: by the configuration, or else by crypttab, and by what is plugged in.

use std::collections::BTreeSet;
use std::path::Path;

use phobos_core::block;
use phobos_core::error::Chain;
use phobos_core::human;
use phobos_core::mount;
use phobos_site::config::{DriveChoice, External};
use phobos_site::drives::{self, Target};
use phobos_site::exit::{Exit, Stop};
use phobos_site::history::{History, Run};

/// How many devices a message names: a line is to be read.
const NAMED: usize = 8;

/// Finds the drive called `wanted`, or without a name the one that is plugged in; of several, the one that was mirrored
/// onto the longest time ago.
pub(crate) fn find(
    external: &External,
    crypttab: &Path,
    wanted: Option<&DriveChoice>,
    history: &History,
) -> Result<Target, anyhow::Error> {
    let candidates = known(external, crypttab, wanted)?;
    let all = known(external, crypttab, None)?;
    if let Some((target, other)) = same_disk(&all, &block::disks) {
        let is_one = mount::device_number(&target.device) == mount::device_number(&other.device);
        let text = format!(
            "the drives {} and {} are one and the same: {} and {} are {}; two green lights would be one copy",
            target.name,
            other.name,
            target.device.display(),
            other.device.display(),
            if is_one { "one device" } else { "on one disk" }
        );
        return Err(Stop::new(Exit::Config, text).into());
    }
    let present: Vec<_> = candidates.iter().filter(|target| target.device.exists()).collect();
    let runs = if present.len() > 1 { runs(history) } else { Vec::new() };
    if let Some(target) = present.iter().min_by_key(|target| last_success(&runs, target.name.as_str())) {
        Ok((**target).clone())
    } else {
        let devices: Vec<_> = candidates.iter().map(|target| target.device.display()).collect();
        let text = format!("no drive is plugged in; looked for {}", human::first_of(&devices, NAMED, " and "));
        Err(Stop::new(Exit::Absent, text).into())
    }
}

/// The drives that are known, or the one called `wanted`.
pub(crate) fn known(external: &External, crypttab: &Path, wanted: Option<&DriveChoice>) -> Result<Vec<Target>, Stop> {
    let mut known = drives::known(external, crypttab)?;
    let Some(wanted) = wanted else { return Ok(known) };
    let names: Vec<_> = known.iter().map(|target| target.name.to_string()).collect();
    known.retain(|target| target.is_called(wanted));
    if known.is_empty() {
        let text =
            format!("no drive \"{wanted}\" is configured, only {}; add it as [[external.drive]]", names.join(", "));
        return Err(Stop::new(Exit::Config, text));
    }
    Ok(known)
}

/// Two drives that are plugged in and lie on one disk, whatever their names lead through.
fn same_disk<'t>(targets: &'t [Target], disks: &dyn Fn(&Path) -> BTreeSet<String>) -> Option<(&'t Target, &'t Target)> {
    let all: Vec<_> = targets.iter().map(|target| (target, disks(&target.device))).collect();
    let twin = |at: usize| {
        let (target, own) = all.get(at)?;
        let twin = all.iter().take(at).find(|(_, other)| !other.is_disjoint(own))?;
        Some((twin.0, *target))
    };
    (0..all.len()).find_map(twin)
}

/// All mirrors; a history that cannot be read is no reason not to mirror.
pub(crate) fn runs(history: &History) -> Vec<Run> {
    history.read_of(crate::JOB).unwrap_or_else(|error| {
        log::warn!("{}", Chain(&error));
        Vec::new()
    })
}

/// The place of the drive's last good run among all runs: the history is in the order in which they ended, whatever the
/// clock said then.
fn last_success(runs: &[Run], drive: &str) -> Option<usize> {
    runs.iter().rposition(|run| run.job == crate::JOB && run.object == drive && run.exit == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use phobos_site::config::Config;
    use phobos_site::exit;
    use std::fs;

    /// A configuration with the plain drives A and B, of which those in `present` are plugged in.
    fn external(folder: &Path, present: &[&str]) -> External {
        for name in present {
            fs::write(folder.join(name), "").unwrap();
        }
        let drive =
            |name: &str| format!("[[external.drive]]\nname = '{name}'\ndevice = '{}/{name}'\n", folder.display());
        Config::parse(Path::new("test"), &(drive("A") + &drive("B"))).unwrap().external
    }

    fn found(folder: &Path, present: &[&str], wanted: Option<&str>) -> Result<String, (Exit, String)> {
        let history = History::new(&folder.join("history.jsonl"));
        let wanted = wanted.map(|wanted| wanted.parse().unwrap());
        let result = find(&external(folder, present), &folder.join("crypttab"), wanted.as_ref(), &history);
        result.map(|target| target.name.to_string()).map_err(|error| (exit::exit_of(error.as_ref()), error.to_string()))
    }

    #[test]
    fn the_drive_that_is_plugged_in_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let (exit, text) = found(folder.path(), &[], None).unwrap_err();
        assert_eq!(exit, Exit::Absent);
        assert!(text.starts_with("no drive is plugged in; looked for /") && !text.contains(" more"), "{text}");
        assert_eq!(found(folder.path(), &["B"], None).unwrap(), "B");
        assert_eq!(found(folder.path(), &["B"], Some("A")).unwrap_err().0, Exit::Absent);
        assert_eq!(found(folder.path(), &["B"], Some("C")).unwrap_err().0, Exit::Config);
    }

    #[test]
    fn one_device_by_two_names_is_one_drive() {
        let target = |name: &str| Target { name: name.parse().unwrap(), device: name.into(), luks: None };
        let targets = ["A", "B", "C", "by-id", "both"].map(target);
        let disks = |device: &Path| {
            let numbers: &[&str] = match device.to_str() {
                Some("A" | "by-id") => &["8:0"],
                Some("B") => &["8:16"],
                Some("both") => &["8:16", "8:32"],
                _ => &[],
            };
            numbers.iter().map(|number| (*number).to_owned()).collect()
        };
        let names = |two: (&Target, &Target)| (two.0.name.to_string(), two.1.name.to_string());
        assert_eq!(same_disk(&targets, &disks).map(names), Some(("A".to_owned(), "by-id".to_owned())));
        assert_eq!(same_disk(&targets[1..], &disks).map(names), Some(("B".to_owned(), "both".to_owned())));
        assert_eq!(same_disk(&targets[..3], &disks), None);
        assert_eq!(same_disk(&targets, &|_| BTreeSet::new()), None, "what is not plugged in is nothing");
    }

    #[test]
    fn of_two_drives_the_one_that_waited_longer_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let both = ["A", "B"];
        let history = History::new(&folder.path().join("history.jsonl"));
        let good = |object: &str, seconds: i64| {
            let time = DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds);
            history.append(&Run::new(crate::JOB, object, time)).unwrap();
        };
        good("A", 100);
        assert_eq!(found(folder.path(), &both, None).unwrap(), "B", "B was never mirrored onto");
        good("B", 200);
        assert_eq!(found(folder.path(), &both, None).unwrap(), "A");
        assert_eq!(found(folder.path(), &both, Some("B")).unwrap(), "B");
        // A clock that was a century ahead, or behind, does not make one drive the last for good.
        good("A", 4_000_000_000);
        good("B", 300);
        assert_eq!(found(folder.path(), &both, None).unwrap(), "A");
        good("A", -1);
        assert_eq!(found(folder.path(), &both, None).unwrap(), "B");
    }

    #[test]
    fn without_configured_drives_crypttab_says_which() {
        let folder = tempfile::tempdir().unwrap();
        let crypttab = folder.path().join("crypttab");
        let history = History::new(&folder.path().join("history.jsonl"));
        let external = External::default();
        let message = |text: &str| {
            fs::write(&crypttab, text).unwrap();
            let error = find(&external, &crypttab, None, &history).unwrap_err();
            (exit::exit_of(error.as_ref()), error.to_string())
        };
        assert_eq!(message("").0, Exit::Config);
        let (exit, text) = message("extbackup UUID=11111111-2222-3333-4444-555555555555 /k keyfile-size=all");
        assert_eq!(exit, Exit::Config);
        assert!(text.contains("keyfile-size=all"), "{text}");
        // Where systemd has opened it no key is asked for.
        assert_eq!(message("extbackup UUID=11111111-2222-3333-4444-555555555555 none luks").0, Exit::Absent);
        let (exit, text) = message("extbackup UUID=11111111-2222-3333-4444-555555555555 /root/k luks");
        assert_eq!(exit, Exit::Absent);
        assert!(text.contains("/dev/disk/by-uuid/11111111-2222-3333-4444-555555555555"), "{text}");
    }
}
