//! The mail systems of Debian, each as its package sets it up, with phobos's own unit: how a failure's mail leaves, and what is told
//! while it cannot. `mail.rs` has the stories of exim, postfix and msmtp, and the owner's own unit with them.
//!
//! | package    | port 25 | its sendmail becomes   | goes through                                        | cannot while                    |
//! |------------|---------|------------------------|-----------------------------------------------------|---------------------------------|
//! | exim       | exim    | SUID root              | SMTP, with and without TLS and a password           | its certificate or our password is not the right one |
//! | postfix    | smtpd   | the group postdrop     | SMTP, with all that it has against what is not by the book | it takes mail for nobody |
//! | msmtp      | nobody  | nobody else            | sendmail, in the unit                               | the provider knows nobody of that name |
//! | dma        | nobody  | the group mail         | sendmail, which the unit's last step calls          | its spool is not there          |
//! | nullmailer | nobody  | the user mail, within  | sendmail, which the unit's last step calls          | its spool is not there          |
//! | opensmtpd  | smtpd   | the group opensmtpq    | SMTP                                                | it takes mail for nobody        |

use anyhow::{Result, ensure};
use phobos_tests::{Container, Story, booted, minutes};

use super::mail::{PROVIDER, expect_way, fail};

type Nas = phobos_tests::Nas<Container>;

/// What is said of mail that the unit's last step has sent.
const GIVEN_ON: &str = "1 message sent through sendmail, free of the unit's confinement";

/// A mail system whose `sendmail` can do nothing in the unit: good, then without `spool`, then good again.
fn gives_on(nas: &Nas, spool: &str) -> Result<()> {
    let mail = fail(nas, "broken@good.service")?;
    ensure!(mail.text.contains("ended with exit code 1"), "{mail:?}");
    let status = "status-email-user@broken@good.service.service";
    nas.wait_for_unit(status, "inactive", minutes(1))?;
    let said = nas.journal(status)?;
    ensure!(said.contains(GIVEN_ON), "{said}");
    let tested = nas.sh("phobos-mail test")?;
    ensure!(
        tested.contains("sendmail, free of the unit's confinement, as status-email-user@.service sends it"),
        "{tested}"
    );
    nas.wait_for_mail_that_says("test of phobos-mail on phobos", "")?;
    nas.sh("! phobos-blink jobs | grep mail >&2")?;

    nas.sh(&format!("mv {spool} {spool}.gone; ! systemctl start broken@bad.service"))?;
    let status = "status-email-user@broken@bad.service.service";
    nas.wait_for_unit(status, "failed", minutes(1))?;
    let said = nas.journal(status)?;
    ensure!(
        said.contains("1 message kept in /var/lib/phobos-mail") && said.contains("1 message cannot be sent: "),
        "{said}"
    );
    let board = nas.sh("phobos-blink jobs; phobos-mail list")?;
    ensure!(board.contains("attention") && board.contains("waiting  unit broken@bad.service failed"), "{board}");
    let tested = nas.sh("! phobos-mail test 2>&1")?;
    ensure!(tested.contains("status-email-user@.service cannot send mail: "), "{tested}");

    nas.sh(&format!("mv {spool}.gone {spool}; systemctl start phobos-mail-flush.service"))?;
    nas.wait_for_mail_that_says("unit broken@bad.service failed", " late: it was written on ")?;
    nas.sh("! phobos-blink jobs | grep mail >&2").map(drop)
}

#[test]
fn mail_by_dma() -> Story {
    booted(|nas| {
        nas.sh("systemd-sysusers")?;
        nas.install_broken("/usr/bin/false")?;
        nas.install("dma", "dma dma/mailname string phobos.home.arpa\ndma dma/relayhost string\n")?;
        gives_on(nas, "/var/spool/dma")
    })
}

#[test]
fn mail_by_nullmailer() -> Story {
    booted(|nas| {
        nas.sh("systemd-sysusers")?;
        nas.install_broken("/usr/bin/false")?;
        nas.install(
            "nullmailer",
            "nullmailer shared/mailname string phobos.home.arpa\n\
             nullmailer nullmailer/adminaddr string owner@phobos.home.arpa\n\
             nullmailer nullmailer/relayhost string 127.0.0.1 smtp --port=2525\n",
        )?;
        nas.write("/usr/local/lib/rig/provider", PROVIDER)?;
        nas.sh("systemd-run --quiet --unit=rig-provider python3 /usr/local/lib/rig/provider")?;
        nas.wait_until("the provider listens", "ss -Hltn sport = 2525 | grep -q .", minutes(1))?;
        gives_on(nas, "/var/spool/nullmailer")
    })
}

#[test]
fn mail_by_opensmtpd() -> Story {
    booted(|nas| {
        nas.sh("systemd-sysusers")?;
        nas.install_broken("/usr/bin/false")?;
        nas.install("opensmtpd", "")?;
        let rules = |rules: &str| {
            let text = format!(
                "table aliases file:/etc/aliases\nlisten on localhost\naction a mbox alias <aliases>\n{rules}\n"
            );
            nas.write("/etc/smtpd.conf", &text)?;
            nas.sh("systemctl restart opensmtpd")?;
            nas.wait_until("it listens", "ss -Hltn sport = 25 | grep -q .", minutes(1))
        };
        rules("match for local action a")?;
        let mail = fail(nas, "broken@good.service")?;
        ensure!(mail.text.contains("ended with exit code 1"), "{mail:?}");
        expect_way(nas, "broken@good.service", "smtp://127.0.0.1:25")?;

        rules("match for domain elsewhere.example action a")?;
        nas.sh("! systemctl start broken@bad.service")?;
        let status = "status-email-user@broken@bad.service.service";
        nas.wait_for_unit(status, "failed", minutes(1))?;
        let said = nas.journal(status)?;
        ensure!(said.contains("it says 550 ") && said.contains("1 message set aside"), "{said}");
        let board = nas.sh("phobos-blink jobs; phobos-mail list")?;
        ensure!(board.contains("attention") && board.contains("set aside  unit broken@bad.service failed"), "{board}");

        rules("match for local action a")?;
        nas.sh("phobos-mail flush --refused")?;
        nas.wait_for_mail_that_says("unit broken@bad.service failed", " late: it was written on ").map(drop)
    })
}
