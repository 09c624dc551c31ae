//! A booted container: the rig's Debian with systemd as PID 1, on this machine's own kernel and processor, in a few seconds.
//!
//! It has a backup disk and drives that are not encrypted, on loop devices; but no USB, no dm-crypt, no power cord, and this
//! machine's clock, which nobody in it can set.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use phobos_core::exec::Invocation;
use tempfile::TempDir;

use crate::image::{self, Image};
use crate::nas::Stage;
use crate::{host, programs};

/// How long a container may take to boot beside others.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// How long its processes may take to be gone once they have been killed.
const END_LIMIT: Duration = Duration::from_secs(20);

/// The drives that every container knows: name, UUID of the file system that is made on it, size in MiB.
pub(crate) const DRIVES: [(&str, &str, u64); 3] = [
    ("A", "aaaaaaaa-1111-4222-8333-0123456789ab", 128),
    ("B", "bbbbbbbb-1111-4222-8333-0123456789ab", 128),
    ("small", "cccccccc-1111-4222-8333-0123456789ab", 32),
];

/// What the backup disk is called among the disks.
const BACKUP: &str = "backup";

/// A running container; dropping it ends all that is in it.
#[derive(Debug)]
pub struct Container {
    child: Child,
    /// Its PID 1, as this machine counts.
    leader: u32,
    folder: TempDir,
}

impl Container {
    /// Boots one with the programs under test in place.
    pub(crate) fn start() -> Result<Self> {
        host::require()?;
        let cache = host::folder()?;
        let programs = programs::tar()?;
        let image = Image::get(&cache)?;
        let folder = tempfile::Builder::new().prefix("container-").tempdir_in(&cache)?;
        let disks = folder.path().join("disks");
        fs::create_dir(&disks)?;
        host::copy_sparse(&image.backup(), &disks.join(BACKUP))?;
        for (name, _, mib) in DRIVES {
            File::create(disks.join(name))?.set_len(mib << 20)?;
        }
        let child = spawn(&image, &programs, &folder)?;
        let mut container = Self { child, leader: 0, folder };
        container.wait_for_boot().with_context(|| format!("the container says:\n{}", container.console()))?;
        Ok(container)
    }

    /// Where this machine has what was written to the file `path` in the container.
    pub(crate) fn written(&self, path: &str) -> PathBuf {
        self.folder.path().join("written").join(path.trim_start_matches('/'))
    }

    /// Makes a file system, as large as `size` says, of all that the container's root has at this moment.
    pub(crate) fn root_image(&self, image: &Path, size: &str) -> Result<()> {
        let call = Invocation::new("nsenter").args(["--target", &self.child.id().to_string(), "--mount", "--"]);
        let call = call.args(image::ext4("root")).arg("-d").arg(self.folder.path().join("root")).arg(image).arg(size);
        host::run(call, Duration::from_secs(300)).map(drop)
    }

    fn wait_for_boot(&mut self) -> Result<()> {
        let began = Instant::now();
        while self.leader == 0 {
            if let Some(status) = self.child.try_wait()? {
                bail!("the container ended at once ({status})");
            }
            if began.elapsed() > BOOT_LIMIT {
                bail!("the container does not start");
            }
            sleep(Duration::from_millis(50));
            self.leader = leader(self.child.id())?.unwrap_or_default();
        }
        // Its systemd does not listen yet when it has just begun.
        let booted =
            "until [ -S /run/systemd/private ]; do sleep 0.05; done; systemctl is-system-running --wait || true";
        let state = self.run(booted, Vec::new(), BOOT_LIMIT)?;
        if state != "running" {
            let failed = self.run("systemctl --failed --no-legend --plain", Vec::new(), BOOT_LIMIT)?;
            bail!("the container is {state} after its boot: {failed}");
        }
        self.connect_disks()
    }

    /// Makes the disks' device nodes, which nobody in a container does, and the links by which udev would let them be found.
    fn connect_disks(&self) -> Result<()> {
        let mut script = String::from("set -e; mkdir -p /dev/disk/by-label /dev/disk/by-uuid\n");
        for line in fs::read_to_string(self.folder.path().join("loops"))?.lines() {
            let [name, loop_device, major, minor] = line.split(' ').collect::<Vec<_>>()[..] else {
                bail!("no loop device: {line}")
            };
            writeln!(script, "mknod --mode=660 /dev/{loop_device} b {major} {minor}")?;
            let link = match DRIVES.iter().find(|(known, ..)| *known == name) {
                Some((_, uuid, _)) => format!("by-uuid/{uuid}"),
                None => format!("by-label/{name}"),
            };
            writeln!(script, "ln -s ../../{loop_device} /dev/disk/{link}")?;
        }
        self.run(&script, Vec::new(), BOOT_LIMIT).map(drop)
    }

    /// Kills what is in it and waits until it is gone, so that its part of the control groups can be taken away.
    fn end(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        let groups = PathBuf::from(fs::read_to_string(self.folder.path().join("groups"))?.trim());
        let began = Instant::now();
        while let Err(error) = remove_groups(&groups) {
            if began.elapsed() > END_LIMIT {
                return Err(error).with_context(|| format!("cannot remove {}", groups.display()));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Stage for Container {
    const CLOSED: &str = "! cat /proc/[0-9]*/mountinfo 2>/dev/null | grep -q ' /extbackup '";

    fn run(&self, script: &str, stdin: Vec<u8>, limit: Duration) -> Result<String> {
        let call = Invocation::new("nsenter")
            .args(["--target", &self.leader.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"])
            .args([
                "--root",
                "--",
                "env",
                "--ignore-environment",
                "--chdir=/root",
                "HOME=/root",
                "USER=root",
                "LANG=C.UTF-8",
            ])
            .args(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", script]);
        host::shell(&call.stdin(stdin).limit(limit), "in the container", script)
    }

    fn console(&self) -> String {
        fs::read_to_string(self.folder.path().join("console")).unwrap_or_default()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            crate::say(&format!("cannot end the container: {error:#}"));
        }
    }
}

/// Starts the script that boots a container; it dies with the thread that started it, and all that is in the container with it.
#[expect(clippy::disallowed_methods, reason = "it runs beside its caller, for minutes")]
fn spawn(image: &Image, programs: &Path, folder: &TempDir) -> Result<Child> {
    let console = File::create(folder.path().join("console"))?;
    let name = format!("phobos-{}", folder.path().file_name().unwrap_or_default().to_string_lossy().replace('.', "-"));
    std::process::Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "sh"])
        .arg(host::workspace().join("tests/rig/container.sh"))
        .args([image.root().as_path(), programs, folder.path()])
        .arg(name)
        .stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console)
        .spawn()
        .context("cannot start a container")
}

/// The process below `ancestor` that is PID 1 of a container: of a process namespace within the one that `ancestor` has made.
fn leader(ancestor: u32) -> Result<Option<u32>> {
    let mut family = vec![ancestor];
    let mut looked_at = 0;
    while let Some(parent) = family.get(looked_at).copied() {
        looked_at += 1;
        for (pid, status) in processes()? {
            if field(&status, "PPid:") != [parent.to_string()] {
                continue;
            }
            let depth = |pid: u32| {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                field(&status, "NSpid:").len()
            };
            let numbers = field(&status, "NSpid:");
            if numbers.last().is_some_and(|own| own == "1") && numbers.len() == depth(ancestor) + 2 {
                return Ok(Some(pid));
            }
            family.push(pid);
        }
    }
    Ok(None)
}

/// All processes that have not ended in the meantime, and what the kernel says of them.
fn processes() -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        if let Ok(status) = fs::read_to_string(entry.path().join("status")) {
            found.push((pid, status));
        }
    }
    Ok(found)
}

/// The words behind `name` in a status of the kernel's.
fn field(status: &str, name: &str) -> Vec<String> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().map(str::to_owned).collect()
}

/// Removes a control group and those in it, which have no process any more.
fn remove_groups(groups: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(groups)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    fs::remove_dir(groups)
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_field_is_words() {
        let status = "Name:\tsystemd\nPPid:\t12\nNSpid:\t4711\t3\t1\n";
        assert_eq!(field(status, "NSpid:"), ["4711", "3", "1"]);
        assert_eq!(field(status, "PPid:"), ["12"]);
        assert!(field(status, "Uid:").is_empty());
    }
}
