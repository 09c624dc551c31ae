//! What a drill opens a repository with, and what it says where that fails.

use std::path::Path;

use anyhow::Context;
use phobos_core::borg::archive::Unopened;
use phobos_core::borg::config::{self, Key, MAX_CONFIG};
use phobos_core::exec::Secret;
use phobos_core::fs::Dir;
use phobos_core::sandbox::{self, Control, Lookup, Sandbox};
use phobos_core::terminal;
use phobos_site::config::Config;
use phobos_site::exit::{Exit, Stop};
use phobos_site::lock::Word;
use phobos_site::logging;
use phobos_site::paths::Paths;

/// The user that Borg becomes: one that has nothing.
const USER: &str = "nobody";

/// The folder of Borg's notes, below that of what ends with the machine.
const FOLDER: &str = "drill";

/// The name of the credential with the repository's passphrase.
const PASSPHRASE: &str = "borg-passphrase";

/// The longest passphrase, in bytes.
const LONGEST: u64 = 4096;

/// How the drive's key and that of the repository here stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// They are one and the same.
    Same,
    /// They differ.
    Differ,
}

/// The repository's passphrase: from systemd, or from a person; empty for a repository without a key.
pub(super) fn passphrase(config: &Config, interrupted: &dyn Fn() -> Option<i32>) -> Result<Secret, anyhow::Error> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
    if let Some(folder) = folder {
        let bytes = Dir::open(Path::new(&folder))?.read(Path::new(PASSPHRASE), LONGEST)?;
        if let Some(bytes) = bytes {
            return Ok(bytes.into());
        }
    }
    let here = Dir::open(&config.backup.repository)?.read(Path::new("config"), MAX_CONFIG)?.unwrap_or_default();
    if config::Config::parse(&here)?.key == Key::Absent {
        return Ok(Secret::default());
    }
    if !terminal::is_there() {
        let text = format!(
            "the repository has a key and there is no passphrase: give it as the systemd credential {PASSPHRASE}"
        );
        return Err(Stop::new(Exit::Config, text).into());
    }
    logging::draw("the passphrase of the Borg repository: ");
    match terminal::line(terminal::Echo::Off, interrupted).context("cannot read what is typed")? {
        terminal::Answer::Line(text) => Ok(text.as_bytes().to_vec().into()),
        terminal::Answer::End => {
            Err(Stop::new(Exit::Usage, "standard input has ended before the repository's passphrase").into())
        }
        terminal::Answer::Interrupted(signal) => Err(Stop::by_signal(signal).into()),
    }
}

/// Proves that the drive has the repository that is here, and says whether it has the same key.
pub(super) fn keys(config: &Config, root: &Dir, inner: &Path) -> Result<Keys, anyhow::Error> {
    let read = |dir: &Dir| -> Result<config::Config, anyhow::Error> {
        let bytes = dir.read(Path::new("config"), MAX_CONFIG)?.context("it has no `config`")?;
        Ok(config::Config::parse(&bytes)?)
    };
    let damaged = |error: anyhow::Error| {
        Stop::new(Exit::Refused, format!("the repository on the drive cannot be opened: {error}"))
    };
    let theirs = root.open_dir(inner).map_err(anyhow::Error::from).and_then(|dir| read(&dir)).map_err(damaged)?;
    let ours = read(&Dir::open(&config.backup.repository)?)?;
    if theirs.id != ours.id {
        let text = "the drive has another repository than is here; `phobos-ext drives --look` says what is on it";
        return Err(Stop::new(Exit::Refused, text).into());
    }
    if theirs.key == Key::Malformed {
        return Err(Stop::new(Exit::Refused, "the key on the drive is none that Borg could open").into());
    }
    Ok(if theirs.key == ours.key { Keys::Same } else { Keys::Differ })
}

/// Where Borg keeps its notes: in memory, and gone with the drill.
pub(super) fn notes(paths: &Paths, drive: &Word) -> Result<Control, anyhow::Error> {
    let user = sandbox::find_user(USER)?;
    let folder = paths.runtime.join(FOLDER).join(drive.as_str());
    Control::for_notes(&folder, user.uid.as_raw()).with_context(|| format!("cannot make {}", folder.display()))
}

/// What Borg may do: read the repository.
pub(super) fn sandbox(notes: &Path, repository: &Path) -> Sandbox {
    Sandbox {
        user: USER.to_owned(),
        alias: None,
        folder: notes.to_owned(),
        read: vec![repository.to_owned()],
        ports: Vec::new(),
        lookup: Lookup::None,
        control: None,
        parent: Some(std::process::id()),
        reads_all: true,
    }
}

/// What to say where Borg could not open the repository on the drive.
pub(super) fn unopened(drive: &Word, why: Unopened, keys: Keys) -> anyhow::Error {
    let text = match (why, keys) {
        (Unopened::Passphrase | Unopened::OtherKey | Unopened::NoKey, Keys::Differ) => format!(
            "the key on the drive {drive} was changed: it is not the one that the repository here has, and the passphrase does not \
             open it; nothing could be restored from it with what is known here"
        ),
        (Unopened::Passphrase, Keys::Same) => format!(
            "the passphrase that was given does not open the key on the drive {drive}, which is the one that the repository here has"
        ),
        (Unopened::NoPassphrase, _) => {
            format!("the repository on the drive {drive} has a key, and no passphrase was given")
        }
        (Unopened::NoKey | Unopened::OtherKey, Keys::Same) => {
            format!("the key of the repository on the drive {drive} is kept elsewhere, and was not given")
        }
    };
    Stop::new(Exit::Refused, text).into()
}
