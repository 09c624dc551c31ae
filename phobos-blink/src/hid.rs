//! Real sticks: hidraw through hidapi, with patience for a stick that is still busy.

use std::cell::OnceCell;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use hidapi::{HidApi, HidDevice, HidError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::stick::{Bus, BusError, Identity, Stick};
use crate::usb::{self, Device};

const SYS: &str = "/sys";

/// The pauses before a transfer is tried again: the firmware refuses everything while it shifts data out.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(4), Duration::from_millis(8), Duration::from_millis(16), Duration::from_millis(32)];

/// How long udev may take to hand a new device file to those who may use it.
const UDEV_LIMIT: Duration = Duration::from_secs(2);

/// The names of system errors in hidapi's messages, which is the only form it has them in.
const ERRORS: [(&str, i32); 9] = [
    ("EPIPE", 32),
    ("EIO", 5),
    ("EAGAIN", 11),
    ("EBUSY", 16),
    ("ENXIO", 6),
    ("ENODEV", 19),
    ("EPROTO", 71),
    ("EOVERFLOW", 75),
    ("ETIMEDOUT", 110),
];

/// EIO, EPIPE, EAGAIN and EBUSY: what a stick says that is still busy with the report before.
const TRANSIENT: [i32; 4] = [5, 32, 11, 16];

/// This machine's USB.
pub(crate) struct Usb {
    devices: Vec<Device>,
    opener: Opener,
}

/// Opens device files; all sticks share what hidapi needs for that.
#[derive(Clone, Default)]
struct Opener {
    api: Rc<OnceCell<HidApi>>,
}

impl Usb {
    /// Looks for sticks once.
    pub(crate) fn new() -> Result<Self, BusError> {
        let devices = usb::devices(Path::new(SYS)).map_err(|source| BusError::Other {
            action: format!("list the devices in {SYS}/bus/usb/devices"),
            source,
        })?;
        Ok(Self { devices, opener: Opener::default() })
    }
}

impl Bus for Usb {
    fn sticks(&self) -> Result<Vec<Identity>, BusError> {
        Ok(self.devices.iter().map(|device| device.identity.clone()).collect())
    }

    fn open(&self, place: usize) -> Result<Box<dyn Stick>, BusError> {
        let device = self.devices.get(place).cloned().ok_or_else(|| BusError::Other {
            action: "open the BlinkStick".to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        let opener = self.opener.clone();
        Ok(Box::new(HidStick { hid: opener.open(&device)?, device, opener, is_patient: true }))
    }
}

/// An open stick.
struct HidStick {
    hid: HidDevice,
    device: Device,
    opener: Opener,
    /// Whether it has not failed for good yet; then there is no use in trying everything again and again.
    is_patient: bool,
}

impl HidStick {
    /// Does a transfer; on a transient failure again after a pause, on another once more with the stick found anew.
    fn transfer<T>(&mut self, mut attempt: impl FnMut(&HidDevice) -> Result<T, HidError>) -> io::Result<T> {
        let pauses = if self.is_patient { &PAUSES[..] } else { &[] };
        let result = patiently(pauses, || attempt(&self.hid).map_err(to_io));
        let Err(error) = result else {
            self.is_patient = true;
            return result;
        };
        if !self.is_patient || !self.reopen() {
            self.is_patient = false;
            return Err(error);
        }
        let last = attempt(&self.hid).map_err(to_io);
        self.is_patient = last.is_ok();
        last
    }

    /// Finds the stick anew by its serial number; it may have been plugged out and in.
    fn reopen(&mut self) -> bool {
        let found = usb::devices(Path::new(SYS)).unwrap_or_default();
        let same = found.into_iter().find(|device| device.identity.serial == self.device.identity.serial);
        match same.map(|device| (self.opener.open(&device), device)) {
            Some((Ok(hid), device)) => {
                self.hid = hid;
                self.device = device;
                true
            }
            _ => false,
        }
    }
}

impl Stick for HidStick {
    fn identity(&self) -> &Identity {
        &self.device.identity
    }

    fn send(&mut self, report: u8, payload: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(payload.len() + 1);
        bytes.push(report);
        bytes.extend_from_slice(payload);
        self.transfer(|hid| hid.send_feature_report(&bytes))
    }

    fn get(&mut self, report: u8, length: usize) -> io::Result<Vec<u8>> {
        self.transfer(|hid| {
            let mut bytes = vec![0; length];
            if let Some(first) = bytes.first_mut() {
                *first = report;
            }
            let got = hid.get_feature_report(&mut bytes)?;
            bytes.truncate(got);
            Ok(bytes)
        })
    }
}

/// Tries until it works, fails for good, or there are no more pauses.
fn patiently<T>(pauses: &[Duration], mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for pause in pauses {
        match attempt() {
            Err(error) if is_transient(&error) => std::thread::sleep(*pause),
            other => return other,
        }
    }
    attempt()
}

impl Opener {
    fn open(&self, device: &Device) -> Result<HidDevice, BusError> {
        let name = device.hidraw(Path::new(SYS))?;
        let node = format!("/dev/{name}");
        let failed = |source| BusError::Other { action: format!("open {node}"), source };
        let path = CString::new(node.as_str()).map_err(|error| failed(error.into()))?;
        loop {
            if let Ok(hid) = self.open_path(&path) {
                return Ok(hid);
            }
            // hidapi hides why it cannot open a node.
            // Outside phobos_core::fs: it is a device in /dev, where only root makes names.
            match File::options().read(true).write(true).open(&node) {
                // udev has come round to it in this moment.
                Ok(_) => return self.open_path(&path).map_err(|error| failed(to_io(error))),
                Err(source) if source.kind() != io::ErrorKind::PermissionDenied => return Err(failed(source)),
                Err(_) if !is_new(&node) => return Err(BusError::Denied { node }),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn open_path(&self, path: &CStr) -> Result<HidDevice, HidError> {
        if let Some(api) = self.api.get() {
            return api.open_path(path);
        }
        let api = without_list()?;
        self.api.get_or_init(|| api).open_path(path)
    }
}

/// hidapi, without the list of the machine's HID devices that it makes before anything can be opened.
///
/// For that list it reads every file in sysfs from each device up to the root, which is a thousand and takes many times as
/// long as setting a colour does. Without a file descriptor to spare it finds no device at once, and does not mind.
fn without_list() -> Result<HidApi, HidError> {
    let usual = getrlimit(Resource::Nofile);
    let lowered = setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..usual });
    let api = HidApi::new();
    match lowered {
        Ok(()) => setrlimit(Resource::Nofile, usual).map_err(|error| HidError::IoError { error: error.into() })?,
        Err(error) => log::debug!("hidapi has listed all devices: {error}"),
    }
    api.or_else(|_| HidApi::new())
}

/// Whether a device file was made just now, so that udev may not have come round to it yet.
fn is_new(node: &str) -> bool {
    let made = std::fs::metadata(node).and_then(|node| node.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age < UDEV_LIMIT))
}

fn is_transient(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| TRANSIENT.contains(&number))
}

/// The system error that `error` tells about, if it does.
fn to_io(error: HidError) -> io::Error {
    if let HidError::IoError { error } = error {
        return error;
    }
    let text = error.to_string();
    let word = |name: &str| text.split([' ', ':']).any(|word| word == name);
    match ERRORS.iter().find(|(name, _)| word(name)) {
        Some((_, number)) => io::Error::from_raw_os_error(*number),
        None => io::Error::other(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a transfer is tried, and what comes of it, if the attempts end with these errors, 0 being none.
    fn tried(errors: &[i32]) -> (usize, bool) {
        let mut tried = 0;
        let result = patiently(&PAUSES, || {
            let error = errors.get(tried).copied().unwrap_or_default();
            tried += 1;
            if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
        });
        (tried, result.is_ok())
    }

    #[test]
    fn a_busy_stick_is_asked_again() {
        assert_eq!(tried(&[]), (1, true));
        assert_eq!(tried(&[32, 5]), (3, true));
        assert_eq!(tried(&[32; 9]), (5, false));
        assert_eq!(tried(&[32, 19, 0]), (2, false), "one that is gone is not");
    }

    #[test]
    fn the_system_error_is_found_in_the_message() {
        let told = |message: &str| to_io(HidError::HidApiError { message: message.to_owned() });
        let error = told("ioctl (GFEATURE): EPIPE: Broken pipe");
        assert!(is_transient(&error) && error.to_string() == "Broken pipe (os error 32)", "{error}");
        assert!(!is_transient(&told("ioctl (GFEATURE): ENODEV: No such device")));
        assert_eq!(told("something else").to_string(), "hidapi error: something else");
    }
}
