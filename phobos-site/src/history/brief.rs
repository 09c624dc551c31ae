//! A line of the history, read without a copy of its words: whoever sums up ten years keeps few of them.
//!
//! What phobos writes has one form, its fields in one order, which is read here in one pass; anything else, such as a word with
//! an escape in it or a field that is not known, is left to serde, which alone decides what is a run.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::schema::SchemaVersion;

use super::{Run, length, utc};

/// How long the times are that phobos writes: with nine digits behind the second, as nearly all are, with none, six, or three.
const TIMES: [usize; 4] = [30, 20, 27, 24];

/// A run whose words may still be in the line that it was read from; see [`Run`] for its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are those of a run")]
pub struct Brief<'l> {
    pub job: Cow<'l, str>,
    pub object: Cow<'l, str>,
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
    pub exit: u8,
    pub error: Cow<'l, str>,
    pub origin: Cow<'l, str>,
    pub waited_secs: u64,
    pub bytes: Option<u64>,
}

impl<'l> Brief<'l> {
    /// Reads a line with or without its end.
    ///
    /// # Errors
    ///
    /// When it is no run, or one of another version.
    pub(super) fn parse(line: &'l [u8]) -> Result<Self, serde_json::Error> {
        match quickly(line) {
            Some(brief) => Ok(brief),
            None => serde_json::from_slice::<Run>(line).map(Self::from),
        }
    }

    /// How long it was at work; see [`Run::length`].
    pub fn length(&self) -> Option<TimeDelta> {
        length(self.start, self.end, self.waited_secs)
    }

    /// The run itself.
    pub fn to_run(&self) -> Run {
        let mut run = Run::new("", "", self.start);
        self.write_to(&mut run);
        run
    }

    /// Makes `run` this one, in the memory that its words have.
    pub fn write_to(&self, run: &mut Run) {
        let words = [
            (&self.job, &mut run.job),
            (&self.object, &mut run.object),
            (&self.error, &mut run.error),
            (&self.origin, &mut run.origin),
        ];
        for (word, place) in words {
            place.clear();
            place.push_str(word);
        }
        (run.start, run.end, run.exit) = (self.start, self.end, self.exit);
        (run.waited_secs, run.bytes) = (self.waited_secs, self.bytes);
    }
}

impl From<Run> for Brief<'_> {
    fn from(run: Run) -> Self {
        let Run { schema_version: SchemaVersion, job, object, start, end, exit, error, origin, waited_secs, bytes } =
            run;
        let (job, object, error, origin) = (job.into(), object.into(), error.into(), origin.into());
        Self { job, object, start, end, exit, error, origin, waited_secs, bytes }
    }
}

/// Reads a line of the form that [`Run`] is written in; `None` for any other, which may be a run all the same.
fn quickly(line: &[u8]) -> Option<Brief<'_>> {
    let mut rest = Rest(std::str::from_utf8(line).ok()?);
    rest.skip("{")?;
    // Lines of the first months have no version.
    let _ = rest.skip("\"schema_version\":1,");
    rest.skip("\"job\":\"")?;
    let job = rest.word()?;
    let object = rest.word_of(",\"object\":\"")?;
    rest.skip(",\"start\":\"")?;
    let start = rest.time()?;
    rest.skip(",\"end\":\"")?;
    let end = rest.time()?;
    rest.skip(",\"exit\":")?;
    let exit = u8::try_from(rest.number()?).ok()?;
    let error = rest.word_of(",\"error\":\"")?;
    let origin = rest.word_of(",\"origin\":\"")?;
    let waited_secs = if rest.skip(",\"waited_secs\":").is_some() { rest.number()? } else { 0 };
    let bytes = if rest.skip(",\"bytes\":").is_some() { Some(rest.number()?) } else { None };
    rest.skip("}")?;
    let (job, object, error, origin) = (job.into(), object.into(), error.into(), origin.into());
    matches!(rest.0, "" | "\n").then_some(Brief { job, object, start, end, exit, error, origin, waited_secs, bytes })
}

/// What of a line is not read yet.
struct Rest<'l>(&'l str);

impl<'l> Rest<'l> {
    /// Goes past `text`; `None` where something else is next.
    fn skip(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// Reads up to the next quotation mark, and goes past it; `None` where JSON would have more to say about what is before it.
    fn word(&mut self) -> Option<&'l str> {
        let end = self.0.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        let (word, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix('"')?;
        Some(word)
    }

    /// Reads a time up to the next quotation mark, and goes past it.
    fn time(&mut self) -> Option<DateTime<Utc>> {
        let end = TIMES.into_iter().find(|length| self.0.as_bytes().get(*length) == Some(&b'"'))?;
        let (time, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix('"')?;
        utc(time.as_bytes())
    }

    /// Reads the word after `name`, or an empty one where that is not next.
    fn word_of(&mut self, name: &str) -> Option<&'l str> {
        if self.skip(name).is_some() { self.word() } else { Some("") }
    }

    /// Reads a number as JSON has them, one that is whole and not negative.
    fn number(&mut self) -> Option<u64> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit);
        let (mut number, mut count) = (0_u64, 0_usize);
        for digit in digits {
            number = number.checked_mul(10)?.checked_add(u64::from(digit & 0xf))?;
            count = count.checked_add(1)?;
        }
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        (count == 1 || (count > 1 && !digits.starts_with('0'))).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"schema_version":1,"job":"ext","object":"A","start":"2026-01-02T03:04:05.123456789Z","end":"2026-01-02T04:04:05Z","exit":65,"error":"no","origin":"rsync","waited_secs":12,"bytes":4711}"#;

    /// Both ways to read a line must agree, on what is a run and on what it says.
    fn compare(line: &[u8]) {
        let slowly = serde_json::from_slice::<Run>(line).ok();
        let briefly = Brief::parse(line).ok().map(|brief| brief.to_run());
        assert_eq!(briefly, slowly, "{:?}", String::from_utf8_lossy(line));
        if let Some(brief) = quickly(line) {
            assert_eq!(Some(brief.to_run()), slowly, "{:?}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn what_is_written_is_read_quickly_and_anything_else_as_serde_reads_it() {
        let plain = GOOD.replace(r#""schema_version":1,"#, "").replace(r#","object":"A""#, "");
        for line in [GOOD.to_owned(), format!("{GOOD}\n"), plain, GOOD.replace("no", "nö …")] {
            assert!(quickly(line.as_bytes()).is_some(), "{line}");
            compare(line.as_bytes());
        }
        let changes = [
            ("\"schema_version\":1", "\"schema_version\":2"),
            ("\"schema_version\":1", "\"schema_version\":1.0"),
            ("\"job\":\"ext\",", ""),
            ("ext", "e\\u0078t"),
            ("ext", "e\u{7}t"),
            ("\"job\":\"ext\"", "\"job\":null"),
            ("\"exit\":65", "\"exit\":256"),
            ("\"exit\":65", "\"exit\":065"),
            ("\"exit\":65", "\"exit\":-1"),
            ("\"exit\":65", "\"exit\":6.5"),
            ("\"exit\":65", "\"exit\":6e1"),
            ("\"exit\":65", "\"exit\": 65"),
            ("\"exit\":65", "\"exit\":"),
            (":4711", ":18446744073709551616"),
            (":4711", ":18446744073709551615"),
            (":4711", ":null"),
            (":4711}", ":4711"),
            (":4711}", ":4711,}"),
            (":4711}", ":4711} "),
            (":4711}", ":4711}x"),
            (":4711}", ":4711}\n\n"),
            (":4711}", ":4711,\"new\":[1]}"),
            (":4711}", ":4711,\"bytes\":1}"),
            ("03:04:05.123456789Z", "03:04:05+01:00"),
            ("03:04:05.123456789Z", "23:59:60Z"),
            ("03:04:05.123456789Z", "25:04:05Z"),
            ("\"waited_secs\":12,\"bytes\":4711", "\"bytes\":4711,\"waited_secs\":12"),
        ];
        for (from, to) in changes {
            let line = GOOD.replacen(from, to, 1);
            assert_ne!(line, GOOD, "{from}");
            compare(line.as_bytes());
        }
        for line in [&b""[..], b"\n", b"{", b"\xff", b"{}", b"null", b"[]"] {
            compare(line);
        }
    }

    proptest! {
        /// Whatever a run says, it is read as it was written, and quickly unless one of its words needs an escape.
        #[test]
        fn every_run_is_read_as_it_was_written(
            words in proptest::array::uniform4(".{0,12}"),
            start in -10_000_000_000_i64..100_000_000_000,
            nanos in 0_i64..1_000_000_000,
            length in -1_000_000_000_i64..1_000_000_000,
            exit: u8,
            waited_secs: u64,
            bytes: Option<u64>,
        ) {
            let [job, object, error, origin] = words;
            let start = DateTime::UNIX_EPOCH + TimeDelta::seconds(start) + TimeDelta::nanoseconds(nanos);
            let end = start + TimeDelta::seconds(length);
            let run = Run { end, exit, error, origin, waited_secs, bytes, ..Run::new(&job, &object, start) };
            let line = serde_json::to_vec(&run).unwrap();
            prop_assert_eq!(Brief::parse(&line).unwrap().to_run(), run.clone());
            prop_assert_eq!(Brief::from(run.clone()).to_run(), run.clone());
            let mut other = Run::new("another job", "x", end);
            other.error = "what was wrong then".to_owned();
            Brief::parse(&line).unwrap().write_to(&mut other);
            prop_assert_eq!(other, run);
        }

        /// A line that somebody has damaged is no more and no less than what serde takes it for.
        #[test]
        fn a_damaged_line_is_what_serde_takes_it_for(at in 0..GOOD.len(), by: u8, cut: bool) {
            let mut line = GOOD.as_bytes().to_vec();
            line[at] = by;
            line.truncate(if cut { at } else { line.len() });
            compare(&line);
        }
    }

    #[test]
    fn fuzz_history_line() {
        phobos_fuzz::target("history line", &[GOOD.as_bytes()], compare);
    }
}
