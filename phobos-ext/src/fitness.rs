//! Whether a drive's file system can hold a mirror: its kind, its state, and whether it tells names apart.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use phobos_core::fs::{Dir, FsError};
use phobos_core::mount::Access;
use phobos_site::exit::{Exit, Stop};

/// File systems that cannot hold a mirror, as the kernel names them.
const UNFIT: [&str; 7] = ["exfat", "vfat", "msdos", "ntfs", "ntfs3", "fuseblk", "hfsplus"];

/// How such file systems begin: where, with what, and their names. Microsoft's specifications of FAT (`BS_FilSysType`), of
/// exFAT (`FileSystemName`) and of NTFS (OEM ID).
const SIGNATURES: [(usize, &[u8], &str); 6] = [
    (3, b"EXFAT   ", "exfat"),
    (3, b"NTFS    ", "ntfs"),
    (54, b"FAT12   ", "vfat"),
    (54, b"FAT16   ", "vfat"),
    (82, b"FAT32   ", "vfat"),
    (54, b"FAT     ", "vfat"),
];

/// How much of a device the signatures are in, in bytes.
const BEGINNING: usize = 512;

/// How many names a drive may have at its top.
const TOP: usize = 500;

/// A name that is made on an empty drive, to see whether it is found in another case.
const PROBE: &str = ".phobos-probe";

/// Where the superblock of ext2, ext3 and ext4 has its state, in bytes from the beginning of the device.
const EXT_STATE: u64 = 1024 + 0x3a;

/// Where it has its magic, and what that is.
const EXT_MAGIC_AT: u64 = 1024 + 0x38;
const EXT_MAGIC: [u8; 2] = [0x53, 0xef];

/// Where it has the features that whoever mounts it has to know, and the one that says that the journal is to be replayed.
const EXT_INCOMPATIBLE: u64 = 1024 + 0x60;
const EXT_RECOVER: u32 = 4;

/// The bit of that state that says that errors were found.
const EXT_ERRORS: u16 = 2;

/// Refuses a device by what is written on it, before it is mounted: the kernel need not know the file system, and mounts one
/// with errors all the same.
pub(crate) fn of_device(device: &Path) -> Result<(), Stop> {
    // One that cannot be read cannot be mounted either, and that tells why.
    let Ok(file) = File::open(device) else { return Ok(()) };
    let mut beginning = [0; BEGINNING];
    if file.read_exact_at(&mut beginning, 0).is_ok() {
        if let Some(kind) = kind_of(&beginning) {
            of_kind(kind)?;
        }
    }
    if has_errors(&file) {
        let text = format!(
            "the file system of the drive is marked as one with errors; check it with `e2fsck -f {}`, with the drive \
             unlocked and not mounted",
            device.display()
        );
        return Err(Stop::new(Exit::Refused, text));
    }
    Ok(())
}

/// Whether the journal of an ext file system has what its structures have not: whoever mounts it without replaying that sees neither
/// the new nor the old state, but some of both.
pub(crate) fn has_to_be_replayed(device: &Path) -> bool {
    let mut word = [0; 4];
    let is_ext = |file: &File| {
        let mut magic = [0; 2];
        file.read_exact_at(&mut magic, EXT_MAGIC_AT).is_ok() && magic == EXT_MAGIC
    };
    File::open(device).is_ok_and(|file| {
        is_ext(&file)
            && file.read_exact_at(&mut word, EXT_INCOMPATIBLE).is_ok()
            && u32::from_le_bytes(word) & EXT_RECOVER != 0
    })
}

/// Refuses a file system that cannot keep what a mirror consists of.
pub(crate) fn of_kind(kind: &str) -> Result<(), Stop> {
    if UNFIT.contains(&kind) || kind.contains("exfat") || kind.contains("ntfs") {
        let text = format!(
            "the drive's file system is {kind}, which keeps no owners and links and does not tell names in upper and \
             lower case apart; make it anew, with `mkfs.ext4`"
        );
        return Err(Stop::new(Exit::Refused, text));
    }
    Ok(())
}

/// Refuses a drive with more names at its top than rsync can be told to leave alone, and a file system that finds one of its
/// names in another case as well. Where there is no name yet, one is made for that, if anything may be written.
pub(crate) fn of_names(root: &Dir, access: Access) -> Result<(), anyhow::Error> {
    let mut asked = false;
    let entries = match root.entries_up_to(TOP) {
        Err(FsError::TooMany { .. }) => {
            let text = format!(
                "the drive has more than {TOP} names at its top, where a mirror has a few; move what is not phobos's into one \
                 folder"
            );
            return Err(Stop::new(Exit::Refused, text).into());
        }
        entries => entries?,
    };
    for entry in entries {
        let Some(name) = entry.name.to_str() else { continue };
        if name == PROBE && access == Access::Write {
            // A power cut has left it.
            root.remove(Path::new(PROBE))?;
            continue;
        }
        asked |= is_twofold(root, name)?;
    }
    if !asked && access == Access::Write {
        drop(root.create_new(Path::new(PROBE), 0o600)?);
        let found = is_twofold(root, PROBE);
        root.remove(Path::new(PROBE))?;
        found?;
    }
    Ok(())
}

/// Whether `name` could tell; an error if it is found in another case as well.
fn is_twofold(root: &Dir, name: &str) -> Result<bool, anyhow::Error> {
    let other = if name.to_uppercase() == name { name.to_lowercase() } else { name.to_uppercase() };
    if other == name {
        return Ok(false);
    }
    let (own, twin) = (root.stat(Path::new(name))?, root.stat(Path::new(&other))?);
    if own.is_some() && own.map(|own| own.ino) == twin.map(|twin| twin.ino) {
        let text = "the drive's file system does not tell names in upper and lower case apart; make it anew, with \
                    `mkfs.ext4`";
        return Err(Stop::new(Exit::Refused, text).into());
    }
    Ok(own.is_some())
}

fn kind_of(beginning: &[u8; BEGINNING]) -> Option<&'static str> {
    let is = |at: usize, magic: &[u8]| beginning.get(at..at + magic.len()) == Some(magic);
    SIGNATURES.iter().find(|(at, magic, _)| is(*at, magic)).map(|(_, _, kind)| *kind)
}

fn has_errors(device: &File) -> bool {
    let mut bytes = [0; 4];
    // Magic 0xef53 comes two bytes before the state.
    let read = device.read_exact_at(&mut bytes, EXT_STATE - 2);
    let [magic_low, magic_high, low, high] = bytes;
    read.is_ok() && [magic_low, magic_high] == [0x53, 0xef] && u16::from_le_bytes([low, high]) & EXT_ERRORS != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The first bytes of what mkfs.fat 4.2, mkfs.exfat 1.2 and mkntfs 2022.10 make.
    #[test]
    fn what_drives_are_sold_with_is_refused_before_it_is_mounted() {
        let with = |jump: &[u8], at: usize, name: &[u8]| {
            let mut bytes = vec![0; 4096];
            bytes[..jump.len()].copy_from_slice(jump);
            bytes[at..at + name.len()].copy_from_slice(name);
            bytes
        };
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("device");
        let cases = [
            (with(b"\xeb\x3c\x90mkfs.fat", 54, b"FAT16   "), "is vfat, which keeps no owners"),
            (with(b"\xeb\x58\x90mkfs.fat", 82, b"FAT32   "), "is vfat,"),
            (with(b"\xeb\x76\x90", 3, b"EXFAT   "), "is exfat,"),
            (with(b"\xeb\x52\x90", 3, b"NTFS    "), "is ntfs,"),
            (with(b"", 1024 + 0x38, &[0x53, 0xef, 3, 0]), "is marked as one with errors"),
        ];
        for (bytes, why) in cases {
            fs::write(&device, bytes).unwrap();
            let said = of_device(&device).unwrap_err().to_string();
            assert!(said.contains(why) && (said.contains("mkfs.ext4") || said.contains("e2fsck")), "{said}");
        }
        for bytes in [with(b"", 1024 + 0x38, &[0x53, 0xef, 1, 0]), vec![0; 4096], vec![1; 3]] {
            fs::write(&device, bytes).unwrap();
            of_device(&device).unwrap();
        }
    }

    #[test]
    fn names_in_another_case_are_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let of_names = |access| of_names(&Dir::open(folder.path()).unwrap(), access);
        of_names(Access::Look).unwrap();
        of_names(Access::Write).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the probe is gone again");
        fs::write(folder.path().join("Photos"), "").unwrap();
        of_names(Access::Write).unwrap();
        // One file by both names is what a file system that folds case shows.
        fs::hard_link(folder.path().join("Photos"), folder.path().join("PHOTOS")).unwrap();
        assert!(of_names(Access::Look).unwrap_err().to_string().contains("upper and lower case"));
    }
}
