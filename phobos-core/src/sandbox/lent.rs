//! Secrets that are lent to the user of a confined program: copies that nobody else but root can read, taken back in time.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};

use super::SandboxError;
use crate::error::Chain;
use crate::fs::{Dir, make_passage};

/// A secret file lent to the user of confined programs: a copy in memory that nobody else but root can read.
///
/// What is lent may then belong to root alone, wherever it lies, and a confined program sees one key and no other.
#[derive(Debug)]
pub struct Lent {
    path: Option<PathBuf>,
}

impl Lent {
    /// Lends the file `original` to the user with the number `owner`, as the file `name` in `folder`, which should be in
    /// memory; one left from a process that was killed is replaced.
    ///
    /// # Errors
    ///
    /// If the original cannot be read or the copy not be made; there is none then.
    pub fn new(original: &Path, owner: u32, folder: &Path, name: &str) -> Result<Self, SandboxError> {
        let copy = folder.join(name);
        let failed = |source| SandboxError::Lend { original: original.to_owned(), copy: copy.clone(), source };
        let mut secret = File::open(original).map_err(failed)?;
        Self::copy(&mut secret, owner, folder, name).map_err(failed)
    }

    /// Lends `text` in the same way.
    ///
    /// # Errors
    ///
    /// If the file cannot be made; there is none then.
    pub fn text(mut text: &[u8], owner: u32, folder: &Path, name: &str) -> Result<Self, SandboxError> {
        let copy = folder.join(name);
        Self::copy(&mut text, owner, folder, name).map_err(|source| SandboxError::Lend {
            original: copy.clone(),
            copy,
            source,
        })
    }

    fn copy(secret: &mut dyn io::Read, owner: u32, folder: &Path, name: &str) -> io::Result<Self> {
        let copy = folder.join(name);
        make_passage(folder)?;
        remove(&copy)?;
        let lent = Self { path: Some(copy.clone()) };
        let mut file = Dir::open(folder)?.create_new(Path::new(name), 0o400)?;
        fchown(&file, Some(owner), Some(owner))?;
        io::copy(secret, &mut file)?;
        Ok(lent)
    }

    /// The copy.
    pub fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// Takes the copy away.
    ///
    /// # Errors
    ///
    /// If it cannot be removed; it is still there.
    pub fn close(mut self) -> Result<(), SandboxError> {
        self.close_once()
    }

    fn close_once(&mut self) -> Result<(), SandboxError> {
        let Some(copy) = self.path.take() else { return Ok(()) };
        remove(&copy).map_err(|source| SandboxError::Lend { original: copy.clone(), copy, source })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Err(error) = self.close_once() {
            log::error!("{}", Chain(&error));
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
