//! A failure always reaches a human: whatever takes mail on the machine, whatever does not for a while.

use anyhow::{Result, ensure};
use phobos_tests::{Light, Mail, Nas, Story, minutes, seconds, story};

/// A unit that fails two hundred times, as fast as systemd can start it: for want of a file, which takes no program to find out.
const STORM: &str = "\
[Unit]
Description=fails and fails
OnFailure=status-email-user@%n.service
StartLimitBurst=200
StartLimitIntervalSec=1h
[Service]
EnvironmentFile=/etc/phobos/no-such-file
ExecStart=/usr/bin/true
Restart=always
RestartSec=1ms
";

/// What systemd calls the entry in the journal that says that a unit has failed.
const FAILED: &str = "d9b373ed55a64feb8242e02dbe79a49c";

/// The mail server is down, and later the power too: what was written is sent when it can be, once and in order.
#[test]
fn mail_kept() -> Story {
    story(|nas| {
        nas.install_broken("/usr/bin/false")?;
        nas.sh("systemctl enable --quiet --now phobos-mail-flush.timer; systemctl stop exim4")?;
        for unit in ["broken@one.service", "broken@two.service"] {
            nas.sh(&format!("! systemctl start {unit}"))?;
            let status = nas.wait_for_unit(&format!("status-email-user@{unit}.service"), "failed", minutes(2))?;
            ensure!(status.status == 75, "{status:?}");
            nas.wait_for_light(Light::Red, seconds(1))?;
        }
        let said = nas.journal("status-email-user@broken@two.service.service")?;
        ensure!(said.contains("kept in /var/lib/phobos-mail") && said.contains("Connection refused"), "{said}");
        ensure!(nas.sh("phobos-blink jobs")?.contains("mail  attention"), "{}", nas.sh("phobos-blink jobs")?);

        nas.sh("systemctl start exim4")?;
        eleven_minutes_pass(nas)?;
        let mails = nas.wait_for_mail(2, minutes(2))?;
        expect_late(&mails, &["unit broken@one.service failed", "unit broken@two.service failed"])?;
        nas.wait_for_unit("phobos-mail-flush.service", "inactive", minutes(1))?;
        ensure!(!nas.sh("phobos-blink jobs")?.contains("mail"), "{}", nas.sh("phobos-blink jobs")?);
        ensure!(nas.colours()?.last() == Some(&Light::Red), "{:?}", nas.colours()?);

        // A server that accepts and never answers is given up; then the power is cut.
        nas.sh("kill -STOP $(systemctl show --property=MainPID --value exim4)")?;
        nas.sh("! systemctl start broken@three.service")?;
        let status = "status-email-user@broken@three.service.service";
        let unit = nas.wait_for_unit(status, "failed", minutes(2))?;
        ensure!(unit.status == 75, "{unit:?}");
        let said = nas.journal(status)?;
        ensure!(said.contains("no answer within 20s") && said.contains("1 message kept"), "{said}");
        let times = nas.sh(&format!(
            "systemctl show --property=ExecMainStartTimestampMonotonic,ExecMainExitTimestampMonotonic --value '{status}'"
        ))?;
        let [start, end] = times.lines().map(str::parse::<u64>).collect::<Result<Vec<_>, _>>()?[..] else {
            anyhow::bail!("{times}")
        };
        ensure!(end - start < 60_000_000, "it took {} s", (end - start) / 1_000_000);
        nas.cut_power()?;
        nas.power_on(&[])?;
        ensure!(nas.mail()?.len() == 2);
        nas.wait_for_unit("phobos-mail-flush.timer", "active", minutes(1))?;
        nas.wait_for_unit("exim4.service", "active", minutes(1))?;
        eleven_minutes_pass(nas)?;
        let mails = nas.wait_for_mail(3, minutes(2))?;
        expect_late(&mails[2..], &["unit broken@three.service failed"])?;
        nas.wait_until("nothing is left", "! ls /var/lib/private/phobos-mail/queue/*.json", seconds(30))?;
        nas.sh("systemctl start phobos-mail-flush.service")?;
        ensure!(nas.mail()?.len() == 3, "once each");
        Ok(())
    })
}

/// A unit fails two hundred times in a minute: one mail at once, and an hour later how often it was.
#[test]
fn mail_storm() -> Story {
    story(|nas| {
        nas.write("/etc/systemd/system/storm.service", STORM)?;
        nas.sh("systemctl daemon-reload; systemctl enable --quiet --now phobos-mail-flush.timer")?;
        nas.sh("systemctl start --no-block storm.service")?;
        // Looking is work for the machine too.
        nas.wait_until("the storm is over", "sleep 3; systemctl is-failed storm.service", minutes(4))?;
        let all_done = "! systemctl list-jobs --no-legend | grep -q status-email";
        nas.wait_until("the last mail unit has ended", all_done, minutes(2))?;
        let failures = failures(nas, "storm.service")?;
        let [first, .., last] = failures[..] else { anyhow::bail!("{failures:?}") };
        // The last time, systemd refuses to start it.
        ensure!(failures.len() == 201 && last - first < 60, "{} times in {} s", failures.len(), last - first);
        nas.wait_for_light(Light::Red, seconds(1))?;
        let mails = nas.mail()?;
        ensure!(mails.len() == 1 && mails[0].subject == "unit storm.service failed", "{mails:?}");
        ensure!(mails[0].text.contains("systemd could not set it up, for want of a file"), "{mails:?}");

        nas.sh("date -s '+61 min'")?;
        let mails = nas.wait_for_mail(2, minutes(2))?;
        // It tells of all failures since the first mail was written, and of no others.
        let date = mails[0].text.lines().find_map(|line| line.strip_prefix("Date: ")).unwrap_or_default();
        let written = time(nas, date)?;
        let told = mails[1]
            .text
            .lines()
            .find_map(|line| line.strip_prefix("Since the last mail about it, storm.service failed "));
        let told = told.and_then(|told| told.strip_suffix('.')).unwrap_or_default();
        let Some((count, (from, to))) = told
            .split_once(" more times, between ")
            .and_then(|(count, times)| Some((count.parse::<usize>().ok()?, times.split_once(" and ")?)))
        else {
            anyhow::bail!("{mails:?}")
        };
        let (from, to) = (time(nas, from)?, time(nas, to)?);
        ensure!(count == failures.iter().filter(|at| (from..=to).contains(*at)).count(), "{count} of {failures:?}");
        ensure!(
            !failures.iter().any(|at| (written + 1..from).contains(at)) && to == last,
            "{from} {to} of {failures:?}"
        );
        ensure!(mails[1].subject == format!("unit storm.service failed {count} more times") && count > 20, "{mails:?}");

        nas.wait_for_unit("phobos-mail-flush.service", "inactive", minutes(1))?;
        nas.sh("systemctl start phobos-mail-flush.service")?;
        ensure!(nas.mail()?.len() == 2, "once");
        Ok(())
    })
}

/// When `unit` failed by the journal of systemd, in seconds since 1970, in order.
fn failures(nas: &Nas, unit: &str) -> Result<Vec<i64>> {
    let said = nas.sh(&format!(
        "journalctl --sync; journalctl --quiet --output=json --output-fields=UNIT MESSAGE_ID={FAILED} UNIT={unit} _PID=1"
    ))?;
    let time = |line: &str| -> Result<i64> {
        let entry: serde_json::Value = serde_json::from_str(line)?;
        let microseconds: i64 = entry["__REALTIME_TIMESTAMP"].as_str().unwrap_or_default().parse()?;
        Ok(microseconds / 1_000_000)
    };
    said.lines().map(time).collect()
}

/// The time that `text` tells, in seconds since 1970.
fn time(nas: &Nas, text: &str) -> Result<i64> {
    Ok(nas.sh(&format!("date --date='{text}' +%s"))?.parse()?)
}

/// Sets the clock to when the timer that sends what waits has come round.
fn eleven_minutes_pass(nas: &Nas) -> Result<()> {
    nas.sh("date -s '+11 min'").map(drop)
}

/// Checks that exim was given `mails` with these subjects, in this order, and that they say that they are late.
fn expect_late(mails: &[Mail], subjects: &[&str]) -> Result<()> {
    // exim delivers in no order, but the ids that it gives are in order of time.
    let id = |mail: &Mail| mail.text.lines().find_map(|line| line.strip_prefix("\tid ").map(str::to_owned));
    let mut mails = mails.to_vec();
    mails.sort_by_key(id);
    let found: Vec<_> = mails.iter().map(|mail| mail.subject.as_str()).collect();
    ensure!(found == subjects, "{found:?}");
    for mail in &mails {
        ensure!(
            mail.text.contains("\n\nThis message is ") && mail.text.contains(" late: it was written on "),
            "{mail:?}"
        );
    }
    Ok(())
}
