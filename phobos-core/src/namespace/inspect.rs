//! What is in the namespace, and how it is taken away.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use serde::Serialize;

use super::carry::carriers;
use super::{NamespaceError, Plan, io_error, is_inside, is_namespace, kernel, made_file, open};
use crate::exec::Exec;
use crate::mount::{self as mounts, Entry};
use crate::systemd;
use crate::teardown::{self, TeardownError};

/// The namespace as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// When it was made, where that is known.
    pub since: Option<DateTime<Utc>>,
    /// What is mounted in it and not outside.
    pub mounts: Vec<Mounted>,
    /// Disks that it keeps busy although the host has unmounted them.
    pub pins: Vec<Mounted>,
    /// The processes in it, this one left out.
    pub processes: Vec<Inhabitant>,
}

/// A mounted file system, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mounted {
    /// What is mounted.
    pub source: PathBuf,
    /// Where.
    pub target: PathBuf,
}

/// A process in the namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inhabitant {
    /// Its id.
    pub pid: u32,
    /// Its command line, cut short.
    pub command: String,
    /// The systemd unit that it belongs to.
    pub unit: Option<String>,
}

/// Mounts of a namespace that are not slaves of the host's, as phobos makes them; none in one that phobos has made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Propagation {
    /// Those that do not follow the host's: what it mounts there is not seen, and what it unmounts stays busy.
    pub deaf: Vec<PathBuf>,
    /// Those that the host follows: what is mounted there is seen by everybody.
    pub shared: Vec<PathBuf>,
}

/// Tells how mounts and unmounts propagate between a namespace and the host's, by what is mounted in each. What does not propagate
/// on the host, such as all of a machine whose root is private, need not do so in the namespace.
pub fn propagation(inside: &[Entry], outside: &[Entry]) -> Propagation {
    let mut found = Propagation::default();
    for theirs in outside.iter().filter(|entry| entry.propagates) {
        let is_same = |entry: &&Entry| entry.target == theirs.target && entry.number == theirs.number;
        let mut ours = inside.iter().filter(is_same).peekable();
        if ours.peek().is_none() {
            continue;
        }
        if ours.clone().any(|entry| entry.peers.is_some() && entry.peers == theirs.peers) {
            found.shared.push(theirs.target.clone());
        } else if !ours.any(|entry| entry.propagates) {
            found.deaf.push(theirs.target.clone());
        }
    }
    found
}

/// Looks into the namespace; `None` if there is none. This process is in it afterwards.
///
/// # Errors
///
/// When this process is in another namespace than PID 1's or the wanted one, or when the kernel refuses.
pub fn look(plan: Plan<'_>) -> Result<Option<Inventory>, NamespaceError> {
    let outside = mounts::table_of(Path::new("/proc/1/mountinfo"))?;
    if !is_inside(plan.file)? {
        if !plan.file.exists() || !is_namespace(plan.file)? {
            return Ok(None);
        }
        let namespace = open(plan.file).map_err(io_error("open", plan.file))?;
        setns(namespace, CloneFlags::CLONE_NEWNS).map_err(kernel("enter", plan.file))?;
    }
    let inside = mounts::table()?;
    let since = fs::read_to_string(Path::new("/proc/1/root").join(relative(&made_file(plan.file)))).ok();
    Ok(Some(Inventory {
        since: since.and_then(|text| text.trim().parse().ok()),
        mounts: only_inside(&inside, &outside),
        pins: pins(&inside, &outside, plan.target),
        processes: inhabitants(plan.target, &inside)?,
    }))
}

/// Unmounts the backup file system and takes the namespace away; `false` if there was none.
///
/// To be called with the namespace's lock held.
///
/// # Errors
///
/// [`NamespaceError::Inhabited`] when processes are in it, or when something stays mounted: the namespace is then as it was.
pub fn remove(exec: &dyn Exec, plan: Plan<'_>) -> Result<bool, TeardownError> {
    let failed = TeardownError::of;
    if is_inside(plan.file).map_err(failed)? {
        return Err(failed(NamespaceError::Within));
    }
    if !plan.file.exists() || !is_namespace(plan.file).map_err(failed)? {
        return Ok(false);
    }
    let own = Path::new("/proc/self/ns/mnt");
    let host = open(own).map_err(io_error("open", own)).map_err(failed)?;
    let inventory = look(plan).map_err(failed)?;
    let emptied = empty(exec, inventory);
    let back = setns(host, CloneFlags::CLONE_NEWNS).map_err(kernel("leave the namespace of", plan.file));
    teardown::join(emptied, back)?;
    umount2(plan.file, MntFlags::empty()).map_err(kernel("unmount", plan.file)).map_err(failed)?;
    for file in [plan.file.to_owned(), made_file(plan.file)] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(io_error("remove", &file)(error)));
            }
            _ => {}
        }
    }
    Ok(true)
}

/// Unmounts what only the namespace has, from within it.
fn empty(exec: &dyn Exec, inventory: Option<Inventory>) -> Result<(), TeardownError> {
    let Some(inventory) = inventory else { return Ok(()) };
    if !inventory.processes.is_empty() {
        return Err(TeardownError::of(NamespaceError::Inhabited { processes: inventory.processes }));
    }
    inventory
        .mounts
        .iter()
        .rev()
        .try_for_each(|mounted| mounts::unmount(exec, &mounted.target).map_err(TeardownError::of))
}

fn only_inside(inside: &[Entry], outside: &[Entry]) -> Vec<Mounted> {
    let is_outside =
        |entry: &&Entry| outside.iter().any(|other| other.target == entry.target && other.number == entry.number);
    inside.iter().filter(|entry| !is_outside(entry)).map(Mounted::from).collect()
}

fn pins(inside: &[Entry], outside: &[Entry], target: &Path) -> Vec<Mounted> {
    let is_gone = |entry: &&Entry| !outside.iter().any(|other| other.number == entry.number);
    inside
        .iter()
        .filter(|entry| entry.is_on_disk())
        .filter(is_gone)
        .filter(|entry| entry.target != target)
        .map(Mounted::from)
        .collect()
}

/// The processes in this process's mount namespace, and those that have its backup file system in one of their own.
fn inhabitants(target: &Path, inside: &[Entry]) -> Result<Vec<Inhabitant>, NamespaceError> {
    let identity = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    let own = Path::new("/proc/self/ns/mnt");
    let here = identity(own).map_err(io_error("look at", own))?;
    let proc = Path::new("/proc");
    let entries = fs::read_dir(proc).map_err(io_error("read", proc))?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let others = pids.filter(|pid| *pid != std::process::id());
    let carriers = mounts::at(inside, target).map(|backup| carriers(&backup.number, target)).transpose()?;
    Ok(others
        .filter(|pid| identity(&proc.join(pid.to_string()).join("ns/mnt")).is_ok_and(|there| there == here))
        .chain(carriers.unwrap_or_default())
        .map(Inhabitant::of)
        .collect())
}

impl Inhabitant {
    fn of(pid: u32) -> Self {
        let folder = Path::new("/proc").join(pid.to_string());
        let command = fs::read(folder.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
        Self { pid, command: command.chars().take(120).collect(), unit: systemd::unit_of(pid) }
    }
}

impl std::fmt::Display for Inhabitant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` (pid {}", self.command, self.pid)?;
        self.unit.as_ref().map_or(Ok(()), |unit| write!(f, ", {unit}"))?;
        f.write_str(")")
    }
}

impl From<&Entry> for Mounted {
    fn from(entry: &Entry) -> Self {
        Self { source: entry.source.clone(), target: entry.target.clone() }
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: &str, target: &str) -> Entry {
        let kind = if number.starts_with("0:") { "tmpfs" } else { "ext4" };
        let (root, kind) = ("/".into(), kind.to_owned());
        Entry {
            number: number.to_owned(),
            root,
            target: target.into(),
            propagates: true,
            peers: None,
            kind,
            source: if number.starts_with("0:") { "tmpfs" } else { "/dev/x" }.into(),
        }
    }

    #[test]
    fn mounts_and_pins_are_told_apart() {
        let outside = [entry("8:1", "/"), entry("0:5", "/run")];
        let inside = [entry("8:1", "/"), entry("0:5", "/run"), entry("8:2", "/backup"), entry("8:3", "/media/ipod")];
        let targets = |mounts: Vec<Mounted>| mounts.into_iter().map(|mount| mount.target).collect::<Vec<_>>();
        assert_eq!(targets(only_inside(&inside, &outside)), [Path::new("/backup"), Path::new("/media/ipod")]);
        assert_eq!(targets(pins(&inside, &outside, Path::new("/backup"))), [Path::new("/media/ipod")]);
        // Btrfs has a number of its own, and keeps its disk busy as the others do.
        let films = Entry { kind: "btrfs".to_owned(), source: "/dev/sdc1".into(), ..entry("0:78", "/media/films") };
        assert_eq!(targets(pins(&[films], &outside, Path::new("/backup"))), [Path::new("/media/films")]);
    }

    #[test]
    fn only_a_slave_of_the_host_is_what_phobos_makes() {
        let of = |tags: &str| {
            let line =
                |number: &str, target: &str, tags: &str| format!("22 1 {number} / {target} rw{tags} - ext4 x rw\n");
            let text = line("8:1", "/", tags) + &line("0:5", "/run", tags) + &line("0:40", "/run/backups/ns", "");
            mounts::parse(&text).unwrap()
        };
        let told = |inside: &[Entry], outside: &[Entry]| {
            let Propagation { deaf, shared } = propagation(inside, outside);
            (deaf.len(), shared.len(), deaf.into_iter().chain(shared).next())
        };
        let (host, root) = (of(" shared:7"), Some(PathBuf::from("/")));
        assert_eq!(told(&of(" master:7"), &host), (0, 0, None));
        assert_eq!(told(&of(" shared:9 master:7"), &host), (0, 0, None), "a group of its own");
        assert_eq!(told(&of(""), &host), (2, 0, root.clone()));
        assert_eq!(told(&host, &host), (0, 2, root));
        // A machine on which nothing propagates, as a container may be, and what is mounted on one side alone.
        assert_eq!(told(&of(""), &of("")), (0, 0, None));
        assert_eq!(told(&[], &host), (0, 0, None));
        assert_eq!(told(&of(""), &[]), (0, 0, None));
    }
}
