//! The ways out: an SMTP server, or the program `sendmail`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use lettre::Address;
use phobos_core::exec::{Exec, ExecError, Invocation, Status};
use phobos_site::mail::{self, Security, Server, Settings, Transport};

use crate::host;
use crate::letter::Letter;
use crate::message;
use crate::smtp::{self, Client, Limits, Trouble};
use crate::tls::Tls;

/// How long one answer of a server may take.
const ANSWER: Duration = Duration::from_secs(40);

/// The same for this machine's own server, where `sendmail` is another way.
const LOCAL_ANSWER: Duration = Duration::from_secs(20);

/// How long `sendmail` may take.
const SENDMAIL: Duration = Duration::from_secs(30);

/// How long a way out may take at least, however late it is: else nothing would be tried at all.
const LEAST: Duration = Duration::from_secs(1);

/// How long the answer to a leave-taking is waited for.
const GOODBYE: Duration = Duration::from_secs(2);

/// What coreutils' timeout ends with if the program took too long.
const TIMED_OUT: i32 = 124;

/// How large a file with a password may be.
const PASSWORD: u64 = 4096;

/// The moment by which everything is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

/// Why a letter was not sent.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody takes mail; the next letter would fare no better.
    NoWay(anyhow::Error),
    /// This letter was not taken now, but may be later; another may pass.
    Later(anyhow::Error),
    /// This letter was refused for good; another may pass.
    Never(anyhow::Error),
    /// The server had all of the letter and did not say whether it took it.
    Unanswered(anyhow::Error),
}

/// A way out that letters are sent through, one after the other.
pub(crate) struct Sender<'a> {
    exec: &'a dyn Exec,
    settings: &'a Settings,
    deadline: Deadline,
    /// Where the mail server of this machine may be.
    local: Vec<Server>,
    connection: Option<Connection>,
    /// Who calls `sendmail`, where it is not this process's own user: user and group.
    caller: Option<(u32, u32)>,
}

/// An open connection to an SMTP server.
struct Connection {
    client: Client,
    server: Server,
}

impl Deadline {
    pub(crate) fn after(time: Duration) -> Self {
        let now = Instant::now();
        // A length of time that no clock can show is a day.
        Self(now.checked_add(time).or_else(|| now.checked_add(Duration::from_secs(86_400))).unwrap_or(now))
    }

    /// What is left, but no more than `most`.
    pub(crate) fn left(self, most: Duration) -> Duration {
        self.0.saturating_duration_since(Instant::now()).clamp(LEAST, most.max(LEAST))
    }

    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    /// How long a server may take from now on.
    fn limits(self, answer: Duration) -> Limits {
        let now = Instant::now();
        Limits { answer: self.left(answer), end: now.checked_add(self.left(Duration::MAX)).unwrap_or(now) }
    }
}

impl Failure {
    /// Whether another attempt at once could only do harm: the letter may be with the server already, or never will be.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Unanswered(_) | Self::Never(_))
    }

    fn context(self, context: String) -> Self {
        match self {
            Self::NoWay(error) => Self::NoWay(error.context(context)),
            Self::Later(error) => Self::Later(error.context(context)),
            Self::Never(error) => Self::Never(error.context(context)),
            Self::Unanswered(error) => Self::Unanswered(error.context(context)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NoWay(error) | Self::Later(error) | Self::Never(error) | Self::Unanswered(error)) = self;
        write!(f, "{error:#}")
    }
}

impl<'a> Sender<'a> {
    pub(crate) fn new(exec: &'a dyn Exec, settings: &'a Settings, deadline: Deadline) -> Self {
        let local = ["127.0.0.1", "::1"];
        let local = local.map(|host| Server { host: host.to_owned(), port: 25, security: Security::None });
        Self { exec, settings, deadline, local: local.to_vec(), connection: None, caller: None }
    }

    /// Lets the user and the group with these numbers call `sendmail`.
    pub(crate) fn called_by(mut self, caller: (u32, u32)) -> Self {
        self.caller = Some(caller);
        self
    }

    /// Sends `letter`, which is `late` if it had to wait, and says which way it left.
    ///
    /// # Errors
    ///
    /// [`Failure`]; the letter was not sent, or in one case perhaps.
    pub(crate) fn send(&mut self, letter: &Letter, late: Option<Duration>) -> Result<String, Failure> {
        let settings = self.settings;
        match &settings.transport {
            Transport::Smtp(server) => self.by_smtp(letter, late, server, ANSWER),
            Transport::Sendmail => self.by_sendmail(letter, late),
            Transport::Auto => self.by_any(letter, late),
        }
    }

    /// Tries this machine's SMTP server, and the program `sendmail` if that does not take the letter.
    fn by_any(&mut self, letter: &Letter, late: Option<Duration>) -> Result<String, Failure> {
        let mut smtp = Failure::NoWay(anyhow!("this machine has no mail server: Connection refused at port 25"));
        let mut is_first = true;
        for server in self.local.clone() {
            match self.by_smtp(letter, late, &server, LOCAL_ANSWER) {
                // Nobody listens there.
                Err(Failure::NoWay(error)) if format!("{error:#}").contains("Connection refused") => {}
                Err(failure @ Failure::NoWay(_)) if is_first => (smtp, is_first) = (failure, false),
                Err(Failure::NoWay(error)) => smtp = Failure::NoWay(anyhow!("{smtp}; {error:#}")),
                Err(failure @ (Failure::Later(_) | Failure::Never(_))) => {
                    smtp = failure;
                    break;
                }
                sent_or_unknown => return sent_or_unknown,
            }
        }
        if self.deadline.is_over() {
            return Err(smtp);
        }
        log::debug!("trying sendmail, for {smtp}");
        self.by_sendmail(letter, late).map_err(|sendmail| {
            let both = anyhow!("{smtp}; nor does sendmail: {sendmail}");
            match (smtp, sendmail) {
                (Failure::Never(_), _) | (_, Failure::Never(_)) => Failure::Never(both),
                (Failure::Later(_), _) | (_, Failure::Later(_)) => Failure::Later(both),
                (Failure::NoWay(_) | Failure::Unanswered(_), _) => Failure::NoWay(both),
            }
        })
    }

    fn by_sendmail(&mut self, letter: &Letter, late: Option<Duration>) -> Result<String, Failure> {
        let to = self.recipient(letter).map_err(Failure::Never)?;
        let from = self.from().map_err(Failure::NoWay)?;
        let header_to = qualified(&to, &host::mail_domain()).map_err(Failure::Never)?;
        let message = formatted(letter, &from, &header_to, late)?;
        // A pipe to a program on this machine has this machine's line ends.
        let message: Vec<u8> = message.into_iter().filter(|byte| *byte != b'\r').collect();
        let limit = self.deadline.left(SENDMAIL);
        let call = Invocation::new("sendmail")
            .args(["-i", to.as_str()])
            .stdin(message)
            // It ends whatever sendmail has started, too; postdrop would wait for ever for a folder that it may not use.
            .through(self.wrapper(limit))
            .limit(limit + Duration::from_secs(5));
        match self.exec.run(&call) {
            Ok(_) => Ok("sendmail".to_owned()),
            Err(ExecError::Failed { status: Status::Code(TIMED_OUT), stderr, .. }) => {
                let said = stderr.lines().last().map(|line| format!("; it said: {}", crate::text::line(line, 300)));
                let (limit, said) = (crate::text::span(limit), said.unwrap_or_default());
                Err(Failure::NoWay(anyhow!("sendmail was not done within {limit}{said}")))
            }
            // EX_DATAERR, EX_NOUSER and EX_NOHOST of sysexits(3) are about this letter.
            Err(error @ ExecError::Failed { status: Status::Code(65 | 67 | 68), .. }) => {
                Err(Failure::Later(error.into()))
            }
            Err(error) => Err(Failure::NoWay(error.into())),
        }
    }

    /// What `sendmail` is started through: it gets no longer than `limit`, and may have to be somebody else's.
    fn wrapper(&self, limit: Duration) -> Vec<String> {
        let mut words = Vec::new();
        if let Some((user, group)) = self.caller {
            let [user, group] = [format!("--reuid={user}"), format!("--regid={group}")];
            words.extend(["setpriv".to_owned(), user, group, "--clear-groups".to_owned(), "--".to_owned()]);
        }
        words.extend(["timeout", "-k", "2"].map(str::to_owned));
        words.extend([limit.as_secs().to_string(), "env".to_owned()]);
        words
    }

    fn by_smtp(
        &mut self,
        letter: &Letter,
        late: Option<Duration>,
        server: &Server,
        answer: Duration,
    ) -> Result<String, Failure> {
        let to = self.recipient(letter).map_err(Failure::Never)?;
        let from = self.from().map_err(Failure::NoWay)?;
        let domains = match to.domain() {
            Some(domain) => vec![domain.to_owned()],
            None if is_this_machine(server) => host::own_domains(),
            None => vec![host::mail_domain()],
        };
        let mut result = Err(Failure::Never(anyhow!("nobody to send it to")));
        for domain in domains {
            let to = qualified(&to, &domain).map_err(Failure::Never)?;
            let message = formatted(letter, &from, &to, late)?;
            result = self.transact(server, answer, &from, &to, &message);
            if !matches!(result, Err(Failure::Never(_))) {
                break;
            }
        }
        result.map(|()| server.to_string())
    }

    /// Gives `server` a message, on the connection that is there or on a new one.
    fn transact(
        &mut self,
        server: &Server,
        answer: Duration,
        from: &Address,
        to: &Address,
        message: &[u8],
    ) -> Result<(), Failure> {
        let payload = smtp::payload(message);
        let open = |connection: &mut Connection, limits| {
            connection.client.set_limits(limits);
            connection.client.open(from.as_ref(), to.as_ref(), message.len())
        };
        let mut opened = Err(Trouble::Broken(String::new()));
        let kept = self.connection.take().filter(|connection| connection.server == *server);
        let mut connection = match kept {
            Some(mut kept) => {
                opened = open(&mut kept, self.deadline.limits(answer));
                Some(kept)
            }
            None => None,
        };
        // A server may have had enough of a connection that has stood for a while.
        let had_enough = match &opened {
            Ok(()) => false,
            Err(Trouble::Refused(refusal)) => refusal.is_goodbye(),
            Err(Trouble::Broken(_)) => true,
        };
        if had_enough {
            connection = Some(self.connect(server, answer).map_err(Failure::NoWay)?);
        }
        let Some(mut connection) = connection else { return Err(Failure::NoWay(anyhow!("no connection"))) };
        if had_enough {
            opened = open(&mut connection, self.deadline.limits(answer));
        }
        let given = opened.and_then(|()| connection.client.give(&payload));
        let result = match given {
            Err(trouble) => Err(failure(trouble, Failure::Later)),
            Ok(()) => connection.client.verdict().map_err(|trouble| failure(trouble, Failure::Unanswered)),
        };
        let is_usable = match &result {
            Ok(()) => true,
            Err(Failure::Later(error) | Failure::Never(error)) if is_refusal(error) => {
                connection.client.reset().is_ok()
            }
            Err(_) => false,
        };
        if is_usable {
            self.connection = Some(connection);
        }
        result.map_err(|failure| failure.context(format!("{server} does not take mail for {to}")))
    }

    fn recipient(&self, letter: &Letter) -> Result<mail::Address> {
        match &letter.to {
            Some(to) => Ok(to.parse()?),
            None => Ok(self.settings.to.clone()),
        }
    }

    /// Who sends: what the settings say, else root at this machine.
    fn from(&self) -> Result<Address> {
        let domain = host::mail_domain();
        match &self.settings.from {
            Some(from) => qualified(from, &domain),
            None => qualified(&"root".parse()?, &domain),
        }
    }

    /// What this machine calls itself: what the settings say, else a name with a dot; else its address will do.
    fn hello(&self) -> Option<String> {
        if let Some(hello) = &self.settings.hello {
            return Some(hello.as_str().to_owned());
        }
        let from = self.settings.from.as_ref().and_then(mail::Address::domain);
        host::full_name().or_else(|| from.filter(|domain| domain.contains('.')).map(str::to_owned))
    }

    fn connect(&self, server: &Server, answer: Duration) -> Result<Connection> {
        self.try_connect(server, answer).with_context(|| format!("cannot use the mail server {server}"))
    }

    fn try_connect(&self, server: &Server, answer: Duration) -> Result<Connection> {
        let tls = match server.security {
            Security::None => None,
            Security::StartTls | Security::Tls => Some(Tls::new(&server.host, self.settings)?),
        };
        let mut client = self.greeted(server, answer, tls.as_ref()).map_err(|error| advised(error, tls.as_ref()))?;
        if let (Security::StartTls, Some(tls)) = (server.security, &tls) {
            client.starttls(&tls.config, &tls.name).map_err(|trouble| advised(trouble.into(), Some(tls)))?;
        }
        if let Some(name) = &self.settings.credential {
            if !client.is_encrypted() {
                bail!("it would see the password unprotected");
            }
            let (user, password) = credentials(name.as_str())?;
            client.authenticate(&user, &password).context("it does not let us in")?;
        }
        Ok(Connection { client, server: server.clone() })
    }

    /// Connects to the first of the server's addresses that greets us.
    fn greeted(&self, server: &Server, answer: Duration, tls: Option<&Tls>) -> Result<Client> {
        let hello = self.hello();
        let from_the_start = tls.filter(|_| server.security == Security::Tls).map(|tls| (&tls.config, &tls.name));
        let addresses = (server.host.as_str(), server.port).to_socket_addrs().context("cannot find its address")?;
        let mut connected = Err(anyhow!("it has no address"));
        for address in addresses {
            let limits = self.deadline.limits(answer);
            connected = Client::connect(address, limits, hello.as_deref(), from_the_start).map_err(Into::into);
            if connected.is_ok() || self.deadline.is_over() {
                break;
            }
        }
        connected
    }
}

impl Drop for Sender<'_> {
    /// Takes leave of the server, without waiting long for its answer.
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        connection.client.set_limits(self.deadline.limits(GOODBYE));
        if connection.client.quit().is_err() {
            log::debug!("{} did not say goodbye", connection.server);
        }
    }
}

/// What a letter's failure is: a refusal by its first digit, anything else by how far the letter had come.
fn failure(trouble: Trouble, otherwise: fn(anyhow::Error) -> Failure) -> Failure {
    match &trouble {
        Trouble::Refused(refusal) if refusal.is_permanent => Failure::Never(trouble.into()),
        Trouble::Refused(_) => Failure::Later(trouble.into()),
        Trouble::Broken(_) => otherwise(trouble.into()),
    }
}

fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Trouble>(), Some(Trouble::Refused(_)))
}

/// The error, or what to do about the certificate if that was what was wrong.
fn advised(error: anyhow::Error, tls: Option<&Tls>) -> anyhow::Error {
    match tls.and_then(Tls::advice) {
        Some(advice) => anyhow!("{advice}"),
        None => error,
    }
}

/// User and password from the systemd credential `name`: the first line, and the second.
fn credentials(name: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY")
        .with_context(|| format!("cannot find the credential {name}; the unit needs LoadCredential={name}:FILE"))?;
    let path = Path::new(&folder).join(name);
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(PASSWORD).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", path.display()))?;
    // An editor of another system may have left its mark in front, and its line ends.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    match (lines.next(), lines.next()) {
        (Some(user), Some(password)) if !user.is_empty() && !password.is_empty() => {
            Ok((user.to_vec(), password.to_vec()))
        }
        _ => bail!("{} must hold the user in its first line and the password in its second", path.display()),
    }
}

fn is_this_machine(server: &Server) -> bool {
    matches!(server.host.as_str(), "127.0.0.1" | "::1" | "localhost")
}

fn qualified(address: &mail::Address, domain: &str) -> Result<Address> {
    let address = address.qualified(domain)?;
    let domain = address.domain().unwrap_or_default();
    Address::new(address.local(), domain).with_context(|| format!("{address} is no mail address"))
}

fn formatted(letter: &Letter, from: &Address, to: &Address, late: Option<Duration>) -> Result<Vec<u8>, Failure> {
    message::formatted(letter, from, to, late).map_err(Failure::Never)
}

#[cfg(test)]
mod tests;
