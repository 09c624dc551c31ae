//! The new copy takes the place of the old one, which stays as the generation before.

use std::path::{Path, PathBuf};

use chrono::Utc;
use phobos_core::copy;
use phobos_core::fs::{Dir, Durability, FsError};

use crate::record::{FOLDER, GENERATION, INCOMING};

/// Where every older `config` stays: a key can be lost without a transaction.
pub(crate) const CONFIGS: &str = "config";

/// The largest configuration that is kept, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// Puts the new copy in the place of the old one with one rename; the old one becomes the generation before. Returns where that is,
/// from the top of the drive.
pub(crate) fn put_in_place(root: &Dir, inner: &Path) -> Result<Option<PathBuf>, anyhow::Error> {
    let own = root.open_dir(Path::new(FOLDER))?;
    let now = Utc::now().format("%Y-%m-%dT%H%M%SZ").to_string();
    let old = root.stat(inner)?.map(|_| root.open_dir(inner)).transpose()?;
    if let Some(config) = old.map(|old| old.read(Path::new("config"), LIMIT)).transpose()?.flatten() {
        keep_config(&own.make_dir(Path::new(CONFIGS), 0o700)?, &config, Path::new(&now))?;
    }
    for parent in
        inner.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect::<Vec<_>>().iter().rev()
    {
        root.make_dir(parent, 0o755)?;
    }
    let has_old = copy::exchange(&own, Path::new(INCOMING), root, inner)?;
    if has_old {
        root.sync_file_system()?;
        copy::remove_tree(&own, Path::new(GENERATION), &mut |_| Ok(()))?;
        let generation = own.make_dir(Path::new(GENERATION), 0o700)?;
        own.rename(Path::new(INCOMING), &generation, Path::new(&now))?;
    }
    Ok(has_old.then(|| Path::new(FOLDER).join(GENERATION).join(now)))
}

/// Keeps a configuration as `name`, unless one like it is kept already: few of them differ, and a drive is mirrored to for years.
fn keep_config(configs: &Dir, config: &[u8], name: &Path) -> Result<(), FsError> {
    for kept in configs.listing()? {
        if configs.read(Path::new(&kept?.name), LIMIT)?.is_some_and(|kept| kept == config) {
            return Ok(());
        }
    }
    configs.replace(name, config, 0o600, Durability::Synced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_configuration_is_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let configs = Dir::open(folder.path()).unwrap();
        for (config, name) in [("one", "a"), ("one", "b"), ("two", "c"), ("one", "d"), ("two", "e")] {
            keep_config(&configs, config.as_bytes(), Path::new(name)).unwrap();
        }
        let mut kept: Vec<_> = configs.entries().unwrap().into_iter().map(|entry| entry.name).collect();
        kept.sort();
        assert_eq!(kept, ["a", "c"]);
    }
}
