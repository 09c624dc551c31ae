//! A stick as the rest of the program sees it: who it is, and two kinds of transfer.

use std::fmt;
use std::io;

/// A stick that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) serial: String,
    pub(crate) manufacturer: String,
    pub(crate) product: String,
    /// The device's release number, which tells the models of the third generation apart.
    pub(crate) release: u16,
}

/// The bus that sticks are plugged into.
pub(crate) trait Bus {
    /// The sticks that are there, in libusb's order.
    fn sticks(&self) -> Result<Vec<Identity>, BusError>;

    /// Opens the stick at this place in [`Bus::sticks`].
    fn open(&self, place: usize) -> Result<Box<dyn Stick>, BusError>;
}

/// An open stick.
pub(crate) trait Stick {
    /// Who it is.
    fn identity(&self) -> &Identity;

    /// Sends a feature report; `payload` is what comes after its id.
    fn send(&mut self, report: u8, payload: &[u8]) -> io::Result<()>;

    /// Asks for a feature report of up to `length` bytes; its first byte is its id.
    fn get(&mut self, report: u8, length: usize) -> io::Result<Vec<u8>>;
}

/// Why a stick cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusError {
    /// This user may not open it.
    #[error(
        "cannot open {node}: permission denied; install the udev rule with `sudo phobos-blink --add-udev-rule` \
         and plug the stick in again, or run this as a member of the rule's group"
    )]
    Denied { node: String },
    /// It is there and has no device file, because its driver has been taken away.
    #[error(
        "cannot use the BlinkStick at {place}: its driver was detached (blinkstick does that); run `phobos-blink` once \
         as root, or plug the stick in again"
    )]
    Detached { place: String },
    /// It has its driver, and the kernel offers no device file.
    #[error(
        "cannot use the BlinkStick at {place}: its driver {driver} offers no hidraw device; run a kernel with CONFIG_HIDRAW \
         (modprobe hidraw where it is a module)"
    )]
    NoHidraw { place: String, driver: String },
    /// Anything else.
    #[error("cannot {action}")]
    Other { action: String, source: io::Error },
}

/// The models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    BlinkStick,
    Pro,
    Square,
    Strip,
    Nano,
    Flex,
    Unknown,
}

impl Identity {
    /// The model, by the serial number's major version and the release; `None` if the serial number is too short for one.
    pub(crate) fn variant(&self) -> Option<Variant> {
        let major = self.serial.chars().rev().nth(2)?;
        Some(match (major, self.release) {
            ('1', _) => Variant::BlinkStick,
            ('2', _) => Variant::Pro,
            ('3', 0x0200) => Variant::Square,
            ('3', 0x0201) => Variant::Strip,
            ('3', 0x0202) => Variant::Nano,
            ('3', 0x0203) => Variant::Flex,
            _ => Variant::Unknown,
        })
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BlinkStick => "BlinkStick",
            Self::Pro => "BlinkStick Pro",
            Self::Square => "BlinkStick Square",
            Self::Strip => "BlinkStick Strip",
            Self::Nano => "BlinkStick Nano",
            Self::Flex => "BlinkStick Flex",
            Self::Unknown => "Unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_told_apart_by_serial_and_release() {
        let variant =
            |serial: &str, release| Identity { serial: serial.into(), release, ..Identity::default() }.variant();
        let cases = [
            ("BS12345-1.0", 0, Variant::BlinkStick),
            ("BS12345-2.0", 0x200, Variant::Pro),
            ("BS12345-3.0", 0x200, Variant::Square),
            ("BS12345-3.0", 0x201, Variant::Strip),
            ("BS12345-3.0", 0x202, Variant::Nano),
            ("BS12345-3.1", 0x203, Variant::Flex),
            ("BS12345-3.0", 0x9999, Variant::Unknown),
            ("BS12345-4.0", 0x200, Variant::Unknown),
            ("BS12345-0.0", 0, Variant::Unknown),
        ];
        for (serial, release, want) in cases {
            assert_eq!(variant(serial, release), Some(want), "{serial}");
        }
        assert_eq!(variant("ab", 0), None);
    }
}
