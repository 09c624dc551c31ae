//! Pull settings: which hosts, what of them, how to reach them, and what a pull may delete.
//!
//! `[[pull]]` tables in `phobos.toml`, or one file per host in `pull.d` beside it, with the same keys. What is read here is
//! checked once, so that nothing in it can lead out of the holding space, become an option of a program, or be expanded
//! by a shell.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

mod source;
mod values;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::Deserializer;

pub use self::source::{BadJump, BadSource, Jump, Origin, Source};
pub use self::values::{
    BadHostName, BadPattern, BadSshOption, BadTolerated, BadUser, HostName, MaxDelete, Pattern, SshOption, Tolerated,
    User,
};

use self::source::relative;
use crate::lock::LockName;
use crate::values::{AbsolutePath, Size, Span};

/// The folder beside `phobos.toml` with one file per host.
pub const FOLDER: &str = "pull.d";

/// The file beside `phobos.toml` with the host keys of the clients: what ssh(1) calls a known-hosts file.
pub const KNOWN_HOSTS: &str = "known_hosts";

/// The private key beside `phobos.toml` that is shown to clients for which no other is configured.
pub const IDENTITY: &str = "keys/pull";

/// What the name of a key begins with that gives files back to a host, which has the host's name behind it.
pub const RESTORE_KEY: &str = "restore-";

/// How many days such a key is good for: until the day after the next one begins, by the host's clock.
pub const RESTORE_DAYS: u8 = 2;

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

/// The sources that one rsync can copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection<'h> {
    /// Who has them.
    pub origin: &'h Origin,
    /// The sources.
    pub sources: Vec<&'h Source>,
}

/// The values of a host do not fit together; a message starts with the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum BadHost {
    #[error("source: name at least one, such as root@luv:/home/")]
    NoSource,
    #[error("source: {} and {} are copied into each other", .0.display(), .1.display())]
    Nested(PathBuf, PathBuf),
    #[error("root: {} is not below {}", .0.display(), .1.display())]
    Outside(PathBuf, AbsolutePath),
    #[error("source: give this machine's own folders a host of their own")]
    Mixed,
    #[error("port: there is no port 0")]
    NoPort,
    #[error("time-limit: it must be longer than nothing")]
    NoTime,
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

    /// The private key that gives files back to the host, for a day or two: beside the one that reads.
    pub fn restore_key(&self, folder: &Path) -> PathBuf {
        self.identity(folder).with_file_name(format!("{RESTORE_KEY}{}", self.name))
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
        self.asked(&source.origin, &source.path, source.content)
    }

    /// The same of any path that is asked for at `origin`, and of what is in it where `content` is set.
    pub fn asked(&self, origin: &Origin, wanted: &Path, content: bool) -> String {
        let slash = if content { "/" } else { "" };
        let is_ssh = matches!(origin, Origin::Ssh { .. });
        let is_restricted = is_ssh && *self.root != *Path::new("/");
        match wanted.strip_prefix(&self.root) {
            // rrsync takes its folder for the root and stays there; a leading slash is refused by some versions, and an
            // empty path by others (rsync issues 922 and 1037).
            Ok(path) if is_restricted && path.as_os_str().is_empty() => ".".to_owned(),
            Ok(path) if is_restricted => format!("{}{slash}", path.display()),
            _ if wanted == Path::new("/") && is_ssh => "/.".to_owned(),
            _ if wanted == Path::new("/") => "/".to_owned(),
            _ => format!("{}{slash}", wanted.display()),
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

/// A host as it is written, in a file of its own or in the table of all.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["source"]))]
#[expect(clippy::struct_excessive_bools, reason = "they are rsync's own switches, each a key of its own")]
pub(crate) struct RawHost {
    /// Its name here: of its holding space and its unit.
    #[schemars(extend("examples" = ["luv"]))]
    host: Option<HostName>,
    /// What is copied: `[USER@]HOST:/PATH` with ssh, `rsync://HOST[:PORT]/MODULE/PATH` from a daemon, or `/PATH` of this machine. It
    /// lies under its whole path in the holding space.
    #[schemars(length(min = 1), extend("examples" = [["root@luv:/home/", "root@luv:/etc/"]]))]
    source: Vec<Source>,
    /// What the key may read on the host (`rrsync -ro ROOT`).
    root: AbsolutePath,
    /// Who logs in there, where a source names nobody.
    user: User,
    /// ssh's port there.
    #[schemars(range(min = 1), extend("examples" = [22]))]
    port: Option<u16>,
    /// The private key that is shown to it.
    #[schemars(extend("examples" = ["/etc/phobos/keys/pull"]))]
    identity: Option<AbsolutePath>,
    /// The host in between, reached with the same key and the same known hosts.
    #[schemars(extend("examples" = ["root@gate:22"]))]
    jump: Option<Jump>,
    /// More options for ssh, as in its configuration.
    #[schemars(extend("examples" = [["ConnectTimeout=5"]]))]
    ssh_options: Vec<SshOption>,
    /// What is left out: patterns as in rsync(1), with a leading / from `root` on.
    #[schemars(extend("examples" = [["/home/*/.cache/"]]))]
    exclude: Vec<Pattern>,
    /// Files with filter rules, as in rsync(1).
    #[schemars(extend("examples" = [["/etc/phobos/luv.filter"]]))]
    filter_files: Vec<AbsolutePath>,
    /// Whether the copy stays on the file systems that the sources are on.
    one_file_system: bool,
    /// How much may be copied in a second.
    #[schemars(extend("examples" = ["10MiB"]))]
    bandwidth_limit: Option<Size>,
    /// How long a pull may take.
    time_limit: Span,
    /// Whether owners are kept as numbers rather than as names.
    numeric_ids: bool,
    /// Whether hard links are kept.
    hard_links: bool,
    /// Whether ACLs are kept.
    acls: bool,
    /// Whether extended attributes are kept.
    xattrs: bool,
    /// Whether what the host no longer has is deleted.
    delete: bool,
    /// How much is deleted at once: a number of files, or a share of more than 100 files (of fewer, any but the last).
    max_delete: MaxDelete,
    /// Which exit codes of rsync are a success besides 0: 23 (some files could not be copied), 24 (some vanished meanwhile).
    success: Vec<Tolerated>,
    /// Whether the host may be away.
    optional: bool,
    /// For how long it may be away, and how old its last good pull may be.
    stale_after: Span,
}

impl Default for RawHost {
    fn default() -> Self {
        Self {
            host: None,
            source: Vec::new(),
            root: AbsolutePath::fixed("/"),
            // Whoever runs ssh here is an ordinary user of its own, whom no client knows.
            user: User("root".to_owned()),
            port: None,
            identity: None,
            jump: None,
            ssh_options: Vec::new(),
            exclude: Vec::new(),
            filter_files: Vec::new(),
            one_file_system: false,
            bandwidth_limit: None,
            time_limit: Span(Duration::from_secs(12 * 60 * 60)),
            numeric_ids: true,
            hard_links: true,
            acls: true,
            xattrs: true,
            delete: true,
            max_delete: MaxDelete::Percent(50),
            success: vec![Tolerated::Vanished],
            optional: false,
            stale_after: Span(Duration::from_secs(7 * 24 * 60 * 60)),
        }
    }
}

impl RawHost {
    /// The host, if its values fit together.
    fn checked(self, name: HostName) -> Result<Host, BadHost> {
        let root = self.root;
        if self.source.is_empty() {
            return Err(BadHost::NoSource);
        }
        for (index, source) in self.source.iter().enumerate() {
            let place = source.place();
            if let Some(other) = self.source.iter().take(index).find(|other| {
                let other = other.place();
                place.starts_with(&other) || other.starts_with(&place)
            }) {
                return Err(BadHost::Nested(other.place(), place));
            }
            if matches!(source.origin, Origin::Ssh { .. }) && !source.path.starts_with(&root) {
                return Err(BadHost::Outside(source.path.clone(), root));
            }
        }
        let local = self.source.iter().filter(|source| source.origin == Origin::Local).count();
        if local != 0 && local != self.source.len() {
            return Err(BadHost::Mixed);
        }
        if self.port == Some(0) {
            return Err(BadHost::NoPort);
        }
        if self.time_limit.0.is_zero() {
            return Err(BadHost::NoTime);
        }
        Ok(Host {
            name,
            sources: self.source,
            root,
            user: self.user,
            port: self.port,
            identity: self.identity,
            jump: self.jump,
            ssh_options: self.ssh_options,
            exclude: self.exclude,
            filter_files: self.filter_files,
            bandwidth_limit: self.bandwidth_limit,
            time_limit: self.time_limit,
            numeric_ids: self.numeric_ids,
            hard_links: self.hard_links,
            acls: self.acls,
            xattrs: self.xattrs,
            delete: self.delete,
            one_file_system: self.one_file_system,
            optional: self.optional,
            stale_after: self.stale_after,
            max_delete: self.max_delete,
            success: self.success,
        })
    }
}

impl JsonSchema for Host {
    fn schema_name() -> Cow<'static, str> {
        "Host".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RawHost::json_schema(generator);
        schema.insert("required".to_owned(), vec!["host", "source"].into());
        schema
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        let mut raw = RawHost::deserialize(table)?;
        let name = raw.host.take().ok_or_else(|| serde::de::Error::missing_field("host"))?;
        raw.checked(name).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
