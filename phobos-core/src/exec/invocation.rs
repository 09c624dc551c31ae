//! A call of a program as data.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

/// How long a program may run that was given no limit of its own ([`Invocation::limit`], [`Invocation::while_it_gets_on`]).
const DEFAULT_LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// A call of a program as data: program, arguments, environment, input, and what a signal to this process means for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) stdin: Secret,
    pub(super) lifetime: Lifetime,
    pub(super) through: Vec<OsString>,
    pub(super) only_env: Option<&'static [&'static str]>,
    pub(super) limit: Option<Duration>,
    pub(super) stall: Option<Duration>,
    pub(super) to_the_last: bool,
}

/// What happens to a program when this process ends, or gets a signal that asks it to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Like any child of a shell: it is in this process's group, so Ctrl-C at the terminal reaches it too.
    Normal,
    /// In a process group of its own: only this process ends it.
    Apart,
    /// In a process group of its own, and it runs to completion even when this process is asked to end.
    Shielded,
    /// In a process group of its own, and the kernel kills it when this process dies.
    Bound,
}

/// The standard input of a program. It may be a key, so `Debug` does not show it, and it is wiped out of memory in the end.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub(super) Zeroizing<Vec<u8>>);

/// A call as messages show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call(Box<Shown>);

/// The call's program and all of its words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    program: String,
    text: String,
}

impl Invocation {
    /// A call of `program` without arguments, found through [`super::find`].
    pub fn new(program: &str) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: Secret::default(),
            lifetime: Lifetime::Normal,
            through: Vec::new(),
            only_env: None,
            limit: Some(DEFAULT_LIMIT),
            stall: None,
            to_the_last: false,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment; the rest is this process's, with `LC_ALL=C.UTF-8`.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Gives the program `bytes` as its standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Secret>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Shields the program from the signals that end this process: clean-up must not be cut short.
    #[must_use]
    pub fn shielded(mut self) -> Self {
        self.lifetime = Lifetime::Shielded;
        self
    }

    /// Gives the program a process group of its own: Ctrl-C at the terminal then reaches this process alone.
    #[must_use]
    pub fn own_group(mut self) -> Self {
        self.lifetime = Lifetime::Apart;
        self
    }

    /// Ties the program's life to this process: if this process dies, the kernel sends it SIGKILL. An attached program gets
    /// SIGTERM instead, because it may have work to finish.
    ///
    /// Done by `setpriv --pdeathsig` of util-linux, which becomes the program; or by the program in front
    /// ([`Invocation::through`]), if there is one.
    #[must_use]
    pub fn bound(mut self) -> Self {
        self.lifetime = Lifetime::Bound;
        self
    }

    /// Starts the program through another, which gets these words, `--` and the call, and becomes the program.
    ///
    /// Messages show the call without it.
    #[must_use]
    pub fn through<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, wrapper: I) -> Self {
        self.through = wrapper.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Gives the program no variables of this process's environment but those named; [`Invocation::env`] adds to them.
    #[must_use]
    pub fn only_env(mut self, names: &'static [&'static str]) -> Self {
        self.only_env = Some(names);
        self
    }

    /// Ends the program if it runs longer than `limit`; without this, after two hours.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Lets the program run as long as it makes progress, as a copy needs: it is ended only when neither it nor its children
    /// have written output or used processor time for `stall`.
    #[must_use]
    pub fn while_it_gets_on(mut self, stall: Duration) -> Self {
        self.limit = None;
        self.stall = Some(stall);
        self
    }

    /// Takes the program as ended only when no process of it has its output open any more, 20 seconds later at the latest:
    /// the receiving half of an rsync that was told to end outlives the half that was started, and still writes.
    #[must_use]
    pub fn to_the_last(mut self) -> Self {
        self.to_the_last = true;
        self
    }
}

impl Invocation {
    /// The call as messages show it.
    pub fn call(&self) -> Call {
        Call(Box::new(Shown { program: self.program.display().to_string(), text: self.to_string() }))
    }
}

impl Call {
    /// The program, as it was called.
    pub fn program(&self) -> &str {
        &self.0.program
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<Zeroizing<Vec<u8>>> for Secret {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl Secret {
    /// The bytes themselves.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.display())?;
        for arg in &self.args {
            let arg = arg.to_string_lossy();
            if arg.is_empty() || arg.contains([' ', '\t', '\n', '\'', '"', '$', '\\']) {
                write!(f, " '{}'", arg.replace('\'', r"'\''").replace('\n', r"\n"))?;
            } else {
                write!(f, " {arg}")?;
            }
        }
        Ok(())
    }
}
