//! `[backup]`: the backup file system, what is in it, and its namespace.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use serde::Deserialize;

use super::reading::{Mistake, Step};
use crate::values::{AbsolutePath, Reserve};

/// `[backup]`: the backup file system and its namespace.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Backup {
    /// Where the backup file system is mounted, inside the namespace only; an fstab entry.
    pub mount: AbsolutePath,
    /// The Borg repository, below `mount`.
    pub repository: AbsolutePath,
    /// The holding spaces, below `mount`.
    pub holding: AbsolutePath,
    /// The file that keeps the mount namespace.
    pub namespace: AbsolutePath,
    /// The first of a thousand user numbers, one for each host that is pulled.
    pub uid_base: u32,
    /// How much of the file system of the holding spaces no pull may take, bytes and inodes alike.
    pub reserve: Reserve,
}

impl Default for Backup {
    fn default() -> Self {
        Self {
            mount: AbsolutePath::fixed("/backup"),
            repository: AbsolutePath::fixed("/backup/borg"),
            holding: AbsolutePath::fixed("/backup/holding"),
            namespace: AbsolutePath::fixed("/run/phobos/ns/backup"),
            uid_base: 70_000,
            reserve: Reserve::USUAL,
        }
    }
}

impl Backup {
    /// How the values fit together.
    pub(super) fn check(&self) -> Result<(), Mistake> {
        for (key, path) in [("repository", &self.repository), ("holding", &self.holding)] {
            if !path.starts_with(&self.mount) || path == &self.mount {
                let text = format!("{} is not below the mount point {}", path.display(), self.mount.display());
                return Err(Mistake::new(&[Step::Key("backup"), Step::Key(key)], text));
            }
        }
        // Below are the system's users and people; systemd and containers have theirs above.
        if !(10_000..=523_000).contains(&self.uid_base) {
            let text = format!("{} is not between 10000 and 523000", self.uid_base);
            return Err(Mistake::new(&[Step::Key("backup"), Step::Key("uid-base")], text));
        }
        Ok(())
    }
}
