//! `[backup]`: the backup file system, what is in it, and its namespace.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use schemars::JsonSchema;
use serde::Deserialize;

use super::reading::{Mistake, Step};
use crate::values::{AbsolutePath, Reserve};

/// `[backup]`: the backup file system and its namespace.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Backup {
    /// Where the backup file system is mounted: an entry in /etc/fstab with `noauto`; phobos mounts it inside the namespace only.
    pub mount: AbsolutePath,
    /// The Borg repository, below `mount`.
    pub repository: AbsolutePath,
    /// The holding spaces of the hosts that are pulled, below `mount`.
    pub holding: AbsolutePath,
    /// The file that keeps the mount namespace; `nsenter --mount=FILE` works on it.
    pub namespace: AbsolutePath,
    /// The first of a thousand user numbers: each host that is pulled gets one of its own, which nobody else on this machine may
    /// have.
    #[schemars(range(min = 10_000, max = 523_000))]
    pub uid_base: u32,
    /// How much of the file system of the holding spaces no pull may take, so that no host fills the disk for all: a share such as
    /// "5%", a size such as "20GiB", or the smaller of the two; the same share of the inodes is kept too. A pull that brings much
    /// ends at one and a half times that, so that the others still have room for theirs.
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
