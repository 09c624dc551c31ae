//! What a conversation goes over: every line, every answer and every wait has a limit.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use crate::text;

/// How long one line of a server may be; RFC 5321 (4.5.3.1.5) allows 512 bytes.
const LINE: usize = 4096;

/// How long one answer of a server may be, all of its lines together.
const ANSWER: usize = 64 * 1024;

/// How much of what a server said is told.
pub(super) const TOLD: usize = 300;

/// An answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The first digit, which decides (RFC 5321, 4.3.2).
    pub(super) kind: u8,
    /// The first three characters, as they came.
    pub(super) code: String,
    /// What each line says behind the code.
    pub(super) lines: Vec<String>,
}

/// How long a server may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For one answer.
    pub(crate) answer: Duration,
    /// By when everything is over; the answer to a message has all the time until then (RFC 5321, 4.5.3.2.6).
    pub(crate) end: Instant,
}

/// A connection whose reads and writes end by a moment, not after a length of time: a byte now and then buys no more.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) stream: TcpStream,
    pub(super) since: Instant,
    pub(super) until: Instant,
}

/// What a conversation goes over.
#[derive(Debug)]
pub(super) enum Wire {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
    /// While one becomes the other.
    None,
}

/// Lines of limited length.
#[derive(Debug)]
pub(super) struct Lines<R> {
    pub(super) source: R,
    pub(super) ahead: Vec<u8>,
}

impl Limits {
    /// By when the next answer must be there.
    pub(super) fn next(self) -> Instant {
        Instant::now().checked_add(self.answer).map_or(self.end, |next| next.min(self.end))
    }
}

impl Timed {
    /// How long the wait that is under way may take.
    pub(super) fn limit(&self) -> Duration {
        self.until.saturating_duration_since(self.since)
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Wire {
    pub(super) fn timed(&mut self) -> io::Result<&mut Timed> {
        match self {
            Self::Plain(timed) => Ok(timed),
            Self::Tls(tls) => Ok(&mut tls.sock),
            Self::None => Err(ErrorKind::NotConnected.into()),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(timed) => timed.read(buffer),
            Self::Tls(tls) => match tls.read(buffer) {
                // Many servers close the connection without a word of TLS.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
                other => other,
            },
            Self::None => Err(ErrorKind::NotConnected.into()),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(timed) => timed.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
            Self::None => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(timed) => timed.flush(),
            Self::Tls(tls) => tls.flush(),
            Self::None => Err(ErrorKind::NotConnected.into()),
        }
    }
}

impl<R: Read> Lines<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, ahead: Vec::new() }
    }

    /// The next line, without its end; `None` at the end of the stream.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.ahead.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.ahead.drain(..=end).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(Some(line));
            }
            if self.ahead.len() > LINE {
                return Err(io::Error::other(format!("it sends a line of more than {LINE} bytes")));
            }
            let mut buffer = [0; 1024];
            let count = match self.source.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            if count == 0 {
                return Ok(None);
            }
            self.ahead.extend(buffer.iter().take(count));
        }
    }

    /// Reads an answer, of one line or several.
    pub(super) fn answer(&mut self) -> io::Result<Answer> {
        let mut lines = Vec::new();
        let mut size = 0_usize;
        loop {
            let Some(line) = self.next()? else {
                return Err(io::Error::other("it closed the connection"));
            };
            size = size.saturating_add(line.len()).saturating_add(1);
            if size > ANSWER {
                return Err(io::Error::other(format!("its answer has more than {ANSWER} bytes")));
            }
            let (code, rest) = line.split_at_checked(3).unwrap_or((&line, &[]));
            let Some(digit @ b'2'..=b'5') = code.first() else {
                let said = text::line(&String::from_utf8_lossy(&line), TOLD);
                return Err(io::Error::other(format!("it does not speak SMTP: it says \"{said}\"")));
            };
            let kind = digit.saturating_sub(b'0');
            let (is_last, rest) = match rest.split_first() {
                Some((b'-', rest)) => (false, rest),
                Some((b' ', rest)) => (true, rest),
                _ => (true, rest),
            };
            lines.push(String::from_utf8_lossy(rest).into_owned());
            if is_last {
                let code = text::line(&String::from_utf8_lossy(code), 3);
                return Ok(Answer { kind, code, lines });
            }
        }
    }
}
