//! Block devices: since when one is plugged in, as udev tells it.

use std::fs;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};

use crate::mount;

/// Where udev keeps what it knows of a device, by the letter `b` and its number.
const UDEV: &str = "/run/udev/data";

/// How long the machine is up.
const UPTIME: &str = "/proc/uptime";

/// Since when the block device `device` is plugged in, or the machine up; `None` where it is not there or udev does not know it.
pub fn plugged_in_since(device: &Path, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let number = mount::device_number(device)?;
    let known = fs::read_to_string(Path::new(UDEV).join(format!("b{number}"))).ok()?;
    let uptime = fs::read_to_string(UPTIME).ok()?;
    since(&known, &uptime, now)
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
