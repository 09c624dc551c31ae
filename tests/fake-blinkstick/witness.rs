//! How the machine's drives stand: what is mapped, what is mounted in any mount namespace, what holds a drive.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use phobos_core::exec::{Exec, Invocation, System};
use serde_json::{Value, json};

/// Looks at mappings, mounts and holders in this moment.
pub(crate) fn look() -> Value {
    json!({ "mappings": mappings(), "mounts": mounts(), "holders": holders() })
}

/// The names of the device-mapper mappings.
fn mappings() -> Vec<String> {
    entries("/sys/class/block")
        .iter()
        .filter_map(|device| fs::read_to_string(device.join("dm/name")).ok())
        .map(|name| name.trim().to_owned())
        .collect()
}

/// What is stacked on the machine's USB drives.
fn holders() -> Vec<String> {
    entries("/sys/class/block")
        .iter()
        .filter(|device| name(device).starts_with("sd"))
        .flat_map(|device| {
            entries(device.join("holders")).into_iter().map(|holder| format!("{} {}", name(device), name(&holder)))
        })
        .collect()
}

/// What is mounted from mappings and USB drives: in the namespaces of all processes, and in those that a file keeps alive.
fn mounts() -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut found = BTreeSet::new();
    for process in entries("/proc") {
        // A process may end at any moment.
        let Ok(namespace) = fs::read_link(process.join("ns/mnt")) else { continue };
        if seen.insert(namespace) {
            found.extend(drives_in(&fs::read_to_string(process.join("mountinfo")).unwrap_or_default()));
        }
    }
    for file in kept_namespaces(&fs::read_to_string("/proc/1/mountinfo").unwrap_or_default()) {
        let call = Invocation::new("nsenter").arg(format!("--mount={file}")).args(["cat", "/proc/self/mountinfo"]);
        match System::default().run(&call) {
            Ok(finished) => found.extend(drives_in(&finished.text())),
            Err(error) => drop(found.insert(format!("unknown {file} ({error})"))),
        }
    }
    found
}

/// The files in a mount table that mount namespaces are bound to.
fn kept_namespaces(mountinfo: &str) -> Vec<String> {
    mountinfo
        .lines()
        .filter(|line| line.contains(" - nsfs "))
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(3);
            let is_mount = fields.next()?.starts_with("mnt:[");
            is_mount.then(|| fields.next().map(str::to_owned)).flatten()
        })
        .collect()
}

/// `SOURCE TARGET` of the lines of a mount table that are about mappings and USB drives.
fn drives_in(mountinfo: &str) -> Vec<String> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            let target = mount.split(' ').nth(4)?;
            let source = source.split(' ').nth(1)?;
            let is_drive = ["/dev/mapper/", "/dev/dm-", "/dev/sd"].iter().any(|prefix| source.starts_with(prefix));
            is_drive.then(|| format!("{source} {target}"))
        })
        .collect()
}

fn entries(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_and_namespaces_are_found() {
        let table = "24 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n\
                     90 24 0:4 mnt:[4026532300] /run/phobos/ns/backup rw - nsfs nsfs rw\n\
                     91 24 0:4 net:[4026532301] /run/netns/x rw - nsfs nsfs rw\n\
                     92 24 253:0 / /extbackup rw,noatime - ext4 /dev/mapper/extbackup rw\n";
        assert_eq!(kept_namespaces(table), ["/run/phobos/ns/backup"]);
        assert_eq!(drives_in(table), ["/dev/mapper/extbackup /extbackup"]);
    }
}
