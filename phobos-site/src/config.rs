//! `/etc/phobos/phobos.toml`: read once, checked while it is read, refused as a whole if anything in it is wrong.
//!
//! The values are types that cannot hold nonsense ([`AbsolutePath`], [`MapperName`], [`Uuid`]), so every mistake is found
//! where it stands and is told with file, line and key.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::pull::{self, Host, HostName};
use crate::{led, mail};
use phobos_core::luks::{MapperName, Uuid};

pub use crate::values::{AbsolutePath, Size, Span};

/// Where the configuration is, unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/phobos/phobos.toml";

/// The usual name of the file.
const DEFAULT_NAME: &str = "phobos.toml";

/// Everything that can be configured; the defaults are the original's values.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Config {
    /// The backup file system and its namespace.
    pub backup: Backup,
    /// The off-site drives.
    pub external: External,
    /// The light.
    #[serde(deserialize_with = "read_apart")]
    pub led: led::Settings,
    /// The mail about failed units.
    pub mail: mail::Settings,
    /// The hosts that are pulled; [`Config::hosts`] adds those with a file of their own.
    pub pull: Vec<Host>,
    /// The folder that the file is in, and other files of the configuration beside it.
    #[serde(skip, default = "default_folder")]
    pub folder: PathBuf,
}

/// `[backup]`: the backup file system and its namespace.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Backup {
    /// Where the backup file system is mounted, inside the namespace only; an fstab entry.
    pub mount: AbsolutePath,
    /// The Borg repository, below `mount`.
    pub repository: AbsolutePath,
    /// The holding spaces, below `mount`.
    pub holding: AbsolutePath,
    /// The file that keeps the mount namespace.
    pub namespace: AbsolutePath,
}

/// `[external]`: the off-site drives.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct External {
    /// Where a drive's file system is mounted; its fstab entry gives type and options.
    pub mount: AbsolutePath,
    /// The name of the mapping, one for all drives.
    pub mapping: MapperName,
    /// How long to wait for locks, Borg's included.
    pub lock_wait: Span,
    /// rsync's `--max-alloc`.
    pub max_alloc: Size,
    /// Whether ACLs and extended attributes of the holding spaces are mirrored too.
    pub attributes: bool,
    /// The drives; none means the one in crypttab's entry for `mapping`.
    pub drive: Vec<Drive>,
}

/// `[[external.drive]]`: one off-site drive.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawDrive")]
pub struct Drive {
    /// What people call it.
    pub name: DriveName,
    /// How it is found, and unlocked.
    pub container: Container,
}

/// What holds a drive's file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Container {
    /// A LUKS container, unlocked with a key file.
    Luks {
        /// The container's own UUID, not the file system's.
        uuid: Uuid,
        /// The key file.
        key_file: AbsolutePath,
    },
    /// A block device that is not encrypted: for a machine without dm-crypt, or a drive in a safe.
    Plain {
        /// The block device.
        device: AbsolutePath,
    },
}

/// A drive's name: 1 to 32 bytes of `[A-Za-z0-9_-]`, so that it can be the name of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DriveName(String);

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

impl Config {
    /// Reads the configuration; without a `path` the default one, which may be absent.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, can be written by others than root, or has a mistake.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        match read(path)? {
            Some((file, text)) => Self::parse(file, &text),
            None => Ok(Self { folder: default_folder(), ..Self::default() }),
        }
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

    /// Reads a configuration from its text; `path` is for messages only.
    ///
    /// # Errors
    ///
    /// The first mistake, with its line and key.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut config: Self = understand(path, text)?;
        config.led = light(path, text)?;
        config.folder = path.parent().filter(|folder| folder.is_absolute()).map_or_else(default_folder, Path::to_owned);
        config.check().map_err(|(key, message)| ConfigError::Wrong {
            path: path.to_owned(),
            line: line_of(text, key),
            message: format!("{key}: {message}"),
        })?;
        Ok(config)
    }

    /// What no single value can tell: how the values fit together.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let Backup { mount, repository, holding, .. } = &self.backup;
        for (key, path) in [("repository", repository), ("holding", holding)] {
            if !path.starts_with(mount) || path == mount {
                return Err((key, format!("{} is not below the mount point {}", path.display(), mount.display())));
            }
        }
        if self.external.mount.starts_with(mount) || mount.starts_with(&self.external.mount) {
            return Err(("mount", "the backup and the drive cannot be mounted within each other".to_owned()));
        }
        self.mail.check()?;
        let mut hosts: Vec<_> = self.pull.iter().map(|host| host.name.as_str()).collect();
        hosts.sort_unstable();
        if let Some(name) = hosts.windows(2).find(|pair| pair.first() == pair.last()).and_then(<[_]>::first) {
            return Err(("host", format!("two hosts are named {name}")));
        }
        let mut names: Vec<_> = self.external.drive.iter().map(|drive| drive.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(pair) => {
                Err(("name", format!("two drives are named {}", pair.concat().split_at(pair.concat().len() / 2).0)))
            }
            None => Ok(()),
        }
    }
}

/// The file and its text, if it may be trusted; `None` if the default one is absent.
fn read(path: Option<&Path>) -> Result<Option<(&Path, String)>, ConfigError> {
    let file = path.unwrap_or(Path::new(DEFAULT_PATH));
    match read_trusted(file)? {
        Some(text) => Ok(Some((file, text))),
        None if path.is_none() => Ok(None),
        None => {
            let hint = format!("there is no such file; {DEFAULT_PATH} is read where none is named");
            let source = io::Error::new(io::ErrorKind::NotFound, hint);
            Err(ConfigError::Read { path: file.to_owned(), source })
        }
    }
}

/// The text of a file that nobody but root can write; `None` if there is no such file.
fn read_trusted(file: &Path) -> Result<Option<String>, ConfigError> {
    let failed = |source| ConfigError::Read { path: file.to_owned(), source };
    if !is_trusted(file)? {
        return Ok(None);
    }
    fs::read_to_string(file).map(Some).map_err(failed)
}

/// Whether the file or folder is there; one that others than root can write is an error.
fn is_trusted(file: &Path) -> Result<bool, ConfigError> {
    let metadata = match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(|source| ConfigError::Read { path: file.to_owned(), source })?,
    };
    let trusted = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
    if trusted && metadata.mode() & 0o022 == 0 {
        Ok(true)
    } else {
        Err(ConfigError::Writable { path: file.to_owned() })
    }
}

/// The hosts that have a file in `folder`, in the order of their names.
fn host_files(folder: &Path) -> Result<Vec<HostName>, ConfigError> {
    if !is_trusted(folder)? {
        return Ok(Vec::new());
    }
    let failed = |source| ConfigError::Read { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = HostName::try_from(name).map_err(|error| ConfigError::Wrong {
            path: path.clone(),
            line: 1,
            message: error.to_string(),
        })?;
        names.push(name);
    }
    names.sort();
    Ok(names)
}

/// The folder of the default file.
fn default_folder() -> PathBuf {
    Path::new(DEFAULT_PATH).parent().unwrap_or(Path::new("/")).to_owned()
}

/// The light's table of the text, or its first mistake.
fn light(path: &Path, text: &str) -> Result<led::Settings, ConfigError> {
    led::Settings::parse(text).map_err(|error| ConfigError::Wrong {
        path: path.to_owned(),
        line: error.line(),
        message: error.to_string(),
    })
}

/// Passes over a table that is read by [`light`], because its program reads no other.
fn read_apart<'de, D: Deserializer<'de>>(table: D) -> Result<led::Settings, D::Error> {
    IgnoredAny::deserialize(table).map(|_| led::Settings::default())
}

/// The text as a `T`, or the first mistake with its line and key.
fn understand<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| wrong(path, text, &error))
}

/// TOML's error, with line and key.
fn wrong(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let (line, key) = place(text, start);
    let message = error.message().replace('\n', " ");
    let key = key.filter(|key| error.span().is_some() && !message.starts_with(key));
    let message = key.map_or(message.clone(), |key| format!("{key}: {message}"));
    ConfigError::Wrong { path: path.to_owned(), line, message }
}

/// The line of a byte offset, counted from 1, and the key that stands there or above it.
fn place(text: &str, offset: usize) -> (usize, Option<&str>) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let key = text.lines().take(line).collect::<Vec<_>>().into_iter().rev().find_map(|line| {
        let (key, _) = line.split_once('=')?;
        let key = key.trim();
        (!key.is_empty() && !key.starts_with(['#', '"', '\'', '['])).then_some(key)
    });
    let header = text.lines().nth(line - 1).is_some_and(|line| line.trim_start().starts_with('['));
    (line, key.filter(|_| !header))
}

/// The first line that sets `key`, or 1.
fn line_of(text: &str, key: &str) -> usize {
    text.lines()
        .position(|line| line.split_once('=').is_some_and(|(name, _)| name.trim() == key))
        .map_or(1, |index| index + 1)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawDrive {
    name: DriveName,
    uuid: Option<Uuid>,
    key_file: Option<AbsolutePath>,
    device: Option<AbsolutePath>,
}

impl TryFrom<RawDrive> for Drive {
    type Error = &'static str;

    fn try_from(raw: RawDrive) -> Result<Self, Self::Error> {
        let container = match (raw.uuid, raw.key_file, raw.device) {
            (Some(uuid), Some(key_file), None) => Container::Luks { uuid, key_file },
            (None, None, Some(device)) => Container::Plain { device },
            (Some(_), None, None) => {
                return Err("key-file: name the key file that unlocks the drive");
            }
            (None, Some(_), None) => return Err("uuid: give the UUID of the LUKS container"),
            (None, None, None) => {
                return Err("uuid: give uuid and key-file, or device for a drive that is not encrypted");
            }
            _ => {
                return Err("device: is for a drive that is not encrypted, and excludes uuid and key-file");
            }
        };
        Ok(Self { name: raw.name, container })
    }
}

impl Default for Backup {
    fn default() -> Self {
        Self {
            mount: AbsolutePath::fixed("/backup"),
            repository: AbsolutePath::fixed("/backup/borg"),
            holding: AbsolutePath::fixed("/backup/holding"),
            namespace: AbsolutePath::fixed("/run/phobos/ns/backup"),
        }
    }
}

impl Default for External {
    fn default() -> Self {
        Self {
            mount: AbsolutePath::fixed("/extbackup"),
            mapping: MapperName::default(),
            lock_wait: Span(Duration::from_secs(12 * 60 * 60)),
            max_alloc: Size::fixed("4GiB"),
            attributes: false,
            drive: Vec::new(),
        }
    }
}

impl TryFrom<String> for DriveName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if (1..=32).contains(&text.len()) && !text.starts_with('-') && text.chars().all(good) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no name for a drive: use letters, digits, - and _"))
        }
    }
}

impl DriveName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> String {
        Config::parse(Path::new("phobos.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_was_named_has_to_be_there() {
        let error = Config::load(Some(Path::new("/no/such"))).unwrap_err();
        let said = phobos_core::error::Chain(&error).to_string();
        assert_eq!(
            said,
            "cannot read /no/such: there is no such file; /etc/phobos/phobos.toml is read where none is named"
        );
    }

    #[test]
    fn the_defaults_are_the_originals() {
        let config = Config::parse(Path::new("phobos.toml"), "").unwrap();
        assert_eq!(config.backup.repository.to_str(), Some("/backup/borg"));
        assert_eq!(config.external.mapping.as_str(), "extbackup");
        assert_eq!(config.external.lock_wait, Span(Duration::from_secs(43200)));
        assert!(config.external.drive.is_empty());
    }

    #[test]
    fn a_drive_is_read_whole() {
        let text = "[[external.drive]]\nname = 'A'\nuuid = '11111111-2222-3333-4444-55555555ABCD'\nkey-file = '/k'\n\
                    [[external.drive]]\nname = 'safe'\ndevice = '/dev//sdz1'\n";
        let config = Config::parse(Path::new("phobos.toml"), text).unwrap();
        let containers: Vec<_> = config.external.drive.into_iter().map(|drive| drive.container).collect();
        let uuid = Uuid::try_from("11111111-2222-3333-4444-55555555abcd".to_owned()).unwrap();
        let luks = Container::Luks { uuid, key_file: AbsolutePath::fixed("/k") };
        assert_eq!(containers, [luks, Container::Plain { device: AbsolutePath::fixed("/dev/sdz1") }]);
    }

    #[test]
    fn every_mistake_names_file_line_and_key() {
        let cases = [
            ("[backup]\nmount = 'backup'", "phobos.toml:2: mount: backup is not an absolute path"),
            ("[backup]\nmount = '/a/../b'", "phobos.toml:2: mount: /a/../b must not have .. in it"),
            (
                "\n[backup]\nrepository = '/srv/borg'",
                "phobos.toml:3: repository: /srv/borg is not below the mount point /backup",
            ),
            ("[external]\nlock-wait = 12", "phobos.toml:2: lock-wait: invalid type: integer `12`, expected a string"),
            (
                "[external]\nlock-wait = 'soon'",
                "phobos.toml:2: lock-wait: \"soon\" is no length of time such as 12h: expected number at 0",
            ),
            (
                "[external]\nmapping = 'a/b'",
                "phobos.toml:2: mapping: \"a/b\" is no name for a mapping: use letters, digits, - and _",
            ),
            ("[external]\nmax-alloc = '0'", "phobos.toml:2: max-alloc: \"0\" is no size such as 4GiB"),
            (
                "[[external.drive]]\nname = 'A'\nuuid = '12'\nkey-file = '/k'",
                "phobos.toml:3: uuid: \"12\" is no UUID: it has 32 hexadecimal digits in the form 8-4-4-4-12",
            ),
            (
                "[[external.drive]]\nname = 'A'",
                "phobos.toml:1: uuid: give uuid and key-file, or device for a drive that is not encrypted",
            ),
            (
                "[[external.drive]]\nname = '../A'\ndevice = '/dev/x'",
                "phobos.toml:2: name: \"../A\" is no name for a drive: use letters, digits, - and _",
            ),
        ];
        let hosts = "[[pull]]\nhost = 'a'\nsource = ['a:/']\n".repeat(2);
        assert_eq!(mistake(&hosts), "phobos.toml:2: host: two hosts are named a");
        let unnamed = "\n[[pull]]\nsource = ['a:/']";
        assert_eq!(mistake(unnamed), "phobos.toml:2: missing field `host`");
        for (text, want) in cases {
            assert_eq!(mistake(text), want, "{text}");
        }
        let unknown = mistake("[backup]\nmuont = '/backup'");
        assert!(unknown.starts_with("phobos.toml:2: muont: unknown field `muont`, expected one of"), "{unknown}");
        let syntax = mistake("[backup\nmount = 1");
        assert!(syntax.starts_with("phobos.toml:1: "), "{syntax}");
        let twice =
            "[[external.drive]]\nname = 'A'\ndevice = '/dev/x'\n[[external.drive]]\nname = 'A'\ndevice = '/dev/y'\n";
        assert_eq!(mistake(twice), "phobos.toml:2: name: two drives are named A");
    }

    #[test]
    fn hosts_are_tables_or_files_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("phobos.toml");
        fs::write(&file, "[[pull]]\nhost = 'luv'\nsource = ['luv:/home/']\n").unwrap();
        let pull_d = folder.path().join(pull::FOLDER);
        fs::create_dir(&pull_d).unwrap();
        let write = |name: &str, text: &str| fs::write(pull_d.join(name), text).unwrap();
        write("chew.toml", "source = ['chew:/']");
        write("chew.toml~", "nonsense");
        let config = Config::load(Some(&file)).unwrap();
        let names: Vec<_> = config.hosts().unwrap().into_iter().map(|host| host.name.to_string()).collect();
        assert_eq!(names, ["luv", "chew"]);
        let found = |name: &str| config.host(&name.parse().unwrap()).map(|host| host.is_some());
        assert!(found("luv").unwrap() && found("chew").unwrap() && !found("nuhc").unwrap());

        let mistake = || config.hosts().unwrap_err().to_string().replace(&format!("{}/", pull_d.display()), "");
        write("nuhc.toml", "\nsource = 'nuhc'");
        assert_eq!(mistake(), "nuhc.toml:2: source: invalid type: string \"nuhc\", expected a sequence");
        assert!(found("chew").unwrap(), "a mistake in one host's file is that host's alone");
        write("nuhc.toml", "source = ['nuhc:/a', 'nuhc:/a']");
        assert_eq!(mistake(), "nuhc.toml:1: source: a and a are copied into each other");
        fs::remove_file(pull_d.join("nuhc.toml")).unwrap();
        write("luv.toml", "source = ['luv:/']");
        assert_eq!(mistake(), "luv.toml:1: host: luv is in the file phobos.toml too; keep one of them");
        fs::remove_file(pull_d.join("luv.toml")).unwrap();
        write("-x.toml", "source = ['x:/']");
        assert!(mistake().starts_with("-x.toml:1: \"-x\" is no name for a host"), "{}", mistake());
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("phobos.toml");
        fs::write(&file, "").unwrap();
        for (mode, refused) in [(0o600, false), (0o644, false), (0o664, true), (0o646, true)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let result = Config::load(Some(&file));
            assert_eq!(matches!(result, Err(ConfigError::Writable { .. })), refused, "{mode:o}");
        }
        assert!(matches!(Config::load(Some(&folder.path().join("none"))), Err(ConfigError::Read { .. })));
    }
}
