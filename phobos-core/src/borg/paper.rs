//! The key of a repository, for somebody who prints it.

use std::fs;
use std::time::Duration;

use super::config::{Config, Key};
use super::owner::Owner;
use super::{BorgError, Repository};
use crate::exec::{Exec, Invocation};

/// How long Borg may take to export a key.
const EXPORT_LIMIT: Duration = Duration::from_secs(120);

impl Repository {
    /// The repository's key as a text to print (`borg key export --paper`): what Borg has encrypted with the passphrase, which it
    /// does not ask for. `None` where the repository keeps none: it is not encrypted, or its key is elsewhere.
    ///
    /// Nothing in the repository changes, and no lock is taken.
    ///
    /// # Errors
    ///
    /// When the repository has a key and Borg does not export it.
    pub fn paper_key(&self, exec: &dyn Exec) -> Result<Option<String>, BorgError> {
        let file = self.path.join("config");
        let read = |source| BorgError::Read { path: file.clone(), source };
        let config = Config::parse(&fs::read(&file).map_err(read)?);
        if !config.is_ok_and(|config| config.key != Key::Absent) {
            return Ok(None);
        }
        let owner = Owner::of(&self.path).map_err(read)?;
        let call = Invocation::new("borg").args(["key", "export", "--paper"]).arg(&self.path).limit(EXPORT_LIMIT);
        let call = call.env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes");
        let exported = exec.run(&owner.runs(call));
        let exported = exported.map_err(|source| BorgError::Key { path: self.path.clone(), source })?;
        Ok(Some(exported.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::System;

    /// With Borg itself, which must not ask for the passphrase.
    #[test]
    fn a_key_that_the_repository_has_is_exported_and_nothing_changes() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, has_key) in [("repokey-blake2", true), ("none", false)] {
            let path = folder.path().join(mode);
            let call = Invocation::new("borg").args(["init", "--encryption", mode]).arg(&path);
            let call = call.env("BORG_BASE_DIR", folder.path().join("base")).env("BORG_PASSPHRASE", "over the hills");
            System::default().run(&call).unwrap();
            let names = || fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
            let before = (names(), fs::read(path.join("config")).unwrap());
            let key = Repository::open(&path).unwrap().paper_key(&System::default()).unwrap();
            assert_eq!(key.is_some_and(|key| key.contains("BORG PAPER KEY v1\nid: ")), has_key);
            assert_eq!((names(), fs::read(path.join("config")).unwrap()), before);
        }
    }
}
