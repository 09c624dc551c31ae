//! What is killed in the middle: the failure is told, and the next run makes it good.

use phobos_tests::{Container, Story, booted, minutes, seconds};

type Nas = phobos_tests::Nas<Container>;

#[test]
fn rsync_killed() -> Story {
    made_good_after(|_| "pkill -KILL -o -x rsync".to_owned(), 1, "was killed by signal 9")
}

#[test]
fn phobos_killed() -> Story {
    made_good_after(|unit| format!("systemctl kill --kill-whom=main --signal=KILL '{unit}'"), 9, "failed")
}

/// Kills with the script that `kill` makes in the middle of a mirror, sees everything told, and the next run end well.
fn made_good_after(kill: impl FnOnce(&str) -> String, status: i32, why: &str) -> Story {
    booted(|nas: &mut Nas| {
        let a = nas.drive("A")?;
        nas.expect_drives(&[&a])?;
        nas.slow_rsync()?;
        nas.plug_into_the_middle(&a)?;
        nas.sh(&kill(&a.unit()))?;
        nas.restore("rsync")?;
        nas.expect_failure(&a, status, why)?;
        nas.plug(&a)?;
        nas.wait_for_state("ok", minutes(1))?;
        nas.wait_for_unit(&a.unit(), "inactive", seconds(60))?;
        nas.wait_until_closed()?;
        nas.check_copy(&a)
    })
}
