//! The sticks in sysfs: who they are, in which order, and whether a driver serves them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::stick::{BusError, Identity};

/// The USB ids of all models.
const IDS: [(&str, &str); 2] = [("idVendor", "20a0"), ("idProduct", "41e5")];

/// How long the kernel may take to make the device file after a driver was bound or a stick plugged in.
const NODE_LIMIT: Duration = Duration::from_secs(1);

/// A stick on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// Its folder, all links resolved.
    folder: PathBuf,
    /// Who it is.
    pub(crate) identity: Identity,
}

/// The sticks below `sys` (that is, `/sys`), in libusb's order: the last in the order of their folders comes first.
pub(crate) fn devices(sys: &Path) -> io::Result<Vec<Device>> {
    let folder = sys.join("bus/usb/devices");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        // A machine without USB has no sticks.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut devices = Vec::new();
    for entry in entries {
        let path = entry?.path();
        // Root hubs (`usb1`) and interfaces (`1-1:1.0`) are no sticks, and a look at each takes its time.
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(b"usb") || name.contains(&b':') {
            continue;
        }
        if IDS.iter().all(|(name, id)| attribute(&path, name).as_deref() == Some(*id)) {
            // What is unplugged at this very moment is not there.
            let Ok(folder) = fs::canonicalize(&path) else { continue };
            let text = |name| attribute(&folder, name).unwrap_or_default();
            let identity = Identity {
                serial: text("serial"),
                manufacturer: text("manufacturer"),
                product: text("product"),
                release: u16::from_str_radix(&text("bcdDevice"), 16).unwrap_or(0),
            };
            // A handful at most: to keep them in order is less code than to sort them.
            let at = devices.partition_point(|other: &Device| other.folder > folder);
            devices.insert(at, Device { folder, identity });
        }
    }
    Ok(devices)
}

impl Device {
    /// The bus's name for it, as in `1-1.2`.
    pub(crate) fn place(&self) -> String {
        self.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The name of its hidraw device, after connecting its driver if the original has taken that away.
    pub(crate) fn hidraw(&self, sys: &Path) -> Result<String, BusError> {
        let interface = self.interface();
        if let Some(name) = hidraw_below(&interface) {
            return Ok(name);
        }
        if !interface.join("driver").exists() {
            self.connect(sys, &interface)?;
        }
        let began = Instant::now();
        loop {
            if let Some(name) = hidraw_below(&interface) {
                return Ok(name);
            }
            if began.elapsed() > NODE_LIMIT {
                return Err(self.without_node(&interface));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Why there is no hidraw device.
    fn without_node(&self, interface: &Path) -> BusError {
        match fs::canonicalize(interface.join("driver")) {
            Ok(driver) => {
                let driver = driver.file_name().unwrap_or_default().to_string_lossy().into_owned();
                BusError::NoHidraw { place: self.place(), driver }
            }
            Err(_) => BusError::Detached { place: self.place() },
        }
    }

    /// Its only interface.
    fn interface(&self) -> PathBuf {
        self.folder.join(format!("{}:1.0", self.place()))
    }

    /// Binds usbhid to the interface again.
    fn connect(&self, sys: &Path, interface: &Path) -> Result<(), BusError> {
        let Some(name) = interface.file_name() else {
            return Err(BusError::Detached { place: self.place() });
        };
        let bind = sys.join("bus/usb/drivers/usbhid/bind");
        match phobos_core::fs::set(&bind, name.as_encoded_bytes()) {
            Ok(()) => {
                log::info!("connected the driver of the BlinkStick at {} again", self.place());
                Ok(())
            }
            // Another process was faster.
            Err(_) if interface.join("driver").exists() => Ok(()),
            // Root only may do this; the udev rule has root do it for everybody, in a moment.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Err(source) => {
                Err(BusError::Other { action: format!("connect the driver through {}", bind.display()), source })
            }
        }
    }
}

/// The hidraw device of an interface: `INTERFACE/0003:20A0:41E5.0001/hidraw/hidraw0`.
fn hidraw_below(interface: &Path) -> Option<String> {
    let children = fs::read_dir(interface).ok()?.filter_map(Result::ok);
    let mut devices = children.filter(|child| child.file_name().as_encoded_bytes().contains(&b':'));
    devices.find_map(|child| {
        let mut names = fs::read_dir(child.path().join("hidraw")).ok()?.filter_map(Result::ok);
        names.next()?.file_name().into_string().ok()
    })
}

fn attribute(folder: &Path, name: &str) -> Option<String> {
    let text = fs::read(folder.join(name)).ok()?;
    let text = String::from_utf8_lossy(&text);
    Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A `/sys` with one stick per place.
    fn sys(places: &[&str]) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let bus = sys.path().join("bus/usb/devices");
        fs::create_dir_all(&bus).unwrap();
        fs::create_dir_all(sys.path().join("bus/usb/drivers/usbhid")).unwrap();
        for place in places {
            let folder = sys.path().join("devices/usb1").join(place);
            fs::create_dir_all(folder.join(format!("{place}:1.0/0003:20A0:41E5.0001/hidraw/hidraw-{place}"))).unwrap();
            let attributes = [
                ("idVendor", "20a0"),
                ("idProduct", "41e5"),
                ("serial", "BS000003-3.1"),
                ("bcdDevice", "0203"),
                ("product", "BlinkStick Flex"),
                ("manufacturer", "Agile Innovative Ltd"),
            ];
            for (name, value) in attributes {
                fs::write(folder.join(name), format!("{value}\n")).unwrap();
            }
            symlink(&folder, bus.join(place)).unwrap();
        }
        let other = sys.path().join("devices/usb1/1-9");
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("idVendor"), "20a0\n").unwrap();
        symlink(&other, bus.join("1-9")).unwrap();
        sys
    }

    #[test]
    fn sticks_come_in_the_order_of_libusb() {
        let sys = sys(&["1-1", "1-3", "1-2"]);
        let devices = devices(sys.path()).unwrap();
        assert_eq!(devices.iter().map(Device::place).collect::<Vec<_>>(), ["1-3", "1-2", "1-1"]);
        let identity = &devices[0].identity;
        assert_eq!((identity.serial.as_str(), identity.release), ("BS000003-3.1", 0x0203));
        assert_eq!(devices[2].hidraw(sys.path()).unwrap(), "hidraw-1-1");
    }

    #[test]
    fn a_machine_without_usb_has_no_sticks() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(devices(sys.path()).unwrap(), []);
    }

    #[test]
    fn a_stick_without_a_driver_gets_it_back() {
        let sys = sys(&["1-1"]);
        let interface = sys.path().join("devices/usb1/1-1/1-1:1.0");
        let bind = sys.path().join("bus/usb/drivers/usbhid/bind");
        fs::remove_dir_all(interface.join("0003:20A0:41E5.0001")).unwrap();
        fs::write(&bind, "").unwrap();
        let device = devices(sys.path()).unwrap().remove(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while fs::read_to_string(&bind).unwrap().is_empty() {
                    std::thread::yield_now();
                }
                fs::create_dir_all(interface.join("0003:20A0:41E5.0002/hidraw/hidraw7")).unwrap();
            });
            assert_eq!(device.hidraw(sys.path()).unwrap(), "hidraw7");
        });
        assert_eq!(fs::read_to_string(&bind).unwrap(), "1-1:1.0");
    }

    #[test]
    fn a_driver_that_offers_no_hidraw_is_not_said_to_be_detached() {
        let sys = sys(&["1-1"]);
        let interface = sys.path().join("devices/usb1/1-1/1-1:1.0");
        fs::remove_dir_all(interface.join("0003:20A0:41E5.0001/hidraw")).unwrap();
        std::os::unix::fs::symlink(sys.path().join("bus/usb/drivers/usbhid"), interface.join("driver")).unwrap();
        let error = devices(sys.path()).unwrap().remove(0).hidraw(sys.path()).unwrap_err();
        assert!(error.to_string().contains("1-1: its driver usbhid offers no hidraw device"), "{error}");
    }

    #[test]
    fn a_driver_that_cannot_be_connected_is_told() {
        let sys = sys(&["1-1"]);
        fs::remove_dir_all(sys.path().join("devices/usb1/1-1/1-1:1.0")).unwrap();
        fs::remove_dir_all(sys.path().join("bus/usb/drivers")).unwrap();
        let error = devices(sys.path()).unwrap().remove(0).hidraw(sys.path()).unwrap_err();
        assert!(error.to_string().starts_with("cannot connect the driver through "), "{error}");
    }
}
