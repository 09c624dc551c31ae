//! What is seen of the ways in which a failure is told: the light's permissions, and the way through the mail server, which is tried
//! where that is asked for.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phobos_core::error::Chain;
use phobos_core::exec::Exec;
use phobos_site::sister;

/// How long a mail server may take: several ways are tried, each for half a minute at most.
const LIMIT: Duration = Duration::from_secs(180);

/// The group of those units that set the light (phobos-blink's udev rule, `Group=` of the owner's units).
pub(in crate::doctor) const GROUP: &str = "systemd-journal";

/// Who makes a `BlinkStick`, and which it is, as the kernel writes it for HID; the numbers are those of phobos-blink's udev rule.
const HID_ID: &str = "000020A0:000041E5";

/// The node of a light.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Node {
    pub(in crate::doctor) path: PathBuf,
    pub(in crate::doctor) group: u32,
    pub(in crate::doctor) mode: u32,
}

/// The lights that are plugged in, and the number of the group whose programs may set them.
pub(in crate::doctor) fn nodes(sys: &Path, dev: &Path, groups: &str) -> (Vec<Node>, Option<u32>) {
    let mut nodes = Vec::new();
    for entry in fs::read_dir(sys.join("class/hidraw")).into_iter().flatten().flatten() {
        let known = fs::read_to_string(entry.path().join("device/uevent")).unwrap_or_default();
        let is_light = known.lines().any(|line| line.starts_with("HID_ID=") && line.ends_with(HID_ID));
        let path = dev.join(entry.file_name());
        if let (true, Ok(metadata)) = (is_light, fs::metadata(&path)) {
            nodes.push(Node { path, group: metadata.gid(), mode: metadata.mode() & 0o777 });
        }
    }
    nodes.sort_by(|one, other| one.path.cmp(&other.path));
    let group = groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|fields| match fields[..] {
        [GROUP, _, number, ..] => number.parse().ok(),
        _ => None,
    });
    (nodes, group)
}

/// Sends a test message as the units do; the error is what phobos-mail said.
pub(in crate::doctor) fn send(exec: &dyn Exec, config: Option<&Path>) -> Result<(), String> {
    let call = sister::call("phobos-mail", config);
    exec.run(&call.arg("test").limit(LIMIT)).map(drop).map_err(|error| Chain(&error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn lights_are_found_among_all_that_speak_hid() {
        let folder = tempfile::tempdir().unwrap();
        let dev = folder.path().join("dev");
        fs::create_dir(&dev).unwrap();
        for (name, id) in [("hidraw0", "0003:0000046D:0000C077"), ("hidraw1", "0003:000020A0:000041E5")] {
            let device = folder.path().join("class/hidraw").join(name).join("device");
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("uevent"), format!("DRIVER=hid-generic\nHID_ID={id}\n")).unwrap();
            fs::write(dev.join(name), "").unwrap();
            fs::set_permissions(dev.join(name), fs::Permissions::from_mode(0o660)).unwrap();
        }
        let group = fs::metadata(dev.join("hidraw1")).unwrap().gid();
        let (nodes, journal) = nodes(folder.path(), &dev, "root:x:0:\nsystemd-journal:x:999:\n");
        assert_eq!((nodes, journal), (vec![Node { path: dev.join("hidraw1"), group, mode: 0o660 }], Some(999)));
    }
}
