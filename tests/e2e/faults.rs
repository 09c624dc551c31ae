//! What goes wrong in the middle: killed, stopped, pulled, cut off.

use anyhow::{Result, ensure};
use phobos_tests::{Drive, Light, Nas, Story, Writes, minutes, seconds, story};

/// The cable pulled, rsync killed, phobos killed, the unit stopped, one after the other, each in the middle of a mirror: nothing stays
/// mapped or mounted, so that the next run comes as far, and the last one ends well.
#[test]
fn four_faults() -> Story {
    story(|nas| {
        let a = nas.drive("A");
        nas.expect_drives(&[&a])?;
        nas.plug_into_the_middle(&a)?;
        nas.pull(&a)?;
        nas.slow_backup_disk(0)?;
        nas.wait_for_unit(&a.unit(), "failed", minutes(4))?;
        nas.wait_for_light(Light::Red, minutes(2))?;
        nas.wait_for_mail_that_says(&format!("unit {} failed", a.unit()), "cannot")?;
        nas.wait_until_closed()?;
        nas.expect_a_true_status(&[&a], 1)?;

        nas.plug_into_the_middle(&a)?;
        nas.sh("pkill -KILL -o -x rsync")?;
        ends_closed(nas, &a, 1, "was killed by signal 9")?;

        nas.start_into_the_middle(&a)?;
        nas.sh(&format!("systemctl kill --kill-whom=main --signal=KILL '{}'", a.unit()))?;
        ends_closed(nas, &a, 9, "status=9/KILL")?;

        nas.start_into_the_middle(&a)?;
        nas.slow_backup_disk(0)?;
        nas.sh(&format!("systemctl stop '{}'", a.unit()))?;
        nas.wait_until_closed()?;
        ensure!(!nas.colours()?.contains(&Light::Green), "{:?}", nas.colours()?);
        let journal = nas.journal(&a.unit())?;
        ensure!(journal.contains("stopped by signal 15"), "{journal}");

        nas.sh(&format!("systemctl start --no-block '{}'", a.unit()))?;
        let green = nas.wait_for_recovery(minutes(5))?;
        ensure!(green.witness.is_at_rest(), "{green}");
        nas.check_copy(&a)
    })
}

/// A drive whose writes fail in the middle of a mirror, and one that loses what it has said to be written: red and told both times, with
/// nothing left open; and green for the same drive when it keeps what it is given, checked as its owner is told to.
#[test]
fn writes_that_fail_and_writes_that_are_lost() -> Story {
    story(|nas| {
        let a = nas.drive("A");
        nas.expect_drives(&[&a])?;
        nas.plug_into_the_middle(&a)?;
        nas.writes(&a, Writes::Fail)?;
        nas.slow_backup_disk(0)?;
        nas.wait_for_unit(&a.unit(), "failed", minutes(4))?;
        nas.wait_for_light(Light::Red, minutes(2))?;
        nas.wait_for_mail_that_says(&format!("unit {} failed", a.unit()), "Input/output error")?;
        nas.wait_until_closed()?;
        nas.writes(&a, Writes::Kept)?;

        nas.start_into_the_middle(&a)?;
        nas.writes(&a, Writes::Lost)?;
        // Some of what rsync has copied is on its way to the drive in this moment, and taken for written after it.
        let before = nas.lost(&a)?;
        while nas.lost(&a)? < before + (1 << 19) {
            nas.sh("sleep 0.5; nsenter --mount=/run/phobos/ns/backup sync -f /extbackup; pgrep -x rsync")?;
        }
        nas.writes(&a, Writes::Kept)?;
        nas.slow_backup_disk(0)?;
        nas.wait_for_unit(&a.unit(), "failed", minutes(4))?;
        nas.wait_until_closed()?;
        ensure!(!nas.colours()?.contains(&Light::Green), "{:?}", nas.colours()?);
        nas.expect_a_true_status(&[&a], 1)?;

        nas.sh(&format!(
            "cryptsetup open --key-file /etc/phobos/keys/A.key /dev/disk/by-uuid/{} rig-mend; code=0\n\
             e2fsck -fy /dev/mapper/rig-mend >&2 || code=$?; cryptsetup close rig-mend; test $code -le 1",
            a.uuid
        ))?;
        nas.sh(&format!("systemctl start --no-block '{}'", a.unit()))?;
        let green = nas.wait_for_recovery(minutes(5))?;
        ensure!(green.witness.is_at_rest(), "{green}");
        nas.check_copy(&a)
    })
}

/// The power is cut in the middle of a mirror. The machine comes up with what was on its disks: the mirror is made by itself; of what
/// the jobs had posted, the light shows the failures that nobody acknowledged; a mail that was written and could not be sent is
/// sent then, once.
#[test]
fn power_cut() -> Story {
    story(|nas| {
        let a = nas.drive("A");
        nas.expect_drives(&[&a])?;
        nas.plug_into_the_middle(&a)?;
        // As long as all the rest takes, on a slow machine too.
        nas.slow_backup_disk(50)?;
        nas.install_broken("/usr/bin/false")?;
        nas.sh("systemctl enable --quiet --now phobos-mail-flush.timer; systemctl stop exim4; rm /usr/sbin/sendmail")?;
        nas.sh("! systemctl start broken@three.service")?;
        let status = nas.wait_for_unit("status-email-user@broken@three.service.service", "failed", minutes(2))?;
        ensure!(status.status == 75, "{status:?}");
        nas.sh("for state in ok unsafe working; do phobos-blink job $state $state; done; \
             phobos-blink job broken failed --text 'disk full'; phobos-blink job seen failed; phobos-blink ack seen")?;
        nas.sh("echo kept > /root/kept && sync /root/kept; pgrep -x rsync")?;
        nas.cut_power()?;
        nas.power_on(&[&a])?;
        nas.slow_backup_disk(0)?;

        ensure!(nas.read("/root/kept")? == "kept");
        nas.wait_for_unit("fake-blinkstick.service", "active", minutes(1))?;
        nas.wait_for_unit("phobos-blink-show.service", "inactive", minutes(1))?;
        let last = nas.light()?.pop();
        ensure!(last.as_ref().and_then(Light::of) == Some(Light::Red), "{last:?}");
        let jobs = nas.sh("phobos-blink jobs")?;
        let told: Vec<_> = jobs
            .lines()
            .filter(|line| !line.starts_with(' '))
            .map(|line| line.split_whitespace().next().unwrap_or_default())
            // The one is at work again by now, and the other waits for a mail server until that is up.
            .filter(|job| !["ext-A", "mail"].contains(job))
            .collect();
        ensure!(told == ["light:", "broken"] && jobs.contains("disk full"), "{jobs}");
        nas.sh("phobos-blink ack broken")?;
        let green = nas.wait_for_recovery(minutes(6))?;
        ensure!(green.witness.is_at_rest(), "{green}");
        nas.check_copy(&a)?;

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

/// Waits until the run on `drive` has failed with exit code or signal `status` and left nothing open, and its journal says `why`.
fn ends_closed(nas: &mut Nas, drive: &Drive, status: i32, why: &str) -> Result<()> {
    nas.slow_backup_disk(0)?;
    let unit = nas.wait_for_unit(&drive.unit(), "failed", minutes(4))?;
    ensure!(unit.status == status, "{unit:?}");
    nas.wait_until_closed()?;
    let journal = nas.journal(&drive.unit())?;
    ensure!(journal.contains(why), "{journal}");
    Ok(())
}
