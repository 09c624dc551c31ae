//! A root shell in the machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use phobos_core::exec::{Exec, Invocation, System};
use tempfile::TempDir;

use crate::host;

/// How long a call may take that waits for nothing.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// A root shell in the machine, over one connection that all calls share.
#[derive(Debug)]
pub(crate) struct Guest {
    port: u16,
    key: PathBuf,
    control: TempDir,
}

impl Guest {
    /// Connects to the machine's sshd, waiting until it listens. A connection that comes before that may hang in QEMU, so it is
    /// soon given up for another.
    pub(crate) fn connect(port: u16, key: &Path, limit: Duration) -> Result<Self> {
        let control = tempfile::Builder::new().prefix("phobos-rig-").tempdir()?;
        let guest = Self { port, key: key.to_owned(), control };
        let began = Instant::now();
        loop {
            let master = guest.ssh().args(["-M", "-N", "-f", "-o", "ControlPersist=yes", "root@127.0.0.1"]);
            match System::default().run(&master.limit(Duration::from_secs(60))) {
                Ok(_) => return Ok(guest),
                Err(error) if began.elapsed() > limit => {
                    return Err(error).context("cannot get a shell in the machine");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(500)),
            }
        }
    }

    /// Runs `script` in the machine as root and returns what it wrote to its standard output.
    pub(crate) fn sh(&self, script: &str) -> Result<String> {
        self.run(script, Vec::new(), CALL_LIMIT)
    }

    /// Runs `script` with `stdin` for at most `limit`.
    pub(crate) fn run(&self, script: &str, stdin: Vec<u8>, limit: Duration) -> Result<String> {
        let call = self.ssh().args(["root@127.0.0.1", script]).stdin(stdin).limit(limit);
        host::shell(&call, "in the machine", script)
    }

    /// Runs `script` for at most `limit` and writes what it writes to its standard output to `file` on the development machine.
    pub(crate) fn save(&self, script: &str, file: &Path, limit: Duration) -> Result<()> {
        // The shell gets `--` before the call.
        let wrapper = ["sh", "-c", r#"shift; exec "$@" >"$0""#].map(OsStr::new).into_iter().chain([file.as_os_str()]);
        let ssh = self.ssh().args(["root@127.0.0.1", script]).through(wrapper);
        host::shell(&ssh.limit(limit), "in the machine", script).map(drop)
    }

    /// The command that a person would run for a shell.
    pub(crate) fn command(&self) -> String {
        format!("{} root@127.0.0.1", self.ssh())
    }

    fn ssh(&self) -> Invocation {
        Invocation::new("ssh")
            .args(["-q", "-F", "none", "-i"])
            .arg(&self.key)
            .args(["-p", &self.port.to_string()])
            .args(
                [
                    "StrictHostKeyChecking=no",
                    "UserKnownHostsFile=/dev/null",
                    "BatchMode=yes",
                    "ConnectTimeout=5",
                    "ServerAliveInterval=20",
                    "Ciphers=aes128-gcm@openssh.com",
                ]
                .iter()
                .flat_map(|option| ["-o", option]),
            )
            .arg("-o")
            .arg(format!("ControlPath={}", self.control.path().join("ssh").display()))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The machine may be gone already, and the connection with it.
        let end = self.ssh().args(["-O", "exit", "root@127.0.0.1"]).limit(Duration::from_secs(10));
        if let Err(error) = System::default().run(&end) {
            crate::say(&format!("the connection to the machine had ended: {error}"));
        }
    }
}
