//! Which way a letter takes, and what each end of it means.

use super::*;
use crate::letter;
use phobos_core::exec::fake::Script;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

/// Sends a letter by way of `auto`, with the mail server of this machine at `port`.
fn auto(port: u16, script: &Script) -> Result<String, Failure> {
    let settings = Settings::default();
    let mut sender = Sender::new(script, &settings, Deadline::after(Duration::from_secs(10)));
    sender.local.iter_mut().for_each(|server| server.port = port);
    sender.send(&letter::test(), None)
}

/// A server at a free port that answers each line with the next of `answers`.
fn server(answers: &'static [&'static str]) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for answer in answers {
            stream.write_all(format!("{answer}\r\n").as_bytes()).unwrap();
            while answer.starts_with("354") && lines.next().unwrap().unwrap() != "." {}
            if !answer.starts_with("354") {
                lines.next();
            }
        }
    });
    port
}

fn nobody() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn without_a_mail_server_sendmail_is_tried() {
    let script = Script::new().ok();
    assert_eq!(auto(nobody(), &script).unwrap(), "sendmail");
    assert_eq!(script.calls(), ["sendmail -i root"]);
}

#[test]
fn if_nothing_works_both_reasons_are_told() {
    let failure = auto(nobody(), &Script::new().fails(1, "no such user")).unwrap_err();
    let text = failure.to_string();
    assert!(matches!(failure, Failure::NoWay(_)), "{text}");
    assert!(text.contains("Connection refused") && text.contains("no such user"), "{text}");
}

#[test]
fn what_the_mail_server_refuses_sendmail_may_take() {
    let port =
        server(&["220 hi", "250 ok", "250 ok", "550 relay not permitted", "250 ok", "250 ok", "550 no", "250 ok"]);
    let script = Script::new().ok();
    assert_eq!(auto(port, &script).unwrap(), "sendmail");
}

#[test]
fn what_the_mail_server_has_taken_without_a_word_is_not_sent_twice() {
    let port = server(&["220 hi", "250 ok", "250 ok", "250 ok", "354 go on"]);
    let script = Script::new();
    let failure = auto(port, &script).unwrap_err();
    assert!(matches!(failure, Failure::Unanswered(_)), "{failure}");
    assert!(script.calls().is_empty());
}

#[test]
fn a_bare_name_goes_to_this_machine_whatever_its_mail_name_is() {
    let mut domains = host::own_domains();
    assert_eq!(domains.pop().as_deref(), Some("localhost"));
}

#[test]
fn time_that_is_up_leaves_a_little() {
    let deadline = Deadline::after(Duration::ZERO);
    assert!(deadline.is_over());
    assert_eq!(deadline.left(ANSWER), LEAST);
    assert!(Deadline::after(Duration::from_secs(100)).left(ANSWER) <= ANSWER);
}
