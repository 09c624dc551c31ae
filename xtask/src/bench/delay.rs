//! `delay`: a port that leads to another, so that a host on this machine seems as far away as its bytes are held up.

use anyhow::{Context, Result};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The command line of `delay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long each way takes
    millis: u64,
    /// The port to listen on, of this machine alone
    port: u16,
    /// The port that it leads to
    to: u16,
}

/// Leads every connection on, until this program is ended.
///
/// # Errors
///
/// If the port cannot be listened on; a connection that breaks is its own two sides' business.
pub(crate) fn run(args: &Args) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).context("cannot listen")?;
    let (delay, to) = (Duration::from_millis(args.millis), args.to);
    loop {
        let (near, _) = listener.accept().context("cannot take a connection")?;
        thread::spawn(move || lead_on(&near, to, delay));
    }
}

fn lead_on(near: &TcpStream, to: u16, delay: Duration) -> io::Result<()> {
    let far = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
    far.set_nodelay(true)?;
    near.set_nodelay(true)?;
    let one_way = |from: &TcpStream, to: &TcpStream| {
        let (mut from, mut to) = (from, to);
        // Whichever side ends, the other one gets to know it.
        hold_up(&mut from, &mut to, delay).and(to.shutdown(Shutdown::Write))
    };
    thread::scope(|scope| {
        scope.spawn(|| one_way(near, &far));
        one_way(&far, near)
    })
}

/// Copies from one side to the other, each piece after the delay; pieces do not wait for each other.
fn hold_up(from: &mut dyn Read, to: &mut (dyn Write + Send), delay: Duration) -> io::Result<()> {
    let (pieces, held) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for (due, piece) in held {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                to.write_all(&piece)?;
                to.flush()?;
            }
            Ok(())
        });
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from.read(&mut buffer)?;
            let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else { break };
            if pieces.send((Instant::now() + delay, piece.to_vec())).is_err() {
                break;
            }
        }
        drop(pieces);
        writer.join().unwrap_or_else(|_| Err(io::Error::other("the writing side gave up")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_whole_and_late() {
        let began = Instant::now();
        let mut out = Vec::new();
        hold_up(&mut &b"phobos"[..], &mut out, Duration::from_millis(20)).unwrap();
        assert_eq!(out, b"phobos");
        assert!(began.elapsed() >= Duration::from_millis(20));
    }
}
