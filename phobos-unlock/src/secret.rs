//! A passphrase in memory: in one place, which is never swapped out, in no core file, and wiped in the end.

use std::time::Duration;

use anyhow::{Context, anyhow};
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, Invocation};
use phobos_core::terminal::{self, End};
use phobos_site::exit::Stop;
use phobos_site::logging;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use zeroize::{Zeroize, Zeroizing};

/// The longest passphrase, in bytes: more than cryptsetup takes from a terminal (`cryptsetup(8)`: 512), and what fits into a pipe.
const LONGEST: usize = 4096;

/// How much this process may lock into memory where it locks all of it, in bytes: as much as it will ever have, with its threads.
const ENOUGH: u64 = 256 * 1024 * 1024;

/// How long a password manager may take, which may ask somebody for its own.
const LIMIT: Duration = Duration::from_secs(300);

/// A passphrase.
pub(crate) type Secret = Zeroizing<Vec<u8>>;

/// Keeps what this process will know out of core files and other processes' sight, as far as it may.
pub(crate) fn harden() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let done = set_dumpable_behavior(DumpableBehavior::NotDumpable).and_then(|()| setrlimit(Resource::Core, none));
    if let Err(error) = done {
        log::warn!("cannot forbid core files: {error}");
    }
}

/// Room for a passphrase, which never moves and is never swapped out, as far as it may be locked.
fn room() -> Secret {
    let mut room = vec![0; LONGEST];
    room.clear();
    let limit = getrlimit(Resource::Memlock);
    let raised = setrlimit(Resource::Memlock, Rlimit { current: limit.maximum, maximum: limit.maximum });
    // With less, each thread that is started later could fail: then it is only what is there now, this room among it.
    let has_room =
        raised.is_ok() && limit.maximum.is_none_or(|most| most >= ENOUGH) || rustix::process::geteuid().is_root();
    let flags = if has_room { MlockAllFlags::CURRENT | MlockAllFlags::FUTURE } else { MlockAllFlags::CURRENT };
    if let Err(error) = mlockall(flags | MlockAllFlags::ONFAULT) {
        log::warn!("the passphrase may be swapped out: memory cannot be locked ({error})");
    }
    Zeroizing::new(room)
}

/// Asks whoever is there, or reads a line of standard input.
///
/// # Errors
///
/// When nobody gives one, or a signal comes first.
pub(crate) fn ask(name: &str, interrupted: &dyn Fn() -> Option<i32>) -> Result<Secret, anyhow::Error> {
    let mut secret = room();
    if terminal::is_there() {
        logging::draw(&format!("Passphrase of {name}: "));
    }
    match terminal::secret(&mut secret, interrupted).context("cannot read the passphrase")? {
        End::OfLine if secret.is_empty() => Err(anyhow!("an empty passphrase opens nothing")),
        End::OfLine => Ok(secret),
        End::OfInput => {
            Err(anyhow!("nobody gives a passphrase: standard input has none, and no `passphrase-command` is set"))
        }
        End::Interrupted(signal) => Err(Stop::by_signal(signal).into()),
    }
}

/// Has a program print it, such as a password manager; its first line counts.
///
/// # Errors
///
/// When the program fails, or prints none.
pub(crate) fn of_command(exec: &dyn Exec, command: &[String]) -> Result<Secret, anyhow::Error> {
    let Some((program, args)) = command.split_first() else { return Err(anyhow!("`passphrase-command` is empty")) };
    let mut printed = exec
        .run(&Invocation::new(program).args(args).limit(LIMIT))
        .map_err(|error| anyhow!("no passphrase came from `passphrase-command`: {}", Chain(&error)))?;
    let mut secret = room();
    let line = printed.stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let fits = !line.is_empty() && line.len() <= LONGEST;
    if fits {
        secret.extend_from_slice(line);
    }
    printed.stdout.zeroize();
    if fits { Ok(secret) } else { Err(anyhow!("`{program}` printed no passphrase, or one that is too long")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phobos_core::exec::fake::Script;

    #[test]
    fn a_command_prints_one_line() {
        let command = ["pass".to_owned(), "show".to_owned(), "nas".to_owned()];
        let of = |text: &str| of_command(&Script::new().says(text), &command).map(|secret| secret.to_vec());
        assert_eq!(of("a b\nuser: x\n").unwrap(), b"a b");
        assert_eq!(of("a b").unwrap(), b"a b");
        for text in ["", "\n", &"x".repeat(LONGEST + 1)] {
            assert!(of(text).is_err());
        }
        let failed = of_command(&Script::new().fails(1, "gpg: no key"), &command).unwrap_err().to_string();
        assert!(failed.contains("`pass show nas` failed with exit code 1: gpg: no key"), "{failed}");
    }
}
