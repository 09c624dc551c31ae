//! The ways out: an SMTP server, or the program `sendmail`.

use std::error::Error as _;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use lettre::Address;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{Certificate, SmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::ClientId;
use phobos_core::exec::{Exec, Invocation};
use phobos_site::mail::{self, Security, Server, Settings, Transport};

use crate::host;
use crate::letter::Letter;
use crate::message;

/// How long one answer of a server may take.
const ANSWER: Duration = Duration::from_secs(20);

/// How long a way out may take at least, however late it is: else nothing would be tried at all.
const LEAST: Duration = Duration::from_secs(1);

/// The moment by which everything is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

/// Why a letter was not sent.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody takes mail; the next letter would fare no better.
    NoWay(anyhow::Error),
    /// This letter was refused; another may pass.
    Refused(anyhow::Error),
    /// The server had all of the letter and did not say whether it took it.
    Unanswered(anyhow::Error),
}

/// A way out that letters are sent through, one after the other.
pub(crate) struct Sender<'a> {
    exec: &'a dyn Exec,
    settings: &'a Settings,
    deadline: Deadline,
    /// The mail server of this machine.
    local: Server,
    connection: Option<Connection>,
}

/// An open connection to an SMTP server.
struct Connection {
    smtp: SmtpConnection,
    server: Server,
}

impl Deadline {
    pub(crate) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// What is left, but no more than `most`.
    pub(crate) fn left(self, most: Duration) -> Duration {
        self.0.saturating_duration_since(Instant::now()).clamp(LEAST, most.max(LEAST))
    }

    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

impl Failure {
    /// Whether another attempt could only do harm: the letter may be with the server already.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Unanswered(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NoWay(error) | Self::Refused(error) | Self::Unanswered(error)) = self;
        write!(f, "{error:#}")
    }
}

impl<'a> Sender<'a> {
    pub(crate) fn new(exec: &'a dyn Exec, settings: &'a Settings, deadline: Deadline) -> Self {
        let local = Server { host: "127.0.0.1".to_owned(), port: 25, security: Security::None };
        Self { exec, settings, deadline, local, connection: None }
    }

    /// Sends `letter`, which is `late` if it had to wait, and says which way it left.
    ///
    /// # Errors
    ///
    /// [`Failure`]; the letter was not sent, or in one case perhaps.
    pub(crate) fn send(&mut self, letter: &Letter, late: Option<Duration>) -> Result<String, Failure> {
        let settings = self.settings;
        match &settings.transport {
            Transport::Smtp(server) => self.by_smtp(letter, late, server),
            Transport::Sendmail => self.by_sendmail(letter, late),
            Transport::Auto => self.by_any(letter, late),
        }
    }

    /// Tries this machine's SMTP server, and the program `sendmail` if that does not take the letter.
    fn by_any(&mut self, letter: &Letter, late: Option<Duration>) -> Result<String, Failure> {
        let local = self.local.clone();
        let smtp = match self.by_smtp(letter, late, &local) {
            Err(failure @ (Failure::NoWay(_) | Failure::Refused(_))) => failure,
            sent_or_unknown => return sent_or_unknown,
        };
        if self.deadline.is_over() {
            return Err(smtp);
        }
        log::debug!("trying sendmail, for {smtp}");
        self.by_sendmail(letter, late).map_err(|sendmail| {
            let both = anyhow!("{smtp}; nor does sendmail: {sendmail}");
            match smtp {
                Failure::Refused(_) => Failure::Refused(both),
                Failure::NoWay(_) | Failure::Unanswered(_) => Failure::NoWay(both),
            }
        })
    }

    fn by_sendmail(&mut self, letter: &Letter, late: Option<Duration>) -> Result<String, Failure> {
        let to = self.recipient(letter).map_err(Failure::Refused)?;
        let from = self.from().map_err(Failure::NoWay)?;
        let header_to = qualified(&to, &host::mail_domain()).map_err(Failure::Refused)?;
        let message = formatted(letter, &from, &header_to, late)?;
        // A pipe to a program on this machine has this machine's line ends.
        let message: Vec<u8> = message.into_iter().filter(|byte| *byte != b'\r').collect();
        let call = Invocation::new("sendmail")
            .args(["-i", to.as_str()])
            .stdin(message)
            .limit(self.deadline.left(Duration::from_secs(30)));
        match self.exec.run(&call) {
            Ok(_) => Ok("sendmail".to_owned()),
            Err(error) => Err(Failure::NoWay(error.into())),
        }
    }

    fn by_smtp(&mut self, letter: &Letter, late: Option<Duration>, server: &Server) -> Result<String, Failure> {
        let to = self.recipient(letter).map_err(Failure::Refused)?;
        let from = self.from().map_err(Failure::NoWay)?;
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.smtp.has_broken() => connection,
            _ => self.connect(server).map_err(Failure::NoWay)?,
        };
        let domains = match to.domain() {
            Some(domain) => vec![domain.to_owned()],
            None if is_this_machine(server) => host::own_domains(),
            None => vec![host::mail_domain()],
        };
        let mut result = Err(Failure::Refused(anyhow!("nobody to send it to")));
        for domain in domains {
            let to = qualified(&to, &domain).map_err(Failure::Refused)?;
            let message = formatted(letter, &from, &to, late)?;
            result = connection.send(&from, &to, &message, self.deadline);
            if !matches!(result, Err(Failure::Refused(_))) {
                break;
            }
        }
        if matches!(result, Ok(()) | Err(Failure::Refused(_))) {
            self.connection = Some(connection);
        }
        result.map(|()| server.to_string())
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

    fn connect(&self, server: &Server) -> Result<Connection> {
        self.try_connect(server).with_context(|| format!("cannot use the mail server {server}"))
    }

    fn try_connect(&self, server: &Server) -> Result<Connection> {
        let limit = self.deadline.left(ANSWER);
        let hello = ClientId::Domain(host::name());
        let tls = match server.security {
            Security::None => None,
            Security::StartTls | Security::Tls => Some(self.tls(server)?),
        };
        let from_the_start = tls.as_ref().filter(|_| server.security == Security::Tls);
        let addresses = (server.host.as_str(), server.port).to_socket_addrs().context("cannot find its address")?;
        let mut connected = Err(anyhow!("it has no address"));
        for address in addresses {
            connected = SmtpConnection::connect(address, Some(limit), &hello, from_the_start, None)
                .map_err(|error| told(&error, limit));
            if connected.is_ok() || self.deadline.is_over() {
                break;
            }
        }
        let mut smtp = connected?;
        if let (Security::StartTls, Some(tls)) = (server.security, &tls) {
            smtp.starttls(tls, &hello).map_err(|error| told(&error, limit))?;
        }
        if let Some(name) = &self.settings.credential {
            if !smtp.is_encrypted() {
                bail!("it would see the password unprotected");
            }
            smtp.auth(DEFAULT_MECHANISMS, &credentials(name.as_str())?)
                .map_err(|error| told(&error, limit))
                .context("it does not let us in")?;
        }
        Ok(Connection { smtp, server: server.clone() })
    }

    fn tls(&self, server: &Server) -> Result<TlsParameters> {
        let mut builder = TlsParameters::builder(server.host.clone());
        if let Some(path) = &self.settings.ca_file {
            let pem = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let certificate = Certificate::from_pem(&pem)
                .with_context(|| format!("cannot use the certificate in {}", path.display()))?;
            builder = builder.add_root_certificate(certificate);
        }
        builder.build().context("cannot set up TLS")
    }
}

impl Drop for Sender<'_> {
    /// Takes leave of the server, without waiting long for its answer.
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let limit = self.deadline.left(Duration::from_secs(2));
        let quit = connection.smtp.set_timeout(Some(limit)).map(|()| connection.smtp.quit());
        if !matches!(quit, Ok(Ok(_))) {
            log::debug!("{} did not say goodbye", connection.server);
        }
    }
}

impl Connection {
    fn send(&mut self, from: &Address, to: &Address, message: &[u8], deadline: Deadline) -> Result<(), Failure> {
        let limit = deadline.left(ANSWER);
        let server = self.server.to_string();
        let refused = |error: &SmtpError| {
            let error = told(error, limit).context(format!("{server} does not take mail for {to}"));
            if is_refusal(&error) { Failure::Refused(error) } else { Failure::NoWay(error) }
        };
        self.smtp.set_timeout(Some(limit)).map_err(|error| Failure::NoWay(error.into()))?;
        let opening = self
            .smtp
            .command(Mail::new(Some(from.clone()), vec![]))
            .and_then(|_| self.smtp.command(Rcpt::new(to.clone(), vec![])))
            .and_then(|_| self.smtp.command(Data));
        if let Err(error) = opening {
            let failure = refused(&error);
            if matches!(failure, Failure::Refused(_)) && self.smtp.command(Rset).is_err() {
                self.smtp.abort();
            }
            return Err(failure);
        }
        match self.smtp.command(Payload(message)) {
            Ok(_) => Ok(()),
            Err(error) if error.status().is_some() => Err(refused(&error)),
            Err(error) => {
                let error = told(&error, limit).context(format!("{server} broke off"));
                Err(Failure::Unanswered(error))
            }
        }
    }
}

/// A message as SMTP carries it, its end included.
///
/// lettre writes the end on its own; the kernel then holds it back until the server has acknowledged the rest, which takes
/// a server on this machine longer than everything else together.
struct Payload<'a>(&'a [u8]);

impl fmt::Display for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.0);
        let text = text.strip_suffix("\r\n").unwrap_or(&text);
        for line in text.split("\r\n") {
            // A line that is a lone dot would be the end (RFC 5321, 4.5.2).
            let dot = if line.starts_with('.') { "." } else { "" };
            write!(f, "{dot}{line}\r\n")?;
        }
        f.write_str(".\r\n")
    }
}

/// An answer of a server that says no.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

fn is_refusal(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some()
}

/// The error in one line that says each thing once; lettre's own text has its source's in it.
fn told(error: &SmtpError, limit: Duration) -> anyhow::Error {
    if let Some(code) = error.status() {
        let text = error.source().map(ToString::to_string).unwrap_or_default();
        let text = crate::text::line(text.trim(), 300);
        return anyhow::Error::new(Refusal(format!("it says {code} {text}")));
    }
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            if matches!(io.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                return anyhow!("no answer within {} s", limit.as_secs());
            }
        }
        source = inner.source();
    }
    anyhow!("{}", crate::text::line(&error.to_string(), 300))
}

/// User and password from the systemd credential `name`: the first line, and the second.
fn credentials(name: &str) -> Result<Credentials> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY")
        .with_context(|| format!("cannot find the credential {name}; the unit needs LoadCredential={name}:FILE"))?;
    let path = Path::new(&folder).join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text.lines();
    match (lines.next(), lines.next()) {
        (Some(user), Some(password)) if !user.is_empty() && !password.is_empty() => {
            Ok(Credentials::new(user.to_owned(), password.to_owned()))
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
    message::formatted(letter, from, to, late).map_err(Failure::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter;
    use phobos_core::exec::fake::Script;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    /// Sends a letter by way of `auto`, with the mail server of this machine at `port`.
    fn auto(port: u16, script: &Script) -> Result<String, Failure> {
        let settings = Settings::default();
        let mut sender = Sender::new(script, &settings, Deadline::after(Duration::from_secs(10)));
        sender.local.port = port;
        sender.send(&letter::test(), None)
    }

    /// A server at a free port that answers each line with the next of `answers`.
    fn server(answers: &'static [&'static str]) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for answer in answers {
                stream.write_all(format!("{answer}\r\n").as_bytes()).unwrap();
                while answer.starts_with("354") && lines.next().unwrap().unwrap() != "." {}
                if !answer.starts_with("354") {
                    lines.next();
                }
            }
        });
        port
    }

    fn nobody() -> u16 {
        TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn without_a_mail_server_sendmail_is_tried() {
        let script = Script::new().ok();
        assert_eq!(auto(nobody(), &script).unwrap(), "sendmail");
        assert_eq!(script.calls(), ["sendmail -i root"]);
    }

    #[test]
    fn if_nothing_works_both_reasons_are_told() {
        let failure = auto(nobody(), &Script::new().fails(1, "no such user")).unwrap_err();
        let text = failure.to_string();
        assert!(matches!(failure, Failure::NoWay(_)), "{text}");
        assert!(text.contains("Connection refused") && text.contains("no such user"), "{text}");
    }

    #[test]
    fn what_the_mail_server_refuses_sendmail_may_take() {
        let port =
            server(&["220 hi", "250 ok", "250 ok", "550 relay not permitted", "250 ok", "250 ok", "550 no", "250 ok"]);
        let script = Script::new().ok();
        assert_eq!(auto(port, &script).unwrap(), "sendmail");
    }

    #[test]
    fn what_the_mail_server_has_taken_without_a_word_is_not_sent_twice() {
        let port = server(&["220 hi", "250 ok", "250 ok", "250 ok", "354 go on"]);
        let script = Script::new();
        let failure = auto(port, &script).unwrap_err();
        assert!(matches!(failure, Failure::Unanswered(_)), "{failure}");
        assert!(script.calls().is_empty());
    }

    #[test]
    fn no_line_of_a_message_ends_it() {
        let payload = |text: &str| Payload(text.as_bytes()).to_string();
        assert_eq!(payload("a\r\n.\r\n..b\r\n"), "a\r\n..\r\n...b\r\n.\r\n");
        assert_eq!(payload(".a"), "..a\r\n.\r\n");
        assert_eq!(payload("\r\n\r\n"), "\r\n\r\n.\r\n");
    }

    #[test]
    fn a_bare_name_goes_to_this_machine_whatever_its_mail_name_is() {
        let mut domains = host::own_domains();
        assert_eq!(domains.pop().as_deref(), Some("localhost"));
    }

    #[test]
    fn time_that_is_up_leaves_a_little() {
        let deadline = Deadline::after(Duration::ZERO);
        assert!(deadline.is_over());
        assert_eq!(deadline.left(ANSWER), LEAST);
        assert!(Deadline::after(Duration::from_secs(100)).left(ANSWER) <= ANSWER);
    }
}
