//! The machine: a Debian 13 with a backup disk, to which drives are plugged and whose power is cut.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use nix::fcntl::Flock;
use phobos_core::exec::Invocation;
use serde_json::json;

use crate::emulator::Emulator;
use crate::guest::Guest;
use crate::host;
use crate::image::{Image, sweep};
use crate::light::{self, Report};
use crate::nas::Stage;
use crate::programs;
use crate::qemu::{self, Disks, PARTS, PROGRAMS_SIZE, Qemu, Start};

/// How many machines run at the same time, one per core of the smallest machine that the tests run on.
const SLOTS: usize = 2;

/// How long a machine may take to boot under emulation while others are busy.
const BOOT_LIMIT: Duration = Duration::from_secs(600);

/// The drives that every machine knows: name, UUID of the LUKS container, size in MiB.
pub(crate) const DRIVES: [(&str, &str, u64); 3] = [
    ("A", "aaaaaaaa-1111-4222-8333-0123456789ab", 128),
    ("B", "bbbbbbbb-1111-4222-8333-0123456789ab", 128),
    ("small", "cccccccc-1111-4222-8333-0123456789ab", 32),
];

/// What becomes of what is written to a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// It is written.
    Kept,
    /// Each write is answered with an error.
    Fail,
    /// Each write is answered as if it were written.
    Lost,
}

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    image: Image,
    emulator: Emulator,
    disks: Disks,
    folder: PathBuf,
    // Dropped in this order: first the connection, then what it leads to.
    guest: Option<Guest>,
    qemu: Option<Qemu>,
    /// What stands between a drive and what is written to it.
    broken: Option<String>,
    _slot: Option<Flock<File>>,
}

/// The state of a machine that has booted and is at rest: the root disk, the memory, and the drives made ready.
#[derive(Debug)]
struct Booted {
    image: Image,
    emulator: Emulator,
    folder: PathBuf,
}

/// Makes the machine and the programs ready, so that the next scenario begins at once, and returns where the machine's root
/// file system lies: ext4, as it was before the first boot.
///
/// # Errors
///
/// When the rig cannot have what it needs.
pub fn make_ready() -> Result<PathBuf> {
    host::require()?;
    let booted = Booted::get(&host::folder()?)?;
    programs::tar()?;
    Ok(booted.image.root())
}

impl Machine {
    /// Starts a clean machine that has just booted, as soon as fewer than [`SLOTS`] run.
    pub(crate) fn start() -> Result<Self> {
        host::require()?;
        let cache = host::folder()?;
        let programs = programs::tar()?;
        let (number, slot) = slot()?;
        let booted = Booted::get(&cache)?;
        let folder = cache.join(format!("slot-{number}"));
        host::remove_folder(&folder)?;
        fs::create_dir(&folder)?;
        let disks = Disks { root: folder.join("root.qcow2"), backup: folder.join("backup.qcow2"), programs };
        for (name, ..) in DRIVES {
            host::copy_sparse(&booted.drive(name), &folder.join(format!("drive-{name}.img")))?;
        }
        let qemu = booted.go_on(&disks, &folder)?;
        let mut machine = Self {
            image: booted.image,
            emulator: booted.emulator,
            disks,
            folder,
            qemu: Some(qemu),
            guest: None,
            broken: None,
            _slot: Some(slot),
        };
        machine.connect()?;
        Ok(machine)
    }

    /// Cuts the power and puts another machine in its place, which has just booted and knows nothing of the first; what lay on the
    /// drives still does.
    pub(crate) fn replace(&mut self) -> Result<()> {
        self.cut_power()?;
        let booted = Booted::get(&host::folder()?)?;
        self.qemu = Some(booted.go_on(&self.disks, &self.folder)?);
        self.connect()
    }

    /// A digest of all that was written to the machine's own disks, the root's and the backups', since it booted.
    pub(crate) fn own_disks(&self) -> Result<String> {
        host::run(
            Invocation::new("sha256sum").arg("--").args([&self.disks.root, &self.disks.backup]),
            Duration::from_secs(120),
        )
    }

    /// Boots a machine again whose power was cut.
    pub(crate) fn boot(&mut self) -> Result<()> {
        self.qemu = Some(Qemu::start(&self.emulator, &self.image, &self.disks, &self.folder, Start::Boot)?);
        Ok(())
    }

    /// Waits until root has a shell in the machine.
    pub(crate) fn connect(&mut self) -> Result<()> {
        let port = self.qemu()?.port;
        let guest = Guest::connect(port, &self.image.ssh_key(), BOOT_LIMIT)
            .with_context(|| format!("the machine's console says:\n{}", self.console()))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        guest.sh(&format!("date -s @{}.{:09} >/dev/null", now.as_secs(), now.subsec_nanos()))?;
        self.guest = Some(guest);
        Ok(())
    }

    /// Cuts the power, of all drives as well.
    pub(crate) fn cut_power(&mut self) -> Result<()> {
        self.guest = None;
        self.qemu.take().context("the machine is off")?.cut_power()
    }

    /// Root's shell.
    pub(crate) fn guest(&self) -> Result<&Guest> {
        self.guest.as_ref().context("the machine is off")
    }

    /// The folder with the machine's disks, drives, console and light.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// All that the sticks were told so far.
    pub(crate) fn reports(&self) -> Result<Vec<Report>> {
        let text = fs::read_to_string(self.folder.join("light.jsonl"))?;
        light::parse(&text).with_context(|| format!("the light's time line: {text}"))
    }

    /// Plugs the drive whose content is in `file` into the machine's USB.
    pub(crate) fn plug(&mut self, name: &str, file: &Path) -> Result<()> {
        let qmp = &mut self.qemu()?.qmp;
        let group = format!("drive-{name}");
        qmp.call("object-add", &json!({ "qom-type": "throttle-group", "id": group }))?;
        let node = format!("usb-{name}");
        let disk = qemu::raw_disk(&format!("{node}-full-speed"), file, false);
        qmp.call("blockdev-add", &qemu::throttled(&node, &group, &disk))?;
        qmp.call(
            "device_add",
            &json!({
                "driver": "usb-storage", "id": format!("plugged-{name}"), "bus": "xhci.0",
                "drive": node, "serial": format!("rig-{name}"),
            }),
        )?;
        Ok(())
    }

    /// Pulls a drive, whatever the machine is doing with it.
    pub(crate) fn pull(&mut self, name: &str) -> Result<()> {
        let qmp = &mut self.qemu()?.qmp;
        let device = format!("plugged-{name}");
        qmp.call("device_del", &json!({ "id": device }))?;
        qmp.wait_for("DEVICE_DELETED", &device, Duration::from_secs(30))?;
        // The drive below it goes with it.
        qmp.call("blockdev-del", &json!({ "node-name": format!("usb-{name}") }))?;
        qmp.call("object-del", &json!({ "id": format!("drive-{name}") }))?;
        Ok(())
    }

    /// Has what is written to the drive `name` be kept, fail, or be lost from now on: what was lost is seen until it is kept again.
    pub(crate) fn writes(&mut self, name: &str, writes: Writes) -> Result<()> {
        let sound = format!("usb-{name}-full-speed");
        let before = self.broken.take();
        let broken = match writes {
            Writes::Kept => None,
            // QEMU's documentation of blkdebug, docs/devel/testing/blkdebug.rst; 5 is EIO.
            Writes::Fail => Some(json!({
                "driver": "blkdebug", "node-name": format!("usb-{name}-fails"), "image": sound,
                "inject-error": [{ "event": "pwritev", "iotype": "write", "errno": 5, "once": false }],
            })),
            Writes::Lost => {
                let (node, file) = (format!("usb-{name}-lost"), self.folder.join(format!("lost-{name}.qcow2")));
                let drive = self.folder.join(format!("drive-{name}.img"));
                self.emulator.disk_over(&drive, "raw", &file)?;
                Some(json!({
                    "driver": "qcow2", "node-name": node, "backing": sound,
                    "file": { "driver": "file", "filename": file },
                }))
            }
        };
        let qmp = &mut self.qemu()?.qmp;
        let below = match &broken {
            Some(broken) => {
                qmp.call("blockdev-add", broken)?;
                broken["node-name"].as_str().context("a node without a name")?.to_owned()
            }
            None => sound,
        };
        let node = qemu::throttled(&format!("usb-{name}"), &format!("drive-{name}"), &json!(below));
        qmp.call("blockdev-reopen", &json!({ "options": [node] }))?;
        if let Some(before) = before {
            qmp.call("blockdev-del", &json!({ "node-name": before }))?;
        }
        self.broken = broken.is_some().then_some(below);
        Ok(())
    }

    /// Makes the throttle group `group` no faster than `bytes` a second, 0 for as fast as it goes.
    pub(crate) fn throttle(&mut self, group: &str, bytes: u64) -> Result<()> {
        let limits = json!({ "bps-total": bytes });
        let arguments = json!({ "path": format!("/objects/{group}"), "property": "limits", "value": limits });
        self.qemu()?.qmp.call("qom-set", &arguments).map(drop)
    }

    fn qemu(&mut self) -> Result<&mut Qemu> {
        self.qemu.as_mut().context("the machine is off")
    }
}

impl Stage for Machine {
    const CLOSED: &str =
        "! ls /sys/block | grep -q ^dm- && ! cat /proc/[0-9]*/mountinfo 2>/dev/null | grep -q ' /extbackup '";

    fn run(&self, script: &str, stdin: Vec<u8>, limit: Duration) -> Result<String> {
        self.guest()?.run(script, stdin, limit)
    }

    /// The end of what the machine wrote to its serial console.
    fn console(&self) -> String {
        let said = fs::read(self.folder.join("console.log")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn light(&self) -> String {
        let shown =
            self.reports().map(|reports| reports.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        shown.unwrap_or_else(|error| format!("{error:#}"))
    }
}

impl Booted {
    /// Finds the saved state in the cache, or boots a machine and saves it.
    fn get(cache: &Path) -> Result<Self> {
        let _lock = host::lock(&cache.join("lock"))?;
        let image = Image::get(cache)?;
        let emulator = Emulator::get(cache, &image)?;
        let prepare = fs::read_to_string(host::workspace().join("tests/rig/prepare.sh"))?;
        let key = booted_key(&image, &emulator, &prepare);
        let booted = Self { image, emulator, folder: cache.join(format!("booted-{key:016x}")) };
        if !booted.folder.exists() {
            sweep(cache, "booted-")?;
            let unfinished = cache.join("booted-unfinished");
            host::remove_folder(&unfinished)?;
            fs::create_dir(&unfinished)?;
            booted.make_in(&unfinished, &prepare).context("cannot prepare the machine")?;
            fs::rename(&unfinished, &booted.folder)?;
            // A qcow2 file names the one below it: by its folder, which stays.
        }
        Ok(booted)
    }

    /// Starts a machine in `folder` that goes on from this state, with new root and backup disks.
    fn go_on(&self, disks: &Disks, folder: &Path) -> Result<Qemu> {
        self.emulator.disk_over(&self.root(), "qcow2", &disks.root)?;
        self.emulator.disk_over(&self.image.backup(), "raw", &disks.backup)?;
        Qemu::start(&self.emulator, &self.image, disks, folder, Start::State(&self.state()))
    }

    fn root(&self) -> PathBuf {
        self.folder.join("root.qcow2")
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    fn drive(&self, name: &str) -> PathBuf {
        self.folder.join(format!("drive-{name}.img"))
    }

    /// Boots, makes the drives ready, and saves the machine at rest.
    fn make_in(&self, folder: &Path, prepare: &str) -> Result<()> {
        let programs = folder.join("programs");
        File::create(&programs)?.set_len(PROGRAMS_SIZE)?;
        let disks =
            Disks { root: folder.join("root.qcow2"), backup: folder.join("backup.qcow2"), programs: programs.clone() };
        self.emulator.disk_over(&self.image.root(), "raw", &disks.root)?;
        self.emulator.disk_over(&self.image.backup(), "raw", &disks.backup)?;
        let qemu = Qemu::start(&self.emulator, &self.image, &disks, folder, Start::Boot)?;
        let mut machine = Machine {
            image: self.image.clone(),
            emulator: self.emulator.clone(),
            disks: disks.clone(),
            folder: folder.to_owned(),
            qemu: Some(qemu),
            guest: None,
            broken: None,
            _slot: None,
        };
        machine.connect()?;
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let state = machine.guest()?.run("systemctl is-system-running --wait || true", Vec::new(), minutes(5))?;
        if state != "running" {
            let failed = machine.guest()?.sh("systemctl --failed --no-legend --plain")?;
            bail!("the machine is {state} after its boot: {failed}");
        }
        for (name, uuid, mib) in DRIVES {
            let file = folder.join(format!("drive-{name}.img"));
            File::create(&file)?.set_len(mib << 20)?;
            machine.plug(name, &file)?;
            let call = format!("sh -s -- {name} {uuid}");
            machine.guest()?.run(&call, prepare.into(), minutes(5)).context("cannot make a drive ready")?;
            machine.pull(name)?;
        }
        machine.guest()?.sh("udevadm settle; journalctl --sync; sync; echo 3 > /proc/sys/vm/drop_caches")?;
        machine.guest = None;
        let mut qemu = machine.qemu.take().context("the machine is off")?;
        qemu.save(&folder.join("state"))?;
        qemu.cut_power()?;
        fs::remove_file(disks.backup)?;
        fs::remove_file(programs)?;
        Ok(())
    }
}

fn booted_key(image: &Image, emulator: &Emulator, prepare: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (image.key(), emulator.key(), prepare, PARTS, DRIVES).hash(&mut hasher);
    hasher.finish()
}

/// Waits until fewer than [`SLOTS`] machines run on this host, in this process or another, and takes the place.
pub(crate) fn slot() -> Result<(usize, Flock<File>)> {
    let folder = Path::new("/run/lock");
    let began = Instant::now();
    loop {
        for number in 0..SLOTS {
            if let Some(lock) = host::try_lock(&folder.join(format!("phobos-rig-{number}")))? {
                return Ok((number, lock));
            }
        }
        if began.elapsed() > Duration::from_secs(3600) {
            bail!("other tests have run their machines for an hour");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
