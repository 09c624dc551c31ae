//! crypttab(5): which container a mapping is of, and how it is unlocked.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::{MapperName, Uuid};
use crate::exec::Secret;
use crate::mount;

/// An entry of crypttab(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrypttabEntry {
    /// The container: `UUID=…` or a device.
    pub device: String,
    /// How it is unlocked.
    pub unlock: Unlock,
}

/// How a container is unlocked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unlock {
    /// The key file; none where it has the mapping's name in one of systemd's folders for keys.
    pub key_file: Option<PathBuf>,
    /// How many bytes of the key file come before the key.
    pub offset: Option<u64>,
    /// How many bytes the key has.
    pub size: Option<u64>,
    /// The only key slot that is tried.
    pub slot: Option<u32>,
    /// Where the header is, if not on the container itself.
    pub header: Option<PathBuf>,
    /// Whether discards reach the drive.
    pub discards: bool,
    /// A passphrase, which is tried instead of any key file.
    pub passphrase: Option<Secret>,
    /// Whether the key is where only systemd's own unit gets it: on another device, or in a token.
    pub by_systemd: bool,
}

/// An entry that asks for something that no drive for backups can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("crypttab's entry for {name} has the option {option:?}, {why}")]
pub struct BadCrypttab {
    name: String,
    option: String,
    why: &'static str,
}

/// A line of crypttab(5), as it stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrypttabLine<'t> {
    /// The name of the mapping.
    pub name: &'t str,
    /// Its container; a line without one is of no use.
    pub device: Option<&'t str>,
    /// The field of the key.
    pub key: Option<&'t str>,
    /// The options, with commas between them.
    pub options: &'t str,
}

/// The lines of a crypttab's text that are no comments.
pub fn crypttab_lines(crypttab: &str) -> impl Iterator<Item = CrypttabLine<'_>> {
    let lines = crypttab.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.map(str::split_whitespace).filter_map(|mut fields| {
        let (name, device, key) = (fields.next()?, fields.next(), fields.next());
        Some(CrypttabLine { name, device, key, options: fields.next().unwrap_or_default() })
    })
}

/// The entry for the mapping `name` in the text of a crypttab.
///
/// # Errors
///
/// When the entry is there, and not of a LUKS container that can be unlocked without a person.
pub fn crypttab_entry(crypttab: &str, name: &MapperName) -> Result<Option<CrypttabEntry>, BadCrypttab> {
    let line = crypttab_lines(crypttab).find(|line| line.name == name.0);
    let Some((line, device)) = line.and_then(|line| Some((line, line.device?))) else { return Ok(None) };
    let mut unlock = Unlock::default();
    match line.key {
        None | Some("none" | "-") => {}
        // What is behind the colon is the device that the key is on.
        Some(key) if key.split_once(':').is_some_and(|(_, device)| is_device(device)) => unlock.by_systemd = true,
        Some(key) => unlock.key_file = Some(key.into()),
    }
    for option in line.options.split(',') {
        unlock.take(option).map_err(|why| BadCrypttab { name: name.0.clone(), option: option.to_owned(), why })?;
    }
    Ok(Some(CrypttabEntry { device: device.to_owned(), unlock }))
}

/// The names of all mappings in the text of a crypttab, each with its container as it stands there.
pub fn crypttab_devices(crypttab: &str) -> Vec<(String, String)> {
    crypttab_lines(crypttab).filter_map(|line| Some((line.name.to_owned(), line.device?.to_owned()))).collect()
}

fn is_device(text: &str) -> bool {
    text.starts_with("/dev/") || ["UUID=", "LABEL=", "PARTUUID=", "PARTLABEL="].iter().any(|tag| text.starts_with(tag))
}

impl Unlock {
    /// With this key file, and nothing else to it.
    pub fn with_key_file(path: &Path) -> Self {
        Self { key_file: Some(path.to_owned()), ..Self::default() }
    }

    /// With this passphrase, and a header that may be elsewhere.
    pub fn with_passphrase(passphrase: Secret, header: Option<PathBuf>) -> Self {
        Self { passphrase: Some(passphrase), header, ..Self::default() }
    }

    /// Whether somebody is asked for a passphrase.
    pub fn asks(&self) -> bool {
        self.key_file.is_none() && !self.by_systemd
    }

    /// Takes one option; an error says what is wrong with it.
    fn take(&mut self, option: &str) -> Result<(), &'static str> {
        const NO_NUMBER: &str = "which is no number";
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "keyfile-offset" => self.offset = Some(value.parse().map_err(|_| NO_NUMBER)?),
            "keyfile-size" => self.size = Some(value.parse().map_err(|_| NO_NUMBER)?),
            // Debian's own cryptsetup has the second name as well.
            "key-slot" | "keyslot" => self.slot = Some(value.parse().map_err(|_| NO_NUMBER)?),
            "header" if value.split_once(':').is_some_and(|(_, device)| is_device(device)) => self.by_systemd = true,
            "header" => self.header = Some(value.into()),
            "discard" => self.discards = true,
            "pkcs11-uri" | "fido2-device" | "tpm2-device" | "try-empty-password" => self.by_systemd = true,
            "plain" | "swap" | "tmp" | "tcrypt" | "bitlk" => return Err("which is not for LUKS containers"),
            "keyscript" => return Err("which systemd does not know either; use a key file"),
            "read-only" | "readonly" => return Err("with which nothing can be mirrored to it"),
            _ => {}
        }
        Ok(())
    }

    /// The key file: the one that is named, or the first of the mapping's name in `folders`.
    pub(super) fn key(&self, name: &str, folders: &[&Path]) -> Option<PathBuf> {
        if self.passphrase.is_some() {
            // Standard input, as cryptsetup(8) calls it.
            return Some("-".into());
        }
        let found = || folders.iter().map(|folder| folder.join(format!("{name}.key"))).find(|key| key.is_file());
        self.key_file.clone().filter(|key| key.is_absolute()).or_else(found)
    }

    /// Whether only systemd gets at the key: it also connects to a socket that gives it.
    pub(super) fn is_systemds(&self) -> bool {
        let is_socket = |key: &PathBuf| fs::metadata(key).is_ok_and(|found| found.file_type().is_socket());
        self.by_systemd || self.key_file.as_ref().is_some_and(is_socket)
    }

    /// The same as options of cryptsetup(8).
    pub(super) fn options(&self) -> Vec<String> {
        let number = |option: &str, value: Option<u64>| value.map(|value| format!("--{option}={value}"));
        let header = self.header.as_ref().map(|header| format!("--header={}", header.display()));
        let discards = self.discards.then(|| "--allow-discards".to_owned());
        let numbers = [
            number("keyfile-offset", self.offset),
            number("keyfile-size", self.size),
            number("key-slot", self.slot.map(u64::from)),
        ];
        numbers.into_iter().chain([header, discards]).flatten().collect()
    }
}

impl CrypttabEntry {
    /// The container's UUID, by the entry itself or by udev's links to the device it names; `None` if it is not there.
    pub fn uuid(&self) -> Option<Uuid> {
        let by_uuid = Path::new("/dev/disk/by-uuid");
        let named = self.device.strip_prefix("UUID=").map(|uuid| uuid.trim_matches('"').to_owned());
        let named = named.or_else(|| Some(Path::new(&self.device).strip_prefix(by_uuid).ok()?.to_str()?.to_owned()));
        if let Some(uuid) = named {
            return Uuid::try_from(uuid).ok();
        }
        let device = fs::canonicalize(mount::device_of(&self.device)).ok()?;
        fs::read_dir(by_uuid)
            .ok()?
            .flatten()
            .filter(|link| fs::canonicalize(link.path()).is_ok_and(|path| path == device))
            .find_map(|link| Uuid::try_from(link.file_name().to_string_lossy().into_owned()).ok())
    }
}
