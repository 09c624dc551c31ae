//! Mail settings: to whom, from whom, and which way.
//!
//! The mail program does the rest; what is read here is checked once, so that nothing in it can become an option of a
//! program, a header of a message or a path.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::AbsolutePath;

/// The table `[mail]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Settings {
    /// Who gets the mail about failed units.
    pub to: Address,
    /// Who it is from; without it, root at this machine.
    #[schemars(extend("examples" = ["phobos@example.org"]))]
    pub from: Option<Address>,
    /// Which way it leaves: auto (port 25 of this machine, else sendmail), sendmail, `smtp://HOST`, `submission://HOST` (STARTTLS),
    /// `submissions://HOST` (TLS). A sendmail that needs rights of its own to queue mail, as those of dma and nullmailer do, is
    /// called by the last step of phobos's units; msmtp must let the group systemd-journal read its configuration, and an alias
    /// there says who root is.
    pub transport: Transport,
    /// The systemd credential with user and password, one a line, for `submission:` and `submissions:`; the units of phobos-mail
    /// then need `LoadCredential=NAME:FILE`.
    #[schemars(extend("examples" = ["mail"]))]
    pub credential: Option<Credential>,
    /// Certificates, as PEM, that are trusted besides the system's.
    #[schemars(extend("examples" = ["/etc/phobos/ca.pem"]))]
    pub ca_file: Option<AbsolutePath>,
    /// The one certificate that the server may have, whoever has signed it and whatever names it is for: how a relay with one of its
    /// own making is pinned. The error that says that it is not trusted shows it.
    #[schemars(extend("examples" = [FINGERPRINT]))]
    pub tls_fingerprint: Option<Fingerprint>,
    /// What this machine calls itself to the server, with a dot, for many servers take no other; without it, it is the host's full
    /// name, or the domain of `from`, or its address: [127.0.0.1].
    #[schemars(extend("examples" = ["nas.example.org"]))]
    pub hello: Option<Hello>,
}

/// What a fingerprint looks like.
const FINGERPRINT: &str = "sha256:5d41402abc4b2a76b9719d911017c592ae2f0b3c8d4e6f7a1b2c3d4e5f60718a";

/// The SHA-256 of a server's certificate: `sha256:` and 64 hexadecimal digits, with or without colons between them.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^(sha256|SHA256):"))]
pub struct Fingerprint([u8; 32]);

/// The text is no [`Fingerprint`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no fingerprint, which is sha256: and 64 hexadecimal digits")]
pub struct BadFingerprint(String);

/// What a client calls itself in SMTP: a host's name, or an address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Hello(String);

/// The text is no [`Hello`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither a host's name nor an address such as [192.0.2.1] or [IPv6:2001:db8::1]")]
pub struct BadHello(String);

/// The name of a systemd credential, which is a file's name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[A-Za-z0-9_-][A-Za-z0-9._-]*$"))]
pub struct Credential(String);

/// The text is no [`Credential`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no name of a credential")]
pub struct BadCredential(String);

/// A mail address that can be neither an option nor a second address: `root`, or `somebody@example.org`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Address(String);

/// The text is no [`Address`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no mail address")]
pub struct BadAddress(String);

/// A way for mail to leave this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^(auto|sendmail|(smtp|submissions?|smtps)://.+)$"))]
pub enum Transport {
    /// SMTP to port 25 of this machine, and if nobody is there, `sendmail`.
    Auto,
    /// The program `sendmail`.
    Sendmail,
    /// An SMTP server.
    Smtp(Server),
}

/// An SMTP server, and how the connection to it is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name or address; the name is what its certificate must be for.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub security: Security,
}

/// How a connection to an SMTP server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Not at all: `smtp://`, port 25.
    None,
    /// TLS after STARTTLS, or no mail: `submission://`, port 587.
    StartTls,
    /// TLS from the first byte: `submissions://` or `smtps://`, port 465.
    Tls,
}

/// The text is no [`Transport`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is none of auto, sendmail, smtp://HOST, submission://HOST, submissions://HOST")]
pub struct BadTransport(String);

impl Default for Settings {
    fn default() -> Self {
        Self {
            to: Address("root".to_owned()),
            from: None,
            transport: Transport::Auto,
            credential: None,
            ca_file: None,
            tls_fingerprint: None,
            hello: None,
        }
    }
}

impl Settings {
    /// What no single value can tell: a key and what is wrong with it in view of the others.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.credential.is_some() && self.transport.shows_passwords() {
            let message = "the transport does not protect it; use submission:// or submissions://";
            return Err(("credential", message.to_owned()));
        }
        if self.tls_fingerprint.is_some() && self.transport.shows_passwords() {
            let message = "the transport has no TLS; use submission:// or submissions://";
            return Err(("tls-fingerprint", message.to_owned()));
        }
        Ok(())
    }
}

impl Credential {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Credential {
    type Error = BadCredential;

    fn try_from(text: String) -> Result<Self, BadCredential> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=255).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(good) {
            Ok(Self(text))
        } else {
            Err(BadCredential(text))
        }
    }
}

impl Fingerprint {
    /// The fingerprint whose bytes are these.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = BadFingerprint;

    fn try_from(text: String) -> Result<Self, BadFingerprint> {
        text.parse()
    }
}

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let bad = || BadFingerprint(text.to_owned());
        let digits = text.strip_prefix("sha256:").or_else(|| text.strip_prefix("SHA256:")).ok_or_else(bad)?;
        // openssl x509 -fingerprint prints a colon after each byte.
        let digits: Vec<u8> = digits.bytes().filter(|byte| *byte != b':').collect();
        let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some((nibble(*high)? << 4) | nibble(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(bad)
    }
}

impl Hello {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Hello {
    type Error = BadHello;

    fn try_from(text: String) -> Result<Self, BadHello> {
        let literal = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let good = match literal {
            Some(literal) => match literal.strip_prefix("IPv6:") {
                Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
                None => literal.parse::<std::net::Ipv4Addr>().is_ok(),
            },
            None => is_host(&text),
        };
        if good { Ok(Self(text)) } else { Err(BadHello(text)) }
    }
}

impl Address {
    /// The part before the `@`.
    pub fn local(&self) -> &str {
        self.0.split_once('@').map_or(&self.0, |(local, _)| local)
    }

    /// The part after the `@`; without it, the machine's own mail system knows the address.
    pub fn domain(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, domain)| domain)
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address at `domain`, if it has no domain of its own.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] if `domain` is none.
    pub fn qualified(&self, domain: &str) -> Result<Self, BadAddress> {
        if self.domain().is_some() {
            return Ok(self.clone());
        }
        format!("{}@{domain}", self.0).parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for Address {
    type Error = BadAddress;

    fn try_from(text: String) -> Result<Self, BadAddress> {
        let (local, domain) = match text.split_once('@') {
            Some((local, domain)) => (local, Some(domain)),
            None => (text.as_str(), None),
        };
        if is_local_part(local) && domain.is_none_or(is_host) && text.len() <= 254 {
            Ok(Self(text))
        } else {
            Err(BadAddress(text))
        }
    }
}

/// Whether `text` is a dot-atom (RFC 5322) that is no option.
fn is_local_part(text: &str) -> bool {
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    text.len() <= 64
        && !text.starts_with(['-', '|', '/'])
        && text.split('.').all(|part| !part.is_empty() && part.bytes().all(atom))
}

/// Whether `text` is a host's name.
fn is_host(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(inner)
        })
}

impl Transport {
    /// Whether a password would cross the network unprotected, or would not be used at all.
    fn shows_passwords(&self) -> bool {
        match self {
            Self::Auto | Self::Sendmail => true,
            Self::Smtp(server) => server.security == Security::None,
        }
    }
}

impl TryFrom<String> for Transport {
    type Error = BadTransport;

    fn try_from(text: String) -> Result<Self, BadTransport> {
        text.parse()
    }
}

impl FromStr for Transport {
    type Err = BadTransport;

    fn from_str(text: &str) -> Result<Self, BadTransport> {
        match text {
            "auto" => return Ok(Self::Auto),
            "sendmail" => return Ok(Self::Sendmail),
            _ => {}
        }
        let bad = || BadTransport(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let security = match scheme {
            "smtp" => Security::None,
            "submission" => Security::StartTls,
            "submissions" | "smtps" => Security::Tls,
            _ => return Err(bad()),
        };
        let (host, port) = host_and_port(rest).ok_or_else(bad)?;
        let port = port.unwrap_or(security.default_port());
        Ok(Self::Smtp(Server { host, port, security }))
    }
}

impl From<Transport> for String {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Auto => "auto".to_owned(),
            Transport::Sendmail => "sendmail".to_owned(),
            Transport::Smtp(server) => server.to_string(),
        }
    }
}

/// Reads `HOST`, `HOST:PORT`, `[::1]` or `[::1]:PORT`.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let port = |text: &str| text.parse().ok().filter(|port| *port != 0);
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let address: std::net::Ipv6Addr = address.parse().ok()?;
        return match rest.strip_prefix(':') {
            Some(text) => Some((address.to_string(), Some(port(text)?))),
            None => rest.is_empty().then(|| (address.to_string(), None)),
        };
    }
    let (host, port) = match text.split_once(':') {
        Some((host, text)) => (host, Some(port(text)?)),
        None => (text, None),
    };
    is_host(host).then(|| (host.to_owned(), port))
}

impl Security {
    fn default_port(self) -> u16 {
        match self {
            Self::None => 25,
            Self::StartTls => 587,
            Self::Tls => 465,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.security {
            Security::None => "smtp",
            Security::StartTls => "submission",
            Security::Tls => "submissions",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests;
