//! Where phobos keeps what it writes: systemd's folders where it names them, the usual ones elsewhere.

use std::path::PathBuf;

/// The table that says what is mounted where, and how.
pub const FSTAB: &str = "/etc/fstab";

/// The folder of locks and of the light's jobs, gone after a reboot.
pub fn runtime() -> PathBuf {
    first_of("RUNTIME_DIRECTORY").unwrap_or_else(|| "/run/phobos".into())
}

/// The folder of what must outlive a reboot.
pub fn state() -> PathBuf {
    first_of("STATE_DIRECTORY").unwrap_or_else(|| "/var/lib/phobos".into())
}

/// The first absolute folder in a variable that systemd sets (systemd.exec(5): a list separated by colons).
fn first_of(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable)?;
    std::env::split_paths(&value).find(|path| path.is_absolute())
}
