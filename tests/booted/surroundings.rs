//! What surrounds a mirror and must not matter to it; and what must not see it.

use anyhow::ensure;
use phobos_tests::{Container, Story, booted, minutes, seconds};

type Nas = phobos_tests::Nas<Container>;

/// There is no BlinkStick: the mirror is made all the same.
#[test]
fn no_led() -> Story {
    booted(|nas| {
        let a = nas.drive("A")?;
        nas.expect_drives(&[&a])?;
        nas.plug(&a)?;
        nas.wait_until("the mirror is done", "grep '\"exit\":0' /var/lib/phobos/history.jsonl", minutes(2))?;
        let unit = nas.wait_for_unit(&a.unit(), "inactive", seconds(60))?;
        ensure!(unit.result == "success", "{unit:?}");
        let journal = nas.journal(&a.unit())?;
        ensure!(journal.contains("on the light"), "{journal}");
        nas.wait_until_closed()?;
        nas.check_copy(&a)
    })
}

#[test]
fn no_mail_server() -> Story {
    booted(|nas| {
        let a = nas.drive("A")?;
        nas.expect_drives(&[&a])?;
        nas.sh("systemctl stop exim4; chmod -x /usr/sbin/sendmail /usr/sbin/exim4")?;
        nas.mirror(&a)?;
        nas.wait_until_closed()?;

        // A failure turns the light red without it, and the mail is kept.
        nas.sh("nsenter --mount=/run/phobos/ns/backup mv /backup/borg /backup/gone")?;
        nas.plug(&a)?;
        nas.wait_for_unit(&a.unit(), "failed", minutes(2))?;
        nas.wait_for_state("failed", minutes(1))?;
        let status = format!("status-email-user@{}.service", a.unit());
        nas.wait_for_unit(&status, "failed", minutes(2))?;
        let journal = nas.journal(&status)?;
        ensure!(journal.contains("cannot"), "{journal}");
        nas.wait_until_closed()?;
        nas.sh("nsenter --mount=/run/phobos/ns/backup mv /backup/gone /backup/borg")?;
        nas.check_copy(&a)
    })
}

/// Nobody outside sees the backups: not root, not another unit, however it is sandboxed, not in any mount table.
#[test]
fn invisible_outside() -> Story {
    booted(|nas| {
        let look = "[ -z \"$(ls -A /backup)\" ] && ! grep -q ' /backup ' /proc/self/mountinfo";
        let sandboxes = [
            "",
            "-p PrivateTmp=yes",
            "-p ProtectSystem=strict -p ProtectHome=yes",
            "-p DynamicUser=yes",
            "-p PrivateMounts=yes",
        ];
        let everybody_looks = |nas: &Nas| -> anyhow::Result<()> {
            nas.sh(look)?;
            for sandbox in sandboxes {
                nas.sh(&format!(
                    "systemd-run --quiet --wait --collect {sandbox} sh -c '{}'",
                    look.replace('\'', "'\\''")
                ))?;
            }
            let tables = nas.sh("grep -l ' /backup ' /proc/[0-9]*/mountinfo 2>/dev/null | cut -d/ -f3 | \
                while read pid; do tr '\\0' ' ' </proc/$pid/cmdline; echo; done")?;
            let strangers: Vec<_> = tables
                .lines()
                .filter(|line| {
                    !["phobos", "rsync", "borg", "nsenter", "cat", "sh -c echo locked"]
                        .iter()
                        .any(|known| line.contains(known))
                        && !line.trim().is_empty()
                })
                .collect();
            ensure!(strangers.is_empty(), "{strangers:?}");
            Ok(())
        };
        let a = nas.drive("A")?;
        nas.expect_drives(&[&a])?;
        nas.sh(
            "systemctl start phobos-ns.service && nsenter --mount=/run/phobos/ns/backup test -f /backup/borg/config",
        )?;
        everybody_looks(nas)?;
        nas.hold("rsync")?;
        nas.plug_into_the_middle(&a)?;
        everybody_looks(nas)?;
        nas.let_go()?;
        nas.wait_for_state("ok", minutes(2))?;
        everybody_looks(nas)?;
        let refused = "systemd-run --wait --collect --pipe -p PrivateTmp=yes phobos-ns 2>&1";
        ensure!(nas.sh(&format!("! {refused}"))?.contains("runs in a mount namespace of its own"));
        Ok(())
    })
}

/// `systemctl status` shows how far a mirror or a pull is, and how it ended; a unit that does not want that works all the same.
#[test]
fn systemctl_status_shows_how_far_it_is() -> Story {
    booted(|nas| {
        let a = nas.drive("A")?;
        nas.expect_drives(&[&a])?;
        let shows = |nas: &Nas, unit: &str, text: &str| {
            let shown = format!("systemctl show --property=StatusText --value '{unit}' | grep '{text}'");
            nas.wait_until(&format!("systemctl status shows {text}"), &shown, minutes(2))
        };
        nas.slow_rsync()?;
        nas.plug_into_the_middle(&a)?;
        shows(nas, &a.unit(), "^copied .* % of .* free on the drive")?;
        nas.sh("pkill -KILL -o -x rsync")?;
        nas.restore("rsync")?;
        nas.wait_for_unit(&a.unit(), "failed", minutes(1))?;
        shows(nas, &a.unit(), "was killed by signal 9")?;

        nas.sh("set -e; mkdir -p /srv/rowan /etc/phobos/pull.d; echo photo >/srv/rowan/photo\n\
                echo 'source = [\"/srv/rowan/\"]' >/etc/phobos/pull.d/rowan.toml")?;
        nas.hold("rsync")?;
        nas.sh("systemctl start --no-block phobos-pull@rowan.service")?;
        shows(nas, "phobos-pull@rowan.service", "^rowan: asking ")?;
        nas.plug(&a)?;
        shows(nas, &a.unit(), "^waiting for the lock holding, held by pull-rowan ")?;
        nas.let_go()?;
        nas.wait_for_state("ok", minutes(2))?;
        nas.wait_for_unit(&a.unit(), "inactive", seconds(60))?;

        // As the owner's own unit is.
        nas.write(&format!("/etc/systemd/system/{}.d/none.conf", a.unit()), "[Service]\nNotifyAccess=none\n")?;
        nas.sh("systemctl daemon-reload")?;
        nas.mirror(&a)
    })
}

/// A plug-in while drives are held mirrors nothing, and nothing has failed; the drive can then be looked at, whatever systemd starts
/// meanwhile, and calls after it.
#[test]
fn a_held_drive_is_looked_at_in_peace() -> Story {
    booted(|nas| {
        let a = nas.drive("A")?;
        nas.expect_drives(&[&a])?;
        nas.mirror(&a)?;
        nas.wait_until_closed()?;
        nas.sh("phobos-ext hold")?;
        nas.plug(&a)?;
        nas.wait_for_state("attention", minutes(1))?;
        let unit = nas.wait_for_unit(&a.unit(), "inactive", seconds(60))?;
        ensure!(unit.result == "success", "{unit:?}");
        let journal = nas.journal(&a.unit())?;
        ensure!(journal.contains("is not mirrored to: drives are held until"), "{journal}");
        let runs = nas.read("/var/lib/phobos/history.jsonl")?;
        ensure!(runs.lines().count() == 1, "{runs}");

        let is_open = "nsenter --mount=/run/phobos/ns/backup test -e /run/phobos/open/A/borg/config";
        nas.sh(&format!(
            "set -e; test \"$(phobos-ext open A)\" = /run/phobos/open/A; {is_open}; phobos-ext hold --off"
        ))?;
        nas.plug(&a)?;
        nas.wait_for_unit(&a.unit(), "failed", minutes(1))?;
        let journal = nas.journal(&a.unit())?;
        ensure!(journal.contains("run `phobos-ext close A` first"), "{journal}");
        nas.sh(is_open)?;
        let closed = nas.sh("phobos-ext close A 2>&1")?;
        ensure!(closed.contains("the drive A is closed and safe to unplug"), "{closed}");
        nas.wait_until_closed()?;
        nas.mirror(&a)?;
        nas.check_copy(&a)
    })
}
