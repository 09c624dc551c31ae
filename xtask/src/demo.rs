//! `demo`: the main job on a NAS in miniature, from plug to green, with everything real but the stick and the machine.

use crate::nas::{self, DISKS, Disk, NAMESPACE};
use crate::say;
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use xshell::{Cmd, Shell, cmd};

/// The command line of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    nas: nas::Inside,
}

/// The passphrase of the demo's repository; phobos never needs one.
const PASSPHRASE: &str = "a passphrase that phobos does not know";

/// open(2): of a block device, fail if anything uses it.
const O_EXCL: i32 = 0o200;

/// The LUKS container's key file.
const KEY: &str = "/etc/phobos/keys/A.key";

/// Sets the NAS up, plugs a drive in twice, and looks at what came of it.
///
/// # Errors
///
/// If something is not as it should be.
pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    nas::run(sh, &args.nas, &["demo"], "dev", None, play)
}

fn play(sh: &Shell) -> Result<()> {
    sh.set_var("BORG_PASSPHRASE", PASSPHRASE);
    let (_backup, drive) = furnish(sh)?;

    title("phobos-ns makes the namespace; /backup is mounted in there and nowhere else");
    watched(cmd!(sh, "phobos-ns"))?;

    title("the drive is plugged in: phobos-ext, in the namespace as in the owner's unit");
    watched(cmd!(sh, "nsenter --mount={NAMESPACE} /usr/local/bin/phobos-ext -- for the first time"))?;

    title("a night later there is a new archive, and the drive is plugged in again: phobos-ext on its own");
    in_namespace(sh, "date > /backup/holding/luv/home/notes-501.txt")?;
    in_namespace(sh, "cd /backup/holding && borg create /backup/borg::luv-2 luv")?;
    watched(cmd!(sh, "phobos-ext"))?;

    title("proof");
    prove(sh, &drive)?;
    title("done: all of it is gone with this process");
    Ok(())
}

/// The drive, and how it is opened.
struct Drive {
    disk: Disk,
    is_encrypted: bool,
}

/// Makes the disk with the repository and an empty drive, and configures the NAS for them.
fn furnish(sh: &Shell) -> Result<(Disk, Drive)> {
    title("a NAS in miniature: its own PID 1, root file system and mounts; nothing of this machine is touched");
    make_led(sh)?;
    let backup = disk(sh, "backup", "2G")?;
    let device = &backup.device;
    cmd!(sh, "mkfs.ext4 -q -L backup {device}").quiet().run()?;
    let drive = Drive { disk: disk(sh, "drive", "2G")?, is_encrypted: false };
    let drive = format(sh, drive)?;

    let fstab = format!("{device} /backup ext4 noauto 0 0\nLABEL=extbackup /extbackup ext4 noauto 0 0\n");
    sh.write_file("/etc/fstab", fstab)?;
    cmd!(sh, "mount /backup").quiet().run()?;
    cmd!(sh, "sh -euc").arg(HOLDING).quiet().run()?;
    cmd!(sh, "borg init --encryption=repokey-blake2 /backup/borg").quiet().ignore_stderr().run()?;
    sh.change_dir("/backup/holding");
    cmd!(sh, "borg create --compression=none /backup/borg::luv-1 luv").quiet().run()?;
    sh.change_dir("/");
    let size = cmd!(sh, "du --summarize --human-readable /backup/borg").quiet().read()?;
    let size = size.split_whitespace().next().unwrap_or_default().to_owned();
    cmd!(sh, "umount /backup").quiet().run()?;
    say(&format!("backup disk   {device}: a Borg repository of {size} and the holding space of a host"));
    Ok((backup, drive))
}

/// What was pulled from a host: many small files and a few large ones.
const HOLDING: &str = "
mkdir -p /backup/holding/luv/home /backup/holding/luv/etc
for number in $(seq 500); do echo \"note $number\" > /backup/holding/luv/home/notes-$number.txt; done
for number in $(seq 4); do head -c 15000000 /dev/urandom > /backup/holding/luv/home/photo-$number.raw; done
cp /etc/services /etc/passwd /backup/holding/luv/etc
";

/// Makes the drive what the owner's drives are: a LUKS container with a file system, where the kernel can do that.
fn format(sh: &Shell, mut drive: Drive) -> Result<Drive> {
    let device = &drive.disk.device;
    sh.create_dir("/etc/phobos/keys")?;
    cmd!(sh, "dd if=/dev/urandom of={KEY} bs=512 count=1 status=none").quiet().run()?;
    cmd!(sh, "chmod 0400 {KEY}").quiet().run()?;
    let fast = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"];
    cmd!(sh, "cryptsetup luksFormat --batch-mode {fast...} {device} {KEY}").quiet().run()?;
    let opened = cmd!(sh, "cryptsetup open --key-file={KEY} {device} extbackup").quiet().ignore_stderr();
    drive.is_encrypted = opened.run().is_ok();
    let configuration = if drive.is_encrypted {
        cmd!(sh, "mkfs.ext4 -q -L extbackup /dev/mapper/extbackup").quiet().run()?;
        cmd!(sh, "cryptsetup close extbackup").quiet().run()?;
        let uuid = cmd!(sh, "cryptsetup luksUUID {device}").quiet().read()?;
        // There is no udev in here to make the link.
        sh.create_dir("/dev/disk/by-uuid")?;
        std::os::unix::fs::symlink(device, format!("/dev/disk/by-uuid/{uuid}"))?;
        say(&format!("drive         {device}: a LUKS container"));
        format!("[[external.drive]]\nname = \"A\"\nuuid = \"{uuid}\"\nkey-file = \"{KEY}\"\n")
    } else {
        cmd!(sh, "wipefs --quiet --all {device}").quiet().run()?;
        cmd!(sh, "mkfs.ext4 -q -L extbackup {device}").quiet().run()?;
        say(&format!("drive         {device}: not encrypted, for this kernel has no dm-crypt"));
        format!("[[external.drive]]\nname = \"A\"\ndevice = \"{device}\"\n")
    };
    sh.write_file("/etc/phobos/phobos.toml", format!("{configuration}[led]\ndevice = \"sysfs:demo\"\n"))?;
    Ok(drive)
}

fn disk(sh: &Shell, name: &str, size: &str) -> Result<Disk> {
    let image = Path::new(DISKS).join(name);
    cmd!(sh, "truncate --size={size} {image}").quiet().run()?;
    Disk::attach(sh, &image, &[])
}

/// Shows that the copy is good, the drive safe to take away, and /backup invisible.
fn prove(sh: &Shell, drive: &Drive) -> Result<()> {
    let light = Light::read().to_string();
    ensure!(light.starts_with("green"), "the light is {light}");
    proven("the light is green");
    // The kernel grants this to nobody while the device is mounted in any namespace, or is below a mapping.
    let exclusive = fs::File::options().read(true).custom_flags(O_EXCL).open(&drive.disk.device);
    exclusive.with_context(|| format!("{} is still in use", drive.disk.device))?;
    proven("the drive is mounted in no namespace, and nothing else holds it");
    ensure!(!Path::new("/dev/mapper/extbackup").exists(), "the mapping is still open");
    if drive.is_encrypted {
        proven("the LUKS mapping is gone");
    }

    let table = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!table.contains(" /backup "), "/backup is mounted outside the namespace");
    ensure!(crate::list(Path::new("/backup"))?.is_empty(), "/backup is not empty outside the namespace");
    proven("outside the namespace /backup is an empty folder, and in no mount table");
    let inside = in_namespace(sh, "ls /backup")?;
    proven(&format!("inside it holds {}", inside.split_whitespace().collect::<Vec<_>>().join(", ")));

    let file_system = if drive.is_encrypted {
        let device = &drive.disk.device;
        cmd!(sh, "cryptsetup open --key-file={KEY} {device} proof").quiet().run()?;
        "/dev/mapper/proof"
    } else {
        &drive.disk.device
    };
    cmd!(sh, "mount {file_system} /mnt").quiet().run()?;
    for name in ["lock.exclusive", "lock.roster"] {
        ensure!(!Path::new("/mnt/borg").join(name).exists(), "the copy has the original's {name}");
    }
    proven("the copy has none of Borg's lock files");
    // As another machine would see it.
    sh.set_var("BORG_HOST_ID", "another-machine@1");
    sh.set_var("BORG_BASE_DIR", "/tmp/another-machine");
    sh.set_var("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes");
    cmd!(sh, "borg check --verify-data /mnt/borg").quiet().run()?;
    proven("`borg check --verify-data` of the copy passes, as on another machine");
    let archives = cmd!(sh, "borg list --short /mnt/borg").quiet().read()?;
    proven(&format!("it holds the archives {}", archives.lines().collect::<Vec<_>>().join(" and ")));
    cmd!(sh, "umount /mnt").quiet().run()?;
    if drive.is_encrypted {
        cmd!(sh, "cryptsetup close proof").quiet().run()?;
    }
    Ok(())
}

fn in_namespace(sh: &Shell, line: &str) -> Result<String> {
    Ok(cmd!(sh, "nsenter --mount={NAMESPACE} sh -euc {line}").quiet().read()?)
}

fn title(text: &str) {
    say(&format!("\n── {text}"));
}

fn proven(text: &str) {
    say(&format!("  ✓ {text}"));
}

/// Runs a program and tells meanwhile what a stick would show.
fn watched(call: Cmd) -> Result<()> {
    say(&format!("$ {call}"));
    let done = AtomicBool::new(false);
    let status = thread::scope(|scope| {
        scope.spawn(|| {
            let mut shown = Light::read();
            while !done.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(20));
                tell_change(&mut shown);
            }
            tell_change(&mut shown);
        });
        let status = Command::from(call).status();
        done.store(true, Ordering::Release);
        status
    })?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

fn tell_change(shown: &mut Light) {
    let now = Light::read();
    // Colour and brightness are two files: what is not the same a moment later was read in between.
    thread::sleep(Duration::from_millis(5));
    if now != *shown && now == Light::read() {
        say(&format!("light: {now}"));
        *shown = now;
    }
}

/// The folder of a LED of the kernel, as phobos-blink finds it where there is no stick.
const LED: &str = "/sys/class/leds/demo";

/// Makes the LED, of files that nothing but this program reads.
fn make_led(sh: &Shell) -> Result<()> {
    // Not every kernel has the folder of LEDs, and no folder can be made in there.
    let place = ["/sys/class/leds", "/sys/class"].into_iter().find(|path| Path::new(path).is_dir());
    let place = place.context("there is no /sys/class")?;
    cmd!(sh, "mount -t tmpfs phobos-led {place}").quiet().run()?;
    // All that leds-class-multicolor has: nothing makes a file there.
    for (name, text) in [
        ("max_brightness", "255"),
        ("multi_index", "red green blue"),
        ("multi_intensity", "0 0 0"),
        ("brightness", "0"),
    ] {
        sh.write_file(Path::new(LED).join(name), text)?;
    }
    Ok(())
}

/// What phobos-blink has put on the LED: a colour, and its brightness out of 255.
#[derive(Debug, Default, PartialEq, Eq)]
struct Light {
    color: String,
    brightness: u32,
}

impl Light {
    fn read() -> Self {
        let content = |name: &str| fs::read_to_string(Path::new(LED).join(name)).unwrap_or_default();
        let (color, brightness) = (content("multi_intensity"), content("brightness"));
        Self { color: color.trim().to_owned(), brightness: brightness.trim().parse().unwrap_or(0) }
    }
}

impl fmt::Display for Light {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { color, brightness } = self;
        let color = match color.as_str() {
            _ if *brightness == 0 => return f.write_str("off"),
            "255 255 0" => "yellow",
            "0 0 255" => "blue",
            "255 0 255" => "magenta",
            "255 255 255" => "white",
            "0 128 0" => "green",
            "255 0 0" => "red",
            other => other,
        };
        write!(f, "{color} ({} %)", brightness * 100 / 255)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_light_has_the_names_of_its_colours() {
        let light = |color: &str, brightness| Light { color: color.to_owned(), brightness }.to_string();
        assert_eq!(light("255 255 0", 26), "yellow (10 %)");
        assert_eq!(light("0 128 0", 26), "green (10 %)");
        assert_eq!(light("255 0 0", 128), "red (50 %)");
        assert_eq!(light("255 0 0", 0), "off");
        assert_eq!(light("51 194 128", 255), "51 194 128 (100 %)");
    }
}
