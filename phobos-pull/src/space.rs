//! The holding space of a host, and the user of its own that what the host sends belongs to.
//!
//! Each space has another owner, so that a receiver that was taken over can do nothing to the next host's files, whatever
//! the kernel knows of confinement. Who owns a space is its own record: there is no list that could be lost.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::unistd::{Uid, User};
use phobos_core::fs::Dir;
use phobos_core::sandbox;
use phobos_site::exit::{Exit, Stop};
use phobos_site::pull::Host;
use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, chownat, fchmod, fchown, flock, mkdirat, statat};

use crate::allowed::USER;
use crate::parts::Scratch;
use crate::scope::Scope;
use crate::walk::{self, Step};

/// How many hosts can have a user of their own; the number after theirs is that of checks.
pub(crate) const HOSTS: u32 = 999;

/// The permissions of a space.
const MODE: Mode = Mode::RWXU;

/// The permissions of the folder in which rsync makes files.
const TEMPORARY_MODE: u32 = 0o700;

/// A holding space that is there and its owner's alone.
#[derive(Debug)]
pub(crate) struct Space {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its owner; 0 for a host that is this machine.
    pub(crate) owner: u32,
}

/// Makes the space of `host` in `holding` if it is not there, and gives it and all in it to the host's own user.
///
/// # Errors
///
/// If it belongs to somebody who has nothing to do with pulls, or cannot be made or given.
pub(crate) fn prepare(holding: &Path, host: &Host, base: u32, scope: Scope) -> Result<Space, anyhow::Error> {
    let path = holding.join(host.name.as_str());
    // Who comes later chooses a user when this one has chosen. Only root can open the folder.
    let folder = walk::open(holding).with_context(|| format!("cannot open {}", holding.display()))?;
    flock(&folder, FlockOperation::LockExclusive).with_context(|| format!("cannot lock {}", holding.display()))?;
    let range = base..base.saturating_add(HOSTS);
    let found = match statat(&folder, host.name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) if !rustix::fs::FileType::from_raw_mode(status.st_mode).is_dir() => {
            let text = format!("{} is not a folder; move it away", path.display());
            return Err(Stop::new(Exit::Refused, text).into());
        }
        Ok(status) => Some(status.st_uid),
        Err(rustix::io::Errno::NOENT) => None,
        Err(error) => {
            return Err(
                anyhow::Error::new(io::Error::from(error)).context(format!("cannot look at {}", path.display()))
            );
        }
    };
    if found.is_none() && scope == Scope::DryRun {
        return Err(Stop::new(Exit::Absent, "it has no holding space yet; the first pull makes it").into());
    }
    let shared = if host.is_local() { 0 } else { sandbox::find_user(USER)?.uid.as_raw() };
    let others = owners(holding, host.name.as_str()).with_context(|| format!("cannot read {}", holding.display()))?;
    let owner = match found {
        _ if host.is_local() => 0,
        Some(owner) if range.contains(&owner) && !others.contains(&owner) => owner,
        _ => free(range.clone(), &others)?,
    };
    match found {
        None => make(&folder, host.name.as_str(), owner).with_context(|| format!("cannot make {}", path.display()))?,
        Some(now) if now == owner => {}
        // A dry run reads it as the one that it belongs to so far.
        Some(now) if scope == Scope::DryRun && now == shared => return Ok(Space { path, owner: now }),
        Some(now) if now == shared || range.contains(&now) => {
            give(&path, now, owner).with_context(|| format!("cannot give {} to the user {owner}", path.display()))?;
            log::info!("{}: its holding space belongs to a user of its own from now on, {owner}", host.name);
        }
        Some(_) => {
            let name = if host.is_local() { "root" } else { USER };
            let text = format!(
                "{0} does not belong to {name}; give it over with `phobos-ns exec -- chown -hR {name}: {0}`",
                path.display()
            );
            return Err(Stop::new(Exit::Config, text).into());
        }
    }
    Ok(Space { path, owner })
}

/// The user that checks run as: one that owns no space, wherever those of the hosts begin.
pub(crate) fn user_of_checks(base: u32) -> u32 {
    base.saturating_add(HOSTS)
}

/// Who owns the spaces of the other hosts.
fn owners(holding: &Path, name: &str) -> io::Result<BTreeSet<u32>> {
    let mut owners = BTreeSet::new();
    for entry in fs::read_dir(holding)? {
        let entry = entry?;
        if entry.file_name() != name {
            owners.insert(entry.metadata()?.uid());
        }
    }
    Ok(owners)
}

/// The first number that neither a space nor a user of the system has.
fn free(range: Range<u32>, taken: &BTreeSet<u32>) -> Result<u32, anyhow::Error> {
    let is_free = |id: &u32| !taken.contains(id) && matches!(User::from_uid(Uid::from_raw(*id)), Ok(None));
    let all = format!("no user is free from {} to {}; set another `uid-base`", range.start, range.end);
    range.into_iter().find(is_free).ok_or_else(|| Stop::new(Exit::Config, all).into())
}

fn make(holding: &OwnedFd, name: &str, owner: u32) -> io::Result<()> {
    mkdirat(holding, name, MODE)?;
    let space = rustix::fs::openat(
        holding,
        name,
        rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    fchown(&space, Some(rustix::fs::Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
    // Whatever the umask.
    Ok(fchmod(&space, MODE)?)
}

/// Gives what belongs to `from` in the space to `to`, the space itself last: one that is cut off begins anew.
fn give(space: &Path, from: u32, to: u32) -> io::Result<()> {
    let top = walk::open(space)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(to), Gid::from_raw(to));
    walk::through(top.try_clone()?, &mut |folder, name, _| {
        // What is somebody else's, such as a hard link from outside, stays so.
        if statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_uid == from {
            chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(Step::In)
    })?;
    fchown(&top, Some(uid), Some(gid))?;
    Ok(fchmod(&top, MODE)?)
}

/// The folder in which rsync makes files: what a killed one leaves there is not taken for the host's.
#[derive(Debug)]
pub(crate) struct Temporary(Option<PathBuf>);

impl Temporary {
    /// Makes it anew, for the owner of `space`.
    pub(crate) fn make(space: &Path, scratch: &Scratch, scope: Scope) -> Result<Self, anyhow::Error> {
        if scope == Scope::DryRun {
            return Ok(Self(None));
        }
        let temporary = Self(Some(space.join(scratch.temporary())));
        temporary.clear()?;
        let make = || -> io::Result<()> {
            let space = Dir::open(space)?;
            let owner = space.stat_self()?;
            // Never of what a link leads to, should the host have put one there.
            let made = space.make_dir(scratch.temporary().as_ref(), TEMPORARY_MODE)?;
            Ok(fchown(&made, Some(rustix::fs::Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?)
        };
        if let Some(folder) = &temporary.0 {
            make().with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(temporary)
    }

    fn clear(&self) -> Result<(), anyhow::Error> {
        let Some(folder) = &self.0 else { return Ok(()) };
        // Nobody else works here while the host's lock is held.
        let remove = || -> io::Result<()> {
            let (Some(space), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(()) };
            walk::remove(walk::open(space)?.as_fd(), &CString::new(name.as_bytes())?)
        };
        remove().with_context(|| format!("cannot remove {}", folder.display()))
    }

    /// Removes it and what rsync has left in it.
    pub(crate) fn remove(mut self) -> Result<(), anyhow::Error> {
        let result = self.clear();
        self.0 = None;
        result
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            log::error!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_gets_a_number_that_nobody_has() {
        let taken = [0, 990, 70_000, 70_001, 70_003].into();
        assert_eq!(free(70_000..70_010, &taken).unwrap(), 70_002);
        let full = free(70_000..70_002, &taken).unwrap_err();
        assert_eq!(full.to_string(), "no user is free from 70000 to 70002; set another `uid-base`");
    }
}
