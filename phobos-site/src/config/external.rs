//! `[external]`: the off-site drives.

use std::collections::{BTreeMap, BTreeSet};

use phobos_core::luks::{MapperName, Uuid};
use serde::Deserialize;

use super::backup::Backup;
use super::reading::{Mistake, Step};
use crate::values::{AbsolutePath, Size};

/// `[external]`: the off-site drives.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct External {
    /// Where a drive's file system is mounted; its fstab entry gives type and options.
    pub mount: AbsolutePath,
    /// The name of the mapping, one for all drives.
    pub mapping: MapperName,
    /// rsync's `--max-alloc`.
    pub max_alloc: Size,
    /// Whether ACLs and extended attributes of the holding spaces are mirrored too.
    pub attributes: bool,
    /// Whether the holding spaces are mirrored beside the repository; they are in its archives in any case.
    pub holding: bool,
    /// The drives; none means the one in crypttab's entry for `mapping`.
    pub drive: Vec<Drive>,
}

/// `[[external.drive]]`: one off-site drive.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawDrive")]
pub struct Drive {
    /// What people call it.
    pub name: DriveName,
    /// How it is found, and unlocked.
    pub container: Container,
}

/// What holds a drive's file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Container {
    /// A LUKS container, unlocked with a key file.
    Luks {
        /// The container's own UUID, not the file system's.
        uuid: Uuid,
        /// The key file.
        key_file: AbsolutePath,
    },
    /// A block device that is not encrypted: for a machine without dm-crypt, or a drive in a safe.
    Plain {
        /// The block device.
        device: AbsolutePath,
    },
}

/// A drive's name: 1 to 32 bytes of `[A-Za-z0-9_-]`, so that it can be the name of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DriveName(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawDrive {
    name: DriveName,
    uuid: Option<Uuid>,
    key_file: Option<AbsolutePath>,
    device: Option<AbsolutePath>,
}

impl TryFrom<RawDrive> for Drive {
    type Error = &'static str;

    fn try_from(raw: RawDrive) -> Result<Self, Self::Error> {
        let container = match (raw.uuid, raw.key_file, raw.device) {
            (Some(uuid), Some(key_file), None) => Container::Luks { uuid, key_file },
            (None, None, Some(device)) => Container::Plain { device },
            (Some(_), None, None) => {
                return Err("key-file: name the key file that unlocks the drive");
            }
            (None, Some(_), None) => return Err("uuid: give the UUID of the LUKS container"),
            (None, None, None) => {
                return Err("uuid: give uuid and key-file, or device for a drive that is not encrypted");
            }
            _ => {
                return Err("device: is for a drive that is not encrypted, and excludes uuid and key-file");
            }
        };
        Ok(Self { name: raw.name, container })
    }
}

impl Default for External {
    fn default() -> Self {
        Self {
            mount: AbsolutePath::fixed("/extbackup"),
            mapping: MapperName::default(),
            max_alloc: Size::fixed("4GiB"),
            attributes: false,
            holding: true,
            drive: Vec::new(),
        }
    }
}

impl TryFrom<String> for DriveName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if (1..=32).contains(&text.len()) && !text.starts_with('-') && text.chars().all(good) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no name for a drive: use letters, digits, - and _"))
        }
    }
}

impl DriveName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl External {
    /// How the values fit together, and with those of `[backup]`.
    pub(super) fn check(&self, backup: &Backup) -> Result<(), Mistake> {
        if self.mount.starts_with(&backup.mount) || backup.mount.starts_with(&self.mount) {
            let text = "the backup and the drive cannot be mounted within each other".to_owned();
            return Err(Mistake::new(&[Step::Key("external"), Step::Key("mount")], text));
        }
        let (mut names, mut containers) = (BTreeSet::new(), BTreeMap::new());
        for (index, drive) in self.drive.iter().enumerate() {
            let at = |key| [Step::Key("external"), Step::Key("drive"), Step::Index(index), Step::Key(key)];
            if !names.insert(drive.name.as_str()) {
                return Err(Mistake::new(&at("name"), format!("two drives are named {}", drive.name.as_str())));
            }
            let (key, container) = match &drive.container {
                Container::Luks { uuid, .. } => ("uuid", uuid.as_str().to_ascii_lowercase()),
                Container::Plain { device } => ("device", device.display().to_string()),
            };
            // One drive under two names would be two green lights over one copy.
            if let Some(other) = containers.insert(container, drive.name.as_str()) {
                let text = format!("the drives {other} and {} are one and the same", drive.name.as_str());
                return Err(Mistake::new(&at(key), text));
            }
        }
        Ok(())
    }
}
