//! A letter in the form in which mail travels: headers, encodings, line ends.

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
    let thread = format!("<unit.{:016x}@{domain}>", fingerprint(&letter.unit));
    let written = u64::try_from(letter.written).unwrap_or_default();
    let sender = format!("phobos on {}", host::name());
    let mut message = Message::builder()
        .from(Mailbox::new(Some(sender), from.clone()))
        .to(Mailbox::new(None, to.clone()))
        .subject(text::line(&letter.subject, 300))
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(written))
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

/// A number for a unit's name that stays the same from release to release (FNV-1a).
pub(crate) fn fingerprint(unit: &str) -> u64 {
    unit.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
