//! The persistent private mount namespace: the only place where the backup file system is mounted.
//!
//! The namespace is kept by a bind mount of its `nsfs` file, so that stock `nsenter --mount=FILE` works on it. The file
//! lies on a private mount, as the kernel demands. Everything is done by this process alone: it leaves PID 1's
//! namespace for a new one, prepares it, comes back, and binds it; a namespace is thus never seen half made.

mod carry;
mod error;
mod inspect;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns, unshare};
use nix::unistd::Pid;

use crate::exec::{Exec, Invocation};
use crate::fs::{Dir, Durability, make_private, replace};
use crate::lock::{Lock, LockError};
use crate::mount::{self as mounts, Entry};

pub use carry::bring;
pub use error::NamespaceError;
pub use inspect::{Inhabitant, Inventory, Mounted, Propagation, look, propagation, remove};

/// The magic number of the file system that namespaces are files of (linux/magic.h, `NSFS_MAGIC`).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// The step that the kernel sometimes refuses without cause (see [`make`]).
const BIND: &str = "bind the namespace to";

/// How often a namespace is made anew on each processor when the kernel refuses to bind it.
const BIND_ROUNDS: usize = 3;

/// Whether [`enter`] has found the namespace or made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// This process was in it already.
    Inside,
    /// It was there.
    Found,
    /// It was made.
    Made,
    /// This process stays in a namespace of its own and has the backup file system there.
    Carried,
}

/// The namespace that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The file that keeps it.
    pub file: &'a Path,
    /// The mount point of the backup file system.
    pub target: &'a Path,
    /// The table that says what is mounted there.
    pub fstab: &'a Path,
}

/// Brings this process into the namespace, with the backup file system mounted; makes what is missing.
///
/// To be called before any second thread runs. The working directory becomes `/`. `turn` takes the lock that all hold
/// for as long as they make the namespace or take it away.
///
/// # Errors
///
/// When this process is in another namespace than PID 1's or the wanted one, when the backup file system is mounted
/// outside or is not in fstab, when the namespace was made in a way that shows its mounts outside, or when the kernel or mount(8)
/// refuses. A namespace that could not be prepared is not kept.
pub fn enter(
    exec: &dyn Exec,
    plan: Plan<'_>,
    turn: impl FnOnce() -> Result<Lock, LockError>,
) -> Result<Entered, NamespaceError> {
    let _lock = turn()?;
    if is_inside(plan.file)? {
        refuse_shared(plan)?;
        mount_backup(exec, plan)?;
        return Ok(Entered::Inside);
    }
    if mounts::is_mount_point(plan.target)? {
        return Err(NamespaceError::MountedOutside { target: plan.target.to_owned() });
    }
    prepare_file(plan.file)?;
    if is_namespace(plan.file)? {
        match open(plan.file).and_then(|namespace| Ok(setns(namespace, CloneFlags::CLONE_NEWNS)?)) {
            Ok(()) => {
                refuse_shared(plan)?;
                mount_backup(exec, plan)?;
                return Ok(Entered::Found);
            }
            Err(error) => {
                log::warn!(
                    "{} keeps no mount namespace that can be entered ({error}); making it anew",
                    plan.file.display()
                );
                umount2(plan.file, MntFlags::MNT_DETACH).map_err(kernel("unmount", plan.file))?;
            }
        }
    }
    make(exec, plan)?;
    let made = made_file(plan.file);
    let host = Path::new("/proc/1/root").join(made.strip_prefix("/").unwrap_or(&made));
    let now = format!("{}\n", chrono::Utc::now().to_rfc3339());
    replace(&host, now.as_bytes(), 0o600, Durability::Loose).map_err(io_error("write", &made))?;
    Ok(Entered::Made)
}

/// Whether this process is in the namespace that `file` keeps; `false` means PID 1's.
///
/// # Errors
///
/// [`NamespaceError::Elsewhere`] in any other namespace.
pub fn is_inside(file: &Path) -> Result<bool, NamespaceError> {
    let identity = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    let own = Path::new("/proc/self/ns/mnt");
    let first = Path::new("/proc/1/ns/mnt");
    let here = identity(own).map_err(io_error("look at", own))?;
    if here == identity(first).map_err(hidden(first))? {
        return Ok(false);
    }
    // From inside, the file is a plain one: its mount exists in PID 1's namespace only.
    let outside = Path::new("/proc/1/root").join(file.strip_prefix("/").unwrap_or(file));
    match identity(&outside) {
        Ok(there) if there == here => Ok(true),
        _ => Err(NamespaceError::Elsewhere { file: file.to_owned() }),
    }
}

/// Why PID 1's namespace could not be looked at.
fn hidden(path: &Path) -> impl FnOnce(io::Error) -> NamespaceError {
    let path = path.to_owned();
    |source| match source.kind() {
        io::ErrorKind::PermissionDenied => NamespaceError::Hidden { path },
        _ => NamespaceError::Kernel { verb: "look at", path, source },
    }
}

/// Makes the folder of the namespace's file a private mount that only root can look into, and the file itself.
fn prepare_file(file: &Path) -> Result<(), NamespaceError> {
    let Some(folder) = file.parent() else {
        return Err(NamespaceError::NotAFile { file: file.to_owned() });
    };
    make_private(folder).map_err(io_error("make", folder))?;
    let closed = Dir::open(folder).and_then(|folder| folder.set_mode(0o700));
    closed.map_err(|error| io_error("close", folder)(error.into()))?;
    if is_namespace(file).unwrap_or(false) {
        // Whoever bound it has made its folder a private mount before.
        return Ok(());
    }
    let table = mounts::table()?;
    match mounts::at(&table, folder) {
        Some(entry) if !entry.propagates => {}
        Some(_) => set_propagation(folder, MsFlags::MS_PRIVATE)?,
        None => {
            mount(Some(folder), folder, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(kernel("bind", folder))?;
            set_propagation(folder, MsFlags::MS_PRIVATE)?;
        }
    }
    match fs::symlink_metadata(file) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(NamespaceError::NotAFile { file: file.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            replace(file, b"", 0o600, Durability::Loose).map_err(io_error("make", file))
        }
        Err(error) => Err(io_error("look at", file)(error)),
    }
}

/// Whether `file` keeps a namespace now, as far as this process may know.
pub fn exists(file: &Path) -> bool {
    // In another namespace than PID 1's, as a confined unit has, the file is a plain one.
    let outside = Path::new("/proc/1/root").join(file.strip_prefix("/").unwrap_or(file));
    [file, &outside].iter().any(|file| is_namespace(file).unwrap_or(false))
}

/// Whether `file` keeps a namespace, and is not just the plain file that is left after a reboot.
fn is_namespace(file: &Path) -> Result<bool, NamespaceError> {
    let kind = nix::sys::statfs::statfs(file).map_err(kernel("look at", file))?.filesystem_type().0;
    Ok(kind == NSFS_MAGIC)
}

/// Makes the namespace, binds it to its file, and enters it.
///
/// From Linux 6.18 on the kernel gives out the numbers of namespaces by processor, takes a namespace with a lower number
/// for an ancestor, and then refuses to bind it. In PID 1's own namespace this never happens. In a nested one, as a
/// container has, a namespace made on the processor where its parent was made has the higher number for certain.
fn make(exec: &dyn Exec, plan: Plan<'_>) -> Result<(), NamespaceError> {
    match try_make(exec, plan) {
        Err(NamespaceError::Kernel { verb: BIND, source, .. })
            if source.raw_os_error() == Some(Errno::EINVAL as i32) =>
        {
            let this = Pid::from_raw(0);
            let allowed = sched_getaffinity(this).map_err(kernel("ask for the processors of", plan.file))?;
            let made = on_each_processor(&allowed, || try_make(exec, plan));
            sched_setaffinity(this, &allowed).map_err(kernel("restore the processors of", plan.file))?;
            made
        }
        other => other,
    }
}

/// Calls `attempt` on one processor after the other until it succeeds.
fn on_each_processor(allowed: &CpuSet, attempt: impl Fn() -> Result<(), NamespaceError>) -> Result<(), NamespaceError> {
    let processors = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true));
    let mut rounds = processors.cycle().take(BIND_ROUNDS * CpuSet::count());
    loop {
        if let Some(cpu) = rounds.next() {
            let mut one = CpuSet::new();
            // A processor that has gone offline meanwhile is no reason to give up.
            if one.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &one)).is_err() {
                continue;
            }
            if attempt().is_ok() {
                return Ok(());
            }
        } else {
            return attempt();
        }
    }
}

fn try_make(exec: &dyn Exec, plan: Plan<'_>) -> Result<(), NamespaceError> {
    let own = Path::new("/proc/self/ns/mnt");
    let host = open(own).map_err(io_error("open", own))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(kernel("make a mount namespace for", plan.file))?;
    let prepared = prepare(exec, plan);
    let fresh = open(own).map_err(io_error("open", own));
    // Back in any case: a failure leaves the new namespace without a process, and so without existence.
    setns(&host, CloneFlags::CLONE_NEWNS).map_err(kernel("leave the namespace of", plan.file))?;
    prepared?;
    let fresh = fresh?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", fresh.as_raw_fd()));
    mount(Some(&source), plan.file, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(kernel(BIND, plan.file))?;
    setns(fresh, CloneFlags::CLONE_NEWNS).map_err(kernel("enter", plan.file))
}

/// Makes this process's new namespace what it should be.
fn prepare(exec: &dyn Exec, plan: Plan<'_>) -> Result<(), NamespaceError> {
    let table = mounts::table()?;
    // Slave: what the host unmounts vanishes here too and is not pinned; what is mounted or unmounted here stays here.
    // First of all, because until then an unmount here would be one of the host's.
    set_propagation(Path::new("/"), MsFlags::MS_SLAVE | MsFlags::MS_REC)?;
    for entry in pinned(&table, plan.target) {
        log::info!("{} is a private mount of the host; it is left out of the namespace", entry.target.display());
        umount2(&entry.target, MntFlags::MNT_DETACH).map_err(kernel("leave out", &entry.target))?;
    }
    mount_backup(exec, plan)
}

/// Mounts that would keep a disk busy after the host has unmounted it, because its unmount does not propagate to them.
///
/// On a machine whose root is not shared nothing propagates, and leaving all disks out would leave nothing to back up.
fn pinned<'t>(table: &'t [Entry], target: &Path) -> Vec<&'t Entry> {
    if !mounts::at(table, Path::new("/")).is_some_and(|root| root.propagates) {
        return Vec::new();
    }
    table
        .iter()
        .rev()
        .filter(|entry| !entry.propagates && entry.is_on_disk() && !target.starts_with(&entry.target))
        .collect()
}

/// Mounts the backup file system in this process's namespace, if it is not mounted.
fn mount_backup(exec: &dyn Exec, plan: Plan<'_>) -> Result<(), NamespaceError> {
    if mounts::is_mount_point(plan.target)? {
        let target = plan.target;
        return if mounts::has_disk(target) { Ok(()) } else { Err(NamespaceError::Lost { target: target.to_owned() }) };
    }
    if mounts::fstab_entry(plan.fstab, plan.target)?.is_none() {
        return Err(NamespaceError::NotInFstab { target: plan.target.to_owned(), fstab: plan.fstab.to_owned() });
    }
    let call = Invocation::new("mount").arg("--fstab").arg(plan.fstab).arg("--target").arg(plan.target);
    match exec.run(&call) {
        Ok(_) => Ok(()),
        Err(source) => Err(NamespaceError::Mount { target: plan.target.to_owned(), source }),
    }
}

/// Refuses a namespace from which what is mounted would be seen outside, which this process is in.
fn refuse_shared(plan: Plan<'_>) -> Result<(), NamespaceError> {
    let (inside, outside) = (mounts::table()?, mounts::table_of(Path::new("/proc/1/mountinfo"))?);
    // What is mounted shows in every mount of the group that the one below it belongs to, wherever that is.
    let below = inside.iter().filter(|entry| plan.target.starts_with(&entry.target));
    let below = below.max_by_key(|entry| entry.target.components().count());
    let peers = below.and_then(|entry| entry.peers.as_ref());
    if peers.is_some() && outside.iter().any(|entry| entry.peers.as_ref() == peers) {
        return Err(NamespaceError::Shared { file: plan.file.to_owned(), target: plan.target.to_owned() });
    }
    Ok(())
}

/// The file beside the namespace's own that says when the namespace was made.
fn made_file(file: &Path) -> PathBuf {
    file.with_extension("made")
}

fn set_propagation(target: &Path, flags: MsFlags) -> Result<(), NamespaceError> {
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(kernel("set the propagation of", target))
}

fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

fn kernel(verb: &'static str, path: &Path) -> impl FnOnce(Errno) -> NamespaceError {
    let path = path.to_owned();
    move |errno| NamespaceError::Kernel { verb, path, source: errno.into() }
}

fn io_error(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NamespaceError {
    let path = path.to_owned();
    move |source| NamespaceError::Kernel { verb, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: &str, target: &str, propagates: bool) -> Entry {
        Entry {
            number: number.to_owned(),
            root: "/".into(),
            target: target.into(),
            propagates,
            peers: None,
            kind: if number.starts_with("0:") { "tmpfs" } else { "ext4" }.to_owned(),
            source: if number.starts_with("0:") { "tmpfs" } else { "/dev/x" }.into(),
        }
    }

    #[test]
    fn only_private_disks_of_a_shared_machine_are_left_out() {
        let shared = [
            entry("254:0", "/", true),
            entry("254:1", "/home", true),
            entry("253:0", "/media/ipod", false),
            entry("0:40", "/run/backups/ns", false),
            entry("254:3", "/srv", false),
        ];
        let targets = |table: &[Entry], target: &str| -> Vec<String> {
            pinned(table, Path::new(target)).iter().map(|entry| entry.target.display().to_string()).collect()
        };
        assert_eq!(targets(&shared, "/backup"), ["/srv", "/media/ipod"]);
        assert_eq!(targets(&shared, "/srv/backup"), ["/media/ipod"]);
        // Btrfs has a number of its own.
        let btrfs = |number| Entry { kind: "btrfs".to_owned(), ..entry(number, "/media/films", false) };
        assert_eq!(targets(&[entry("254:0", "/", true), btrfs("0:78")], "/backup"), ["/media/films"]);
        let private = [entry("254:0", "/", false), entry("254:1", "/home", false)];
        assert!(targets(&private, "/backup").is_empty());
    }
}
