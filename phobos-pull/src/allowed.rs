//! What a pull's rsync may do, by the settings of its host.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use phobos_core::sandbox::{Alias, Lookup, Sandbox};
use phobos_site::pull::{Host, Origin};

/// The system user that handles what clients send.
pub(crate) const USER: &str = "phobos-pull";

/// The ports of ssh and of rsync's daemon, where no other is named.
const SSH: u16 = 22;
const RSYNC: u16 = 873;

/// What rsync may do that copies from `origin` of `host` into `space`; `secrets` are the files that its ssh reads,
/// and `control` is where it shares a connection.
pub(crate) fn confinement(
    host: &Host,
    origin: &Origin,
    space: &Path,
    alias: Option<Alias>,
    secrets: &[&Path],
    control: Option<&Path>,
) -> Sandbox {
    let mut read: Vec<PathBuf> = secrets.iter().map(|path| (*path).to_owned()).collect();
    read.extend(host.filter_files.iter().map(|path| path.to_path_buf()));
    let ports = match origin {
        // With a host in between nothing else is connected to.
        Origin::Ssh { .. } => vec![host.jump.as_ref().map_or(host.port, |jump| jump.port).unwrap_or(SSH)],
        Origin::Daemon { port, .. } => vec![port.unwrap_or(RSYNC)],
        Origin::Local => Vec::new(),
    };
    Sandbox {
        user: USER.to_owned(),
        alias,
        folder: space.to_owned(),
        read,
        ports,
        lookup: lookup(host, origin),
        control: control.map(Path::to_owned),
        parent: Some(std::process::id()),
        reads_all: false,
    }
}

/// Whether a name must be looked up, and how this machine does that.
fn lookup(host: &Host, origin: &Origin) -> Lookup {
    let address = match (origin, &host.jump) {
        (Origin::Ssh { .. }, Some(jump)) => jump.address.as_str(),
        _ => origin.address().unwrap_or_default(),
    };
    let is_number = address.split('%').next().is_some_and(|number| number.parse::<IpAddr>().is_ok());
    if is_number { Lookup::None } else { Lookup::of_system() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_for_the_name_of_an_address() {
        let asked = |source: &str| {
            let host = Host::parse(&"luv".parse().unwrap(), source).unwrap();
            lookup(&host, host.connections()[0].origin)
        };
        for address in ["10.0.0.2:/a", "[fe80::1%br-lan]:/a", "rsync://[::1]/a/"] {
            assert_eq!(asked(&format!("source = ['{address}']")), Lookup::None, "{address}");
        }
        assert_eq!(asked("source = ['luv:/a']\njump = '10.0.0.1'"), Lookup::None);
        assert_ne!(asked("source = ['luv:/a']"), Lookup::None);
    }

    #[test]
    fn rsync_may_connect_to_the_host_it_copies_from() {
        let ports = |text: &str| {
            let host = Host::parse(&"luv".parse().unwrap(), text).unwrap();
            let connection = host.connections().remove(0);
            confinement(&host, connection.origin, Path::new("/space"), None, &[], None).ports
        };
        assert_eq!(ports("source = ['luv:/home/']"), [22]);
        assert_eq!(ports("source = ['luv:/home/']\nport = 2222"), [2222]);
        assert_eq!(ports("source = ['luv:/home/']\nport = 2222\njump = 'gate'"), [22]);
        assert_eq!(ports("source = ['luv:/home/']\njump = 'gate:2200'"), [2200]);
        assert_eq!(ports("source = ['rsync://luv/home/']\nport = 2222"), [873]);
        assert_eq!(ports("source = ['rsync://luv:8730/home/']"), [8730]);
        assert!(ports("source = ['/srv']").is_empty());
    }
}
