//! Jobs that wait for each other: the night, the weekly check, a pull, and a drive that is plugged in meanwhile.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use phobos_site::history::Run;
use phobos_tests::{Container, PASSPHRASE, Story, booted, minutes, seconds};

type Nas = phobos_tests::Nas<Container>;

/// The hosts that the administrator's borgmatic backs up, one configuration each.
const HOSTS: [&str; 9] = ["alder", "birch", "cedar", "elder", "fir", "hazel", "linden", "maple", "oak"];

/// What makes a borgmatic configuration wait for the morning, so that the night is as long as the story needs it.
const UNTIL_MORNING: &str = "before_actions: ['until [ -e /run/morning ]; do sleep 0.1; done']\n";

/// A host to pull that needs no network.
const PULLED: &str = "set -e; mkdir -p /srv/rowan /etc/phobos/pull.d; echo photo >/srv/rowan/photo\n\
                      echo 'source = [\"/srv/rowan/\"]' >/etc/phobos/pull.d/rowan.toml";

/// Nine borgmatic configurations at night; a pull and a plug-in arrive in the middle, wait visibly, and end well, the pull first.
#[test]
fn a_night_of_nine() -> Story {
    booted(|nas| {
        let a = nas.drive("A")?;
        nas.expect_drives(&[&a])?;
        configure(nas)?;
        nas.sh(PULLED)?;
        nas.sh("systemctl start --no-block phobos-borgmatic.service")?;
        in_the_middle(nas, "phobos-borgmatic.service", "Creating archive at .*::alder-")?;
        nas.sh("systemctl start --no-block phobos-pull@rowan.service")?;
        waits(nas, "pull-rowan", "holding", "borgmatic")?;
        // Made after the pull has come: only one that waits brings it.
        nas.sh("echo late >/srv/rowan/late")?;
        nas.plug(&a)?;
        waits(nas, "ext-A", "holding", "borgmatic")?;
        nas.wait_for_state("waiting", seconds(60))?;
        ensure!(nas.sh("phobos-blink jobs")?.contains("waiting for the lock holding, held by borgmatic (pid "));

        nas.expect_a_true_status(&[&a], 0)?;

        // Meanwhile nobody outside sees the backups, and the namespace cannot be taken away.
        nas.sh("[ -z \"$(ls -A /backup)\" ] && ! grep -q ' /backup ' /proc/self/mountinfo")?;
        let refused = nas.sh("! phobos-ns remove 2>&1")?;
        ensure!(refused.contains("phobos-borgmatic.service)"), "{refused}");

        nas.sh("touch /run/morning")?;
        let night = nas.wait_for_unit("phobos-borgmatic.service", "inactive", minutes(3))?;
        ensure!(night.result == "success", "{night:?}");
        nas.wait_for_state("ok", minutes(2))?;
        nas.wait_for_unit(&a.unit(), "inactive", seconds(60))?;
        nas.wait_until_closed()?;

        nas.expect_a_true_status(&[&a], 3)?;

        // The order is the one in which they came, and each began after the one before had ended.
        let history = nas.read("/var/lib/phobos/history.jsonl")?;
        let mut runs: Vec<Run> = history.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        // A job notes its end after it has let go of its locks, so the next one may be quicker with its line.
        runs.sort_by_key(|run| run.end);
        let jobs: Vec<_> = runs.iter().map(|run| run.job.as_str()).collect();
        ensure!(jobs == ["borgmatic", "pull", "ext"], "{history}");
        ensure!(runs.iter().all(|run| run.exit == 0), "{history}");
        ensure!(runs[1..].iter().all(|run| run.waited_secs > 0), "{history}");
        // A pull begins when it has its locks.
        ensure!(runs[1].start + seconds(1) >= runs[0].end, "{history}");

        // The mirror has what the night and the pull have brought.
        let archives = nas.look_at(
            &a,
            &format!(
                "phobos-ns exec -- diff -r /srv/rowan /mnt/holding/rowan/srv/rowan >&2\n\
                 export BORG_BASE_DIR=/root/elsewhere BORG_PASSPHRASE='{PASSPHRASE}' BORG_RELOCATED_REPO_ACCESS_IS_OK=yes\n\
                 borg list --bypass-lock --short /mnt/borg"
            ),
        )?;
        for host in HOSTS {
            ensure!(
                archives.lines().filter(|archive| archive.starts_with(&format!("{host}-"))).count() == 1,
                "{archives}"
            );
        }
        Ok(())
    })
}

/// The weekly check runs while a drive is plugged in: the drive waits, visibly, and then goes green. Around it, what the units
/// and the namespace promise on a machine with systemd.
#[test]
fn a_check_while_a_drive_comes() -> Story {
    booted(|nas| {
        units(nas)?;
        let a = nas.drive("A")?;
        nas.expect_drives(&[&a])?;
        // A file system of the host's that is mounted when the namespace is made.
        let stick = nas.drive("small")?.uuid;
        nas.sh(&format!("mkdir -p /media/stick; mount /dev/disk/by-uuid/{stick} /media/stick"))?;
        nas.write(
            "/etc/phobos/borg.env",
            &format!("BORG_PASSPHRASE=\"{PASSPHRASE}\"\nBORG_RELOCATED_REPO_ACCESS_IS_OK=yes\n"),
        )?;
        nas.hold("borg")?;
        nas.sh("systemctl start phobos-ns.service; systemctl start --no-block phobos-borg-check.service")?;
        nas.wait_until("borg check runs", "pgrep -x borg", minutes(2))?;
        // A pull does not touch the repository: it runs beside the check.
        nas.sh(PULLED)?;
        nas.sh("systemctl start phobos-pull@rowan.service && \
                systemctl show --property=ActiveState phobos-borg-check.service | grep =activating")?;
        nas.plug(&a)?;
        waits(nas, "ext-A", "repository", "borg-check")?;
        nas.wait_for_state("waiting", seconds(60))?;
        let holder = nas.sh("phobos-ns status")?;
        ensure!(holder.contains(", phobos-borg-check.service), alone, since "), "{holder}");
        nas.sh(&in_use(&a.uuid, false)).context("the drive was opened too early")?;
        nas.expect_a_true_status(&[&a], 1)?;
        // The host's file system is not kept busy by the namespace: the kernel lets go of the disk.
        nas.sh(&format!("{} && umount /media/stick && {}", in_use(&stick, true), in_use(&stick, false)))?;
        nas.sh(&format!("e2fsck -fn /dev/disk/by-uuid/{stick}"))?;
        nas.let_go()?;

        nas.wait_for_state("ok", minutes(2))?;
        let check = nas.wait_for_unit("phobos-borg-check.service", "inactive", seconds(60))?;
        ensure!(check.result == "success", "{check:?}");
        nas.wait_for_unit(&a.unit(), "inactive", seconds(60))?;
        let history = nas.read("/var/lib/phobos/history.jsonl")?;
        let order: Vec<_> =
            ["pull", "borg-check", "ext"].iter().map(|job| history.find(&format!("\"job\":\"{job}\""))).collect();
        ensure!(order.iter().all(Option::is_some) && order.is_sorted(), "{history}");

        // In slices, as the drop-in has it: a part of the segments each time, and the archives.
        nas.sh("cp -r /usr/local/share/phobos/phobos-borg-check.service.d /etc/systemd/system && systemctl daemon-reload && \
                systemctl start phobos-borg-check.service")?;
        let parts = "\"job\":\"borg-check\"";
        ensure!(
            nas.read("/var/lib/phobos/history.jsonl")?.matches(parts).count() == 3,
            "a check in slices is two runs"
        );
        nas.sh("rm -r /etc/systemd/system/phobos-borg-check.service.d && systemctl daemon-reload")?;

        // A process that a job has left behind is named with its unit; when it has ended, the namespace can go.
        nas.sh("systemd-run --unit=rig-left phobos-ns exec -- sleep infinity")?;
        nas.wait_until("it sleeps", "pgrep -x sleep", seconds(60))?;
        let refused = nas.sh("! phobos-ns remove 2>&1")?;
        ensure!(
            refused.contains("there are `sleep infinity` (pid ") && refused.contains(", rig-left.service)"),
            "{refused}"
        );
        nas.sh(
            "systemctl stop rig-left.service && systemctl stop phobos-ns.service && [ ! -e /run/phobos/ns/backup ]",
        )?;

        // What goes wrong turns the light red and is mailed, all hardening notwithstanding.
        nas.sh("sed -i 's,^LABEL=backup,LABEL=no-such-disk,' /etc/fstab; ! systemctl start phobos-borg-check.service")?;
        nas.wait_for_state("failed", minutes(1))?;
        nas.wait_for_mail_that_says("unit phobos-borg-check.service failed", "cannot mount /backup in the namespace")?;
        nas.expect_a_true_status(&[&a], 3)
    })
}

/// A `borg create` holds the lock: the mirror waits for it by name; with a short limit it gives up, and opens nothing.
#[test]
fn repository_busy() -> Story {
    booted(|nas| {
        let a = nas.drive("A")?;
        nas.expect_drives(&[&a])?;
        nas.sh("phobos-ns; mkfifo /root/input")?;
        let create =
            "nsenter --mount=/run/phobos/ns/backup borg create --stdin-name data /backup/borg::by-hand - </root/input";
        nas.sh(&format!(
            "systemd-run --unit=rig-borg --setenv=BORG_PASSPHRASE='{PASSPHRASE}' --setenv=BORG_RELOCATED_REPO_ACCESS_IS_OK=yes \
             --setenv=HOME=/root sh -c '{create}'"
        ))?;
        nas.sh("systemd-run --unit=rig-feed sh -c 'exec 3>/root/input; sleep infinity'")?;
        nas.wait_until(
            "borg holds its lock",
            "nsenter --mount=/run/phobos/ns/backup test -d /backup/borg/lock.exclusive",
            minutes(2),
        )?;

        nas.sh("sed -i '1i [locks]\\nwait = \"5s\"\\n' /etc/phobos/phobos.toml")?;
        nas.plug(&a)?;
        nas.expect_failure(&a, 75, "gave up waiting for Borg's lock on /backup/borg, held by")?;

        nas.sh("sed -i 's/\"5s\"/\"1h\"/' /etc/phobos/phobos.toml")?;
        nas.plug(&a)?;
        // The run before has said the same.
        let said = format!(
            "journalctl --sync; journalctl _SYSTEMD_INVOCATION_ID=$(systemctl show --property=InvocationID --value '{}') | \
             grep 'waiting for Borg.s lock .*borg create'",
            a.unit()
        );
        nas.wait_until("it says for whom it waits", &said, minutes(2))?;
        nas.sh(&in_use(&a.uuid, false)).context("the drive was opened too early")?;
        nas.sh("systemctl stop rig-feed")?;
        nas.wait_for_state("ok", minutes(2))?;
        nas.wait_until_closed()?;
        nas.check_copy(&a)
    })
}

/// A shell command that succeeds if the disk with `uuid` is mounted, or held otherwise, in any namespace; or the other way round.
fn in_use(uuid: &str, wanted: bool) -> String {
    let not = if wanted { "!" } else { "" };
    format!("{not} python3 -c 'import os; os.open(\"/dev/disk/by-uuid/{uuid}\", os.O_EXCL)' 2>/run/rig-in-use")
}

/// Writes the administrator's configurations: one host each, all into one repository, which is compacted once, at the end.
fn configure(nas: &Nas) -> Result<()> {
    let mut script = String::from("set -e; mkdir -p /etc/borgmatic.d\n");
    for host in HOSTS {
        let is_last = Some(&host) == HOSTS.last();
        let more = if is_last { UNTIL_MORNING } else { "skip_actions: [compact]\n" };
        write!(
            script,
            "cat >/etc/borgmatic.d/{host}.yaml <<'END'\n\
             source_directories: [/backup/holding/luv/etc]\n\
             repositories: [{{path: /backup/borg, label: house}}]\n\
             encryption_passphrase: \"{PASSPHRASE}\"\n\
             relocated_repo_access_is_ok: true\n\
             archive_name_format: '{host}-{{now}}'\n\
             match_archives: 'sh:{host}-*'\n\
             keep_daily: 7\n\
             {more}END\n"
        )?;
    }
    nas.sh(&script).map(drop)
}

/// Waits until `unit` has written a line to the journal in which `pattern` is found.
fn in_the_middle(nas: &Nas, unit: &str, pattern: &str) -> Result<()> {
    let said = format!("journalctl --sync; journalctl --boot --unit='{unit}' --output=cat | grep '{pattern}'");
    nas.wait_until(&format!("{unit} says {pattern}"), &said, minutes(3))
}

/// Waits until `job` is seen waiting for `lock`, which `holder` holds.
fn waits(nas: &Nas, job: &str, lock: &str, holder: &str) -> Result<()> {
    let seen = format!(
        "phobos-ns status >/run/rig-status; sed -n '/^lock {lock}$/,/^lock /p' /run/rig-status >/run/rig-lock; \
         grep 'held by: {holder} (pid' /run/rig-lock && grep 'awaited by: {job} (pid' /run/rig-lock"
    );
    nas.wait_until(&format!("{job} waits for {holder}"), &seen, minutes(2))
        .with_context(|| nas.sh("phobos-ns status").unwrap_or_else(|error| format!("{error:#}")))
}

/// Checks that the timers come round when they should, and catch up on what they have missed.
fn units(nas: &Nas) -> Result<()> {
    nas.sh(
        "set -e; when() { systemctl show --property=TimersCalendar --property=Persistent \"$1\" | tr '\\n' ' '; }\n\
         when phobos-borgmatic.timer | grep '=[*]-[*]-[*] 03:00:00 ;.*Persistent=yes'\n\
         when phobos-borg-check.timer | grep '=Sun [*]-[*]-[*] 07:00:00 ;.*Persistent=yes'",
    )?;
    Ok(())
}
