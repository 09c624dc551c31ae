//! One table of a TOML document as a flat list of keys: all that the light's program needs of the configuration.
//!
//! It reads the events of `toml_parser`, on which the `toml` crate is built, so that both agree on what TOML is.
//! Without serde's code for every type of the configuration the program is a fifth smaller, and each mistake keeps its line.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::borrow::Cow;

use toml_parser::decoder::ScalarKind;
use toml_parser::parser::{Event, EventKind, RecursionGuard, parse_document};
use toml_parser::{ParseError, Raw, Source};

/// How deep a document may nest.
const DEPTH: u32 = 32;

/// A value with its key and the line where it stands, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key below the table, with dots.
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) line: usize,
}

/// A value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Whole(i64),
    Flag(bool),
    Texts(Vec<String>),
    /// A kind of value that the table has nowhere.
    Other,
}

/// The line and the reason why a text is no TOML.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoToml {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// The entries of the table called `table`.
pub(super) fn entries(text: &str, table: &str) -> Result<Vec<Entry>, NoToml> {
    let source = Source::new(text);
    let tokens = source.lex().into_vec();
    let mut error: Option<ParseError> = None;
    let mut events = Vec::new();
    let mut keep = |event: Event| events.push(event);
    parse_document(&tokens, &mut RecursionGuard::new(&mut keep, DEPTH), &mut error);
    let mut reader = Reader { table, ..Reader::default() };
    // The events are in the order of the text: each line is counted once, however many tables there are.
    let (mut line, mut counted) = (1_usize, 0);
    for event in &events {
        let start = event.span().start();
        if let Some(since) = text.get(counted..start) {
            line = line.saturating_add(lines(since));
            counted = start;
        }
        if let Some(raw) = source.get(event) {
            reader.take(event.kind(), &raw, line, &mut error);
        }
    }
    match error {
        None => Ok(reader.entries),
        Some(error) => {
            let start = error.unexpected().or(error.context()).map_or(0, |span| span.start());
            let before = text.get(..start).unwrap_or_default();
            Err(NoToml { line: lines(before).saturating_add(1), reason: error.description().to_owned() })
        }
    }
}

/// What has been read so far.
#[derive(Default)]
struct Reader<'t> {
    table: &'t str,
    entries: Vec<Entry>,
    /// The table that the keys belong to, and the inline tables in it.
    within: Vec<Vec<String>>,
    /// The key that is being read, part by part.
    key: Vec<String>,
    /// The values of the array that is being read.
    array: Vec<Value>,
    /// How many arrays, and inline tables in them, are open.
    depth: usize,
}

impl Reader<'_> {
    fn take(&mut self, kind: EventKind, raw: &Raw<'_>, line: usize, error: &mut Option<ParseError>) {
        match kind {
            EventKind::StdTableOpen | EventKind::ArrayTableOpen => self.key.clear(),
            EventKind::StdTableClose => self.within = vec![std::mem::take(&mut self.key)],
            EventKind::ArrayTableClose => {
                // No key has this name, so that whatever is in there is a mistake.
                self.key.push("[]".to_owned());
                self.within = vec![std::mem::take(&mut self.key)];
            }
            EventKind::SimpleKey if self.depth == 0 => {
                let mut key = Cow::Borrowed("");
                raw.decode_key(&mut key, error);
                self.key.push(key.into_owned());
            }
            EventKind::InlineTableOpen if self.depth == 0 => self.within.push(std::mem::take(&mut self.key)),
            EventKind::InlineTableClose if self.depth == 0 => {
                self.within.pop();
            }
            EventKind::ArrayOpen | EventKind::InlineTableOpen => {
                if self.depth > 0 {
                    self.array.push(Value::Other);
                }
                self.depth = self.depth.saturating_add(1);
            }
            EventKind::ArrayClose | EventKind::InlineTableClose => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    let values = std::mem::take(&mut self.array).into_iter().map(|value| match value {
                        Value::Text(text) => Some(text),
                        _ => None,
                    });
                    let value = values.collect::<Option<_>>().map_or(Value::Other, Value::Texts);
                    self.keep(value, line);
                }
            }
            EventKind::Scalar => {
                let value = scalar(raw, error);
                if self.depth == 0 { self.keep(value, line) } else { self.array.push(value) }
            }
            _ => {}
        }
    }

    fn keep(&mut self, value: Value, line: usize) {
        let mut path = self.within.iter().flatten().chain(&self.key).map(String::as_str);
        if path.next() == Some(self.table) {
            let key = path.collect::<Vec<_>>().join(".");
            self.entries.push(Entry { key, value, line });
        }
        self.key.clear();
    }
}

fn scalar(raw: &Raw<'_>, error: &mut Option<ParseError>) -> Value {
    let mut text = Cow::Borrowed("");
    match raw.decode_scalar(&mut text, error) {
        ScalarKind::String => Value::Text(text.into_owned()),
        ScalarKind::Boolean(flag) => Value::Flag(flag),
        ScalarKind::Integer(radix) => i64::from_str_radix(&text, radix.value()).map_or(Value::Other, Value::Whole),
        ScalarKind::DateTime | ScalarKind::Float => Value::Other,
    }
}

/// How many lines end in `text`.
fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let show = |Entry { key, value, line }: Entry| format!("{line} {key} {value:?}");
        entries(text, "led").unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn every_way_to_write_a_key_is_understood() {
        let text = "a = 1\n[led]\nindex = 0x10 # comment\n'device' = \"x\\u0041\"\nok = { color = 'red', limit = 1_0 }\n\
                    failed.limit = 5\n[led.second]\njobs = [\n 'a',\n \"b\"\n]\n[mail]\nto = 'x'\n[led . waiting]\nlimit = -3\n";
        assert_eq!(
            told(text),
            [
                "3 index Whole(16)",
                "4 device Text(\"xA\")",
                "5 ok.color Text(\"red\")",
                "5 ok.limit Whole(10)",
                "6 failed.limit Whole(5)",
                "11 second.jobs Texts([\"a\", \"b\"])",
                "15 waiting.limit Whole(-3)",
            ]
        );
        assert_eq!(told("led = { index = 2, breathe = true }"), ["1 index Whole(2)", "1 breathe Flag(true)"]);
        assert_eq!(told("led.index = 2"), ["1 index Whole(2)"]);
        assert_eq!(told("[[led]]\nindex = 2"), ["2 [].index Whole(2)"]);
        assert_eq!(told("led = 3"), ["1  Whole(3)"]);
    }

    #[test]
    fn what_is_no_plain_value_is_seen_to_be_none() {
        for value in ["[1]", "[['a']]", "[{ a = 'b' }, 'c']", "1.5", "1979-05-27", "99999999999999999999", "['a', 2]"] {
            let text = format!("[led]\nx = {value}\ny = 1");
            assert_eq!(told(&text), ["2 x Other", "3 y Whole(1)"]);
        }
    }

    #[test]
    fn a_mistake_has_its_line() {
        for (text, line) in
            [("[led]\nindex = \n", 2), ("a = 1\nb\n[led]", 2), ("x = 'y", 1), ("[led]\n\nd = \"\\q\"", 3)]
        {
            assert_eq!(entries(text, "led").unwrap_err().line, line, "{text:?}");
        }
        assert!(entries(&"x = ".chars().chain("[".repeat(999).chars()).collect::<String>(), "led").is_err());
    }
}
