//! Mail that waits: for a server that does not take it for a while, or for the next summary of a storm.

use anyhow::{Result, ensure};
use phobos_tests::{Container, Mail, Story, booted, minutes, seconds};

type Nas = phobos_tests::Nas<Container>;

/// A unit that fails two hundred times, in not much more than ten seconds: for want of a file, which takes no program to find out.
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
RestartSec=50ms
";

/// Has the only mail of the last hour written an hour and a minute earlier, by what phobos-mail has noted of it.
const EARLIER: &str = r#"python3 - <<'END'
import glob, json
[path] = glob.glob("/var/lib/private/phobos-mail/units/*.json")
with open(path, "r+") as file:
    record = json.load(file)
    record["mails"] = [mail - 3660 for mail in record["mails"]]
    file.seek(0)
    json.dump(record, file)
    file.truncate()
END"#;

/// What systemd calls the entry in the journal that says that a unit has failed.
const FAILED: &str = "d9b373ed55a64feb8242e02dbe79a49c";

/// The timer that sends what waits.
const FLUSH: &str = "phobos-mail-flush.timer";

/// The mail server is down, and later it does not answer: what was written is sent when it can be, once and in order.
#[test]
fn mail_kept() -> Story {
    booted(|nas| {
        nas.install_broken("/usr/bin/false")?;
        // Else exim's own `sendmail` would take the mail while its server is down.
        nas.sh("systemctl enable --quiet --now phobos-mail-flush.timer; systemctl stop exim4; rm /usr/sbin/sendmail")?;
        for unit in ["broken@one.service", "broken@two.service"] {
            nas.sh(&format!("! systemctl start {unit}"))?;
            let status = nas.wait_for_unit(&format!("status-email-user@{unit}.service"), "failed", minutes(2))?;
            ensure!(status.status == 75, "{status:?}");
        }
        let said = nas.journal("status-email-user@broken@two.service.service")?;
        ensure!(said.contains("kept in /var/lib/phobos-mail") && said.contains("Connection refused"), "{said}");
        ensure!(nas.sh("phobos-blink jobs")?.contains("mail  attention"), "{}", nas.sh("phobos-blink jobs")?);

        nas.sh("systemctl start exim4")?;
        ten_minutes_pass(nas)?;
        let mails = nas.wait_for_mail(2, minutes(2))?;
        expect_late(&mails, &["unit broken@one.service failed", "unit broken@two.service failed"])?;
        nas.wait_for_unit("phobos-mail-flush.service", "inactive", minutes(1))?;
        ensure!(!nas.sh("phobos-blink jobs")?.contains("mail"), "{}", nas.sh("phobos-blink jobs")?);

        // A server that accepts and never answers is given up.
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
        nas.sh("kill -CONT $(systemctl show --property=MainPID --value exim4)")?;
        ten_minutes_pass(nas)?;
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
    booted(|nas| {
        nas.write("/etc/systemd/system/storm.service", STORM)?;
        nas.sh(&format!("systemctl daemon-reload; systemctl enable --quiet --now {FLUSH}"))?;
        nas.sh("systemctl start --no-block storm.service")?;
        // The last time, systemd refuses to start it.
        let over = format!("[ $(journalctl --sync; {} --output=cat | wc -l) -ge 201 ]", told("storm.service"));
        nas.wait_until("the storm is over", &over, minutes(2))?;
        let all_done = "! systemctl list-jobs --no-legend | grep -q status-email";
        nas.wait_until("the last mail unit has ended", all_done, minutes(2))?;
        let failures = failures(nas, "storm.service")?;
        let [first, .., last] = failures[..] else { anyhow::bail!("{failures:?}") };
        ensure!(failures.len() == 201 && last - first < 60, "{} times in {} s", failures.len(), last - first);
        let mails = nas.mail()?;
        ensure!(mails.len() == 1 && mails[0].subject == "unit storm.service failed", "{mails:?}");
        ensure!(mails[0].text.contains("systemd could not set it up, for want of a file"), "{mails:?}");

        // The clock is not ours to set: what was told is told an hour earlier instead.
        nas.sh(EARLIER)?;
        nas.timer_comes_round(FLUSH)?;
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
            .split_once(" more times, ")
            .and_then(|(count, times)| Some((count.parse::<usize>().ok()?, from_and_to(times)?)))
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

/// The command for what systemd's journal has on the failures of `unit`.
fn told(unit: &str) -> String {
    format!("journalctl --quiet MESSAGE_ID={FAILED} UNIT={unit} _PID=1")
}

/// When `unit` failed by the journal of systemd, in seconds since 1970, in order.
fn failures(nas: &Nas, unit: &str) -> Result<Vec<i64>> {
    let said = nas.sh(&format!("journalctl --sync; {} --output=json --output-fields=UNIT", told(unit)))?;
    let time = |line: &str| -> Result<i64> {
        let entry: serde_json::Value = serde_json::from_str(line)?;
        let microseconds: i64 = entry["__REALTIME_TIMESTAMP"].as_str().unwrap_or_default().parse()?;
        Ok(microseconds / 1_000_000)
    };
    said.lines().map(time).collect()
}

/// The first and the last time of `times`, which are told as one where they are the same.
fn from_and_to(times: &str) -> Option<(&str, &str)> {
    match times.strip_prefix("at ") {
        Some(at) => Some((at, at)),
        None => times.strip_prefix("between ")?.split_once(" and "),
    }
}

/// The time that `text` tells, in seconds since 1970.
fn time(nas: &Nas, text: &str) -> Result<i64> {
    Ok(nas.sh(&format!("date --date='{text}' +%s"))?.parse()?)
}

/// Checks that the timer that sends what waits comes round within ten minutes, and lets it come round now.
fn ten_minutes_pass(nas: &Nas) -> Result<()> {
    let next = nas.sh(&format!(
        "echo $(($(date --date=\"$(systemctl show --property=NextElapseUSecRealtime --value {FLUSH})\" +%s) - $(date +%s)))"
    ))?;
    ensure!((0..=600).contains(&next.parse::<i64>()?), "it comes round in {next} s");
    nas.timer_comes_round(FLUSH)
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
