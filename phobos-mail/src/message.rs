//! A letter in the form in which mail travels: headers, encodings, line ends.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use lettre::Address;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, SinglePart};

use crate::letter::Letter;
use crate::{host, text};

/// Puts `letter` into its form, as sent to `to` by `from`; if it had to wait, it says how long.
///
/// # Errors
///
/// When an address is none after all.
pub(crate) fn formatted(letter: &Letter, from: &Address, to: &Address, late: Option<Duration>) -> Result<Vec<u8>> {
    let domain = host::mail_domain();
    let thread = format!("<unit.{:016x}@{domain}>", text::fingerprint(&letter.unit));
    let written = u64::try_from(letter.written).unwrap_or_default();
    let sender = format!("phobos on {}", host::name());
    let mut message = Message::builder()
        .from(Mailbox::new(Some(sender), from.clone()))
        .to(Mailbox::new(None, to.clone()))
        .subject(text::line(&letter.subject, 300))
        .date(SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(written)).unwrap_or(SystemTime::UNIX_EPOCH))
        .message_id(Some(format!("<{}@{domain}>", letter.id)))
        .raw_header(raw("Auto-Submitted", "auto-generated")?);
    if !letter.unit.is_empty() {
        message =
            message.in_reply_to(thread.clone()).references(thread).raw_header(raw("X-Phobos-Unit", &letter.unit)?);
    }
    if let Some(invocation) = &letter.invocation {
        message = message.raw_header(raw("X-Phobos-Invocation", invocation)?);
    }
    let late = late.map(|late| lateness(letter, late)).unwrap_or_default();
    let body = format!("{late}{}", letter.body);
    let part = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(body);
    Ok(message.singlepart(part).context("cannot put the message together")?.formatted())
}

/// A header whose value cannot end it and begin another.
fn raw(name: &'static str, value: &str) -> Result<HeaderValue> {
    let name = HeaderName::new_from_ascii(name.to_owned()).with_context(|| format!("cannot make the header {name}"))?;
    Ok(HeaderValue::new(name, text::line(value, 300)))
}

/// What a letter that had to wait says before everything else.
fn lateness(letter: &Letter, late: Duration) -> String {
    format!(
        "This message is {} late: it was written on {} and could not be sent until now.\n\n",
        text::span(late),
        text::moment(text::local(letter.written))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::Findings;
    use crate::letter;
    use crate::unit::Name;
    use mailparse::MailHeaderMap;
    use proptest::prelude::*;

    fn addresses() -> (Address, Address) {
        ("root@nas".parse().unwrap(), "root@localhost".parse().unwrap())
    }

    fn message(letter: &Letter, late: Option<Duration>) -> Vec<u8> {
        let (from, to) = addresses();
        formatted(letter, &from, &to, late).unwrap()
    }

    fn about(unit: &str, lines: &[String]) -> Letter {
        let mut findings = Findings::default();
        findings.run.lines = lines.iter().map(|line| text::line(line, 1000)).collect();
        letter::about_failure(&Name::new(unit), &findings, None)
    }

    /// Checks what must hold for every message, as somebody else's parser reads it.
    fn check(letter: &Letter, message: &[u8]) {
        assert!(message.is_ascii(), "no server can object to it");
        let text = std::str::from_utf8(message).unwrap();
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "no bare line feed");
        assert_eq!(text.matches('\r').count(), text.matches("\r\n").count(), "no bare carriage return");
        assert!(text.split("\r\n").all(|line| line.len() <= 998), "no line is too long");
        let parsed = mailparse::parse_mail(message).unwrap();
        let names: Vec<_> = parsed.headers.iter().map(mailparse::MailHeader::get_key).collect();
        let once = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version"];
        for name in once.iter().chain(&["X-Phobos-Unit", "References", "In-Reply-To"]) {
            assert_eq!(names.iter().filter(|found| found == name).count(), 1, "{name} in {names:?}");
        }
        assert!(names.len() <= 13, "{names:?}");
        assert_eq!(parsed.headers.get_first_value("Auto-Submitted").unwrap(), "auto-generated");
        let subject = parsed.headers.get_first_value("Subject").unwrap();
        assert_eq!(squeezed(&subject), squeezed(&text::line(&letter.subject, 300)));
        assert_eq!(parsed.ctype.mimetype, "text/plain");
        let body = parsed.get_body().unwrap().replace("\r\n", "\n");
        assert_eq!(body.trim_end(), letter.body.trim_end());
    }

    /// White space between encoded words is lost and found again by parsers; it is not the matter here.
    fn squeezed(text: &str) -> String {
        text.split_whitespace().collect()
    }

    #[test]
    fn a_message_has_the_headers_that_it_must_have() {
        let mut letter = about(r"backup@dev-disk\x2duuid.service", &[]);
        letter.invocation = Some("0123456789abcdef0123456789abcdef".to_owned());
        let message = message(&letter, None);
        check(&letter, &message);
        let parsed = mailparse::parse_mail(&message).unwrap();
        let header = |name| parsed.headers.get_first_value(name).unwrap();
        assert_eq!(header("Subject"), r"unit backup@dev-disk\x2duuid.service failed");
        assert_eq!(header("X-Phobos-Unit"), r"backup@dev-disk\x2duuid.service");
        assert_eq!(header("X-Phobos-Invocation"), "0123456789abcdef0123456789abcdef");
        assert_eq!(header("References"), header("In-Reply-To"));
        assert_eq!(mailparse::dateparse(&header("Date")).unwrap(), letter.written);
        assert!(header("Message-ID").starts_with(&format!("<{}@", letter.id)));
    }

    #[test]
    fn all_messages_about_a_unit_are_one_thread() {
        let thread = |unit| {
            let message = message(&about(unit, &[]), None);
            let parsed = mailparse::parse_mail(&message).unwrap();
            parsed.headers.get_first_value("References").unwrap()
        };
        assert_eq!(thread("a.service"), thread("a.service"));
        assert_ne!(thread("a.service"), thread("b.service"));
        assert_eq!(text::fingerprint("a"), 0xaf63_dc4c_8601_ec8c, "it must not change from release to release");
    }

    #[test]
    fn a_message_that_had_to_wait_says_so_first() {
        let letter = about("a.service", &[]);
        let message = message(&letter, Some(Duration::from_secs(7980)));
        let body = mailparse::parse_mail(&message).unwrap().get_body().unwrap();
        assert!(body.starts_with("This message is 2h 13m late: it was written on "), "{body}");
        assert!(body.contains("a.service failed"), "{body}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_name_and_no_log_breaks_the_message(unit in any::<String>(), lines in prop::collection::vec(any::<String>(), 0..8)) {
            let letter = about(&unit, &lines);
            check(&letter, &message(&letter, None));
        }

        #[test]
        fn no_header_can_be_injected(
            head in "[a-z]{0,70}",
            middle in "(\r\n|\n|\r|\u{2028}|\u{85}|\0|\t| ){1,3}",
            header in "(Bcc|To|Subject|Content-Type): [a-z@.]{1,20}",
            tail in "\\PC{0,300}",
        ) {
            let letter = about(&format!("{head}{middle}{header}{middle}{middle}{tail}"), &[]);
            check(&letter, &message(&letter, None));
        }

        #[test]
        fn a_long_line_is_cut_and_carried(line in "\\PC{900,1100}", count in 1usize..50) {
            let letter = about("a.service", &[line.repeat(count)]);
            check(&letter, &message(&letter, None));
        }
    }
}
