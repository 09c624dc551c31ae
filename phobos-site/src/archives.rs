//! The archives of this NAS's repository, as Borg reads them for phobos: confined, with a passphrase that systemd or a person gives.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use phobos_core::borg::archive::Archives;
use phobos_core::borg::config::{self, Key, MAX_CONFIG};
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, Secret};
use phobos_core::fs::Dir;
use phobos_core::process::Process;
use phobos_core::sandbox::{self, Control, Lookup, Sandbox, SandboxError};
use phobos_core::terminal;

use crate::exit::{self, Exit, Stop};
use crate::logging;
use crate::paths::Paths;

/// The user that Borg becomes: one that has nothing.
const USER: &str = "nobody";

/// The name of the credential with the repository's passphrase.
const PASSPHRASE: &str = "borg-passphrase";

/// The longest credential, in bytes: a passphrase, or a key.
const LONGEST: u64 = 4096;

/// The passphrase of `repository`: from systemd, or from a person; empty for a repository without a key, unless `has_key`, because
/// its key is elsewhere.
///
/// # Errors
///
/// When nobody gives one, or the repository's `config` cannot be read.
pub fn passphrase(repository: &Path, has_key: bool, interrupted: &dyn Fn() -> Option<i32>) -> Result<Secret, Stop> {
    if let Some((_, secret)) = credential(PASSPHRASE)? {
        return Ok(secret);
    }
    if config_of(repository)?.key == Key::Absent && !has_key {
        return Ok(Secret::default());
    }
    asked("the passphrase of the Borg repository", PASSPHRASE, interrupted)
}

/// What the repository says of itself.
///
/// # Errors
///
/// When its `config` cannot be read.
pub fn config_of(repository: &Path) -> Result<config::Config, Stop> {
    let bytes = Dir::open(repository).and_then(|folder| folder.read(Path::new("config"), MAX_CONFIG));
    let bytes = bytes.map_err(|error| stop("cannot read the repository's config", &error))?.unwrap_or_default();
    config::Config::parse(&bytes).map_err(|error| stop("cannot understand the repository's config", &error))
}

/// Refuses a repository on a drive that is another one than `ours`.
///
/// # Errors
///
/// When it is.
pub fn refuse_another(ours: &config::Config, theirs: &config::Config) -> Result<(), Stop> {
    if ours.id == theirs.id {
        return Ok(());
    }
    let text = "the drive has another repository than is here; `phobos-ext drives --look` says what is on it";
    Err(Stop::new(Exit::Refused, text))
}

/// The credential that systemd gives this process by that name, with its file; `None` where it gives none.
///
/// # Errors
///
/// When it cannot be read.
pub fn credential(name: &str) -> Result<Option<(PathBuf, Secret)>, Stop> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let Some(folder) = folder else { return Ok(None) };
    let bytes = Dir::open(&folder).and_then(|folder| folder.read(Path::new(name), LONGEST));
    let bytes = bytes.map_err(|error| stop("cannot read the credential", &error))?;
    Ok(bytes.map(|bytes| (folder.join(name), bytes.into())))
}

/// Asks whoever is there for `what`.
///
/// # Errors
///
/// When nobody is, which is told with the name of the `credential` that would do as well, or a signal comes first.
pub fn asked(what: &str, credential: &str, interrupted: &dyn Fn() -> Option<i32>) -> Result<Secret, Stop> {
    if !terminal::is_there() {
        let text = format!("nobody gives {what}: give it as the systemd credential {credential}");
        return Err(Stop::new(Exit::Config, text));
    }
    logging::draw(&format!("{what}: "));
    match terminal::line(terminal::Echo::Off, interrupted).map_err(|error| stop("cannot read what is typed", &error))? {
        terminal::Answer::Line(text) => Ok(text.as_bytes().to_vec().into()),
        terminal::Answer::End => Err(Stop::new(Exit::Usage, format!("standard input has ended before {what}"))),
        terminal::Answer::Interrupted(signal) => Err(Stop::by_signal(signal)),
    }
}

/// The error that says what could not be done, and why.
fn stop(what: &str, error: &(dyn Error + 'static)) -> Stop {
    Stop::new(exit::exit_of(error), format!("{what}: {}", Chain(error)))
}

/// A place for what Borg notes, in memory, of the user with the number `owner`; `job` and `object` say whose it is.
///
/// # Errors
///
/// When it cannot be mounted.
pub fn notes(paths: &Paths, job: &str, object: &str, owner: u32) -> io::Result<Control> {
    Control::for_notes(&paths.runtime.join(job).join(object), owner)
}

/// The same for a job that runs more than once at a time: each process has its own, and what dead ones have left is taken away.
///
/// # Errors
///
/// When it cannot be mounted.
pub fn own_notes(paths: &Paths, job: &str, owner: u32) -> io::Result<Control> {
    let above = paths.runtime.join(job);
    if above.symlink_metadata().is_ok() {
        forget_the_dead(&above)?;
    }
    let Process { pid, start } = Process::own()?;
    Control::for_notes(&above.join(format!("{pid}-{start}")), owner)
}

fn forget_the_dead(above: &Path) -> io::Result<()> {
    for entry in Dir::open(above).and_then(|folder| folder.entries()).map_err(io::Error::other)? {
        let name = entry.name.to_string_lossy();
        let process = name.split_once('-').and_then(|(pid, start)| Some((pid.parse().ok()?, start.parse().ok()?)));
        let Some(process) = process.map(|(pid, start)| Process { pid, start }) else { continue };
        if !process.is_alive() {
            // Another one may be at it as well.
            let folder = above.join(&entry.name);
            Control::remove(&folder).unwrap_or_else(|error| log::warn!("cannot remove {}: {error}", folder.display()));
        }
    }
    Ok(())
}

/// The number of the user that Borg becomes.
///
/// # Errors
///
/// When the system has no such user.
pub fn user() -> Result<u32, SandboxError> {
    Ok(sandbox::find_user(USER)?.uid.as_raw())
}

/// The archives of the repository, read by a Borg that may read it and write into `folder`, and nothing else.
///
/// # Errors
///
/// When this program cannot be found, which confines it.
pub fn confined<'e>(
    exec: &'e dyn Exec,
    repository: &Path,
    folder: &Path,
    passphrase: Secret,
) -> io::Result<Archives<'e>> {
    let sandbox = Sandbox {
        user: USER.to_owned(),
        alias: None,
        folder: folder.to_owned(),
        read: vec![repository.to_owned()],
        ports: Vec::new(),
        lookup: Lookup::None,
        control: None,
        parent: Some(std::process::id()),
        reads_all: true,
    };
    let confiner = std::env::current_exe()?;
    Ok(Archives { exec, repository: repository.to_owned(), sandbox, confiner, passphrase, key_file: None })
}
