//! A little SMTP server on loopback: it takes mail, refuses it, or says nothing any more.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Takes everything.
    Takes,
    /// Takes everything, at its leisure.
    TakesSlowly,
    /// Refuses the recipients that begin with this.
    Refuses(&'static str),
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

fn converse(stream: TcpStream, manner: Manner, taken: &Mutex<Vec<Taken>>) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    if manner == Manner::Mute {
        return lines.next().map_or(Ok(()), |line| line.map(drop));
    }
    let mut mail = Taken { from: String::new(), to: String::new(), text: String::new() };
    let mut say = |line: &str| out.write_all(format!("{line}\r\n").as_bytes());
    say("220 test")?;
    while let Some(line) = lines.next().transpose()? {
        let (command, rest) = line.split_once(':').unwrap_or((&line, ""));
        let address = rest.trim_matches(['<', '>']).to_owned();
        match (command, manner) {
            ("RCPT TO", Manner::Refuses(start)) if address.starts_with(start) => say("550 no such user")?,
            ("RCPT TO", _) => {
                mail.to = address;
                say("250 ok")?;
            }
            ("MAIL FROM", _) => {
                mail.from = address;
                say("250 ok")?;
            }
            ("DATA", _) => {
                say("354 go on")?;
                mail.text.clear();
                while let Some(line) = lines.next().transpose()?.filter(|line| line != ".") {
                    mail.text.push_str(line.strip_prefix('.').unwrap_or(&line));
                    mail.text.push_str("\r\n");
                }
                match manner {
                    Manner::MuteAtTheEnd => return lines.next().map_or(Ok(()), |line| line.map(drop)),
                    Manner::TakesSlowly => std::thread::sleep(Duration::from_millis(20)),
                    _ => {}
                }
                taken.lock().unwrap().push(mail.clone());
                say("250 taken")?;
            }
            ("QUIT", _) => return say("221 bye"),
            _ => say("250 ok")?,
        }
    }
    Ok(())
}
