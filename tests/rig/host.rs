//! The development machine: programs that the rig needs on it, folders, locks.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};
use phobos_core::exec::{self, Exec, ExecError, Invocation, System};

/// The programs of the development machine that the rig needs, with the packages that bring them.
const PROGRAMS: [(&str, &str); 8] = [
    ("borg", "borgbackup"),
    ("mmdebstrap", "mmdebstrap"),
    ("mkfs.ext4", "e2fsprogs"),
    ("pip3", "python3-pip"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("setpriv", "util-linux"),
    ("systemd-nspawn", "systemd-container"),
];

/// Says what the rig lacks on this machine.
///
/// # Errors
///
/// When it lacks anything; the message names it all.
pub(crate) fn require() -> Result<()> {
    let mut packages: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| exec::find(Path::new(program)).is_none())
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if !packages.is_empty() {
        bail!("the rig needs packages that are not installed: {}; run `cargo xtask setup`", packages.join(" "));
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("the rig needs root: it builds a Debian system with device nodes and owners of its own");
    }
    Ok(())
}

/// Runs `call` for at most `limit` and returns what it wrote to its standard output.
pub(crate) fn run(call: Invocation, limit: Duration) -> Result<String> {
    Ok(System::default().run(&call.limit(limit))?.text())
}

/// Runs `call`, which runs `script` at the place that `place` names, and returns what it wrote to its standard output.
pub(crate) fn shell(call: &Invocation, place: &str, script: &str) -> Result<String> {
    match System::default().run(call) {
        Ok(finished) => Ok(finished.text()),
        Err(ExecError::Failed { status, stderr, .. }) => {
            Err(anyhow!("{place}, `{}` {status}: {}", script.trim(), stderr.trim()))
        }
        Err(ExecError::TimedOut { limit, .. }) => {
            bail!("{place}, `{}` took longer than {} s", script.trim(), limit.as_secs())
        }
        Err(error) => Err(error.into()),
    }
}

/// The workspace's root folder.
pub(crate) fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// The folder that Cargo builds into.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The rig's own folder: images, and the running machines' disks.
///
/// # Errors
///
/// When it cannot be made.
pub(crate) fn folder() -> Result<PathBuf> {
    let folder = std::env::var_os("PHOBOS_RIG_DIR").map_or_else(|| target().join("rig-machine"), PathBuf::from);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Waits for the lock `path` and holds it until dropped.
pub(crate) fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("cannot lock {}", path.display()))
}

/// Takes the lock `path` if it is free.
pub(crate) fn try_lock(path: &Path) -> Result<Option<Flock<File>>> {
    let file = File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::Error::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Removes a folder that may not be there.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Copies `from` to `to`, leaving holes as holes.
pub(crate) fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let call = Invocation::new("cp").args(["--sparse=always", "--reflink=auto", "--"]).arg(from).arg(to);
    run(call, Duration::from_secs(120)).map(drop)
}
