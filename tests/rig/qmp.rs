//! QEMU's control channel.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A connection to a running QEMU.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Connects to the QEMU that listens on `socket`, waiting until it does; `alive` tells whether it still may.
    pub(crate) fn connect(socket: &Path, mut alive: impl FnMut() -> Result<()>) -> Result<Self> {
        let began = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if began.elapsed() > ANSWER_LIMIT => {
                    return Err(error).context("QEMU does not listen");
                }
                Err(_) => {
                    alive()?;
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        };
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let mut qmp = Self { stream: BufReader::new(stream), events: VecDeque::new() };
        qmp.read()?;
        qmp.call("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and returns its result.
    pub(crate) fn call(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let call = json!({ "execute": command, "arguments": arguments });
        self.stream.get_mut().write_all(format!("{call}\n").as_bytes()).context("cannot write to QEMU")?;
        loop {
            let mut answer = self.read()?;
            if answer.get("event").is_some() {
                self.events.push_back(answer);
            } else if let Some(error) = answer.get("error") {
                bail!("QEMU: {call}: {error}");
            } else {
                return Ok(answer["return"].take());
            }
        }
    }

    /// Waits for the event `name` that `device` sent.
    pub(crate) fn wait_for(&mut self, name: &str, device: &str, limit: Duration) -> Result<()> {
        let fits = |event: &Value| event["event"] == name && event["data"]["device"] == device;
        if let Some(seen) = self.events.iter().position(fits) {
            self.events.remove(seen);
            return Ok(());
        }
        let began = Instant::now();
        while began.elapsed() < limit {
            let message = self.read()?;
            if fits(&message) {
                return Ok(());
            }
            self.events.push_back(message);
        }
        bail!("QEMU did not report {name} of {device} within {} s", limit.as_secs())
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        loop {
            match self.stream.read_line(&mut line) {
                Ok(0) => bail!("QEMU has ended"),
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("QEMU does not answer"),
            }
        }
        serde_json::from_str(&line).with_context(|| format!("not JSON from QEMU: {line}"))
    }
}
