//! `phobos-pull check HOST`: proves that a host's sources can be read, and that nothing else can be done to it.
//!
//! Everything is tried as a pull would do it: as the same user, confined in the same way, with the same key.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use phobos_core::exec::{Exec, ExecError, Invocation, Status, System};
use phobos_core::sandbox::{self, Alias, support};
use phobos_core::signal::Signals;
use phobos_core::{flock, fs, rsync, ssh};
use phobos_site::config::Config;
use phobos_site::exit::{Exit, Stop};
use phobos_site::paths::Paths;
use phobos_site::pull::{Connection, Host, HostName, Origin};

use crate::allowed::USER;
use crate::ending::{self, Complaints, Ending};
use crate::remote::{self, Files};
use crate::secrets::{Secrets, lent_name};
use crate::{allowed, authorize, client, pull, space, users, version};

/// ssh's own exit code, for a connection or a login that failed.
const SSH_FAILED: i32 = 255;

/// How long one attempt may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The name of the lock of checks, among what pulls are lent: no host's name begins with a dot.
const LOCK: &str = ".check.lock";

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
    if let Some(concern) = version::concern_here(&system) {
        log::warn!("{concern}");
    }
    let paths = Paths::from_environment();
    // All checks are one user's, whose processes end with each of them.
    let _lock = alone(&paths.runtime.join("pull"))?;
    let folder = paths.runtime.join("check");
    fs::make_shared(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    sandbox::find_user(USER)?;
    let owner = space::user_of_checks(config.backup.uid_base);
    let program = std::env::current_exe().context("cannot find this program")?;
    let is_known = if host.identity(&config.folder).exists() { host_keys(config, &host, &system)? } else { None };
    let secrets = Secrets::lend(config, &paths, &host, &host.identity(&config.folder), owner, "check")?;
    let users = users::lend(owner, &paths, &lent_name(&host.name, "check", "users"))?;
    let check = Check {
        config,
        host: &host,
        system: &system,
        program,
        folder,
        alias: Alias { id: owner, passwd: users.path().to_owned() },
        files: Secrets::files(secrets.as_ref()),
    };
    let work = is_known.map_or(Ok(()), |text| check.say(text));
    let work = work.and_then(|()| host.connections().iter().try_for_each(|connection| check.connection(connection)));
    let swept = users::sweep(&system, &check.program, owner);
    // Where something failed before, what was lent is taken back all the same.
    work?;
    swept?;
    users.close()?;
    secrets.map_or(Ok(()), Secrets::close)?;
    Ok(())
}

/// Keeps other checks away until it is dropped: by a lock in `folder` that nobody else can open.
///
/// # Errors
///
/// When one is under way.
pub(crate) fn alone(folder: &Path) -> Result<File, anyhow::Error> {
    fs::make_passage(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = flock::open(&fs::Dir::open(folder)?, Path::new(LOCK))?;
    let taken = flock::within(lock, Duration::ZERO);
    let taken = taken.with_context(|| format!("cannot lock {}", folder.join(LOCK).display()))?;
    taken.ok_or_else(|| Stop::new(Exit::Busy, "another check is under way; try again when it has ended").into())
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

/// All servers on the way are known, by their own keys or by an authority; says so, if there are any.
fn host_keys(config: &Config, host: &Host, system: &System<'_>) -> Result<Option<&'static str>, anyhow::Error> {
    if !host.sources.iter().any(|source| matches!(source.origin, Origin::Ssh { .. })) {
        return Ok(None);
    }
    for server in client::servers(host)? {
        let name = server.known_as();
        if ssh::known(system, &remote::known_hosts(&config.folder), &name)?.is_empty() {
            let message = format!("the host key of {name} is not known; run `phobos-pull trust {}`", host.name);
            return Err(Stop::new(Exit::Refused, message).into());
        }
    }
    Ok(Some("the host key is known"))
}

/// What is at hand to try one connection.
struct Check<'a> {
    config: &'a Config,
    host: &'a Host,
    system: &'a System<'a>,
    program: PathBuf,
    /// An empty folder, which nobody but root can write.
    folder: PathBuf,
    /// Who tries: a user with no holding space, and with a name in a file of its own.
    alias: Alias,
    /// What ssh reads, as the confined user can.
    files: Files<'a>,
}

impl Check<'_> {
    fn connection(&self, connection: &Connection<'_>) -> Result<(), anyhow::Error> {
        let is_ssh = matches!(connection.origin, Origin::Ssh { .. });
        if is_ssh {
            self.command(connection.origin)?;
        }
        self.reading(connection)?;
        self.writing(connection)?;
        if is_ssh {
            self.forwarding(connection.origin)?;
        }
        Ok(())
    }

    /// Logs in with a command that is none of rsync's.
    fn command(&self, origin: &Origin) -> Result<(), anyhow::Error> {
        let whom = self.whom(origin);
        let said = match self
            .run(origin, self.ssh(origin, &remote::ssh(self.host, self.files), &[]).arg(format!("echo {MARK}")))
        {
            Ok(finished) => finished.text(),
            Err(ExecError::Failed { status, stderr, .. }) => {
                // rrsync, too, can end with ssh's own code: what was said decides.
                if let Some((login, line)) = ssh::login(stderr.lines().map(str::trim)) {
                    let Ending { exit, text } = ending::of_login(login, line, self.host.name.as_str());
                    return Err(Stop::new(exit, format!("cannot log in as {whom}: {text}")).into());
                }
                if status == Status::Code(SSH_FAILED) && stderr.trim().is_empty() {
                    let text = format!("cannot log in as {whom}: ssh does not say why");
                    return Err(Stop::new(Exit::Failed, text).into());
                }
                String::new()
            }
            Err(error) => return Err(error.into()),
        };
        self.say(&format!("{whom} accepts the key"))?;
        if said.contains(MARK) { self.too_much("run any command") } else { self.say("any other command is refused") }
    }

    fn reading(&self, connection: &Connection<'_>) -> Result<(), anyhow::Error> {
        let call = self.rsync(connection.origin).args(["--list-only", "--dirs", "--debug=proto"]);
        let listed = self.run(connection.origin, call.arg("--").args(self.host.arguments(connection)));
        if let Err(ExecError::Failed { status: Status::Code(code), stderr, .. }) = &listed {
            let Ending { exit, text } = self.ending(*code, stderr);
            return Err(Stop::new(exit, format!("cannot read the sources of {}: {text}", self.host.name)).into());
        }
        if let Some(concern) = version::concern_there(&listed?.text(), self.host.name.as_str()) {
            log::warn!("{concern}");
        }
        for source in &connection.sources {
            self.say(&format!("{} can be read", source.path.display()))?;
        }
        Ok(())
    }

    /// Offers an empty folder for the place of the sources, in a dry run: even if it is taken, nothing changes.
    fn writing(&self, connection: &Connection<'_>) -> Result<(), anyhow::Error> {
        let place = self.host.arguments(connection).into_iter().next().unwrap_or_default();
        let call = self.rsync(connection.origin).args(["--dry-run", "--dirs", "--", "./", &place]);
        match self.run(connection.origin, call) {
            Ok(_) => self.too_much("write"),
            Err(ExecError::Failed { status: Status::Code(code), stderr, .. }) => {
                let lost = ssh::login(stderr.lines().map(str::trim)).is_some();
                if lost || (code == SSH_FAILED && stderr.trim().is_empty()) {
                    let Ending { exit, text } = self.ending(code, &stderr);
                    let text = format!("cannot try to write to {}: {text}", self.host.name);
                    return Err(Stop::new(exit, text).into());
                }
                self.say("writing is refused")
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks for a connection to the host's own ssh server, through the host.
    fn forwarding(&self, origin: &Origin) -> Result<(), anyhow::Error> {
        let port = self.host.port.unwrap_or(22);
        let call =
            self.ssh(origin, &remote::ssh_that_talks(self.host, self.files), &["-W", &format!("localhost:{port}")]);
        match self.run(origin, call) {
            Err(ExecError::Failed { stderr, .. }) if stderr.contains("prohibited") => self.say("forwarding is refused"),
            Ok(_) | Err(ExecError::Failed { .. }) => self.too_much("reach other machines through the host"),
            Err(error) => Err(error.into()),
        }
    }

    /// What the end of a call means.
    fn ending(&self, code: i32, stderr: &str) -> Ending {
        let mut complaints = Complaints::default();
        stderr.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| complaints.add(line));
        ending::of(code, &complaints, self.host.name.as_str())
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
        let secrets = [self.files.identity, self.files.known_hosts];
        let secrets: &[&Path] = if matches!(origin, Origin::Ssh { .. }) { &secrets } else { &[] };
        let confinement =
            allowed::confinement(self.host, origin, &self.folder, Some(self.alias.clone()), secrets, None);
        self.system.run(&confinement.confine(&self.program, call.limit(LIMIT)))
    }

    fn rsync(&self, origin: &Origin) -> Invocation {
        let call = Invocation::new("rsync");
        // With a remote shell rsync would look for the daemon behind it.
        if !matches!(origin, Origin::Ssh { .. }) {
            return call;
        }
        call.arg(format!("--rsh={}", rsync::rsh(&remote::ssh(self.host, self.files))))
    }

    fn ssh(&self, origin: &Origin, words: &[String], more: &[&str]) -> Invocation {
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
