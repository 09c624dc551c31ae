//! Takes a disk off its bus: what it holds back is written, its motor stands, and the kernel lets go of it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Class, Classified};
use crate::fs::set;

/// Has the kernel stop the disk when it lets go of it (`drivers/scsi/sd.c`); the second is the name before Linux 6.6.
const STOPS: [&str; 2] = ["manage_system_start_stop", "manage_start_stop"];

/// How long the kernel may take to let go, once it was told to: writing and stopping it is waited for before.
const LIMIT: Duration = Duration::from_secs(30);

/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(50);

/// Why a disk is still on its bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PowerError {
    /// It is none that the kernel can let go of.
    #[error("{} is on no disk that can be taken off its bus", device.display())]
    NotPossible {
        /// What was named.
        device: PathBuf,
    },
    /// The kernel does not take the setting.
    #[error("cannot set {}", path.display())]
    Set {
        /// The setting.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel was told, and it is still there.
    #[error("{} is still on its bus", device.display())]
    Stays {
        /// What was named.
        device: PathBuf,
    },
}

impl Classified for PowerError {
    fn class(&self) -> Class {
        match self {
            Self::NotPossible { .. } => Class::Config,
            Self::Set { .. } | Self::Stays { .. } => Class::Failed,
        }
    }
}

/// Takes the disks that the block device `device` lies on off their buses, as `udisksctl power-off` does, and waits until they are
/// gone. Nothing may use them any more.
///
/// # Errors
///
/// [`PowerError`]; the disk may be stopped then, and is there or not.
pub fn power_off(device: &Path) -> Result<(), PowerError> {
    let disks = super::disks(device);
    power_off_below(Path::new("/sys"), device, &disks, LIMIT)
}

fn power_off_below(sys: &Path, device: &Path, disks: &BTreeSet<String>, limit: Duration) -> Result<(), PowerError> {
    let not_possible = || PowerError::NotPossible { device: device.to_owned() };
    let own = |number: &String| fs::canonicalize(sys.join("dev/block").join(number));
    let disks: Vec<_> = disks.iter().map(own).collect::<Result<_, _>>().map_err(|_| not_possible())?;
    // All of them or none.
    if disks.is_empty() || !disks.iter().all(|disk| disk.join("device/delete").exists()) {
        return Err(not_possible());
    }
    for disk in &disks {
        let scsi = fs::canonicalize(disk.join("device")).map_err(|_| not_possible())?;
        let usb = super::usb_device(&scsi).map(|usb| usb.join("remove"));
        for stops in stops(&scsi) {
            tell(&stops)?;
        }
        tell(&scsi.join("delete"))?;
        // With its last disk a device on USB has nothing to do there; hubs take the power from its port.
        if let Some(remove) = usb.filter(|remove| remove.exists()) {
            tell(&remove)?;
        }
    }
    let told = Instant::now();
    while disks.iter().any(|disk| disk.exists()) {
        if told.elapsed() > limit {
            return Err(PowerError::Stays { device: device.to_owned() });
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The settings that have the kernel stop the disk.
fn stops(scsi: &Path) -> Vec<PathBuf> {
    let disks = fs::read_dir(scsi.join("scsi_disk")).into_iter().flatten().flatten();
    let named = |disk: fs::DirEntry| STOPS.map(|name| disk.path().join(name)).into_iter().find(|path| path.exists());
    disks.filter_map(named).collect()
}

fn tell(path: &Path) -> Result<(), PowerError> {
    set(path, b"1").map_err(|source| PowerError::Set { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sysfs with a disk on USB, whose kernel lets go of nothing, and one that is no disk.
    fn sysfs() -> (tempfile::TempDir, PathBuf) {
        let sys = tempfile::tempdir().unwrap();
        let usb = sys.path().join("usb/2-1");
        let scsi = usb.join("2-1:1.0/host0/0:0:0:0");
        let disk = scsi.join("block/sdb");
        fs::create_dir_all(&disk).unwrap();
        fs::create_dir_all(scsi.join("scsi_disk/0:0:0:0")).unwrap();
        fs::create_dir_all(sys.path().join("loop0")).unwrap();
        fs::create_dir_all(sys.path().join("dev/block")).unwrap();
        for file in [scsi.join("delete"), scsi.join("scsi_disk/0:0:0:0/manage_start_stop"), usb.join("remove")] {
            fs::write(file, "").unwrap();
        }
        std::os::unix::fs::symlink(&scsi, disk.join("device")).unwrap();
        std::os::unix::fs::symlink(&disk, sys.path().join("dev/block/8:16")).unwrap();
        std::os::unix::fs::symlink(sys.path().join("loop0"), sys.path().join("dev/block/7:0")).unwrap();
        (sys, usb)
    }

    fn off(sys: &Path, numbers: &[&str], limit: Duration) -> Result<(), String> {
        let disks = numbers.iter().map(|number| (*number).to_owned()).collect();
        power_off_below(sys, Path::new("/dev/sdb1"), &disks, limit).map_err(|error| error.to_string())
    }

    #[test]
    fn a_disk_is_told_to_stop_then_let_go_of_and_waited_for() {
        let (sys, usb) = sysfs();
        assert_eq!(off(sys.path(), &["8:16"], PAUSE).unwrap_err(), "/dev/sdb1 is still on its bus");
        let at = usb.clone();
        let told = move |name: &str| fs::read_to_string(at.join(name)).unwrap();
        assert_eq!(told("2-1:1.0/host0/0:0:0:0/scsi_disk/0:0:0:0/manage_start_stop"), "1");
        assert_eq!([told("2-1:1.0/host0/0:0:0:0/delete"), told("remove")], ["1", "1"]);
        let disk = usb.join("2-1:1.0/host0/0:0:0:0/block/sdb");
        fs::write(usb.join("remove"), "").unwrap();
        let gone = thread::spawn(move || {
            while told("remove") != "1" {
                thread::yield_now();
            }
            fs::remove_dir_all(disk).unwrap();
        });
        assert_eq!(off(sys.path(), &["8:16"], LIMIT), Ok(()));
        gone.join().unwrap();
    }

    #[test]
    fn of_what_cannot_be_let_go_of_nothing_is_told() {
        let (sys, usb) = sysfs();
        for numbers in [&["7:0"][..], &["8:16", "7:0"], &["8:99"], &[]] {
            assert_eq!(
                off(sys.path(), numbers, PAUSE).unwrap_err(),
                "/dev/sdb1 is on no disk that can be taken off its bus"
            );
        }
        assert_eq!(fs::read_to_string(usb.join("remove")).unwrap(), "");
        assert!(power_off(Path::new("/nowhere")).is_err());
    }
}
