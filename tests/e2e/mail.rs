//! A failure always reaches a human: whatever takes mail on the machine, whatever does not for a while.

use anyhow::{Result, ensure};
use phobos_tests::{Light, Mail, Nas, Story, minutes, seconds, story};

use crate::owner::STATUS_EMAIL_USER;

/// A unit that fails, and tells as the owner's units do.
const BROKEN: &str = "\
[Unit]
Description=breaks %I
OnFailure=status-email-user@%n.service
StartLimitIntervalSec=0
[Service]
Type=oneshot
ExecStart=/usr/bin/false
";

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

/// A program that leaves in the journal whatever a mail program might stumble over: a line of a megabyte, in one piece,
/// control characters, letters that are not ASCII, and lines that look like the end of a message.
const CHATTERBOX: &str = r#"
import fcntl, os, socket, subprocess, sys
message = os.memfd_create("message", os.MFD_ALLOW_SEALING)
os.write(message, b"MESSAGE=" + b"x" * (1 << 20) + b"\n")
fcntl.fcntl(message, 1033, 15)  # F_ADD_SEALS: all of them, or the journal does not take it
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.connect("/run/systemd/journal/socket")
socket.send_fds(journal, [b""], [message])
print("caf\u00e9 \x1b[2J\x07\n.\nBcc: somebody@example.org\nQUIT", flush=True)
subprocess.run(["journalctl", "--sync"])
sys.exit(23)
"#;

/// An SMTP server with TLS and passwords: exim, with nothing of Debian's configuration.
const RELAY: &str = "\
local_interfaces = 127.0.0.1
daemon_smtp_ports = 25 : 465 : 587
tls_on_connect_ports = 465
tls_advertise_hosts = *
tls_certificate = /etc/exim4/server.pem
tls_privatekey = /etc/exim4/server.key
qualify_domain = phobos.home.arpa
domainlist here = phobos.home.arpa
acl_smtp_rcpt = rcpt
log_selector = +tls_peerdn
begin acl
rcpt:
  deny    !authenticated = *
          message = who are you?
  accept  domains = +here
begin routers
owner:
  driver = accept
  transport = mailbox
begin transports
mailbox:
  driver = appendfile
  file = /var/mail/owner
  user = owner
  group = mail
  envelope_to_add
  return_path_add
  delivery_date_add
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_advertise_condition = ${if def:tls_in_cipher}
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{nas}}{eq{$auth3}{pass word}}}}
  server_set_id = $auth2
";

/// The server that msmtp hands mail to, at a provider in real life: it takes mail for the owner and nobody else.
const PROVIDER: &str = r#"
import socketserver
class Session(socketserver.StreamRequestHandler):
    def handle(self):
        say = lambda text: self.wfile.write(text + b"\r\n")
        say(b"220 provider")
        for line in self.rfile:
            word = line[:4].upper()
            if word == b"RCPT" and b"<owner@phobos.home.arpa>" not in line:
                say(b"550 nobody of that name here")
            elif word == b"DATA":
                say(b"354 go on")
                lines = [line.removeprefix(b".") for line in iter(self.rfile.readline, b".\r\n")]
                with open("/var/mail/owner", "ab") as mailbox:
                    mailbox.write(b"From provider\n" + b"".join(lines).replace(b"\r\n", b"\n") + b"\n")
                say(b"250 taken")
            else:
                say(b"250 provider")
                if word == b"QUIT":
                    break
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer(("127.0.0.1", 2525), Session).serve_forever()
"#;

/// The system's configuration of msmtp, which the owner's unit may read, and who root is.
const MSMTPRC: &str =
    "account default\nhost 127.0.0.1\nport 2525\nfrom nas@phobos.home.arpa\naliases /etc/msmtp-aliases\n";
const MSMTP_ALIASES: &str = "default: owner@phobos.home.arpa\n";

/// What an administrator answers while postfix is installed.
const POSTFIX: &str = "\
postfix postfix/main_mailer_type select Local only
postfix postfix/mailname string phobos.home.arpa
";

/// The owner's unit with nothing changed but the paths; the mail goes through exim, which is Debian's own.
#[test]
fn owners_mail() -> Story {
    story(|nas| {
        install_owners(nas, "/usr/bin/python3 /usr/local/lib/rig/chatterbox")?;
        nas.write("/usr/local/lib/rig/chatterbox", CHATTERBOX)?;
        let unit = r"broken@dev-disk-by\x2duuid-A2EA\x2d96ED.service";
        let mail = fail(nas, unit)?;
        expect_parts(
            &mail,
            &[
                "ended with exit code 23",
                "\n  Status: exit code 23\n",
                "(1047576 more bytes)",
                "caf=C3=A9 \\x1b[2J\\x07\n",
                "Failed with result 'exit-code'",
                "\nX-Phobos-Unit: broken@dev-disk-by\\x2duuid-A2EA\\x2d96ED.service\n",
            ],
        )?;
        ensure!(!mail.text.contains("\nBcc:"), "{mail:?}");
        nas.wait_for_light(Light::Red, minutes(1))?;

        // Debian's dbus-daemon takes no connections of dynamic users; with dbus-broker, systemd itself can be asked.
        nas.install("dbus-broker", "")?;
        nas.sh("systemctl stop dbus.service dbus.socket && systemctl daemon-reload && systemctl start dbus.socket")?;
        let mail = fail(nas, "broken@asked.service")?;
        expect_parts(
            &mail,
            &[
                "/usr/bin/python3 ended with exit code 23",
                "\n  Description: breaks asked\n",
                "\n  Loaded: loaded (/etc/systemd/system/broken@.service)\n",
                "\n  Active: failed, result: exit-code\n",
                "\n  Command: /usr/bin/python3 /usr/local/lib/rig/chatterbox\n",
                "\n  Status: exit code 23\n",
            ],
        )?;
        ensure!(!mail.text.contains("could not be found out"), "{mail:?}");

        // The bus does without systemctl.
        let unit = "systemd-journald.service";
        nas.sh(&format!(
            "unshare --mount sh -c 'mount --bind /usr/bin/false /usr/bin/systemctl && phobos-mail {unit}'"
        ))?;
        let loaded = format!("\n  Loaded: loaded (/usr/lib/systemd/system/{unit})\n");
        nas.wait_for_mail_that_says(&format!("unit {unit} failed"), &loaded).map(drop)
    })
}

/// The owner's unit and postfix, installed by its own scripts.
#[test]
fn owners_mail_by_postfix() -> Story {
    story(|nas| {
        install_owners(nas, "/usr/bin/false")?;
        nas.install("postfix", POSTFIX)?;
        nas.sh("systemctl is-active postfix.service && ! command -v exim4")?;
        let mail = fail(nas, "broken@postfix.service")?;
        ensure!(mail.text.contains("by phobos.home.arpa (Postfix) with ESMTP"), "{mail:?}");
        ensure!(mail.text.contains("ended with exit code 1"), "{mail:?}");
        expect_way(nas, "broken@postfix.service", "smtp://127.0.0.1:25")
    })
}

/// The owner's unit and msmtp, which is no server: it hands the mail on to one.
#[test]
fn owners_mail_by_msmtp() -> Story {
    story(|nas| {
        install_owners(nas, "/usr/bin/false")?;
        nas.install("msmtp-mta", "")?;
        nas.write("/etc/msmtprc", MSMTPRC)?;
        nas.write("/etc/msmtp-aliases", MSMTP_ALIASES)?;
        nas.sh("chown root:systemd-journal /etc/msmtprc && chmod 640 /etc/msmtprc")?;
        nas.write("/usr/local/lib/rig/provider", PROVIDER)?;
        nas.sh("systemd-run --quiet --unit=rig-provider python3 /usr/local/lib/rig/provider")?;
        nas.wait_until("the provider listens", "ss -Hltn sport = 2525 | grep -q .", minutes(1))?;
        nas.sh("[ \"$(readlink -f /usr/sbin/sendmail)\" = /usr/bin/msmtp ] && ! ss -Hltn sport = 25 | grep . >&2")?;
        let mail = fail(nas, "broken@msmtp.service")?;
        ensure!(mail.text.contains("ended with exit code 1"), "{mail:?}");
        expect_way(nas, "broken@msmtp.service", "sendmail")
    })
}

/// The mail server is down, and later the power too: what was written is sent when it can be, once and in order.
#[test]
fn mail_kept() -> Story {
    story(|nas| {
        install_broken(nas, "/usr/bin/false")?;
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
        ensure!(said.contains("no answer within 20 s") && said.contains("1 message kept"), "{said}");
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

/// A mail server that wants TLS and a password, and the hardening that the units bear with it.
#[test]
fn mail_by_relay() -> Story {
    story(|nas| {
        // With this user in place of a dynamic one, dbus-daemon lets the units ask systemd.
        nas.sh("systemd-sysusers")?;
        for unit in ["status-email-user@x.service", "status-email-resolved@x.service", "phobos-mail-flush.service"] {
            nas.sh(&format!("systemd-analyze security --no-pager --threshold=20 {unit} >&2"))?;
        }
        let certificate = include_str!("../../phobos-mail/tests/cli/fixtures/server.pem");
        nas.write("/etc/exim4/server.pem", certificate)?;
        nas.write("/etc/exim4/server.key", include_str!("../../phobos-mail/tests/cli/fixtures/server.key"))?;
        nas.write("/etc/phobos/ca.pem", include_str!("../../phobos-mail/tests/cli/fixtures/ca.pem"))?;
        nas.write("/etc/phobos/other-ca.pem", include_str!("../../phobos-mail/tests/cli/fixtures/other-ca.pem"))?;
        nas.write("/etc/exim4/exim4.conf", RELAY)?;
        nas.sh("chown root:Debian-exim /etc/exim4/server.key && chmod 640 /etc/exim4/server.key && systemctl restart exim4")?;
        let drop_in = "[Service]\nLoadCredential=mail:/etc/phobos/keys/mail\n";
        for unit in ["status-email-user@", "status-email-resolved@", "phobos-mail-flush"] {
            nas.write(&format!("/etc/systemd/system/{unit}.service.d/password.conf"), drop_in)?;
        }
        nas.write("/etc/phobos/keys/mail", "nas\npass word\n")?;
        nas.sh("chmod 400 /etc/phobos/keys/mail")?;
        install_broken(nas, "/usr/bin/rsync /no/such/folder /root")?;

        // A certificate of somebody else's: nothing is sent, least of all the password.
        configure(nas, "submission", "other-ca.pem")?;
        nas.sh("! systemctl start broken@wrong.service")?;
        let status = "status-email-user@broken@wrong.service.service";
        nas.wait_for_unit(status, "failed", minutes(2))?;
        let said = nas.journal(status)?;
        ensure!(said.contains("its certificate is not trusted") && said.contains("1 message kept"), "{said}");
        ensure!(nas.mail()?.is_empty());

        // The right one, by STARTTLS; what waited is sent with it.
        configure(nas, "submission", "ca.pem")?;
        let mail = fail(nas, "broken@starttls.service")?;
        let means = "/usr/bin/rsync ended with exit code 23, which means: some files could not be transferred.";
        ensure!(mail.text.contains(means), "{mail:?}");
        ensure!(mail.text.contains("\n  Loaded: loaded (/etc/systemd/system/broken@.service)\n"), "{mail:?}");
        ensure!(!mail.text.contains("could not be found out"), "{mail:?}");
        nas.wait_for_mail_that_says("unit broken@wrong.service failed", " late: it was written on ")?;

        // By TLS from the first byte.
        configure(nas, "submissions", "ca.pem")?;
        nas.sh("systemctl start status-email-user@no-such.service.service")?;
        nas.wait_for_mail_that_says("unit no-such.service failed", "systemd knows no unit of that name")?;
        nas.sh("systemctl start status-email-resolved@broken@starttls.service.service")?;
        nas.wait_for_mail_that_says("unit broken@starttls.service works again", "has had a good run")?;
        let taken = nas.sh("grep -h ' <= ' /var/log/exim4/mainlog")?;
        ensure!(taken.lines().count() == 4, "{taken}");
        ensure!(taken.lines().all(|line| line.contains(" X=TLS1.3") && line.contains(" A=plain:nas")), "{taken}");

        // A password that is wrong.
        nas.write("/etc/phobos/keys/mail", "nas\nnonsense\n")?;
        nas.sh("! systemctl start status-email-user@other.service.service")?;
        let said = nas.journal("status-email-user@other.service.service")?;
        ensure!(said.contains("it does not let us in: it says 535"), "{said}");
        nas.write("/etc/phobos/keys/mail", "nas\npass word\n")?;

        // Nobody to ask: neither the bus nor the journal.
        nas.sh("systemd-run --quiet --wait --property=DynamicUser=yes --property=InaccessiblePaths=/run/dbus \
             --property=LoadCredential=mail:/etc/phobos/keys/mail phobos-mail broken@nobody.service")?;
        let mail = nas.wait_for_mail_that_says("unit broken@nobody.service failed", "why is not known here")?;
        for part in
            ["The unit's status: ", "What else failed: No journal files were opened due to insufficient permissions"]
        {
            ensure!(mail.text.contains(part), "{part}: {mail:?}");
        }
        Ok(())
    })
}

/// Puts the owner's unit in the place of phobos's own, and one that fails by running `program`.
fn install_owners(nas: &Nas, program: &str) -> Result<()> {
    nas.sh("rm -rf /etc/systemd/system/status-email-user@.service*")?;
    nas.write("/etc/systemd/system/status-email-user@.service", STATUS_EMAIL_USER)?;
    install_broken(nas, program)
}

/// Puts the unit in place that fails by running `program`.
fn install_broken(nas: &Nas, program: &str) -> Result<()> {
    nas.write("/etc/systemd/system/broken@.service", &BROKEN.replace("/usr/bin/false", program))?;
    nas.sh("systemctl daemon-reload").map(drop)
}

/// Lets `unit` fail and waits for the mail about it.
fn fail(nas: &Nas, unit: &str) -> Result<Mail> {
    nas.sh(&format!("! systemctl start '{unit}'"))?;
    nas.wait_for_mail_that_says(&format!("unit {unit} failed"), "")
}

/// Checks which way the mail about `unit` left.
fn expect_way(nas: &Nas, unit: &str, way: &str) -> Result<()> {
    let status = format!("status-email-user@{unit}.service");
    nas.wait_for_unit(&status, "inactive", minutes(1))?;
    let said = nas.journal(&status)?;
    ensure!(said.contains(&format!("sent through {way}")), "{said}");
    Ok(())
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

/// Checks that all `parts` are in the mail.
fn expect_parts(mail: &Mail, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(mail.text.contains(part), "{part}: {mail:?}");
    }
    Ok(())
}

/// Sends mail to a server on this machine by `scheme`, and trusts `authority`.
fn configure(nas: &Nas, scheme: &str, authority: &str) -> Result<()> {
    let text = format!(
        "[mail]\nto = \"root@phobos.home.arpa\"\ntransport = \"{scheme}://localhost\"\ncredential = \"mail\"\n\
         ca-file = \"/etc/phobos/{authority}\"\n"
    );
    nas.write("/etc/phobos/phobos.toml", &text)
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
