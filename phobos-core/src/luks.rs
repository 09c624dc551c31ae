//! LUKS containers: opened with cryptsetup or by systemd, and closed so that it can be proven.
//!
//! What is open is read from sysfs, not asked of a program: `/sys/block/dm-N/dm/{name,uuid}` and `slaves`, and the
//! `holders` of the drive itself.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod crypttab;
mod format;
mod half;
mod header;
mod names;

pub use self::crypttab::{
    BadCrypttab, CrypttabEntry, CrypttabLine, Unlock, crypttab_devices, crypttab_entry, crypttab_lines,
};
pub use self::format::{Proof, add_passphrase, back_up_header, format, key_slots, prove_key, try_passphrase};
pub use self::half::clear_half_made;
pub use self::header::container;
pub use self::names::{BadMapperName, BadUuid, MapperName, Uuid, fill_random};
use crate::error::{Chain, Class, Classified};
use crate::exec::{Exec, ExecError, Invocation};
use crate::systemd::{self, SystemdError};
use crate::teardown::{Close, TeardownError};

/// How long a close is tried again while something still holds the mapping: udev and the kernel need a moment.
const CLOSE_LIMIT: Duration = Duration::from_secs(15);

/// How long cryptsetup may take to derive a key and open a container.
const OPEN_LIMIT: Duration = Duration::from_secs(300);

/// An open LUKS mapping, as sysfs tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// The mapping's name.
    pub name: String,
    /// The container's UUID without dashes; none for a mapping that is not LUKS.
    uuid: Option<String>,
    /// Device number of the mapping, as `major:minor`.
    pub number: String,
}

/// A LUKS mapping that this process is to close.
#[derive(Debug)]
#[must_use = "dropping it closes the mapping"]
pub struct Mapping<'e> {
    exec: &'e dyn Exec,
    sys: PathBuf,
    uuid: Uuid,
    name: MapperName,
    open: bool,
}

/// Where systemd looks for the key of a container that names none, as `NAME.key` (crypttab(5)).
const KEY_FOLDERS: [&str; 2] = ["/etc/cryptsetup-keys.d", "/run/cryptsetup-keys.d"];

/// What went wrong with a container or a mapping.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LuksError {
    /// The container could not be opened; it stays locked.
    #[error("cannot unlock {}", device.display())]
    Open {
        /// The container.
        device: PathBuf,
        /// What cryptsetup said.
        source: ExecError,
    },
    /// Nothing says with which key, and nobody is there to type a passphrase; the container stays locked.
    #[error(
        "no key unlocks {}: neither a key file is named nor is there a {name}.key in {}; nobody is there to type a passphrase",
        device.display(), KEY_FOLDERS.join(" or ")
    )]
    NoKey {
        /// The container.
        device: PathBuf,
        /// The mapping.
        name: String,
    },
    /// systemd was asked to open the container, and did not.
    #[error("systemd could not unlock {} as /dev/mapper/{name}", device.display())]
    ByUnit {
        /// The container.
        device: PathBuf,
        /// The mapping.
        name: String,
        /// What systemd said; nothing where it said that all is well.
        source: Option<SystemdError>,
    },
    /// The mapping could not be closed; the drive is not safe to take away.
    #[error("cannot lock /dev/mapper/{name}: the drive is still unlocked, do not unplug it")]
    Close {
        /// The mapping.
        name: String,
        /// What cryptsetup said.
        source: ExecError,
    },
    /// The mapping's name is taken by another container.
    #[error("/dev/mapper/{name} is open for another drive; close it with `cryptsetup close {name}`")]
    Taken {
        /// The mapping.
        name: String,
    },
    /// The container is open under another name, so that it cannot be closed with ours.
    #[error("the drive is unlocked already, as /dev/mapper/{name}; close it with `cryptsetup close {name}`")]
    OtherName {
        /// The other mapping.
        name: String,
    },
    /// A mapping with nothing behind it could not be removed, so that the container cannot be opened.
    #[error(
        "cannot remove /dev/mapper/{name}, which somebody who was killed has left half-made; try `dmsetup remove {name}`"
    )]
    HalfMade {
        /// The mapping.
        name: String,
        /// What dmsetup said.
        source: ExecError,
    },
    /// After the close something still shows the mapping or holds the drive.
    #[error("{what} after the drive was locked; do not unplug it")]
    Remains {
        /// What is still there.
        what: String,
    },
    /// sysfs cannot be read.
    #[error("cannot read {}", path.display())]
    Sysfs {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Classified for LuksError {
    fn class(&self) -> Class {
        match self {
            Self::Taken { .. } | Self::OtherName { .. } => Class::Refused,
            Self::NoKey { .. } => Class::Config,
            Self::Open { .. }
            | Self::ByUnit { .. }
            | Self::Close { .. }
            | Self::HalfMade { .. }
            | Self::Remains { .. }
            | Self::Sysfs { .. } => Class::Source,
        }
    }
}

/// The open device-mapper mappings below `sys`, which is `/sys` but for tests.
///
/// # Errors
///
/// When sysfs cannot be read; a mapping that vanishes meanwhile is left out.
pub fn active(sys: &Path) -> Result<Vec<Active>, LuksError> {
    let folder = sys.join("block");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(source) => return Err(LuksError::Sysfs { path: folder, source }),
    };
    let mut mappings = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| LuksError::Sysfs { path: folder.clone(), source })?;
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).map(|text| text.trim().to_owned());
        if let (Ok(name), Ok(number)) = (read("dm/name"), read("dev")) {
            let uuid = read("dm/uuid").ok().as_deref().and_then(container_uuid);
            mappings.push(Active { name, uuid, number });
        }
    }
    Ok(mappings)
}

/// The call by which [`Mapping::obtain`] opens the container on `device` as `name`.
pub fn open_call(device: &Path, name: &MapperName, key_file: &Path, unlock: &Unlock) -> Invocation {
    let call = Invocation::new("cryptsetup").args(["open", "--type=luks", "--batch-mode", "--key-file"]);
    // Left behind by a process that was killed, it would open the container after somebody has closed everything.
    let call = call.arg(key_file).args(unlock.options()).arg(device).arg(&name.0).bound().limit(OPEN_LIMIT);
    call.stdin(unlock.passphrase.clone().unwrap_or_default())
}

impl Active {
    /// Whether this is a mapping of the container `uuid`.
    pub fn is_of(&self, uuid: &Uuid) -> bool {
        self.uuid.as_deref() == Some(uuid.digits().as_str())
    }
}

/// Closes a mapping called `name` that an earlier run has left open on another container than `uuid`, and removes what a killed
/// cryptsetup has left half-made for that one ([`clear_half_made`]).
///
/// The caller holds the lock that all users of the name take, and has unmounted what an earlier run has left.
///
/// # Errors
///
/// When it cannot be closed, for instance because somebody has mounted it elsewhere.
pub fn clear_leftover(exec: &dyn Exec, uuid: &Uuid, name: &MapperName) -> Result<(), LuksError> {
    let sys = Path::new("/sys");
    clear_half_made(exec, uuid)?;
    let leftover = active(sys)?.into_iter().find(|active| active.name == name.0 && !active.is_of(uuid));
    let Some(other) = leftover.and_then(|active| Uuid::from_digits(&active.uuid?)) else { return Ok(()) };
    log::warn!("closing /dev/mapper/{}, which an earlier run has left open for the drive {}", name.0, other.0);
    Mapping { exec, sys: sys.to_owned(), uuid: other, name: name.clone(), open: true }.close()
}

impl<'e> Mapping<'e> {
    /// Takes over an open mapping of `uuid` called `name`, or opens the container as `unlock` says; with a passphrase it takes over
    /// none.
    ///
    /// # Errors
    ///
    /// When the name or the container is in use otherwise, or cannot be unlocked; nothing was changed.
    pub fn obtain(exec: &'e dyn Exec, uuid: &Uuid, name: &MapperName, unlock: &Unlock) -> Result<Self, LuksError> {
        Self::obtain_at(exec, Path::new("/sys"), &KEY_FOLDERS.map(Path::new), uuid, name, unlock)
    }

    fn obtain_at(
        exec: &'e dyn Exec,
        sys: &Path,
        keys: &[&Path],
        uuid: &Uuid,
        name: &MapperName,
        unlock: &Unlock,
    ) -> Result<Self, LuksError> {
        let mapping = Self { exec, sys: sys.to_owned(), uuid: uuid.clone(), name: name.clone(), open: true };
        for active in active(&mapping.sys)? {
            let taken = active.name == name.0;
            match (taken, active.is_of(uuid)) {
                // A passphrase is there to be tried.
                (true, true) if unlock.passphrase.is_none() => {
                    log::info!("taking over the open mapping {}", name.0);
                    return Ok(mapping);
                }
                (true, _) => {
                    return Err(mapping.unopened(LuksError::Taken { name: active.name }));
                }
                (false, true) => {
                    return Err(mapping.unopened(LuksError::OtherName { name: active.name }));
                }
                (false, false) => {}
            }
        }
        // A unit that systemd still takes for active, although its mapping is gone, would not notice our mapping's
        // end either; stopping it now makes its state true again.
        mapping.settle_unit();
        let device = uuid.device();
        if unlock.is_systemds() {
            return mapping.open_by_unit();
        }
        let Some(key_file) = unlock.key(name.as_str(), keys) else {
            return Err(mapping.unopened(LuksError::NoKey { device, name: name.0.clone() }));
        };
        match exec.run(&open_call(&device, name, &key_file, unlock)) {
            Ok(_) => Ok(mapping),
            // Interrupted or timed out, it may have opened all the same: then it must be closed.
            Err(source) if mapping.is_shown().unwrap_or(true) => {
                let open = LuksError::Open { device, source };
                if let Err(close) = mapping.close() {
                    log::error!("{}", Chain(&close));
                }
                Err(open)
            }
            Err(source) => Err(mapping.unopened(LuksError::Open { device, source })),
        }
    }

    /// Has systemd open the container: what crypttab says is more than cryptsetup by itself can do.
    fn open_by_unit(self) -> Result<Self, LuksError> {
        let started = systemd::start(self.exec, &self.unit()).err();
        if started.is_none() && self.is_shown()? {
            return Ok(self);
        }
        let error = LuksError::ByUnit { device: self.uuid.device(), name: self.name.0.clone(), source: started };
        // What has come up all the same is closed with the guard.
        Err(if self.is_shown().unwrap_or(true) { error } else { self.unopened(error) })
    }

    fn unit(&self) -> String {
        format!("systemd-cryptsetup@{}.service", systemd::escape(&self.name.0))
    }

    /// Takes over the open mapping of `uuid` called `name`; `None` if it is not open.
    ///
    /// # Errors
    ///
    /// When sysfs cannot be read.
    pub fn adopt(exec: &'e dyn Exec, uuid: &Uuid, name: &MapperName) -> Result<Option<Self>, LuksError> {
        let sys = PathBuf::from("/sys");
        let open = active(&sys)?.iter().any(|active| active.name == name.0 && active.is_of(uuid));
        Ok(open.then(|| Self { exec, sys, uuid: uuid.clone(), name: name.clone(), open }))
    }

    /// The mapping's block device.
    pub fn device(&self) -> PathBuf {
        self.name.device()
    }

    /// Closes the mapping and proves that it is gone and that nothing holds the drive.
    ///
    /// # Errors
    ///
    /// When the mapping cannot be closed, or when something still shows it; the drive is not safe to take away.
    pub fn close(mut self) -> Result<(), LuksError> {
        self.close_once()
    }

    /// Leaves the mapping open, for somebody else to close.
    pub fn leave(mut self) {
        self.open = false;
    }

    fn close_once(&mut self) -> Result<(), LuksError> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        self.settle_unit();
        #[expect(clippy::arithmetic_side_effects, reason = "the limit is a constant of some seconds")]
        let deadline = Instant::now() + CLOSE_LIMIT;
        while self.is_shown()? {
            let call = Invocation::new("cryptsetup").arg("close").arg(&self.name.0).shielded().limit(OPEN_LIMIT);
            match self.exec.run(&call) {
                Ok(_) => {}
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                Err(source) => return Err(LuksError::Close { name: self.name.0.clone(), source }),
            }
        }
        self.prove_gone()
    }

    /// Lets systemd close a mapping that it opened: closed behind its back, its unit would stay active and the next
    /// plug-in would not unlock. `ignore-dependencies`, because a plain stop would stop the calling unit too.
    fn settle_unit(&self) {
        let unit = self.unit();
        if !systemd::is_active(self.exec, &unit) {
            return;
        }
        if let Err(error) = systemd::stop_alone(self.exec, &unit) {
            log::warn!("{}; trying cryptsetup", Chain(&error));
        }
    }

    /// Whether the mapping, under any name, is in sysfs.
    fn is_shown(&self) -> Result<bool, LuksError> {
        Ok(active(&self.sys)?.iter().any(|active| active.name == self.name.0 || active.is_of(&self.uuid)))
    }

    /// Checks that nothing of the mapping is left, and that nothing else holds the drive.
    fn prove_gone(&self) -> Result<(), LuksError> {
        if self.is_shown()? {
            return Err(LuksError::Remains { what: format!("the mapping {} is still there", self.name.0) });
        }
        // A drive that was pulled has no device any more, and no holders.
        let Ok(device) = fs::canonicalize(self.uuid.device()) else { return Ok(()) };
        let Some(name) = device.file_name() else { return Ok(()) };
        let folder = self.sys.join("class/block").join(name).join("holders");
        let holders: Vec<_> = match fs::read_dir(&folder) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(LuksError::Sysfs { path: folder, source }),
        };
        if holders.is_empty() {
            Ok(())
        } else {
            Err(LuksError::Remains { what: format!("{} is still held by {}", device.display(), holders.join(", ")) })
        }
    }

    /// Gives the guard up without closing anything, because nothing was opened.
    fn unopened(mut self, error: LuksError) -> LuksError {
        self.open = false;
        error
    }
}

impl Close for Mapping<'_> {
    fn close(self) -> Result<(), TeardownError> {
        Mapping::close(self).map_err(TeardownError::of)
    }
}

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.close_once() {
            log::error!("{}", Chain(&error));
        }
    }
}

/// The container's UUID in device-mapper's `CRYPT-LUKS2-UUID-NAME` (cryptsetup's `lib/libdevmapper.c`).
fn container_uuid(text: &str) -> Option<String> {
    let mut parts = text.split('-');
    let (crypt, kind, uuid) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = uuid.len() == 32 && uuid.bytes().all(|byte| byte.is_ascii_hexdigit());
    (crypt == "CRYPT" && kind.starts_with("LUKS") && whole).then(|| uuid.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
