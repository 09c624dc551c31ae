//! A day of the machine: pulls at their hours, Borg at night, the drive in the morning.
//!
//! The clock is not ours to set. So each timer is asked when it comes round by itself, and is then told to come round now instead.

use anyhow::{Context, Result, ensure};

use phobos_site::history::Run;
use phobos_tests::{Container, PASSPHRASE, Story, booted, minutes, seconds};

type Nas = phobos_tests::Nas<Container>;

/// The hosts, and when they are pulled.
const HOSTS: [(&str, &str); 3] = [("luv", "06:00:00"), ("nuhc", "15:00:00"), ("chew", "20:00:00")];

/// Makes a host: a network of its own with an ssh server, /home in a folder, its name in /etc/hosts.
const CLIENT: &str = r#"
set -eu
name=$1 number=$2
mkdir -p "/srv/$name/home" /run/sshd; echo "photo of $name" >"/srv/$name/home/photo"
ip netns add "$name"
ip link add "v$name" type veth peer name eth0 netns "$name"
ip addr add "10.9.$number.1/24" dev "v$name"; ip link set "v$name" up
ip -n "$name" addr add "10.9.$number.2/24" dev eth0; ip -n "$name" link set eth0 up
echo "10.9.$number.2 $name" >>/etc/hosts
ssh-keygen -q -t ed25519 -N '' -f "/srv/$name/hostkey"
printf 'HostKey /srv/%s/hostkey\nAuthorizedKeysFile /srv/%s/keys\nPidFile /srv/%s/pid\nStrictModes no\nUsePAM no\n' \
    "$name" "$name" "$name" >"/srv/$name/sshd"
printf 'source = ["root@%s:/home/"]\nroot = "/home"\n' "$name" >"/etc/phobos/pull.d/$name.toml"
phobos-pull authorize "$name" >"/srv/$name/keys"
ip netns exec "$name" sh -c "mount --bind /srv/$name/home /home; exec /usr/sbin/sshd -f /srv/$name/sshd"
phobos-pull trust "$name" --fingerprint "$(ssh-keygen -lf "/srv/$name/hostkey.pub" | cut -d' ' -f2)"
test "$name" != luv || phobos-pull check luv
cp -r "/usr/local/share/phobos/phobos-pull@$name.timer.d" /etc/systemd/system/
"#;

#[test]
fn a_day_of_pulls() -> Story {
    booted(|nas| {
        let a = nas.drive("A")?;
        nas.expect_drives(&[&a])?;
        nas.sh("systemd-sysusers && mkdir -p /etc/phobos/pull.d")?;
        nas.write("/root/client.sh", CLIENT)?;
        for (number, (name, _)) in HOSTS.iter().enumerate() {
            nas.sh(&format!("sh /root/client.sh {name} {}", number + 1)).with_context(|| format!("the host {name}"))?;
        }
        // The original has pulled it as root, and other things.
        nas.sh("phobos-ns exec -- sh -c 'cd /backup/holding; rm -r chew luv/*; chown -hR phobos-pull: /backup/holding/luv'")?;
        prepare_night(nas)?;

        nas.sh("systemctl daemon-reload && systemctl enable --quiet phobos-pull@luv.timer phobos-pull@nuhc.timer \
                phobos-pull@chew.timer phobos-borgmatic.timer")?;
        for (name, time) in HOSTS {
            ensure!(runs(nas, "pull", name)?.is_empty(), "{name} was pulled before its hour");
            comes_round(nas, &format!("phobos-pull@{name}.timer"), time)?;
            wait_for_runs(nas, "pull", name, 1)?;
            ensure!(runs(nas, "pull", name)?[0].exit == 0, "{:?}", runs(nas, "pull", name)?);
        }
        let journal = nas.journal("phobos-pull@luv.service")?;
        ensure!(!journal.contains("Landlock"), "it was pulled unconfined: {journal}");
        let jobs = nas.sh("phobos-blink jobs")?;
        ensure!(jobs == "light: off", "a scheduled pull that goes well leaves the light alone: {jobs}");
        let list = nas.sh("phobos-pull list --json")?;
        let printed: serde_json::Value = serde_json::from_str(&list)?;
        let hosts = printed["hosts"].as_array().context("no hosts")?;
        ensure!(
            hosts.len() == 3 && hosts.iter().all(|host| host["state"] == "ok" && host["next"].is_string()),
            "{list}"
        );

        // At night Borg takes what was pulled, and a pull that comes then waits for it.
        comes_round(nas, "phobos-borgmatic.timer", "03:00:00")?;
        nas.wait_until("Borg holds the holding spaces", "phobos-ns status | grep -q 'held by: borgmatic'", minutes(2))?;
        nas.sh("systemctl start --no-block phobos-pull@luv.service")?;
        nas.wait_until("the pull waits", "phobos-ns status | grep -q 'awaited by: pull-luv'", minutes(1))?;
        nas.sh("touch /run/morning")?;
        wait_for_runs(nas, "pull", "luv", 2)?;
        let (night, luv) = (runs(nas, "borgmatic", "")?, runs(nas, "pull", "luv")?);
        ensure!(night.len() == 1 && night[0].exit == 0, "{night:?}");
        // A job notes its end right after it has let go of its locks.
        ensure!(luv[1].exit == 0 && luv[1].start + seconds(1) >= night[0].end, "{luv:?} beside {night:?}");
        let archive = nas.sh(
            "phobos-ns exec -- /root/borg.sh borg extract --stdout /backup/borg::night backup/holding/.phobos/luv.json",
        )?;
        ensure!(archive.contains("\"state\": \"ok\""), "the mark is in the archive: {archive}");

        nas.mirror(&a)?;
        nas.check_copy(&a)?;

        // A host that is not there: red and a mail, until it is pulled again.
        nas.sh("kill $(cat /srv/nuhc/pid); systemctl start --no-block phobos-pull@nuhc.service")?;
        let unit = nas.wait_for_unit("phobos-pull@nuhc.service", "failed", minutes(1))?;
        ensure!(unit.status == 66, "{unit:?}");
        nas.wait_for_state("failed", minutes(1))?;
        nas.wait_for_mail_that_says("unit phobos-pull@nuhc.service failed", "Connection refused")?;
        nas.sh("ip netns exec nuhc sh -c 'mount --bind /srv/nuhc/home /home; exec /usr/sbin/sshd -f /srv/nuhc/sshd'")?;
        nas.sh("systemctl start phobos-pull@nuhc.service")?;
        nas.wait_for_state("ok", minutes(1))?;

        nas.expect_a_true_status(&[&a], 5)?;

        // Instead of a timer each, one for all.
        let counts = [("luv", 3), ("nuhc", 4), ("chew", 2)];
        nas.sh(
            "systemctl disable --quiet --now phobos-pull@luv.timer phobos-pull@nuhc.timer phobos-pull@chew.timer && \
                systemctl enable --quiet phobos-pull.timer",
        )?;
        comes_round(nas, "phobos-pull.timer", "20:00:00")?;
        for (name, count) in counts {
            wait_for_runs(nas, "pull", name, count)?;
            ensure!(runs(nas, "pull", name)?[count - 1].exit == 0, "{:?}", runs(nas, "pull", name)?);
        }
        nas.wait_for_unit("phobos-pull.service", "inactive", minutes(1))?;
        Ok(())
    })
}

/// Makes the nightly job Borg alone, and lets it end only when the morning has come.
fn prepare_night(nas: &Nas) -> Result<()> {
    let borg = format!("#!/bin/sh -eu\nexport BORG_PASSPHRASE='{PASSPHRASE}' HOME=/root\nexec \"$@\"\n");
    nas.write("/root/borg.sh", &borg)?;
    let night = "#!/bin/sh -eu\n/root/borg.sh borg create /backup/borg::night /backup/holding\n\
                 until test -e /run/morning; do sleep 0.2; done\n";
    nas.write("/root/night.sh", night)?;
    nas.write(
        "/etc/systemd/system/phobos-borgmatic.service.d/borg.conf",
        "[Service]\nExecStart=\nExecStart=/usr/local/bin/phobos-ns exec --job borgmatic --lock holding --lock repository \
         -- /root/night.sh\n",
    )?;
    nas.sh("chmod 755 /root/borg.sh /root/night.sh").map(drop)
}

/// Checks that `timer`, which need not run yet, comes round at `time` of the day, and lets it come round now instead.
///
/// At its own hour it does not come round any more: this story may run at any hour.
fn comes_round(nas: &Nas, timer: &str, time: &str) -> Result<()> {
    let calendar = nas.sh(&format!("systemctl show --property=TimersCalendar --value '{timer}'"))?;
    ensure!(calendar.contains(&format!(" {time} ;")), "{timer} comes round at {calendar}, not at {time}");
    let far = "[Timer]\nOnCalendar=\nOnCalendar=2099-01-01 00:00:00\n";
    nas.write(&format!("/etc/systemd/system/{timer}.d/rig-far.conf"), far)?;
    nas.timer_comes_round(timer)
}

/// The runs of `job` on `object` so far.
fn runs(nas: &Nas, job: &str, object: &str) -> Result<Vec<Run>> {
    let text = nas.sh("cat /var/lib/phobos/history.jsonl 2>/dev/null || true")?;
    let all: Result<Vec<Run>, _> = text.lines().map(serde_json::from_str).collect();
    Ok(all?.into_iter().filter(|run| run.job == job && run.object == object).collect())
}

fn wait_for_runs(nas: &Nas, job: &str, object: &str, count: usize) -> Result<()> {
    let condition = format!(
        "[ \"$(grep -c '\"job\":\"{job}\",\"object\":\"{object}\"' /var/lib/phobos/history.jsonl)\" = {count} ]"
    );
    nas.wait_until(&format!("{object} was pulled"), &condition, minutes(2))
}
