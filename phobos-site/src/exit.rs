//! How a program's end is told: one line for a human, one exit code for systemd.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::spare;
use phobos_core::block::{DiskError, PowerError};
use phobos_core::borg::BorgError;
use phobos_core::borg::archive::ArchiveError;
use phobos_core::borg::state::StateError;
use phobos_core::copy::CopyError;
use phobos_core::error::{Chain, Class, Classified};
use phobos_core::exec::{ExecError, MissingPrograms};
use phobos_core::fs::FsError;
use phobos_core::lock::LockError;
use phobos_core::luks::LuksError;
use phobos_core::mount::MountError;
use phobos_core::namespace::NamespaceError;
use phobos_core::sandbox::SandboxError;
use phobos_core::signal;
use phobos_core::ssh::SshError;
use phobos_core::systemd::SystemdError;
use phobos_core::teardown::TeardownError;

/// The exit codes of every phobos program (sysexits(3) where it has one; 200 to 245 are systemd's).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The job failed: 1.
    Failed,
    /// Wrong arguments: 2.
    Usage,
    /// Refused, because a source or a drive is not what it should be: 65.
    Refused,
    /// The drive or the host is not there: 66.
    Absent,
    /// Somebody else holds what is needed; try later: 75.
    Busy,
    /// Only root, or a certain user, may do this: 77.
    NotPermitted,
    /// The configuration is wrong: 78.
    Config,
    /// Ended by this signal: 128 + N.
    Signal(i32),
}

/// How many columns the help of a program takes at most, however wide the terminal is.
pub const WIDTH: usize = 80;

/// What every program's `--help` says of [`Exit`].
pub const HELP: &str = "\
Exit codes:
  0      done
  1      failed
  2      wrong arguments
  65     refused: the source or the drive is not what it should be
  66     the drive or the host is not there
  75     busy: somebody else holds what is needed; try later
  77     not permitted: only root, or a certain user, may do this
  78     the configuration is wrong
  128+N  ended by signal N";

/// An error with the exit code that it stands for.
///
/// The binaries use it where they refuse; errors of the libraries are classified by [`exit_of`].
#[derive(Debug)]
pub struct Stop {
    exit: Exit,
    message: String,
}

/// Checks that this process may do what only root may.
///
/// # Errors
///
/// A [`Stop`] that says so, for anybody else.
pub fn require_root() -> Result<(), Stop> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(Stop::new(Exit::NotPermitted, "only root can do this; run it with sudo or as a system unit"))
    }
}

/// Logs a program's error on one line and returns the exit code it stands for; `E` is a boxed error, or anyhow's.
pub fn conclude<E>(result: Result<(), E>) -> ExitCode
where
    E: AsRef<dyn Error + Send + Sync + 'static>,
{
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = error.as_ref();
            log::error!("{}", line(error));
            exit_of(error).into()
        }
    }
}

/// Runs a program's work; a panic in it, which [`crate::logging::init`] has told of, ends it with 1.
///
/// Guards take down what they hold on the way, and a [`crate::job::Job`] tells of its failure. Limits on files and descriptors end
/// no program before it has told anybody.
pub fn guarded(work: impl FnOnce() -> ExitCode) -> ExitCode {
    if let Err(error) = signal::outlive_file_limit() {
        log::debug!("cannot catch SIGXFSZ: {error}");
    }
    spare::keep();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(Exit::Failed.into())
}

/// The line that ends a program with `error`: all its sources, and what to do for somebody who may not what root may.
pub fn line(error: &(dyn Error + 'static)) -> String {
    line_for(error, rustix::process::geteuid().is_root())
}

fn line_for(error: &(dyn Error + 'static), is_root: bool) -> String {
    let mut sources = std::iter::successors(Some(error), |error| (*error).source());
    let denied = sources.any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    });
    let advice = if denied && !is_root { "; run it with sudo or as a system unit" } else { "" };
    format!("{}{advice}", Chain(error))
}

/// The exit code that `error`, or the first of its sources with a code of its own, stands for.
pub fn exit_of(error: &(dyn Error + 'static)) -> Exit {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(exit) = own_exit(error) {
            return exit;
        }
        if let Some(teardown) = error.downcast_ref::<TeardownError>() {
            return exit_of(teardown.first());
        }
        next = error.source();
    }
    Exit::Failed
}

/// The program that made `error` what it is, `signal` if this process was asked to end, or `None` for phobos itself.
pub fn origin_of(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(teardown) = error.downcast_ref::<TeardownError>() {
            return origin_of(teardown.first());
        }
        if matches!(own_exit(error), Some(Exit::Signal(_))) {
            return Some("signal".to_owned());
        }
        match error.downcast_ref::<ExecError>() {
            Some(ExecError::Failed { invocation, .. } | ExecError::TimedOut { invocation, .. }) => {
                return Some(invocation.program().to_owned());
            }
            _ => next = error.source(),
        }
    }
    None
}

/// The class of one error, its sources left out; `None` for what is nobody's in particular.
fn class_of(error: &(dyn Error + 'static)) -> Option<Class> {
    /// The class of `error`, if it is one of these.
    macro_rules! first_of {
        ($($kind:ty),+ $(,)?) => {
            None$(.or_else(|| error.downcast_ref::<$kind>().map(Classified::class)))+
        };
    }
    first_of!(
        ArchiveError,
        BorgError,
        ConfigError,
        SandboxError,
        CopyError,
        DiskError,
        ExecError,
        FsError,
        StateError,
        LockError,
        LuksError,
        MissingPrograms,
        MountError,
        NamespaceError,
        PowerError,
        SshError,
        SystemdError,
    )
}

/// The exit code of one error, its sources left out.
fn own_exit(error: &(dyn Error + 'static)) -> Option<Exit> {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return Some(stop.exit);
    }
    class_of(error).and_then(|class| match class {
        Class::Failed => Some(Exit::Failed),
        Class::Refused => Some(Exit::Refused),
        Class::Absent => Some(Exit::Absent),
        Class::Busy => Some(Exit::Busy),
        Class::NotPermitted => Some(Exit::NotPermitted),
        Class::Config => Some(Exit::Config),
        Class::Signal(signal) => Some(Exit::Signal(signal)),
        Class::Source => None,
    })
}

impl Stop {
    /// An error that says `message` and stands for `exit`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The error of work that this signal has ended.
    pub fn by_signal(signal: i32) -> Self {
        Self::new(Exit::Signal(signal), format!("stopped by signal {signal}"))
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Stop {}

impl Exit {
    /// The number given to the parent process.
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 65,
            Self::Absent => 66,
            Self::Busy => 75,
            Self::NotPermitted => 77,
            Self::Config => 78,
            Self::Signal(signal) => 128_u8.saturating_add(u8::try_from(signal).unwrap_or(127)),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::led::LedError;
    use phobos_core::exec::Invocation;
    use phobos_core::teardown;

    #[test]
    fn the_first_error_decides_the_exit_code() {
        let refused = || Stop::new(Exit::Refused, "the drive holds something else");
        assert_eq!(exit_of(&refused()), Exit::Refused);
        assert_eq!(exit_of(&std::io::Error::other(refused())), Exit::Failed, "io::Error hides its payload");
        let both = teardown::join::<(), _, _>(Err(refused()), Err("cannot close")).unwrap_err();
        assert_eq!(exit_of(&both), Exit::Refused);
        assert_eq!(Chain(&both).to_string(), "the drive holds something else; then: cannot close");
    }

    #[test]
    fn whoever_is_not_allowed_learns_what_to_do() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let denied = LedError::Io { action: "open", path: "/run/x".into(), source };
        let line = line_for(&denied, false);
        assert_eq!(line, "cannot open /run/x: permission denied; run it with sudo or as a system unit");
        assert_eq!(line_for(&denied, true), "cannot open /run/x: permission denied");
        assert_eq!(line_for(&Stop::new(Exit::Failed, "no drive"), false), "no drive");
    }

    #[test]
    fn an_error_that_only_passes_on_has_the_code_of_its_source() {
        let interrupted = ExecError::Interrupted { invocation: Invocation::new("umount").arg("/x").call(), signal: 15 };
        let umount = MountError::Unmount { target: "/x".into(), users: String::new(), source: interrupted };
        assert_eq!(exit_of(&umount), Exit::Signal(15));
        let read = MountError::Read { path: "/x".into(), source: io::ErrorKind::NotFound.into() };
        assert_eq!(exit_of(&NamespaceError::Table(read)), Exit::Failed);
    }

    #[test]
    fn codes_are_those_of_the_manual() {
        let codes =
            [Exit::Failed, Exit::Usage, Exit::Refused, Exit::Absent, Exit::Busy, Exit::Config, Exit::Signal(15)];
        assert_eq!(codes.map(Exit::code), [1, 2, 65, 66, 75, 78, 143]);
        let told =
            [Exit::Failed, Exit::Usage, Exit::Refused, Exit::Absent, Exit::Busy, Exit::NotPermitted, Exit::Config];
        for exit in told {
            assert!(HELP.contains(&format!("\n  {:<5}  ", exit.code())), "{exit:?}");
        }
    }
}
