//! Whether a disk may become a drive: a pure function of what was seen of the disk, of this machine, and of an earlier run.

use std::collections::BTreeSet;
use std::path::Path;

use phobos_core::block::{Disk, Signature};
use phobos_core::fs::shown_text;
use phobos_core::human;
use phobos_site::exit::{Exit, Stop};

use super::note::Note;

/// What LUKS is called by wipefs.
const LUKS: &str = "crypto_LUKS";

/// How many signatures a message names.
const NAMED: usize = 6;

/// What was seen.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) disk: Disk,
    /// The drives that are configured.
    pub(super) drives: Vec<Known>,
    /// What the machine's tables name.
    pub(super) needed: Vec<Needed>,
    /// What an earlier run for this name has left.
    pub(super) note: Option<Note>,
    /// Whether the key file is there.
    pub(super) has_key: bool,
}

/// A drive that is configured.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) name: String,
    /// The UUID of its container.
    pub(super) container: Option<String>,
    /// The numbers of the disks that it lies on, where it is plugged in.
    pub(super) disks: BTreeSet<String>,
}

/// A line of fstab or crypttab.
#[derive(Debug, Clone)]
pub(super) struct Needed {
    /// What it says, as in `/etc/fstab has it for /srv`.
    pub(super) what: String,
    /// The device, as it stands there.
    pub(super) source: String,
    /// The numbers of the disks that it lies on, where it is there.
    pub(super) disks: BTreeSet<String>,
    /// Whether it is the disk of the backups.
    pub(super) is_backup: bool,
}

/// What somebody wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) name: &'a str,
    /// Whether what is on the disk may go.
    pub(super) wipe: bool,
}

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// All of it.
    Everything,
    /// The drive is made; this machine is to know it.
    MachineOnly,
}

/// Says what is to be done, or why the disk is left alone.
pub(super) fn judge(seen: &Seen, wish: Wish<'_>) -> Result<Task, Stop> {
    let disk = &seen.disk;
    let path = disk.path.display();
    let refused = |text: String| Err(Stop::new(Exit::Refused, text));
    if !["disk", "loop"].contains(&disk.kind.as_str()) {
        return refused(format!("{path} is no whole disk (lsblk calls it {:?}); name the disk itself", disk.kind));
    }
    let needed: Vec<_> = seen.needed.iter().filter(|needed| is_on(disk, &needed.source, &needed.disks)).collect();
    if needed.iter().any(|needed| needed.is_backup) {
        return refused(format!("{path} is the disk of the backups itself, not a drive"));
    }
    let is_ours = |uuid: &str| disk.all_signatures().any(|(_, found)| is_container(found, uuid));
    let on_it = |known: &Known| {
        known.container.as_ref().is_some_and(|uuid| is_ours(uuid)) || known.disks.contains(&disk.number)
    };
    if let Some(other) = seen.drives.iter().find(|known| on_it(known) && known.name != wish.name) {
        return refused(format!(
            "{path} is the drive {0}, with its copy; to give that up, take {0} out of the configuration first",
            other.name
        ));
    }
    if let Some(own) = seen.drives.iter().find(|known| known.name == wish.name) {
        if own.container.is_some() && on_it(own) {
            return Ok(Task::MachineOnly);
        }
        let text = format!("another drive is called {}; give this one another name, or take that one out", wish.name);
        return Err(Stop::new(Exit::Config, text));
    }
    if let Some(needed) = needed.first() {
        return refused(format!("{path} is needed by this machine: {}", needed.what));
    }
    if let Some(used) = disk.uses.first() {
        return refused(format!("{} {}; a disk that is in use is left alone", used.device.display(), used.how));
    }
    if disk.read_only {
        return refused(format!("{path} cannot be written to"));
    }
    let unfinished = seen.note.as_ref().is_some_and(|note| note.is_of(disk) && is_left_by(disk, note));
    let found = found(disk);
    if !found.is_empty() && !unfinished && !wish.wipe {
        let found = human::first_of(&found, NAMED, ", ");
        return refused(format!("{path} has {found} on it; if all of that may go for good, say --wipe"));
    }
    if seen.has_key && seen.note.is_none() {
        let text = format!("there is a key file for a drive {} already, which may be needed; move it away", wish.name);
        return Err(Stop::new(Exit::Config, text));
    }
    Ok(Task::Everything)
}

/// Refuses a disk on which the repository, of `bytes`, has no room.
pub(super) fn judge_size(disk: &Disk, bytes: u64) -> Result<(), Stop> {
    if super::plan::part_size(disk) > bytes {
        return Ok(());
    }
    let text = format!(
        "{} has {}, and the repository {}: it would not fit",
        disk.path.display(),
        human::size(disk.size),
        human::size(bytes)
    );
    Err(Stop::new(Exit::Refused, text))
}

/// What is on a disk, in words.
pub(super) fn found(disk: &Disk) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for (device, signature) in disk.all_signatures() {
        let label = signature.label.as_ref().map(|label| format!(" {:?}", shown_text(label)));
        let word = format!("{}{} ({})", signature.kind, label.unwrap_or_default(), device.display());
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.extend(disk.parts.iter().map(|part| format!("a partition ({})", part.path.display())));
    words
}

/// Whether all that is on the disk can be what an earlier run has left there.
fn is_left_by(disk: &Disk, note: &Note) -> bool {
    let table = disk.table.as_ref();
    let is_own_table =
        table.is_none_or(|table| table.id == note.table && table.parts.iter().all(|id| *id == note.part));
    // Without a table nothing says whose a partition is.
    let is_own_part = disk.parts.is_empty() || table.is_some();
    let half_made = |found: &Signature| found.kind == LUKS && found.uuid.is_none();
    is_own_table
        && is_own_part
        && disk.signatures.iter().all(Signature::is_table)
        && disk.parts.len() <= 1
        && disk
            .parts
            .iter()
            .flat_map(|part| &part.signatures)
            .all(|found| is_container(found, &note.container) || half_made(found))
}

fn is_container(found: &Signature, uuid: &str) -> bool {
    found.kind == LUKS && found.uuid.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(uuid))
}

/// Whether `source`, as a line of a table has it, is on the disk: by its number, or by what is written on the disk.
fn is_on(disk: &Disk, source: &str, disks: &BTreeSet<String>) -> bool {
    let tag = |tag: &str, folder: &str| {
        let below = || Some(Path::new(source).strip_prefix(folder).ok()?.to_str()?.to_owned());
        source.strip_prefix(tag).map(|text| text.trim_matches('"').to_owned()).or_else(below)
    };
    let is_written = |wanted: Option<String>, own: fn(&Signature) -> &Option<String>| {
        wanted.is_some_and(|wanted| disk.all_signatures().any(|(_, found)| own(found).as_ref() == Some(&wanted)))
    };
    let part = tag("PARTUUID=", "/dev/disk/by-partuuid").map(|id| id.to_ascii_lowercase());
    disks.contains(&disk.number)
        || is_written(tag("UUID=", "/dev/disk/by-uuid"), |found| &found.uuid)
        || is_written(tag("LABEL=", "/dev/disk/by-label"), |found| &found.label)
        || part.is_some_and(|id| disk.table.as_ref().is_some_and(|table| table.parts.contains(&id)))
}

#[cfg(test)]
pub(super) mod tests;
