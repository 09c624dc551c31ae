//! The checks of keys that let somebody in: those of this machine that were lent for a moment, and those of others that rrsync holds to
//! a folder here.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::BTreeSet;
use std::time::Duration;

use phobos_site::pull::RESTORE_DAYS;

use super::Found;
use super::machine::fault;
use super::signs::{Signs, held};

/// What is in the first line of the rrsync of rsync 3.2.3 and before, and not in that of a later one. It looks at the names that it is
/// asked for, and not at where they lead to (<https://bugzilla.samba.org/show_bug.cgi?id=11879>; rewritten for 3.2.4, rsync's NEWS.md).
const OF_3_2_3: &str = "perl";

/// What is in an rrsync, from 3.5.0 on or with its fix, that hands on what it has looked at. One before hands on the name, which may lead
/// elsewhere by then (CVE-2026-53783; rsync's NEWS.md for 3.5.0).
const PINNED: &str = "/proc/self/fd";

/// Whether a key that gives files back to a host is still here after its time.
pub(super) fn restore(signs: &Signs) -> Found {
    let days = u64::from(RESTORE_DAYS);
    let limit = Duration::from_secs(days.saturating_mul(24 * 3600));
    let left = signs.lent.as_ref()?.iter().filter(|lent| lent.age > limit);
    Some(
        left.map(|lent| {
            let (path, host) = (lent.path.display(), &lent.host);
            fault(
                format!("the key {path} can write on {host}; it was lent for {days} days, and left behind"),
                format!("rm {path} {path}.pub, and take its line out of .ssh/authorized_keys on {host}"),
            )
        })
        .collect(),
    )
}

/// Whether the keys that rrsync holds to a folder of this machine are held there. What the hosts have, only they can tell.
pub(super) fn rrsync(signs: &Signs) -> Found {
    let mut faults = Vec::new();
    for (file, text) in signs.authorized.as_ref()? {
        let held: BTreeSet<_> = text.lines().filter_map(held).collect();
        // Whoever may have all of it cannot be led out of it.
        for (program, folder) in held.into_iter().filter(|(_, folder)| *folder != "/") {
            let Some((path, script)) = signs.rrsyncs.get(program) else { continue };
            let what = if script.lines().next().is_some_and(|line| line.contains(OF_3_2_3)) {
                "that of rsync 3.2.3 or older, which follows links out of it"
            } else if script.contains(PINNED) {
                continue;
            } else {
                "which can be led out of it (CVE-2026-53783)"
            };
            faults.push(fault(
                format!("a key in {} is held to {folder} by {}, {what}", file.display(), path.display()),
                format!(
                    "put the rrsync of rsync 3.5.0 or newer, or one with its fixes, in place of {}",
                    path.display()
                ),
            ));
        }
    }
    Some(faults)
}
