//! A BlinkStick that is not there: attaches USB devices to this machine's kernel through `vhci_hcd` and writes down what
//! they are told, each with the time and with what the machine's drives were doing in that moment.
//!
//! ```text
//! fake-blinkstick [--traffic] LOG KIND:SERIAL...
//! fake-blinkstick /var/tmp/light.jsonl pro:BS000001-2.0 nano:BS000002-3.1
//! ```
//!
//! KIND is `v1`, `pro`, `strip`, `square`, `nano` or `flex`; with `:stall` behind the serial number, the stick refuses
//! every report that it is sent, with `:busy` it refuses the next two requests after each that it took. With `--traffic`
//! what the stick is asked for is written down as well, and no look is taken at the drives, which takes a while.
//! The program tells systemd when all sticks are there, and unplugs them when it ends.

mod stick;
mod usbip;
mod witness;

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::stick::Stick;

/// The controller that USB devices are attached to from user space.
const CONTROLLER: &str = "/sys/devices/platform/vhci_hcd.0";

/// USB's low speed, as the controller's `attach` file numbers it.
const LOW_SPEED: u32 = 1;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = std::env::args().skip(1).peekable();
    let scope = args.next_if_eq("--traffic").map_or(Scope::Reports, |_| Scope::Traffic);
    let (Some(log), sticks) = (args.next(), args.collect::<Vec<_>>()) else {
        bail!("usage: fake-blinkstick [--traffic] LOG KIND:SERIAL...")
    };
    let file = OpenOptions::new().append(true).create(true).open(&log).with_context(|| format!("cannot open {log}"))?;
    let log = Arc::new(Log { scope, file: Mutex::new(file) });
    let (ended, end) = mpsc::channel();
    for (number, text) in sticks.iter().enumerate() {
        let stick: Stick = text.parse().with_context(|| format!("{text} is no stick"))?;
        let (ours, kernels) = UnixStream::pair()?;
        attach(&kernels, number)?;
        drop(kernels);
        let (log, ended) = (Arc::clone(&log), ended.clone());
        let (configured, is_configured) = mpsc::channel();
        thread::spawn(move || {
            let end = usbip::serve(ours, stick, &log, configured);
            // Nobody listens any more only when the program ends anyway.
            drop(ended.send(end));
        });
        is_configured.recv_timeout(Duration::from_secs(30)).with_context(|| format!("{text} was not taken"))?;
    }
    notify()?;
    end.recv()?
}

/// Hands `socket` to the kernel as the other end of a USB device.
fn attach(socket: &UnixStream, number: usize) -> Result<()> {
    let status = fs::read_to_string(format!("{CONTROLLER}/status")).context("is vhci-hcd loaded?")?;
    let port = free_port(&status).context("no free port")?;
    let line = format!("{port} {} {} {LOW_SPEED}", socket.as_raw_fd(), number + 1);
    fs::write(format!("{CONTROLLER}/attach"), line).context("cannot attach to vhci-hcd")
}

/// The first port for devices of USB 2 or below that nothing is attached to.
fn free_port(status: &str) -> Option<u32> {
    status.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["hs", port, "004", ..] => port.parse().ok(),
        _ => None,
    })
}

/// Tells systemd that the sticks are plugged in.
fn notify() -> Result<()> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    UnixDatagram::unbound()?.send_to(b"READY=1", socket).context("cannot notify systemd")?;
    Ok(())
}

#[expect(clippy::print_stderr, reason = "its journal is where a reader looks")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Where the reports are written down, one line each.
struct Log {
    scope: Scope,
    file: Mutex<File>,
}

/// What is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// What the sticks are sent, and how the machine's drives stood.
    Reports,
    /// What the sticks are sent and asked for.
    Traffic,
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_port_that_is_free_is_found() {
        let status = "hub port sta spd dev      sockfd local_busid\n\
                      hs  0000 006 001 00000001 000003 1-1\n\
                      hs  0001 004 000 00000000 000000 0-0\n\
                      ss  0008 004 000 00000000 000000 0-0\n";
        assert_eq!(super::free_port(status), Some(1));
    }
}
