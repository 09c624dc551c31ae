//! The units as they are shipped: each does its work under its own hardening, right after a boot, and none waits for ever.

use anyhow::{Context, Result, ensure};
use phobos_site::history::Run;
use phobos_tests::{Container, Story, booted, minutes};

type Nas = phobos_tests::Nas<Container>;

/// A host with an ssh server, a disk for backups, and one night's borgmatic; its name has a dash, as host names do.
const HOUSE: &str = r#"
set -eu
echo 'tmpfs /backup tmpfs noauto,mode=755 0 0' >/etc/fstab
systemctl daemon-reload
systemd-sysusers
mkdir -p /srv/luv/home /etc/phobos/pull.d /run/sshd
echo photo >/srv/luv/home/photo
chmod 4755 /srv/luv/home/photo
ssh-keygen -q -t ed25519 -N '' -f /srv/luv/hostkey
printf 'ListenAddress 127.0.0.1:2222\nHostKey /srv/luv/hostkey\nAuthorizedKeysFile /srv/luv/keys\nPidFile none\nStrictModes no\nUsePAM no\n' \
    >/srv/luv/sshd
printf 'source = ["root@127.0.0.1:/srv/luv/home/"]\nroot = "/srv/luv/home"\nport = 2222\n' >/etc/phobos/pull.d/my-luv.toml
printf 'source = ["/srv/luv/home/"]\n' >/etc/phobos/pull.d/this-one.toml
phobos-pull authorize my-luv >/srv/luv/keys
/usr/sbin/sshd -f /srv/luv/sshd
phobos-pull trust my-luv --fingerprint "$(ssh-keygen -lf /srv/luv/hostkey.pub | cut -d' ' -f2)"
cat >/root/hook <<'END'
#!/bin/sh
# What the night may not do, whatever runs in it.
for place in /usr/bin/planted /etc/planted /boot/planted /home/planted; do
    if touch "$place" 2>/dev/null; then echo "$place was written"; exit 1; fi
done
if unshare --net true 2>/dev/null; then echo "a namespace was made"; exit 1; fi
test -e /backup/holding/my-luv/srv/luv/home/photo
END
chmod 755 /root/hook
mkdir -p /etc/borgmatic.d
cat >/etc/borgmatic.d/house.yaml <<'END'
source_directories: [/backup/holding]
repositories: [{path: /backup/borg, label: house}]
before_backup: [/root/hook]
keep_daily: 7
unknown_unencrypted_repo_access_is_ok: true
END
echo BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes >/etc/phobos/borg.env
"#;

/// A server that takes a connection and says nothing.
const SILENT: &str = "\
import socket
server = socket.create_server((\"127.0.0.1\", 2223))
held = []
while True:
    held.append(server.accept())
";

/// As after a boot: nothing of phobos's in `/run`, so that no earlier call has made anything for a unit.
fn as_after_a_boot(nas: &Nas) -> Result<()> {
    nas.sh("phobos-ns remove; umount /run/phobos/ns; rm -r /run/phobos").map(drop)
}

/// The runs of `job` so far.
fn runs(nas: &Nas, job: &str) -> Result<Vec<Run>> {
    let history = nas.read("/var/lib/phobos/history.jsonl")?;
    let all: Vec<Run> = history.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    Ok(all.into_iter().filter(|run| run.job == job).collect())
}

/// Starts a unit to its end, and shows its journal where it fails.
fn start(nas: &Nas, unit: &str) -> Result<String> {
    let started = nas.sh(&format!("systemctl start '{unit}'"));
    let said = nas.journal(unit)?;
    started.with_context(|| format!("{unit}: {said}"))?;
    Ok(said)
}

#[test]
fn each_unit_does_its_work_right_after_a_boot() -> Story {
    booted(|nas| {
        nas.sh(HOUSE)?;
        as_after_a_boot(nas)?;
        start(nas, "phobos-ns.service")?;
        start(nas, "phobos-pull@my-luv.service")?;
        start(nas, "phobos-pull@this-one.service")?;
        start(nas, "phobos-pull.service")?;
        let pulled = runs(nas, "pull")?;
        ensure!(pulled.len() == 4 && pulled.iter().all(|run| run.exit == 0), "{pulled:?}");
        // This machine's own files keep their modes.
        nas.sh("phobos-ns exec -- sh -ec 'cd /backup/holding; grep photo my-luv/srv/luv/home/photo; \
                test \"$(stat -c %a this-one/srv/luv/home/photo)\" = 4755'")?;
        nas.sh("phobos-ns exec -- borg init --encryption=none /backup/borg")?;
        start(nas, "phobos-borgmatic.service")?;
        start(nas, "phobos-borg-check.service")?;
        let read = start(nas, "phobos-ext-verify-source.service")?;
        ensure!(read.contains("read again of the repository") && read.contains("all of it was read since"), "{read}");
        let archives = nas.sh(
            "phobos-ns exec -- env BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes borg list --short /backup/borg",
        )?;
        ensure!(archives.lines().count() == 1, "{archives}");
        // What is shown of them is what systemd knows of them.
        start(nas, "phobos-status-page.service")?;
        let page = nas.read("/var/lib/phobos/status.html")?;
        for job in ["my-luv", "this-one", "borgmatic", "borg-check"] {
            ensure!(page.contains(&format!(">{job}<")), "{job} is not on the page: {page}");
        }
        ensure!(page.contains("used, ") && !page.contains("Only root"), "{page}");
        let told: serde_json::Value = serde_json::from_str(&nas.sh("phobos-status --json")?)?;
        ensure!(told["jobs"].as_array().is_some_and(|jobs| jobs.len() == 5), "{told}");
        for (job, unit) in [("borgmatic", "phobos-borgmatic.service"), ("borg-check", "phobos-borg-check.service")] {
            let jobs = told["jobs"].as_array().into_iter().flatten();
            let exit = jobs.clone().find(|known| known["name"] == job).map(|known| known["last"]["exit"].clone());
            ensure!(exit == Some(nas.unit(unit)?.status.into()), "{job}: {told}");
        }
        // A hook is told of what happens from now on, by nobody in particular, and after each run without being asked to.
        nas.sh("printf '[[hook]]\\non = [\"ok\"]\\ncommand = [\"/usr/bin/logger\", \"-t\", \"told\"]\\n' >>/etc/phobos/phobos.toml")?;
        start(nas, "phobos-status-hook.service")?;
        nas.sh("systemctl start phobos-status-hook.path; ! journalctl --boot -q -t told | grep .")?;
        start(nas, "phobos-pull@my-luv.service")?;
        nas.wait_until(
            "the hook was told",
            "journalctl --boot -q -t told | grep -q '\"text\":\"my-luv went well\"'",
            minutes(1),
        )?;
        nas.sh("test \"$(stat -c %U /var/lib/private/phobos-status-hook)\" != root")?;
        start(nas, "phobos-status-digest.service")?;
        nas.wait_for_mail_that_says("weekly digest: all is well", "borgmatic")?;

        // What a unit had of the backups is gone with it.
        nas.sh("! grep -l ' /backup ' /proc/[0-9]*/mountinfo 2>/dev/null")?;
        nas.sh("systemctl stop phobos-ns.service && [ ! -e /run/phobos/ns/backup ]")?;

        // After a boot a failure that was kept is all there is of the light.
        nas.sh("phobos-blink job night failed --text rain || true; rm -rf /run/phobos; ls /var/lib/phobos/led/*")?;
        let shown = nas.sh("systemctl start phobos-blink-show.service; journalctl --sync; \
                            journalctl --boot --output=cat --unit=phobos-blink-show.service")?;
        ensure!(shown.contains("cannot find a BlinkStick") && !shown.contains("denied"), "{shown}");
        ensure!(!shown.contains("Read-only"), "{shown}");
        Ok(())
    })
}

/// A unit that takes too long is ended by systemd, and that is told as any failure: history, light, mail.
#[test]
fn what_systemd_ends_is_told() -> Story {
    booted(|nas| {
        nas.sh(HOUSE)?;
        nas.write("/usr/local/lib/rig/silent", SILENT)?;
        nas.sh("set -e; systemd-run --quiet --unit=rig-silent python3 /usr/local/lib/rig/silent
                sed -i s/2222/2223/ /etc/phobos/pull.d/my-luv.toml
                ssh-keygen -q -f /etc/phobos/known_hosts -F '[127.0.0.1]:2222' | sed s/2222/2223/ | grep -v '^#' >/root/known
                cat /root/known >>/etc/phobos/known_hosts")?;
        nas.wait_until("the server listens", "ss -Hltn sport = 2223 | grep -q .", minutes(1))?;
        nas.write("/etc/systemd/system/phobos-pull@.service.d/limit.conf", "[Service]\nTimeoutStartSec=3s\n")?;
        as_after_a_boot(nas)?;
        nas.sh(
            "systemctl daemon-reload; systemctl start phobos-ns.service; ! systemctl start phobos-pull@my-luv.service",
        )?;
        let unit = nas.unit("phobos-pull@my-luv.service")?;
        ensure!(unit.result == "timeout", "{unit:?}");
        let pulled = runs(nas, "pull")?;
        ensure!(pulled.len() == 1 && pulled[0].exit == 143 && pulled[0].object == "my-luv", "{pulled:?}");
        let board = nas.sh("phobos-blink jobs")?;
        ensure!(board.contains("pull-my-luv") && board.contains("failed"), "{board}");
        nas.wait_for_mail_that_says("unit phobos-pull@my-luv.service failed", "")?;
        Ok(())
    })
}

/// With the systemd that the machine has, which may judge otherwise than the one that the units were written with.
#[test]
fn systemd_likes_the_units() -> Story {
    booted(|nas| {
        let said = nas.sh(
            "set -e; cd /etc/systemd/system; systemd-analyze verify phobos-*.service phobos-*.timer 2>&1
             for unit in $(grep -l '^# systemd-analyze security: ' *.service); do
                 noted=$(sed -n 's/^# systemd-analyze security: //p' $unit)
                 real=$(systemd-analyze security --offline=true --no-pager $unit | sed -n '$s/.*: \\([0-9.]*\\) .*/\\1/p')
                 echo \"$unit $noted $real\"
             done",
        )?;
        ensure!(said.lines().count() >= 12, "{said}");
        for line in said.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [unit, noted, real] = words.as_slice() else { return Err(anyhow::anyhow!("{said}")) };
            let (noted, real): (f64, f64) = (noted.parse()?, real.parse()?);
            ensure!(real <= noted, "{unit} notes {noted}, and systemd says {real}");
        }
        Ok(())
    })
}

/// A drive that nobody has brought for months is told by the daily look: in the journal, on the board, and by one mail, which the unit
/// hands to phobos-mail under its own hardening; the next look says nothing new.
#[test]
fn a_drive_that_is_missed_is_told_by_the_daily_look() -> Story {
    booted(|nas| {
        nas.sh("set -e; systemd-sysusers
                printf '[[external.drive]]\\nname = \"A\"\\ndevice = \"/dev/disk/by-label/nowhere\"\\n' >/etc/phobos/phobos.toml
                mkdir -p /var/lib/phobos
                echo '{\"drives\": {\"A\": {\"mirror\": {\"mirrored\": \"2026-01-02T03:04:05Z\"}}}}' >/var/lib/phobos/drives.json
                rm -rf /run/phobos")?;
        let said = start(nas, "phobos-ext-drives.service")?;
        ensure!(said.contains("the drive A is overdue: it was to be brought by 6 February 2026"), "{said}");
        ensure!(!said.contains("denied") && !said.contains("Read-only") && !said.contains("not permitted"), "{said}");
        nas.wait_for_mail_that_says("the drive A is overdue: it was to be brought by 6 February 2026", "A  OVERDUE")?;
        let board = nas.sh("phobos-blink jobs")?;
        ensure!(board.contains("drives") && board.contains("attention"), "{board}");
        start(nas, "phobos-ext-drives.service")?;
        let mails = nas.mail()?;
        ensure!(mails.len() == 1, "{mails:?}");
        Ok(())
    })
}
