//! Who uses a file system or a device: processes, in words that say how to find them.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::table_of;
use crate::systemd;

/// How many processes a message names.
const NAMED: usize = 5;

/// How much of a command line a message shows, in characters.
const COMMAND: usize = 60;

/// A process that uses a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    pid: u32,
    command: String,
    unit: Option<String>,
    /// The number of its mount namespace, as `lsns` shows it, where that is not this process's.
    namespace: Option<u64>,
    /// Where it sees the file system mounted, where it has no file of it open.
    target: Option<PathBuf>,
}

/// The processes with an open file, a working directory or a root below `target`, in words.
pub(super) fn of_files(target: &Path) -> String {
    let is_user = |process: &Path| {
        let links = ["cwd", "root", "exe"].map(|name| process.join(name));
        let files = fs::read_dir(process.join("fd")).map(|files| files.flatten().map(|file| file.path()).collect());
        let files: Vec<PathBuf> = files.unwrap_or_default();
        links.iter().chain(&files).any(|link| fs::read_link(link).is_ok_and(|path| path.starts_with(target)))
    };
    let users = pids().into_iter().filter(|pid| is_user(&folder(*pid))).map(|pid| User::of(pid, None));
    words(&users.collect::<Vec<_>>(), "no process that can be seen")
}

/// The other processes that see the device `number` mounted, in words: one for each mount namespace.
pub(super) fn of_device(number: &str) -> String {
    let mut namespaces = Vec::new();
    let mut users = Vec::new();
    for pid in pids().into_iter().filter(|pid| *pid != std::process::id()) {
        let namespace = namespace(pid);
        if namespaces.contains(&namespace) {
            continue;
        }
        let table = table_of(&folder(pid).join("mountinfo")).unwrap_or_default();
        if let Some(entry) = table.iter().find(|entry| entry.is_on(number)) {
            namespaces.push(namespace);
            users.push(User::of(pid, Some(entry.target.clone())));
        }
    }
    words(&users, "nobody that can be seen")
}

fn words(users: &[User], nobody: &str) -> String {
    if users.is_empty() {
        return nobody.to_owned();
    }
    crate::human::first_of(users, NAMED, ", ")
}

fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<u32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

fn folder(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

fn namespace(pid: u32) -> Option<u64> {
    fs::metadata(folder(pid).join("ns/mnt")).ok().map(|metadata| metadata.ino())
}

impl User {
    fn of(pid: u32, target: Option<PathBuf>) -> Self {
        let read = |name: &str| fs::read(folder(pid).join(name)).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).trim_end_matches('\0').replace('\0', " ");
        // A thread of the kernel, or a process that has ended, has no command line.
        let line = if line.is_empty() { String::from_utf8_lossy(&read("comm")).trim().to_owned() } else { line };
        let command = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(COMMAND).collect();
        let own = namespace(std::process::id());
        let namespace = namespace(pid).filter(|namespace| Some(*namespace) != own);
        Self { pid, command, unit: systemd::unit_of(pid), namespace, target }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (pid {}", self.command, self.pid)?;
        self.unit.as_ref().map_or(Ok(()), |unit| write!(f, ", {unit}"))?;
        self.namespace.map_or(Ok(()), |number| write!(f, ", mount namespace {number}"))?;
        f.write_str(")")?;
        self.target.as_ref().map_or(Ok(()), |target| write!(f, " at {}", target.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_file_open_is_named_with_all_that_helps_to_find_them() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of_files(folder.path()), "no process that can be seen");
        let file = fs::File::create(folder.path().join("file")).unwrap();
        let said = of_files(folder.path());
        assert!(said.contains(&format!("(pid {}", std::process::id())) && !said.contains("mount namespace"), "{said}");
        drop(file);
        assert_eq!(of_device("254:4711"), "nobody that can be seen");
    }

    #[test]
    fn a_process_elsewhere_is_told_with_its_unit_and_its_namespace() {
        let user = User {
            pid: 12,
            command: "sleep 300".to_owned(),
            unit: Some("nap.service".to_owned()),
            namespace: Some(4_026_532_000),
            target: Some("/mnt".into()),
        };
        assert_eq!(user.to_string(), "`sleep 300` (pid 12, nap.service, mount namespace 4026532000) at /mnt");
        let bare = User { unit: None, namespace: None, target: None, ..user };
        assert_eq!(bare.to_string(), "`sleep 300` (pid 12)");
    }
}
