//! One QEMU process: how the machine is built, started, and ended.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::emulator::Emulator;
use crate::image::Image;
use crate::qmp::Qmp;

/// Counts up when the machine's parts change, so that a saved state no longer fits.
pub(crate) const PARTS: u32 = 3;

/// How a machine comes to life.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// It boots.
    Boot,
    /// It goes on from the state saved in this file.
    State(&'a Path),
    /// It boots from this initramfs, which waits for the passphrase of the root file system's LUKS container, [`VAULT`].
    Waiting(&'a Path),
}

/// The name of the mapping of a root file system that is encrypted.
pub(crate) const VAULT: &str = "vault";

/// The disks of one machine.
#[derive(Debug, Clone)]
pub(crate) struct Disks {
    /// The root file system, qcow2.
    pub(crate) root: PathBuf,
    /// The backup disk, qcow2.
    pub(crate) backup: PathBuf,
    /// A tar file with the programs under test, on a disk of [`PROGRAMS_SIZE`].
    pub(crate) programs: PathBuf,
}

/// The size of the disk with the programs, in bytes; a saved state fits only a disk of the same size.
pub(crate) const PROGRAMS_SIZE: u64 = 128 << 20;

/// A running QEMU; dropping it cuts the machine's power.
#[derive(Debug)]
pub(crate) struct Qemu {
    child: Child,
    pub(crate) qmp: Qmp,
    /// The port on loopback behind which the machine's sshd listens.
    pub(crate) port: u16,
    /// The one behind which it waits for a passphrase, if it does.
    pub(crate) waiting: u16,
    _sockets: TempDir,
}

impl Qemu {
    /// Starts a machine in `folder`, where its console goes to `console.log` and its light to `light.jsonl`.
    pub(crate) fn start(
        emulator: &Emulator,
        image: &Image,
        disks: &Disks,
        folder: &Path,
        start: Start,
    ) -> Result<Self> {
        // A path for a socket is at most 108 bytes long, and the cache may be anywhere.
        let sockets = tempfile::Builder::new().prefix("phobos-rig-").tempdir()?;
        let socket = sockets.path().join("qmp");
        // The port is free again for the moment that QEMU takes to bind it.
        let free = || Ok::<_, std::io::Error>(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let (port, waiting) = (free()?, free()?);

        let mut args: Vec<String> =
            ["-nodefaults", "-no-user-config", "-display", "none", "-m", "1024", "-smp", "1"].map(str::to_owned).into();
        let mut add = |option: &str, value: String| args.extend([option.to_owned(), value]);
        add("-machine", "q35,vmport=off".to_owned());
        add("-accel", emulator.accelerator.option().to_owned());
        // What only costs time under emulation: a copy by `rep movs` goes byte by byte, each page table's fifth level is one
        // more to walk, and each access to a user's memory ends a block.
        add("-cpu", "max,erms=off,la57=off,smap=off,smep=off".to_owned());
        add("-rtc", "base=utc".to_owned());
        add("-qmp", format!("unix:{},server=on,wait=off", socket.display()));
        add("-kernel", image.kernel().display().to_string());
        let initrd = match start {
            Start::Waiting(initrd) => initrd.to_owned(),
            Start::Boot | Start::State(_) => image.initrd(),
        };
        let root =
            if matches!(start, Start::Waiting(_)) { format!("/dev/mapper/{VAULT}") } else { "/dev/vda".to_owned() };
        add("-initrd", initrd.display().to_string());
        // `no_timer_check`: beside busy neighbours the kernel would find its timer broken.
        add(
            "-append",
            format!(
                "root={root} rw console=ttyS0 quiet net.ifnames=0 mitigations=off init_on_alloc=0 audit=0 random.trust_cpu=on no_timer_check \
                 systemd.show_status=no"
            ),
        );
        add("-chardev", format!("file,id=console,path={},append=on", folder.join("console.log").display()));
        add("-serial", "chardev:console".to_owned());
        add("-object", "throttle-group,id=backup-disk".to_owned());
        for (id, disk) in [
            ("root", virtio_disk("root", &disks.root)),
            ("backup", throttled("backup", "backup-disk", &virtio_disk("backup-full-speed", &disks.backup))),
            ("programs", raw_disk("programs", &disks.programs, true)),
        ] {
            add("-blockdev", disk.to_string());
            add("-device", format!("virtio-blk-pci,id=disk-{id},drive={id},serial={id}"));
        }
        let ports = format!("hostfwd=tcp:127.0.0.1:{port}-:22,hostfwd=tcp:127.0.0.1:{waiting}-:2222");
        add("-netdev", format!("user,id=net,restrict=on,{ports}"));
        add("-device", "virtio-net-pci,netdev=net".to_owned());
        add("-device", "virtio-rng-pci".to_owned());
        add("-device", "qemu-xhci,id=xhci,p2=8,p3=8".to_owned());
        add("-device", "virtio-serial-pci,id=ports".to_owned());
        add("-chardev", format!("file,id=light,path={},append=on", folder.join("light.jsonl").display()));
        add("-device", "virtserialport,bus=ports.0,chardev=light,name=rig.light".to_owned());
        if let Start::State(state) = start {
            add("-incoming", format!("exec:cat '{}'", state.display()));
        }

        let mut child = emulator.start(&args, &folder.join("qemu.log"))?;
        let log = folder.join("qemu.log");
        let qmp = Qmp::connect(&socket, || match child.try_wait()? {
            Some(status) => bail!("QEMU ended at once ({status}): {}", fs::read_to_string(&log).unwrap_or_default()),
            None => Ok(()),
        });
        match qmp {
            Ok(qmp) => {
                let mut qemu = Self { child, qmp, port, waiting, _sockets: sockets };
                qemu.wait_until_running(&log)?;
                Ok(qemu)
            }
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Saves the running machine's state and memory to `file`; it does not run any more then.
    pub(crate) fn save(&mut self, file: &Path) -> Result<()> {
        self.qmp.call("migrate-set-parameters", &json!({ "max-bandwidth": 10u64 << 30 }))?;
        self.qmp.call("migrate", &json!({ "uri": format!("exec:cat > '{}'", file.display()) }))?;
        let began = Instant::now();
        loop {
            let progress = self.qmp.call("query-migrate", &json!({}))?;
            match progress["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    bail!("QEMU could not save the machine: {progress}")
                }
                _ if began.elapsed() > Duration::from_secs(180) => {
                    bail!("saving the machine takes too long")
                }
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Cuts the machine's power: what it had written to its disks is on them, what it had not is lost.
    pub(crate) fn cut_power(mut self) -> Result<()> {
        self.qmp.call("stop", &json!({}))?;
        self.qmp.call("quit", &json!({}))?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > Duration::from_secs(30) {
                bail!("QEMU does not end");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn wait_until_running(&mut self, log: &Path) -> Result<()> {
        let began = Instant::now();
        loop {
            let status = self.qmp.call("query-status", &json!({})).with_context(|| {
                format!("the machine did not start: {}", fs::read_to_string(log).unwrap_or_default())
            })?;
            if status["running"] == true {
                return Ok(());
            }
            if began.elapsed() > Duration::from_secs(120) {
                bail!("the machine did not start: {status}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let Ok(None) = self.child.try_wait() else { return };
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            crate::say(&format!("cannot end QEMU: {error}"));
        }
    }
}

/// A raw image as a block device of QEMU's.
pub(crate) fn raw_disk(name: &str, file: &Path, read_only: bool) -> Value {
    json!({
        "driver": "raw", "node-name": name, "read-only": read_only,
        "file": { "driver": "file", "filename": file, "read-only": read_only },
    })
}

/// `disk` as the block device `name` that goes as fast as the throttle group `group` allows.
pub(crate) fn throttled(name: &str, group: &str, disk: &Value) -> Value {
    json!({ "driver": "throttle", "node-name": name, "throttle-group": group, "file": disk })
}

/// A qcow2 image as a block device. Flushes stay inside QEMU: only the machine dies in a test, never the host.
fn virtio_disk(name: &str, file: &Path) -> Value {
    let cache = json!({ "no-flush": true });
    json!({
        "driver": "qcow2", "node-name": name, "cache": cache,
        "file": { "driver": "file", "filename": file, "cache": cache },
    })
}
