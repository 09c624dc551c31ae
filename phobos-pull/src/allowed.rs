//! What a pull's rsync may do, by the settings of its host.

use std::path::{Path, PathBuf};

use phobos_core::confine::Confinement;
use phobos_site::pull::{Host, Origin};

/// The system user that handles what clients send.
pub(crate) const USER: &str = "phobos-pull";

/// The ports of ssh and of rsync's daemon, where no other is named.
const SSH: u16 = 22;
const RSYNC: u16 = 873;

/// What rsync may do that copies from `origin` of `host` into `space`; `secrets` are the files that its ssh reads.
pub(crate) fn confinement(host: &Host, origin: &Origin, space: &Path, secrets: &[&Path]) -> Confinement {
    let mut read: Vec<PathBuf> = secrets.iter().map(|path| (*path).to_owned()).collect();
    read.extend(host.filter_files.iter().map(|path| path.to_path_buf()));
    let ports = match origin {
        // With a host in between nothing else is connected to.
        Origin::Ssh { .. } => vec![host.jump.as_ref().map_or(host.port, |jump| jump.port).unwrap_or(SSH)],
        Origin::Daemon { port, .. } => vec![port.unwrap_or(RSYNC)],
        Origin::Local => Vec::new(),
    };
    Confinement { user: USER.to_owned(), folder: space.to_owned(), read, ports, parent: Some(std::process::id()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rsync_may_connect_to_the_host_it_copies_from() {
        let ports = |text: &str| {
            let host = Host::parse(&"luv".parse().unwrap(), text).unwrap();
            let connection = host.connections().remove(0);
            confinement(&host, connection.origin, Path::new("/space"), &[]).ports
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
