//! Mirrors that end well: from plug to green.

use anyhow::{Result, ensure};
use phobos_tests::{Drive, Light, Nas, Story, minutes, seconds, story};

#[test]
fn plug_to_green() -> Story {
    story(|nas| {
        let a = nas.drive("A");
        nas.expect_drives(&[&a])?;
        nas.plug(&a)?;
        nas.wait_for_light(Light::Yellow, minutes(2))?;
        let green = nas.wait_for_light(Light::Green, minutes(5))?;
        ensure!(green.witness.is_at_rest(), "{green}");
        ensure!(nas.colours()? == [Light::Yellow, Light::Green], "{:?}", nas.colours()?);
        let unit = nas.wait_for_unit(&a.unit(), "inactive", seconds(60))?;
        ensure!(unit.result == "success", "{unit:?}");
        nas.expect_a_true_status(&[&a], 1)?;
        nas.check_copy(&a)
    })
}

/// Two drives, one mapping name: in turns, then both at once.
#[test]
fn two_drives() -> Story {
    story(|nas| {
        let (a, b) = (nas.drive("A"), nas.drive("B"));
        nas.expect_drives(&[&a, &b])?;
        for drive in [&a, &b] {
            mirror(nas, drive)?;
            nas.pull(drive)?;
        }
        nas.sh(
            "nsenter --mount=/run/phobos/ns/backup sh -c 'head -c 300000 /dev/urandom >/backup/holding/chew/srv/new'",
        )?;
        for drive in [&a, &b] {
            if drive.name == "B" {
                nas.sh("sed -i '1i [external]\\npower-off = true' /etc/phobos/phobos.toml")?;
            }
            mirror(nas, drive)?;
            let journal = nas.journal(&drive.unit())?;
            let copied = journal.lines().rfind(|line| line.contains("copied")).unwrap_or_default();
            ensure!(
                copied.contains(" B, deleted ") || copied.contains(" kB, deleted "),
                "the second run copies only what is new: {copied}"
            );
            if drive.name == "B" {
                // It is off the bus before anybody takes it away, and has had to stop.
                nas.sh("! ls /dev/disk/by-id/usb-*rig-B* /sys/bus/scsi/devices/*/block/* 2>/dev/null | grep -v vd")?;
                let kernel = nas.sh("journalctl --dmesg --output=cat | grep 'Stopping disk'")?;
                ensure!(kernel.lines().count() == 1, "{kernel}");
                nas.sh("sed -i 1,2d /etc/phobos/phobos.toml")?;
            } else {
                nas.check_copy(drive)?;
            }
            nas.pull(drive)?;
        }
        nas.slow_backup_disk(4000)?;
        nas.plug(&a)?;
        nas.plug(&b)?;
        nas.wait_for_light(Light::Green, minutes(6))?;
        nas.wait_until("both have run", "[ $(grep -c '\"exit\":0' /var/lib/phobos/history.jsonl) = 6 ]", minutes(4))?;
        let green = nas.light()?.into_iter().rev().find(|report| Light::of(report).is_some());
        ensure!(green.is_some_and(|green| Light::of(&green) == Some(Light::Green) && green.witness.is_at_rest()));
        let history = nas.read("/var/lib/phobos/history.jsonl")?;
        ensure!(history.lines().count() == 6, "{history}");
        nas.wait_until_closed()?;
        nas.check_copy(&b)
    })
}

/// Plugs `drive` in and waits for green.
fn mirror(nas: &mut Nas, drive: &Drive) -> Result<()> {
    nas.plug(drive)?;
    let green = nas.wait_for_light(Light::Green, minutes(5))?;
    ensure!(green.witness.is_at_rest(), "{green}");
    nas.wait_for_unit(&drive.unit(), "inactive", seconds(60)).map(drop)
}
