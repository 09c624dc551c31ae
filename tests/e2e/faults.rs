//! What goes wrong in the middle: killed, stopped, pulled, cut off.

use anyhow::{Result, ensure};
use phobos_tests::{Drive, Light, Nas, Story, minutes, story};

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
