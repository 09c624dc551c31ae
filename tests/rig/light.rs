//! The light's time line: what the fake BlinkStick was told, when, and how the machine looked at that moment.

use std::fmt;

use serde::Deserialize;

/// What the machine's LED (index 1, as the owner uses it) shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Light {
    /// Nothing.
    Off,
    /// At work: yellow at limit 10.
    Yellow,
    /// Safe to unplug: green at limit 10.
    Green,
    /// Failed: red at limit 50.
    Red,
    /// Another colour, as red, green and blue.
    Other(u8, u8, u8),
}

/// One report that a stick was sent.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    /// Wall clock, in nanoseconds since 1970.
    pub realtime_ns: u64,
    /// `CLOCK_MONOTONIC`, in nanoseconds: what the journal and udev stamp their lines with.
    pub monotonic_ns: u64,
    /// The stick's serial number.
    pub serial: String,
    /// The request's eight bytes, hexadecimal.
    pub setup: String,
    /// The report's number.
    pub report: u8,
    /// The payload, hexadecimal.
    pub data: String,
    /// What the machine was doing while the sender waited for the stick's answer.
    pub witness: Witness,
}

/// The state of the machine's drives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Witness {
    /// Names of device-mapper mappings.
    pub mappings: Vec<String>,
    /// `SOURCE TARGET` of what is mounted from a mapping or a USB drive, in any mount namespace.
    pub mounts: Vec<String>,
    /// `DRIVE HOLDER` for each drive that something is stacked on.
    pub holders: Vec<String>,
}

impl Light {
    /// What the owner sees after `report`, if it is about the LED at index 1.
    pub fn of(report: &Report) -> Option<Self> {
        match (report.report, bytes(&report.data).as_slice()) {
            (5, [_, 0, 1, r, g, b]) => Some(match (r, g, b) {
                (0, 0, 0) => Self::Off,
                (0x19, 0x19, 0) => Self::Yellow,
                (0, 0x0c, 0) => Self::Green,
                (0x7f, 0, 0) => Self::Red,
                (r, g, b) => Self::Other(*r, *g, *b),
            }),
            _ => None,
        }
    }
}

impl Witness {
    /// Whether no drive is in use.
    pub fn is_at_rest(&self) -> bool {
        self.mappings.is_empty() && self.mounts.is_empty() && self.holders.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.monotonic_ns / 1_000_000;
        write!(f, "{:>7}.{:03} {} report {}: {}", seconds / 1000, seconds % 1000, self.serial, self.report, self.data)?;
        if let Some(light) = Light::of(self) {
            write!(f, " {light:?}")?;
        }
        let Witness { mappings, mounts, holders } = &self.witness;
        for (what, found) in [("mapped", mappings), ("mounted", mounts), ("held", holders)] {
            if !found.is_empty() {
                write!(f, "; {what}: {}", found.join(", "))?;
            }
        }
        Ok(())
    }
}

/// Reads the time line; a line that is not whole yet is left for the next time.
pub(crate) fn parse(text: &str) -> Result<Vec<Report>, serde_json::Error> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(serde_json::from_str).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).filter_map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"realtime_ns":2,"monotonic_ns":1500000000,"serial":"BS000001-2.0","setup":"2109050300000600",
        "report":5,"data":"050001001c00","witness":{"mappings":["extbackup"],"mounts":[],"holders":["sda dm-0"]}}"#;

    #[test]
    fn a_report_reads_as_a_line() {
        let line = LINE.replace('\n', " ").replace("1c00", "0c00") + "\n{\"half";
        let reports = parse(&line).unwrap();
        assert_eq!(
            reports[0].to_string(),
            "      1.500 BS000001-2.0 report 5: 050001000c00 Green; mapped: extbackup; held: sda dm-0"
        );
        assert_eq!(reports.len(), 1);
        assert!(!reports[0].witness.is_at_rest());
    }
}
