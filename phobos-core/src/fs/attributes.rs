//! What neither size nor times tell of a name: where a link points to, and extended attributes, ACLs among them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{Dir, FsError};

/// The most bytes that a list of attributes' names, or the value of one, can have (xattr(7), "Filesystem differences").
const MOST: usize = 64 * 1024;

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
            Ok(names) => {
                let names = names.split(|byte| *byte == 0).filter(|attribute| !attribute.is_empty());
                Ok(names.map(|attribute| OsStr::from_bytes(attribute).to_owned()).collect())
            }
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
        // Not the file's.
        assert!(!dir.attributes(Path::new("link")).unwrap().contains(OsStr::new("user.one")));
        assert_eq!(dir.read_link(Path::new("link")).unwrap(), Path::new("file"));
        assert!(dir.read_link(Path::new("file")).is_err());
        assert!(dir.attributes(Path::new("gone")).is_err());
    }
}
