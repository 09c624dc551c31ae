//! The owner of a repository, as whom Borg is run on it: nothing in it becomes root's.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User};

use crate::exec::Invocation;

/// The only variables of this process's environment that Borg gets: its name for this machine, and where a packed Borg
/// unpacks itself.
const KEPT: &[&str] = &["PATH", "BORG_HOST_ID", "TMPDIR"];

/// The owner of a repository.
#[derive(Debug)]
pub(super) struct Owner {
    uid: Uid,
    gid: Gid,
    /// Whether the system knows the user, and so the groups.
    known: bool,
    home: PathBuf,
}

impl Owner {
    /// The owner of the folder `path`.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let folder = fs::metadata(path)?;
        let uid = Uid::from_raw(folder.uid());
        Ok(match User::from_uid(uid) {
            Ok(Some(user)) => Self { uid, gid: user.gid, known: true, home: user.dir },
            // One of a container or of another machine: it has neither groups nor a home here.
            _ => Self { uid, gid: Gid::from_raw(folder.gid()), known: false, home: "/nonexistent".into() },
        })
    }

    /// The call, as this user.
    pub(super) fn runs(&self, call: Invocation) -> Invocation {
        let call = call.own_group().only_env(KEPT).env("HOME", &self.home);
        let me = nix::unistd::geteuid();
        if me.is_root() && !self.uid.is_root() { call.through(self.setpriv()) } else { call }
    }

    /// The words before a program that make it run as this user.
    fn setpriv(&self) -> [String; 5] {
        let groups = if self.known { "--init-groups" } else { "--clear-groups" };
        let [uid, gid] = [format!("--reuid={}", self.uid), format!("--regid={}", self.gid)];
        ["setpriv".to_owned(), uid, gid, groups.to_owned(), "--no-new-privs".to_owned()]
    }
}
