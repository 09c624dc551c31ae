//! What ssh must read to reach a host: its key and the known host keys, lent to the one who runs it.

use std::path::Path;

use phobos_core::sandbox::{Lent, SandboxError};
use phobos_core::teardown;
use phobos_site::config::Config;
use phobos_site::exit::{Exit, Stop};
use phobos_site::paths::Paths;
use phobos_site::pull::{Host, HostName, Origin};

use crate::remote::{self, Files};

/// What is lent for a restore to the host.
pub(crate) const RESTORE: &str = "restore";

/// What is lent is called so that it is no pull's, whatever the hosts are called: no host's name has a plus.
pub(crate) fn lent_name(host: &HostName, purpose: &str, what: &str) -> String {
    format!(".{host}+{purpose}.{what}")
}

/// What a pull or a check has borrowed; both belong to root alone, wherever they lie and whatever their modes are.
#[derive(Debug)]
pub(crate) struct Secrets {
    key: Lent,
    known_hosts: Lent,
}

impl Secrets {
    /// Lends what `host` needs, the key `identity` among it, to the user with the number `owner`, as files of their own for `purpose`; nothing for a host that is not reached with ssh.
    ///
    /// # Errors
    ///
    /// If the key or the known hosts are not there yet, with the command that makes them.
    pub(crate) fn lend(
        config: &Config,
        paths: &Paths,
        host: &Host,
        identity: &Path,
        owner: u32,
        purpose: &str,
    ) -> Result<Option<Self>, anyhow::Error> {
        if !host.sources.iter().any(|source| matches!(source.origin, Origin::Ssh { .. })) {
            return Ok(None);
        }
        let known_hosts = remote::known_hosts(&config.folder);
        if !identity.exists() {
            let message = format!("there is no key {}; run `phobos-pull authorize {}`", identity.display(), host.name);
            return Err(Stop::new(Exit::Config, message).into());
        }
        if !known_hosts.exists() {
            let message = format!("its host key is not known; run `phobos-pull trust {}`", host.name);
            return Err(Stop::new(Exit::Refused, message).into());
        }
        let folder = paths.runtime.join("pull");
        // What a restore to the host that was killed has left: its key can write there. The caller has the host's lock.
        if purpose.is_empty() {
            for what in ["key", "hosts", "users"] {
                match std::fs::remove_file(folder.join(lent_name(&host.name, RESTORE, what))) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
        }
        // No host's name begins with a dot.
        let names = match purpose {
            "" => [host.name.to_string(), format!(".{}.hosts", host.name)],
            purpose => ["key", "hosts"].map(|what| lent_name(&host.name, purpose, what)),
        };
        let key = Lent::new(identity, owner, &folder, &names[0])?;
        let known_hosts = Lent::new(&known_hosts, owner, &folder, &names[1])?;
        Ok(Some(Self { key, known_hosts }))
    }

    /// Where they are.
    pub(crate) fn files(secrets: Option<&Self>) -> Files<'_> {
        secrets.map_or(Files { known_hosts: Path::new(""), identity: Path::new(""), control: None }, |secrets| Files {
            known_hosts: secrets.known_hosts.path(),
            identity: secrets.key.path(),
            control: None,
        })
    }

    /// Takes them back.
    ///
    /// # Errors
    ///
    /// If one cannot be removed; it is still there.
    pub(crate) fn close(self) -> Result<(), teardown::TeardownError> {
        let (key, known_hosts): (Result<(), SandboxError>, _) = (self.key.close(), self.known_hosts.close());
        teardown::join(key, known_hosts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_for_one_host_is_called_like_nothing_of_anothers() {
        let host = |name: &str| name.parse::<HostName>().unwrap();
        let lent = lent_name(&host("luv"), RESTORE, "hosts");
        assert_eq!(lent, ".luv+restore.hosts");
        // As a pull of that host has it.
        assert_ne!(lent, format!(".{}.hosts", host("luv.restore")));
        assert!("luv+restore".parse::<HostName>().is_err());
    }
}
