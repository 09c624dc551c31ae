//! Pull settings: which hosts, what of them, how to reach them, and what a pull may delete.
//!
//! `[[pull]]` tables in `phobos.toml`, or one file per host in `pull.d` beside it, with the same keys. What is read here is
//! checked once, so that nothing in it can lead out of the holding space, become an option of a program, or be expanded
//! by a shell.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::lock::{LockName, Word};
use crate::values::{AbsolutePath, Size, Span};

/// The folder beside `phobos.toml` with one file per host.
pub const FOLDER: &str = "pull.d";

/// The file beside `phobos.toml` with the host keys of the clients: what ssh(1) calls a known-hosts file.
pub const KNOWN_HOSTS: &str = "known_hosts";

/// The private key beside `phobos.toml` that is shown to clients for which no other is configured.
pub const IDENTITY: &str = "keys/pull";

/// Up to how many files a holding space is small: then only the loss of all of them is too much.
const SMALL: u64 = 100;

/// What ssh is told by phobos itself, so that nobody can tell it otherwise (in lower case, for comparison).
const OWN_SSH_OPTIONS: [&str; 11] = [
    "batchmode",
    "clearallforwardings",
    "forwardagent",
    "globalknownhostsfile",
    "identitiesonly",
    "identityfile",
    "loglevel",
    "permitlocalcommand",
    "stricthostkeychecking",
    "updatehostkeys",
    "userknownhostsfile",
];

/// One host to pull.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are rsync's own switches, each a key of its own")]
#[non_exhaustive]
pub struct Host {
    /// Its name here: of its holding space, its lock, its unit.
    pub name: HostName,
    /// What is copied of it: at least one, none within another.
    pub sources: Vec<Source>,
    /// What the client's key is restricted to (`rrsync -ro ROOT`): sources are below it, and asked for relative to it.
    pub root: AbsolutePath,
    /// The user to log in as, where a source names none; root, if none is configured.
    pub user: User,
    /// ssh's port, if not 22.
    pub port: Option<u16>,
    /// The private key, if not [`IDENTITY`].
    pub identity: Option<AbsolutePath>,
    /// The host in between, where this one cannot be reached from here.
    pub jump: Option<Jump>,
    /// More options for ssh, as in its configuration: `Key=Value`.
    pub ssh_options: Vec<SshOption>,
    /// Patterns of what is left out (rsync(1), `--exclude`); those with a leading `/` start at `root`.
    pub exclude: Vec<Pattern>,
    /// Files with filter rules (rsync(1), `--filter='merge FILE'`).
    pub filter_files: Vec<AbsolutePath>,
    /// How much may be copied in a second, as rsync's `--bwlimit` takes it.
    pub bandwidth_limit: Option<Size>,
    /// How long a pull may take.
    pub time_limit: Span,
    /// Whether owners are kept as numbers rather than as names.
    pub numeric_ids: bool,
    /// Whether hard links are kept.
    pub hard_links: bool,
    /// Whether ACLs are kept.
    pub acls: bool,
    /// Whether extended attributes are kept.
    pub xattrs: bool,
    /// Whether what the host no longer has is deleted here, at the end.
    pub delete: bool,
    /// Whether the copy stays on the file systems that the sources are on.
    pub one_file_system: bool,
    /// Whether it is no failure that the host is not there, until `stale_after` has passed.
    pub optional: bool,
    /// How old the last good pull may be.
    pub stale_after: Span,
    /// How much one pull may delete.
    pub max_delete: MaxDelete,
    /// Which ends of rsync count as a success, with a note.
    pub success: Vec<Tolerated>,
}

/// A host's name: what can be the name of a lock and of a folder, 1 to 64 bytes of `[A-Za-z0-9._-]`, the first a letter
/// or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct HostName(String);

/// The text is no [`HostName`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no name for a host: use letters, digits, ., - and _, a letter or digit first")]
pub struct BadHostName(String);

/// A tree or file to copy: `[USER@]HOST:/PATH`, `rsync://[USER@]HOST[:PORT]/MODULE/PATH`, or `/PATH` on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
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

/// The sources that one rsync can copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection<'h> {
    /// Who has them.
    pub origin: &'h Origin,
    /// The sources.
    pub sources: Vec<&'h Source>,
}

/// A user's name: 1 to 32 bytes of `[A-Za-z0-9._-]`, the first no `-` and no dot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct User(String);

/// A host in between: `[USER@]HOST[:PORT]`, an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Jump {
    /// The user to log in as there, root if none is configured.
    pub user: Option<User>,
    /// Its name or address, without brackets.
    pub address: String,
    /// Its ssh's port, if not 22.
    pub port: Option<u16>,
}

/// An option of ssh(1) as `Key=Value`, and none that phobos sets itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SshOption(String);

/// A pattern on one line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(String);

/// How much one pull may delete of what a source has in the holding space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxDelete {
    /// Of more than 100 files this share in percent, of fewer any but the last.
    Percent(u8),
    /// So many files, but never the last.
    Files(u64),
}

/// An end of rsync that leaves most files copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub enum Tolerated {
    /// Exit code 23: some files could not be copied. Nothing is deleted then.
    Partial,
    /// Exit code 24: some files vanished while they were read.
    Vanished,
}

impl Host {
    /// Reads a host from the text of its own file; `name` is the file's name without `.toml`.
    ///
    /// # Errors
    ///
    /// The first mistake, as TOML's own error.
    pub fn parse(name: &HostName, text: &str) -> Result<Self, toml::de::Error> {
        let raw: RawHost = toml::from_str(text)?;
        let named = raw.host.as_ref().is_none_or(|host| host == name);
        if !named {
            return Err(serde::de::Error::custom(format!("host: the file's name says {name}")));
        }
        raw.checked(name.clone()).map_err(serde::de::Error::custom)
    }

    /// The lock of its holding space.
    pub fn lock(&self) -> LockName {
        LockName::Host((&self.name).into())
    }

    /// What is copied with one rsync each, in the order in which it is configured.
    pub fn connections(&self) -> Vec<Connection<'_>> {
        let mut connections: Vec<Connection<'_>> = Vec::new();
        for source in &self.sources {
            match connections.iter_mut().find(|connection| *connection.origin == source.origin) {
                Some(connection) => connection.sources.push(source),
                None => connections.push(Connection { origin: &source.origin, sources: vec![source] }),
            }
        }
        connections
    }

    /// Whether its sources are on this machine: then there is no client to be careful of.
    pub fn is_local(&self) -> bool {
        self.sources.iter().all(|source| source.origin == Origin::Local)
    }

    /// The private key that is shown to the host; `folder` is that of `phobos.toml`.
    pub fn identity(&self, folder: &Path) -> PathBuf {
        self.identity.as_deref().map_or_else(|| folder.join(IDENTITY), Path::to_owned)
    }

    /// The user to log in as at `origin`, if one is configured.
    pub fn user_at<'a>(&'a self, origin: &'a Origin) -> Option<&'a User> {
        match origin {
            Origin::Ssh { user, .. } => Some(user.as_ref().unwrap_or(&self.user)),
            Origin::Daemon { user, .. } => user.as_ref(),
            Origin::Local => None,
        }
    }

    /// The folder below the holding space that rsync copies the connection's sources into.
    pub fn landing(&self, origin: &Origin) -> PathBuf {
        match origin {
            Origin::Ssh { .. } => relative(&self.root),
            Origin::Daemon { module, .. } => module.into(),
            Origin::Local => PathBuf::new(),
        }
    }

    /// The path that the host is asked for: the source's, relative to the root that the key is restricted to.
    pub fn asked_path(&self, source: &Source) -> String {
        let slash = if source.content { "/" } else { "" };
        let is_restricted = matches!(source.origin, Origin::Ssh { .. }) && *self.root != *Path::new("/");
        match source.path.strip_prefix(&self.root) {
            // rrsync takes its folder for the root and stays there; a leading slash is refused by some versions, and an
            // empty path by others (rsync issues 922 and 1037).
            Ok(path) if is_restricted && path.as_os_str().is_empty() => ".".to_owned(),
            Ok(path) if is_restricted => format!("{}{slash}", path.display()),
            _ if source.path == Path::new("/") && matches!(source.origin, Origin::Ssh { .. }) => "/.".to_owned(),
            _ if source.path == Path::new("/") => "/".to_owned(),
            _ => format!("{}{slash}", source.path.display()),
        }
    }

    /// The sources of `connection` as arguments of rsync.
    pub fn arguments(&self, connection: &Connection<'_>) -> Vec<String> {
        let user = self.user_at(connection.origin).map(|user| format!("{}@", user.0)).unwrap_or_default();
        let paths = connection.sources.iter().map(|source| self.asked_path(source));
        match connection.origin {
            Origin::Ssh { address, .. } => {
                // Only the first names the host; rsync asks it for all.
                let heads = std::iter::once(format!("{user}{address}")).chain(std::iter::repeat(String::new()));
                heads.zip(paths).map(|(head, path)| format!("{head}:{path}")).collect()
            }
            Origin::Daemon { address, port, module, .. } => {
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                paths.map(|path| format!("rsync://{user}{address}{port}/{module}{path}")).collect()
            }
            Origin::Local => paths.collect(),
        }
    }
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

impl MaxDelete {
    /// How many of `files` may be deleted at once.
    pub fn of(self, files: u64) -> u64 {
        let any_but_the_last = files.saturating_sub(1);
        match self {
            Self::Percent(_) if files <= SMALL => any_but_the_last,
            Self::Percent(percent) => {
                let share = u128::from(files).saturating_mul(u128::from(percent)).checked_div(100).unwrap_or_default();
                u64::try_from(share).unwrap_or(u64::MAX).min(any_but_the_last)
            }
            Self::Files(most) => most.min(any_but_the_last),
        }
    }
}

impl Tolerated {
    /// rsync's exit code.
    pub fn code(self) -> i32 {
        match self {
            Self::Partial => 23,
            Self::Vanished => 24,
        }
    }
}

/// An absolute path without its leading slash.
fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawHost {
    host: Option<HostName>,
    source: Vec<Source>,
    root: Option<AbsolutePath>,
    user: Option<User>,
    port: Option<u16>,
    identity: Option<AbsolutePath>,
    jump: Option<Jump>,
    #[serde(default)]
    ssh_options: Vec<SshOption>,
    #[serde(default)]
    exclude: Vec<Pattern>,
    #[serde(default)]
    filter_files: Vec<AbsolutePath>,
    bandwidth_limit: Option<Size>,
    time_limit: Option<Span>,
    numeric_ids: Option<bool>,
    hard_links: Option<bool>,
    acls: Option<bool>,
    xattrs: Option<bool>,
    delete: Option<bool>,
    #[serde(default)]
    one_file_system: bool,
    #[serde(default)]
    optional: bool,
    stale_after: Option<Span>,
    max_delete: Option<MaxDelete>,
    success: Option<Vec<Tolerated>>,
}

impl RawHost {
    /// The host, if its values fit together; a message starts with the key.
    fn checked(self, name: HostName) -> Result<Host, String> {
        let root = self.root.unwrap_or_else(|| AbsolutePath::fixed("/"));
        if self.source.is_empty() {
            return Err("source: name at least one, such as root@luv:/home/".to_owned());
        }
        for (index, source) in self.source.iter().enumerate() {
            let place = source.place();
            if let Some(other) = self.source.iter().take(index).find(|other| {
                let other = other.place();
                place.starts_with(&other) || other.starts_with(&place)
            }) {
                return Err(format!(
                    "source: {} and {} are copied into each other",
                    other.place().display(),
                    place.display()
                ));
            }
            if matches!(source.origin, Origin::Ssh { .. }) && !source.path.starts_with(&root) {
                return Err(format!("root: {} is not below {}", source.path.display(), root.display()));
            }
        }
        let local = self.source.iter().filter(|source| source.origin == Origin::Local).count();
        if local != 0 && local != self.source.len() {
            return Err("source: give this machine's own folders a host of their own".to_owned());
        }
        if self.port == Some(0) {
            return Err("port: there is no port 0".to_owned());
        }
        if self.time_limit.is_some_and(|limit| limit.0.is_zero()) {
            return Err("time-limit: it must be longer than nothing".to_owned());
        }
        Ok(Host {
            name,
            sources: self.source,
            root,
            // Whoever runs ssh here is an ordinary user of its own, whom no client knows.
            user: self.user.unwrap_or_else(|| User("root".to_owned())),
            port: self.port,
            identity: self.identity,
            jump: self.jump,
            ssh_options: self.ssh_options,
            exclude: self.exclude,
            filter_files: self.filter_files,
            bandwidth_limit: self.bandwidth_limit,
            time_limit: self.time_limit.unwrap_or(Span(Duration::from_secs(12 * 60 * 60))),
            numeric_ids: self.numeric_ids.unwrap_or(true),
            hard_links: self.hard_links.unwrap_or(true),
            acls: self.acls.unwrap_or(true),
            xattrs: self.xattrs.unwrap_or(true),
            delete: self.delete.unwrap_or(true),
            one_file_system: self.one_file_system,
            optional: self.optional,
            stale_after: self.stale_after.unwrap_or(Span(Duration::from_secs(7 * 24 * 60 * 60))),
            max_delete: self.max_delete.unwrap_or(MaxDelete::Percent(50)),
            success: self.success.unwrap_or_else(|| vec![Tolerated::Vanished]),
        })
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        let mut raw = RawHost::deserialize(table)?;
        let name = raw.host.take().ok_or_else(|| serde::de::Error::missing_field("host"))?;
        raw.checked(name).map_err(serde::de::Error::custom)
    }
}

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&HostName> for Word {
    /// A host's name is a word by its own rules.
    fn from(name: &HostName) -> Self {
        Self(name.0.clone())
    }
}

impl TryFrom<String> for HostName {
    type Error = BadHostName;

    fn try_from(text: String) -> Result<Self, BadHostName> {
        if LockName::host(&text).is_ok() { Ok(Self(text)) } else { Err(BadHostName(text)) }
    }
}

impl std::str::FromStr for HostName {
    type Err = BadHostName;

    fn from_str(text: &str) -> Result<Self, BadHostName> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
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
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parse = || {
            let (user, host) = split_user(&text)?;
            let (address, port) = split_port(host)?;
            let address = checked_address(address)?;
            Ok(Self { user, address: unbracketed(&address).to_owned(), port })
        };
        parse().map_err(|reason: &str| format!("{text:?} {reason}; a host in between is root@gate or root@gate:2222"))
    }
}

impl User {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for User {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=32).contains(&text.len()) && !text.starts_with(['-', '.']) && text.chars().all(good) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no user's name"))
        }
    }
}

impl SshOption {
    /// The option as `Key=Value`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SshOption {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let key = text.split_once('=').map(|(key, _)| key).filter(|key| {
            !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric()) && !text.contains(char::is_control)
        });
        let Some(key) = key else {
            return Err(format!("{text:?} is no option of ssh such as ConnectTimeout=5"));
        };
        if ["proxyjump", "proxycommand"].iter().any(|proxy| key.eq_ignore_ascii_case(proxy)) {
            return Err(format!(
                "{key} would start an ssh without the key and the known hosts of phobos; name the host in between with \
                 jump = \"root@gate\""
            ));
        }
        if OWN_SSH_OPTIONS.contains(&key.to_ascii_lowercase().as_str()) {
            return Err(format!("{key} is set by phobos-pull itself and cannot be changed"));
        }
        Ok(Self(text))
    }
}

impl Pattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.contains(char::is_control) {
            Err(format!("{text:?} is no pattern"))
        } else {
            Ok(Self(text))
        }
    }
}

impl TryFrom<i64> for Tolerated {
    type Error = String;

    fn try_from(code: i64) -> Result<Self, String> {
        match code {
            23 => Ok(Self::Partial),
            24 => Ok(Self::Vanished),
            0 => Err("0 is a success in any case".to_owned()),
            _ => Err(format!("{code} cannot count as a success; only 23 (partial) and 24 (vanished) can")),
        }
    }
}

impl<'de> Deserialize<'de> for MaxDelete {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Limit;
        impl Visitor<'_> for Limit {
            type Value = MaxDelete;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of files, or a share such as \"50%\"")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<MaxDelete, E> {
                u64::try_from(number).map(MaxDelete::Files).map_err(|_| E::custom(format!("{number} is below 0")))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<MaxDelete, E> {
                let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
                let percent = percent.filter(|percent| *percent <= 100);
                percent
                    .map(MaxDelete::Percent)
                    .ok_or_else(|| E::custom(format!("{text:?} is no share such as \"50%\"")))
            }
        }
        value.deserialize_any(Limit)
    }
}

#[cfg(test)]
mod tests;
