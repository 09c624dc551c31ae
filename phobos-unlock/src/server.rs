//! A machine's ssh servers: which of them answers, and what it says of a passphrase.

use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use phobos_core::exec::{Exec, ExecError, Invocation};
use phobos_core::ssh::{self, HostKey, Login, login};
use phobos_site::exit::{Exit, Stop};
use zeroize::Zeroizing;

use crate::settings::{Machine, Place, Server, Stage};

/// How long a server may take to answer at all.
const CONNECT: Duration = Duration::from_secs(5);

/// How long one passphrase may take: cryptsetup works on it for seconds, on a slow machine for a minute.
const ANSWER: Duration = Duration::from_secs(180);

/// What is run there. Where the key is restricted, as it should be, it is what is run anyway; where it is not, no shell is given a
/// passphrase to run.
const COMMAND: &str = "cryptroot-unlock";

/// What a server turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nobody answers.
    Nobody,
    /// The system of this stage, by its pinned key.
    System(Stage),
    /// One with another key of a kind that is pinned.
    Stranger(Vec<HostKey>),
    /// One that shows keys of other kinds only: a slow one, which does not answer all questions, or one that was set up anew.
    Unclear(Vec<HostKey>),
}

/// What came of a passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// A disk is open, or none is closed any more.
    Unlocked,
    /// It opens no disk.
    Wrong,
    /// It does not ask for a passphrase now.
    NotNow(String),
    /// The connection came to nothing.
    Lost(String),
}

/// The machine as it is seen from here.
pub(crate) struct View<'a> {
    pub(crate) name: &'a str,
    pub(crate) machine: &'a Machine,
    pub(crate) place: &'a Place,
    pub(crate) exec: &'a dyn Exec,
}

impl View<'_> {
    /// Which system answers at the server of `stage`.
    ///
    /// # Errors
    ///
    /// When the programs of ssh do not work here.
    pub(crate) fn look(&self, stage: Stage) -> Result<Seen, anyhow::Error> {
        let server = self.machine.server(stage);
        // Most of the time nobody is there: this tells sooner, and without a program.
        if greeting(&server).is_none() {
            return Ok(Seen::Nobody);
        }
        let shown = match ssh::scan(self.exec, &server.host, server.port) {
            Err(ssh::SshError::NoKeys { .. }) => return Ok(Seen::Nobody),
            shown => shown?,
        };
        // A slow server does not show all of its keys to somebody who asks for all kinds at once.
        let mut is_other = true;
        for stage in
            [Stage::BeforeBoot, Stage::Booted].into_iter().filter(|other| self.machine.server(*other) == server)
        {
            let name = ssh::known_as(&server.host, server.port);
            let known = ssh::known(self.exec, &self.place.pins(self.name, stage), &name)?.keys;
            if known.iter().any(|key| shown.contains(key)) {
                return Ok(Seen::System(stage));
            }
            is_other &= known.iter().any(|known| shown.iter().any(|key| key.kind == known.kind));
        }
        Ok(if is_other { Seen::Stranger(shown) } else { Seen::Unclear(shown) })
    }

    /// Gives the passphrase to the machine that waits for it.
    ///
    /// # Errors
    ///
    /// When that can never work: another key than the pinned one, or a key of ours that is not let in.
    pub(crate) fn give(&self, passphrase: &Zeroizing<Vec<u8>>) -> Result<Said, anyhow::Error> {
        let server = self.machine.server(Stage::BeforeBoot);
        let pins = self.place.pins(self.name, Stage::BeforeBoot);
        let call = ssh_to(self.machine, &server, &pins).stdin(passphrase.clone()).limit(ANSWER);
        match self.exec.run(&call) {
            Ok(_) => Ok(Said::Unlocked),
            Err(ExecError::Failed { stderr, .. }) => self.judge(&stderr),
            Err(ExecError::TimedOut { .. }) => Ok(Said::Lost("it did not answer in time".to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    fn judge(&self, stderr: &str) -> Result<Said, anyhow::Error> {
        let (name, stop) = (self.name, |exit, text: String| Err(Stop::new(exit, text).into()));
        match said(stderr) {
            Ok(said) => Ok(said),
            Err((Login::Denied, line)) => stop(
                Exit::NotPermitted,
                format!(
                    "{name} does not let this key in: {line}; give its public half to `phobos-unlock setup --key` there"
                ),
            ),
            Err((Login::NewKey | Login::OtherKey, _)) => stop(Exit::Refused, stranger(name, Stage::BeforeBoot, &[])),
            Err((Login::Algorithms | Login::Options | Login::Forbidden | Login::Gate, line)) => {
                stop(Exit::Failed, format!("ssh cannot talk to {name}: {line}"))
            }
            Err((Login::Away | Login::Lost, line)) => Ok(Said::Lost(line)),
        }
    }
}

/// What `cryptroot-unlock` of Debian's cryptsetup-initramfs has said, or else ssh.
fn said(stderr: &str) -> Result<Said, (Login, String)> {
    let has = |text: &str| stderr.contains(text);
    // The connection is cut by the very boot that it has begun.
    if has(" set up successfully") {
        return Ok(Said::Unlocked);
    }
    if has("bad password or options?") || has("maximum number of tries exceeded") {
        return Ok(Said::Wrong);
    }
    let last = || stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing").to_owned();
    if has("Timeout reached while waiting") || has("Try again later") {
        return Ok(Said::NotNow(last()));
    }
    match login(stderr.lines().map(str::trim)) {
        Some((login, line)) => Err((login, line.to_owned())),
        None => Ok(Said::Lost(last())),
    }
}

/// What is said of a server that shows other keys than those that are pinned for the system that was waited for.
pub(crate) fn stranger(name: &str, stage: Stage, shown: &[HostKey]) -> String {
    let shown: Vec<_> = shown.iter().map(ToString::to_string).collect();
    let shown = if shown.is_empty() { String::new() } else { format!(", but {}", shown.join(", ")) };
    let sent = match stage {
        Stage::BeforeBoot => "no passphrase was sent",
        Stage::Booted => "that the machine is up is not proved",
    };
    format!(
        "what answers for {name} shows no key that is pinned for {}{shown}: somebody else may be answering in its place, and {sent}; \
         if its keys were changed for a good reason, run `phobos-unlock trust {name}`",
        stage.words()
    )
}

/// What a server says first, by which one can tell dropbear from OpenSSH; `None` if nobody answers.
pub(crate) fn greeting(server: &Server) -> Option<String> {
    let read = || -> io::Result<String> {
        let mut addresses = (server.host.as_str(), server.port).to_socket_addrs()?;
        let stream = addresses.find_map(|address| TcpStream::connect_timeout(&address, CONNECT).ok());
        let mut stream = stream.ok_or(io::ErrorKind::ConnectionRefused)?;
        stream.set_read_timeout(Some(CONNECT))?;
        // RFC 4253, 4.2: the version comes within 255 characters.
        let mut bytes = [0; 255];
        let count = stream.read(&mut bytes)?;
        Ok(String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).into_owned())
    };
    read().ok().filter(|text| text.starts_with("SSH-"))
}

/// ssh to the server, which trusts its pinned keys only, asks nobody and gives it nothing of this machine.
fn ssh_to(machine: &Machine, server: &Server, pins: &Path) -> Invocation {
    let mut options = ssh::strict_options(pins, machine.identity.as_deref());
    options.extend(
        ["LogLevel=ERROR", "ConnectTimeout=15", "ServerAliveInterval=5", "ServerAliveCountMax=6"].map(str::to_owned),
    );
    Invocation::new("ssh")
        .args(["-F", "none", "-T", "-p", &server.port.to_string(), "-l", &machine.user])
        .args(options.into_iter().flat_map(|option| ["-o".to_owned(), option]))
        .args(["--", &server.host, COMMAND])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words are those of cryptroot-unlock in Debian's cryptsetup-initramfs 2.6.1 and 2.7.5.
    #[test]
    fn what_cryptroot_unlock_says_is_understood() {
        for (stderr, want) in [
            ("cryptsetup: sda_crypt set up successfully\n", Said::Unlocked),
            ("cryptsetup: sda_crypt set up successfully\nConnection to nas closed by remote host.\n", Said::Unlocked),
            ("cryptsetup: cryptsetup failed, bad password or options?\n", Said::Wrong),
            ("cryptsetup: maximum number of tries exceeded for sda_crypt\n", Said::Wrong),
            (
                "Error: Timeout reached while waiting for askpass.\n",
                Said::NotNow("Error: Timeout reached while waiting for askpass.".into()),
            ),
            ("Try again later\n", Said::NotNow("Try again later".into())),
            ("sh: cryptroot-unlock: not found\n", Said::Lost("sh: cryptroot-unlock: not found".into())),
            ("", Said::Lost("it said nothing".into())),
        ] {
            assert_eq!(said(stderr), Ok(want), "{stderr}");
        }
        assert_eq!(said("root@nas: Permission denied (publickey).\n").unwrap_err().0, Login::Denied);
        assert_eq!(said("Host key verification failed.\n").unwrap_err().0, Login::OtherKey);
    }

    #[test]
    fn nothing_of_ssh_s_own_configuration_counts() {
        let machine = Machine { host: "nas".into(), identity: Some("/k/a b%".into()), ..Machine::default() };
        let call = ssh_to(&machine, &machine.server(Stage::BeforeBoot), Path::new("/pins"));
        let text = call.call().to_string();
        assert!(
            text.starts_with("ssh -F none -T -p 22 -l root -o BatchMode=yes -o StrictHostKeyChecking=yes "),
            "{text}"
        );
        assert!(text.contains("UserKnownHostsFile=\"/pins\"") && text.contains("IdentityFile=\"/k/a b%%\""), "{text}");
        assert!(text.ends_with(" -- nas cryptroot-unlock"), "{text}");
    }
}
