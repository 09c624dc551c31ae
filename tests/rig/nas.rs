//! The words in which scenarios are written.

mod booted;
mod rigged;
mod truth;

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::container::Container;
use crate::image::PASSPHRASE;
use crate::machine::Machine;

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

/// Checks the copy in the folder `borg` as another host does, which has never seen it; what that host remembers goes to `../base`.
const AS_ANOTHER_HOST: &str = "\
[ ! -e borg/lock.exclusive ] || { echo lock.exclusive is on the copy >&2; exit 1; }
[ ! -e borg/lock.roster ] || { echo lock.roster is on the copy >&2; exit 1; }
export BORG_BASE_DIR=$PWD/../base BORG_HOST_ID=elsewhere BORG_PASSPHRASE='WORDS'
borg check borg
archives=$(borg list --short borg)
[ -n \"$archives\" ]
for archive in $archives; do borg extract --dry-run borg::$archive; done
";

/// How a scenario ends.
pub type Story = Result<(), Failure>;

/// Why a scenario failed, and what there was to see: the light, the journal, the mail, the console.
pub struct Failure(String);

/// Where a story plays: what has a shell of root's.
pub trait Stage: fmt::Debug {
    /// A shell command that succeeds when no drive is open here, in any namespace.
    const CLOSED: &str;

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
    /// The UUID of its LUKS container, or of its file system where it has none; empty before it is made.
    pub uuid: String,
    kind: Kind,
}

/// What kind of drive it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// A USB drive with LUKS and a key file; its content is in this file of the development machine's.
    Encrypted(PathBuf),
    /// A loop device that is not encrypted.
    Plain,
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

/// Tells a story in a container that has just booted, with phobos's programs in place: as [`story`], with drives that are not
/// encrypted, but without a light, a power cord and a clock of its own.
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

impl Nas<Container> {
    /// Where the development machine has what was written to the file `path`.
    pub fn written(&self, path: &str) -> PathBuf {
        self.stage.written(path)
    }

    /// Makes a file system, as large as `size` says, of all that the machine's root has at this moment.
    pub(crate) fn root_image(&self, image: &Path, size: &str) -> Result<()> {
        self.stage.root_image(image, size)
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
        self.put(path, text.into())
    }

    /// Writes the file `path` in the machine, whatever is in it.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn put(&self, path: &str, content: Vec<u8>) -> Result<()> {
        let script = format!("mkdir -p \"$(dirname '{path}')\" && cat > '{path}'");
        self.stage.run(&script, content, minutes(2)).map(drop)
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
        self.wait_until("no drive is open", S::CLOSED, minutes(1))
    }

    /// A digest of all files on `drive`, which is plugged in and locked: whether they are what they were.
    ///
    /// # Errors
    ///
    /// When the drive cannot be read.
    pub fn content(&self, drive: &Drive) -> Result<String> {
        self.look_at(drive, "find . -type f -print0 | sort -z | xargs -0r sha256sum | sha256sum")
    }

    /// Runs `script` on `drive`, which is plugged in and locked: its file system is the working directory, to be read only.
    ///
    /// # Errors
    ///
    /// When the drive cannot be read, or the script ends with anything but 0.
    pub fn look_at(&self, drive: &Drive, script: &str) -> Result<String> {
        let unlocked = drive.unlocked("rig-look");
        self.sh(&format!(
            "set -eu; {unlocked}trap 'cd /; umount -q /mnt; lock' EXIT\nmount -o ro \"$device\" /mnt; cd /mnt\n{script}"
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
        match self.kind {
            Kind::Encrypted(_) => format!("phobos-ext@{}.service", self.uuid.replace('-', "\\x2d")),
            Kind::Plain => format!("phobos-ext@{}.service", self.name),
        }
    }

    /// The device unit that is active while the drive is plugged in.
    pub fn device(&self) -> String {
        format!("dev-disk-by\\x2duuid-{}.device", self.uuid.replace('-', "\\x2d"))
    }

    /// Its entry in phobos's configuration.
    pub fn config(&self) -> String {
        let Self { name, uuid, .. } = self;
        let opened = match self.kind {
            Kind::Encrypted(_) => format!("uuid = \"{uuid}\"\nkey-file = \"/etc/phobos/keys/{name}.key\""),
            Kind::Plain => format!("device = \"/dev/disk/by-uuid/{uuid}\""),
        };
        format!("[[external.drive]]\nname = \"{name}\"\n{opened}\n\n")
    }

    /// Shell lines after which the file system is on `$device`, to be read only, until `lock` is called; it is mapped as `mapping`
    /// in between if it must be.
    fn unlocked(&self, mapping: &str) -> String {
        let Self { name, uuid, .. } = self;
        match self.kind {
            Kind::Encrypted(_) => format!(
                "device=/dev/mapper/{mapping}; lock() {{ cryptsetup close {mapping}; }}\n\
                 cryptsetup open --readonly --key-file /etc/phobos/keys/{name}.key /dev/disk/by-uuid/{uuid} {mapping}\n"
            ),
            Kind::Plain => format!("device=/dev/disk/by-uuid/{uuid}; lock() {{ :; }}\n"),
        }
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

/// The shell lines that check the copy in the folder `borg`.
fn check_as_another_host() -> String {
    AS_ANOTHER_HOST.replace("WORDS", PASSPHRASE)
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
