//! Sandbox: a program that handles what a stranger sends runs as an ordinary user and gets at one folder only.
//!
//! Two layers, and either holds alone. The program becomes a system user without groups, capabilities and new privileges,
//! so what is not this user's is not its to change. Landlock then leaves it one folder to write in, a few to read, and
//! TCP connections to the named ports, as far as the kernel can do that ([`support()`]).

mod calls;
mod control;
mod lent;
mod lookup;
mod support;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope, make_bitflags, path_beneath_rules,
};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User, getppid, setgroups, setresgid, setresuid};

use rustix::thread::{self, CapabilitySet, CapabilitySets};

use crate::error::{Class, Classified};
use crate::exec::Invocation;

pub use self::control::Control;
pub use self::lent::Lent;
pub use self::lookup::{BadLookup, Lookup};
pub use self::support::{Support, support};

/// The users of the system.
const PASSWD: &str = "/etc/passwd";

/// The newest rights that the tests have seen at work; older kernels get what they know of them.
const KNOWN: ABI = ABI::V7;

/// Where programs and their libraries lie.
const PROGRAMS: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What programs read to load libraries, to find users, hosts and services, and to tell the time.
const READABLE: [&str; 18] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/localtime",
    "/etc/ssl/openssl.cnf",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/nscd",
    "/dev/random",
    "/dev/urandom",
];

/// The variables of this process's environment that a confined program gets.
const VARIABLES: [&str; 5] = ["PATH", "LC_ALL", "TZ", "TERM", "RSYNC_PASSWORD"];

/// What a confined program may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The system user that it becomes.
    pub user: String,
    /// Numbers of its own that it gets instead of that user's, so that what is another's stays another's.
    pub alias: Option<Alias>,
    /// Its working directory, and the only place where it may write; no folder above needs to be open to the user.
    pub folder: PathBuf,
    /// Files and folders that it may read besides the system's programs and what they need.
    pub read: Vec<PathBuf>,
    /// The TCP ports that it may connect to.
    pub ports: Vec<u16>,
    /// How it finds the names of hosts.
    pub lookup: Lookup,
    /// The folder of a [`Control`], for an ssh that shares its connection; what listens in `/run` is then hidden, unless the
    /// machine's services are asked for names.
    pub control: Option<PathBuf>,
    /// The process that it must not outlive.
    pub parent: Option<u32>,
    /// Whether it may read what its user may not, within [`Sandbox::read`] and what every program reads: files of others that are
    /// only to be read.
    pub reads_all: bool,
}

/// A user and a group without a name in the system's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The number of both.
    pub id: u32,
    /// A file that the program sees in the place of `/etc/passwd`: ssh does not run for a user without a name.
    pub passwd: PathBuf,
}

/// Why a program was not confined; it was not started either.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// There is no such user.
    #[error("there is no user {user}; make it with `systemd-sysusers` or `useradd --system {user}`")]
    NoUser {
        /// Its name.
        user: String,
    },
    /// The user is root, which nothing confines.
    #[error("refusing to confine a program as root; name an ordinary user")]
    Root,
    /// The users of the system cannot be read.
    #[error("cannot look up the user {user}")]
    Users {
        /// Its name.
        user: String,
        /// What the system said.
        source: Errno,
    },
    /// The folder cannot be entered, or something cannot be read.
    #[error("cannot open {} for the confined program", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// This process cannot become the user.
    #[error("cannot become the user {user}")]
    Become {
        /// Its name.
        user: String,
        /// What the system said.
        source: Errno,
    },
    /// The system's users cannot be hidden behind others.
    #[error("cannot put {} in the place of {PASSWD} for the confined program", path.display())]
    View {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Errno,
    },
    /// System calls cannot be taken away.
    #[error("cannot take system calls away from the confined program")]
    Calls(#[from] seccompiler::Error),
    /// The descriptors that this process was given cannot be closed.
    #[error("cannot close what this process was started with")]
    Descriptors(#[source] io::Error),
    /// The process that started this one has ended, and so must this.
    #[error("the program that started this one has ended")]
    Orphan,
    /// The copy of a secret cannot be made or removed.
    #[error("cannot lend {} as {}", original.display(), copy.display())]
    Lend {
        /// The secret.
        original: PathBuf,
        /// Its copy.
        copy: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Landlock is there and refuses.
    #[error("cannot confine the program with Landlock")]
    Landlock(#[from] RulesetError),
}

impl Classified for SandboxError {
    fn class(&self) -> Class {
        match self {
            Self::NoUser { .. }
            | Self::Root
            | Self::Users { .. }
            | Self::Open { .. }
            | Self::Become { .. }
            | Self::View { .. }
            | Self::Calls(_)
            | Self::Descriptors(_)
            | Self::Orphan
            | Self::Lend { .. }
            | Self::Landlock(_) => Class::Config,
        }
    }
}

impl Sandbox {
    /// The words to put before a program so that it runs confined; `phobos_pull` understands them
    /// ([`Invocation::through`]).
    pub fn words(&self, phobos_pull: &Path) -> Vec<OsString> {
        let mut words: Vec<OsString> =
            vec![phobos_pull.into(), "confined".into(), "--user".into(), (&self.user).into()];
        if let Some(alias) = &self.alias {
            words.extend(["--alias".into(), alias.id.to_string().into()]);
            words.extend(["--passwd".into(), alias.passwd.clone().into()]);
        }
        words.extend(["--folder".into(), self.folder.clone().into()]);
        words.extend(self.read.iter().flat_map(|path| ["--read".into(), path.into()]));
        words.extend(self.ports.iter().flat_map(|port| ["--connect".into(), port.to_string().into()]));
        words.extend(self.control.iter().flat_map(|folder| ["--control".into(), folder.into()]));
        words.extend(self.lookup.word().into_iter().flat_map(|word| ["--lookup".into(), word.into()]));
        words.extend(self.parent.iter().flat_map(|parent| ["--parent".into(), parent.to_string().into()]));
        words.extend(self.reads_all.then(|| "--reads-all".into()));
        words
    }

    /// The call, confined: it is started by `phobos_pull`, without this process's environment.
    #[must_use]
    pub fn confine(&self, phobos_pull: &Path, call: Invocation) -> Invocation {
        call.through(self.words(phobos_pull)).only_env(&VARIABLES)
    }

    /// Confines this process, for good; it is about to become the program.
    ///
    /// # Errors
    ///
    /// [`SandboxError`]; this process may be confined in part, and must end.
    pub fn enter(&self) -> Result<(), SandboxError> {
        let open = |path: &Path, source| SandboxError::Open { path: path.to_owned(), source };
        close_descriptors().map_err(SandboxError::Descriptors)?;
        let mut user = find_user(&self.user)?;
        if let Some(alias) = &self.alias {
            (user.uid, user.gid) = (Uid::from_raw(alias.id), Gid::from_raw(alias.id));
            if user.uid.is_root() {
                return Err(SandboxError::Root);
            }
            alias.hide_users()?;
        }
        if let Some(control) = self.control.as_ref().filter(|_| self.lookup != Lookup::Services) {
            // The namespace is the one that the alias has made; without one this would hide them from everybody.
            if self.alias.is_none() {
                return Err(open(control, io::Error::other("only a user with an alias shares a connection")));
            }
            let shown: Vec<&Path> = self.read.iter().chain([control]).map(PathBuf::as_path).collect();
            control::hide_services(&shown).map_err(|source| open(Path::new("/run"), source))?;
        }
        let rules = self.rules()?;
        // As root and by path; the program itself only ever sees its working directory.
        std::env::set_current_dir(&self.folder).map_err(|source| open(&self.folder, source))?;
        become_user(&user, self.parent, self.reads_all)?;
        // What must be readable is tried as the user: a key that is not would be told as a failed login.
        for path in &self.read {
            let kind = fs::metadata(path).map_err(|source| open(path, source))?;
            let tried = if kind.is_dir() { fs::read_dir(path).map(drop) } else { File::open(path).map(drop) };
            tried.map_err(|source| open(path, source))?;
        }
        prctl::set_no_new_privs().map_err(|source| SandboxError::Become { user: self.user.clone(), source })?;
        rules.restrict_self()?;
        calls::restrict(self.lookup, self.control.is_some())?;
        Ok(())
    }

    /// What Landlock is to allow; everything else that it knows of is forbidden.
    fn rules(&self) -> Result<landlock::RulesetCreated, SandboxError> {
        let (read, run) = (AccessFs::ReadFile | AccessFs::ReadDir, AccessFs::from_read(KNOWN));
        let null = make_bitflags!(AccessFs::{ReadFile | WriteFile});
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))?
            .handle_access(AccessNet::from_all(KNOWN))?
            .scope(Scope::from_all(KNOWN))?
            .create()?
            .add_rules(path_beneath_rules(PROGRAMS, run))?
            .add_rules(path_beneath_rules(READABLE, read))?
            .add_rules(path_beneath_rules(["/dev/null"], null))?
            .add_rule(PathBeneath::new(opened(&self.folder)?, writable()))?;
        for path in &self.read {
            // A missing one is told by name, instead of leaving the program to stumble over it.
            opened(path)?;
            rules = rules.add_rules(path_beneath_rules([path], read))?;
        }
        if let Some(control) = &self.control {
            rules = rules.add_rule(PathBeneath::new(opened(control)?, control::rights()))?;
        }
        for port in &self.ports {
            rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
        Ok(rules)
    }
}

impl Alias {
    /// Gives this process a mount namespace in which the system's users are those of a file.
    fn hide_users(&self) -> Result<(), SandboxError> {
        let failed = |source| SandboxError::View { path: self.passwd.clone(), source };
        unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing).map_err(failed)?;
        mount(Some(&self.passwd), PASSWD, nothing, MsFlags::MS_BIND, nothing).map_err(failed)
    }

    /// What the program is to find in `/etc/passwd`: the system's users, and one called `name` with this number.
    ///
    /// # Errors
    ///
    /// If the system's users cannot be read.
    pub fn users(id: u32, name: &str) -> io::Result<Vec<u8>> {
        let mut users = fs::read(PASSWD)?;
        if !users.ends_with(b"\n") {
            users.push(b'\n');
        }
        users.extend(format!("{name}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin\n").into_bytes());
        Ok(users)
    }
}

/// The user with this name.
///
/// # Errors
///
/// If there is none, or it is root.
pub fn find_user(name: &str) -> Result<User, SandboxError> {
    let found = User::from_name(name).map_err(|source| SandboxError::Users { user: name.to_owned(), source })?;
    let user = found.ok_or_else(|| SandboxError::NoUser { user: name.to_owned() })?;
    if user.uid.is_root() { Err(SandboxError::Root) } else { Ok(user) }
}

/// A descriptor that stands for `path` in a rule.
fn opened(path: &Path) -> Result<PathFd, SandboxError> {
    let cause = |error: landlock::PathFdError| match error {
        landlock::PathFdError::OpenCall { source, .. } => source,
        other => io::Error::other(other),
    };
    PathFd::new(path).map_err(|error| SandboxError::Open { path: path.to_owned(), source: cause(error) })
}

/// Everything but running what was received and making devices, sockets and named pipes.
fn writable() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{
        ReadFile | ReadDir | WriteFile | Truncate | Refer | MakeReg | MakeDir | MakeSym | RemoveFile | RemoveDir
    })
}

/// Closes all descriptors but the three that every program has: others are whoever's that started this process.
fn close_descriptors() -> io::Result<()> {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        match nix::unistd::close(descriptor) {
            // The one that the folder was read with.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Ends all processes of the user with the number `id`, at once and whatever they are about to start.
///
/// This process becomes that user, and is good for nothing else afterwards.
///
/// # Errors
///
/// If this process cannot become the user, or it is root.
pub fn end_all(id: u32) -> Result<(), SandboxError> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    if uid.is_root() {
        return Err(SandboxError::Root);
    }
    let failed = |source| SandboxError::Become { user: id.to_string(), source };
    setgroups(&[]).map_err(failed)?;
    setresgid(gid, gid, gid).map_err(failed)?;
    setresuid(uid, uid, uid).map_err(failed)?;
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        // There was none.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(source) => Err(failed(source)),
    }
}

fn become_user(user: &User, parent: Option<u32>, reads_all: bool) -> Result<(), SandboxError> {
    let failed = |source| SandboxError::Become { user: user.name.clone(), source };
    let missing = |error: rustix::io::Errno| failed(Errno::from_raw(error.raw_os_error()));
    if reads_all {
        thread::set_keep_capabilities(true).map_err(missing)?;
    }
    setgroups(&[]).map_err(failed)?;
    let (uid, gid): (Uid, Gid) = (user.uid, user.gid);
    setresgid(gid, gid, gid).map_err(failed)?;
    setresuid(uid, uid, uid).map_err(failed)?;
    if reads_all {
        // The one that reads past permissions, and no other; the program that this process becomes keeps it.
        let one = CapabilitySet::DAC_READ_SEARCH;
        let sets = CapabilitySets { effective: one, permitted: one, inheritable: one };
        thread::set_capabilities(None, sets).map_err(missing)?;
        thread::configure_capability_in_ambient_set(one, true).map_err(missing)?;
    }
    if let Some(parent) = parent {
        // Only now: with a change of user the kernel forgets whom this process must not outlive.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
        if u32::try_from(getppid().as_raw()) != Ok(parent) {
            return Err(SandboxError::Orphan);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
