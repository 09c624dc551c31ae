//! The USB/IP protocol, as far as the kernel speaks it with a device that has one control and one interrupt endpoint.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;

use anyhow::{Result, bail};

use crate::Log;
use crate::stick::{Answer, Setup, Stick};

const CMD_SUBMIT: u32 = 1;
const CMD_UNLINK: u32 = 2;
const RET_SUBMIT: u32 = 3;
const RET_UNLINK: u32 = 4;

/// `-EPIPE`: the endpoint stalls.
const STALL: i32 = -32;

/// `-ECONNRESET`: the request was taken back.
const TAKEN_BACK: i32 = -104;

/// The length of every message's head, in bytes.
const HEAD: usize = 48;

/// Answers the kernel's requests until it lets go of the device; tells `configured` once it has taken it in.
pub(crate) fn serve(mut socket: UnixStream, mut stick: Stick, log: &Log, configured: Sender<()>) -> Result<()> {
    let mut configured = Some(configured);
    let mut pending = Vec::new();
    loop {
        let mut head = [0; HEAD];
        if socket.read(&mut head[..1])? == 0 {
            return Ok(());
        }
        socket.read_exact(&mut head[1..])?;
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (command, number, is_in, endpoint) = (word(0), word(4), word(12) == 1, word(16));
        match command {
            CMD_SUBMIT => {
                let length = word(24) as usize;
                let mut payload = vec![0; if is_in { 0 } else { length }];
                socket.read_exact(&mut payload)?;
                if endpoint != 0 {
                    // The interrupt endpoint never has anything to say.
                    pending.push(number);
                    continue;
                }
                let setup =
                    Setup::new([head[40], head[41], head[42], head[43], head[44], head[45], head[46], head[47]]);
                let (status, sent, data) = match stick.answer(setup, &payload, log)? {
                    Answer::Data(mut data) => {
                        data.truncate(length);
                        (0, data.len(), data)
                    }
                    Answer::Taken => (0, payload.len(), Vec::new()),
                    Answer::Stall => (STALL, 0, Vec::new()),
                };
                let mut answer = message(RET_SUBMIT, number, status);
                answer[24..28].copy_from_slice(&u32::try_from(sent)?.to_be_bytes());
                answer.extend(data);
                socket.write_all(&answer)?;
                if setup.is_last_before_use() {
                    configured.take().map_or(Ok(()), |configured| configured.send(()))?;
                }
            }
            CMD_UNLINK => {
                let of = word(20);
                let was_pending = pending.contains(&of);
                pending.retain(|number| *number != of);
                socket.write_all(&message(RET_UNLINK, number, if was_pending { TAKEN_BACK } else { 0 }))?;
            }
            other => bail!("the kernel sent command {other}"),
        }
    }
}

/// An answer's head.
fn message(command: u32, number: u32, status: i32) -> Vec<u8> {
    let mut bytes = vec![0; HEAD];
    bytes[0..4].copy_from_slice(&command.to_be_bytes());
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    bytes[20..24].copy_from_slice(&status.to_be_bytes());
    bytes
}
