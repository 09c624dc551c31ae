//! What is mounted, read from mountinfo.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use super::MountError;

/// Room for the table of mounts of most machines.
const TABLE_BYTES: usize = 32 * 1024;

/// One mounted file system, a line of `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The device number, as `major:minor`.
    pub number: String,
    /// What part of the file system is mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Whether mounts and unmounts propagate to it or from it: `shared:N`, `master:N`.
    pub propagates: bool,
    /// The group of mounts that it is one of (`shared:N`): what is mounted in one of them is in all of them.
    pub peers: Option<u32>,
    /// The type of the file system.
    pub kind: String,
    /// What is mounted, usually a device.
    pub source: PathBuf,
}

/// What this process sees mounted.
///
/// # Errors
///
/// When the kernel's table cannot be read.
pub fn table() -> Result<Vec<Entry>, MountError> {
    table_of(Path::new("/proc/self/mountinfo"))
}

/// What the process with this mountinfo file sees mounted.
///
/// # Errors
///
/// When the kernel's table cannot be read.
pub fn table_of(mountinfo: &Path) -> Result<Vec<Entry>, MountError> {
    // The kernel makes the table while it is read: with room for all of it, that is one step.
    let mut bytes = Vec::with_capacity(TABLE_BYTES);
    let read = File::open(mountinfo).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|source| MountError::Read { path: mountinfo.to_owned(), source })?;
    parse(&String::from_utf8_lossy(&bytes))
}

/// What is mounted on `target`: the topmost where several lie upon each other.
pub fn at<'t>(table: &'t [Entry], target: &Path) -> Option<&'t Entry> {
    table.iter().rev().find(|entry| entry.target == target)
}

/// Whether something is mounted on `target`, links followed: one question to the kernel instead of its whole table.
///
/// # Errors
///
/// When the kernel does not say so and its table cannot be read.
pub fn is_mount_point(target: &Path) -> Result<bool, MountError> {
    match statx(CWD, target, AtFlags::NO_AUTOMOUNT, StatxFlags::empty()) {
        Ok(answer) if answer.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Ok(answer.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        // Before Linux 5.8, or where the folder cannot be reached.
        _ => Ok(at(&table()?, target).is_some()),
    }
}

/// The device number of a block device, as mountinfo writes it; `None` if it is no block device.
pub fn device_number(device: &Path) -> Option<String> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let metadata = fs::metadata(device).ok()?;
    let number = metadata.rdev();
    metadata
        .file_type()
        .is_block_device()
        .then(|| format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number)))
}

/// File systems that have a number of their own in the table (`0:N`) and lie on disks all the same: their source may be a
/// list or a name of their own.
const ON_SEVERAL_DISKS: [&str; 3] = ["btrfs", "bcachefs", "zfs"];

impl Entry {
    /// Whether the file system keeps a disk busy.
    pub fn is_on_disk(&self) -> bool {
        !self.number.starts_with("0:")
            || ON_SEVERAL_DISKS.contains(&self.kind.as_str())
            || self.source.starts_with("/dev")
    }

    /// Whether the file system is on the block device `number`. A file system that may span several, such as btrfs, has a
    /// number of its own in the table, and is known by its source.
    pub fn is_on(&self, number: &str) -> bool {
        self.number == number
            || (self.number.starts_with("0:") && device_number(&self.source).as_deref() == Some(number))
    }
}

/// What is mounted, by the text of a mountinfo file.
///
/// # Errors
///
/// When a line is not what the kernel documents.
pub fn parse(text: &str) -> Result<Vec<Entry>, MountError> {
    let read = |line: &str| {
        let (first, second) = line.split_once(" - ")?;
        let mut first = first.split(' ');
        let mut second = second.split(' ');
        let number = first.nth(2)?.to_owned();
        let (root, target) = (unescape(first.next()?), unescape(first.next()?));
        let (mut propagates, mut peers) = (false, None);
        for tag in first.skip(1) {
            if let Some(group) = tag.strip_prefix("shared:") {
                (propagates, peers) = (true, group.parse().ok());
            }
            propagates |= tag.starts_with("master:");
        }
        let (kind, source) = (second.next()?.to_owned(), unescape(second.next()?));
        Some(Entry { number, root, target, propagates, peers, kind, source })
    };
    text.lines().map(|line| read(line).ok_or_else(|| MountError::Parse { line: line.to_owned() })).collect()
}

/// Undoes the octal escapes of mountinfo and fstab: `\040` is a space.
pub(super) fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            bytes.push(byte);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}
