//! What is refused: the drive stays as it was, whatever is wrong with the source or with the drive itself.

use anyhow::{Result, ensure};
use phobos_tests::{Container, PASSPHRASE, Story, booted};

type Nas = phobos_tests::Nas<Container>;

#[test]
fn source_not_mounted() -> Story {
    refused_after_a_good_mirror(
        "phobos-ns remove; sed -i 's,^LABEL=backup,LABEL=no-such-disk,' /etc/fstab",
        1,
        "cannot mount /backup in the namespace",
    )
}

#[test]
fn source_empty() -> Story {
    refused_after_a_good_mirror(
        "nsenter --mount=/run/phobos/ns/backup sh -c 'rm -r /backup/*'",
        65,
        "no Borg repository in /backup/borg",
    )
}

#[test]
fn other_repository() -> Story {
    let script = format!(
        "export BORG_PASSPHRASE='{PASSPHRASE}' HOME=/root; nsenter --mount=/run/phobos/ns/backup sh -euc \
         'rm -r /backup/borg; borg init --encryption=repokey /backup/borg; borg create /backup/borg::one /etc/hostname'"
    );
    refused_after_a_good_mirror(&script, 65, "the drive belongs to the repository")
}

/// A drive with something else on it.
#[test]
fn other_drive() -> Story {
    booted(|nas| {
        let a = nas.drive("A")?;
        nas.sh(&format!(
            "set -eu; mount /dev/disk/by-uuid/{} /mnt; echo holiday >/mnt/photo.jpg; umount /mnt",
            a.uuid
        ))?;
        let before = nas.content(&a)?;
        nas.expect_drives(&[&a])?;
        nas.plug(&a)?;
        nas.expect_failure(&a, 65, "something else than a mirror of this repository, such as photo.jpg")?;
        ensure!(nas.content(&a)? == before, "the drive was changed");
        Ok(())
    })
}

#[test]
fn drive_full() -> Story {
    booted(|nas| {
        let a = nas.drive("A")?;
        nas.expect_drives(&[&a])?;
        nas.mirror(&a)?;
        drilled(nas)?;
        nas.sh(&format!(
            "export BORG_PASSPHRASE='{PASSPHRASE}' HOME=/root BORG_RELOCATED_REPO_ACCESS_IS_OK=yes; \
             nsenter --mount=/run/phobos/ns/backup sh -euc 'borg create /backup/borg::four /etc; \
             head -c 130000000 /dev/zero >/backup/holding/luv/film'"
        ))?;
        nas.plug(&a)?;
        nas.expect_failure(&a, 65, "are free on the drive; nothing was written")?;
        nas.check_copy(&a)
    })
}

/// Has the shipped unit restore files from the drive that is here, and from none.
fn drilled(nas: &Nas) -> Result<()> {
    let unit = "phobos-ext-drill.service";
    nas.sh(&format!("install -D -m 600 /dev/null /etc/credstore/borg-passphrase; echo '{PASSPHRASE}' >/etc/credstore/borg-passphrase"))?;
    nas.sh(&format!("systemctl start {unit}"))?;
    let said = nas.journal(unit)?;
    ensure!(said.contains("files restored from A") && !said.contains("warn"), "{said}");
    nas.wait_until_closed()?;
    nas.sh(&format!("mv /etc/phobos/phobos.toml /root; printf '[[external.drive]]\nname = \"X\"\ndevice = \"/dev/none\"\n' >/etc/phobos/phobos.toml
        systemctl start {unit}; mv /root/phobos.toml /etc/phobos"))?;
    ensure!(nas.journal(unit)?.contains("no drive is plugged in"), "it does not say so");
    Ok(())
}

/// Makes a good mirror, spoils the source with `script`, and sees the next run refused with everything told and the drive
/// as it was.
fn refused_after_a_good_mirror(script: &str, status: i32, why: &str) -> Story {
    booted(|nas| {
        let a = nas.drive("A")?;
        nas.expect_drives(&[&a])?;
        nas.mirror(&a)?;
        let before = nas.content(&a)?;
        nas.sh(script)?;
        nas.plug(&a)?;
        nas.expect_failure(&a, status, why)?;
        ensure!(nas.content(&a)? == before, "the drive was changed");
        nas.check_copy(&a)
    })
}
