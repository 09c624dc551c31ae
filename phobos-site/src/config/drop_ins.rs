//! `drives.d/NAME.toml` beside the configuration: a drive with a file of its own.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::path::Path;

use serde::Deserialize;

use super::ConfigError;
use super::backup::Backup;
use super::external::{Crypttab, Drive, External};
use super::reading::{read_trusted, toml_files, understand};

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
    if external.drive.is_empty() {
        external.crypttab = Crypttab::Beside;
    }
    for file in toml_files(&folder.join(FOLDER))?.into_iter().filter(|file| counts(file)) {
        let Some(text) = read_trusted(&file)? else { continue };
        let own: DropIn = understand(&file, &text)?;
        external.drive.extend(own.external.drive);
        external.check(backup).map_err(|mistake| mistake.in_file(&file, &text))?;
    }
    Ok(())
}

/// Reads the text of one of these files for nothing but its first mistake.
pub(super) fn check(file: &Path, text: &str) -> Result<(), ConfigError> {
    understand::<DropIn>(file, text).map(drop)
}

/// Whether the file counts: what is half written, or an editor's, does not.
fn counts(file: &Path) -> bool {
    file.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
}
