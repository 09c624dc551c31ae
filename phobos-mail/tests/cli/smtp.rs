//! A little SMTP server on loopback: it takes mail, refuses it, or says nothing any more.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Takes everything.
    Takes,
    /// Takes everything, at its leisure.
    TakesSlowly,
    /// Refuses the recipients that begin with this.
    Refuses(&'static str),
    /// Wants STARTTLS and a password before it takes anything.
    StartTls,
    /// Speaks TLS from the first byte.
    Tls,
    /// Accepts the connection and never says a word.
    Mute,
    /// Takes in the whole message and never says whether it took it.
    MuteAtTheEnd,
}

/// A message that the server has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) text: String,
    pub(crate) authenticated: bool,
}

/// The server; it lives as long as the test.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) port: u16,
    taken: Arc<Mutex<Vec<Taken>>>,
}

impl Taken {
    pub(crate) fn header(&self, name: &str) -> String {
        use mailparse::MailHeaderMap;
        mailparse::parse_mail(self.text.as_bytes()).unwrap().headers.get_first_value(name).unwrap_or_default()
    }

    pub(crate) fn body(&self) -> String {
        mailparse::parse_mail(self.text.as_bytes()).unwrap().get_body().unwrap().replace("\r\n", "\n")
    }
}

impl Server {
    pub(crate) fn start(manner: Manner) -> Self {
        Self::start_at(0, manner)
    }

    /// Starts at `port`, where nobody listened until now.
    pub(crate) fn start_at(port: u16, manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), taken: Arc::default() };
        let taken = Arc::clone(&server.taken);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let taken = Arc::clone(&taken);
                // A client that goes away in the middle ends its own conversation only.
                std::thread::spawn(move || converse(stream.unwrap(), manner, &taken).unwrap_or_default());
            }
        });
        server
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// What a conversation goes over.
trait Line: Read + Write {}
impl<T: Read + Write> Line for T {}

/// One client's conversation with the server.
struct Conversation {
    /// `None` while STARTTLS wraps it.
    line: Option<BufReader<Box<dyn Line>>>,
    /// The client's end, for STARTTLS.
    stream: TcpStream,
    authenticated: bool,
}

fn converse(stream: TcpStream, manner: Manner, taken: &Mutex<Vec<Taken>>) -> io::Result<()> {
    let line: Box<dyn Line> = Box::new(stream.try_clone()?);
    let mut talk = Conversation { line: Some(BufReader::new(line)), stream, authenticated: false };
    if manner == Manner::Mute {
        return talk.hear().map(drop);
    }
    if manner == Manner::Tls {
        talk.encrypt()?;
    }
    let mut mail = Taken { from: String::new(), to: String::new(), text: String::new(), authenticated: false };
    talk.say("220 test")?;
    while let Some(line) = talk.hear()? {
        let (command, rest) = line.split_once([':', ' ']).unwrap_or((&line, ""));
        let rest = rest.trim_start_matches("FROM:").trim_start_matches("TO:");
        let address = rest.trim_matches(['<', '>']).to_owned();
        match (command, manner) {
            ("EHLO", Manner::StartTls) => talk.say("250-test\r\n250-STARTTLS\r\n250 AUTH PLAIN")?,
            ("EHLO", Manner::Tls) => talk.say("250-test\r\n250 AUTH PLAIN")?,
            ("STARTTLS", Manner::StartTls) => {
                talk.say("220 go on")?;
                talk.encrypt()?;
            }
            // "\0user\0pass word", as RFC 4616 wants it.
            ("AUTH", _) if rest == "PLAIN AHVzZXIAcGFzcyB3b3Jk" => {
                talk.authenticated = true;
                talk.say("235 welcome")?;
            }
            ("AUTH", _) => talk.say("535 who are you?")?,
            ("RCPT", Manner::Refuses(start)) if address.starts_with(start) => talk.say("550 no such user")?,
            ("RCPT", _) => {
                mail.to = address;
                talk.say("250 ok")?;
            }
            ("MAIL", _) => {
                mail.from = address;
                talk.say("250 ok")?;
            }
            ("DATA", _) => {
                talk.say("354 go on")?;
                mail.text.clear();
                mail.authenticated = talk.authenticated;
                while let Some(line) = talk.hear()?.filter(|line| line != ".") {
                    mail.text.push_str(line.strip_prefix('.').unwrap_or(&line));
                    mail.text.push_str("\r\n");
                }
                match manner {
                    Manner::MuteAtTheEnd => return talk.hear().map(drop),
                    Manner::TakesSlowly => std::thread::sleep(Duration::from_millis(20)),
                    _ => {}
                }
                taken.lock().unwrap().push(mail.clone());
                talk.say("250 taken")?;
            }
            ("QUIT", _) => return talk.say("221 bye"),
            _ => talk.say("250 ok")?,
        }
    }
    Ok(())
}

impl Conversation {
    fn say(&mut self, text: &str) -> io::Result<()> {
        let line = self.line.as_mut().unwrap().get_mut();
        line.write_all(format!("{text}\r\n").as_bytes())?;
        line.flush()
    }

    fn hear(&mut self) -> io::Result<Option<String>> {
        let mut text = String::new();
        let length = self.line.as_mut().unwrap().read_line(&mut text)?;
        Ok((length > 0).then(|| text.trim_end().to_owned()))
    }

    /// Goes on in TLS, with the certificate for `localhost` of the test's own authority.
    fn encrypt(&mut self) -> io::Result<()> {
        let chain = CertificateDer::pem_slice_iter(include_bytes!("fixtures/server.pem"));
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("fixtures/server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let tls = ServerConnection::new(Arc::new(config)).unwrap();
        let line: Box<dyn Line> = Box::new(StreamOwned::new(tls, self.stream.try_clone()?));
        self.line = Some(BufReader::new(line));
        Ok(())
    }
}
