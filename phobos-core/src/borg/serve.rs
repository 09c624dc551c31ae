//! The language of `borg serve`, as far as it takes to have a repository opened: requests as bytes, answers as they come.
//!
//! `MessagePack` maps without any framing in both directions: `{"i": number, "m": method, "a": arguments}`, answered by
//! `{"i": number, "r": result}` or `{"i": number, "exception_class": …, …}`. Borg up to 1.4 writes texts and bytes as
//! one type, which may hold anything.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rmpv::Value;
use rmpv::decode::read_value_with_max_depth;

use crate::fs::shown_text;

/// The numbers of the two requests.
const NEGOTIATE: u64 = 1;
const OPEN: u64 = 2;

/// The longest answer that is accepted, in bytes: Borg's longest has a traceback in it.
const MAX_ANSWER: usize = 256 * 1024;

/// How deep an answer may be nested; Borg's are three deep.
const MAX_DEPTH: usize = 16;

/// How many characters of Borg's words are kept.
const MAX_WORDS: usize = 600;

/// How long Borg itself tries to get the lock, in seconds: the wait is ours.
const LOCK_WAIT: u64 = 1;

/// The result of the request to open a repository under a shared lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is open, and locked as long as Borg runs.
    Opened,
    /// Somebody else has held the lock for the time that Borg tried.
    Busy,
    /// Anything else, in Borg's words.
    Refused(String),
}

/// The requests that have the repository at `path` opened under a shared lock. Borg takes them both at once.
pub(super) fn requests(path: &Path) -> Vec<u8> {
    let version = Value::Array([1, 2, 4].map(Value::from).to_vec());
    let client = Value::Map(vec![("client_version".into(), version)]);
    let negotiate = Value::Map(vec![("client_data".into(), client)]);
    let no = Value::from(false);
    let rest = [
        ("create", no.clone()),
        ("lock_wait", LOCK_WAIT.into()),
        ("lock", true.into()),
        ("exclusive", no.clone()),
        ("append_only", no.clone()),
        ("make_parent_dirs", no),
    ];
    let mut bytes = Vec::new();
    begin(&mut bytes, NEGOTIATE, "negotiate");
    put(&mut bytes, &negotiate);
    begin(&mut bytes, OPEN, "open");
    // A map of seven; the path is what Borg takes for text, which rmpv would write only if it were UTF-8.
    bytes.push(0x87);
    put(&mut bytes, &"path".into());
    let path = path.as_os_str().as_bytes();
    bytes.push(0xdb);
    bytes.extend(u32::try_from(path.len()).unwrap_or_default().to_be_bytes());
    bytes.extend(path);
    for (name, value) in rest {
        put(&mut bytes, &name.into());
        put(&mut bytes, &value);
    }
    bytes
}

/// Writes a request up to its arguments: a map of three.
fn begin(bytes: &mut Vec<u8>, number: u64, method: &str) {
    bytes.push(0x83);
    for value in ["i".into(), number.into(), "m".into(), method.into(), "a".into()] {
        put(bytes, &value);
    }
}

fn put(bytes: &mut Vec<u8>, value: &Value) {
    // Writing to memory does not fail; were it so, Borg would not answer, which is told.
    if let Err(error) = rmpv::encode::write_value(bytes, value) {
        log::error!("cannot write a request to Borg: {error}");
    }
}

/// `path` as `borg serve` takes it for what it is: it has its own ideas of paths that begin with `/~` or `/./`.
pub(super) fn literal(path: &Path) -> std::path::PathBuf {
    let bytes = path.as_os_str().as_bytes();
    if bytes.starts_with(b"/~") || bytes.starts_with(b"/./") {
        return std::ffi::OsStr::from_bytes(&[b"/", bytes].concat()).into();
    }
    path.to_owned()
}

/// Collects Borg's output until both requests are answered.
#[derive(Debug, Default)]
pub(super) struct Listener {
    bytes: Vec<u8>,
    answer: Option<Answer>,
}

impl Listener {
    /// Takes what Borg has written; whether the answer is complete.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        while self.answer.is_none() {
            let mut rest = &self.bytes[..];
            match read_value_with_max_depth(&mut rest, MAX_DEPTH) {
                Ok(message) => {
                    let used = self.bytes.len() - rest.len();
                    self.bytes.drain(..used);
                    self.answer = judge(&message);
                }
                Err(error) if is_incomplete(&error) && self.bytes.len() <= MAX_ANSWER => return false,
                Err(_) => self.answer = Some(no_answer()),
            }
        }
        true
    }

    /// The answer, if there was one.
    pub(super) fn answer(self) -> Option<Answer> {
        self.answer
    }
}

fn is_incomplete(error: &rmpv::decode::Error) -> bool {
    error.kind() == std::io::ErrorKind::UnexpectedEof
}

fn no_answer() -> Answer {
    Answer::Refused("what it answered is not the language of `borg serve`".to_owned())
}

/// What a message says of the repository; `None` if it says nothing yet.
fn judge(message: &Value) -> Option<Answer> {
    let Some(number) = get(message, "i").and_then(Value::as_u64) else { return Some(no_answer()) };
    if let Some(class) = get(message, "exception_class") {
        let class = text(class).unwrap_or_default();
        return Some(if class == "LockTimeout" { Answer::Busy } else { Answer::Refused(words(message, &class)) });
    }
    match (number, get(message, "r")) {
        (OPEN, Some(_)) => Some(Answer::Opened),
        (NEGOTIATE, Some(_)) => None,
        _ => Some(no_answer()),
    }
}

/// What Borg says to people about an exception, on one line.
fn words(message: &Value, class: &str) -> String {
    // The first is a list with Borg's own message, the second one with a traceback that ends with the system's.
    let lines = ["exception_short", "exception_full"].iter().find_map(|name| get(message, name)?.as_array());
    let said = lines.and_then(|lines| lines.iter().rev().find_map(text)).unwrap_or_default();
    let said: Vec<_> = said.split_whitespace().collect();
    let said = if said.is_empty() { class.to_owned() } else { said.join(" ") };
    shown_text(&said.chars().take(MAX_WORDS).collect::<String>())
}

fn get<'m>(message: &'m Value, name: &str) -> Option<&'m Value> {
    let is = |key: &Value| bytes_of(key) == Some(name.as_bytes());
    message.as_map()?.iter().find(|(key, _)| is(key)).map(|(_, value)| value)
}

fn text(value: &Value) -> Option<String> {
    bytes_of(value).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A text or bytes, which Borg does not tell apart.
fn bytes_of(value: &Value) -> Option<&[u8]> {
    match value {
        Value::String(text) => Some(text.as_bytes()),
        Value::Binary(bytes) => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const NEGOTIATED: &[u8] = b"\x82\xa1i\x01\xa1r\x81\xaeserver_version\x94\x01\x02\x04\xff";

    /// What Borg 1.2.4 answers when all goes well.
    pub(in crate::borg) fn opened() -> Vec<u8> {
        [NEGOTIATED, b"\x82\xa1i\x02\xa1r\xda\x00\x20", &[0xa7; 32]].concat()
    }

    /// What Borg answers to an exception.
    pub(in crate::borg) fn exception(class: &str, words: &str) -> Vec<u8> {
        let short = Value::Array(vec![words.into()]);
        let map = [("i", 2.into()), ("exception_class", class.into()), ("exception_short", short)];
        let map = map.map(|(name, value): (&str, Value)| (name.into(), value)).to_vec();
        let mut bytes = NEGOTIATED.to_vec();
        rmpv::encode::write_value(&mut bytes, &Value::Map(map)).unwrap();
        bytes
    }

    fn answer(bytes: &[u8], chunk: usize) -> Option<Answer> {
        let mut listener = Listener::default();
        for chunk in bytes.chunks(chunk) {
            if listener.hear(chunk) {
                break;
            }
        }
        listener.answer()
    }

    #[test]
    fn answers_are_understood_wherever_they_are_cut() {
        let failed =
            "Failed to create/acquire the lock /backup/borg/lock.exclusive ([Errno 30] Read-only file system).";
        let cases = [
            (opened(), Some(Answer::Opened)),
            (exception("LockTimeout", "… (timeout)."), Some(Answer::Busy)),
            (exception("LockFailed", failed), Some(Answer::Refused(failed.to_owned()))),
            (exception("OSError", "\x1b[31mno\n  space"), Some(Answer::Refused("\\u{1b}[31mno space".to_owned()))),
            (exception("KeyError", ""), Some(Answer::Refused("KeyError".to_owned()))),
            (NEGOTIATED.to_vec(), None),
            (b"Welcome to nas!\n".to_vec(), Some(no_answer())),
            (b"\x81\xa1i\x02".to_vec(), Some(no_answer())),
            (vec![0x91; 100], Some(no_answer())),
        ];
        for (bytes, want) in cases {
            for chunk in [1, 7, 4096] {
                assert_eq!(answer(&bytes, chunk), want, "{:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }

    #[test]
    fn an_endless_answer_ends() {
        let mut listener = Listener::default();
        assert!(!listener.hear(b"\xdb\xff\xff\xff\xff"));
        let mut fed = 0;
        while !listener.hear(&[b'x'; 4096]) {
            fed += 4096;
            assert!(fed <= MAX_ANSWER);
        }
        assert_eq!(listener.answer(), Some(no_answer()));
    }

    #[test]
    fn a_path_is_meant_as_it_is() {
        for (path, want) in [("/backup/borg", "/backup/borg"), ("/~root/borg", "//~root/borg"), ("/./x", "//./x")] {
            assert_eq!(literal(Path::new(path)).as_os_str(), want);
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            answer(&bytes, 16);
        }
    }
}
