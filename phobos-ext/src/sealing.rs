//! What a complete mirror leaves for whoever reads the drive again: its lists of checksums, and a new seal.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use phobos_core::borg::config::MAX_CONFIG;
use phobos_core::copy::{Checksum, CopyError, Make, Plan, Written};
use phobos_core::error::Chain;
use phobos_core::fs::{Dir, Durability, FsError};
use phobos_core::progress::Handler;

use crate::checksums::{self, Draft, Drafted, List};
use crate::gate;
use crate::record::{DRIVE, DriveRecord, FOLDER, GENERATION, GUIDE};
use crate::seal::{self, Seal};

/// How many older configurations of the repository are sealed.
const CONFIGS: usize = 1000;

/// The lists on a drive that can be believed: those that its seal vouches for.
pub(crate) fn believed(root: &Dir, handler: Handler<'_>) -> Result<BTreeSet<List>, CopyError> {
    let seal = match Seal::read(root) {
        Ok(seal) => seal.unwrap_or_default(),
        Err(error) => {
            log::warn!("{}; checksums are recorded anew", Chain(&error));
            Seal::default()
        }
    };
    let mut believed = BTreeSet::new();
    for list in List::ALL {
        if is_vouched_for(root, &seal, list, handler)? {
            believed.insert(list);
        }
    }
    Ok(believed)
}

fn is_vouched_for(root: &Dir, seal: &Seal, list: List, handler: Handler<'_>) -> Result<bool, CopyError> {
    let Some(wanted) = seal.of(&list.path()) else { return Ok(false) };
    Ok(match seal::checksum(root, &list.path(), handler) {
        Ok(found) if found == wanted => true,
        Err(error @ (CopyError::Interrupted(_) | CopyError::Stopped(_))) => return Err(error),
        Ok(_) => {
            log::warn!("{} on the drive is damaged; it is recorded anew", list.path().display());
            false
        }
        Err(error) => {
            log::warn!("{}; it is recorded anew", Chain(&error));
            false
        }
    })
}

/// The checksums that a list has for `paths`.
pub(crate) fn of(root: &Dir, list: List, paths: &BTreeSet<PathBuf>) -> Result<BTreeMap<PathBuf, Checksum>, CopyError> {
    let found = list.read(root)?.map(|found| found.map(|(path, known)| (path, known.sum)));
    found.filter(|found| found.as_ref().map_or(true, |(path, _)| paths.contains(path))).collect()
}

/// Those files of the repository that have to be copied again, by their paths in it, because nothing proves them: they have no
/// checksums in themselves, and none on the list, if that is believed.
pub(crate) fn unproved(
    root: &Dir,
    inner: &Path,
    copy: &phobos_core::copy::Survey,
    is_believed: bool,
) -> Result<BTreeSet<PathBuf>, CopyError> {
    let mut all: BTreeSet<PathBuf> =
        copy.files().map(|(path, _)| path.to_owned()).filter(|path| gate::segment_of(path).is_none()).collect();
    if is_believed {
        for found in List::Repository.read(root)? {
            let (path, _) = found?;
            if let Ok(inside) = path.strip_prefix(inner) {
                all.remove(inside);
            }
        }
    }
    Ok(all)
}

/// Gives the copy its `config` back, where the list says that it is damaged and the source's is what it was: without it nothing of
/// the copy can be judged. A copy of it is made like any other later.
pub(crate) fn restore_config(root: &Dir, inner: &Path, source: &Dir, handler: Handler<'_>) -> Result<(), CopyError> {
    let (name, path) = (Path::new("config"), inner.join("config"));
    let Some(wanted) = of(root, List::Repository, &BTreeSet::from([path.clone()]))?.remove(&path) else {
        return Ok(());
    };
    // What is no file there is not what a disk that rots makes.
    let is_damaged = match seal::checksum(root, &path, handler) {
        Ok(found) => found != wanted,
        // One that a check of the file system has taken away is gone for good.
        Err(CopyError::Fs(FsError::Io { source, .. })) if source.kind() == ErrorKind::NotFound => {
            root.stat(&inner.join("data"))?.is_some()
        }
        Err(error) => matches!(error, CopyError::Read { .. }),
    };
    if !is_damaged {
        return Ok(());
    }
    match source.read(name, MAX_CONFIG)? {
        Some(config) if wanted == Checksum::of(&config) => {
            log::warn!("{} on the drive is damaged or gone; it is copied again", path.display());
            Ok(root.replace(&path, &config, 0o600, Durability::Synced)?)
        }
        _ => Ok(()),
    }
}

/// The list of the repository's files after `plan`, of which these were `written`.
pub(crate) fn of_repository(
    root: &Dir,
    inner: &Path,
    plan: &Plan,
    written: &[Written],
    is_believed: bool,
) -> Result<Drafted, CopyError> {
    let mut draft = Draft::new(root, List::Repository)?;
    let listed = |path: &Path| gate::segment_of(path).is_none();
    if is_believed {
        let is_written = |path: &Path| written.iter().any(|file| file.path == path);
        let kept: BTreeSet<PathBuf> = plan
            .steps
            .iter()
            .filter(|step| step.make == Make::Keep && listed(&step.path) && !is_written(&step.path))
            .map(|step| inner.join(&step.path))
            .collect();
        draft.keep(root, &mut |path| Ok(kept.contains(path)))?;
    }
    for file in written.iter().filter(|file| listed(&file.path)) {
        draft.add(&inner.join(&file.path), file.sum)?;
    }
    draft.close()
}

/// Proves that the drive has kept the record, the lists and their seal.
pub(crate) fn prove(root: &Dir, record: &DriveRecord, handler: Handler<'_>) -> Result<(), anyhow::Error> {
    let lost = |path: &Path| CopyError::Lost { path: root.path().join(path) };
    let path = Path::new(FOLDER).join(seal::SEAL);
    let seal = Seal::read(root)?.ok_or_else(|| lost(&path))?;
    if DriveRecord::read(root)?.as_ref() != Some(record) {
        return Err(lost(&Path::new(FOLDER).join(DRIVE)).into());
    }
    for path in List::ALL.map(List::path).iter().map(PathBuf::as_path).chain([Path::new(GUIDE)]) {
        if let Some(wanted) = seal.of(path) {
            if seal::checksum(root, path, handler)? != wanted {
                return Err(lost(path).into());
            }
        }
    }
    Ok(())
}

/// What is sealed.
pub(crate) struct Sealing<'a> {
    pub(crate) root: &'a Dir,
    /// Where the repository is on the drive.
    pub(crate) inner: &'a Path,
    /// The new lists.
    pub(crate) lists: &'a [Drafted],
    /// Where the old copy is now, if a new one was put in its place.
    pub(crate) generation: Option<&'a Path>,
    /// What was damaged on the drive, from its top.
    pub(crate) damaged: &'a BTreeSet<PathBuf>,
}

impl Sealing<'_> {
    /// Puts the lists in place and seals what phobos keeps, which has to be on the disk already.
    ///
    /// # Errors
    ///
    /// When something cannot be read or written; then no list is believed by the next mirror.
    pub(crate) fn seal(&self, handler: Handler<'_>) -> Result<(), anyhow::Error> {
        let root = self.root;
        let old = Seal::read(root).ok().flatten().unwrap_or_default();
        let mut seal = Seal::default();
        match self.generation {
            Some(generation) => self.add_generation(&mut seal, &old, generation, handler)?,
            None => self.keep_generation(&mut seal, &old)?,
        }
        for list in self.lists {
            list.put_in_place(root)?;
        }
        let folder = Path::new(FOLDER);
        root.open_dir(&folder.join(checksums::LISTS))?.sync()?;
        for list in List::ALL {
            let path = list.path();
            match self.lists.iter().find(|drafted| drafted.list == list) {
                Some(drafted) if seal::checksum(root, &path, handler)? == drafted.sum => seal.add(&path, drafted.sum),
                Some(_) => return Err(CopyError::Lost { path: root.path().join(path) }.into()),
                None => old.of(&path).into_iter().for_each(|sum| seal.add(&path, sum)),
            }
        }
        seal.add_as_it_is(root, Path::new(GUIDE), handler)?;
        let configs = folder.join(crate::exchange::CONFIGS);
        if root.stat(&configs)?.is_some() {
            for entry in root.open_dir(&configs)?.listing()?.take(CONFIGS) {
                let path = configs.join(entry?.name);
                if self.is_given_up(&old, &path) {
                    seal.damaged.insert(checksums::to_text(&path));
                    continue;
                }
                match old.of(&path) {
                    Some(sum) => seal.add(&path, sum),
                    None => seal.add_as_it_is(root, &path, handler)?,
                }
            }
        }
        seal.write(root)
    }

    /// What the list said of the copy that is the generation now.
    fn add_generation(
        &self,
        seal: &mut Seal,
        old: &Seal,
        generation: &Path,
        handler: Handler<'_>,
    ) -> Result<(), CopyError> {
        if is_vouched_for(self.root, old, List::Repository, handler)? {
            for found in List::Repository.read(self.root)? {
                let (path, known) = found?;
                let Ok(inside) = path.strip_prefix(self.inner) else { continue };
                let path = generation.join(inside);
                if !self.damaged.contains(&self.inner.join(inside)) && self.root.stat(&path)?.is_some() {
                    seal.add(&path, known.sum);
                }
            }
        }
        let inside = self.damaged.iter().filter_map(|path| path.strip_prefix(self.inner).ok());
        seal.damaged.extend(inside.map(|inside| checksums::to_text(&generation.join(inside))));
        Ok(())
    }

    /// Whether a file that phobos keeps is damaged for good, and is not to be told of again: what is not written anew is kept.
    fn is_given_up(&self, seal: &Seal, path: &Path) -> bool {
        self.damaged.contains(path) || path.to_str().is_some_and(|path| seal.damaged.contains(path))
    }

    /// What the old seal says of a generation that stays as it is.
    fn keep_generation(&self, seal: &mut Seal, old: &Seal) -> Result<(), CopyError> {
        let top = Path::new(FOLDER).join(GENERATION);
        let is_there =
            |path: &Path| -> Result<bool, CopyError> { Ok(path.starts_with(&top) && self.root.stat(path)?.is_some()) };
        for (path, sum) in &old.files {
            if is_there(Path::new(path))? && !self.is_given_up(old, Path::new(path)) {
                seal.files.insert(path.clone(), sum.clone());
            }
        }
        let given_up =
            self.damaged.iter().cloned().chain(old.damaged.iter().filter_map(|text| checksums::from_text(text)));
        for path in given_up {
            if is_there(&path)? {
                seal.damaged.insert(checksums::to_text(&path));
            }
        }
        Ok(())
    }
}
