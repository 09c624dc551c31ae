//! What goes wrong in the middle: killed, stopped, pulled, cut off.

use anyhow::ensure;
use phobos_tests::{Light, Story, minutes, seconds, story};

#[test]
fn rsync_killed() -> Story {
    story(|nas| {
        let a = nas.drive("A");
        nas.expect_drives(&[&a])?;
        nas.plug_into_the_middle(&a)?;
        nas.sh("pkill -KILL -o -x rsync")?;
        nas.slow_backup_disk(0)?;
        nas.expect_failure(&a, 1, "was killed by signal 9")?;
        nas.sh(&format!("systemctl start '{}'", a.unit()))?;
        let green = nas.wait_for_recovery(seconds(30))?;
        ensure!(green.witness.is_at_rest(), "{green}");
        nas.check_copy(&a)
    })
}

#[test]
fn phobos_killed() -> Story {
    story(|nas| {
        let a = nas.drive("A");
        nas.expect_drives(&[&a])?;
        nas.plug_into_the_middle(&a)?;
        nas.sh(&format!("systemctl kill --kill-whom=main --signal=KILL '{}'", a.unit()))?;
        nas.slow_backup_disk(0)?;
        nas.expect_failure(&a, 9, "failed")?;
        nas.sh(&format!("systemctl start '{}'", a.unit()))?;
        let green = nas.wait_for_recovery(seconds(30))?;
        ensure!(green.witness.is_at_rest(), "{green}");
        nas.check_copy(&a)
    })
}

#[test]
fn stopped() -> Story {
    story(|nas| {
        let a = nas.drive("A");
        nas.expect_drives(&[&a])?;
        nas.plug_into_the_middle(&a)?;
        nas.slow_backup_disk(0)?;
        nas.sh(&format!("systemctl stop '{}'", a.unit()))?;
        nas.wait_until_closed()?;
        ensure!(!nas.colours()?.contains(&Light::Green), "{:?}", nas.colours()?);
        let journal = nas.journal(&a.unit())?;
        ensure!(journal.contains("stopped by signal 15"), "{journal}");
        Ok(())
    })
}

#[test]
fn cable_pulled() -> Story {
    story(|nas| {
        let a = nas.drive("A");
        nas.expect_drives(&[&a])?;
        nas.plug_into_the_middle(&a)?;
        nas.pull(&a)?;
        nas.slow_backup_disk(0)?;
        nas.wait_for_unit(&a.unit(), "failed", minutes(4))?;
        nas.wait_for_light(Light::Red, minutes(2))?;
        nas.wait_for_mail(1, minutes(2))?;
        nas.wait_until_closed()?;
        nas.plug(&a)?;
        let green = nas.wait_for_recovery(minutes(5))?;
        ensure!(green.witness.is_at_rest(), "{green}");
        nas.check_copy(&a)
    })
}

#[test]
fn power_cut() -> Story {
    story(|nas| {
        let a = nas.drive("A");
        nas.expect_drives(&[&a])?;
        nas.plug_into_the_middle(&a)?;
        nas.cut_power()?;
        nas.power_on(&[&a])?;
        nas.slow_backup_disk(0)?;
        let green = nas.wait_for_recovery(minutes(6))?;
        ensure!(green.witness.is_at_rest(), "{green}");
        nas.check_copy(&a)
    })
}
