//! Block devices: since when one is plugged in, as udev tells it, on which disks it lies, what a disk is and holds,
//! and how it is taken off its bus.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};

mod disk;
mod health;
mod power;

pub use self::disk::{Disk, DiskError, Held, Part, Signature, Table, Use, disk, has_udev, settle};
pub use self::health::{Health, health, usb_resets};
pub use self::power::{PowerError, power_off};
use crate::mount;

/// Where udev keeps what it knows of a device, by the letter `b` and its number.
const UDEV: &str = "/run/udev/data";

/// How many devices may lie upon each other: a mapping of a volume on an array of partitions has five.
const DEPTH: u32 = 16;

/// How long the machine is up.
const UPTIME: &str = "/proc/uptime";

/// Since when the block device `device` is plugged in, or the machine up; `None` where it is not there or udev does not know it.
pub fn plugged_in_since(device: &Path, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let number = mount::device_number(device)?;
    let known = fs::read_to_string(Path::new(UDEV).join(format!("b{number}"))).ok()?;
    let uptime = fs::read_to_string(UPTIME).ok()?;
    since(&known, &uptime, now)
}

/// The numbers, as `major:minor`, of the whole disks that the block device `device` lies on, whether it is one, a part of one, or a
/// mapping of some; none where it is not there.
pub fn disks(device: &Path) -> BTreeSet<String> {
    mount::device_number(device).map_or_else(BTreeSet::new, |number| disks_of(Path::new("/sys"), &number))
}

/// The same of what is mounted.
pub fn disks_of_mount(mounted: &mount::Entry) -> BTreeSet<String> {
    if mounted.number.starts_with("0:") {
        return disks(&mounted.source);
    }
    disks_of(Path::new("/sys"), &mounted.number)
}

/// The same of the device with this number; itself where `sys` does not know it.
fn disks_of(sys: &Path, number: &str) -> BTreeSet<String> {
    let (mut disks, mut left) = (BTreeSet::new(), vec![(number.to_owned(), DEPTH)]);
    while let Some((number, depth)) = left.pop() {
        let own = fs::canonicalize(sys.join("dev/block").join(&number)).unwrap_or_default();
        let number_in = |folder: &Path| fs::read_to_string(folder.join("dev")).map(|text| text.trim().to_owned());
        let parts = fs::read_dir(own.join("slaves")).into_iter().flatten().flatten();
        let mut below: Vec<_> = parts.filter_map(|part| number_in(&part.path()).ok()).collect();
        if own.join("partition").exists() {
            below.extend(own.parent().and_then(|disk| number_in(disk).ok()));
        }
        match depth.checked_sub(1) {
            Some(depth) if !below.is_empty() => left.extend(below.into_iter().map(|number| (number, depth))),
            _ => drop(disks.insert(number)),
        }
    }
    disks
}

/// The folder of the USB device that a folder of sysfs is below: the one of which an interface, as `1-2.3:1.0`, comes next.
fn usb_device(folder: &Path) -> Option<&Path> {
    folder.ancestors().find_map(|interface| {
        let device = interface.parent()?;
        let own = device.file_name()?.to_str().filter(|own| own.contains('-'))?;
        let rest = interface.file_name()?.to_str()?.strip_prefix(own)?;
        (rest.starts_with(':') && rest.contains('.')).then_some(device)
    })
}

/// The moment at which udev first saw the device: microseconds after the machine's start, in the line `I:`
/// (`USEC_INITIALIZED`). That clock stands still while the machine sleeps, which makes the time too early there.
fn since(known: &str, uptime: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let first: i64 = known.lines().find_map(|line| line.strip_prefix("I:"))?.trim().parse().ok()?;
    let up: f64 = uptime.split(' ').next()?.parse().ok()?;
    let up = std::time::Duration::try_from_secs_f64(up).ok()?;
    let age = TimeDelta::from_std(up).ok()?.checked_sub(&TimeDelta::microseconds(first))?;
    now.checked_sub_signed(age.max(TimeDelta::zero()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sysfs with the disks 8:0, with two partitions, and 8:16; a mapping of 8:1, and an array of 8:2 and 8:16.
    #[test]
    fn a_device_lies_on_the_disks_below_it() {
        let sys = tempfile::tempdir().unwrap();
        let at = |path: &str| sys.path().join(path);
        fs::create_dir_all(at("dev/block")).unwrap();
        for (path, number, is_part) in [
            ("sda", "8:0", false),
            ("sda/sda1", "8:1", true),
            ("sda/sda2", "8:2", true),
            ("sdb", "8:16", false),
            ("dm-0", "253:0", false),
            ("md0", "9:0", false),
        ] {
            fs::create_dir_all(at(path).join("slaves")).unwrap();
            fs::write(at(path).join("dev"), format!("{number}\n")).unwrap();
            if is_part {
                fs::write(at(path).join("partition"), "1\n").unwrap();
            }
            std::os::unix::fs::symlink(at(path), at("dev/block").join(number)).unwrap();
        }
        for (upper, lower) in [("dm-0", "sda/sda1"), ("md0", "sda/sda2"), ("md0", "sdb")] {
            let name = lower.rsplit('/').next().unwrap();
            std::os::unix::fs::symlink(at(lower), at(upper).join("slaves").join(name)).unwrap();
        }
        for (number, wanted) in [
            ("8:0", vec!["8:0"]),
            ("8:1", vec!["8:0"]),
            ("8:16", vec!["8:16"]),
            ("253:0", vec!["8:0"]),
            ("9:0", vec!["8:0", "8:16"]),
            ("7:3", vec!["7:3"]),
        ] {
            let mut disks: Vec<_> = disks_of(sys.path(), number).into_iter().collect();
            disks.sort_by_key(String::len);
            assert_eq!(disks, wanted, "{number}");
        }
        assert_eq!(disks(Path::new("/nowhere")), BTreeSet::new());
        // One that lies on itself, which the kernel does not make.
        std::os::unix::fs::symlink(at("dm-0"), at("dm-0/slaves/dm-0")).unwrap();
        assert!(disks_of(sys.path(), "253:0").contains("8:0"));
    }

    #[test]
    fn udev_knows_since_when_a_device_is_there() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(10);
        let known = "S:disk/by-label/extbackup\nI:7200000000\nE:ID_FS_TYPE=ext4\nG:systemd\n";
        assert_eq!(since(known, "93600.50 1234.00\n", now), Some(now - TimeDelta::milliseconds(86_400_500)));
        // Clocks that do not agree by a moment.
        assert_eq!(since(known, "7199.00 0.00\n", now), Some(now));
        for (known, uptime) in
            [("", "1 1"), ("I:x", "1 1"), (known, ""), (known, "x"), (known, "1e300 1"), (known, "-1 1")]
        {
            assert_eq!(since(known, uptime, now), None, "{known:?} {uptime:?}");
        }
        assert_eq!(plugged_in_since(Path::new("/nowhere"), now), None);
    }
}
