//! `/etc/phobos/phobos.toml`: read once, checked while it is read, refused as a whole if anything in it is wrong.
//!
//! The values are types that cannot hold nonsense ([`AbsolutePath`], [`DriveName`]), so every mistake is found
//! where it stands and is told with file, line and key.

mod backup;
mod external;
mod reading;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phobos_core::error::{Class, Classified};
use serde::Deserialize;

use self::reading::{Mistake, Step, check_names, is_trusted, read, read_trusted, understand, wrong};
use crate::pull::{self, Host, HostName};
use crate::{led, mail};

pub use self::backup::Backup;
pub use self::external::{Container, Drive, DriveName, External};
pub use crate::values::{AbsolutePath, Size, Span};

/// Where the configuration is, unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/phobos/phobos.toml";

/// The usual name of the file.
const DEFAULT_NAME: &str = "phobos.toml";

/// Everything that can be configured; the defaults are the original's values.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The backup file system and its namespace.
    pub backup: Backup,
    /// The off-site drives.
    pub external: External,
    /// The locks.
    pub locks: Locks,
    /// The light.
    pub led: led::Settings,
    /// The mail about failed units.
    pub mail: mail::Settings,
    /// The hosts that are pulled; [`Config::hosts`] adds those with a file of their own.
    pub pull: Vec<Host>,
    /// The folder that the file is in, and other files of the configuration beside it.
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
}

/// `[locks]`: the locks between jobs.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Locks {
    /// How long to wait for other jobs, and for Borg's own lock.
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
        match read(path)? {
            Some((file, text)) => Self::parse_tables(file, &text, tables).map(Self::resolved),
            None => Ok(Self::default().resolved()),
        }
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
                Table::Locks | Table::Led => {}
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
    pub const ALL: [Self; 6] = [Self::Backup, Self::External, Self::Locks, Self::Led, Self::Mail, Self::Pull];

    /// The table's name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::External => "external",
            Self::Locks => "locks",
            Self::Led => "led",
            Self::Mail => "mail",
            Self::Pull => "pull",
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
mod tests {
    use super::*;
    use phobos_core::luks::Uuid;

    fn mistake(text: &str) -> String {
        Config::parse(Path::new("phobos.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_was_named_has_to_be_there() {
        let error = Config::load(Some(Path::new("/no/such")), &Table::ALL).unwrap_err();
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
        assert_eq!(config.locks.wait, Span(Duration::from_secs(43200)));
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
            ("[locks]\nwait = 12", "phobos.toml:2: wait: invalid type: integer `12`, expected a string"),
            (
                "[locks]\nwait = 'soon'",
                "phobos.toml:2: wait: \"soon\" is no length of time such as 12h: expected number at 0",
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
        assert_eq!(mistake(&hosts), "phobos.toml:5: host: two hosts are named a");
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
        assert_eq!(mistake(twice), "phobos.toml:5: name: two drives are named A");
    }

    #[test]
    fn a_mistake_in_one_table_is_that_tables_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("phobos.toml");
        fs::write(&file, "[mail]\nto = 'me@example.org'\n[[pull]]\nhost = 3\n[extrenal]\n").unwrap();
        let read = |tables: &[Table]| Config::load(Some(&file), tables).map_err(|error| error.to_string());
        assert_eq!(read(&[Table::Mail]).unwrap().mail.to.to_string(), "me@example.org");
        assert!(read(&[Table::Pull]).unwrap_err().contains("phobos.toml:4: host"));
        let misspelt = read(&[Table::Backup]).unwrap_err();
        assert!(
            misspelt.contains("phobos.toml:5: extrenal: unknown field `extrenal`, expected one of `backup`"),
            "{misspelt}"
        );
    }

    #[test]
    fn one_drive_has_one_name() {
        let drive =
            |name: &str, uuid: &str| format!("[[external.drive]]\nname = '{name}'\nuuid = '{uuid}'\nkey-file = '/k'\n");
        let twice =
            drive("A", "11111111-2222-3333-4444-55555555ABCD") + &drive("B", "11111111-2222-3333-4444-55555555abcd");
        assert_eq!(mistake(&twice), "phobos.toml:7: uuid: the drives A and B are one and the same");
        let twice =
            "[[external.drive]]\nname = 'A'\ndevice = '/dev/x'\n[[external.drive]]\nname = 'B'\ndevice = '/dev/./x'\n";
        assert_eq!(mistake(twice), "phobos.toml:6: device: the drives A and B are one and the same");
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
        let config = Config::load(Some(&file), &Table::ALL).unwrap();
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
            let result = Config::load(Some(&file), &Table::ALL);
            assert_eq!(matches!(result, Err(ConfigError::Writable { .. })), refused, "{mode:o}");
        }
        assert!(matches!(Config::load(Some(&folder.path().join("none")), &Table::ALL), Err(ConfigError::Read { .. })));
        // Nor is one that others can replace: by its folder, or by a folder above, or by the one that a link to it is in.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let (above, below) = (folder.path().join("above"), folder.path().join("above/below"));
        fs::create_dir_all(&below).unwrap();
        fs::copy(&file, below.join("phobos.toml")).unwrap();
        std::os::unix::fs::symlink(&file, below.join("link.toml")).unwrap();
        let is_refused = |name: &str| {
            let result = Config::load(Some(&below.join(name)), &Table::ALL);
            matches!(result, Err(ConfigError::Writable { path }) if path != below.join(name))
        };
        for (open, mode, refused) in
            [(&above, 0o755, false), (&below, 0o777, true), (&above, 0o775, true), (&above, 0o1777, false)]
        {
            fs::set_permissions(open, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!([is_refused("phobos.toml"), is_refused("link.toml")], [refused; 2], "{mode:o}");
            fs::set_permissions(open, fs::Permissions::from_mode(if mode == 0o1777 { mode } else { 0o755 })).unwrap();
        }
        fs::create_dir(folder.path().join("folder.toml")).unwrap();
        assert!(Config::load(Some(&folder.path().join("folder.toml")), &Table::ALL).is_err());
    }
}
