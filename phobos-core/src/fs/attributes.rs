//! What neither size nor times tell of a name: where a link points to, and extended attributes, ACLs among them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;

use super::{Dir, FsError};

/// The most bytes that a list of attributes' names, or the value of one, can have (xattr(7), "Filesystem differences").
const MOST: usize = 64 * 1024;

/// The longest list that is kept for many files at once.
const FEW: usize = 256;

/// What nearly every list of names fits into.
const USUAL: usize = 1024;

impl Dir {
    /// The names of the extended attributes of `name`, itself and not what it points to if it is a link. None where the file
    /// system keeps none.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn attributes(&self, name: &Path) -> Result<BTreeSet<OsString>, FsError> {
        let (parent, last) = self.parent_of(name)?;
        let path = beside_its_folder(parent.as_ref().unwrap_or(self), &last);
        match filled(|buffer| rustix::fs::llistxattr(&path, buffer)) {
            Ok(names) => Ok(listed(&names)),
            Err(Errno::OPNOTSUPP) => Ok(BTreeSet::new()),
            Err(error) => Err(self.io("read the attributes of", name, error)),
        }
    }

    /// The value of one of them. A file can have hundreds of MB of them in all, so that it is wiser to look at one at a time.
    ///
    /// # Errors
    ///
    /// When it is not there or cannot be read.
    pub fn attribute(&self, name: &Path, attribute: &OsStr) -> Result<Vec<u8>, FsError> {
        let (parent, last) = self.parent_of(name)?;
        let path = beside_its_folder(parent.as_ref().unwrap_or(self), &last);
        filled(|buffer| rustix::fs::lgetxattr(&path, attribute, buffer))
            .map_err(|error| self.io("read the attributes of", name, error))
    }

    /// Where the link `name` points to.
    ///
    /// # Errors
    ///
    /// When it is no link or cannot be read.
    pub fn read_link(&self, name: &Path) -> Result<PathBuf, FsError> {
        let (parent, last) = self.parent_of(name)?;
        let target = rustix::fs::readlinkat(&parent.as_ref().unwrap_or(self).fd, &last, Vec::new());
        let target = target.map_err(|error| self.io("read the link", name, error))?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }
}

/// Where a thread stands that asks about the attributes of many names in a folder: there they are found without the way by the
/// process's descriptors, which takes longer than all the rest.
#[derive(Debug)]
pub(crate) struct Standpoint {
    /// Whether the thread has a working directory of its own.
    is_own: bool,
}

impl Standpoint {
    /// That of the calling thread, which has to be one that does nothing else: it stands apart from the process from now on.
    pub(crate) fn of_this_thread() -> Self {
        Self { is_own: unshare(CloneFlags::CLONE_FS).is_ok() }
    }

    /// Goes into `folder`; `false` where that is not possible.
    pub(crate) fn enter(&self, folder: &Dir) -> bool {
        self.is_own && rustix::process::fchdir(&folder.fd).is_ok()
    }

    /// The names of the attributes of `name` in the folder that was entered, as the system lists them; `None` where they are many,
    /// or cannot be told.
    pub(crate) fn attributes(&self, name: &Path) -> Option<Vec<u8>> {
        let mut buffer = [0; FEW];
        // Never in the process's own working directory.
        match self.is_own.then(|| rustix::fs::llistxattr(name, &mut buffer))? {
            Ok(length) => Some(buffer.get(..length)?.to_vec()),
            Err(Errno::OPNOTSUPP) => Some(Vec::new()),
            Err(_) => None,
        }
    }
}

/// The names in a list as the system makes it.
pub(crate) fn listed(names: &[u8]) -> BTreeSet<OsString> {
    let names = names.split(|byte| *byte == 0).filter(|attribute| !attribute.is_empty());
    names.map(|attribute| OsStr::from_bytes(attribute).to_owned()).collect()
}

/// The calls for attributes know no descriptor of a folder: the way to it is by the process's own.
fn beside_its_folder(folder: &Dir, last: &Path) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.fd.as_raw_fd().to_string()).join(last)
}

/// What `read` fills a buffer with, which is made as large as any may be where the usual size is not enough.
fn filled(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; USUAL];
    let length = match read(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer = vec![0; MOST];
            read(&mut buffer)?
        }
        length => length?,
    };
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{XattrFlags, lsetxattr};
    use std::os::unix::fs::symlink;

    #[test]
    fn attributes_of_files_folders_and_links_are_read_whatever_their_size() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        symlink("file", at("link")).unwrap();
        let large = vec![7; 3000];
        for name in ["file", "folder"] {
            lsetxattr(at(name), "user.one", &large, XattrFlags::empty()).unwrap();
            lsetxattr(at(name), "user.two", b"", XattrFlags::empty()).unwrap();
            let value = |attribute: &str| dir.attribute(Path::new(name), OsStr::new(attribute));
            let found = dir.attributes(Path::new(name)).unwrap();
            assert!(["user.one", "user.two"].iter().all(|one| found.contains(OsStr::new(one))), "{name}: {found:?}");
            assert_eq!(value("user.one").unwrap(), large, "{name}");
            assert_eq!(value("user.two").unwrap(), b"", "{name}");
            assert!(value("user.three").is_err());
        }
        // Whoever stands in the folder sees the same, and where there are too many to be kept, nothing.
        let names = ["file", "folder", "link"];
        let in_folder = || {
            let standpoint = Standpoint::of_this_thread();
            assert!(standpoint.enter(&dir));
            names.map(|name| standpoint.attributes(Path::new(name)).map(|names| listed(&names)))
        };
        let before = std::env::current_dir().unwrap();
        let seen = std::thread::scope(|scope| scope.spawn(in_folder).join().unwrap());
        assert_eq!(seen, names.map(|name| Some(dir.attributes(Path::new(name)).unwrap())));
        assert_eq!(std::env::current_dir().unwrap(), before, "it is the thread that stands there");
        for number in 0..20 {
            lsetxattr(at("file"), format!("user.{number:020}"), b"", XattrFlags::empty()).unwrap();
        }
        let seen = std::thread::scope(|scope| scope.spawn(in_folder).join().unwrap());
        assert!(seen[0].is_none() && seen[1].is_some() && dir.attributes(Path::new("file")).unwrap().len() >= 22);
        // Not the file's.
        assert!(!dir.attributes(Path::new("link")).unwrap().contains(OsStr::new("user.one")));
        assert_eq!(dir.read_link(Path::new("link")).unwrap(), Path::new("file"));
        assert!(dir.read_link(Path::new("file")).is_err());
        assert!(dir.attributes(Path::new("gone")).is_err());
    }
}
