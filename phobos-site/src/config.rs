//! `/etc/phobos/phobos.toml`: read once, checked while it is read, refused as a whole if anything in it is wrong.
//!
//! The values are types that cannot hold nonsense ([`AbsolutePath`], [`DriveName`]), so every mistake is found
//! where it stands and is told with file, line and key.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

mod backup;
mod drop_ins;
mod external;
mod mistakes;
mod reading;
mod schema;
mod shown;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phobos_core::error::{Class, Classified};
use schemars::JsonSchema;
use serde::Deserialize;

use self::reading::{Mistake, Step, check_names, read, read_trusted, toml_files, understand, wrong};
use crate::hook::Hook;
use crate::pull::{self, Host, HostName};
use crate::{led, mail};

pub use self::backup::Backup;
pub use self::drop_ins::FOLDER as DRIVES;
pub use self::external::{BadDriveChoice, BadDriveName, Container, Crypttab, Drive, DriveChoice, DriveName, External};
pub use self::shown::{SAMPLE, Setting};
pub use crate::values::{AbsolutePath, Reserve, Size, Span};

/// Where the configuration is, unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/phobos/phobos.toml";

/// The usual name of the file.
const DEFAULT_NAME: &str = "phobos.toml";

/// Everything that can be configured; the defaults are the original's values.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The backup file system and its namespace.
    pub backup: Backup,
    /// The locks.
    pub locks: Locks,
    /// The off-site drives.
    pub external: External,
    /// The light.
    pub led: led::Settings,
    /// The mail about failed units.
    pub mail: mail::Settings,
    /// The hosts that are pulled, here or one a file in /etc/phobos/pull.d/HOST.toml, without the heading and `host`.
    pub pull: Vec<Host>,
    /// Programs that are told how jobs end and what becomes due, by phobos-status-hook.path: each gets one JSON document on its
    /// standard input, as a user without rights.
    pub hook: Vec<Hook>,
    /// The folder that the file is in, and other files of the configuration beside it.
    #[schemars(skip)]
    pub folder: PathBuf,
}

/// A table of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// `[backup]`.
    Backup,
    /// `[external]`.
    External,
    /// `[locks]`.
    Locks,
    /// `[led]`.
    Led,
    /// `[mail]`.
    Mail,
    /// `[[pull]]`.
    Pull,
    /// `[[hook]]`.
    Hook,
}

/// `[locks]`: the locks between jobs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Locks {
    /// How long a job waits for others that use the same, and for Borg's own lock.
    pub wait: Span,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file can be written by others than root, who could make root do anything.
    #[error("refusing {}: it can be written by others than root; run `chown root {0} && chmod go-w {0}`", path.display())]
    Writable {
        /// The file.
        path: PathBuf,
    },
    /// Something in the file is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key, and what is wrong with it.
        message: String,
    },
}

impl Classified for ConfigError {
    fn class(&self) -> Class {
        match self {
            Self::Read { .. } | Self::Writable { .. } | Self::Wrong { .. } => Class::Config,
        }
    }
}

/// One table of a text, or its defaults; mistakes in other tables do not matter.
macro_rules! part {
    ($path:expr, $text:expr, $name:ident: $kind:ty) => {{
        #[derive(Deserialize)]
        struct Part {
            #[serde(default)]
            $name: $kind,
        }
        understand::<Part>($path, $text)?.$name
    }};
}

impl Config {
    /// Reads these tables of the configuration; without a `path` those of the default one, which may be absent. The others
    /// have their defaults, so that a mistake in one table silences only those who need it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, can be written by others than root, or has a mistake in one of the tables.
    pub fn load(path: Option<&Path>, tables: &[Table]) -> Result<Self, ConfigError> {
        let mut config = match read(path)? {
            Some((file, text)) => Self::parse_tables(file, &text, tables)?,
            None => Self::default(),
        };
        if tables.contains(&Table::External) {
            drop_ins::add(&config.folder, &mut config.external, &config.backup)?;
        }
        Ok(config.resolved())
    }

    /// The same with both mount points where they really are: the kernel's table of mounts knows no links.
    fn resolved(mut self) -> Self {
        let backup = &mut self.backup;
        let real = backup.mount.real();
        backup.repository = backup.repository.moved(&backup.mount, &real);
        backup.holding = backup.holding.moved(&backup.mount, &real);
        backup.mount = real;
        self.external.mount = self.external.mount.real();
        self
    }

    /// All hosts that are pulled: those of the file, and those with a file of their own in `pull.d` beside it.
    ///
    /// # Errors
    ///
    /// The first mistake in one of the files; two hosts of one name are one.
    pub fn hosts(&self) -> Result<Vec<Host>, ConfigError> {
        let folder = self.folder.join(pull::FOLDER);
        let mut hosts = self.pull.clone();
        for name in host_files(&folder)? {
            hosts.extend(self.host_of_file(&name)?);
        }
        Ok(hosts)
    }

    /// The host called `name`, if there is one; a mistake in another host's file does not matter.
    ///
    /// # Errors
    ///
    /// The first mistake in the host's own file.
    pub fn host(&self, name: &HostName) -> Result<Option<Host>, ConfigError> {
        let own = self.host_of_file(name)?;
        Ok(own.or_else(|| self.pull.iter().find(|host| host.name == *name).cloned()))
    }

    /// The host of the file `pull.d/NAME.toml`, if there is such a file.
    fn host_of_file(&self, name: &HostName) -> Result<Option<Host>, ConfigError> {
        let file = self.folder.join(pull::FOLDER).join(format!("{name}.toml"));
        let Some(text) = read_trusted(&file)? else { return Ok(None) };
        let host = Host::parse(name, &text).map_err(|error| wrong(&file, &text, &error))?;
        if self.pull.iter().any(|other| other.name == *name) {
            let message = format!("host: {name} is in the file {DEFAULT_NAME} too; keep one of them");
            return Err(ConfigError::Wrong { path: file, line: 1, message });
        }
        Ok(Some(host))
    }

    /// Reads the light's table alone; a mistake elsewhere in the file must not leave the machine without a light.
    ///
    /// # Errors
    ///
    /// As for [`Config::load`], but for mistakes in other tables.
    pub fn load_led(path: Option<&Path>) -> Result<led::Settings, ConfigError> {
        match read(path)? {
            Some((file, text)) => light(file, &text),
            None => Ok(led::Settings::default()),
        }
    }

    /// Reads all of a configuration from its text; `path` is for messages only.
    ///
    /// # Errors
    ///
    /// The first mistake, with its line and key.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::parse_tables(path, text, &Table::ALL)
    }

    fn parse_tables(path: &Path, text: &str, tables: &[Table]) -> Result<Self, ConfigError> {
        let mut config = Self { folder: folder_of(path), ..Self::default() };
        for table in tables {
            match table {
                Table::Backup => config.backup = part!(path, text, backup: Backup),
                Table::External => config.external = part!(path, text, external: External),
                Table::Locks => config.locks = part!(path, text, locks: Locks),
                Table::Led => config.led = light(path, text)?,
                Table::Mail => config.mail = part!(path, text, mail: mail::Settings),
                Table::Pull => config.pull = part!(path, text, pull: Vec<Host>),
                Table::Hook => config.hook = part!(path, text, hook: Vec<Hook>),
            }
        }
        // Whoever reads the places of the backups acts on them: a table of his own that he misspelt must not be passed over.
        if tables.contains(&Table::Backup) {
            check_names(path, text, &Table::ALL.map(Table::name))?;
        }
        config.check(tables).map_err(|mistake| mistake.in_file(path, text))?;
        Ok(config)
    }

    /// What no single value can tell: how the values fit together.
    fn check(&self, tables: &[Table]) -> Result<(), Mistake> {
        for table in tables {
            match table {
                Table::Backup => self.backup.check()?,
                Table::External => self.external.check(&self.backup)?,
                Table::Mail => self
                    .mail
                    .check()
                    .map_err(|(key, message)| Mistake::new(&[Step::Key("mail"), Step::Key(key)], message))?,
                Table::Pull => self.check_hosts()?,
                Table::Locks | Table::Led | Table::Hook => {}
            }
        }
        Ok(())
    }

    fn check_hosts(&self) -> Result<(), Mistake> {
        let mut names = BTreeSet::new();
        for (index, host) in self.pull.iter().enumerate() {
            if !names.insert(&host.name) {
                let at = [Step::Key("pull"), Step::Index(index), Step::Key("host")];
                return Err(Mistake::new(&at, format!("two hosts are named {}", host.name)));
            }
        }
        Ok(())
    }
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 7] =
        [Self::Backup, Self::External, Self::Locks, Self::Led, Self::Mail, Self::Pull, Self::Hook];

    /// The table's name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::External => "external",
            Self::Locks => "locks",
            Self::Led => "led",
            Self::Mail => "mail",
            Self::Pull => "pull",
            Self::Hook => "hook",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            backup: Backup::default(),
            external: External::default(),
            locks: Locks::default(),
            led: led::Settings::default(),
            mail: mail::Settings::default(),
            pull: Vec::new(),
            hook: Vec::new(),
            folder: folder_of(Path::new(DEFAULT_PATH)),
        }
    }
}

impl Default for Locks {
    fn default() -> Self {
        Self { wait: Span(Duration::from_secs(12 * 60 * 60)) }
    }
}

/// The hosts that have a file in `folder`, in the order of their names.
fn host_files(folder: &Path) -> Result<Vec<HostName>, ConfigError> {
    let mut names = Vec::new();
    for path in toml_files(folder)? {
        names.push(host_name(&path)?);
    }
    names.sort();
    Ok(names)
}

/// The host whose file this is.
fn host_name(file: &Path) -> Result<HostName, ConfigError> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let named = HostName::try_from(name);
    named.map_err(|error| ConfigError::Wrong { path: file.to_owned(), line: 1, message: error.to_string() })
}

/// The folder that a file of the configuration is in.
fn folder_of(path: &Path) -> PathBuf {
    let default = Path::new(DEFAULT_PATH);
    let folder = path.parent().filter(|folder| folder.is_absolute()).or_else(|| default.parent());
    folder.unwrap_or(Path::new("/")).to_owned()
}

/// The light's table of the text, or its first mistake.
fn light(path: &Path, text: &str) -> Result<led::Settings, ConfigError> {
    led::Settings::parse(text).map_err(|error| ConfigError::Wrong {
        path: path.to_owned(),
        line: error.line(),
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
