//! Whose repository and key a drive has, and what is said where Borg cannot open it.

use std::path::Path;

use anyhow::Context;
use phobos_core::borg::archive::Unopened;
use phobos_core::borg::config::{self, Key, MAX_CONFIG};
use phobos_core::fs::Dir;
use phobos_site::config::Config;
use phobos_site::exit::{Exit, Stop};
use phobos_site::lock::Word;

/// How the drive's key and that of the repository here stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// They are one and the same.
    Same,
    /// They differ.
    Differ,
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
