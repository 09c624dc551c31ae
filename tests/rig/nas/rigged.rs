//! What a scenario does with the machine in QEMU: drives, light and power.

use std::fs::File;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use phobos_core::exec::Invocation;

use super::{Drive, Kind, Nas, check_as_another_host, minutes, seconds};
use crate::host;
use crate::light::{Light, Report};
use crate::machine::{DRIVES, Machine, Writes};

/// Has the kernel read the repository, and forget what it has read of the holding spaces.
const COLD: &str = r#"phobos-ns && nsenter --mount=/run/phobos/ns/backup python3 - <<'END'
import os
for folder, _, names in os.walk("/backup"):
    for name in names:
        path = os.path.join(folder, name)
        if os.path.islink(path):
            continue
        with open(path, "rb", buffering=0) as file:
            if path.startswith("/backup/borg/"):
                while file.read(1 << 20):
                    pass
            else:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
END"#;

impl Nas {
    /// Starts a clean machine, installs the programs, plugs the stick in.
    ///
    /// # Errors
    ///
    /// When the rig cannot have what it needs, or the machine does not come up.
    pub fn start() -> Result<Self> {
        let nas = Self { stage: Machine::start()?, seen: 0 };
        nas.install_phobos()?;
        Ok(nas)
    }

    /// Installs the programs and plugs the stick in, on a machine that has neither.
    ///
    /// # Errors
    ///
    /// When the machine cannot.
    pub fn install_phobos(&self) -> Result<()> {
        self.stage.guest()?.sh(
            "dd if=/dev/disk/by-id/virtio-programs iflag=direct bs=1M status=none 2>/dev/null | tar -x -C / \
             && systemctl daemon-reload && udevadm control --reload \
             && systemctl enable --quiet --now fake-blinkstick.service && udevadm settle && sync -f /usr/local",
        )?;
        Ok(())
    }

    /// The machine is lost, and another one is there: Debian alone, without phobos, without anything that the first one knew. No drive
    /// is plugged in, and each has what it had.
    ///
    /// # Errors
    ///
    /// When the other one does not come up.
    pub fn lose_the_machine(&mut self) -> Result<()> {
        self.stage.replace()
    }

    /// A digest of all that was written to the machine's own disks, the root's and the backups', since it booted.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn own_disks(&self) -> Result<String> {
        self.stage.own_disks()
    }

    /// The drive called `name`, as it was made ready: LUKS with a key file, an empty file system labelled `extbackup`.
    ///
    /// # Panics
    ///
    /// When there is none of that name: A, B and small are there.
    pub fn drive(&self, name: &str) -> Drive {
        let Some((name, uuid, _)) = DRIVES.into_iter().find(|(known, ..)| *known == name) else {
            unreachable!("no drive {name} in the rig")
        };
        let file = self.stage.folder().join(format!("drive-{name}.img"));
        Drive { name, uuid: uuid.to_owned(), kind: Kind::Encrypted(file) }
    }

    /// A drive as it comes from the shop, of `mib` MiB, with nothing on it.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn fresh_drive(&self, name: &'static str, mib: u64) -> Result<Drive> {
        let file = self.stage.folder().join(format!("drive-{name}.img"));
        File::create(&file)?.set_len(mib << 20)?;
        Ok(Drive { name, uuid: String::new(), kind: Kind::Encrypted(file) })
    }

    /// As [`Nas::sh`], for at most `limit`.
    ///
    /// # Errors
    ///
    /// When it ends with anything but 0, or takes longer.
    pub fn sh_within(&self, script: &str, limit: Duration) -> Result<String> {
        self.stage.guest()?.run(script, Vec::new(), limit)
    }

    /// A digest of every byte of `drive`, as the machine has written it.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn bytes(&self, drive: &Drive) -> Result<String> {
        let Kind::Encrypted(file) = &drive.kind else { bail!("drive {} has no plug", drive.name) };
        self.sh("sync")?;
        host::run(Invocation::new("sha256sum").arg("--").arg(file), minutes(2))
    }

    /// Tells phobos about `drives`: in its configuration, and by enabling the unit that each of them starts.
    ///
    /// # Errors
    ///
    /// When the machine cannot be told.
    pub fn expect_drives(&self, drives: &[&Drive]) -> Result<()> {
        let mut config = String::new();
        for drive in drives {
            config += &drive.config();
        }
        self.write("/etc/phobos/phobos.toml", &config)?;
        let units: Vec<_> = drives.iter().map(|drive| format!("'{}'", drive.unit())).collect();
        self.sh(&format!("systemctl enable --quiet {}", units.join(" "))).map(drop)
    }

    /// Plugs `drive` in.
    ///
    /// # Errors
    ///
    /// When QEMU does not.
    pub fn plug(&mut self, drive: &Drive) -> Result<()> {
        plug(&mut self.stage, drive)
    }

    /// Pulls `drive` out, whatever the machine is doing with it.
    ///
    /// # Errors
    ///
    /// When QEMU does not.
    pub fn pull(&mut self, drive: &Drive) -> Result<()> {
        self.stage.pull(drive.name)
    }

    /// Makes `drive` no faster than `kib` KiB a second; 0 lets it go as fast as it can.
    ///
    /// # Errors
    ///
    /// When QEMU does not, because the drive is not plugged in for example.
    pub fn slow_drive(&mut self, drive: &Drive, kib: u64) -> Result<()> {
        self.stage.throttle(&format!("drive-{}", drive.name), kib << 10)
    }

    /// Has what is written to `drive`, which is plugged in, be kept, fail or be lost from now on.
    ///
    /// # Errors
    ///
    /// When QEMU does not.
    pub fn writes(&mut self, drive: &Drive, writes: Writes) -> Result<()> {
        self.stage.writes(drive.name, writes)
    }

    /// How many bytes `drive` has lost since it began to.
    ///
    /// # Errors
    ///
    /// When it does not lose any.
    pub fn lost(&self, drive: &Drive) -> Result<u64> {
        let file = self.stage.folder().join(format!("lost-{}.qcow2", drive.name));
        Ok(std::fs::metadata(file)?.len())
    }

    /// Makes the backup disk no faster than `kib` KiB a second; 0 lets it go as fast as it can.
    ///
    /// That is how a scenario gets into the middle of a mirror: a slow drive would only slow the unmount down.
    ///
    /// # Errors
    ///
    /// When QEMU does not.
    pub fn slow_backup_disk(&mut self, kib: u64) -> Result<()> {
        self.stage.throttle("backup-disk", kib << 10)
    }

    /// Cuts the power in this moment. What the machine had written is on its disks, what it had not is lost.
    ///
    /// # Errors
    ///
    /// When QEMU does not end.
    pub fn cut_power(&mut self) -> Result<()> {
        self.stage.cut_power()
    }

    /// Switches the machine on again with `plugged` plugged in, and waits for its shell.
    ///
    /// # Errors
    ///
    /// When it does not boot.
    pub fn power_on(&mut self, plugged: &[&Drive]) -> Result<()> {
        self.stage.boot()?;
        for drive in plugged {
            plug(&mut self.stage, drive)?;
        }
        self.stage.connect()
    }

    /// The command that gives a person a root shell in the machine.
    ///
    /// # Errors
    ///
    /// When the machine is off.
    pub fn shell(&self) -> Result<String> {
        Ok(self.stage.guest()?.command())
    }

    /// Waits until the light turns to `light`, from the last light on that was waited for.
    ///
    /// # Errors
    ///
    /// When it does not within `limit`, or turns red instead.
    pub fn wait_for_light(&mut self, light: Light, limit: Duration) -> Result<Report> {
        self.wait_for_light_past(light, None, limit)
    }

    /// Waits until the light turns green after it was red: a failure stays on the light until it is made good.
    ///
    /// # Errors
    ///
    /// When it does not within `limit`.
    pub fn wait_for_recovery(&mut self, limit: Duration) -> Result<Report> {
        self.wait_for_light_past(Light::Green, Some(Light::Red), limit)
    }

    /// Runs `script` and waits until the light turns to `light` after that, even if it was so before.
    ///
    /// # Errors
    ///
    /// When it does not within half a minute.
    pub fn wait_for_light_again(&mut self, light: Light, script: &str) -> Result<()> {
        self.seen = self.light()?.len();
        self.sh(script)?;
        self.wait_for_light(light, seconds(30)).map(drop)
    }

    fn wait_for_light_past(&mut self, light: Light, past: Option<Light>, limit: Duration) -> Result<Report> {
        let began = Instant::now();
        loop {
            let reports = self.light()?;
            for (number, report) in reports.iter().enumerate().skip(self.seen) {
                self.seen = number + 1;
                match Light::of(report) {
                    Some(shown) if shown == light => return Ok(report.clone()),
                    Some(Light::Red) if past != Some(Light::Red) => {
                        bail!("waited for the light to turn {light:?}, but it turned red")
                    }
                    _ => {}
                }
            }
            if began.elapsed() > limit {
                bail!("the light did not turn {light:?} within {} s", limit.as_secs());
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// All that the sticks were told so far.
    ///
    /// # Errors
    ///
    /// When the time line cannot be read.
    pub fn light(&self) -> Result<Vec<Report>> {
        self.stage.reports()
    }

    /// The colours that the light had so far, one after the other.
    ///
    /// # Errors
    ///
    /// When the time line cannot be read.
    pub fn colours(&self) -> Result<Vec<Light>> {
        let mut colours: Vec<_> = self.light()?.iter().filter_map(Light::of).collect();
        colours.dedup();
        Ok(colours)
    }

    /// Plugs `drive` in and waits until its mirror is in the middle of rsync, which it stays in for a while.
    ///
    /// # Errors
    ///
    /// When it does not come that far.
    pub fn plug_into_the_middle(&mut self, drive: &Drive) -> Result<()> {
        self.slow_rsync()?;
        self.plug(drive)?;
        self.wait_until("rsync runs", "pgrep -x rsync", minutes(3))
    }

    /// Starts the unit of `drive`, which is plugged in, and waits until its mirror is in the middle of rsync, which it stays in for a
    /// while.
    ///
    /// # Errors
    ///
    /// When it does not come that far.
    pub fn start_into_the_middle(&mut self, drive: &Drive) -> Result<()> {
        self.slow_rsync()?;
        self.sh(&format!("systemctl start --no-block '{}'", drive.unit()))?;
        self.wait_until("rsync runs", "pgrep -x rsync", minutes(3))
    }

    /// Checks that the repository on `drive`, which is plugged in and locked, is whole and can be restored elsewhere: on the
    /// development machine, where Borg starts ten times as fast.
    ///
    /// # Errors
    ///
    /// When Borg finds anything wrong on it, as another host sees it.
    pub fn check_copy(&self, drive: &Drive) -> Result<()> {
        let folder = tempfile::Builder::new().prefix("copy-").tempdir_in(self.stage.folder())?;
        let script = format!(
            "set -eu; {unlocked}trap 'umount -q /mnt; lock' EXIT\nmount -o ro \"$device\" /mnt\ntar --create --directory /mnt borg",
            unlocked = drive.unlocked("rig-check"),
        );
        self.stage.guest()?.save(&script, &folder.path().join("tar"), minutes(5))?;
        let check = format!(
            "set -eu; cd \"$0\"; mkdir copy; cd copy; tar --extract --file ../tar\n{}",
            check_as_another_host()
        );
        let call = Invocation::new("sh").args(["-c", &check]).arg(folder.path()).limit(minutes(5));
        host::shell(&call, "here", "borg check").with_context(|| format!("the copy on drive {}", drive.name)).map(drop)
    }

    /// Makes the backup disk slow for what rsync is going to read, and not for the repository, which is copied before.
    fn slow_rsync(&mut self) -> Result<()> {
        self.slow_backup_disk(0)?;
        self.sh(COLD)?;
        self.slow_backup_disk(500)
    }
}

fn plug(machine: &mut Machine, drive: &Drive) -> Result<()> {
    match &drive.kind {
        Kind::Encrypted(file) => machine.plug(drive.name, file),
        Kind::Plain => bail!("drive {} has no plug", drive.name),
    }
}
