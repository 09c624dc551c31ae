//! Whether anything on this machine still uses a device.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::{MountError, device_number, soon, users};

/// Proves that nothing on this machine uses the block device `device`, nor any other partition of its disk: no mount in any
/// namespace, kept ones without a process included, and no mapping. The kernel itself is asked: an exclusive open of a
/// device in use is refused (open(2), `O_EXCL`).
///
/// A device that is gone is free.
///
/// # Errors
///
/// When it is still in use after some seconds, with the processes that see it mounted.
pub fn prove_free(device: &Path) -> Result<(), MountError> {
    let deadline = soon();
    let others = disk_of(Path::new("/sys"), device);
    prove_one_free(device, deadline)?;
    others.iter().try_for_each(|other| prove_one_free(other, deadline))
}

/// Who uses the block device `device` alone, in words; `None` if nobody does, after a moment that udev may need.
pub fn users_of(device: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    for _ in 0..20 {
        match rustix::fs::open(device, flags, Mode::empty()) {
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(100)),
            _ => return None,
        }
    }
    Some(device_number(device).map_or(String::new(), |number| users::of_device(&number)))
}

/// The partitions of the disk that `device` is a part of, and then the disk; none for a whole disk without partitions.
fn disk_of(sys: &Path, device: &Path) -> Vec<PathBuf> {
    let Some(number) = device_number(device) else { return Vec::new() };
    let Ok(own) = fs::canonicalize(sys.join("dev/block").join(number)) else { return Vec::new() };
    let whole = match own.parent() {
        Some(parent) if own.join("partition").exists() => parent.to_owned(),
        _ => own.clone(),
    };
    let entries = fs::read_dir(&whole).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    let entries: Vec<PathBuf> = entries.unwrap_or_default();
    let parts = entries.iter().filter(|path| path.join("partition").exists());
    let names = parts.chain([&whole]).filter(|path| **path != own).filter_map(|path| path.file_name());
    names.map(|name| Path::new("/dev").join(name)).collect()
}

fn prove_one_free(device: &Path, deadline: Instant) -> Result<(), MountError> {
    loop {
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
        match rustix::fs::open(device, flags, Mode::empty()).map_err(io::Error::from) {
            Ok(_) => return Ok(()),
            Err(error)
                if matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENXIO | nix::libc::ENODEV)) =>
            {
                return Ok(());
            }
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(source) => {
                let users = device_number(device).map_or(String::new(), |number| users::of_device(&number));
                return Err(MountError::InUse { device: device.to_owned(), users, source });
            }
        }
    }
}
