//! The page for a browser in the house: one request at a time, a page and nothing else, for as long as nobody ends it.
//!
//! Whoever can reach the address can read the page; there is no password. Nothing of a request is used but its first line, and no
//! client can hold up the next one for more than some seconds.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long a client may take for its request, and as long again for taking the page.
const LIMIT: Duration = Duration::from_secs(5);

/// How much of a request is read, in bytes.
const LONGEST: usize = 8 * 1024;

/// For how long a page is as good as new.
const FRESH: Duration = Duration::from_secs(5);

/// How often a signal is looked for.
const STEP: Duration = Duration::from_millis(100);

/// What every answer says: no script, no request, in nobody's frame, and kept nowhere.
const HEADERS: &str = "Content-Type: text/html; charset=utf-8\r\nContent-Security-Policy: default-src 'none'; \
    style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'\r\nX-Content-Type-Options: nosniff\r\n\
    Referrer-Policy: no-referrer\r\nCache-Control: no-store\r\nConnection: close\r\n";

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Page,
    /// How long it is, without it.
    Head,
    Unknown,
    NotAllowed,
    Nonsense,
}

/// Serves pages that `page` makes at `address` until `ended`; `ready` is told where, once a browser would be answered.
///
/// # Errors
///
/// When the address cannot be had.
pub(crate) fn serve(
    address: SocketAddr,
    ready: &dyn Fn(SocketAddr),
    page: &dyn Fn() -> String,
    ended: &dyn Fn() -> bool,
) -> io::Result<()> {
    let listener = TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot serve at {address}: {error}")))?;
    listener.set_nonblocking(true)?;
    ready(listener.local_addr()?);
    let mut made: Option<(Instant, String)> = None;
    while !ended() {
        match listener.accept() {
            Ok((stream, from)) => {
                let fresh = made.take().filter(|(at, _)| at.elapsed() < FRESH);
                let (at, text) = fresh.unwrap_or_else(|| (Instant::now(), page()));
                if let Err(error) = answer(stream, &text, ended) {
                    log::debug!("{from}: {error}");
                }
                made = Some((at, text));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(STEP),
            Err(error) => {
                // The client was gone, or there are too many files open: it may be better in a moment.
                log::debug!("{error}");
                std::thread::sleep(STEP);
            }
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream, page: &str, ended: &dyn Fn() -> bool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(STEP))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let began = Instant::now();
    let mut request = Vec::new();
    while !is_whole(&request) && request.len() < LONGEST && began.elapsed() < LIMIT && !ended() {
        let mut some = [0; 1024];
        match stream.read(&mut some) {
            Ok(0) => break,
            Ok(count) => request.extend(some.iter().take(count)),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    let (status, body) = match wanted(&request) {
        Wanted::Page | Wanted::Head => ("200 OK", page),
        Wanted::Unknown => ("404 Not Found", "There is one page only: /\n"),
        Wanted::NotAllowed => ("405 Method Not Allowed", "This page can only be read.\n"),
        Wanted::Nonsense => ("400 Bad Request", "This is no request.\n"),
    };
    let head = format!("HTTP/1.1 {status}\r\n{HEADERS}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    if wanted(&request) != Wanted::Head {
        write_within(&mut stream, body.as_bytes(), Instant::now())?;
    }
    stream.flush()
}

/// Writes all of it, as long as the client takes some of it in time.
fn write_within(stream: &mut TcpStream, bytes: &[u8], began: Instant) -> io::Result<()> {
    for chunk in bytes.chunks(16 * 1024) {
        if began.elapsed() > LIMIT {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.write_all(chunk)?;
    }
    Ok(())
}

fn is_whole(request: &[u8]) -> bool {
    request.windows(4).any(|bytes| bytes == b"\r\n\r\n") || request.windows(2).any(|bytes| bytes == b"\n\n")
}

/// What the first line of a request asks for.
fn wanted(request: &[u8]) -> Wanted {
    let line = request.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else { return Wanted::Nonsense };
    let mut words = line.trim_end().split(' ');
    let (Some(method), Some(path), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Wanted::Nonsense;
    };
    let path = path.split('?').next().unwrap_or_default();
    match (method, path) {
        _ if !is_whole(request) || !version.starts_with("HTTP/1.") => Wanted::Nonsense,
        ("GET", "/") => Wanted::Page,
        ("HEAD", "/") => Wanted::Head,
        ("GET" | "HEAD", _) => Wanted::Unknown,
        _ => Wanted::NotAllowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    #[test]
    fn a_request_is_for_the_page_or_for_nothing() {
        let cases: [(&[u8], Wanted); 9] = [
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Wanted::Page),
            (b"GET /?x HTTP/1.0\n\n", Wanted::Page),
            (b"HEAD / HTTP/1.1\r\n\r\n", Wanted::Head),
            (b"GET /../etc/passwd HTTP/1.1\r\n\r\n", Wanted::Unknown),
            (b"POST / HTTP/1.1\r\n\r\n", Wanted::NotAllowed),
            (b"GET / HTTP/1.1\r\n", Wanted::Nonsense),
            (b"GET /\r\n\r\n", Wanted::Nonsense),
            (b"\xff\xfe / HTTP/1.1\r\n\r\n", Wanted::Nonsense),
            (b"", Wanted::Nonsense),
        ];
        for (request, want) in cases {
            assert_eq!(wanted(request), want, "{}", String::from_utf8_lossy(request));
        }
    }

    #[test]
    fn a_browser_gets_the_page_and_whoever_says_nothing_holds_up_nobody_for_long() {
        let ended = AtomicBool::new(false);
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            let served = scope.spawn(|| {
                let ready = |address| sender.send(address).unwrap();
                serve("127.0.0.1:0".parse().unwrap(), &ready, &|| "<p>page".repeat(20_000), &|| {
                    ended.load(Ordering::Relaxed)
                })
            });
            let address = receiver.recv().unwrap();
            let ask = |request: &[u8]| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(request).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                answer
            };
            // One says nothing, and keeps its connection open.
            let silent = TcpStream::connect(address).unwrap();
            let page = ask(b"GET / HTTP/1.1\r\n\r\n");
            assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("default-src 'none'"), "{page:.300}");
            assert!(page.ends_with("\r\n\r\n".to_owned().as_str()) || page.ends_with("<p>page"));
            drop(silent);
            assert!(ask(b"HEAD / HTTP/1.1\r\n\r\n").ends_with("Content-Length: 140000\r\n\r\n"));
            assert!(ask(b"GET /x HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
            assert!(ask(b"DELETE / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
            let stream = TcpStream::connect(address).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            drop(stream);
            ended.store(true, Ordering::Relaxed);
            served.join().unwrap().unwrap();
        });
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = serve(taken.local_addr().unwrap(), &|_| {}, &String::new, &|| true).unwrap_err();
        assert!(error.to_string().starts_with("cannot serve at 127.0.0.1:"), "{error}");
    }

    #[test]
    fn fuzz_http_request() {
        phobos_fuzz::target("http request", &[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], |bytes| {
            std::hint::black_box(wanted(bytes));
        });
    }
}
