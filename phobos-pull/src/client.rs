//! A host as the commands about its keys see it.

use phobos_core::ssh;
use phobos_site::exit::{Exit, Stop};
use phobos_site::pull::{Host, Origin};

/// The port of ssh where no other is configured.
const SSH: u16 = 22;

/// One ssh server of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its name or address.
    pub(crate) address: String,
    /// Its port.
    pub(crate) port: u16,
}

/// The ssh servers that a host is reached through, each once.
///
/// # Errors
///
/// If there are none.
pub(crate) fn servers(host: &Host) -> Result<Vec<Server>, anyhow::Error> {
    // The host in between comes first: the others are reached through it.
    let gate = host.jump.as_ref().map(|jump| Server { address: jump.address.clone(), port: jump.port.unwrap_or(SSH) });
    let mut servers: Vec<Server> = gate.iter().cloned().collect();
    for source in &host.sources {
        if let (Origin::Ssh { .. }, Some(address)) = (&source.origin, source.origin.address()) {
            let server = Server { address: address.to_owned(), port: host.port.unwrap_or(SSH) };
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
    }
    if servers.len() == gate.iter().len() {
        return Err(Stop::new(Exit::Config, format!("{} has no source that is reached with ssh", host.name)).into());
    }
    Ok(servers)
}

/// Writes results to standard output, as a whole.
///
/// # Errors
///
/// If nobody takes them.
pub(crate) fn say(text: &str) -> Result<(), anyhow::Error> {
    Ok(phobos_site::logging::result(text)?)
}

impl Server {
    /// Its name in a known-hosts file.
    pub(crate) fn known_as(&self) -> String {
        ssh::known_as(&self.address, self.port)
    }
}
