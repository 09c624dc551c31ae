//! What a preparation consists of, as data: a pure function of what was seen. A dry run prints it, and the executor does nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use phobos_core::block::{self, Disk};
use phobos_core::exec::Invocation;
use phobos_core::fs::shown_text;
use phobos_core::luks::{self, MapperName, Proof, Unlock, Uuid};

use super::note::Note;
use super::tables::Line;

/// Where the one partition begins, in bytes, and what its size is a multiple of: what every medium is aligned to.
const MIB: u64 = 1 << 20;

/// What is kept free behind the partition, for the second copy of the partition table.
const TAIL: u64 = MIB;

/// The type of a partition with LUKS (UAPI group, Discoverable Partitions Specification: `Linux LUKS`).
const PART_TYPE: &str = "CA7D7CCB-63ED-4C53-861C-1742536059CC";

/// The label of every drive's file system, by which fstab knows it.
pub(super) const LABEL: &str = "extbackup";

/// The size for which `mkfs.ext4 -T largefile` makes an inode, in bytes.
const LARGE: u64 = MIB;

/// How many inodes more than twice those of the source a drive is to have.
const SPARE: u64 = 1000;

/// What one inode takes at least, in bytes of the drive.
const LEAST: u64 = 16 * 1024;

/// How long a file system may take to be made: all of its tables are written at once.
const MKFS_STALL: Duration = Duration::from_secs(30 * 60);

/// How long a table may take to be written.
const TABLE_LIMIT: Duration = Duration::from_secs(120);

/// One thing to do.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// What it does, as in `make the partition`.
    pub(super) what: String,
    pub(super) acts: Vec<Act>,
    /// Whether it writes to the drive.
    pub(super) on_drive: bool,
}

/// A part of a step.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Make a folder for root alone.
    Folder(PathBuf),
    /// Note which drive is being prepared.
    Note(Note),
    /// Make a key file of random bytes, unless it is there.
    Key(PathBuf),
    /// Run a program.
    Run(Invocation),
    /// Run a program that gets these lines to read.
    Feed(Invocation, String),
    /// Run a program that gets the recovery passphrase to read.
    Whisper(Invocation),
    /// Wait until the kernel has the partition.
    Await { part: PathBuf, start: u64, size: u64 },
    /// Put what is in one file in the place of another, once it is on the disk.
    Keep { from: PathBuf, to: PathBuf },
    /// Remove a file that an earlier run may have left.
    Remove(PathBuf),
    /// Unlock the drive, run a program on it, lock it.
    Unlocked { open: Invocation, call: Invocation },
    /// Unlock and mount the drive, write down whose it is, close it.
    Record(PathBuf),
    /// Print the recovery passphrase.
    Show,
    /// Write the drive's file of the configuration.
    Configure { file: PathBuf, text: String },
    /// See to it that a table has a line.
    Table { file: PathBuf, line: Line },
    /// Have systemd start a mirror when the drive is plugged in.
    Enable(Invocation),
    /// Note in the ledger that the drive is here, and forget that it was being prepared.
    Finish,
}

/// What the plan is made of.
#[derive(Debug, Clone)]
pub(super) struct Basis<'a> {
    pub(super) disk: &'a Disk,
    pub(super) note: &'a Note,
    pub(super) name: &'a str,
    pub(super) container: &'a Uuid,
    pub(super) key_file: &'a Path,
    /// The folder of the headers.
    pub(super) headers: &'a Path,
    pub(super) mapping: &'a MapperName,
    pub(super) mount: &'a Path,
    /// The drive's file of the configuration, and what it is to say.
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
    pub(super) enable: &'a Invocation,
    /// Whether there is a recovery passphrase.
    pub(super) recovery: bool,
    /// Whether what is on the disk goes.
    pub(super) wipe: bool,
    /// How many inodes the backups have.
    pub(super) inodes: u64,
    /// Whether there is udev to wait for.
    pub(super) udev: bool,
}

/// Everything that makes a drive of a disk.
pub(super) fn everything(basis: &Basis<'_>) -> Vec<Step> {
    let mut steps = vec![
        step("make the folders of keys and headers", folders(basis)),
        step("note that the drive is being prepared", vec![Act::Note(basis.note.clone())]),
        step("make the key file", vec![Act::Key(basis.key_file.to_owned())]),
        on_drive("make one partition of the whole disk", partition(basis)),
        on_drive("make the LUKS container", vec![Act::Run(container(basis))]),
    ];
    let part = part(basis.disk);
    if basis.recovery {
        let call = luks::add_passphrase(&part, basis.key_file);
        steps.push(on_drive("add the recovery passphrase", vec![Act::Whisper(call)]));
    }
    steps.push(step("keep the header, and try each key on it", header(basis)));
    steps.push(on_drive("make the file system", file_system(basis)));
    steps.push(on_drive("write the drive's record", vec![Act::Record(basis.mount.to_owned())]));
    if basis.recovery {
        steps.push(step("show the recovery passphrase, once", vec![Act::Show]));
    }
    let configure = Act::Configure { file: basis.file.to_owned(), text: basis.text.to_owned() };
    steps.push(step("add the drive to the configuration", vec![configure]));
    steps.extend(machine(basis));
    steps
}

/// What is left to do on this machine once the drive is made and configured.
pub(super) fn machine(basis: &Basis<'_>) -> Vec<Step> {
    let crypttab = Line::Crypttab {
        mapping: format!("{}-{}", basis.mapping.as_str(), basis.name),
        container: basis.container.clone(),
        key_file: basis.key_file.to_owned(),
    };
    let fstab = Line::Fstab { label: LABEL.to_owned(), place: basis.mount.to_owned() };
    let table = |file: &str, line| Act::Table { file: file.into(), line };
    vec![
        step("add the drive to crypttab", vec![table(phobos_site::drives::CRYPTTAB, crypttab)]),
        step("add the place of drives to fstab", vec![table(phobos_site::paths::FSTAB, fstab)]),
        step("enable the drive's unit", vec![Act::Enable(basis.enable.clone())]),
        step("note that the drive is ready", vec![Act::Finish]),
    ]
}

/// How large the partition is, in bytes.
pub(super) fn part_size(disk: &Disk) -> u64 {
    disk.size.saturating_sub(MIB + TAIL) / MIB * MIB
}

/// The partition's device, as the kernel names it.
pub(super) fn part(disk: &Disk) -> PathBuf {
    let path = disk.path.to_string_lossy();
    let between = if path.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
    format!("{path}{between}1").into()
}

fn step(what: &str, acts: Vec<Act>) -> Step {
    Step { what: what.to_owned(), acts, on_drive: false }
}

fn on_drive(what: &str, acts: Vec<Act>) -> Step {
    Step { on_drive: true, ..step(what, acts) }
}

fn folders(basis: &Basis<'_>) -> Vec<Act> {
    let keys = basis.key_file.parent().map(|folder| Act::Folder(folder.to_owned()));
    keys.into_iter().chain([Act::Folder(basis.headers.to_owned())]).collect()
}

fn partition(basis: &Basis<'_>) -> Vec<Act> {
    let Basis { disk, note, .. } = basis;
    let (part, size) = (part(disk), part_size(disk));
    let settle = || basis.udev.then(|| Act::Run(block::settle()));
    let script = format!(
        "label: gpt\nlabel-id: {}\nstart=1MiB, size={}MiB, type={PART_TYPE}, uuid={}, name=\"phobos-{}\"\n",
        note.table,
        size / MIB,
        note.part,
        basis.name
    );
    let table = Invocation::new("sfdisk").args(["--quiet", "--wipe=always", "--wipe-partitions=always", "--"]);
    let table = table.arg(&disk.path).bound().limit(TABLE_LIMIT);
    let old = disk.parts.iter().map(|part| &part.path).chain([&disk.path]);
    let wiped = basis.wipe.then(|| Invocation::new("wipefs").args(["--all", "--force", "--quiet", "--"]).args(old));
    let wiped = wiped.map(|call| Act::Run(call.bound().limit(TABLE_LIMIT)));
    let acts = [settle(), wiped, Some(Act::Feed(table, script)), settle()];
    acts.into_iter().flatten().chain([Act::Await { part, start: MIB, size }]).collect()
}

fn container(basis: &Basis<'_>) -> Invocation {
    let disk = basis.disk;
    let sector = if disk.physical_sector.max(disk.logical_sector) >= 4096 { 4096 } else { 512 };
    luks::format(&part(disk), basis.container, sector, basis.key_file)
}

fn header(basis: &Basis<'_>) -> Vec<Act> {
    let to = header_file(basis.headers, basis.name, basis.container);
    let from = to.with_extension("new");
    let key = luks::prove_key(&from, Proof::KeyFile(basis.key_file));
    let passphrase = basis.recovery.then(|| Act::Whisper(luks::prove_key(&from, Proof::Passphrase)));
    let kept = [Act::Remove(from.clone()), Act::Run(luks::back_up_header(&part(basis.disk), &from)), Act::Run(key)];
    kept.into_iter().chain(passphrase).chain([Act::Keep { from, to }]).collect()
}

/// Where the header of the drive `name` is kept.
pub(crate) fn header_file(headers: &Path, name: &str, container: &Uuid) -> PathBuf {
    headers.join(format!("{name}-{}.header", container.as_str()))
}

fn file_system(basis: &Basis<'_>) -> Vec<Act> {
    let unlock = Unlock::with_key_file(basis.key_file);
    let open = luks::open_call(&basis.container.device(), basis.mapping, basis.key_file, &unlock);
    // One inode for each MiB, but for a backup of many small files.
    let size = part_size(basis.disk);
    let wanted = basis.inodes.saturating_mul(2).saturating_add(SPARE);
    let more = (size / LARGE < wanted).then(|| ["-N".to_owned(), wanted.min(size / LEAST).to_string()]);
    let call = Invocation::new("mkfs.ext4").args(["-q", "-F", "-L", LABEL, "-m", "0", "-T", "largefile"]);
    let call = call.args(more.into_iter().flatten());
    let call = call.args(["-E", "packed_meta_blocks=1,lazy_itable_init=0,lazy_journal_init=0", "--"]);
    let call = call.arg(basis.mapping.device()).bound().while_it_gets_on(MKFS_STALL);
    let settle = basis.udev.then(|| Act::Run(block::settle()));
    settle.into_iter().chain([Act::Unlocked { open, call }]).collect()
}

impl Act {
    /// What it does, as a dry run prints it.
    pub(super) fn shown(&self) -> Vec<String> {
        let file = |verb: &str, path: &Path| vec![format!("{verb} {}", path.display())];
        match self {
            Self::Folder(path) => file("make for root alone:", path),
            Self::Note(note) => vec![format!("write down {} and its new identifiers", shown_text(&note.known_by))],
            Self::Key(path) => file("write 64 random bytes, mode 0400, unless it is there:", path),
            Self::Run(call) | Self::Enable(call) => vec![format!("$ {call}")],
            Self::Feed(call, lines) => {
                let lines = lines.lines().map(|line| format!("< {line}"));
                [format!("$ {call}")].into_iter().chain(lines).collect()
            }
            Self::Whisper(call) => vec![format!("$ {call}"), "< the recovery passphrase".to_owned()],
            Self::Await { part, .. } => file("wait for", part),
            Self::Keep { from, to } => vec![format!("put {} in the place of {}", from.display(), to.display())],
            Self::Remove(path) => file("remove, if it is there:", path),
            Self::Unlocked { open, call } => {
                vec![format!("$ {open}"), format!("$ {call}"), "lock it again".to_owned()]
            }
            Self::Record(place) => {
                vec![format!("unlock, mount at {} in the namespace, write .phobos/drive.json, close", place.display())]
            }
            Self::Show => vec!["print it to standard output".to_owned()],
            Self::Configure { file, text } => {
                let lines = text.lines().map(|line| format!("< {line}"));
                [format!("write {}", file.display())].into_iter().chain(lines).collect()
            }
            Self::Table { file, line } => {
                vec![format!("add to {}, unless it is there:", file.display()), format!("< {}", line.text())]
            }
            Self::Finish => vec!["write it into the ledger of the drives, and remove the note".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests;
