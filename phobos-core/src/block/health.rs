//! What a disk says of itself (SMART, by smartctl(8)), and how often the kernel had to reset it on its bus.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::exec::{Exec, ExecError, Invocation, Status};

/// How long an answer may take: a disk that sleeps has to spin up.
const LIMIT: Duration = Duration::from_secs(60);

/// How much of an answer is heard, in bytes.
const LONGEST: usize = 1024 * 1024;

/// smartctl's exit status is a set of bits; with one of these it has not asked the disk (smartctl(8), EXIT STATUS).
const NOT_ASKED: i32 = 0b11;

/// The attributes of ATA that count sectors which cannot be read, or could not be written (smartctl's drivedb.h).
const SECTORS: [(u64, &str); 2] = [(197, "cannot be read"), (198, "could not be read when it looked through all")];

/// What a disk says of its own health.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It has no complaint.
    Good,
    /// It expects to fail, or has lost something already.
    Failing(String),
    /// Nothing, and why.
    Unknown(String),
}

/// Asks the disk that the block device `device` lies on.
pub fn health(exec: &dyn Exec, device: &Path) -> Health {
    let mut disks = super::disks(device).into_iter().filter_map(|number| node(Path::new("/sys"), &number));
    let (Some(disk), None) = (disks.next(), disks.next()) else {
        return Health::Unknown(format!("{} is not on one disk", device.display()));
    };
    let call = Invocation::new("smartctl").args(["--json=c", "--health", "--attributes"]).arg(&disk).limit(LIMIT);
    let (said, ended) = heard(exec, &call);
    match ended {
        Ok(()) => judge(&said),
        Err(ExecError::Failed { status: Status::Code(bits), .. }) if bits & NOT_ASKED == 0 => judge(&said),
        Err(ExecError::Failed { status: Status::Code(_), .. }) => Health::Unknown(refusal(&said)),
        Err(ExecError::Missing { program }) => Health::Unknown(format!("{program} is not installed")),
        Err(error) => Health::Unknown(error.to_string()),
    }
}

/// How often the kernel has reset the USB device that `device` is on since the machine has booted, as far as the journal goes back;
/// `None` where it is no USB device, or the journal cannot be read.
pub fn usb_resets(exec: &dyn Exec, device: &Path) -> Option<u64> {
    let number = super::disks(device).into_iter().next()?;
    let port = port(&fs::canonicalize(Path::new("/sys/dev/block").join(number)).ok()?)?;
    let beginning = format!("usb {port}: reset ");
    let call = Invocation::new("journalctl")
        .args(["--dmesg", "--boot", "--quiet", "--output=cat"])
        .arg(format!("--grep=^{beginning}"))
        .limit(LIMIT);
    let (text, ended) = heard(exec, &call);
    match ended {
        Ok(()) => {}
        // Nothing was found.
        Err(ExecError::Failed { status: Status::Code(1), .. }) if text.is_empty() => return Some(0),
        Err(_) => return None,
    }
    let lines = String::from_utf8_lossy(&text).lines().filter(|line| line.starts_with(&beginning)).count();
    u64::try_from(lines).ok()
}

/// What a program has said, whatever its end was.
fn heard(exec: &dyn Exec, call: &Invocation) -> (Vec<u8>, Result<(), ExecError>) {
    let mut said = Vec::new();
    let ended = exec.pour(call, &mut |bytes| {
        let room = LONGEST.saturating_sub(said.len());
        said.extend(bytes.iter().take(room));
    });
    (said, ended)
}

/// Where the kernel has the disk with this number.
fn node(sys: &Path, number: &str) -> Option<PathBuf> {
    let known = fs::read_to_string(sys.join("dev/block").join(number).join("uevent")).ok()?;
    let name = known.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name))
}

/// The port of the USB device, as `1-2.3`, that a folder of sysfs is below.
fn port(folder: &Path) -> Option<String> {
    Some(super::usb_device(folder)?.file_name()?.to_str()?.to_owned())
}

/// What smartctl's answer means.
fn judge(said: &[u8]) -> Health {
    let Ok(answer) = serde_json::from_slice::<Value>(said) else {
        return Health::Unknown("smartctl's answer cannot be read".to_owned());
    };
    let mut complaints = Vec::new();
    let passed = answer.pointer("/smart_status/passed").and_then(Value::as_bool);
    if passed == Some(false) {
        complaints.push("it expects to fail soon".to_owned());
    }
    let table = answer.pointer("/ata_smart_attributes/table").and_then(Value::as_array);
    for attribute in table.into_iter().flatten() {
        let id = attribute.get("id").and_then(Value::as_u64);
        // The rest of the six bytes is the makers' own business.
        let raw = attribute.pointer("/raw/value").and_then(Value::as_u64).map(|raw| raw & 0xffff_ffff);
        if let (Some((_, what)), Some(count @ 1..)) = (SECTORS.iter().find(|(known, _)| Some(*known) == id), raw) {
            complaints.push(if count == 1 { format!("1 sector {what}") } else { format!("{count} sectors {what}") });
        }
    }
    let errors = answer.pointer("/nvme_smart_health_information_log/media_errors").and_then(Value::as_u64);
    if let Some(count @ 1..) = errors {
        complaints.push(format!("it could not keep {count} of its pages"));
    }
    match (complaints.is_empty(), passed) {
        (false, _) => Health::Failing(complaints.join(", ")),
        (true, Some(_)) => Health::Good,
        (true, None) => Health::Unknown(refusal(said)),
    }
}

/// Why smartctl could not ask.
fn refusal(said: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(said).unwrap_or_default();
    let messages = answer.pointer("/smartctl/messages").and_then(Value::as_array);
    let first = messages.into_iter().flatten().find_map(|message| message.get("string")?.as_str());
    first.map_or_else(|| "it does not tell".to_owned(), |text| text.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of smartctl 7.4, shortened.
    const GOOD: &str = r#"{"smartctl":{"exit_status":0},"smart_status":{"passed":true},
        "ata_smart_attributes":{"table":[{"id":5,"name":"Reallocated_Sector_Ct","raw":{"value":0}},
        {"id":197,"name":"Current_Pending_Sector","raw":{"value":0,"string":"0"}},{"id":198,"raw":{"value":1099511627776}}]}}"#;

    #[test]
    fn a_disk_that_complains_is_failing_and_one_that_says_nothing_is_not_good() {
        assert_eq!(judge(GOOD.as_bytes()), Health::Good);
        let failing = |text: String| match judge(text.as_bytes()) {
            Health::Failing(what) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(failing(GOOD.replace("true", "false")), "it expects to fail soon");
        assert_eq!(failing(GOOD.replacen(r#""value":0,"#, r#""value":8,"#, 1)), "8 sectors cannot be read");
        let nvme = r#"{"smart_status":{"passed":true},"nvme_smart_health_information_log":{"media_errors":2}}"#;
        assert_eq!(failing(nvme.to_owned()), "it could not keep 2 of its pages");
        let bridge = r#"{"smartctl":{"messages":[{"string":"Unknown USB bridge","severity":"error"}]}}"#;
        assert_eq!(judge(bridge.as_bytes()), Health::Unknown("Unknown USB bridge".to_owned()));
        assert_eq!(judge(b"{}"), Health::Unknown("it does not tell".to_owned()));
        assert!(matches!(judge(b""), Health::Unknown(_)));
    }

    #[test]
    fn the_port_is_the_one_next_to_the_interface() {
        let bus = "/sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1.4/2-1.4:1.0/host6/target6:0:0/6:0:0:0/block/sdb";
        assert_eq!(port(Path::new(bus)).as_deref(), Some("2-1.4"));
        let sata = "/sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda";
        assert_eq!(port(Path::new(sata)), None);
        assert_eq!(port(Path::new("/sys/devices/virtual/block/loop0")), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(said in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(judge(&said));
            drop(port(Path::new(&*String::from_utf8_lossy(&said))));
        }
    }
}
