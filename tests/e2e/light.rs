//! The light itself: who may set it, what it shows when it is plugged in, and what it does when it is busy.

use anyhow::{Context, Result, ensure};
use phobos_tests::{Light, Nas, STATUS_EMAIL_USER, Story, seconds, story};

/// The original's own rule, which lets everybody set the light.
const RULE_OF_THE_ORIGINAL: &str = r#"SUBSYSTEM=="usb", ATTR{idVendor}=="20a0", ATTR{idProduct}=="41e5", MODE:="0666""#;

/// Runs the original, which has to be told where its module is.
const ORIGINAL: &str = "PYTHONPATH=/opt/blinkstick python3 /opt/blinkstick/bin/blinkstick";

/// The owner's unit sets the light, also right after the original has; an ordinary user cannot turn red into green, neither
/// by the stick nor by the jobs' posts.
#[test]
fn only_root_and_its_group_set_the_light() -> Story {
    story(|nas| {
        nas.sh("rm -rf /etc/systemd/system/status-email-user@.service*")?;
        nas.write("/etc/systemd/system/status-email-user@.service", STATUS_EMAIL_USER)?;
        nas.write("/etc/udev/rules.d/85-blinkstick.rules", RULE_OF_THE_ORIGINAL)?;
        // udevadm's own `trigger --settle` comes back before the events have been handled.
        nas.sh("systemctl daemon-reload; udevadm control --reload; \
             udevadm trigger --subsystem-match=usb --subsystem-match=hidraw; udevadm settle")?;
        owners_unit_turns_it_red(nas)?;

        nas.sh("phobos-blink job ext failed --text cable")?;
        nas.wait_for_light(Light::Red, seconds(10))?;
        let before = nas.light()?.len();
        for (command, why) in [
            (
                "phobos-blink --index 1 --set-color green",
                "permission denied; install the udev rule with `sudo phobos-blink --add-udev-rule`",
            ),
            (
                "phobos-blink job ext ok",
                "cannot open /run/phobos/led/.lock: Permission denied (os error 13); run it with sudo or as a system unit",
            ),
            ("phobos-blink job other ok", "cannot open /run/phobos/led/.lock: Permission denied"),
            ("phobos-blink ack", "cannot open /run/phobos/led/.lock: Permission denied"),
            ("phobos-blink show", "permission denied"),
            (
                "PHOBOS_LED_RUN=/tmp/led PHOBOS_LED_KEPT=/tmp/led phobos-blink job ext ok || :; PHOBOS_LED_RUN=/tmp/led phobos-blink show",
                "permission denied",
            ),
            (": >>/dev/hidraw0", "Permission denied"),
            (": >>$(ls -d /dev/bus/usb/*/* | grep -v /001$)", "Permission denied"),
            ("rm -f /run/phobos/led/* /var/lib/phobos/led/*", "Permission denied"),
            (": >/var/lib/phobos/led/ext.json", "Permission denied"),
            (&format!("{ORIGINAL} --index 1 green"), "insufficient permissions"),
        ] {
            let said = as_owner(nas, command)?;
            ensure!(said.contains(why), "`{command}` said {said}");
        }
        ensure!(nas.light()?.len() == before, "the light was told something");
        ensure!(nas.sh("phobos-blink jobs")?.starts_with("light: failed (ext)\n"));

        // The original takes the driver away, and phobos's rule gives it back, to any user.
        nas.sh(&format!("{ORIGINAL} --index 1 --limit 10 green"))?;
        nas.wait_for_light(Light::Green, seconds(30))?;
        owners_unit_turns_it_red(nas)?;

        // Without phobos's rule, --add-udev-rule lets everybody use both nodes.
        let said = nas.sh("phobos-blink --add-udev-rule 2>&1")?;
        ensure!(said.contains("70-phobos-blinkstick.rules keeps the light to root and its group"), "{said}");
        nas.sh("rm /etc/udev/rules.d/[78]*-*blinkstick.rules")?;
        let said = nas.sh("phobos-blink --add-udev-rule")?;
        ensure!(said.starts_with("Rule added to /etc/udev/rules.d/85-blinkstick.rules\n"), "{said}");
        nas.sh(
            "udevadm verify --resolve-names=never /etc/udev/rules.d/85-blinkstick.rules; udevadm control --reload; \
             udevadm trigger --subsystem-match=usb --subsystem-match=hidraw; udevadm settle",
        )?;
        nas.sh("runuser -u owner -- phobos-blink --index 1 --limit 10 green")?;
        nas.wait_for_light(Light::Green, seconds(10))?;
        nas.sh("runuser -u owner -- test -w \"$(ls -d /dev/bus/usb/*/* | grep -v /001$)\"")?;

        // A unit that has failed gets at the light, all its hardening notwithstanding.
        let unit = "phobos-borg-check.service";
        let fails = format!("sed -i 's,^LABEL=backup,LABEL=no-such-disk,' /etc/fstab; ! systemctl start {unit}");
        nas.wait_for_light_again(Light::Red, &fails)?;
        let journal = nas.journal(unit)?;
        ensure!(journal.contains("cannot mount /backup") && !journal.contains("on the light"), "{journal}");
        Ok(())
    })
}

/// What the jobs have posted is on the light when it is plugged in; a busy stick is asked again; a LED of the kernel
/// does where there is no stick.
#[test]
fn plugged_in_busy_and_replaced() -> Story {
    story(|nas| {
        // Nothing is posted: the stick is left alone.
        ensure!(nas.light()?.is_empty(), "{:?}", nas.light()?);
        nas.sh("phobos-blink job ext failed; phobos-blink job ext working")?;
        nas.wait_for_light(Light::Red, seconds(10))?;
        nas.wait_for_light_again(Light::Red, "systemctl restart fake-blinkstick")?;
        // hidapi is kept from reading a thousand files.
        let opened = nas.sh("strace --trace=openat --output=/root/opened phobos-blink show; wc -l </root/opened")?;
        ensure!(opened.parse::<u32>()? < 200, "phobos-blink has opened {opened} files");

        // A stick that shifts data out refuses what comes then; one that refuses everything is told in strict mode.
        nas.sh("phobos-blink ack; phobos-blink job ext off")?;
        warns_or_fails(nas, "nosuch", "\"nosuch\" is no color", 2)?;
        nas.sh("systemctl stop fake-blinkstick")?;
        warns_or_fails(nas, "red", "cannot find a BlinkStick", 69)?;
        with_stick(nas, "pro:BS000002-2.0:busy", |nas| {
            let said = nas.sh("phobos-blink --strict --blink --repeats 2 --delay 1 red 2>&1")?;
            ensure!(said.is_empty(), "{said}");
            let taken = nas.sh("grep '\"refused\":false' /run/rig-stick.jsonl | grep -o '\"data\":\"[^\"]*\"'")?;
            ensure!(
                taken.replace("\"data\":", "").replace('"', "") == "01ff0000\n01000000\n01ff0000\n01000000",
                "{taken}"
            );
            let refused = nas.sh("grep -c '\"refused\":true' /run/rig-stick.jsonl")?;
            ensure!(refused == "6", "{refused}");
            Ok(())
        })?;
        with_stick(nas, "pro:BS000002-2.0:stall", |nas| {
            warns_or_fails(nas, "red", "cannot send report 0x01 to the BlinkStick BS000002-2.0: ", 74)?;
            Ok(())
        })?;

        // The light breathes on the job's LED alone, for as long as the job holds it.
        with_stick(nas, "nano:BS000003-3.0", |nas| {
            nas.sh("phobos-blink job ext working; sleep 6 | phobos-blink show --breathe; phobos-blink job ext off")?;
            let sent = nas.sh("grep -o '\"data\":\"[^\"]*' /run/rig-stick.jsonl | cut -d '\"' -f 4")?;
            let mut sent: Vec<_> = sent.lines().collect();
            ensure!(sent.iter().all(|data| data.starts_with("050001")), "another LED was set: {sent:?}");
            ensure!(sent.ends_with(&["050001191900", "050001000000"]), "steady, then dark: {sent:?}");
            sent.sort_unstable();
            sent.dedup();
            ensure!(sent.len() > 8, "it hardly breathes: {sent:?}");
            Ok(())
        })?;

        // The keyboard's LED, which has one colour.
        nas.sh("modprobe ledtrig-timer")?;
        let led = nas.sh("ls /sys/class/leds | grep -m 1 capslock")?;
        nas.write("/etc/phobos/phobos.toml", &format!("[led]\ndevice = \"sysfs:{led}\"\n"))?;
        let look =
            format!("cd '/sys/class/leds/{led}'; grep -o '\\[.*\\]' trigger; cat brightness delay_on 2>/dev/null || :");
        for (state, want) in
            [("ok", "[none]\n1"), ("failed", "[timer]\n1\n100"), ("ok", "[none]\n1"), ("off", "[none]\n0")]
        {
            nas.sh(&format!("phobos-blink job ext {state}"))?;
            let seen = nas.sh(&look)?;
            // A blinking LED is on and off.
            ensure!(seen == want || seen == want.replace("\n1\n", "\n0\n"), "{state}: {seen}");
        }
        Ok(())
    })
}

/// Checks that a mistake that blinkstick keeps quiet about is one line of warning, and with `--strict` an error.
fn warns_or_fails(nas: &Nas, color: &str, why: &str, code: i32) -> Result<()> {
    let said = nas.sh(&format!("phobos-blink {color} 2>&1"))?;
    ensure!(said.starts_with(&format!("warn: {why}")) && said.lines().count() == 1, "{said}");
    let said = nas.sh(&format!("phobos-blink --strict {color} 2>&1 || echo $?"))?;
    ensure!(said.starts_with(&format!("error: {why}")) && said.ends_with(&format!("\n{code}")), "{said}");
    Ok(())
}

/// Starts the owner's unit for a failed one and waits for red.
fn owners_unit_turns_it_red(nas: &mut Nas) -> Result<()> {
    nas.wait_for_light_again(Light::Red, "systemctl start status-email-user@some.service")
}

/// Runs a command as an ordinary user, who must not succeed, and returns what it said.
fn as_owner(nas: &Nas, command: &str) -> Result<String> {
    let script = format!("! runuser -u owner -- sh -c '{command}' 2>&1");
    nas.sh(&script).with_context(|| format!("an ordinary user may `{command}`"))
}

/// Tells the part of a story in which `stick` is the only one; it writes down all its traffic.
fn with_stick(nas: &mut Nas, stick: &str, tell: impl FnOnce(&mut Nas) -> Result<()>) -> Result<()> {
    nas.sh(&format!(
        "rm -f /run/rig-stick.jsonl; systemd-run --quiet --unit=rig-stick --property=Type=notify \
         /usr/local/lib/rig/fake-blinkstick --traffic /run/rig-stick.jsonl {stick}; udevadm settle"
    ))?;
    tell(nas)?;
    nas.sh("systemctl stop rig-stick").map(drop)
}
