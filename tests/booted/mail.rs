//! A failure always reaches a human: whatever takes mail on the machine, and as the owner's own units tell.

use anyhow::{Result, ensure};
use phobos_tests::{Container, Mail, STATUS_EMAIL_USER, Story, booted, minutes};

type Nas = phobos_tests::Nas<Container>;

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
pub(super) const PROVIDER: &str = r#"
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

/// Whatever postfix has against what is not by the book, as settings for `postconf -e`.
const STRICT: &str = "smtpd_helo_required=yes strict_rfc821_envelopes=yes strict_8bitmime=yes smtpd_delay_reject=no \
    smtpd_helo_restrictions=reject_invalid_helo_hostname,reject_non_fqdn_helo_hostname \
    smtpd_sender_restrictions=reject_non_fqdn_sender,reject_unlisted_sender smtpd_reject_unlisted_recipient=yes \
    smtpd_forbid_bare_newline=reject smtpd_forbid_unauth_pipelining=yes smtpd_data_restrictions=reject_unauth_pipelining";

/// The owner's unit with nothing changed but the paths; the mail goes through exim, which is Debian's own.
#[test]
fn owners_mail() -> Story {
    booted(|nas| {
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
        // There is no light here, and the mail does not depend on it.
        let status = format!("status-email-user@{unit}.service");
        nas.wait_for_unit(&status, "inactive", minutes(1))?;
        let said = nas.journal(&status)?;
        ensure!(said.contains("cannot find a BlinkStick"), "{said}");

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

/// phobos's own unit and then the owner's, with postfix, installed by its own scripts.
#[test]
fn mail_by_postfix() -> Story {
    booted(|nas| {
        nas.sh("systemd-sysusers")?;
        nas.install_broken("/usr/bin/false")?;
        nas.install("postfix", POSTFIX)?;
        nas.sh("systemctl is-active postfix.service && ! command -v exim4")?;
        // As strict as it can be, and then when it takes mail for nobody.
        nas.sh(&format!("postconf -e {STRICT}; postfix reload"))?;
        fail(nas, "broken@strict.service")?;
        expect_way(nas, "broken@strict.service", "smtp://127.0.0.1:25")?;
        nas.sh("postconf -e smtpd_recipient_restrictions=reject; postfix reload")?;
        let said = unsent(nas, "broken@bad.service")?;
        ensure!(said.contains("it says 554 ") && said.contains("set aside  unit broken@bad.service failed"), "{said}");
        nas.sh("postconf -e smtpd_recipient_restrictions=; postfix reload; phobos-mail flush --refused")?;
        nas.wait_for_mail_that_says("unit broken@bad.service failed", " late: it was written on ")?;

        install_owners(nas, "/usr/bin/false")?;
        let mail = fail(nas, "broken@postfix.service")?;
        ensure!(mail.text.contains("by phobos.home.arpa (Postfix) with ESMTP"), "{mail:?}");
        ensure!(mail.text.contains("ended with exit code 1"), "{mail:?}");
        expect_way(nas, "broken@postfix.service", "smtp://127.0.0.1:25")
    })
}

/// phobos's own unit and then the owner's, with msmtp, which is no server: it hands the mail on to one.
#[test]
fn mail_by_msmtp() -> Story {
    booted(|nas| {
        nas.sh("systemd-sysusers")?;
        nas.install_broken("/usr/bin/false")?;
        nas.install("msmtp-mta", "")?;
        nas.write("/etc/msmtprc", MSMTPRC)?;
        nas.write("/etc/msmtp-aliases", "default: nobody@phobos.home.arpa\n")?;
        nas.sh("chown root:systemd-journal /etc/msmtprc && chmod 640 /etc/msmtprc")?;
        nas.write("/usr/local/lib/rig/provider", PROVIDER)?;
        nas.sh("systemd-run --quiet --unit=rig-provider python3 /usr/local/lib/rig/provider")?;
        nas.wait_until("the provider listens", "ss -Hltn sport = 2525 | grep -q .", minutes(1))?;
        nas.sh("[ \"$(readlink -f /usr/sbin/sendmail)\" = /usr/bin/msmtp ] && ! ss -Hltn sport = 25 | grep . >&2")?;
        let said = unsent(nas, "broken@bad.service")?;
        ensure!(
            said.contains("550 nobody of that name here") && said.contains("waiting  unit broken@bad.service failed"),
            "{said}"
        );
        nas.write("/etc/msmtp-aliases", MSMTP_ALIASES)?;
        nas.sh("phobos-mail flush --now")?;
        nas.wait_for_mail_that_says("unit broken@bad.service failed", " late: it was written on ")?;

        install_owners(nas, "/usr/bin/false")?;
        let mail = fail(nas, "broken@msmtp.service")?;
        ensure!(mail.text.contains("ended with exit code 1"), "{mail:?}");
        expect_way(nas, "broken@msmtp.service", "sendmail")
    })
}

/// A mail server that wants TLS and a password, and the hardening that the units bear with it.
#[test]
fn mail_by_relay() -> Story {
    booted(|nas| {
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
        nas.install_broken("/usr/bin/rsync /no/such/folder /root")?;

        // A certificate of somebody else's: nothing is sent, least of all the password.
        configure(nas, "submission", "other-ca.pem")?;
        nas.sh("! systemctl start broken@wrong.service")?;
        let status = "status-email-user@broken@wrong.service.service";
        nas.wait_for_unit(status, "failed", minutes(2))?;
        let said = nas.journal(status)?;
        ensure!(
            said.contains("its certificate is not trusted: nobody whom this machine trusts has signed it")
                && said.contains("1 message kept"),
            "{said}"
        );
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
    nas.install_broken(program)
}

/// Lets `unit` fail and waits for the mail about it.
pub(super) fn fail(nas: &Nas, unit: &str) -> Result<Mail> {
    nas.sh(&format!("! systemctl start '{unit}'"))?;
    nas.wait_for_mail_that_says(&format!("unit {unit} failed"), "")
}

/// Checks which way the mail about `unit` left.
pub(super) fn expect_way(nas: &Nas, unit: &str, way: &str) -> Result<()> {
    let status = format!("status-email-user@{unit}.service");
    nas.wait_for_unit(&status, "inactive", minutes(1))?;
    let said = nas.journal(&status)?;
    ensure!(said.contains(&format!("sent through {way}")), "{said}");
    Ok(())
}

/// Has a unit fail whose mail cannot be sent, as phobos's own unit tells it; what is said of that.
fn unsent(nas: &Nas, unit: &str) -> Result<String> {
    nas.sh(&format!("! systemctl start {unit}"))?;
    let status = format!("status-email-user@{unit}.service");
    nas.wait_for_unit(&status, "failed", minutes(1))?;
    let board = nas.sh("phobos-blink jobs; phobos-mail list")?;
    ensure!(board.contains("attention"), "{board}");
    Ok(nas.journal(&status)? + &board)
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
