//! Letters as files: what is written is what is read again.

use super::*;
use crate::unit::{End, Facts};

#[test]
fn only_a_letter_is_read_as_one() {
    let good = serde_json::to_value(blank("a.service")).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut letter = good.clone();
        letter[key] = value;
        Letter::read(letter.to_string().as_bytes())
    };
    assert!(with("unit", "b".into()).is_ok());
    let bad = [
        ("written", 253_402_300_800_i64.into(), "no time for mail"),
        ("written", i64::MAX.into(), "no time for mail"),
        ("written", (-1).into(), "no time for mail"),
        ("version", 2.into(), "it is of version 2, of another phobos-mail"),
        ("id", "a\r\nBcc: x".into(), "its id is none"),
        ("id", "".into(), "its id is none"),
        ("merged", (-1).into(), "invalid value"),
    ];
    for (key, value, want) in bad {
        let error = with(key, value).unwrap_err();
        assert!(error.contains(want), "{key}: {error}");
    }
    for bytes in [&b""[..], b"{", b"null", b"[]", b"\xff\xfe", b"{\"version\":9,\"new\":true}"] {
        assert!(Letter::read(bytes).is_err());
    }
    assert!(with("put_off", u32::MAX.into()).unwrap().was_put_off(i64::MAX, "") == Further::SetAside);
}

#[test]
fn a_letter_that_is_put_off_waits_longer_each_time_and_then_is_set_aside() {
    let mut letter = blank("a.service");
    let mut now = 1_700_000_000;
    let mut waits = Vec::new();
    while letter.was_put_off(now, "450 later") == Further::Try {
        assert!(letter.is_due(letter.not_before) && (letter.not_before == now || !letter.is_due(now)));
        waits.push((letter.not_before - now) / 60);
        now = letter.not_before;
    }
    assert_eq!(waits[..7], [0, 20, 40, 80, 160, 240, 240]);
    assert!((2 * 86_400..5 * 86_400).contains(&(now - 1_700_000_000)));
    let mut letter = blank("a.service");
    let tries = (0..9).take_while(|_| letter.was_unanswered(0, "") == Further::Try).count();
    assert_eq!(tries, 2);
    letter.not_before = i64::MAX;
    assert!(letter.is_due(1_700_000_000), "the clock was wrong then");
}

fn first(facts: Facts) -> String {
    first_line(&Name::new("a.service"), &Findings { facts, ..Findings::default() })
}

#[test]
fn the_first_line_says_what_happened_in_plain_words() {
    let end = |how| Some(End { command: Some("/usr/bin/rsync -a /srv /mnt".to_owned()), how });
    let ended = |seconds: i64| Some(text::local(1_700_000_000 + seconds));
    let result = |result: &str| Some(result.to_owned());
    let cases = [
        (Facts::default(), "a.service failed: why is not known here."),
        (
            Facts { load_state: result("not-found"), ..Facts::default() },
            "a.service was reported as failed, but systemd knows no unit of that name.",
        ),
        (
            Facts { end: end(How::Code(23)), result: result("exit-code"), ..Facts::default() },
            "a.service failed: /usr/bin/rsync ended with exit code 23, which means: some files could not be transferred.",
        ),
        (
            Facts { end: end(How::Signal { number: 9, core: false }), result: result("timeout"), ..Facts::default() },
            "a.service failed: it took longer than its unit allows, and systemd ended it.",
        ),
        (
            Facts { end: end(How::Signal { number: 9, core: false }), result: result("oom-kill"), ..Facts::default() },
            "a.service failed: the machine ran out of memory, and its program was killed for it.",
        ),
        (
            Facts { result: result("success"), active: result("active"), ..Facts::default() },
            "a.service was reported as failed, but its last run was good; it is active now.",
        ),
        (Facts { result: result("new-in-256"), ..Facts::default() }, "a.service failed: systemd says: new-in-256."),
    ];
    for (facts, want) in cases {
        assert_eq!(first(facts), want);
    }
    let timed = Facts { started: ended(0), ended: ended(90), ..Facts::default() };
    let moment = text::moment(text::local(1_700_000_090));
    assert_eq!(first(timed), format!("a.service failed on {moment}, after 1m 30s: why is not known here."));
}

#[test]
fn fuzz_letter() {
    phobos_fuzz::target("letter", &[br#"{"version":2,"to":"root","unit":"a.service","subject":"unit a.service failed","body":"x","written":1764225000,"attempts":2,"not_before":1764225100}"#], |input| {
        if let Ok(mut letter) = Letter::read(input) {
            std::hint::black_box((letter.is_due(1), letter.was_put_off(1, "no"), letter.was_unanswered(i64::MAX, "no")));
        }
    });
}
