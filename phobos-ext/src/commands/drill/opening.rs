//! What a drive is opened with when it is drilled, whose repository and key it has, and what is said where Borg cannot open it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use phobos_core::borg::archive::Unopened;
use phobos_core::borg::config::{self, ExportedKey, Key, MAX_CONFIG};
use phobos_core::exec::{ExecError, Status};
use phobos_core::fs::Dir;
use phobos_core::luks::{LuksError, Unlock};
use phobos_site::archives;
use phobos_site::config::Config;
use phobos_site::drives::Target;
use phobos_site::exit::{Exit, Stop};
use phobos_site::lock::Word;

use crate::passphrase::Passphrase;

/// The names of the credentials of a drill with what was kept for a day without this machine.
const PASSPHRASE: &str = "recovery-passphrase";
const KEY: &str = "borg-key";

/// cryptsetup's exit code where no key opens the container (cryptsetup(8), RETURN CODES).
const NO_KEY: i32 = 2;

/// How the drive's key and that of the repository here stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// They are one and the same.
    Same,
    /// They differ.
    Differ,
}

/// What somebody has kept for the day on which this machine is gone.
#[derive(Debug)]
pub(super) struct Kept {
    /// The drive, opened with its recovery passphrase.
    pub(super) target: Target,
    /// The file with the key that was exported, and what it has.
    pub(super) key: Option<(PathBuf, ExportedKey)>,
}

/// Takes the recovery passphrase, which is to open the drive, and the exported key, if there is one.
pub(super) fn kept(target: &Target, interrupted: &dyn Fn() -> Option<i32>) -> Result<Kept, anyhow::Error> {
    let name = &target.name;
    let refused = |text: String| Stop::new(Exit::Refused, text);
    let key = match archives::credential(KEY)? {
        None => None,
        Some((file, bytes)) => Some((
            file,
            ExportedKey::parse(bytes.bytes()).ok_or_else(|| {
                refused(format!(
                    "the credential {KEY} is no key: it is to be what `borg key export` writes, without --paper"
                ))
            })?,
        )),
    };
    let Some((uuid, unlock)) = &target.luks else {
        log::info!("the drive {name} is not encrypted, and has no recovery passphrase");
        return Ok(Kept { target: target.clone(), key });
    };
    let given = match archives::credential(PASSPHRASE)? {
        Some((_, given)) => given,
        None => archives::asked(&format!("the recovery passphrase of the drive {name}"), PASSPHRASE, interrupted)?,
    };
    let typed = Passphrase::typed(&String::from_utf8_lossy(given.bytes()));
    let unlock = Unlock::with_passphrase(typed.key().into(), unlock.header.clone());
    Ok(Kept { target: Target { luks: Some((uuid.clone(), unlock)), ..target.clone() }, key })
}

/// What to say where the drive could not be opened, which may be for its recovery passphrase.
pub(super) fn locked(target: &Target, error: anyhow::Error) -> anyhow::Error {
    let is_by_passphrase = target.luks.as_ref().is_some_and(|(_, unlock)| unlock.passphrase.is_some());
    match error.downcast_ref::<LuksError>() {
        Some(LuksError::Open { source: ExecError::Failed { status: Status::Code(NO_KEY), .. }, .. })
            if is_by_passphrase =>
        {
            Stop::new(Exit::Refused, format!("the recovery passphrase does not open the drive {}", target.name)).into()
        }
        _ => error,
    }
}

/// Proves that the drive has the repository that is here, and says whether it has the same key; and that what was exported is the
/// key of the drive, where it has one itself.
pub(super) fn keys(
    config: &Config,
    root: &Dir,
    inner: &Path,
    exported: Option<&ExportedKey>,
) -> Result<Keys, anyhow::Error> {
    let read = |dir: &Dir| -> Result<config::Config, anyhow::Error> {
        let bytes = dir.read(Path::new("config"), MAX_CONFIG)?.context("it has no `config`")?;
        Ok(config::Config::parse(&bytes)?)
    };
    let damaged = |error: anyhow::Error| {
        Stop::new(Exit::Refused, format!("the repository on the drive cannot be opened: {error}"))
    };
    let theirs = root.open_dir(inner).map_err(anyhow::Error::from).and_then(|dir| read(&dir)).map_err(damaged)?;
    let ours = archives::config_of(&config.backup.repository)?;
    archives::refuse_another(&ours, &theirs)?;
    if theirs.key == Key::Malformed {
        return Err(Stop::new(Exit::Refused, "the key on the drive is none that Borg could open").into());
    }
    if let Some(exported) = exported {
        if exported.id != theirs.id {
            return Err(Stop::new(Exit::Refused, "the key that was exported is that of another repository").into());
        }
        // Borg takes the repository's own where there is one; then it is this that a drill proves.
        if theirs.key != Key::Absent && !theirs.key.is(&exported.key) {
            let text = "the key that was exported is not the one on the drive, maybe because its passphrase was changed since; export it anew";
            return Err(Stop::new(Exit::Refused, text).into());
        }
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
            format!(
                "the key of the repository on the drive {drive} is kept elsewhere; with --recovery it can be given as the systemd \
                 credential {KEY}"
            )
        }
    };
    Stop::new(Exit::Refused, text).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use phobos_core::exec::Invocation;

    #[test]
    fn only_where_a_passphrase_was_tried_it_is_said_to_open_nothing() {
        let uuid = "aaaaaaaa-1111-4222-8333-0123456789ab".to_owned();
        let uuid = phobos_core::luks::Uuid::try_from(uuid).unwrap();
        let said = |unlock: Unlock, code: i32| {
            let target =
                Target { name: "A".parse().unwrap(), device: uuid.device(), luks: Some((uuid.clone(), unlock)) };
            let invocation = Invocation::new("cryptsetup").call();
            let source = ExecError::Failed { invocation, status: Status::Code(code), stderr: "no".to_owned() };
            locked(&target, LuksError::Open { device: uuid.device(), source }.into()).to_string()
        };
        let passphrase = || Unlock::with_passphrase(b"words".to_vec().into(), None);
        assert_eq!(said(passphrase(), NO_KEY), "the recovery passphrase does not open the drive A");
        assert!(!said(passphrase(), 4).contains("passphrase"));
        assert!(!said(Unlock::with_key_file(Path::new("/k")), NO_KEY).contains("passphrase"));
    }
}
