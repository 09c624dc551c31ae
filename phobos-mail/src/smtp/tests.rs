//! The server's answers, read from bytes.

use super::*;
use proptest::prelude::*;
use std::io::Read;

fn answer(text: &[u8]) -> Result<Answer, String> {
    Lines::new(text).answer().map_err(|error| error.to_string())
}

fn refusal(text: &[u8]) -> (bool, String) {
    match answer(text).unwrap().expect(2).unwrap_err() {
        Trouble::Refused(refusal) => (refusal.is_permanent, refusal.to_string()),
        Trouble::Broken(why) => panic!("{why}"),
    }
}

#[test]
fn the_first_digit_decides_whatever_follows() {
    for good in ["250 ok\r\n", "250\r\n", "2\n", "299\tx\r\n", "250-a\r\n250-b\r\n250 c\r\n", "250 f\u{fc}r\r\n"] {
        assert_eq!(answer(good.as_bytes()).unwrap().kind, 2, "{good}");
    }
    assert!(answer(b"250 2.0.0 f\xfcr Sie angenommen\r\n").unwrap().expect(2).is_ok());
    assert_eq!(
        refusal(b"550 5.1.1 Empf\xe4nger unbekannt\r\n"),
        (true, "it says 550 5.1.1 Empf\u{fffd}nger unbekannt".to_owned())
    );
    assert_eq!(refusal(b"450-later\r\n450 please\r\n"), (false, "it says 450 later please".to_owned()));
    assert!(matches!(answer(b"354 go on\r\n").unwrap().expect(2), Err(Trouble::Broken(_))));
}

#[test]
fn a_line_and_an_answer_have_an_end() {
    let endless = io::repeat(b'2').take(1 << 40);
    let error = Lines::new(endless).answer().unwrap_err().to_string();
    assert_eq!(error, "it sends a line of more than 4096 bytes");
    let many = b"250-and so on\r\n".repeat(1 << 16);
    assert_eq!(answer(&many).unwrap_err(), "its answer has more than 65536 bytes");
    assert_eq!(answer(b"250-a\r\n").unwrap_err(), "it closed the connection");
    assert_eq!(answer(b"").unwrap_err(), "it closed the connection");
}

#[test]
fn what_is_no_smtp_is_told_in_a_safe_line() {
    assert_eq!(answer(b"SSH-2.0-\x1b[2J\r\n").unwrap_err(), r#"it does not speak SMTP: it says "SSH-2.0-\x1b[2J""#);
    assert!(answer(b"\r\n").unwrap_err().starts_with("it does not speak SMTP"));
    assert!(answer(b"150 x\r\n").is_err() && answer(b"900 x\r\n").is_err());
}

#[test]
fn abilities_are_read_in_any_case_and_in_the_old_form() {
    let abilities = |text: &[u8]| Abilities::of(&answer(text).unwrap());
    let all = abilities(b"250-STARTTLS is my name\r\n250-size 2000\r\n250-StartTLS\r\n250 AUTH login PLAIN X\r\n");
    assert_eq!(all.0, [Ability::Size, Ability::StartTls, Ability::Login, Ability::Plain]);
    assert!(abilities(b"250-a\r\n250 AUTH=LOGIN\r\n").has(Ability::Login));
    assert_eq!(abilities(b"250 STARTTLS\r\n"), Abilities::default(), "that is its name");
}

#[test]
fn no_line_of_a_message_ends_it() {
    let payload = |text: &str| String::from_utf8(payload(text.as_bytes())).unwrap();
    assert_eq!(payload("a\r\n.\r\n..b\r\n"), "a\r\n..\r\n...b\r\n.\r\n");
    assert_eq!(payload(".a"), "..a\r\n.\r\n");
    assert_eq!(payload("\r\n\r\n"), "\r\n\r\n.\r\n");
    assert_eq!(payload("a\n.\nQUIT\n"), "a\r\n..\r\nQUIT\r\n\r\n.\r\n");
}

#[test]
fn an_address_is_a_name_too() {
    assert_eq!(literal("127.0.0.1".parse().unwrap()), "[127.0.0.1]");
    assert_eq!(literal("::1".parse().unwrap()), "[IPv6:::1]");
    assert_eq!(literal("::ffff:192.0.2.1".parse().unwrap()), "[192.0.2.1]");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_does_harm(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'2'), Just(b'-'), Just(b'\n')], 0..200)) {
        if let Ok(answer) = answer(&bytes) {
            prop_assert!((2..=5).contains(&answer.kind));
            Abilities::of(&answer);
            if let Err(trouble) = answer.expect(2) {
                prop_assert!(!trouble.to_string().chars().any(char::is_control));
            }
        }
    }
}
