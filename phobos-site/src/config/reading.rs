//! Reading a file of the configuration: who may have written it, and where in it a mistake stands.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, DEFAULT_PATH};

/// How much of a file is read, in bytes.
const LARGEST: u64 = 4 * 1024 * 1024;

/// A step on the way to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a table.
    Key(&'static str),
    /// Into an array.
    Index(usize),
}

/// How values do not fit together.
#[derive(Debug)]
pub(crate) struct Mistake {
    path: Vec<Step>,
    message: String,
}

impl Mistake {
    /// A mistake in the value at `path`, whose last step is its key.
    pub(crate) fn new(path: &[Step], message: String) -> Self {
        Self { path: path.to_vec(), message }
    }

    /// The mistake as one of the file `path` with this text.
    pub(super) fn in_file(self, path: &Path, text: &str) -> ConfigError {
        let key = self.path.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(*key),
            Step::Index(_) => None,
        });
        let line = line_of(text, &self.path);
        let message = key.map_or(self.message.clone(), |key| format!("{key}: {}", self.message));
        ConfigError::Wrong { path: path.to_owned(), line, message }
    }
}

/// The line of the value at `path`, or of as much of the way to it as is there.
fn line_of(text: &str, path: &[Step]) -> usize {
    let Ok(root) = DeTable::parse(text) else { return 1 };
    let mut offset = 0;
    let mut step = path.iter();
    let Some(Step::Key(first)) = step.next() else { return 1 };
    let mut value = root.get_ref().get(*first);
    while let Some(found) = value {
        offset = found.span().start;
        value = match (step.next(), found.get_ref()) {
            (Some(Step::Key(key)), DeValue::Table(table)) => table.get(*key),
            (Some(Step::Index(index)), DeValue::Array(array)) => array.get(*index),
            _ => None,
        };
    }
    line_at(text, offset)
}

/// The line of a byte offset, counted from 1.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count().saturating_add(1)
}

/// Checks that no table has a name that nobody reads.
pub(super) fn check_names(path: &Path, text: &str, known: &[&str]) -> Result<(), ConfigError> {
    let Ok(root) = DeTable::parse(text) else { return Ok(()) };
    let Some((key, _)) = root.get_ref().iter().find(|(key, _)| !known.contains(&key.get_ref().as_ref())) else {
        return Ok(());
    };
    let line = line_at(text, key.span().start);
    let name = key.get_ref();
    let message = format!("{name}: unknown field `{name}`, expected one of `{}`", known.join("`, `"));
    Err(ConfigError::Wrong { path: path.to_owned(), line, message })
}

/// The file and its text, if it may be trusted; `None` if the default one is absent.
pub(super) fn read(path: Option<&Path>) -> Result<Option<(&Path, String)>, ConfigError> {
    let file = path.unwrap_or(Path::new(DEFAULT_PATH));
    match read_trusted(file)? {
        Some(text) => Ok(Some((file, text))),
        None if path.is_none() => Ok(None),
        None => {
            let hint = format!("there is no such file; {DEFAULT_PATH} is read where none is named");
            let source = io::Error::new(io::ErrorKind::NotFound, hint);
            Err(ConfigError::Read { path: file.to_owned(), source })
        }
    }
}

/// The text of a file that nobody but root can write; `None` if there is no such file.
pub(super) fn read_trusted(file: &Path) -> Result<Option<String>, ConfigError> {
    let failed = |source| ConfigError::Read { path: file.to_owned(), source };
    if !is_trusted(file)? {
        return Ok(None);
    }
    // What waits for a writer, or has no end, is no configuration.
    if !fs::metadata(file).map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")));
    }
    let mut text = String::new();
    let opened = fs::File::open(file).map_err(failed)?;
    opened.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// The files of the folder that are TOML by their names, in the order of these; none where there is no such folder.
pub(super) fn toml_files(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    if !is_trusted(folder)? {
        return Ok(Vec::new());
    }
    let failed = |source| ConfigError::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether the file or folder is there; one that others than root can write or replace is an error.
pub(super) fn is_trusted(file: &Path) -> Result<bool, ConfigError> {
    let failed = |source| ConfigError::Read { path: file.to_owned(), source };
    let metadata = match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(failed)?,
    };
    if !is_roots(&metadata) || metadata.mode() & 0o022 != 0 {
        return Err(ConfigError::Writable { path: file.to_owned() });
    }
    // Whoever can write a folder on the way puts another file there; in one like /tmp, only who owns the file.
    let named = std::path::absolute(file).map_err(failed)?;
    for path in [named, fs::canonicalize(file).map_err(failed)?] {
        for folder in path.ancestors().skip(1) {
            let metadata = fs::metadata(folder).map_err(failed)?;
            let is_sticky = metadata.mode() & 0o1000 != 0;
            if !is_roots(&metadata) || (metadata.mode() & 0o022 != 0 && !is_sticky) {
                return Err(ConfigError::Writable { path: folder.to_owned() });
            }
        }
    }
    Ok(true)
}

/// Whether it belongs to root, or to whoever runs this.
fn is_roots(metadata: &fs::Metadata) -> bool {
    [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid())
}

/// The text as a `T`, or the first mistake with its line and key.
pub(super) fn understand<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| wrong(path, text, &error))
}

/// TOML's error, with line and key.
pub(super) fn wrong(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let (line, key) = place(text, start);
    let message = error.message().replace('\n', " ");
    let key = key.filter(|key| error.span().is_some() && !message.starts_with(key));
    let message = key.map_or(message.clone(), |key| format!("{key}: {message}"));
    ConfigError::Wrong { path: path.to_owned(), line, message }
}

/// The line of a byte offset, counted from 1, and the key that stands there or above it.
fn place(text: &str, offset: usize) -> (usize, Option<&str>) {
    let line = line_at(text, offset);
    let key = text.lines().take(line).collect::<Vec<_>>().into_iter().rev().find_map(|line| {
        let (key, _) = line.split_once('=')?;
        let key = key.trim();
        (!key.is_empty() && !key.starts_with(['#', '"', '\'', '['])).then_some(key)
    });
    let header = text.lines().take(line).last().is_some_and(|line| line.trim_start().starts_with('['));
    (line, key.filter(|_| !header))
}
