//! What a pull's rsync may do, by the settings of its host.

use std::path::{Path, PathBuf};

use phobos_core::confine::Confinement;
use phobos_site::pull::{Host, Origin, SshOption};

/// The system user that handles what clients send.
pub(crate) const USER: &str = "phobos-pull";

/// The ports of ssh and of rsync's daemon, where no other is named.
const SSH: u16 = 22;
const RSYNC: u16 = 873;

/// What rsync may do that copies from `origin` of `host` into `space`; `secrets` are the files that its ssh reads.
pub(crate) fn confinement(host: &Host, origin: &Origin, space: &Path, secrets: &[&Path]) -> Confinement {
    let mut read: Vec<PathBuf> = secrets.iter().map(|path| (*path).to_owned()).collect();
    read.extend(host.filter_files.iter().map(|path| path.to_path_buf()));
    let mut ports = match origin {
        Origin::Ssh { .. } => vec![host.port.unwrap_or(SSH)],
        Origin::Daemon { port, .. } => vec![port.unwrap_or(RSYNC)],
        Origin::Local => Vec::new(),
    };
    // The host in between may be reached at ssh's own port.
    if matches!(origin, Origin::Ssh { .. }) && host.ssh_options.iter().any(SshOption::is_proxy) {
        ports.push(SSH);
    }
    ports.dedup();
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
        assert_eq!(ports("source = ['luv:/home/']\nport = 2222\nssh-options = ['proxyjump=gate']"), [2222, 22]);
        assert_eq!(ports("source = ['rsync://luv/home/']\nport = 2222"), [873]);
        assert_eq!(ports("source = ['rsync://luv:8730/home/']"), [8730]);
        assert!(ports("source = ['/srv']").is_empty());
    }
}
