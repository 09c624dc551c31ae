//! A small SMTP client (RFC 5321) in which every line, every answer and every wait has a limit, whatever a server does.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)]

mod wire;

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::text;

pub(crate) use self::wire::Limits;
use self::wire::{Answer, Lines, TOLD, Timed, Wire};

/// How long one address may take to accept a connection: another may be quicker.
const CONNECT: Duration = Duration::from_secs(15);

/// How long to look for the reason of a server that has closed the connection while it was written to.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The server said no.
    Refused(Refusal),
    /// The connection is of no use any more: closed, mute, or not speaking SMTP.
    Broken(String),
}

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Whether asking again is of no use: its first digit is 5.
    pub(crate) is_permanent: bool,
    code: String,
    text: String,
}

impl Refusal {
    /// Whether the server will not go on with this connection, whatever it is asked (RFC 5321, 3.8).
    pub(crate) fn is_goodbye(&self) -> bool {
        self.code == "421"
    }
}

/// What a server can do, by its answer to EHLO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Abilities(Vec<Ability>);

/// One thing that a server can do, of those that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ability {
    StartTls,
    Size,
    Plain,
    Login,
}

/// A conversation with a server that has greeted us and been greeted.
#[derive(Debug)]
pub(crate) struct Client {
    lines: Lines<Wire>,
    hello: String,
    abilities: Abilities,
    is_encrypted: bool,
    limits: Limits,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it says {} {}", self.code, self.text)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Trouble {}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Broken(text::line(&phobos_core::error::Chain(&error).to_string(), 1000))
    }
}

impl Answer {
    /// The answer if its first digit is `wanted`.
    fn expect(self, wanted: u8) -> Result<Self, Trouble> {
        if self.kind == wanted {
            return Ok(self);
        }
        let said = self.lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        let text = text::line(&said, TOLD);
        match self.kind {
            4 | 5 => Err(Trouble::Refused(Refusal { is_permanent: self.kind == 5, code: self.code, text })),
            _ => Err(Trouble::Broken(format!("it says {} {text}, which is no answer to that", self.code))),
        }
    }
}

impl Abilities {
    /// Reads the lines behind the first one of an answer to EHLO.
    fn of(answer: &Answer) -> Self {
        let mut abilities = Vec::new();
        for line in answer.lines.iter().skip(1) {
            // `AUTH=PLAIN` is how it was written before there was a standard.
            let line = line.to_ascii_uppercase().replacen("AUTH=", "AUTH ", 1);
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("STARTTLS") => abilities.push(Ability::StartTls),
                Some("SIZE") => abilities.push(Ability::Size),
                Some("AUTH") => words.for_each(|word| match word {
                    "PLAIN" => abilities.push(Ability::Plain),
                    "LOGIN" => abilities.push(Ability::Login),
                    _ => {}
                }),
                _ => {}
            }
        }
        Self(abilities)
    }

    fn has(&self, ability: Ability) -> bool {
        self.0.contains(&ability)
    }
}

/// What this machine calls itself in a connection that begins at `address`, if it has no better name.
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => format!("[{address}]"),
            None => format!("[IPv6:{address}]"),
        },
    }
}

impl Client {
    /// Connects to `address` and reads the greeting, in TLS from the first byte if `tls` is given. `hello` is what this
    /// machine calls itself; without it, it is its address.
    ///
    /// # Errors
    ///
    /// [`Trouble`] if nobody is there, or not a server that takes mail.
    pub(crate) fn connect(
        address: SocketAddr,
        limits: Limits,
        hello: Option<&str>,
        tls: Option<(&Arc<ClientConfig>, &ServerName<'static>)>,
    ) -> Result<Self, Trouble> {
        let (since, until) = (Instant::now(), limits.next());
        let left = until.saturating_duration_since(since).clamp(Duration::from_millis(1), CONNECT);
        let stream = TcpStream::connect_timeout(&address, left)?;
        // Commands are short; the last line of a message must not wait for the server's acknowledgement of the rest.
        stream.set_nodelay(true)?;
        let hello = match hello {
            Some(hello) => hello.to_owned(),
            None => literal(stream.local_addr()?.ip()),
        };
        let lines = Lines::new(Wire::Plain(Timed { stream, since, until }));
        let mut client = Self { lines, hello, abilities: Abilities::default(), is_encrypted: false, limits };
        if let Some((config, name)) = tls {
            client.encrypt(config, name)?;
        }
        client.hear(2)?;
        client.greet()?;
        Ok(client)
    }

    /// How long the server may take from now on.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// From now on, the server has time until `until`.
    fn wait_until(&mut self, until: Instant) {
        if let Ok(timed) = self.lines.source.timed() {
            (timed.since, timed.until) = (Instant::now(), until);
        }
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Says who we are; a server that does not know EHLO is told in the old way.
    fn greet(&mut self) -> Result<(), Trouble> {
        let hello = format!("EHLO {}", self.hello);
        self.say(&hello)?;
        let answer = self.answer()?;
        if matches!(answer.code.as_str(), "500" | "502") {
            self.abilities = Abilities::default();
            let hello = format!("HELO {}", self.hello);
            return self.command(&hello, 2).map(drop);
        }
        let answer = answer.expect(2).map_err(|trouble| self.about_hello(trouble))?;
        self.abilities = Abilities::of(&answer);
        Ok(())
    }

    /// A refused greeting is mostly about the name in it.
    fn about_hello(&self, trouble: Trouble) -> Trouble {
        match trouble {
            Trouble::Refused(mut refusal) => {
                refusal.text = format!("{} (to \"EHLO {}\"; [mail] hello sets the name)", refusal.text, self.hello);
                Trouble::Refused(refusal)
            }
            broken @ Trouble::Broken(_) => broken,
        }
    }

    /// Goes on in TLS.
    ///
    /// # Errors
    ///
    /// [`Trouble`] if the server cannot, or is not the right one.
    pub(crate) fn starttls(&mut self, config: &Arc<ClientConfig>, name: &ServerName<'static>) -> Result<(), Trouble> {
        if !self.abilities.has(Ability::StartTls) {
            return Err(Trouble::Broken("it does not offer STARTTLS".to_owned()));
        }
        self.command("STARTTLS", 2)?;
        // What was sent before the encryption may be anybody's (CVE-2011-0411).
        if !self.lines.ahead.is_empty() {
            return Err(Trouble::Broken("it sent more than the answer to STARTTLS".to_owned()));
        }
        self.encrypt(config, name)?;
        self.greet()
    }

    fn encrypt(&mut self, config: &Arc<ClientConfig>, name: &ServerName<'static>) -> Result<(), Trouble> {
        let Wire::Plain(mut timed) = std::mem::replace(&mut self.lines.source, Wire::None) else {
            return Err(Trouble::Broken("it is in TLS already".to_owned()));
        };
        let tls = ClientConnection::new(Arc::clone(config), name.clone());
        let mut tls = tls.map_err(|error| Trouble::Broken(format!("cannot begin TLS: {error}")))?;
        while tls.is_handshaking() {
            let (read, written) = tls.complete_io(&mut timed).map_err(|error| told(&error, timed.limit()))?;
            if read == 0 && written == 0 && tls.is_handshaking() {
                return Err(Trouble::Broken("it closed the connection before TLS began".to_owned()));
            }
        }
        self.lines.source = Wire::Tls(Box::new(StreamOwned::new(tls, timed)));
        self.is_encrypted = true;
        Ok(())
    }

    /// Shows user and password, which the caller must have seen to be protected.
    ///
    /// # Errors
    ///
    /// [`Trouble`] if the server does not take them.
    pub(crate) fn authenticate(&mut self, user: &[u8], password: &[u8]) -> Result<(), Trouble> {
        if self.abilities.has(Ability::Plain) {
            let proof = STANDARD.encode([b"\0", user, b"\0", password].concat());
            return self.command(&format!("AUTH PLAIN {proof}"), 2).map(drop);
        }
        if self.abilities.has(Ability::Login) {
            self.command("AUTH LOGIN", 3)?;
            self.command(&STANDARD.encode(user), 3)?;
            return self.command(&STANDARD.encode(password), 2).map(drop);
        }
        Err(Trouble::Broken("it offers neither AUTH PLAIN nor AUTH LOGIN".to_owned()))
    }

    /// Opens a transaction up to the point where the server waits for the message.
    ///
    /// # Errors
    ///
    /// [`Trouble`]; the server has nothing of the message.
    pub(crate) fn open(&mut self, from: &str, to: &str, size: usize) -> Result<(), Trouble> {
        let size = if self.abilities.has(Ability::Size) { format!(" SIZE={size}") } else { String::new() };
        self.command(&format!("MAIL FROM:<{from}>{size}"), 2)?;
        self.command(&format!("RCPT TO:<{to}>"), 2)?;
        self.command("DATA", 3).map(drop)
    }

    /// Gives the server the whole message, which is in the form that [`payload`] has made.
    ///
    /// # Errors
    ///
    /// [`Trouble`] if the server did not take all of it.
    pub(crate) fn give(&mut self, payload: &[u8]) -> Result<(), Trouble> {
        self.wait_until(self.limits.end);
        self.write(payload)
    }

    /// Waits for the server to say whether it has taken the message.
    ///
    /// # Errors
    ///
    /// [`Trouble`]; it may have the message all the same, if it has not refused it.
    pub(crate) fn verdict(&mut self) -> Result<(), Trouble> {
        self.wait_until(self.limits.end);
        self.hear(2)
    }

    /// Ends a transaction that was refused, so that another can begin.
    ///
    /// # Errors
    ///
    /// [`Trouble`] if this connection is of no more use.
    pub(crate) fn reset(&mut self) -> Result<(), Trouble> {
        self.command("RSET", 2).map(drop)
    }

    /// Takes leave.
    ///
    /// # Errors
    ///
    /// [`Trouble`] if the server does not answer.
    pub(crate) fn quit(&mut self) -> Result<(), Trouble> {
        self.command("QUIT", 2).map(drop)
    }

    fn command(&mut self, line: &str, wanted: u8) -> Result<Answer, Trouble> {
        self.say(line)?;
        self.answer()?.expect(wanted)
    }

    fn say(&mut self, line: &str) -> Result<(), Trouble> {
        self.wait_until(self.limits.next());
        self.write(format!("{line}\r\n").as_bytes())
    }

    /// Writes `bytes`; a server that has closed the connection may have said why.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let written = self.lines.source.write_all(bytes).and_then(|()| self.lines.source.flush());
        let Err(error) = written else { return Ok(()) };
        let trouble = self.told(&error);
        let soon = Limits { answer: LAST_WORDS, end: self.limits.end };
        self.wait_until(soon.next());
        match self.answer().map(|answer| answer.expect(2)) {
            Ok(Err(refused @ Trouble::Refused(_))) => Err(refused),
            _ => Err(trouble),
        }
    }

    fn hear(&mut self, wanted: u8) -> Result<(), Trouble> {
        self.answer()?.expect(wanted).map(drop)
    }

    fn answer(&mut self) -> Result<Answer, Trouble> {
        let answer = self.lines.answer();
        answer.map_err(|error| self.told(&error))
    }

    fn told(&mut self, error: &io::Error) -> Trouble {
        let limit = self.lines.source.timed().map_or(Duration::ZERO, |timed| timed.limit());
        told(error, limit)
    }
}

/// What went wrong with a connection that was waited for no longer than `limit`, for people.
fn told(error: &io::Error, limit: Duration) -> Trouble {
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        return Trouble::Broken(format!("no answer within {}", text::span(limit)));
    }
    Trouble::Broken(text::line(&phobos_core::error::Chain(error).to_string(), 1000))
}

/// A message as SMTP carries it, its end included.
pub(crate) fn payload(message: &[u8]) -> Vec<u8> {
    let message = message.strip_suffix(b"\r\n").unwrap_or(message);
    let mut payload = Vec::with_capacity(message.len().saturating_add(64));
    for line in message.split(|byte| *byte == b'\n') {
        // A line that is a lone dot would be the end (RFC 5321, 4.5.2).
        if line.first() == Some(&b'.') {
            payload.push(b'.');
        }
        payload.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        payload.extend_from_slice(b"\r\n");
    }
    payload.extend_from_slice(b".\r\n");
    payload
}

#[cfg(test)]
mod tests;
