//! That the rig itself holds: what scenarios build on.

use anyhow::{Result, ensure};
use phobos_tests::{Light, Story, minutes, seconds, story};

/// The owner's drive, his light and his mail, without any program of phobos's.
#[test]
fn rig_smoke() -> Story {
    story(|nas| {
        let a = nas.drive("A");
        nas.plug(&a)?;
        let device = a.device();
        nas.wait_for_unit(&device, "active", seconds(60))?;
        nas.sh(&format!(
            "set -e; cryptsetup open --key-file /etc/phobos/keys/A.key /dev/disk/by-uuid/{} extbackup; \
             mount /extbackup; findmnt -n -o SOURCE /extbackup",
            a.uuid
        ))?;
        set_light(nas, "050001191900")?;
        let yellow = nas.wait_for_light(Light::Yellow, seconds(10))?;
        ensure!(yellow.witness.mappings == ["extbackup"], "{yellow}");
        ensure!(yellow.witness.mounts.len() == 1, "{yellow}");
        ensure!(!yellow.witness.holders.is_empty(), "{yellow}");

        nas.sh("umount /extbackup && cryptsetup close extbackup")?;
        set_light(nas, "050001000c00")?;
        let green = nas.wait_for_light(Light::Green, seconds(10))?;
        ensure!(green.witness.is_at_rest(), "{green}");

        nas.sh("echo hello | mail -s 'a test' root")?;
        let mails = nas.wait_for_mail(1, seconds(60))?;
        ensure!(mails[0].subject == "a test", "{mails:?}");

        nas.pull(&a)?;
        nas.wait_for_unit(&device, "inactive", seconds(30))?;
        ensure!(nas.colours()? == [Light::Yellow, Light::Green]);
        Ok(())
    })
}

/// A machine whose power is cut comes up again, with what was on its disks; of what the jobs had posted, the light shows
/// the failures that nobody acknowledged; a mail that was written and could not be sent is sent then, once.
#[test]
fn rig_power_cut() -> Story {
    story(|nas| {
        nas.install_broken("/usr/bin/false")?;
        nas.sh("systemctl enable --quiet --now phobos-mail-flush.timer; systemctl stop exim4")?;
        nas.sh("! systemctl start broken@three.service")?;
        let status = nas.wait_for_unit("status-email-user@broken@three.service.service", "failed", minutes(2))?;
        ensure!(status.status == 75, "{status:?}");
        nas.sh("for state in ok unsafe working; do phobos-blink job $state $state; done; \
             phobos-blink job broken failed --text 'disk full'; phobos-blink job seen failed; phobos-blink ack seen")?;
        nas.sh("echo kept > /root/kept && sync /root/kept")?;
        nas.cut_power()?;
        let a = nas.drive("A");
        nas.power_on(&[&a])?;
        ensure!(nas.read("/root/kept")? == "kept");
        nas.wait_for_unit(&a.device(), "active", minutes(2))?;
        nas.wait_for_unit("fake-blinkstick.service", "active", minutes(1))?;
        nas.wait_for_unit("phobos-blink-show.service", "inactive", minutes(1))?;
        let last = nas.light()?.pop();
        ensure!(last.as_ref().and_then(Light::of) == Some(Light::Red), "{last:?}");
        let jobs = nas.sh("phobos-blink jobs")?;
        let told: Vec<_> = jobs
            .lines()
            .map(|line| line.split_whitespace().next().unwrap_or_default())
            // It waits for a mail server again, until that is up.
            .filter(|job| *job != "mail")
            .collect();
        ensure!(told == ["light:", "broken"] && jobs.contains("disk full"), "{jobs}");

        nas.wait_for_unit("phobos-mail-flush.timer", "active", minutes(1))?;
        nas.wait_for_unit("exim4.service", "active", minutes(1))?;
        // The timer that sends what waits comes round, unless a slow machine has already been up for its two minutes.
        nas.sh("date -s '+11 min'")?;
        let mails = nas.wait_for_mail(1, minutes(2))?;
        ensure!(
            mails[0].subject == "unit broken@three.service failed"
                && mails[0].text.contains("\n\nThis message is ")
                && mails[0].text.contains(" late: it was written on "),
            "{mails:?}"
        );
        nas.wait_until("nothing is left", "! ls /var/lib/private/phobos-mail/queue/*.json", seconds(30))?;
        nas.sh("systemctl start phobos-mail-flush.service")?;
        ensure!(nas.mail()?.len() == 1, "once");
        Ok(())
    })
}

/// Sets the stick's light through its hidraw node: a feature report, as hidapi sends it.
fn set_light(nas: &phobos_tests::Nas, report: &str) -> Result<()> {
    nas.sh(&format!(
        "python3 - <<'END'\n\
         import fcntl, glob\n\
         report = bytes.fromhex('{report}')\n\
         node = open(glob.glob('/dev/hidraw*')[0], 'r+b', buffering=0)\n\
         fcntl.ioctl(node, 0xC0004806 | len(report) << 16, report)\n\
         END"
    ))
    .map(drop)
}
