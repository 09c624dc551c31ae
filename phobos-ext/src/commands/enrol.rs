//! How a drive becomes one of this machine's: its file in the configuration, its unit, its line in the ledger.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::Utc;
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, Invocation};
use phobos_core::fs::{Durability, make_shared, replace};
use phobos_core::luks::Uuid;
use phobos_core::systemd;
use phobos_site::config::{AbsolutePath, Config, Container, DRIVES, Drive, DriveName};
use phobos_site::exit::{Exit, Stop};
use phobos_site::ledger::{Ledger, Mirror};

/// Whether the configuration does not have the drive yet; one that has another drive of that name, or this one by another, is wrong.
pub(super) fn is_new(config: &Config, drive: &Drive) -> Result<bool, Stop> {
    let name = drive.name.as_str();
    for other in &config.external.drive {
        let is_same = match (&other.container, &drive.container) {
            (Container::Luks { uuid, .. }, Container::Luks { uuid: own, .. }) => uuid == own,
            (Container::Plain { device }, Container::Plain { device: own }) => {
                let real = |path: &Path| fs::canonicalize(path).ok();
                device == own || (real(device).is_some() && real(device) == real(own))
            }
            _ => false,
        };
        match (other.name == drive.name, is_same) {
            (true, true) => return Ok(false),
            (false, false) => {}
            (true, false) => {
                return Err(Stop::new(
                    Exit::Config,
                    format!("another drive is called {name}; give this one another name"),
                ));
            }
            (false, true) => {
                let text = format!("this drive is configured already, as {}", other.name.as_str());
                return Err(Stop::new(Exit::Config, text));
            }
        }
    }
    Ok(true)
}

/// Writes down what the drive says of itself; that it cannot is a warning.
pub(super) fn remember(ledger: &Ledger, drive: &Drive, mirror: Option<Mirror>) {
    let written = ledger.update(|book| book.learn(drive.name.as_str(), mirror, Utc::now()));
    if let Err(error) = written {
        log::warn!("{}", Chain(&error));
    }
}

/// Gives the drive its file in the configuration.
pub(super) fn configure(config: &Config, drive: &Drive) -> Result<(), anyhow::Error> {
    let file = file(config, drive);
    if file.exists() {
        let text = format!("{} is there already, and is not this drive's; move it away", file.display());
        return Err(Stop::new(Exit::Config, text).into());
    }
    let text = text(drive);
    let written = make_shared(&config.folder.join(DRIVES))
        .and_then(|()| replace(&file, text.as_bytes(), 0o644, Durability::Synced));
    written.with_context(|| format!("cannot write {}", file.display()))?;
    log::info!("wrote {}", file.display());
    Ok(())
}

/// Where the drive's file is.
pub(super) fn file(config: &Config, drive: &Drive) -> PathBuf {
    config.folder.join(DRIVES).join(format!("{}.toml", drive.name.as_str()))
}

/// The file of the configuration; TOML's strings are JSON's, as far as these names and paths go.
pub(super) fn text(drive: &Drive) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let container = match &drive.container {
        Container::Luks { uuid, key_file } => {
            format!("uuid = {}\nkey-file = {}\n", quoted(uuid.as_str()), quoted(&key_file.to_string_lossy()))
        }
        Container::Plain { device } => format!("device = {}\n", quoted(&device.to_string_lossy())),
    };
    let description = drive.description.as_ref().map(|text| format!("description = {}\n", quoted(text)));
    let description = description.unwrap_or_default();
    format!("[[external.drive]]\nname = {}\n{description}{container}", quoted(drive.name.as_str()))
}

/// Has systemd mirror when the drive is plugged in; where it cannot, that is a warning with the command.
pub(super) fn enable(exec: &dyn Exec, drive: &Drive) {
    let Container::Luks { uuid, .. } = &drive.container else { return };
    let call = enable_call(uuid);
    if let Err(error) = exec.run(&call) {
        log::warn!("{}; plugging the drive in starts a mirror after `{call}`", Chain(&error));
    }
}

/// The call that has systemd do so.
pub(super) fn enable_call(uuid: &Uuid) -> Invocation {
    Invocation::new("systemctl").args(["enable", &unit(uuid)])
}

fn unit(uuid: &Uuid) -> String {
    format!("phobos-ext@{}.service", systemd::escape(uuid.as_str()))
}

/// A drive's name on the command line.
pub(super) fn name(text: &str) -> Result<DriveName, String> {
    DriveName::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// A path on the command line.
pub(super) fn path(text: &str) -> Result<AbsolutePath, String> {
    AbsolutePath::try_from(PathBuf::from(text)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_written_is_read_as_the_drive_that_was_meant() {
        let uuid = Uuid::try_from("11111111-2222-4333-8444-555555555555".to_owned()).unwrap();
        let path = |text: &str| AbsolutePath::try_from(PathBuf::from(text)).unwrap();
        let containers = [
            Container::Luks { uuid: uuid.clone(), key_file: path("/etc/phobos/keys/A \"1\".key") },
            Container::Plain { device: path("/dev/disk/by-label/ext\\x20b") },
        ];
        for container in containers {
            let description = Some("My \"Passport\", serial WX\\1".to_owned());
            let drive = Drive { name: DriveName::try_from("A".to_owned()).unwrap(), container, description };
            let read = Config::parse(Path::new("A.toml"), &text(&drive)).unwrap().external.drive;
            assert_eq!((read[0].name.as_str(), &read[0].container), ("A", &drive.container));
            assert_eq!(read[0].description, drive.description);
        }
        assert_eq!(unit(&uuid), r"phobos-ext@11111111\x2d2222\x2d4333\x2d8444\x2d555555555555.service");
    }

    #[test]
    fn a_drive_that_is_configured_is_not_added_again() {
        let text =
            "[[external.drive]]\nname = 'A'\ndevice = '/dev/x'\n[[external.drive]]\nname = 'B'\ndevice = '/dev/y'\n";
        let config = Config::parse(Path::new("test"), text).unwrap();
        let drive = |name: &str, device: &str| Drive {
            name: DriveName::try_from(name.to_owned()).unwrap(),
            container: Container::Plain { device: AbsolutePath::try_from(PathBuf::from(device)).unwrap() },
            description: None,
        };
        let said = |drive: &Drive| is_new(&config, drive).map_err(|stop| stop.to_string());
        assert_eq!((said(&drive("A", "/dev/x")), said(&drive("C", "/dev/z"))), (Ok(false), Ok(true)));
        assert!(said(&drive("A", "/dev/y")).unwrap_err().contains("another drive is called A"));
        assert!(said(&drive("C", "/dev/y")).unwrap_err().contains("configured already, as B"));
    }
}
