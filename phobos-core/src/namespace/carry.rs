//! The backup file system in a process's own mount namespace: what systemd confines stays confined.
//!
//! A service with `ProtectSystem=` and its like runs in a mount namespace that is its own. Entering the backups' one would
//! leave all of that behind. So the backup file system is fetched from there instead: a copy of its mount, made in the backups'
//! namespace and attached here. It is seen by this process and those it starts, and is gone with the last of them.

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{Entered, NamespaceError, Plan, enter, io_error, is_inside, kernel, open, set_propagation};
use crate::exec::Exec;
use crate::lock::{Lock, LockError};
use crate::mount as mounts;

/// Brings this process to the backup file system: as [`enter`], but a process in a mount namespace of its own stays there and
/// gets the backup file system mounted in it.
///
/// To be called before any second thread runs. The working directory becomes `/`.
///
/// # Errors
///
/// As for [`enter`]; where this process cannot come back, it is in the backups' namespace or in PID 1's and should end.
pub fn bring(
    exec: &dyn Exec,
    plan: Plan<'_>,
    turn: impl FnOnce() -> Result<Lock, LockError>,
) -> Result<Entered, NamespaceError> {
    match is_inside(plan.file) {
        Err(NamespaceError::Elsewhere { .. }) => {}
        _ => return enter(exec, plan, turn),
    }
    let (own, first) = (Path::new("/proc/self/ns/mnt"), Path::new("/proc/1/ns/mnt"));
    let home = open(own).map_err(io_error("open", own))?;
    let host = open(first).map_err(io_error("open", first))?;
    setns(host, CloneFlags::CLONE_NEWNS).map_err(kernel("enter", first))?;
    let copied = enter(exec, plan, turn).and_then(|_| {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let copy = open_tree(CWD, plan.target, flags);
        Ok((copy.map_err(|error| io_error("copy the mount of", plan.target)(error.into()))?, number(plan.target)?))
    });
    // Back in any case, where this process may do less.
    setns(home, CloneFlags::CLONE_NEWNS).map_err(kernel("go back to", own))?;
    let (copy, backup) = copied?;
    match number(plan.target)? {
        // Whoever started this process has brought it already.
        Some(there) if Some(&there) == backup.as_ref() => return Ok(Entered::Carried),
        Some(_) => return Err(NamespaceError::MountedOutside { target: plan.target.to_owned() }),
        None => {}
    }
    // What is mounted here must reach nobody else.
    set_propagation(Path::new("/"), MsFlags::MS_SLAVE | MsFlags::MS_REC)?;
    move_mount(&copy, Path::new(""), CWD, plan.target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| io_error("attach the mount of", plan.target)(error.into()))?;
    Ok(Entered::Carried)
}

/// The device number of what is mounted at `target`, as this process sees it.
fn number(target: &Path) -> Result<Option<String>, NamespaceError> {
    Ok(mounts::at(&mounts::table()?, target).map(|entry| entry.number.clone()))
}

/// The processes that have the file system with this device number at `target` in another mount namespace than this process's
/// and PID 1's.
pub(super) fn carriers(number: &str, target: &Path) -> Result<Vec<u32>, NamespaceError> {
    let identity = |pid: &str| std::fs::read_link(Path::new("/proc").join(pid).join("ns/mnt")).ok();
    let known = [identity("self"), identity("1")];
    let proc = PathBuf::from("/proc");
    let mut looked_at: Vec<(PathBuf, bool)> = Vec::new();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&proc).map_err(io_error("read", &proc))?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that has ended meanwhile carries nothing.
        let Some(namespace) = identity(&pid.to_string()) else { continue };
        if known.contains(&Some(namespace.clone())) {
            continue;
        }
        let before = looked_at.iter().find(|(other, _)| *other == namespace).map(|(_, carries)| *carries);
        let carries = before.unwrap_or_else(|| {
            let table = mounts::table_of(&entry.path().join("mountinfo")).unwrap_or_default();
            let carries = mounts::at(&table, target).is_some_and(|entry| entry.number == number);
            looked_at.push((namespace, carries));
            carries
        });
        if carries {
            found.push(pid);
        }
    }
    Ok(found)
}
