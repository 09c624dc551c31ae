//! Puts what was copied in its place: by renames, relative to descriptors, and over nothing that is there.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use phobos_core::fs::{Dir, FsError, Kind, shown};
use phobos_core::human;
use phobos_site::exit::{Exit, Stop};
use phobos_site::pull::HostName;
use serde::Serialize;

/// How many folders deep what is there is looked into: each takes two descriptors.
const DEEPEST: usize = 200;

/// How many names a line has.
const NAMED: usize = 5;

/// The version of what is printed as JSON.
const SCHEMA_VERSION: u32 = 1;

/// What may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing.
    Nothing,
    /// Whatever is no folder, by what is none.
    Files,
}

/// What became of the files.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// How many bytes were copied.
    pub(super) bytes: u64,
    /// How many files and whole folders were put in place.
    pub(super) put: u64,
    /// What was there already, and stays as it is; escaped.
    pub(super) left: Vec<String>,
    /// What would have given rights, and was left out or has lost them.
    pub(super) held_back: Vec<String>,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Printed<'a> {
    schema_version: u32,
    bytes: u64,
    put: u64,
    left: &'a [String],
    held_back: &'a [String],
}

/// Opens the folder that files are put into; no link on the way is followed, for it need not be root's.
///
/// # Errors
///
/// When it is not there, or a link leads to it.
pub(super) fn open(folder: &Path) -> Result<Dir, anyhow::Error> {
    let path = std::path::absolute(folder).with_context(|| format!("cannot find {}", shown(folder)))?;
    let root = Dir::open(Path::new("/"))?;
    let below: PathBuf = path.components().filter(|component| *component != Component::RootDir).collect();
    if below.as_os_str().is_empty() {
        return Ok(root);
    }
    let failed =
        || format!("cannot give files back to {}; name a folder that is there, and no link to it", shown(folder));
    root.open_dir(&below).with_context(failed)
}

impl Placed {
    /// Puts what is in `tree` into `target`.
    ///
    /// # Errors
    ///
    /// When something can neither be put in place nor is in its way; what was put there before stays.
    pub(super) fn put(&mut self, tree: &Dir, target: &Dir, over: Over) -> Result<(), anyhow::Error> {
        self.merge(tree, target, Path::new(""), over, DEEPEST)
    }

    fn merge(&mut self, from: &Dir, to: &Dir, below: &Path, over: Over, depth: usize) -> Result<(), anyhow::Error> {
        let Some(depth) = depth.checked_sub(1) else {
            let text = format!("{} is too deep to be put into what is there; use an empty folder", shown(below));
            return Err(Stop::new(Exit::Refused, text).into());
        };
        for entry in from.entries()? {
            let name = Path::new(&entry.name);
            match from.rename_new(name, to, name) {
                Ok(()) => {
                    self.put = self.put.saturating_add(1);
                    continue;
                }
                Err(FsError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
            let is_dir = |folder: &Dir| folder.stat(name).map(|stat| stat.is_some_and(|stat| stat.kind == Kind::Dir));
            let path = below.join(name);
            match (is_dir(from)?, is_dir(to)?) {
                (true, true) => self.merge(&from.open_dir(name)?, &to.open_dir(name)?, &path, over, depth)?,
                (false, false) if over == Over::Files => {
                    from.rename(name, to, name)?;
                    self.put = self.put.saturating_add(1);
                }
                _ => self.left.push(shown(&path)),
            }
        }
        Ok(())
    }

    /// Says what was left, with `remedy`, and what was held back.
    pub(super) fn tell(&self, host: &HostName, remedy: &str) {
        if !self.left.is_empty() {
            let names = human::first_of(&self.left, NAMED, ", ");
            log::warn!("{host}: left as it was, because it was there: {names}; {remedy}");
        }
        if !self.held_back.is_empty() {
            let names = human::first_of(&self.held_back, NAMED, ", ");
            log::warn!("{host}: not given back as the host has it: {names}; `--privileged` gives that back too");
        }
    }

    /// A line for all.
    pub(super) fn summary(&self) -> String {
        let left = if self.left.is_empty() { String::new() } else { format!(", left {}", self.left.len()) };
        format!("gave back {}, {} put in place{left}", human::size(self.bytes), self.put)
    }

    /// The same as JSON.
    pub(super) fn printed(&self) -> Printed<'_> {
        let Self { bytes, put, left, held_back } = self;
        Printed { schema_version: SCHEMA_VERSION, bytes: *bytes, put: *put, left, held_back }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_is_replaced_and_no_link_is_followed() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        for folder in ["from/a/b", "from/planted", "to/a", "elsewhere"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for (file, text) in
            [("from/a/b/new", "new"), ("from/a/old", "new"), ("to/a/old", "old"), ("from/planted/x", "x")]
        {
            fs::write(at(file), text).unwrap();
        }
        symlink(at("elsewhere"), at("to/planted")).unwrap();
        let put = |over| {
            let mut placed = Placed::default();
            placed.put(&Dir::open(&at("from")).unwrap(), &Dir::open(&at("to")).unwrap(), over).unwrap();
            placed.left.sort();
            placed.left
        };
        assert_eq!(put(Over::Nothing), ["a/old", "planted"]);
        let read = |file: &str| fs::read_to_string(at(file)).unwrap();
        assert_eq!((read("to/a/b/new"), read("to/a/old")), ("new".to_owned(), "old".to_owned()));
        assert_eq!(put(Over::Files), ["planted"], "a folder replaces no link");
        assert_eq!(read("to/a/old"), "new");
        assert_eq!(fs::read_dir(at("elsewhere")).unwrap().count(), 0);
    }

    #[test]
    fn the_folder_is_named_without_a_link() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("real/below")).unwrap();
        symlink("real", top.join("link")).unwrap();
        assert!(open(&top.join("real/below")).is_ok() && open(Path::new("/")).is_ok() && open(Path::new(".")).is_ok());
        for wrong in ["link", "link/below", "missing", "real/../real"] {
            assert!(open(&top.join(wrong)).is_err(), "{wrong}");
        }
    }
}
