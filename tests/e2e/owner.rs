//! The owner's own units, with nothing changed but the paths of the programs.

use anyhow::{Result, ensure};
use phobos_tests::{Light, Nas, STATUS_EMAIL_USER, Story, minutes, seconds, story};

/// `backup-exthdd.service` as the owner describes it: unlocked by systemd-cryptsetup, wrapped in nsenter.
const BACKUP_EXTHDD: &str = "\
[Unit]
Description=backup to the external drive
Requires=systemd-cryptsetup@extbackup.service
After=systemd-cryptsetup@extbackup.service
OnFailure=status-email-user@%n.service blinkstick-fail.service
[Service]
Type=oneshot
ExecStartPre=/usr/local/bin/phobos-ns
ExecStart=/usr/bin/nsenter --mount=/run/phobos/ns/backup /usr/local/bin/phobos-ext
";

#[test]
fn owners_units() -> Story {
    story(|nas| {
        let a = nas.drive("A");
        install(nas, &a.uuid, &a.device())?;
        nas.plug(&a)?;
        nas.wait_for_light(Light::Yellow, minutes(2))?;
        let green = nas.wait_for_light(Light::Green, minutes(5))?;
        ensure!(green.witness.is_at_rest(), "{green}");
        nas.wait_for_unit("backup-exthdd.service", "inactive", seconds(60))?;
        nas.wait_until_closed()?;
        nas.wait_for_unit("systemd-cryptsetup@extbackup.service", "inactive", seconds(60))?;
        nas.check_copy(&a)?;

        // On failure: red, and a mail that says why.
        nas.sh("nsenter --mount=/run/phobos/ns/backup mv /backup/borg /backup/gone")?;
        nas.sh("systemctl start --no-block backup-exthdd.service")?;
        let unit = nas.wait_for_unit("backup-exthdd.service", "failed", minutes(3))?;
        ensure!(unit.status == 65, "{unit:?}");
        nas.wait_for_light(Light::Red, minutes(2))?;
        nas.wait_for_mail_that_says("unit backup-exthdd.service failed", "no Borg repository in /backup/borg")?;
        nas.wait_until_closed()
    })
}

/// Puts the owner's units, crypttab and fstab in place, and nothing of phobos's own but the programs.
fn install(nas: &mut Nas, uuid: &str, device: &str) -> Result<()> {
    nas.sh("rm -rf /etc/phobos/phobos.toml /etc/systemd/system/status-email-user@.service*")?;
    nas.write("/etc/systemd/system/backup-exthdd.service", BACKUP_EXTHDD)?;
    nas.write("/etc/systemd/system/status-email-user@.service", STATUS_EMAIL_USER)?;
    nas.write("/etc/crypttab", &format!("extbackup UUID={uuid} /etc/phobos/keys/A.key luks,noauto\n"))?;
    nas.sh("mkdir -p /etc/systemd/system/systemd-cryptsetup@extbackup.service.d")?;
    let drop_in = "/etc/systemd/system/systemd-cryptsetup@extbackup.service.d/override.conf";
    nas.write(drop_in, "[Unit]\nStopWhenUnneeded=true\n")?;
    // What `WantedBy=` of the device makes when the unit is enabled.
    nas.sh(&format!(
        "set -e; cd /etc/systemd/system; mkdir -p '{device}.wants'; ln -s ../backup-exthdd.service '{device}.wants/'; \
         systemctl daemon-reload"
    ))
    .map(drop)
}
