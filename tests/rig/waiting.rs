//! A machine that waits for a passphrase before it boots: its whole root file system is encrypted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::Flock;
use phobos_core::exec::Invocation;
use tempfile::TempDir;

use crate::container::Container;
use crate::emulator::Emulator;
use crate::host;
use crate::image::Image;
use crate::machine::slot;
use crate::nas::Nas;
use crate::programs;
use crate::qemu::{Disks, Qemu, Start, VAULT};

/// How large its root file system is.
const ROOT_SIZE: &str = "1200M";

/// Such a machine; dropping it cuts its power.
#[derive(Debug)]
pub struct Waiting {
    image: Image,
    emulator: Emulator,
    disks: Disks,
    initrd: PathBuf,
    qemu: Option<Qemu>,
    folder: TempDir,
    _slot: Flock<File>,
}

impl Waiting {
    /// What the machine's tables of file systems and of encrypted disks have about its root, in the LUKS container `uuid`: lines for a
    /// shell.
    pub fn tables(uuid: &str) -> String {
        format!(
            "echo '/dev/mapper/{VAULT} / ext4 noatime 0 1' >>/etc/fstab\n\
             echo '{VAULT} UUID={uuid} none luks,initramfs,tries=0' >>/etc/crypttab\n"
        )
    }

    /// Makes one of all that `nas` has on its root, encrypted with `passphrase` in the LUKS container `uuid`; it is off.
    ///
    /// # Errors
    ///
    /// When the rig cannot have what it needs.
    pub fn made_of(nas: &Nas<Container>, uuid: &str, passphrase: &str) -> Result<Self> {
        host::require()?;
        let cache = host::folder()?;
        let (_, slot) = slot()?;
        let image = Image::get(&cache)?;
        let emulator = Emulator::get(&cache, &image)?;
        let folder = tempfile::Builder::new().prefix("waiting-").tempdir_in(&cache)?;
        let place = |name: &str| folder.path().join(name);
        let disks = Disks { root: place("root.qcow2"), backup: place("backup.qcow2"), programs: programs::tar()? };
        nas.root_image(&place("plain"), ROOT_SIZE)?;
        emulator.encrypt(&place("plain"), passphrase, &place("vault"))?;
        fs::remove_file(place("plain"))?;
        let call = Invocation::new("cryptsetup").args(["luksUUID", "--batch-mode", "--uuid", uuid]).arg(place("vault"));
        host::run(call, Duration::from_secs(60))?;
        emulator.disk_over(&place("vault"), "raw", &disks.root)?;
        emulator.disk_over(&image.backup(), "raw", &disks.backup)?;
        Ok(Self { image, emulator, disks, initrd: place("initrd"), qemu: None, folder, _slot: slot })
    }

    /// Has it boot from the initramfs in the file `initrd` from now on.
    ///
    /// # Errors
    ///
    /// When that cannot be read.
    pub fn boots_from(&self, initrd: &Path) -> Result<()> {
        fs::copy(initrd, &self.initrd).with_context(|| format!("cannot copy {}", initrd.display())).map(drop)
    }

    /// Cuts its power if it runs.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub fn switch_off(&mut self) -> Result<()> {
        self.qemu.take().map_or(Ok(()), Qemu::cut_power)
    }

    /// Switches it on, after cutting its power if it runs.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn switch_on(&mut self) -> Result<()> {
        self.switch_off()?;
        let start = Start::Waiting(&self.initrd);
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
