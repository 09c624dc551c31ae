//! The owner's machines: `unlock.toml`, one table for each, and the keys that each shows, pinned beside it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use phobos_site::exit::{Exit, Stop};
use serde::{Deserialize, Deserializer};

/// The file, below `$XDG_CONFIG_HOME/phobos`.
const FILE: &str = "unlock.toml";

/// The port of ssh servers.
pub(crate) const PORT: u16 = 22;

/// The folder beside it with what is pinned.
const PINS: &str = "unlock";

/// The largest file that is read, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Machine {
    /// Its address; its name, if empty.
    pub(crate) host: String,
    /// The port of the ssh server that waits before the machine has booted.
    pub(crate) port: u16,
    /// Whom that server knows.
    pub(crate) user: String,
    /// The private key that it lets in; ssh's own, if none.
    pub(crate) identity: Option<PathBuf>,
    /// The address of the running system; the same, if none.
    pub(crate) booted_host: Option<String>,
    /// The port of the running system's ssh server.
    pub(crate) booted_port: u16,
    /// What prints the passphrase, such as a password manager; else it is asked for.
    pub(crate) passphrase_command: Vec<String>,
    /// How long to wait for the machine to ask for the passphrase.
    #[serde(deserialize_with = "duration")]
    pub(crate) wait: Duration,
    /// How long it may take to boot then.
    #[serde(deserialize_with = "duration")]
    pub(crate) boot: Duration,
}

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    unlock: BTreeMap<String, Machine>,
}

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    file: PathBuf,
    /// Whether somebody has asked for just this file.
    is_named: bool,
}

/// Which of the two systems of a machine is meant: each has an ssh server and keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The one in the initramfs, which waits for the passphrase.
    BeforeBoot,
    /// The one that runs then.
    Booted,
}

/// An ssh server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: PORT,
            user: "root".to_owned(),
            identity: None,
            booted_host: None,
            booted_port: PORT,
            passphrase_command: Vec::new(),
            wait: Duration::from_secs(10 * 60),
            boot: Duration::from_secs(10 * 60),
        }
    }
}

impl Machine {
    /// The server of one of its systems.
    pub(crate) fn server(&self, stage: Stage) -> Server {
        match stage {
            Stage::BeforeBoot => Server { host: self.host.clone(), port: self.port },
            Stage::Booted => {
                Server { host: self.booted_host.clone().unwrap_or_else(|| self.host.clone()), port: self.booted_port }
            }
        }
    }
}

impl Stage {
    /// What people call it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::BeforeBoot => "the system that waits for the passphrase",
            Self::Booted => "the running system",
        }
    }

    /// The one that an argument names.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "before-boot" => Ok(Self::BeforeBoot),
            "booted" => Ok(Self::Booted),
            _ => Err("it is `before-boot` or `booted`".to_owned()),
        }
    }

    fn file_name(self, name: &str) -> String {
        match self {
            Self::BeforeBoot => format!("{name}.before-boot"),
            Self::Booted => format!("{name}.booted"),
        }
    }
}

impl Place {
    /// The place that `--config` names, or the user's own.
    pub(crate) fn new(config: Option<&Path>) -> Result<Self, anyhow::Error> {
        if let Some(file) = config {
            let file = std::path::absolute(file).context("cannot tell the current folder")?;
            return Ok(Self { file, is_named: true });
        }
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let folder = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
        let folder =
            folder.ok_or_else(|| anyhow!("neither HOME nor XDG_CONFIG_HOME is set; name the file with --config"))?;
        Ok(Self { file: folder.join("phobos").join(FILE), is_named: false })
    }

    /// The machine called `name`: as its table says, or by its name alone where there is none.
    pub(crate) fn machine(&self, name: &str) -> Result<Machine, anyhow::Error> {
        let text = match fs::metadata(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_named => String::new(),
            Err(error) => return Err(self.wrong(&format!("cannot read it: {error}")).into()),
            Ok(found) if found.len() > LIMIT || !found.is_file() => {
                return Err(self.wrong("it is no file, or larger than any configuration").into());
            }
            _ => fs::read_to_string(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?,
        };
        let mut file: File = toml::from_str(&text).map_err(|error| {
            let line = error.span().map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
            let place = line.map_or_else(String::new, |line| format!("line {line}: "));
            self.wrong(&format!("{place}{}", error.message().replace('\n', ", ")))
        })?;
        let mut machine = file.unlock.remove(name).unwrap_or_default();
        if machine.host.is_empty() {
            name.clone_into(&mut machine.host);
        }
        let server = |host: &String| host_name(host).map_err(|why| self.wrong(&format!("[unlock.{name}]: {why}")));
        server(&machine.host)?;
        machine.booted_host.as_ref().map(server).transpose()?;
        host_name(&machine.user).map_err(|_| self.wrong(&format!("[unlock.{name}]: `user` is no user's name")))?;
        machine.identity = machine.identity.map(|identity| home(&identity)).transpose()?;
        Ok(machine)
    }

    /// The known-hosts file with the keys of one of the machine's systems and nothing else.
    pub(crate) fn pins(&self, name: &str, stage: Stage) -> PathBuf {
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        folder.join(PINS).join(stage.file_name(name))
    }

    fn wrong(&self, why: &str) -> Stop {
        Stop::new(Exit::Config, format!("{}: {why}", self.file.display()))
    }
}

/// A name or an address, which no program takes for an option or for anything else.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if text.is_empty() || text.len() > 253 || text.starts_with(['-', '.']) || !text.chars().all(good) {
        return Err(format!("{text:?} is neither a name nor an address"));
    }
    Ok(text.to_owned())
}

/// A path in which `~/` is the home folder.
fn home(path: &Path) -> Result<PathBuf, anyhow::Error> {
    let Ok(rest) = path.strip_prefix("~") else { return Ok(path.to_owned()) };
    let home = std::env::var_os("HOME").ok_or_else(|| anyhow!("HOME is not set"))?;
    Ok(PathBuf::from(home).join(rest))
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| serde::de::Error::custom(format!("{text:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, name: &str) -> Result<Machine, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        fs::write(&file, text).unwrap();
        let place = Place::new(Some(&file)).unwrap();
        place.machine(name).map_err(|error| error.to_string().replace(&file.display().to_string(), "FILE"))
    }

    #[test]
    fn a_machine_is_what_its_table_says_or_its_name() {
        let nas = of("[unlock.nas]\nhost = \"10.0.0.2\"\nport = 2222\nwait = \"30m\"\n", "nas").unwrap();
        assert_eq!(nas.server(Stage::BeforeBoot), Server { host: "10.0.0.2".into(), port: 2222 });
        assert_eq!(nas.server(Stage::Booted), Server { host: "10.0.0.2".into(), port: 22 });
        assert_eq!(nas.wait, Duration::from_secs(1800));
        assert_eq!(of("", "nas.lan").unwrap(), Machine { host: "nas.lan".into(), ..Machine::default() });
    }

    #[test]
    fn a_mistake_is_one_line_with_its_place() {
        for (text, said) in [
            ("[unlock.nas]\nprot = 2\n", "FILE: line 2: unknown field `prot`"),
            ("[unlock.nas]\nwait = \"soon\"\n", "FILE: line 2: \"soon\": "),
            ("[unlock.nas]\nhost = \"-oProxyCommand=x\"\n", "FILE: [unlock.nas]: \"-oProxyCommand=x\" is neither"),
            ("[unlock.nas]\nuser = \"a b\"\n", "FILE: [unlock.nas]: `user` is no user's name"),
            ("what", "FILE: line 1: "),
        ] {
            let error = of(text, "nas").unwrap_err();
            assert!(error.starts_with(said) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn only_the_file_that_nobody_has_named_may_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let named = Place::new(Some(&folder.path().join("none.toml"))).unwrap();
        let error = named.machine("nas").unwrap_err().to_string();
        assert!(error.contains("none.toml: cannot read it: No such file"), "{error}");
        assert!(Place { is_named: false, ..named }.machine("nas").is_ok());
    }

    #[test]
    fn pins_of_the_two_systems_are_apart() {
        let place = Place::new(Some(Path::new("/x/unlock.toml"))).unwrap();
        assert_eq!(place.pins("nas", Stage::BeforeBoot), Path::new("/x/unlock/nas.before-boot"));
        assert_eq!(place.pins("nas", Stage::Booted), Path::new("/x/unlock/nas.booted"));
    }
}
