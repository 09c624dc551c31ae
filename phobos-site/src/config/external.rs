//! `[external]`: the off-site drives.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use phobos_core::luks::{MapperName, Uuid};
use schemars::JsonSchema;
use serde::Deserialize;

use super::backup::Backup;
use super::reading::{Mistake, Step};
use crate::lock::Word;
use crate::values::{AbsolutePath, Size, Span};

/// `[external]`: the off-site drives.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct External {
    /// Where a drive is mounted, inside the namespace only: an entry in /etc/fstab with `noauto`, keyed by label.
    pub mount: AbsolutePath,
    /// The name of the LUKS mapping, one for all drives.
    #[schemars(with = "String", extend("pattern" = "^[A-Za-z0-9_][A-Za-z0-9_-]{0,126}$"))]
    pub mapping: MapperName,
    /// The largest single piece of memory that rsync may ask for.
    pub max_alloc: Size,
    /// Whether ACLs of the holding spaces are mirrored too; extended attributes are in any case. It costs time file by file.
    pub attributes: bool,
    /// Whether the holding spaces are mirrored beside the repository; Borg's archives have them in any case.
    pub holding: bool,
    /// How long after the last complete mirror the next drive is to be brought, at the latest. A drive that has not been mirrored to
    /// for that long times the number of drives is missed, whichever others came.
    pub overdue: Span,
    /// For how long the drive is read again at the end of each mirror, on from where the last one ended; "0s" for not at all. What
    /// is damaged is copied again.
    pub verify_time: Span,
    /// For how long `phobos-ext drill` restores files from the drive.
    pub drill_time: Span,
    /// How old the newest archive of a host on a drive may be when it is drilled.
    pub drill_age: Span,
    /// Whether a good mirror is told by mail: "B is safe to take away; bring A by 26 December 2026".
    pub notice: bool,
    /// Whether the drive is stopped and taken off its bus before the light is green, so that its heads are parked when it is
    /// unplugged.
    pub power_off: bool,
    /// The drives, here or each in a file of its own, /etc/phobos/drives.d/NAME.toml, as `phobos-ext prepare` and `adopt` write it.
    /// While none is here, the entry for `mapping` in /etc/crypttab, if there is one, is a drive too.
    pub drive: Vec<Drive>,
    /// When crypttab's entry for `mapping` is a drive.
    #[serde(skip)]
    pub crypttab: Crypttab,
}

/// When crypttab's entry is a drive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Crypttab {
    /// Where no other drive is configured.
    #[default]
    Alone,
    /// Beside the others: all of them have files of their own, and it was one before the first of these was written.
    Beside,
}

/// `[[external.drive]]`: one off-site drive.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "RawDrive")]
#[schemars(into = "RawDrive")]
pub struct Drive {
    /// What people call it.
    pub name: DriveName,
    /// How it is found, and unlocked.
    pub container: Container,
    /// How people recognise it: its maker, its serial number.
    pub description: Option<String>,
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

/// A UUID as it is written.
const UUID: &str = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$";

/// A drive's name: 1 to 32 bytes of `[A-Za-z0-9_-]`, the first a letter or digit, so that it can be the name of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"))]
pub struct DriveName(String);

/// The text is no [`DriveName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name for a drive: use letters, digits, - and _, a letter or digit first")]
pub struct BadDriveName(String);

/// Which drive somebody means: by its name, or by the UUID of its LUKS container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriveChoice {
    /// The drive that is called so.
    Name(Word),
    /// The drive with this container.
    Uuid(Uuid),
}

/// The text is no [`DriveChoice`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither the name of a drive nor the UUID of a LUKS container")]
pub struct BadDriveChoice(String);

/// The settings of a drive do not fit together; a message starts with the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum BadDrive {
    #[error("key-file: name the key file that unlocks the drive")]
    NoKeyFile,
    #[error("uuid: give the UUID of the LUKS container")]
    NoUuid,
    #[error("uuid: give uuid and key-file, or device for a drive that is not encrypted")]
    Nothing,
    #[error("device: is for a drive that is not encrypted, and excludes uuid and key-file")]
    Both,
}

/// A drive as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawDrive {
    /// What you call it.
    #[schemars(extend("examples" = ["A"]))]
    name: DriveName,
    /// How you recognise it, for the recovery sheet.
    #[schemars(extend("examples" = ["My Passport, serial number WX0123"]))]
    description: Option<String>,
    /// The UUID of the LUKS container, from `blkid`.
    #[schemars(with = "Option<String>", extend("pattern" = UUID, "examples" = ["00000000-0000-4000-8000-00000000000a"]))]
    uuid: Option<Uuid>,
    /// The key file that unlocks it: mode 0400, of root.
    #[schemars(extend("examples" = ["/etc/phobos/keys/A.key"]))]
    key_file: Option<AbsolutePath>,
    /// Instead of both, the block device of a drive that is not encrypted.
    #[schemars(extend("examples" = ["/dev/disk/by-label/extbackup"]))]
    device: Option<AbsolutePath>,
}

impl TryFrom<RawDrive> for Drive {
    type Error = BadDrive;

    fn try_from(raw: RawDrive) -> Result<Self, BadDrive> {
        let container = match (raw.uuid, raw.key_file, raw.device) {
            (Some(uuid), Some(key_file), None) => Container::Luks { uuid, key_file },
            (None, None, Some(device)) => Container::Plain { device },
            (Some(_), None, None) => return Err(BadDrive::NoKeyFile),
            (None, Some(_), None) => return Err(BadDrive::NoUuid),
            (None, None, None) => return Err(BadDrive::Nothing),
            _ => return Err(BadDrive::Both),
        };
        Ok(Self { name: raw.name, container, description: raw.description })
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
            overdue: Span(Duration::from_secs(35 * 24 * 60 * 60)),
            verify_time: Span(Duration::from_secs(10 * 60)),
            power_off: false,
            drill_time: Span(Duration::from_secs(10 * 60)),
            drill_age: Span(Duration::from_secs(30 * 24 * 60 * 60)),
            notice: false,
            drive: Vec::new(),
            crypttab: Crypttab::default(),
        }
    }
}

impl TryFrom<String> for DriveName {
    type Error = BadDriveName;

    fn try_from(text: String) -> Result<Self, BadDriveName> {
        let good = text.parse::<Word>().is_ok() && text.len() <= 32 && !text.contains('.');
        if good { Ok(Self(text)) } else { Err(BadDriveName(text)) }
    }
}

impl From<&DriveName> for Word {
    /// A drive's name is a word by its own rules.
    fn from(name: &DriveName) -> Self {
        Self(name.0.clone())
    }
}

impl FromStr for DriveChoice {
    type Err = BadDriveChoice;

    fn from_str(text: &str) -> Result<Self, BadDriveChoice> {
        match (Uuid::try_from(text.to_owned()), text.parse()) {
            (Ok(uuid), _) => Ok(Self::Uuid(uuid)),
            (Err(_), Ok(name)) => Ok(Self::Name(name)),
            (Err(_), Err(_)) => Err(BadDriveChoice(text.to_owned())),
        }
    }
}

impl fmt::Display for DriveChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Uuid(uuid) => f.write_str(uuid.as_str()),
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
