//! What a disk says of its own health, where smartctl(8) can tell.

use std::path::Path;
use std::time::Duration;

use phobos_core::exec::{self, Exec, ExecError, Invocation, Observer, Status};
use serde::Deserialize;

/// How long a disk may take to say it.
const LIMIT: Duration = Duration::from_secs(60);

/// What is read of smartctl's JSON.
#[derive(Debug, Default, Deserialize)]
struct Said {
    smart_status: Option<Verdict>,
    power_on_time: Option<Age>,
    ata_smart_attributes: Option<Attributes>,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    passed: bool,
}

#[derive(Debug, Deserialize)]
struct Age {
    hours: u64,
}

#[derive(Debug, Deserialize)]
struct Attributes {
    #[serde(default)]
    table: Vec<Attribute>,
}

#[derive(Debug, Deserialize)]
struct Attribute {
    id: u8,
    raw: Raw,
}

#[derive(Debug, Deserialize)]
struct Raw {
    value: u64,
}

/// The attributes that tell of a disk that is dying, by their numbers, as drives have them.
const SIGNS: [(u8, &str); 3] =
    [(5, "sectors reallocated"), (197, "sectors waiting to be reallocated"), (198, "sectors that cannot be read")];

/// What the disk says, in a line.
pub(super) fn told(exec: &dyn Exec, device: &Path) -> String {
    if exec::find(Path::new("smartctl")).is_none() {
        return "SMART: not asked, as smartctl (package smartmontools) is not installed".to_owned();
    }
    let mut heard = Heard::default();
    let call = Invocation::new("smartctl").args(["--json", "--health", "--attributes"]).arg(device).limit(LIMIT);
    match exec.stream(&call, &mut heard) {
        // Its exit code has a bit for each thing that is wrong, a disk that fails included.
        Ok(_) | Err(ExecError::Failed { status: Status::Code(_), .. }) => words(heard.text.as_bytes()),
        Err(error) => format!("SMART: {error}"),
    }
}

fn words(json: &[u8]) -> String {
    let said: Said = serde_json::from_slice(json).unwrap_or_default();
    let Some(verdict) = said.smart_status else { return "SMART: the disk does not tell".to_owned() };
    let mut words =
        vec![if verdict.passed { "SMART: healthy" } else { "SMART: THE DISK SAYS THAT IT IS FAILING" }.to_owned()];
    words.extend(said.power_on_time.map(|age| format!("{} hours at work", age.hours)));
    for attribute in said.ata_smart_attributes.iter().flat_map(|attributes| &attributes.table) {
        let sign = SIGNS.iter().find(|(id, _)| *id == attribute.id && attribute.raw.value > 0);
        words.extend(sign.map(|(_, what)| format!("{} {what}", attribute.raw.value)));
    }
    words.join(", ")
}

/// Keeps what a program writes.
#[derive(Default)]
struct Heard {
    text: String,
}

impl Observer for Heard {
    fn out(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn err(&mut self, _line: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fails_says_so_and_one_behind_a_bridge_nothing() {
        // Shortened from smartctl 7.3; the values are made up.
        let healthy = br#"{"smart_status":{"passed":true},"power_on_time":{"hours":1234},
            "ata_smart_attributes":{"table":[{"id":5,"raw":{"value":0}},{"id":9,"raw":{"value":7}}]}}"#;
        assert_eq!(words(healthy), "SMART: healthy, 1234 hours at work");
        let failing =
            br#"{"smart_status":{"passed":false},"ata_smart_attributes":{"table":[{"id":197,"raw":{"value":8}}]}}"#;
        assert_eq!(words(failing), "SMART: THE DISK SAYS THAT IT IS FAILING, 8 sectors waiting to be reallocated");
        for silent in [&b""[..], b"{}", br#"{"smartctl":{"exit_status":1}}"#, b"[1]"] {
            assert_eq!(words(silent), "SMART: the disk does not tell");
        }
    }
}
