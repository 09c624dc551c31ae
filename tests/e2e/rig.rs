//! That the rig itself holds: what scenarios build on.

use anyhow::{Result, ensure};
use phobos_tests::{Light, Story, seconds, story};

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
        // phobos-core's example, which leaves nothing open either, also where the key is not the right one.
        let said = nas.sh(&format!(
            "set -e; copy() {{ /usr/local/lib/rig/e2e-example-copy-to-drive {} $1 /etc/apt; }}; copy /etc/phobos/keys/A.key; \
             ! copy /etc/hostname 2>&1; ! ls /dev/mapper | grep -v control; ! grep mapper /proc/self/mountinfo",
            a.uuid
        ))?;
        ensure!(said.contains("the drive can be taken away") && said.contains("cannot unlock "), "{said}");
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
