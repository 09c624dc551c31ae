//! What systemd shows of a unit: asked on its bus, or through `systemctl` where the bus cannot be asked.
//!
//! The bus saves the start of a program, which is a third of the mail's time. `systemctl` knows another way to systemd, which
//! root may use: a unit that fails together with the bus is mailed about all the same.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::HashMap;
use std::time::Duration;

use phobos_core::exec::{Exec, ExecError, Invocation};
use zbus::blocking::Connection;
use zbus::zvariant::{OwnedValue, Value};

use crate::bounded::within;

/// The properties of interest that are plain values.
const VALUES: [&str; 16] = [
    "Id",
    "Description",
    "LoadState",
    "FragmentPath",
    "ActiveState",
    "SubState",
    "Result",
    "InvocationID",
    "NRestarts",
    "ExecMainCode",
    "ExecMainStatus",
    "InactiveExitTimestamp",
    "InactiveEnterTimestamp",
    "CPUUsageNSec",
    "MemoryPeak",
    "TriggeredBy",
];

/// The properties that tell of programs and how they ended, in the order in which systemd runs them.
const COMMANDS: [&str; 8] = [
    "ExecCondition",
    "ExecStartPre",
    "ExecMount",
    "ExecStart",
    "ExecStartPost",
    "ExecStop",
    "ExecUnmount",
    "ExecStopPost",
];

/// What a unit's name can end with (systemd.unit(5)).
const KINDS: [&str; 11] =
    ["service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"];

/// How long the bus may take, before `systemctl` is tried.
const BUS_LIMIT: Duration = Duration::from_secs(3);

/// How long `systemctl` may take; a bus that does not answer must not hold up the mail.
const LIMIT: Duration = Duration::from_secs(8);

/// A unit's properties; what has no value is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UnitProperties {
    values: HashMap<String, String>,
    /// In the order of [`COMMANDS`] where the bus told them.
    pub(crate) commands: Vec<Command>,
}

/// A program of a unit, and how its last run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// Its command line.
    pub(crate) line: String,
    /// Whether the unit does not fail with it.
    pub(crate) is_ignored: bool,
    /// The `si_code` of waitid(2), 0 before the first end.
    pub(crate) code: i32,
    /// The exit code or the signal.
    pub(crate) status: i32,
}

/// Asks systemd about `unit`.
///
/// # Errors
///
/// [`ExecError`] if neither the bus nor `systemctl` can be asked.
pub(crate) fn ask(exec: &dyn Exec, unit: &str) -> Result<UnitProperties, ExecError> {
    let path = path(unit);
    match within(BUS_LIMIT, move || by_bus(&path)) {
        Some(Ok(shown)) => return Ok(shown),
        Some(Err(error)) => log::debug!("the bus cannot be asked: {error}"),
        None => log::debug!("the bus does not answer"),
    }
    by_systemctl(exec, unit)
}

/// All properties of the unit at `path`, which loads it if nobody has.
fn by_bus(path: &str) -> zbus::Result<UnitProperties> {
    let properties = Some("org.freedesktop.DBus.Properties");
    let bus = Connection::system()?;
    // No interface is all of them: a unit's own and its type's.
    let reply = bus.call_method(Some("org.freedesktop.systemd1"), path, properties, "GetAll", &"")?;
    Ok(UnitProperties::of(reply.body().deserialize()?))
}

/// The unit's object: what is no letter or digit becomes `_` and its two hexadecimal digits (`sd_bus_path_encode(3)`).
///
/// A name that does not say what kind of unit it is means a service, as for systemctl(1).
fn path(unit: &str) -> String {
    let has_kind = unit.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind));
    let kind = if has_kind { "" } else { ".service" };
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for (index, byte) in unit.bytes().chain(kind.bytes()).enumerate() {
        if byte.is_ascii_alphabetic() || (index > 0 && byte.is_ascii_digit()) {
            path.push(byte.into());
        } else {
            path.extend(["_", &format!("{byte:02x}")]);
        }
    }
    path
}

fn by_systemctl(exec: &dyn Exec, unit: &str) -> Result<UnitProperties, ExecError> {
    let call = Invocation::new("systemctl")
        .args(["show", "--no-pager", "--timestamp=unix"])
        .arg(format!("--property={},{}", VALUES.join(","), COMMANDS.join(",")))
        .args(["--", unit])
        // The mail does not wait for one that takes long to end.
        .bound()
        .limit(LIMIT);
    Ok(UnitProperties::parse(&exec.run(&call)?.text()))
}

impl UnitProperties {
    /// The value of a property, unless systemd says that it has none.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Takes what the bus says, in the words of systemctl.
    fn of(mut properties: HashMap<String, OwnedValue>) -> Self {
        let mut shown = Self::default();
        for name in VALUES {
            let value = properties.remove(name).and_then(|value| text(name, &value));
            shown.add(name, value.as_deref().unwrap_or_default());
        }
        for name in COMMANDS {
            let value = properties.remove(name);
            // A property of another type than systemd documents is left out, as one is that is not there.
            let runs: Vec<Run> = value.and_then(|value| value.try_into().ok()).unwrap_or_default();
            shown.commands.extend(runs.into_iter().map(Command::from));
        }
        shown
    }

    /// Reads what `systemctl show` wrote.
    pub(crate) fn parse(output: &str) -> Self {
        let mut shown = Self::default();
        for (name, value) in output.lines().filter_map(|line| line.split_once('=')) {
            if COMMANDS.contains(&name) {
                shown.commands.extend(Command::parse(value));
            } else {
                shown.add(name, value);
            }
        }
        shown
    }

    fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() && value != "[not set]" {
            self.values.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// One entry of an `Exec…` property (org.freedesktop.systemd1(5)): path, arguments, whether a failure is ignored, the last
/// run's start and end by two clocks each, its process id, and how it ended.
type Run = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

impl From<Run> for Command {
    fn from((_, arguments, is_ignored, _, _, _, _, _, code, status): Run) -> Self {
        Self { line: arguments.join(" "), is_ignored, code, status }
    }
}

impl Command {
    /// Reads `{ path=… ; argv[]=… ; ignore_errors=… ; … ; code=… ; status=… }`; arguments may hold the same words.
    fn parse(value: &str) -> Option<Self> {
        let (_, line) = value.split_once(" ; argv[]=")?;
        let (line, rest) = line.rsplit_once(" ; ignore_errors=")?;
        let (_, end) = rest.rsplit_once(" ; code=")?;
        let (code, status) = end.trim_end_matches([' ', '}']).split_once(" ; status=")?;
        let code = match code {
            "exited" => 1,
            "killed" => 2,
            "dumped" => 3,
            _ => 0,
        };
        let status = status.split('/').next()?.parse().ok()?;
        Some(Self { line: line.to_owned(), is_ignored: rest.starts_with("yes"), code, status })
    }
}

/// A value of the bus as `systemctl show --timestamp=unix` writes it.
fn text(name: &str, value: &Value) -> Option<String> {
    Some(match value {
        Value::Str(text) => text.to_string(),
        Value::U64(microseconds) if name.ends_with("Timestamp") => format!("@{}", microseconds / 1_000_000),
        Value::U64(number) => number.to_string(),
        Value::U32(number) => number.to_string(),
        Value::I32(number) => number.to_string(),
        Value::Array(values) => {
            let words = values.iter().map(|value| match value {
                Value::U8(byte) => Some(format!("{byte:02x}")),
                Value::Str(name) => Some(name.to_string()),
                _ => None,
            });
            let between = if name == "InvocationID" { "" } else { " " };
            words.collect::<Option<Vec<_>>>()?.join(between)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use phobos_core::exec::fake::Script;

    const TEXT: &str = "\
Id=a.service
Result=exit-code
InvocationID=0123456789abcdef0123456789abcdef
ExecMainStatus=3
InactiveExitTimestamp=@1700000000
CPUUsageNSec=5000000
MemoryPeak=[not set]
TriggeredBy=a.path a.timer
FragmentPath=
ExecStartPre={ path=/bin/true ; argv[]=/bin/true ; ignore_errors=yes ; start_time=[@1] ; stop_time=[@1] ; pid=1 ; code=exited ; status=0 }
ExecStart={ path=/bin/sh ; argv[]=/bin/sh -c x ; code=exited ; status=0 ; ignore_errors=no ; start_time=[@1] ; stop_time=[@1] ; pid=1 ; code=killed ; status=9/KILL }
";

    fn value<'a>(value: impl Into<Value<'a>>) -> OwnedValue {
        value.into().try_to_owned().unwrap()
    }

    #[test]
    fn the_bus_and_systemctl_say_the_same() {
        let run = |line: &[&str], is_ignored, code, status| -> Run {
            let line: Vec<_> = line.iter().map(|&word| word.to_owned()).collect();
            (line[0].clone(), line, is_ignored, 1, 1, 1, 1, 1, code, status)
        };
        let id: Vec<u8> = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef].repeat(2);
        let start = [run(&["/bin/sh", "-c", "x ;", "code=exited ; status=0"], false, 2, 9)];
        let properties = [
            ("Id", value("a.service")),
            ("Result", value("exit-code")),
            ("InvocationID", value(id)),
            ("ExecMainStatus", value(3i32)),
            ("InactiveExitTimestamp", value(1_700_000_000_123_456u64)),
            ("CPUUsageNSec", value(5_000_000u64)),
            ("TriggeredBy", value(vec!["a.path", "a.timer"])),
            ("FragmentPath", value("")),
            ("ExecStartPre", value(vec![run(&["/bin/true"], true, 1, 0)])),
            ("ExecStart", value(start.to_vec())),
            ("ExecStop", value(7u32)),
            ("Unheard", value(true)),
        ];
        let by_bus = UnitProperties::of(properties.map(|(name, value)| (name.to_owned(), value)).into());
        assert_eq!(by_bus, by_systemctl(&Script::new().says(TEXT), "a.service").unwrap());
    }

    #[test]
    fn a_unit_has_an_object() {
        assert_eq!(path("a-1.service"), "/org/freedesktop/systemd1/unit/a_2d1_2eservice");
        assert_eq!(path("a"), path("a.service"));
        assert_eq!(path(r"1\x2d@b.mount"), "/org/freedesktop/systemd1/unit/_31_5cx2d_40b_2emount");
    }

    #[test]
    fn no_bus_is_an_error_that_says_so() {
        let script = Script::new().fails(1, "Failed to get properties: Transport endpoint is not connected");
        let error = by_systemctl(&script, "x.service").unwrap_err().to_string();
        assert!(error.ends_with("Transport endpoint is not connected"), "{error}");
    }

    #[test]
    fn fuzz_unit_properties() {
        phobos_fuzz::target("unit_properties", &[b"Id=a.service\nActiveState=failed\nResult=exit-code\nExecStart={ path=/bin/x ; argv[]=/bin/x y ; ignore_errors=no ; start_time=[Thu 2026-01-01 00:00:00 UTC] ; stop_time=[n/a] ; pid=7 ; code=exited ; status=1 }\n"], |input| {
            let text = String::from_utf8_lossy(input);
            let properties = UnitProperties::parse(&text);
            drop(crate::unit::Facts::of(&properties));
        });
    }
}
