//! The journal: what a run wrote, and what else failed.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::time::Duration;

use chrono::{DateTime, Local};
use phobos_core::exec::{Exec, ExecError, Invocation, Observer};
use serde_json::Value;

use crate::text;
use crate::unit::{How, is_id};

/// How many lines of a run are shown: its last ones.
const LINES: usize = 100;

/// How many characters of a line are shown.
const LINE_CHARACTERS: usize = 1000;

/// How many entries are read where one call does for a run and all failures.
const TOGETHER: usize = 400;

/// How many failures of other units are looked at.
const FAILURES: usize = 10_000;

/// How long `journalctl` may take: a big journal on a slow disk must not hold up the mail.
const LIMIT: Duration = Duration::from_secs(10);

/// The message "Failed with result …" of systemd itself (`SD_MESSAGE_UNIT_FAILURE_RESULT`): the last of a failed run.
const FAILED: &str = "d9b373ed55a64feb8242e02dbe79a49c";

/// The lines that a run left in the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) lines: Vec<String>,
    pub(crate) first: Option<DateTime<Local>>,
    pub(crate) last: Option<DateTime<Local>>,
    /// How the first of its programs ended that did not end well, as far as the lines go back.
    pub(crate) end: Option<How>,
    /// Whether systemd's last word on a failed run is among the lines.
    pub(crate) is_whole: bool,
}

/// A unit's failure as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) unit: String,
    /// The run that failed.
    pub(crate) invocation: Option<String>,
    pub(crate) result: String,
    pub(crate) at: DateTime<Local>,
}

/// The id of the last run of `unit` that the journal knows.
///
/// # Errors
///
/// [`ExecError`] if the journal cannot be read.
pub(crate) fn last_invocation(exec: &dyn Exec, unit: &str) -> Result<Option<String>, ExecError> {
    let call = journalctl("_SYSTEMD_INVOCATION_ID,INVOCATION_ID", 1).arg(format!("--unit={unit}"));
    let mut id = None;
    read(exec, &call, &mut |entry| {
        id = ["INVOCATION_ID", "_SYSTEMD_INVOCATION_ID"]
            .iter()
            .find_map(|field| entry.text(field).filter(|id| is_id(id)));
    })?;
    Ok(id)
}

/// The fields of which [`Run::add`] makes a line.
const LINE_FIELDS: &str = "MESSAGE,MESSAGE_ID,SYSLOG_IDENTIFIER,_COMM,_PID,SYSLOG_PID,EXIT_CODE,EXIT_STATUS";

/// The fields that make a [`Failure`].
const FAILURE_FIELDS: &str = "UNIT,UNIT_RESULT,INVOCATION_ID";

/// The last lines of the run `invocation` and the failures of all units since `since`, in one call; `None` if that is not
/// all there is, or not to be had in this way. Then they have to be asked for one by one.
pub(crate) fn together(exec: &dyn Exec, invocation: &str, since: DateTime<Local>) -> Option<(Run, Vec<Failure>)> {
    let fields = format!("{LINE_FIELDS},{FAILURE_FIELDS},_SYSTEMD_INVOCATION_ID");
    let call = journalctl(&fields, TOGETHER).args(of_run(invocation)).args(["+", &of_failures(), "_PID=1"]);
    // Whoever asks one by one after this needs time for it.
    let call = call.limit(LIMIT.checked_div(4).unwrap_or(LIMIT));
    let (mut run, mut failures, mut count) = (Run::default(), Vec::new(), 0_usize);
    let read = read(exec, &call, &mut |entry| {
        count = count.saturating_add(1);
        let is = |field: &str, value: &str| entry.text(field).as_deref() == Some(value);
        let is_by_systemd = is("_PID", "1");
        if is("_SYSTEMD_INVOCATION_ID", invocation) || is_by_systemd && is("INVOCATION_ID", invocation) {
            run.add(entry);
        }
        if is_by_systemd && is("MESSAGE_ID", FAILED) {
            failures.extend(entry.failure().filter(|failure| failure.at >= since));
        }
    });
    (read.is_ok() && count < TOGETHER && run.is_whole).then_some((run, failures))
}

/// Fills `run` with the last lines of the run `invocation`, its programs' and systemd's own about it.
///
/// # Errors
///
/// [`ExecError`] if the journal cannot be read, or not to its end; what came up to then is in `run`.
pub(crate) fn fill(exec: &dyn Exec, invocation: &str, run: &mut Run) -> Result<(), ExecError> {
    let call = journalctl(LINE_FIELDS, LINES).args(of_run(invocation));
    read(exec, &call, &mut |entry| run.add(entry))
}

/// What matches the entries of the run `invocation`.
fn of_run(invocation: &str) -> [String; 4] {
    let (by_programs, by_systemd) =
        (format!("_SYSTEMD_INVOCATION_ID={invocation}"), format!("INVOCATION_ID={invocation}"));
    [by_programs, "+".to_owned(), by_systemd, "_PID=1".to_owned()]
}

/// What matches systemd's last words on failed runs, if systemd itself said them.
fn of_failures() -> String {
    format!("MESSAGE_ID={FAILED}")
}

/// The failures of all units since `since`, oldest first.
///
/// # Errors
///
/// [`ExecError`] if the journal cannot be read.
pub(crate) fn failures(exec: &dyn Exec, since: DateTime<Local>) -> Result<Vec<Failure>, ExecError> {
    let call = journalctl(FAILURE_FIELDS, FAILURES)
        .arg(format!("--since=@{}", since.timestamp()))
        .args([&of_failures(), "_PID=1"]);
    let mut failures = Vec::new();
    read(exec, &call, &mut |entry| failures.extend(entry.failure()))?;
    Ok(failures)
}

/// A call that gives the last `lines` entries as JSON, long and binary messages included.
fn journalctl(fields: &str, lines: usize) -> Invocation {
    Invocation::new("journalctl")
        .args(["--quiet", "--no-pager", "--all", "--output=json"])
        .arg(format!("--output-fields={fields}"))
        .arg(format!("--lines={lines}"))
        .limit(LIMIT)
}

/// One entry, in the journal's JSON format.
struct Entry(serde_json::Map<String, Value>);

impl Entry {
    /// A field as text: it is a string, an array of bytes where it is not plain UTF-8, or an array of several values.
    fn text(&self, field: &str) -> Option<String> {
        value_text(self.0.get(field)?)
    }

    fn failure(&self) -> Option<Failure> {
        let (unit, at) = (self.text("UNIT")?, self.time()?);
        let result = self.text("UNIT_RESULT").unwrap_or_default();
        let invocation = self.text("INVOCATION_ID").filter(|id| is_id(id));
        Some(Failure { unit: text::line(&unit, 255), invocation, result: text::line(&result, 50), at })
    }

    /// What systemd says about the end of a program that did not end well.
    fn end(&self) -> Option<How> {
        let status: i32 =
            self.text("EXIT_STATUS").filter(|_| self.text("_PID").as_deref() == Some("1"))?.parse().ok()?;
        match self.text("EXIT_CODE")?.as_str() {
            "exited" if status != 0 => Some(How::Code(status)),
            "killed" => Some(How::Signal { number: status, core: false }),
            "dumped" => Some(How::Signal { number: status, core: true }),
            _ => None,
        }
    }

    fn time(&self) -> Option<DateTime<Local>> {
        let microseconds: i64 = self.text("__REALTIME_TIMESTAMP")?.parse().ok()?;
        DateTime::from_timestamp_micros(microseconds).map(Into::into)
    }
}

fn value_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(values) if values.iter().all(Value::is_u64) => {
            let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
            let bytes: Vec<u8> = values.iter().filter_map(byte).collect();
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        Value::Array(values) => values.iter().find_map(value_text),
        _ => None,
    }
}

/// Hands each entry to `take` as it comes: a hundred lines of a megabyte each are never held at once.
fn read(exec: &dyn Exec, call: &Invocation, take: &mut dyn FnMut(&Entry)) -> Result<(), ExecError> {
    exec.stream(call, &mut Entries(take)).map(drop)
}

struct Entries<'a>(&'a mut dyn FnMut(&Entry));

impl Observer for Entries<'_> {
    fn out(&mut self, line: &str) {
        match serde_json::from_str(line) {
            Ok(Value::Object(fields)) => (self.0)(&Entry(fields)),
            Ok(_) | Err(_) => log::debug!("journalctl wrote a line that is no entry"),
        }
    }

    fn err(&mut self, line: &str) {
        log::debug!("journalctl: {line}");
    }
}

impl Run {
    fn add(&mut self, entry: &Entry) {
        let at = entry.time();
        self.is_whole |= entry.text("MESSAGE_ID").as_deref() == Some(FAILED);
        self.end = self.end.or_else(|| entry.end());
        self.first = self.first.or(at);
        self.last = at.or(self.last);
        let who = ["SYSLOG_IDENTIFIER", "_COMM"].iter().find_map(|field| entry.text(field));
        let pid = ["_PID", "SYSLOG_PID"].iter().find_map(|field| entry.text(field));
        let who = text::line(who.as_deref().unwrap_or("?"), 60);
        let pid = pid.map(|pid| format!("[{}]", text::line(&pid, 20))).unwrap_or_default();
        let at = at.map(text::stamp).unwrap_or_default();
        let message = entry.text("MESSAGE").unwrap_or_else(|| "(no text)".to_owned());
        let message = message.trim_end_matches(['\n', '\r']);
        for (count, part) in message.split('\n').enumerate() {
            if self.lines.len() >= 2 * LINES {
                self.lines.drain(..LINES);
            }
            let part = text::line(part.trim_end_matches('\r'), LINE_CHARACTERS);
            if count == 0 {
                self.lines.push(format!("{at} {who}{pid}: {part}"));
            } else {
                self.lines.push(format!("    {part}"));
            }
        }
    }

    /// A run without lines.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> &[String] {
        let from = self.lines.len().saturating_sub(LINES);
        self.lines.get(from..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phobos_core::exec::fake::Script;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn lines(output: &str) -> Vec<String> {
        let mut run = Run::default();
        fill(&Script::new().says(output), ID, &mut run).unwrap();
        run.tail().to_vec()
    }

    fn entry(message: &str) -> String {
        format!(
            r#"{{"__REALTIME_TIMESTAMP":"1700000000000000","SYSLOG_IDENTIFIER":"rsync","_PID":"7","MESSAGE":{message}}}"#
        ) + "\n"
    }

    #[test]
    fn a_run_is_asked_for_by_its_id() {
        let script = Script::new().ok();
        fill(&script, ID, &mut Run::default()).unwrap();
        assert!(
            script.calls()[0]
                .ends_with(&format!("--lines=100 _SYSTEMD_INVOCATION_ID={ID} + INVOCATION_ID={ID} _PID=1")),
            "{:?}",
            script.calls()
        );
    }

    #[test]
    fn any_message_becomes_lines() {
        let said = |message| lines(&entry(message)).join("\n")[19..].to_owned();
        assert_eq!(said(r#""plain ünïcode""#), " rsync[7]: plain ünïcode");
        assert_eq!(said(r#""a\nb\u001b[2J""#), " rsync[7]: a\n    b\\x1b[2J");
        assert_eq!(said("[104,105,255,27]"), " rsync[7]: hi\u{fffd}\\x1b");
        assert_eq!(said(r#"["one","two"]"#), " rsync[7]: one");
        assert_eq!(said("null"), " rsync[7]: (no text)");
        let long = said(&format!("{:?}", "x".repeat(1 << 20)));
        assert!(long.ends_with("x … (1047576 more bytes)") && long.len() < 1100, "{}", long.len());
    }

    #[test]
    fn systemd_says_in_the_journal_how_a_program_ended() {
        let end = |pid: u32, code: &str, status: i32| {
            let mut run = Run::default();
            let said = format!(
                r#"{{"__REALTIME_TIMESTAMP":"1","_PID":"{pid}","EXIT_CODE":"{code}","EXIT_STATUS":"{status}"}}"#
            );
            fill(&Script::new().says(&said), ID, &mut run).unwrap();
            run.end
        };
        assert_eq!(end(1, "exited", 3), Some(How::Code(3)));
        assert_eq!(end(1, "dumped", 11), Some(How::Signal { number: 11, core: true }));
        assert_eq!(end(1, "exited", 0), None);
        assert_eq!(end(7, "exited", 3), None, "anybody can say that");
    }

    #[test]
    fn only_the_last_lines_are_shown() {
        let many: String = (0..250).map(|n| entry(&format!("\"line {n}\""))).collect();
        let lines = lines(&many);
        assert_eq!(lines.len(), 100);
        assert!(lines[99].ends_with("line 249"), "{}", lines[99]);
        assert!(super::tests::lines("no json\n[1]\n").is_empty());
    }

    #[test]
    fn failures_have_a_unit_a_result_and_a_time() {
        let said = r#"{"__REALTIME_TIMESTAMP":"1700000000000000","UNIT":"a.service","UNIT_RESULT":"exit-code"}
{"__REALTIME_TIMESTAMP":"1700000001000000","MESSAGE":"no unit"}
"#;
        let failures = failures(&Script::new().says(said), text::local(0)).unwrap();
        let [failure] = &failures[..] else { panic!("{failures:?}") };
        assert_eq!((failure.unit.as_str(), failure.result.as_str()), ("a.service", "exit-code"));
        assert_eq!(failure.at.timestamp(), 1_700_000_000);
    }

    #[test]
    fn one_call_does_for_a_run_and_all_failures() {
        let line = |fields: &str| format!(r#"{{"__REALTIME_TIMESTAMP":"1700000000000000",{fields}}}"#) + "\n";
        let failed = |unit: &str, id: &str, pid: u32| {
            line(&format!(
                r#""UNIT":"{unit}","UNIT_RESULT":"timeout","INVOCATION_ID":"{id}","_PID":"{pid}","MESSAGE_ID":"{FAILED}""#
            ))
        };
        let other = "f".repeat(32);
        let said = [
            failed("b.service", &other, 1),
            failed("liar.service", &other, 7),
            line(&format!(r#""_SYSTEMD_INVOCATION_ID":"{ID}","_PID":"7","MESSAGE":"of the run""#)),
            line(&format!(r#""INVOCATION_ID":"{ID}","_PID":"7","MESSAGE":"not of the run""#)),
            failed("a.service", ID, 1),
        ]
        .concat();
        let since = text::local(1_700_000_000);
        let together = |said: &str, since| together(&Script::new().says(said), ID, since);
        let (run, failures) = together(&said, since).unwrap();
        assert_eq!(run.tail().len(), 2, "{run:?}");
        assert!(run.tail()[0].ends_with("of the run"), "{run:?}");
        let units: Vec<_> = failures.iter().map(|failure| failure.unit.as_str()).collect();
        assert_eq!(units, ["b.service", "a.service"]);
        assert!(together(&said, text::local(1_700_000_001)).unwrap().1.is_empty(), "they are too old");

        assert_eq!(together(&failed("b.service", &other, 1), since), None, "the run's last word is missing");
        assert_eq!(together(&(said.clone() + &line("").replace(",}", "}").repeat(TOGETHER)), since), None, "too much");
        let fails = Script::new().fails(1, "no permission");
        assert_eq!(super::together(&fails, ID, since), None);
    }

    #[test]
    fn the_last_run_is_found_in_the_journal() {
        let said = format!(r#"{{"__REALTIME_TIMESTAMP":"1","INVOCATION_ID":"{ID}"}}"#);
        let script = Script::new().says(&said).ok();
        assert_eq!(last_invocation(&script, "a.service").unwrap().as_deref(), Some(ID));
        assert_eq!(last_invocation(&script, "a.service").unwrap(), None);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

        /// journalctl gives text as a string where it is plain UTF-8, and as an array of bytes where it is not.
        #[test]
        fn no_message_leaves_anything_but_plain_lines(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000)) {
            let array = lines(&entry(&format!("{bytes:?}")));
            let string = lines(&entry(&serde_json::to_string(&String::from_utf8_lossy(&bytes)).unwrap()));
            for line in array.iter().chain(&string) {
                proptest::prop_assert!(line.chars().all(|character| !character.is_control()), "{:?}", line);
                proptest::prop_assert!(line.chars().count() < 5000);
            }
            proptest::prop_assert_eq!(array, string);
        }
    }

    #[test]
    fn fuzz_journal() {
        phobos_fuzz::target("journal", &[br#"{"MESSAGE":"no","UNIT":"a.service","UNIT_RESULT":"exit-code","INVOCATION_ID":"0123456789abcdef0123456789abcdef","__REALTIME_TIMESTAMP":"1764225000000000","_PID":"1","EXIT_CODE":"exited","EXIT_STATUS":"1"}"#, br#"{"MESSAGE":[99,97,102,255],"__REALTIME_TIMESTAMP":"-1"}"#], |input| {
            let text = String::from_utf8_lossy(input);
            let mut run = Run::default();
            text.lines().for_each(|line| Entries(&mut |entry| run.add(entry)).out(line));
            text.lines().for_each(|line| Entries(&mut |entry| drop((entry.failure(), entry.end()))).out(line));
        });
    }
}
