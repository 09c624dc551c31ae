//! `drives.d/NAME.toml` beside the configuration: a drive with a file of its own.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;
use super::backup::Backup;
use super::external::{Drive, External};
use super::reading::{is_trusted, read_trusted, understand};

/// The folder of the drives' files.
pub const FOLDER: &str = "drives.d";

/// What such a file may have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DropIn {
    external: Drives,
}

/// Its one table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drives {
    drive: Vec<Drive>,
}

/// Adds the drives that have a file in `drives.d` below `folder`, in the order of the files' names.
///
/// # Errors
///
/// The first mistake in one of the files, or of how its drives fit to the others.
pub(super) fn add(folder: &Path, external: &mut External, backup: &Backup) -> Result<(), ConfigError> {
    for file in files(&folder.join(FOLDER))? {
        let Some(text) = read_trusted(&file)? else { continue };
        let own: DropIn = understand(&file, &text)?;
        external.drive.extend(own.external.drive);
        external.check(backup).map_err(|mistake| mistake.in_file(&file, &text))?;
    }
    Ok(())
}

/// The files that count: what is half written, or an editor's, does not.
fn files(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    if !is_trusted(folder)? {
        return Ok(Vec::new());
    }
    let failed = |source| ConfigError::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
