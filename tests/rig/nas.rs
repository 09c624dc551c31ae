//! The words in which scenarios are written.

use std::fmt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::container::Container;
use crate::image::PASSPHRASE;
use crate::light::{Light, Report};
use crate::machine::{DRIVES, Machine};

/// How long a call may take that waits for nothing.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// The units whose journal is shown when a scenario fails.
const UNITS: [&str; 8] = [
    "phobos-*",
    "backup-exthdd*",
    "status-email-user@*",
    "blinkstick-fail*",
    "systemd-cryptsetup@*",
    "fake-blinkstick*",
    "exim4*",
    "rig-*",
];

/// A unit that fails, and tells as the owner's units do.
const BROKEN: &str = "\
[Unit]
Description=breaks %I
OnFailure=status-email-user@%n.service
StartLimitIntervalSec=0
[Service]
Type=oneshot
ExecStart=/usr/bin/false
";

/// The owner's `status-email-user@.service`, verbatim.
pub const STATUS_EMAIL_USER: &str = "\
[Unit]
Description=status email for %I
[Service]
Type=oneshot
ExecStart=-/usr/local/bin/phobos-mail %i
ExecStart=/usr/local/bin/phobos-blink --index 1 --limit 50 --set-color red
Group=systemd-journal
DynamicUser=yes
";

/// How a scenario ends.
pub type Story = Result<(), Failure>;

/// Why a scenario failed, and what there was to see: the light, the journal, the mail, the console.
pub struct Failure(String);

/// Where a story plays: what has a shell of root's.
pub trait Stage: fmt::Debug {
    /// Runs `script` as root with `stdin` for at most `limit` and returns what it wrote to its standard output.
    ///
    /// # Errors
    ///
    /// When it ends with anything but 0; the message has its standard error.
    fn run(&self, script: &str, stdin: Vec<u8>, limit: Duration) -> Result<String>;

    /// The end of what was written to the console.
    fn console(&self) -> String;

    /// All that the light was told, for a person to read.
    fn light(&self) -> String {
        "there is none".to_owned()
    }
}

/// The owner's machine: the rig's, which has everything, or a booted container, which is fast.
#[derive(Debug)]
pub struct Nas<S: Stage = Machine> {
    stage: S,
    /// How many of the light's reports have been waited for.
    seen: usize,
}

/// One of the drives that the machine knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// Its name in the configuration.
    pub name: &'static str,
    /// The UUID of its LUKS container.
    pub uuid: &'static str,
    file: PathBuf,
}

/// What systemd says about a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// `active`, `activating`, `inactive`, `failed`, …
    pub state: String,
    /// `success`, `exit-code`, `signal`, …
    pub result: String,
    /// The main program's exit code, or the signal that ended it.
    pub status: i32,
}

/// A mail in root's mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The subject line.
    pub subject: String,
    /// All of it, as it lies in the mailbox, but with the lines joined that quoted-printable has cut.
    pub text: String,
}

/// Tells a story on a machine that has just booted, with phobos's programs in place and one BlinkStick plugged in.
///
/// # Errors
///
/// What `tell` returns, with the light's time line, the journal of the units involved, and root's mail.
pub fn story(tell: impl FnOnce(&mut Nas) -> Result<()>) -> Story {
    let mut nas = Nas::start().map_err(|error| Failure(format!("the story could not begin: {error:#}")))?;
    tell(&mut nas).map_err(|error| Failure(format!("{error:#}\n\n{}", nas.report())))
}

/// Tells a story in a container that has just booted, with phobos's programs in place: as [`story`], without drives, light,
/// power cord and a clock of its own.
///
/// # Errors
///
/// What `tell` returns, with the journal of the units involved, and root's mail.
pub fn booted(tell: impl FnOnce(&mut Nas<Container>) -> Result<()>) -> Story {
    let container = Container::start().map_err(|error| Failure(format!("the story could not begin: {error:#}")))?;
    let mut nas = Nas { stage: container, seen: 0 };
    tell(&mut nas).map_err(|error| Failure(format!("{error:#}\n\n{}", nas.report())))
}

/// `count` seconds.
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// `count` minutes.
pub const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

impl Nas {
    /// Starts a clean machine, installs the programs, plugs the stick in.
    ///
    /// # Errors
    ///
    /// When the rig cannot have what it needs, or the machine does not come up.
    pub fn start() -> Result<Self> {
        let machine = Machine::start()?;
        machine.guest()?.sh(
            "dd if=/dev/disk/by-id/virtio-programs iflag=direct bs=1M status=none 2>/dev/null | tar -x -C / \
             && systemctl daemon-reload && udevadm control --reload \
             && systemctl enable --quiet --now fake-blinkstick.service && udevadm settle && sync -f /usr/local",
        )?;
        Ok(Self { stage: machine, seen: 0 })
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
        Drive { name, uuid, file: self.stage.folder().join(format!("drive-{name}.img")) }
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
        self.stage.plug(drive.name, &drive.file)
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
            self.stage.plug(drive.name, &drive.file)?;
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
        self.slow_backup_disk(500)?;
        self.sh("echo 3 >/proc/sys/vm/drop_caches")?;
        self.plug(drive)?;
        self.wait_until("rsync runs", "pgrep -x rsync", minutes(3))
    }

    /// Waits until `drive`'s run has failed with exit code `status`, and checks that all the world was told: the light is
    /// red, root has a mail about the unit that says `why`, and the drive is closed. Returns the mail.
    ///
    /// # Errors
    ///
    /// When any of that is not so.
    pub fn expect_failure(&mut self, drive: &Drive, status: i32, why: &str) -> Result<Mail> {
        let unit = self.wait_for_unit(&drive.unit(), "failed", minutes(4))?;
        if unit.status != status {
            bail!("{} ended with {}, not with {status}", drive.unit(), unit.status);
        }
        self.wait_for_light(Light::Red, minutes(2))?;
        let mail = self.wait_for_mail_that_says(&format!("unit {} failed", drive.unit()), why)?;
        self.wait_until_closed()?;
        Ok(mail)
    }
}

impl<S: Stage> Nas<S> {
    /// Runs `script` as root, outside every namespace of phobos's, and returns what it wrote to its standard output.
    ///
    /// # Errors
    ///
    /// When it ends with anything but 0; the message has its standard error.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.stage.run(script, Vec::new(), CALL_LIMIT)
    }

    /// Writes the file `path` in the machine.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let script = format!("mkdir -p \"$(dirname '{path}')\" && cat > '{path}'");
        self.stage.run(&script, text.into(), minutes(2)).map(drop)
    }

    /// Reads the file `path` in the machine.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read(&self, path: &str) -> Result<String> {
        self.sh(&format!("cat '{path}'"))
    }

    /// Installs `package`, which was set aside for that, as an administrator does: its own scripts run, with `answers` to
    /// debconf's questions, and what it conflicts with is removed.
    ///
    /// # Errors
    ///
    /// When apt does not.
    pub fn install(&self, package: &str, answers: &str) -> Result<()> {
        let script = format!(
            "set -e; export DEBIAN_FRONTEND=noninteractive; debconf-set-selections; \
             apt-get install --quiet=2 --yes --no-install-recommends --option=Dpkg::Use-Pty=0 /opt/debs/{package}/*.deb"
        );
        // Their scripts take a minute under emulation, and longer beside another machine.
        self.stage.run(&script, answers.into(), minutes(5)).map(drop)
    }

    /// Puts the template `broken@.service` in place, which fails by running `program` and tells as the owner's units do.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn install_broken(&self, program: &str) -> Result<()> {
        self.write("/etc/systemd/system/broken@.service", &BROKEN.replace("/usr/bin/false", program))?;
        self.sh("systemctl daemon-reload").map(drop)
    }

    /// Waits until the shell command `condition` succeeds in the machine; `what` says in words what is waited for.
    ///
    /// # Errors
    ///
    /// When it does not within `limit`.
    pub fn wait_until(&self, what: &str, condition: &str, limit: Duration) -> Result<()> {
        let script = format!("until {{ {condition}\n}} >/dev/null 2>&1; do sleep 0.3; done");
        self.stage.run(&script, Vec::new(), limit).with_context(|| format!("waited in vain for: {what}")).map(drop)
    }

    /// What systemd says about `unit`.
    ///
    /// # Errors
    ///
    /// When it says nothing.
    pub fn unit(&self, unit: &str) -> Result<Unit> {
        let show = self.sh(&format!("systemctl show --property=ActiveState,Result,ExecMainStatus -- '{unit}'"))?;
        // A device unit has no result and no main program.
        let value =
            |name: &str| show.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
        Ok(Unit {
            state: value("ActiveState").to_owned(),
            result: value("Result").to_owned(),
            status: value("ExecMainStatus").parse().unwrap_or_default(),
        })
    }

    /// Waits until `unit` is `failed`, `inactive` or `active`.
    ///
    /// # Errors
    ///
    /// When it is not within `limit`.
    pub fn wait_for_unit(&self, unit: &str, state: &str, limit: Duration) -> Result<Unit> {
        let condition = format!("[ \"$(systemctl show --property=ActiveState --value -- '{unit}')\" = {state} ]");
        self.wait_until(&format!("{unit} is {state}"), &condition, limit)?;
        self.unit(unit)
    }

    /// What `unit` wrote to the journal since the machine booted.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub fn journal(&self, unit: &str) -> Result<String> {
        self.sh(&format!("journalctl --sync; journalctl --boot --no-pager --output=cat --unit='{unit}'"))
    }

    /// Waits for a mail with this subject that says `words`.
    ///
    /// # Errors
    ///
    /// When there is none within two minutes.
    pub fn wait_for_mail_that_says(&self, subject: &str, words: &str) -> Result<Mail> {
        let deadline = Instant::now() + minutes(2);
        loop {
            let mails = self.mail()?;
            if let Some(mail) = mails.into_iter().find(|mail| mail.subject == subject && mail.text.contains(words)) {
                return Ok(mail);
            }
            if Instant::now() > deadline {
                bail!("root has no mail with the subject {subject:?} that says {words:?}");
            }
            sleep(Duration::from_millis(300));
        }
    }

    /// Waits until no mapping is open and no drive is mounted in any namespace: systemd's own clean-up may take a moment.
    ///
    /// # Errors
    ///
    /// When a drive stays open.
    pub fn wait_until_closed(&self) -> Result<()> {
        let nothing =
            "! ls /sys/block | grep -q ^dm- && ! cat /proc/[0-9]*/mountinfo 2>/dev/null | grep -q ' /extbackup '";
        self.wait_until("no drive is open", nothing, minutes(1))
    }

    /// A digest of all files on `drive`, which is plugged in and locked: whether they are what they were.
    ///
    /// # Errors
    ///
    /// When the drive cannot be read.
    pub fn content(&self, drive: &Drive) -> Result<String> {
        let Drive { name, uuid, .. } = drive;
        self.sh(&format!(
            "set -eu; cryptsetup open --readonly --key-file /etc/phobos/keys/{name}.key /dev/disk/by-uuid/{uuid} rig-look\n             trap 'umount -q /mnt; cryptsetup close rig-look' EXIT\n             mount -o ro /dev/mapper/rig-look /mnt; cd /mnt\n             find . -type f -print0 | sort -z | xargs -0r sha256sum | sha256sum; cd /"
        ))
    }

    /// The mails in root's mailbox.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn mail(&self) -> Result<Vec<Mail>> {
        Ok(mails(&self.sh("cat /var/mail/owner 2>/dev/null || true")?))
    }

    /// Waits until there are `count` mails in root's mailbox and returns them all.
    ///
    /// # Errors
    ///
    /// When there are not within `limit`.
    pub fn wait_for_mail(&self, count: usize, limit: Duration) -> Result<Vec<Mail>> {
        let condition = format!("[ \"$(grep -c '^From ' /var/mail/owner)\" -ge {count} ]");
        self.wait_until(&format!("mail number {count} to root"), &condition, limit)?;
        self.mail()
    }

    /// Checks that the repository on `drive`, which is plugged in and locked, is whole and can be restored elsewhere.
    ///
    /// # Errors
    ///
    /// When Borg finds anything wrong on it, as another host sees it.
    pub fn check_copy(&self, drive: &Drive) -> Result<()> {
        let script = format!(
            "set -eu\n\
             cd /root\n\
             mkdir -p rig-check/drive rig-check/over\n\
             cryptsetup open --readonly --key-file /etc/phobos/keys/{name}.key /dev/disk/by-uuid/{uuid} rig-check\n\
             trap 'cd /; umount -q /root/rig-check/over/all /root/rig-check/over /root/rig-check/drive; \
                   cryptsetup close rig-check' EXIT\n\
             mount -o ro /dev/mapper/rig-check rig-check/drive\n\
             mount -t tmpfs tmpfs rig-check/over\n\
             cd rig-check/over\n\
             mkdir upper work all base\n\
             mount -t overlay -o lowerdir=../drive,upperdir=upper,workdir=work overlay all\n\
             [ ! -e all/borg/lock.exclusive ] || {{ echo lock.exclusive is on the copy >&2; exit 1; }}\n\
             [ ! -e all/borg/lock.roster ] || {{ echo lock.roster is on the copy >&2; exit 1; }}\n\
             export BORG_BASE_DIR=$PWD/base BORG_HOST_ID=elsewhere BORG_PASSPHRASE='{PASSPHRASE}'\n\
             borg check all/borg\n\
             archives=$(borg list --short all/borg)\n\
             [ -n \"$archives\" ]\n\
             for archive in $archives; do borg extract --dry-run \"all/borg::$archive\"; done\n",
            name = drive.name,
            uuid = drive.uuid,
        );
        self.stage
            .run(&script, Vec::new(), minutes(10))
            .with_context(|| format!("the copy on drive {}", drive.name))
            .map(drop)
    }

    /// What there was to see, for a person who wonders why a scenario failed.
    fn report(&self) -> String {
        let mut text = String::from("---- the light\n");
        text.extend([self.stage.light().as_str(), "\n"]);
        let units: Vec<_> = UNITS.iter().map(|unit| format!("--unit='{unit}'")).collect();
        let journal = "journalctl --sync; journalctl --no-pager --output=short-monotonic";
        for (what, script) in [
            ("the units' journal", format!("{journal} --boot=all {} | tail -n 200", units.join(" "))),
            ("the kernel's journal", format!("{journal} --dmesg | tail -n 40")),
            ("units that failed", "systemctl --failed --no-legend --plain".to_owned()),
            ("drives", "lsblk -o NAME,FSTYPE,LABEL,UUID,MOUNTPOINTS".to_owned()),
            ("root's mail", "cat /var/mail/owner 2>/dev/null || true".to_owned()),
        ] {
            let said = self.sh(&script).unwrap_or_else(|error| format!("{error:#}"));
            text.extend(["---- ", what, "\n", &said, "\n"]);
        }
        text + &format!("---- the console\n{}\n", self.stage.console())
    }
}

impl Drive {
    /// The unit that the drive starts.
    pub fn unit(&self) -> String {
        format!("phobos-ext@{}.service", self.uuid.replace('-', "\\x2d"))
    }

    /// The device unit that is active while the drive is plugged in.
    pub fn device(&self) -> String {
        format!("dev-disk-by\\x2duuid-{}.device", self.uuid.replace('-', "\\x2d"))
    }

    /// Its entry in phobos's configuration.
    pub fn config(&self) -> String {
        let Self { name, uuid, .. } = self;
        format!(
            "[[external.drive]]\nname = \"{name}\"\nuuid = \"{uuid}\"\nkey-file = \"/etc/phobos/keys/{name}.key\"\n\n"
        )
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<S: Stage> Drop for Nas<S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::say(&self.report());
        }
    }
}

/// Takes a mailbox apart.
fn mails(mailbox: &str) -> Vec<Mail> {
    let mut mails: Vec<Mail> = Vec::new();
    let mut in_subject = false;
    for line in mailbox.lines() {
        if line.starts_with("From ") {
            mails.push(Mail { subject: String::new(), text: String::new() });
        }
        let Some(mail) = mails.last_mut() else { continue };
        if mail.subject.is_empty() {
            line.strip_prefix("Subject: ").unwrap_or_default().clone_into(&mut mail.subject);
        } else if in_subject && line.starts_with([' ', '\t']) {
            mail.subject += line;
        }
        in_subject = line.starts_with("Subject: ") || (in_subject && line.starts_with([' ', '\t']));
        mail.text += line;
        mail.text.push('\n');
    }
    for mail in &mut mails {
        mail.text = mail.text.replace("=\n", "").replace("=3D", "=");
    }
    mails
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_holds_mails() {
        let mailbox =
            "From a@b Mon\nTo: root\nSubject: unit\n x failed\nX: y\n\nbo=\ndy\n\nFrom a@b Tue\nSubject: two\n\n";
        assert!(mails(mailbox)[0].text.contains("\nbody\n"));
        let subjects: Vec<_> = mails(mailbox).into_iter().map(|mail| mail.subject).collect();
        assert_eq!(subjects, ["unit x failed", "two"]);
    }
}
