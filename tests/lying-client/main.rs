//! A client that lies: runs a real rsync and swaps bytes in what it sends, such as the names and modes of its files.
//!
//! `a-client-that-lies 5151=2e2e… -- rsync --server …`: hexadecimal, both sides of one length, so that everything else
//! of the protocol, its checksums included, stays as the real rsync made it.

use std::io::{self, Read, Write};
use std::process::{ExitCode, Stdio};

fn main() -> io::Result<ExitCode> {
    lie().map(ExitCode::from)
}

fn lie() -> io::Result<u8> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut parts = args.splitn(2, |arg| arg == "--");
    let lies: Option<Vec<_>> = parts.next().unwrap_or_default().iter().map(|arg| swap(arg)).collect();
    let (Some(lies), Some([program, args @ ..])) = (lies, parts.next()) else {
        return Err(io::Error::other("usage: a-client-that-lies HEX=HEX… -- PROGRAM…"));
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "a stand-in for a client's own programs, with its streams in between"
    )]
    let mut child = std::process::Command::new(program).args(args).stdout(Stdio::piped()).spawn()?;
    let mut truth = child.stdout.take().ok_or_else(|| io::Error::other("no output to change"))?;
    let mut out = io::stdout().lock();
    let mut buffer = vec![0; 64 * 1024];
    // rsync writes its file list at once, so a name is never cut in two.
    loop {
        let length = truth.read(&mut buffer)?;
        let Some(bytes) = buffer.get_mut(..length).filter(|bytes| !bytes.is_empty()) else { break };
        for (from, to) in &lies {
            replace(bytes, from, to);
        }
        out.write_all(bytes)?;
        out.flush()?;
    }
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(u8::MAX))
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let mut start = 0;
    while let Some(found) = bytes.get(start..).and_then(|rest| rest.windows(from.len()).position(|part| part == from)) {
        let end = start + found + from.len();
        if let Some(place) = bytes.get_mut(start + found..end) {
            place.copy_from_slice(to);
        }
        start = end;
    }
}

/// Reads `HEX=HEX`.
fn swap(arg: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (from, to) = arg.split_once('=')?;
    let (from, to) = (bytes(from)?, bytes(to)?);
    (from.len() == to.len() && !from.is_empty()).then_some((from, to))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
    digits?.chunks(2).map(|pair| u8::try_from(pair.first()? * 16 + pair.get(1)?).ok()).collect()
}
