//! A disk as it is found: what it is, what is written on it, and what uses it.
//!
//! lsblk(8) tells what it is, wipefs(8) what is on it, by its own bytes and not by what udev remembers, sfdisk(8) its partition
//! table. Whether anything uses it the kernel is asked itself.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Class, Classified};
use crate::exec::{Exec, ExecError, Invocation};
use crate::mount;

/// The columns asked of lsblk; keep in step with the fields of [`Device`]. Without a name it makes no tree of them.
const COLUMNS: &str = "NAME,PATH,MAJ:MIN,TYPE,SIZE,RO,MODEL,SERIAL,TRAN,PHY-SEC,LOG-SEC,MOUNTPOINTS";

/// How long one question may take: a sleeping drive has to spin up.
const LIMIT: Duration = Duration::from_secs(120);

/// A whole disk, or what somebody takes for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its block device.
    pub path: PathBuf,
    /// The device's number, as `major:minor`.
    pub number: String,
    /// What tells it from a disk that had the same number before; the kernel counts (`diskseq`).
    pub sequence: Option<String>,
    /// `disk`, `loop`, `part`, `crypt`, `rom`, …, as lsblk names it.
    pub kind: String,
    /// In bytes.
    pub size: u64,
    /// Whether it cannot be written to.
    pub read_only: bool,
    /// What its maker calls it.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// `usb`, `sata`, `nvme`, ….
    pub transport: Option<String>,
    /// The size of a sector on the medium, in bytes.
    pub physical_sector: u64,
    /// The size of a sector as commands count them, in bytes.
    pub logical_sector: u64,
    /// What is written on it, outside of partitions.
    pub signatures: Vec<Signature>,
    /// Its partition table, if it has one that can be read.
    pub table: Option<Table>,
    /// Its partitions, as the kernel has them.
    pub parts: Vec<Part>,
    /// What uses it or one of its partitions.
    pub uses: Vec<Use>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its block device.
    pub path: PathBuf,
    /// The device's number, as `major:minor`.
    pub number: String,
    /// In bytes.
    pub size: u64,
    /// What is written on it.
    pub signatures: Vec<Signature>,
}

/// A file system, container or table that wipefs knows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Signature {
    /// `ext4`, `crypto_LUKS`, `gpt`, `PMBR`, `dos`, ….
    #[serde(rename = "type")]
    pub kind: String,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its label.
    pub label: Option<String>,
}

/// A partition table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// The disk's identifier, in lower case.
    pub id: String,
    /// The partitions' identifiers, in lower case.
    pub parts: Vec<String>,
}

/// Something that uses a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The disk or the partition.
    pub device: PathBuf,
    /// How, as in `is mounted at /mnt`.
    pub how: String,
}

/// A descriptor of a disk. As long as it is open, the kernel gives the disk's number, and so its name, to no other.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

/// What cannot be found out about a disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// It cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program cannot say what it is asked.
    #[error("cannot look at {}", path.display())]
    Ask {
        /// The device.
        path: PathBuf,
        /// What the program said.
        source: ExecError,
    },
    /// What a program says cannot be understood.
    #[error("cannot understand what {program} says of {}", path.display())]
    Json {
        /// The program.
        program: &'static str,
        /// The device.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It is not the disk any more that it was.
    #[error("{} is not the drive any more that it was: {why}", path.display())]
    Other {
        /// The device.
        path: PathBuf,
        /// What is different.
        why: String,
    },
}

impl Classified for DiskError {
    fn class(&self) -> Class {
        match self {
            Self::Open { .. } | Self::Ask { .. } => Class::Source,
            Self::Json { .. } => Class::Failed,
            Self::Other { .. } => Class::Absent,
        }
    }
}

/// One block device, as lsblk prints it.
#[derive(Debug, Deserialize)]
struct Device {
    path: PathBuf,
    #[serde(rename = "maj:min")]
    number: String,
    #[serde(rename = "type")]
    kind: String,
    size: u64,
    ro: bool,
    model: Option<String>,
    serial: Option<String>,
    tran: Option<String>,
    #[serde(rename = "phy-sec")]
    physical: u64,
    #[serde(rename = "log-sec")]
    logical: u64,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    #[serde(default)]
    children: Vec<Device>,
}

/// Looks at the disk `path`, and changes nothing on it.
///
/// # Errors
///
/// When it cannot be opened, or a program does not say what it is asked.
pub fn disk(exec: &dyn Exec, path: &Path) -> Result<Disk, DiskError> {
    let ask = |source| DiskError::Ask { path: path.to_owned(), source };
    let call = Invocation::new("lsblk").args(["--json", "--bytes", "--output", COLUMNS]).arg(path).limit(LIMIT);
    let listed = exec.run(&call).map_err(ask)?;
    let json = |program, source| DiskError::Json { program, path: path.to_owned(), source };
    let mut disk = parse(&listed.stdout).map_err(|source| json("lsblk", source))?;
    let signatures = |device: &Path| {
        let call = Invocation::new("wipefs").args(["--json", "--no-act"]).arg(device).limit(LIMIT);
        let said = exec.run(&call).map_err(ask)?;
        parse_signatures(&said.stdout).map_err(|source| json("wipefs", source))
    };
    disk.signatures = signatures(&disk.path)?;
    for part in &mut disk.parts {
        part.signatures = signatures(&part.path)?;
    }
    if disk.signatures.iter().any(Signature::is_table) {
        let call = Invocation::new("sfdisk").arg("--json").arg(&disk.path).limit(LIMIT);
        // A table that it cannot read is none.
        disk.table = exec.run(&call).ok().and_then(|said| parse_table(&said.stdout));
    }
    disk.sequence = sequence(&disk.number);
    if disk.uses.is_empty() {
        let devices: Vec<_> = disk.parts.iter().map(|part| &part.path).chain([&disk.path]).cloned().collect();
        let used = |device: PathBuf| mount::users_of(&device).map(|users| (device, users));
        if let Some((device, users)) = devices.into_iter().find_map(used) {
            disk.uses.push(Use { device, how: format!("is in use, seen by {users}") });
        }
    }
    Ok(disk)
}

/// Whether there is somebody who makes links to devices, and so something to wait for.
pub fn has_udev() -> bool {
    Path::new("/run/udev/control").exists()
}

/// The call that waits until udev has made its links to what has changed.
pub fn settle() -> Invocation {
    Invocation::new("udevadm").args(["settle", "--timeout=60"]).limit(LIMIT)
}

impl Disk {
    /// Opens it, and keeps its number from being another disk's.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn hold(&self) -> Result<Held, DiskError> {
        let open = |source| DiskError::Open { path: self.path.clone(), source };
        let file = File::open(&self.path).map_err(open)?;
        let number = file.metadata().map_err(open)?.rdev();
        let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
        if number != self.number || sequence(&number) != self.sequence {
            let why = "another one was plugged in meanwhile".to_owned();
            return Err(DiskError::Other { path: self.path.clone(), why });
        }
        Ok(Held { _file: file })
    }

    /// Proves that `now`, which was looked at later, is this very disk.
    ///
    /// # Errors
    ///
    /// [`DiskError::Other`] with what is different.
    pub fn prove_same(&self, now: &Self) -> Result<(), DiskError> {
        let own = |disk: &Self| (disk.number.clone(), disk.sequence.clone(), disk.size, disk.kind.clone());
        let why = if self.serial != now.serial || self.model != now.model {
            let name = |disk: &Self| disk.serial.clone().unwrap_or_else(|| "none".to_owned());
            format!("its serial number was {} and is {}", name(self), name(now))
        } else if own(self) != own(now) {
            "another one was plugged in meanwhile".to_owned()
        } else {
            return Ok(());
        };
        Err(DiskError::Other { path: self.path.clone(), why })
    }

    /// The first partition that begins at the byte `start` and has `size` bytes, once the kernel has it.
    pub fn part_at(&self, start: u64, size: u64) -> Option<PathBuf> {
        let folder = Path::new("/sys/dev/block").join(&self.number);
        // The kernel counts in units of 512 bytes, whatever the disk does.
        let sectors = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()?.checked_mul(512);
        let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        let mut parts = entries.filter(|path| path.join("partition").exists());
        let found = parts
            .find(|path| sectors(&path.join("start")) == Some(start) && sectors(&path.join("size")) == Some(size))?;
        let device = Path::new("/dev").join(found.file_name()?);
        mount::device_number(&device).is_some().then_some(device)
    }

    /// All signatures, each with the device that it is on.
    pub fn all_signatures(&self) -> impl Iterator<Item = (&Path, &Signature)> {
        let own = self.signatures.iter().map(|signature| (self.path.as_path(), signature));
        let parts = self.parts.iter();
        own.chain(parts.flat_map(|part| part.signatures.iter().map(|signature| (part.path.as_path(), signature))))
    }
}

impl Signature {
    /// Whether it is of a partition table.
    pub fn is_table(&self) -> bool {
        ["gpt", "PMBR", "dos"].contains(&self.kind.as_str())
    }
}

/// The number that the kernel has given to the disk when it was plugged in.
fn sequence(number: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/sys/dev/block").join(number).join("diskseq")).ok()?;
    Some(text.trim().to_owned())
}

fn parse(json: &[u8]) -> Result<Disk, serde_json::Error> {
    #[derive(Deserialize)]
    struct Listing {
        blockdevices: [Device; 1],
    }
    let [device] = serde_json::from_slice::<Listing>(json)?.blockdevices;
    let text = |text: &Option<String>| text.as_ref().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let mut uses = device.uses();
    let mut parts = Vec::new();
    for part in device.children.iter().filter(|child| child.kind == "part") {
        uses.extend(part.uses());
        let (path, number) = (part.path.clone(), part.number.trim().to_owned());
        parts.push(Part { path, number, size: part.size, signatures: Vec::new() });
    }
    Ok(Disk {
        number: device.number.trim().to_owned(),
        sequence: None,
        kind: device.kind.clone(),
        size: device.size,
        read_only: device.ro,
        model: text(&device.model),
        serial: text(&device.serial),
        transport: text(&device.tran),
        physical_sector: device.physical,
        logical_sector: device.logical,
        signatures: Vec::new(),
        table: None,
        parts,
        uses,
        path: device.path,
    })
}

impl Device {
    /// What uses the device itself, as far as lsblk knows.
    fn uses(&self) -> Vec<Use> {
        let mounted = self.mountpoints.iter().flatten().map(|place| match place.as_str() {
            "[SWAP]" => "is swapped to".to_owned(),
            place => format!("is mounted at {place}"),
        });
        let mapped = self.children.iter().filter(|child| child.kind != "part");
        let mapped = mapped.map(|child| format!("is open as {}", child.path.display()));
        mounted.chain(mapped).map(|how| Use { device: self.path.clone(), how }).collect()
    }
}

/// wipefs writes nothing at all where there is nothing.
fn parse_signatures(json: &[u8]) -> Result<Vec<Signature>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Said {
        signatures: Vec<Signature>,
    }
    if json.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    Ok(serde_json::from_slice::<Said>(json)?.signatures)
}

fn parse_table(json: &[u8]) -> Option<Table> {
    #[derive(Deserialize)]
    struct Said {
        partitiontable: Written,
    }
    #[derive(Deserialize)]
    struct Written {
        id: String,
        #[serde(default)]
        partitions: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        uuid: Option<String>,
    }
    let table = serde_json::from_slice::<Said>(json).ok()?.partitiontable;
    let parts = table.partitions.into_iter().map(|part| part.uuid.unwrap_or_default().to_ascii_lowercase());
    Some(Table { id: table.id.to_ascii_lowercase(), parts: parts.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::fake::Script;

    /// Of util-linux 2.38.1, as it shows a USB disk with LUKS on its second partition, open and mounted.
    const LSBLK: &str = include_str!("../../fixtures/util-linux-2.38.1-lsblk.json");
    const WIPEFS: &str = include_str!("../../fixtures/util-linux-2.38.1-wipefs.json");
    const SFDISK: &str = include_str!("../../fixtures/util-linux-2.38.1-sfdisk.json");

    #[test]
    fn a_disk_is_told_with_all_that_is_on_it_and_uses_it() {
        let script = Script::new().says(LSBLK).says(WIPEFS).says("").says(&WIPEFS.replace("gpt", "ext4")).says(SFDISK);
        let disk = disk(&script, Path::new("/dev/nowhere")).unwrap();
        assert_eq!((disk.number.as_str(), disk.kind.as_str(), disk.size), ("8:16", "disk", 104_857_600));
        assert_eq!((disk.model.as_deref(), disk.serial.as_deref()), (Some("QEMU HARDDISK"), Some("rig-A")));
        assert_eq!((disk.transport.as_deref(), disk.physical_sector, disk.read_only), (Some("usb"), 512, false));
        let uses: Vec<_> = disk.uses.iter().map(|used| format!("{} {}", used.device.display(), used.how)).collect();
        assert_eq!(uses, ["/dev/sdb1 is swapped to", "/dev/sdb2 is open as /dev/mapper/extbackup"]);
        assert!(disk.signatures.iter().all(Signature::is_table) && disk.signatures.len() == 3);
        assert_eq!(disk.parts[1].signatures[0].kind, "ext4");
        let table = disk.table.unwrap();
        assert_eq!(table.id, "11111111-2222-4333-8444-555555555555");
        assert_eq!(table.parts, ["21111111-2222-4333-8444-555555555555"]);
        assert_eq!(script.calls().len(), 5);
    }

    #[test]
    fn another_disk_in_its_place_is_noticed() {
        let one = parse(LSBLK.as_bytes()).unwrap();
        assert!(one.prove_same(&one.clone()).is_ok());
        let other = Disk { serial: Some("rig-B".to_owned()), ..one.clone() };
        let said = one.prove_same(&other).unwrap_err().to_string();
        assert_eq!(said, "/dev/sdb is not the drive any more that it was: its serial number was rig-A and is rig-B");
        for other in [Disk { size: 1, ..one.clone() }, Disk { sequence: Some("9".to_owned()), ..one.clone() }] {
            assert!(one.prove_same(&other).unwrap_err().to_string().contains("another one was plugged in"));
        }
        assert!(one.hold().is_err(), "what is not plugged in cannot be held");
    }

    #[test]
    fn fuzz_disk() {
        phobos_fuzz::target("disk", &[LSBLK.as_bytes(), WIPEFS.as_bytes(), SFDISK.as_bytes()], |input| {
            drop((parse(input), parse_signatures(input), parse_table(input)));
        });
    }
}
