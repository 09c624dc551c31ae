//! How a confined program finds the addresses of hosts, and which sockets that takes.

use std::fs;

/// Which sockets a program may open besides those for TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// None: it is given addresses, or finds names in a file.
    None,
    /// Those for UDP: it asks name servers.
    Servers,
    /// Those for UDP, and local ones: it asks services of this machine for names.
    Services,
}

impl Lookup {
    /// How the machine finds the addresses of hosts, by its nsswitch.conf(5).
    pub fn of_system() -> Self {
        fs::read_to_string("/etc/nsswitch.conf").map_or(Self::Servers, |text| Self::parse(&text))
    }

    pub(super) fn parse(nsswitch: &str) -> Self {
        let hosts = nsswitch.lines().find_map(|line| line.trim().strip_prefix("hosts:")).unwrap_or("files dns");
        let hosts = hosts.split('#').next().unwrap_or_default();
        let asks_servers = |service: &str| {
            matches!(service, "files" | "dns" | "myhostname")
                || service.starts_with(['[', '!'])
                || service.ends_with(']')
        };
        if hosts.split_whitespace().all(asks_servers) { Self::Servers } else { Self::Services }
    }

    pub(super) fn word(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Servers => Some("servers"),
            Self::Services => Some("services"),
        }
    }
}

/// The text is no [`Lookup`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither servers nor services")]
pub struct BadLookup(String);

impl std::str::FromStr for Lookup {
    type Err = BadLookup;

    fn from_str(text: &str) -> Result<Self, BadLookup> {
        let known = [Self::Servers, Self::Services].into_iter().find(|lookup| lookup.word() == Some(text));
        known.ok_or_else(|| BadLookup(text.to_owned()))
    }
}
