//! `delay`: what ssh connects through, so that a host on this machine seems as far away as its bytes are held up.

use anyhow::{Context, Result};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The command line of `delay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long each way takes
    millis: u64,
    address: String,
    port: u16,
}

/// Connects standard input and output to a port, until the port's side ends.
///
/// # Errors
///
/// If there is nobody on the port, or the connection breaks.
pub(crate) fn run(args: &Args) -> Result<()> {
    let far = TcpStream::connect((args.address.as_str(), args.port)).context("cannot connect")?;
    far.set_nodelay(true)?;
    let delay = Duration::from_millis(args.millis);
    let (mut from_far, mut to_far) = (far.try_clone()?, far);
    thread::spawn(move || {
        let sent = hold_up(&mut io::stdin(), &mut to_far, delay);
        sent.and_then(|()| to_far.shutdown(Shutdown::Write))
    });
    Ok(hold_up(&mut from_far, &mut io::stdout(), delay)?)
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
