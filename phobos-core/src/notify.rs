//! What systemd is told of this process while it works: a datagram that waits for nobody (`sd_notify(3)`).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the socket. No child gets it: it would speak for this process.
pub(crate) const VARIABLE: &str = "NOTIFY_SOCKET";

/// The longest status, in characters: it is one line of `systemctl status`.
const LONGEST: usize = 1000;

/// Tells systemd how far this process has come, where it asks for that (`NotifyAccess=`).
///
/// A socket that is missing, full or somebody else's neither fails nor delays anything.
#[derive(Debug, Default)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// The one that systemd has named in this process's environment, if it has.
    pub fn from_environment() -> Self {
        let socket = env::var_os(VARIABLE).filter(|socket| !socket.is_empty());
        socket.map_or_else(Self::default, |socket| Self::new(&socket))
    }

    /// The one that listens at `socket`: a path, or a name of Linux's own behind `@`.
    pub fn new(socket: &OsStr) -> Self {
        let to = open(socket);
        Self { to: to.inspect_err(|error| log::debug!("cannot tell systemd how it goes: {error}")).ok() }
    }

    /// Shows `text` in `systemctl status`, in place of what was there.
    pub fn status(&self, text: &str) {
        let Some((own, systemd)) = &self.to else { return };
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
        if let Err(error) = own.send_to_addr(format!("STATUS={line}\n").as_bytes(), systemd) {
            log::debug!("cannot tell systemd how it goes: {error}");
        }
    }
}

fn open(socket: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let own = UnixDatagram::unbound()?;
    // Whoever listens may have stopped to: a full queue would hold this process up.
    own.set_nonblocking(true)?;
    Ok((own, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn heard(listener: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let count = listener.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_status_is_one_line_in_one_datagram() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.as_os_str());
        notifier.status("copied 1 GB\nREADY=1");
        assert_eq!(heard(&listener), "STATUS=copied 1 GB READY=1\n");
        notifier.status(&"ü".repeat(5000));
        assert_eq!(heard(&listener).chars().count(), "STATUS=\n".len() + LONGEST);
        let name = format!("test-notify-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notifier::new(format!("@{name}").as_ref()).status("x");
        assert_eq!(heard(&listener), "STATUS=x\n");
    }

    #[test]
    fn a_socket_that_is_missing_or_full_or_none_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for socket in ["missing", "file", "fifo", "", "@"].map(&at) {
            Notifier::new(socket.as_os_str()).status("x");
        }
        Notifier::new("".as_ref()).status("x");
        Notifier::new("vsock:2:1".as_ref()).status("x");
        Notifier::new("x".repeat(500).as_ref()).status("x");
        // Nobody reads here, as in a systemd that has stopped.
        let _full = UnixDatagram::bind(at("full")).unwrap();
        let notifier = Notifier::new(at("full").as_os_str());
        (0..5000).for_each(|_| notifier.status("x"));
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
