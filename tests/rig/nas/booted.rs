//! What a scenario does in a container: drives on loop devices, and what the jobs have posted in place of a light.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Drive, Kind, Mail, Nas, Stage, check_as_another_host, minutes};
use crate::container::{Container, DRIVES};

/// What stands in a program's place while it is held: it waits without another process, which would be a stranger to some stories.
const HELD: &str = "\
#!/bin/sh
[ ! -p /run/rig-held ] || read nothing </run/rig-held || :
exec /usr/lib/rig-held/NAME \"$@\"
";

/// What stands in rsync's place while it is slow.
const SLOW: &str = "\
#!/bin/sh
exec /usr/lib/rig-held/rsync --bwlimit=500 \"$@\"
";

impl Nas<Container> {
    /// The drive called `name`, with an empty file system labelled `extbackup`, which is not encrypted.
    ///
    /// # Errors
    ///
    /// When the file system cannot be made.
    ///
    /// # Panics
    ///
    /// When there is none of that name: A, B and small are there.
    pub fn drive(&self, name: &str) -> Result<Drive> {
        let Some((name, uuid, _)) = DRIVES.into_iter().find(|(known, ..)| *known == name) else {
            unreachable!("no drive {name} in a container")
        };
        self.sh(&format!("mkfs.ext4 -q -F -m 0 -L extbackup -U {uuid} /dev/disk/by-uuid/{uuid}"))?;
        Ok(Drive { name, uuid: uuid.to_owned(), kind: Kind::Plain })
    }

    /// Tells phobos about `drives` in its configuration.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn expect_drives(&self, drives: &[&Drive]) -> Result<()> {
        let config: String = drives.iter().map(|drive| drive.config()).collect();
        self.write("/etc/phobos/phobos.toml", &config)
    }

    /// Starts the unit of `drive`, as systemd does on a machine where it is plugged in.
    ///
    /// # Errors
    ///
    /// When systemd does not.
    pub fn plug(&self, drive: &Drive) -> Result<()> {
        self.sh(&format!("systemctl start --no-block '{}'", drive.unit())).map(drop)
    }

    /// Waits until the light would show `state` for what the jobs have posted: `working`, `waiting`, `ok`, `failed`, …
    ///
    /// # Errors
    ///
    /// When it would not within `limit`.
    pub fn wait_for_state(&self, state: &str, limit: Duration) -> Result<()> {
        let condition = format!("phobos-blink jobs | grep -q '^light: {state} '");
        self.wait_until(&format!("the light shows {state}"), &condition, limit)
            .with_context(|| self.sh("phobos-blink jobs").unwrap_or_else(|error| format!("{error:#}")))
    }

    /// From now on `program` waits, before it does anything, until [`Self::let_go`].
    ///
    /// # Errors
    ///
    /// When it cannot be put aside.
    pub fn hold(&self, program: &str) -> Result<()> {
        self.sh("[ -p /run/rig-held ] || mkfifo /run/rig-held")?;
        self.stand_in(program, &HELD.replace("NAME", program))
    }

    /// Lets those go on that [`Self::hold`] holds.
    ///
    /// # Errors
    ///
    /// When they cannot be told.
    pub fn let_go(&self) -> Result<()> {
        // Who opens it for both waits for nobody, and wakes all who wait for somebody to write.
        self.sh("exec 3<>/run/rig-held; rm /run/rig-held").map(drop)
    }

    /// Makes rsync slow, so that there is time to do something in its middle.
    ///
    /// # Errors
    ///
    /// When it cannot be put aside.
    pub fn slow_rsync(&self) -> Result<()> {
        self.stand_in("rsync", SLOW)
    }

    /// Puts `program` back in its place.
    ///
    /// # Errors
    ///
    /// When it is not aside.
    pub fn restore(&self, program: &str) -> Result<()> {
        self.sh(&format!("mv /usr/lib/rig-held/{program} /usr/bin/{program}")).map(drop)
    }

    /// Starts the unit of `drive` and waits until its mirror is at rsync, which is held or slow.
    ///
    /// # Errors
    ///
    /// When it does not come that far.
    pub fn plug_into_the_middle(&self, drive: &Drive) -> Result<()> {
        self.plug(drive)?;
        self.wait_until("rsync runs", "pgrep -x rsync", minutes(2))
    }

    /// Makes a good mirror on `drive`.
    ///
    /// # Errors
    ///
    /// When it is not good.
    pub fn mirror(&self, drive: &Drive) -> Result<()> {
        self.sh(&format!("systemctl start '{}'", drive.unit()))?;
        self.wait_for_state("ok", minutes(1))
    }

    /// Waits until `drive`'s run has failed with exit code `status`, and checks that all the world was told: the light would be
    /// red, root has a mail about the unit that says `why`, and the drive is closed. Returns the mail.
    ///
    /// # Errors
    ///
    /// When any of that is not so.
    pub fn expect_failure(&self, drive: &Drive, status: i32, why: &str) -> Result<Mail> {
        let unit = self.wait_for_unit(&drive.unit(), "failed", minutes(2))?;
        if unit.status != status {
            bail!("{} ended with {}, not with {status}", drive.unit(), unit.status);
        }
        self.wait_for_state("failed", minutes(1))?;
        let mail = self.wait_for_mail_that_says(&format!("unit {} failed", drive.unit()), why)?;
        self.wait_until_closed()?;
        Ok(mail)
    }

    /// Lets `timer` come round once more, in two seconds, and starts it if it does not run; the clock is not ours to set.
    ///
    /// # Errors
    ///
    /// When systemd does not take it.
    pub fn timer_comes_round(&self, timer: &str) -> Result<()> {
        // By itself systemd may take a minute.
        let now = r"[Timer]\nOnCalendar=@%s\nAccuracySec=100ms\n";
        self.sh(&format!(
            "set -e; cd /etc/systemd/system; mkdir -p '{timer}.d'; \
             printf '{now}' $(($(date +%s) + 2)) >'{timer}.d/rig-now.conf'; systemctl daemon-reload; systemctl restart '{timer}'"
        ))
        .map(drop)
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
             {unlocked}\
             trap 'cd /; umount -q /root/rig-check/over/all /root/rig-check/over /root/rig-check/drive; lock' EXIT\n\
             mount -o ro \"$device\" rig-check/drive\n\
             mount -t tmpfs tmpfs rig-check/over\n\
             cd rig-check/over\n\
             mkdir upper work all base\n\
             mount -t overlay -o lowerdir=../drive,upperdir=upper,workdir=work overlay all\n\
             cd all\n\
             {check}",
            unlocked = drive.unlocked("rig-check"),
            check = check_as_another_host(),
        );
        self.stage
            .run(&script, Vec::new(), minutes(5))
            .with_context(|| format!("the copy on drive {}", drive.name))
            .map(drop)
    }

    fn stand_in(&self, program: &str, script: &str) -> Result<()> {
        self.sh(&format!("mkdir -p /usr/lib/rig-held && mv /usr/bin/{program} /usr/lib/rig-held/"))?;
        self.write(&format!("/usr/bin/{program}"), script)?;
        self.sh(&format!("chmod 755 /usr/bin/{program}")).map(drop)
    }
}
