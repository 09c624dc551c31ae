//! `phobos-pull check HOST`: proves that a host's sources can be read, and that nothing else can be done to it.
//!
//! Everything is tried as a pull would do it: as the same user, confined in the same way, with the same key.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use phobos_core::confine::{Lent, support};
use phobos_core::exec::{Exec, ExecError, Invocation, Status, System};
use phobos_core::signal::Signals;
use phobos_core::{folders, rsync, ssh};
use phobos_site::config::Config;
use phobos_site::exit::{Exit, Stop};
use phobos_site::paths::Paths;
use phobos_site::pull::{Connection, Host, HostName, Origin};

use crate::allowed::{self, USER};
use crate::{authorize, client, pull};

/// ssh's own exit code, for a connection or a login that failed.
const SSH_FAILED: i32 = 255;

/// rsync's exit code for a daemon that it cannot connect to.
const NO_SOCKET: i32 = 10;

/// How long one attempt may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What only a shell on the host can write.
const MARK: &str = "phobos-pull-was-here";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The host
    #[arg(value_name = "HOST")]
    host: HostName,
}

/// Tries everything and says what it found; what a key can do too much is a warning.
///
/// # Errors
///
/// The first thing that does not work as a pull needs it.
pub(crate) fn run(config: &Config, args: &Args) -> Result<(), anyhow::Error> {
    let host = pull::find(config, &args.host)?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    if host.is_local() {
        return readable(&host);
    }
    if let Some(shortfall) = support().shortfall() {
        log::warn!("{shortfall}");
    }
    let folder = Paths::from_environment().runtime.join("check");
    folders::make_shared(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lent = lend(config, &host)?;
    let check = Check {
        config,
        host: &host,
        system: &system,
        program: std::env::current_exe().context("cannot find this program")?,
        folder,
        identity: lent.as_ref().map(|lent| lent.path().to_owned()).unwrap_or_default(),
    };
    host.connections().iter().try_for_each(|connection| check.connection(connection))?;
    // Where something failed before, it is taken back all the same.
    lent.map_or(Ok(()), Lent::close)?;
    Ok(())
}

/// The key as the confined user may read it, for a host that is reached with ssh.
fn lend(config: &Config, host: &Host) -> Result<Option<Lent>, anyhow::Error> {
    if !host.sources.iter().any(|source| matches!(source.origin, Origin::Ssh { .. })) {
        return Ok(None);
    }
    let identity = host.identity(&config.folder);
    if !identity.exists() {
        let message = format!("there is no key {}; run `phobos-pull authorize {}`", identity.display(), host.name);
        return Err(Stop::new(Exit::Config, message).into());
    }
    let name = format!("{}.check", host.name);
    Ok(Some(Lent::new(&identity, USER, &Paths::from_environment().runtime.join("pull"), &name)?))
}

/// The folders of this machine are there and can be read.
fn readable(host: &Host) -> Result<(), anyhow::Error> {
    for source in &host.sources {
        let path = source.path.display();
        std::fs::symlink_metadata(&source.path).with_context(|| format!("cannot read {path}"))?;
        client::say(&format!("{}: {path} can be read\n", host.name))?;
    }
    Ok(())
}

/// What is at hand to try one connection.
struct Check<'a> {
    config: &'a Config,
    host: &'a Host,
    system: &'a System<'a>,
    program: PathBuf,
    /// An empty folder, which nobody but root can write.
    folder: PathBuf,
    identity: PathBuf,
}

impl Check<'_> {
    fn connection(&self, connection: &Connection<'_>) -> Result<(), anyhow::Error> {
        let is_ssh = matches!(connection.origin, Origin::Ssh { .. });
        if is_ssh {
            self.host_key(connection.origin)?;
            self.command(connection.origin)?;
        }
        self.reading(connection)?;
        self.writing(connection)?;
        if is_ssh {
            self.forwarding(connection.origin)?;
        }
        Ok(())
    }

    fn host_key(&self, origin: &Origin) -> Result<(), anyhow::Error> {
        let address = origin.address().unwrap_or_default();
        let name = ssh::known_as(address, self.host.port.unwrap_or(22));
        if ssh::known(self.system, &client::known_hosts(self.config), &name)?.is_empty() {
            let message = format!("the host key of {name} is not known; run `phobos-pull trust {}`", self.host.name);
            return Err(Stop::new(Exit::Refused, message).into());
        }
        self.say("the host key is known")
    }

    /// Logs in with a command that is none of rsync's.
    fn command(&self, origin: &Origin) -> Result<(), anyhow::Error> {
        let whom = self.whom(origin);
        let said = match self.run(origin, self.ssh(origin).args([&format!("echo {MARK}")])) {
            Ok(finished) => finished.text(),
            Err(ExecError::Failed { status: Status::Code(SSH_FAILED), stderr, .. }) => {
                return Err(self.not_logged_in(&whom, &stderr).into());
            }
            Err(ExecError::Failed { .. }) => String::new(),
            Err(error) => return Err(error.into()),
        };
        self.say(&format!("{whom} accepts the key"))?;
        if said.contains(MARK) { self.too_much("run any command") } else { self.say("any other command is refused") }
    }

    fn reading(&self, connection: &Connection<'_>) -> Result<(), anyhow::Error> {
        let call = self.rsync(connection.origin).args(["--list-only", "--dirs"]);
        let listed = self.run(connection.origin, call.arg("--").args(self.host.arguments(connection)));
        if let Err(ExecError::Failed { status: Status::Code(NO_SOCKET), .. }) = &listed {
            let address = connection.origin.address().unwrap_or_default();
            return Err(
                Stop::new(Exit::Absent, format!("cannot reach {address}; is it on, and its rsync daemon?")).into()
            );
        }
        listed.with_context(|| format!("cannot read the sources of {}", self.host.name))?;
        for source in &connection.sources {
            self.say(&format!("{} can be read", source.path.display()))?;
        }
        Ok(())
    }

    /// Offers an empty folder for the place of the sources, in a rehearsal: even if it is taken, nothing changes.
    fn writing(&self, connection: &Connection<'_>) -> Result<(), anyhow::Error> {
        let place = self.host.arguments(connection).into_iter().next().unwrap_or_default();
        let call = self.rsync(connection.origin).args(["--dry-run", "--dirs", "--", "./", &place]);
        match self.run(connection.origin, call) {
            Ok(_) => self.too_much("write"),
            Err(ExecError::Failed { status: Status::Code(code), .. }) if code != SSH_FAILED => {
                self.say("writing is refused")
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks for a connection to the host's own ssh server, through the host.
    fn forwarding(&self, origin: &Origin) -> Result<(), anyhow::Error> {
        let port = self.host.port.unwrap_or(22);
        let call = self.ssh_with(origin, &["-W", &format!("localhost:{port}")]);
        match self.run(origin, call) {
            Err(ExecError::Failed { stderr, .. }) if stderr.contains("prohibited") => self.say("forwarding is refused"),
            Ok(_) | Err(ExecError::Failed { .. }) => self.too_much("reach other machines through the host"),
            Err(error) => Err(error.into()),
        }
    }

    /// Why a login failed, and what to do.
    fn not_logged_in(&self, whom: &str, stderr: &str) -> Stop {
        let name = &self.host.name;
        let (exit, advice) =
            if stderr.contains("Host key verification failed") || stderr.contains("HOST IDENTIFICATION") {
                (Exit::Refused, format!("if its key was changed for a good reason, run `phobos-pull trust {name}`"))
            } else if stderr.contains("Permission denied") {
                (Exit::Failed, format!("put the line that `phobos-pull authorize {name}` prints there"))
            } else {
                (Exit::Absent, "is it on?".to_owned())
            };
        let last = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("ssh does not say why");
        Stop::new(exit, format!("cannot log in as {whom}: {last}; {advice}"))
    }

    /// Warns of a key, or a module, that lets this machine do what no pull needs.
    fn too_much(&self, what: &str) -> Result<(), anyhow::Error> {
        let name = &self.host.name;
        if self.host.connections().iter().any(|connection| matches!(connection.origin, Origin::Ssh { .. })) {
            let line = authorize::line(self.system, self.config, self.host)?;
            log::warn!("{name} lets this machine {what}; use this line in its authorized_keys instead: {line}");
        } else {
            log::warn!("{name} lets this machine {what}; set `read only = true` in its rsyncd.conf");
        }
        Ok(())
    }

    /// Runs a call as a pull would.
    fn run(&self, origin: &Origin, call: Invocation) -> Result<phobos_core::exec::Finished, ExecError> {
        let known_hosts = client::known_hosts(self.config);
        let secrets = [self.identity.as_path(), &known_hosts];
        let secrets: &[&Path] = if matches!(origin, Origin::Ssh { .. }) { &secrets } else { &[] };
        let confinement = allowed::confinement(self.host, origin, &self.folder, secrets);
        self.system.run(&confinement.confine(&self.program, call.limit(LIMIT)))
    }

    fn rsync(&self, origin: &Origin) -> Invocation {
        let call = Invocation::new("rsync");
        // With a remote shell rsync would look for the daemon behind it.
        if !matches!(origin, Origin::Ssh { .. }) {
            return call;
        }
        let words = self.host.ssh(&self.config.folder, &self.identity);
        call.arg(format!("--rsh={}", rsync::rsh(&words)))
    }

    fn ssh(&self, origin: &Origin) -> Invocation {
        self.ssh_with(origin, &[])
    }

    fn ssh_with(&self, origin: &Origin, more: &[&str]) -> Invocation {
        let words = self.host.ssh(&self.config.folder, &self.identity);
        Invocation::new("ssh").args(words.iter().skip(1)).args(more).args(["--", &self.whom(origin)])
    }

    /// `USER@ADDRESS`.
    fn whom(&self, origin: &Origin) -> String {
        let user = self.host.user_at(origin).map(|user| format!("{}@", user.as_str())).unwrap_or_default();
        format!("{user}{}", origin.address().unwrap_or_default())
    }

    fn say(&self, text: &str) -> Result<(), anyhow::Error> {
        client::say(&format!("{}: {text}\n", self.host.name))
    }
}
