//! A machine that waits for a passphrase before it boots: the rig's Debian with an initramfs of its own and an encrypted disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::Flock;
use tempfile::TempDir;

use crate::emulator::Emulator;
use crate::host;
use crate::image::Image;
use crate::machine::slot;
use crate::programs;
use crate::qemu::{Disks, Qemu, Start};

/// Such a machine; dropping it cuts its power.
#[derive(Debug)]
pub struct Waiting {
    image: Image,
    emulator: Emulator,
    disks: Disks,
    initrd: PathBuf,
    disk: PathBuf,
    qemu: Option<Qemu>,
    folder: TempDir,
    _slot: Flock<File>,
}

impl Waiting {
    /// Switches one on that has the initramfs `initrd` and an encrypted disk with the content of the file `disk`.
    ///
    /// # Errors
    ///
    /// When the rig cannot have what it needs.
    pub fn start(initrd: &Path, disk: &Path) -> Result<Self> {
        host::require()?;
        let cache = host::folder()?;
        let (_, slot) = slot()?;
        let image = Image::get(&cache)?;
        let emulator = Emulator::get(&cache, &image)?;
        let folder = tempfile::Builder::new().prefix("waiting-").tempdir_in(&cache)?;
        let place = |name: &str| folder.path().join(name);
        let disks = Disks { root: place("root.qcow2"), backup: place("backup.qcow2"), programs: programs::tar()? };
        emulator.disk_over(&image.root(), "raw", &disks.root)?;
        emulator.disk_over(&image.backup(), "raw", &disks.backup)?;
        fs::copy(initrd, place("initrd")).with_context(|| format!("cannot copy {}", initrd.display()))?;
        host::copy_sparse(disk, &place("vault.img"))?;
        emulator.disk_over(&place("vault.img"), "raw", &place("vault.qcow2"))?;
        let (initrd, disk) = (place("initrd"), place("vault.qcow2"));
        let mut waiting = Self { image, emulator, disks, initrd, disk, qemu: None, folder, _slot: slot };
        waiting.switch_on()?;
        Ok(waiting)
    }

    /// Cuts its power and switches it on again.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn switch_on(&mut self) -> Result<()> {
        if let Some(qemu) = self.qemu.take() {
            qemu.cut_power()?;
        }
        let start = Start::Waiting { initrd: &self.initrd, disk: &self.disk };
        self.qemu = Some(Qemu::start(&self.emulator, &self.image, &self.disks, self.folder.path(), start)?);
        Ok(())
    }

    /// The ports on loopback of the ssh server that waits, and of the running system's.
    ///
    /// # Errors
    ///
    /// When it is off.
    pub fn ports(&self) -> Result<(u16, u16)> {
        let qemu = self.qemu.as_ref().context("the machine is off")?;
        Ok((qemu.waiting, qemu.port))
    }

    /// The key that root's shell takes.
    pub fn ssh_key(&self) -> PathBuf {
        self.image.ssh_key()
    }

    /// What it wrote to its console.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("console.log")).unwrap_or_default()).into_owned()
    }
}
