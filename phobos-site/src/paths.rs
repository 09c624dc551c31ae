//! Where phobos keeps what it writes: systemd's folders where it names them, the usual ones elsewhere.

use std::path::PathBuf;

/// The table that says what is mounted where, and how.
pub const FSTAB: &str = "/etc/fstab";

/// The folders that a program writes to; made once, in its `main`, from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The folder of what ends with the machine: locks, lent keys.
    pub runtime: PathBuf,
    /// The folder of what must outlive a reboot: the history, the ledger of the drives.
    pub state: PathBuf,
}

impl Paths {
    /// systemd's folders for this unit (systemd.exec(5), `RuntimeDirectory=`), or `/run/phobos` and `/var/lib/phobos`.
    pub fn from_environment() -> Self {
        Self {
            runtime: first_of("RUNTIME_DIRECTORY").unwrap_or_else(|| "/run/phobos".into()),
            state: first_of("STATE_DIRECTORY").unwrap_or_else(|| "/var/lib/phobos".into()),
        }
    }

    /// The folder of the locks.
    pub fn locks(&self) -> PathBuf {
        self.runtime.join("lock")
    }

    /// The file of the history.
    pub fn history(&self) -> PathBuf {
        self.state.join("history.jsonl")
    }

    /// The file of the ledger of the drives.
    pub fn ledger(&self) -> PathBuf {
        self.state.join("drives.json")
    }
}

/// The first absolute folder in a variable that systemd sets (systemd.exec(5): a list separated by colons).
fn first_of(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable)?;
    std::env::split_paths(&value).find(|path| path.is_absolute())
}
