//! The checks of what is outside of this machine: the drives, and the ways in which a failure is told.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::path::Path;

use phobos_core::block::Health;

use super::Found;
use super::machine::fault;
use super::signs::{GROUP, Signs};

/// Where drives are that are named by the UUID of their containers.
const BY_UUID: &str = "/dev/disk/by-uuid";

/// How they stand: overdue, nearly full, rotten, failing.
pub(super) fn standing(signs: &Signs) -> Found {
    let attention = signs.attention.as_ref()?;
    Some(attention.iter().map(|(what, remedy)| fault(what.clone(), remedy.clone())).collect())
}

/// What the disks that are here say of themselves.
pub(super) fn health(signs: &Signs) -> Found {
    let mut faults = Vec::new();
    let mut has_answered = false;
    for asked in &signs.asked {
        match &asked.health {
            Health::Failing(what) => {
                faults.push(fault(format!("the disk of {} fails: {what}", asked.what), "put another one in its place"));
            }
            Health::Good => has_answered = true,
            _ => {}
        }
    }
    (has_answered || !faults.is_empty()).then_some(faults)
}

/// Whether there is a way into each drive without this machine.
pub(super) fn recovery(signs: &Signs) -> Found {
    let mut faults = Vec::new();
    for ways in &signs.ways {
        let drive = &ways.drive;
        if ways.slots == Some(1) {
            faults.push(fault(
                format!("nothing but its key file on this machine opens the drive {drive}"),
                "add a passphrase by cryptsetup luksAddKey --key-file KEYFILE DEVICE, and renew its header's backup",
            ));
        }
        if !ways.is_on_sheet {
            faults.push(fault(
                format!("no recovery sheet has been made that has the drive {drive}"),
                "print what phobos-ext recovery-sheet --with-passphrases says, and keep it elsewhere",
            ));
        }
    }
    let is_seen = signs.ways.is_empty() || signs.ways.iter().any(|ways| ways.slots.is_some() || !ways.is_on_sheet);
    (is_seen || !faults.is_empty()).then_some(faults)
}

/// Whether each unit that waits for a drive waits for one that there is.
pub(super) fn devices(signs: &Signs) -> Found {
    let waiting = signs.waiting.as_ref()?;
    let is_by_uuid = |device: &Path| device.starts_with(BY_UUID);
    let mut faults = Vec::new();
    for (unit, device) in waiting {
        if is_by_uuid(device) && !signs.known.contains(device) && !signs.known.is_empty() {
            faults.push(fault(
                format!("{unit} waits for {}, which is no drive that is configured", device.display()),
                format!("systemctl disable {unit}, or add the drive"),
            ));
        }
    }
    // What waits for a label, or a port, may mean any drive.
    let is_certain = waiting.iter().all(|(_, device)| is_by_uuid(device));
    for device in signs.known.iter().filter(|device| is_certain && is_by_uuid(device)) {
        if !waiting.iter().any(|(_, awaited)| awaited == device) {
            let uuid = device.file_name().unwrap_or_default().to_string_lossy();
            faults.push(fault(
                format!("nothing happens when the drive {} is plugged in", device.display()),
                format!("systemctl enable $(systemd-escape --template=phobos-ext@.service {uuid})"),
            ));
        }
    }
    Some(faults)
}

/// The mail that no server takes.
pub(super) fn mail(signs: &Signs) -> Found {
    let (waiting, set_aside) = signs.letters?;
    let messages = |count: usize| if count == 1 { "1 message".to_owned() } else { format!("{count} messages") };
    let mut faults = Vec::new();
    if waiting > 0 {
        let what = format!("no server has taken {} yet", messages(waiting));
        faults.push(fault(what, "phobos-mail test says why; they are tried again every ten minutes"));
    }
    if set_aside > 0 {
        let what = format!("no server would take {}", messages(set_aside));
        faults.push(fault(what, "phobos-mail list shows why"));
    }
    Some(faults)
}

/// Whether a message arrives at a server; nothing is sent unless this check is asked for by its name.
pub(super) fn mailer(signs: &Signs) -> Found {
    let sent = signs.sent.as_ref()?;
    let failed = sent.as_ref().err().map(|error| {
        fault(format!("a test message did not leave as a unit sends it: {error}"), "see [mail] in phobos.toml(5)")
    });
    Some(failed.into_iter().collect())
}

/// Whether the units may set each light that is plugged in.
pub(super) fn light(signs: &Signs) -> Found {
    let (nodes, group) = &signs.lights;
    if nodes.is_empty() {
        return None;
    }
    let closed = nodes.iter().filter(|node| Some(node.group) != *group || node.mode & 0o060 != 0o060);
    let open = nodes.iter().filter(|node| node.mode & 0o002 != 0);
    let closed = closed.map(|node| {
        fault(
            format!("units cannot set the light at {}: it is not of the group {GROUP}", node.path.display()),
            "install phobos's udev rule, and run udevadm trigger",
        )
    });
    let open = open.map(|node| {
        fault(
            format!("any user can turn the light at {} green", node.path.display()),
            "install phobos's udev rule, and run udevadm trigger",
        )
    });
    Some(closed.chain(open).collect())
}
