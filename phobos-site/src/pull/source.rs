//! Where a host's files come from: sources, who has them, the host in between; nothing in them is an option or a shell's.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::User;

/// A tree or file to copy: `[USER@]HOST:/PATH`, `rsync://[USER@]HOST[:PORT]/MODULE/PATH`, or `/PATH` on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("pattern" = "^(rsync://[^/]+/.+|([^@:/]+@)?([^:/\\[]+|\\[.+\\]):/.*|/.*)$"))]
pub struct Source {
    /// Who has it.
    pub origin: Origin,
    /// Where it is there: absolute and normal, within the module where there is one.
    pub path: PathBuf,
    /// Whether a symbolic link at the path is followed: it was written with a slash at its end.
    pub content: bool,
}

/// Who has a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A host with ssh.
    Ssh {
        /// The user to log in as.
        user: Option<User>,
        /// The host's name or address, an IPv6 address in brackets.
        address: String,
    },
    /// An rsync daemon.
    Daemon {
        /// The daemon's user.
        user: Option<User>,
        /// The host's name or address, an IPv6 address in brackets.
        address: String,
        /// The daemon's port, if not 873.
        port: Option<u16>,
        /// The module.
        module: String,
    },
    /// This machine.
    Local,
}

/// The text is no [`Source`].
#[derive(Debug, thiserror::Error)]
#[error("{text:?} {reason}")]
pub struct BadSource {
    text: String,
    reason: &'static str,
}

/// A host in between: `[USER@]HOST[:PORT]`, an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String")]
pub struct Jump {
    /// The user to log in as there, root if none is configured.
    pub user: Option<User>,
    /// Its name or address, without brackets.
    pub address: String,
    /// Its ssh's port, if not 22.
    pub port: Option<u16>,
}

/// The text is no [`Jump`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {reason}; a host in between is root@gate or root@gate:2222")]
pub struct BadJump {
    text: String,
    reason: &'static str,
}

impl Source {
    /// Where its copy is, below the holding space of its host.
    pub fn place(&self) -> PathBuf {
        match &self.origin {
            Origin::Daemon { module, .. } => Path::new(module).join(relative(&self.path)).components().collect(),
            Origin::Ssh { .. } | Origin::Local => relative(&self.path),
        }
    }
}

impl Origin {
    /// The host's name or address as a network has it, without brackets; `None` for this machine.
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::Ssh { address, .. } | Self::Daemon { address, .. } => Some(unbracketed(address)),
            Self::Local => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh { address, .. } => f.write_str(address),
            Self::Daemon { address, module, .. } => write!(f, "{address}, module {module}"),
            Self::Local => f.write_str("this machine"),
        }
    }
}

/// An absolute path without its leading slash.
pub(super) fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

impl TryFrom<String> for Source {
    type Error = BadSource;

    fn try_from(text: String) -> Result<Self, BadSource> {
        parse_source(&text).map_err(|reason| BadSource { text, reason })
    }
}

fn parse_source(text: &str) -> Result<Source, &'static str> {
    const FORMS: &str = "is no source such as root@luv:/home/, rsync://luv/module/ or /srv/";
    if text.starts_with('/') {
        return with_path(Origin::Local, text);
    }
    if let Some(rest) = text.strip_prefix("rsync://") {
        let (authority, rest) = rest.split_once('/').ok_or(FORMS)?;
        let (module, path) = rest.split_once('/').unwrap_or((rest, ""));
        if module.is_empty() || module.starts_with(['-', '.']) || module.contains(is_forbidden) {
            return Err("names no module");
        }
        let (user, host) = split_user(authority)?;
        let (address, port) = split_port(host)?;
        let origin = Origin::Daemon { user, address: checked_address(address)?, port, module: module.to_owned() };
        return with_path(origin, &format!("/{path}"));
    }
    let start = text.find(":/").ok_or(FORMS)?;
    let (authority, path) = text.split_at(start);
    let (user, address) = split_user(authority)?;
    with_path(Origin::Ssh { user, address: checked_address(address)? }, path.get(1..).unwrap_or_default())
}

fn with_path(origin: Origin, text: &str) -> Result<Source, &'static str> {
    let path = Path::new(text);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("must not have .. in it");
    }
    // A shell on the host would expand the first, rsync's own escaping gets the last wrong.
    if text.contains(is_forbidden) {
        return Err("must not have *, ?, [, ], \\ or control characters in it; exclude what is not wanted");
    }
    Ok(Source { origin, path: path.components().collect(), content: text.ends_with('/') })
}

fn is_forbidden(c: char) -> bool {
    c.is_control() || matches!(c, '*' | '?' | '[' | ']' | '\\')
}

fn split_user(authority: &str) -> Result<(Option<User>, &str), &'static str> {
    match authority.rsplit_once('@') {
        Some((user, host)) => Ok((Some(User::try_from(user.to_owned()).map_err(|_| "has no good user")?), host)),
        None => Ok((None, authority)),
    }
}

/// Whether this is the name of a network interface, such as `br-lan` or `eth0.10`.
fn is_zone(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

fn split_port(host: &str) -> Result<(&str, Option<u16>), &'static str> {
    match host.rsplit_once(':') {
        // The colons of an IPv6 address are within its brackets.
        Some((address, port)) if !port.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port != 0).ok_or("has no good port")?;
            Ok((address, Some(port)))
        }
        _ => Ok((host, None)),
    }
}

/// An address as a network has it.
fn unbracketed(address: &str) -> &str {
    address.trim_start_matches('[').trim_end_matches(']')
}

/// A host's name or address that can be neither an option nor anything to a shell.
fn checked_address(text: &str) -> Result<String, &'static str> {
    let is_name = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let is_v6 = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|inner| {
        let (number, zone) = inner.split_once('%').unwrap_or((inner, "0"));
        number.parse::<std::net::Ipv6Addr>().is_ok() && is_zone(zone)
    });
    if is_name || is_v6 { Ok(text.to_owned()) } else { Err("has no good host") }
}

impl TryFrom<String> for Jump {
    type Error = BadJump;

    fn try_from(text: String) -> Result<Self, BadJump> {
        let parse = || {
            let (user, host) = split_user(&text)?;
            let (address, port) = split_port(host)?;
            let address = checked_address(address)?;
            Ok(Self { user, address: unbracketed(&address).to_owned(), port })
        };
        parse().map_err(|reason| BadJump { text: text.clone(), reason })
    }
}
