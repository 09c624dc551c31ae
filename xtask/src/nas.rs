//! A NAS in miniature: a process of its own as PID 1, with a root file system, mounts and devices of its own.
//!
//! What happens in it touches nothing of the machine but its loop devices, and those go away with it, however it ends.
//! The programs, units and the configuration get there by phobos's own `install`.

use crate::{build, install, is_root, list, private_cmd, project, setup};
use anyhow::{Result, bail};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use xshell::{Shell, cmd};

/// The file that keeps the backups' namespace.
pub(crate) const NAMESPACE: &str = "/run/phobos/ns/backup";

/// Where large files lie in it.
pub(crate) const DISKS: &str = "/var/disks";

/// How many loop devices can be used in it.
const LOOPS: u32 = 64;

/// What the chores that run in a NAS have in common.
#[derive(Debug, clap::Args)]
pub(crate) struct Inside {
    /// Is given when the chore starts itself in the namespaces
    #[arg(long, hide = true, value_name = "FOLDER")]
    inside: Option<PathBuf>,
}

impl Inside {
    /// Whether the chore has started itself in the namespaces.
    pub(crate) fn is_inside(&self) -> bool {
        self.inside.is_some()
    }
}

/// Runs `chore` in a NAS in miniature, whose disks lie in the memory or in the folder `disks`.
///
/// # Errors
///
/// If something is missing and cannot be set up, or the chore fails.
pub(crate) fn run(
    sh: &Shell,
    args: &Inside,
    call: &[&str],
    profile: &str,
    disks: Option<&Path>,
    chore: impl FnOnce(&Shell) -> Result<()>,
) -> Result<()> {
    if let Some(programs) = &args.inside {
        enter(sh, programs, disks)?;
        return chore(sh);
    }
    setup::run(sh)?;
    let programs = build(sh, profile)?;
    let (me, inside) = (std::env::current_exe()?, format!("--inside={}", programs.display()));
    let me = me.to_string_lossy();
    let line = [&[&*me], call, &[&inside]].concat();
    private_cmd(sh, &line).quiet().run().map_err(|_| anyhow::anyhow!("it did not end well; see above"))
}

/// Makes the root file system and moves this process into it.
fn enter(sh: &Shell, programs: &Path, disks: Option<&Path>) -> Result<()> {
    if !is_root() || std::process::id() != 1 {
        bail!("--inside is for xtask's own use");
    }
    // The kernel's modules are out of reach later. Without them what needs them says so itself.
    cmd!(sh, "sh -c 'modprobe --all loop dm_crypt || true'").quiet().ignore_stderr().run()?;
    let root = project().join("target/nas");
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    sh.create_dir(&root)?;
    cmd!(sh, "mount -t tmpfs -o mode=755 phobos-nas {root}").quiet().run()?;
    for path in list(Path::new("/"))? {
        let name = path.to_string_lossy().into_owned();
        match name.trim_start_matches('/') {
            _ if path.is_symlink() => symlink(fs::read_link(&path)?, at(&name))?,
            "etc" => cmd!(sh, "cp --archive --one-file-system /etc {root}").quiet().run()?,
            "usr" | "bin" | "sbin" | "lib" | "lib32" | "lib64" | "libx32" => {
                let target = at(&name);
                sh.create_dir(&target)?;
                cmd!(sh, "mount --rbind --options ro {name} {target}").quiet().run()?;
            }
            _ => (),
        }
    }
    for folder in ["backup", "dev", "extbackup", "mnt", "proc", "root", "run", "sys", "tmp", "var/lib", "var/disks"] {
        sh.create_dir(at(folder))?;
    }
    devices(sh, &at("dev"))?;
    let (proc, sys, local) = (at("proc"), at("sys"), at("usr/local"));
    cmd!(sh, "mount -t proc proc {proc}").quiet().run()?;
    cmd!(sh, "mount --rbind /sys {sys}").quiet().run()?;
    cmd!(sh, "mount -t tmpfs -o mode=755 phobos-local {local}").quiet().run()?;
    if let Some(disks) = disks {
        let target = at(DISKS);
        sh.create_dir(disks)?;
        cmd!(sh, "mount --bind {disks} {target}").quiet().run()?;
    }
    sh.remove_path(at("etc/phobos"))?;
    install::into(sh, &root, programs)?;

    let old = root.join("mnt");
    sh.set_var("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    sh.set_var("HOME", "/root");
    cmd!(sh, "pivot_root {root} {old}").quiet().run()?;
    std::env::set_current_dir("/")?;
    sh.change_dir("/");
    cmd!(sh, "umount --lazy /mnt").quiet().run()?;
    // As systemd has it: what is mounted later shows up in the namespaces made from here, unless they keep apart.
    Ok(cmd!(sh, "mount --make-rshared /").quiet().run()?)
}

/// Fills a folder with copies of the machine's device nodes: what is made there later is not seen by the machine.
fn devices(sh: &Shell, dev: &Path) -> Result<()> {
    cmd!(sh, "mount -t tmpfs -o mode=755 phobos-dev {dev}").quiet().run()?;
    cmd!(sh, "cp --archive --one-file-system /dev/. {dev}").quiet().ignore_stderr().ignore_status().run()?;
    for number in 0..LOOPS {
        let node = dev.join(format!("loop{number}"));
        if !node.exists() {
            let number = number.to_string();
            cmd!(sh, "mknod {node} b 7 {number}").quiet().run()?;
        }
    }
    Ok(())
}

/// A file as a block device, until this is dropped or the process ends.
pub(crate) struct Disk {
    pub(crate) device: String,
    _open: File,
}

impl Disk {
    /// Makes a block device of the file `image`.
    ///
    /// # Errors
    ///
    /// If there is no free loop device.
    pub(crate) fn attach(sh: &Shell, image: &Path, options: &[&str]) -> Result<Self> {
        let device = cmd!(sh, "losetup {options...} --find --show {image}").quiet().read()?;
        let open = File::open(&device)?;
        // The kernel detaches it when nobody has it open any more, be it after a crash.
        cmd!(sh, "losetup --detach {device}").quiet().run()?;
        Ok(Self { device, _open: open })
    }
}
