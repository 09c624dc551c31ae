//! A BlinkStick: descriptors, reports, and what it remembers.

use std::io::Write as _;
use std::str::FromStr;
use std::time::SystemTime;

use anyhow::{Result, anyhow, bail};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::witness;
use crate::{Log, Scope};

/// The head that all report descriptors share, with the reports 1 to 3.
const REPORTS_V1: &str = "0600ff0901a101150026ff007508850195030900b20201850295200900b20201850395200900b20201";

/// The reports 4 to 9 of a Pro.
const REPORTS_PRO: &str = "850495010900b20201850595050900b20201850695190900b20201850795310900b20201850895610900b2020185\
                           0995c10900b20201";

/// The type of a request that no BlinkStick knows, to any vendor's device: it forgets all that it was told.
const FORGET: u8 = 0x40;

/// The LEDs on one channel.
const LEDS: usize = 64;

/// A control request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    bytes: [u8; 8],
}

/// What the stick answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It sends data.
    Data(Vec<u8>),
    /// It took what it was sent.
    Taken,
    /// It does not know the request.
    Stall,
}

/// The models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    V1,
    Pro,
    Strip,
    Square,
    Nano,
    Flex,
}

/// How a stick takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    Willing,
    /// Refuses every report that it is sent.
    Stalls,
    /// Refuses so many requests after each one that it took: it shifts data out.
    Busy {
        /// How many it still refuses.
        refusals: u8,
    },
}

/// How many requests a busy stick refuses after one that it took.
const REFUSALS: u8 = 2;

/// One BlinkStick.
#[derive(Debug)]
pub(crate) struct Stick {
    kind: Kind,
    serial: String,
    habit: Habit,
    memory: Memory,
}

/// What a stick remembers.
#[derive(Debug)]
struct Memory {
    mode: u8,
    led_count: u8,
    blocks: [[u8; 32]; 2],
    /// Colours as red, green, blue for each channel and LED.
    colours: [[[u8; 3]; LEDS]; 3],
}

impl Setup {
    pub(crate) fn new(bytes: [u8; 8]) -> Self {
        Self { bytes }
    }

    /// Whether it is one of the last requests of the kernel's HID driver before the device can be used.
    pub(crate) fn is_last_before_use(self) -> bool {
        self.kind() == (0x21, 0x0a) || (self.kind() == (0x81, 6) && self.bytes[3] == 0x22)
    }

    /// `bmRequestType` and `bRequest`.
    fn kind(self) -> (u8, u8) {
        (self.bytes[0], self.bytes[1])
    }

    fn hex(self) -> String {
        hex(&self.bytes)
    }
}

impl FromStr for Stick {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let kind = match parts.next() {
            Some("v1") => Kind::V1,
            Some("pro") => Kind::Pro,
            Some("strip") => Kind::Strip,
            Some("square") => Kind::Square,
            Some("nano") => Kind::Nano,
            Some("flex") => Kind::Flex,
            _ => bail!("no such kind; there are v1, pro, strip, square, nano, flex"),
        };
        let serial = parts.next().ok_or_else(|| anyhow!("no serial number"))?.to_owned();
        let habit = match parts.next() {
            None => Habit::Willing,
            Some("stall") => Habit::Stalls,
            Some("busy") => Habit::Busy { refusals: 0 },
            Some(other) => bail!("{other} is nothing that a stick does"),
        };
        Ok(Self { kind, serial, habit, memory: Memory::default() })
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self { mode: 2, led_count: 32, blocks: [[0; 32]; 2], colours: [[[0; 3]; LEDS]; 3] }
    }
}

impl Stick {
    /// Answers one control request; a report that is sent to the stick is written down.
    pub(crate) fn answer(&mut self, setup: Setup, payload: &[u8], log: &Log) -> Result<Answer> {
        let [request_type, request, low, high, ..] = setup.bytes;
        let is_class = request_type & 0x60 == 0x20;
        let is_in = request_type & 0x80 != 0;
        Ok(match (is_class, is_in, request) {
            (false, true, 6) => self.descriptor(high, low).map_or(Answer::Stall, Answer::Data),
            (false, true, 0) => Answer::Data(vec![0, 0]),
            (false, true, 8) => Answer::Data(vec![1]),
            (false, true, 10) => Answer::Data(vec![0]),
            // Set configuration, set interface, clear feature; set idle, set protocol.
            (false, false, 9 | 11 | 1) | (true, false, 0x0a | 0x0b) => Answer::Taken,
            // Like the firmware, this looks at the low byte of wValue alone: pyusb sends no report type in the high one.
            (true, true, 1) | (true, false, 9) => {
                let answer = self.report(is_in, low, payload);
                if !is_in || log.scope == Scope::Traffic {
                    self.write_down(setup, low, payload, &answer, log)?;
                }
                answer
            }
            _ if request_type == FORGET => {
                self.memory = Memory::default();
                Answer::Taken
            }
            _ => Answer::Stall,
        })
    }

    /// Answers a request about a report.
    fn report(&mut self, is_in: bool, report: u8, payload: &[u8]) -> Answer {
        match &mut self.habit {
            Habit::Stalls if !is_in => return Answer::Stall,
            Habit::Busy { refusals: refusals @ 1.. } => {
                *refusals -= 1;
                return Answer::Stall;
            }
            Habit::Busy { refusals } => *refusals = REFUSALS,
            Habit::Willing | Habit::Stalls => {}
        }
        if is_in {
            return self.get(report).map_or(Answer::Stall, Answer::Data);
        }
        self.set(report, payload);
        Answer::Taken
    }

    fn descriptor(&self, kind: u8, index: u8) -> Option<Vec<u8>> {
        let reports = self.reports();
        let length = u8::try_from(reports.len()).ok()?;
        let hid = [0x09, 0x21, 0x01, 0x01, 0x00, 0x01, 0x22, length, 0x00];
        Some(match (kind, index) {
            (1, _) => {
                let [low, high] = self.release().to_le_bytes();
                vec![0x12, 1, 0x10, 1, 0, 0, 0, 8, 0xa0, 0x20, 0xe5, 0x41, low, high, 1, 2, 3, 1]
            }
            (2, 0) => {
                let mut bytes = vec![9, 2, 0x22, 0, 1, 1, 0, 0x80, 0x14, 9, 4, 0, 0, 1, 3, 0, 0, 0];
                bytes.extend(hid);
                bytes.extend([7, 5, 0x81, 3, 8, 0, 100]);
                bytes
            }
            (3, 0) => vec![4, 3, 9, 4],
            (3, 1) => string("Agile Innovative Ltd"),
            (3, 2) => string(self.product()),
            (3, 3) => string(&self.serial),
            (0x21, _) => hid.into(),
            (0x22, _) => reports,
            _ => return None,
        })
    }

    fn reports(&self) -> Vec<u8> {
        let mut reports = unhex(REPORTS_V1);
        if self.kind != Kind::V1 {
            reports.extend(unhex(REPORTS_PRO));
        }
        reports.push(0xc0);
        reports
    }

    fn release(&self) -> u16 {
        match self.kind {
            Kind::V1 => 0x0100,
            Kind::Pro | Kind::Square => 0x0200,
            Kind::Strip => 0x0201,
            Kind::Nano => 0x0202,
            Kind::Flex => 0x0203,
        }
    }

    fn product(&self) -> &'static str {
        match self.kind {
            Kind::V1 | Kind::Pro => "BlinkStick",
            Kind::Strip => "BlinkStick Strip",
            Kind::Square => "BlinkStick Square",
            Kind::Nano => "BlinkStick Nano",
            Kind::Flex => "BlinkStick Flex",
        }
    }

    /// A report as it is read back.
    fn get(&self, report: u8) -> Option<Vec<u8>> {
        let [first, ..] = self.memory.colours[0];
        let with_id = |data: &[u8]| {
            let mut bytes = vec![report];
            bytes.extend(data);
            Some(bytes)
        };
        match (self.kind, report) {
            (_, 1) => with_id(&first),
            (_, 2) => with_id(&self.memory.blocks[0]),
            (_, 3) => with_id(&self.memory.blocks[1]),
            (Kind::V1, _) => Some(Vec::new()),
            (_, 4) => with_id(&[self.memory.mode]),
            (_, 5) => with_id(&[0, 0, first[0], first[1], first[2]]),
            (_, 6..=9) => {
                let mut bytes = vec![0];
                for [red, green, blue] in &self.memory.colours[0][..frame(report)] {
                    bytes.extend([green, red, blue]);
                }
                with_id(&bytes)
            }
            (Kind::Flex, 0x81) => with_id(&[self.memory.led_count]),
            _ => None,
        }
    }

    /// Takes a report; what it does not know or has no use for is ignored, as in the firmware.
    fn set(&mut self, report: u8, payload: &[u8]) {
        match (report, payload) {
            (1, [_, red, green, blue, ..]) => self.memory.colours[0][0] = [*red, *green, *blue],
            (2 | 3, [_, text @ ..]) => {
                let block = &mut self.memory.blocks[usize::from(report - 2)];
                let length = text.len().min(block.len());
                block[..length].copy_from_slice(&text[..length]);
            }
            (4, [_, mode, ..]) if self.kind != Kind::V1 => self.memory.mode = *mode,
            (5, [_, channel, index, red, green, blue, ..]) if self.takes_frames() => {
                let led = self
                    .memory
                    .colours
                    .get_mut(usize::from(*channel))
                    .and_then(|leds| leds.get_mut(usize::from(*index)));
                if let Some(led) = led {
                    *led = [*red, *green, *blue];
                }
            }
            (6..=9, [_, channel, data @ ..]) if self.takes_frames() => {
                let Some(leds) = self.memory.colours.get_mut(usize::from(*channel)) else { return };
                for (led, grb) in leds.iter_mut().zip(data.chunks_exact(3)).take(frame(report)) {
                    *led = [grb[1], grb[0], grb[2]];
                }
            }
            (0x81, [_, count, ..]) if self.kind == Kind::Flex => self.memory.led_count = *count,
            _ => {}
        }
    }

    fn takes_frames(&self) -> bool {
        self.kind != Kind::V1 && self.memory.mode >= 2
    }

    fn write_down(&self, setup: Setup, report: u8, payload: &[u8], answer: &Answer, log: &Log) -> Result<()> {
        // First the look, then the time: what is seen to be gone was gone at that time.
        let witness = (log.scope == Scope::Reports).then(witness::look);
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        let realtime = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let data = if let Answer::Data(reply) = answer { reply } else { payload };
        let line = json!({
            "realtime_ns": u64::try_from(realtime.as_nanos())?,
            "monotonic_ns": u64::try_from(monotonic.tv_sec() * 1_000_000_000 + monotonic.tv_nsec())?,
            "serial": self.serial,
            "setup": setup.hex(),
            "report": report,
            "data": hex(data),
            "refused": matches!(answer, Answer::Stall),
            "witness": witness,
        });
        let Ok(mut file) = log.file.lock() else { bail!("another stick failed") };
        file.write_all(format!("{line}\n").as_bytes())?;
        Ok(())
    }
}

/// How many LEDs a report of a whole frame is about.
fn frame(report: u8) -> usize {
    8 << (report - 6)
}

/// A string descriptor.
fn string(text: &str) -> Vec<u8> {
    let mut bytes = vec![0, 3];
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    bytes[0] = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_as_long_as_they_say() {
        for (text, length) in [("v1:BS1", 42), ("pro:BS1", 96)] {
            let stick: Stick = text.parse().unwrap();
            assert_eq!(stick.descriptor(0x22, 0).unwrap().len(), length);
            assert_eq!(stick.descriptor(2, 0).unwrap().len(), 0x22);
            assert_eq!(stick.descriptor(1, 0).unwrap().len(), 0x12);
        }
    }

    #[test]
    fn a_busy_stick_takes_every_third_request() {
        let mut stick: Stick = "pro:BS1:busy".parse().unwrap();
        let taken: Vec<_> = (0..4).map(|_| matches!(stick.report(false, 1, &[0, 1, 2, 3]), Answer::Taken)).collect();
        assert_eq!(taken, [true, false, false, true]);
    }

    #[test]
    fn a_colour_is_read_back_as_grb() {
        let mut stick: Stick = "pro:BS1".parse().unwrap();
        stick.set(5, &[5, 0, 1, 0x19, 0x18, 0]);
        assert_eq!(stick.get(6).unwrap()[..8], [6, 0, 0, 0, 0, 0x18, 0x19, 0]);
    }
}
