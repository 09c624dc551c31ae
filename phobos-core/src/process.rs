//! A process, identified by its number and its start time: numbers are used again.

use std::fs;
use std::io;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// A process of this boot: its number, and when it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its start in clock ticks after the machine's, as in `/proc/PID/stat`.
    pub start: u64,
}

impl Process {
    /// This process.
    ///
    /// # Errors
    ///
    /// When `/proc` does not tell.
    pub fn own() -> io::Result<Self> {
        Self::with_pid(std::process::id())
    }

    /// The living process with the number `pid`.
    ///
    /// # Errors
    ///
    /// When there is none, or `/proc` does not tell.
    pub fn with_pid(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        start_of_living(&text)
            .map(|start| Self { pid, start })
            .ok_or_else(|| io::Error::other(format!("process {pid} has ended")))
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        match fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            Ok(stat) => start_of_living(&stat) == Some(self.start),
            // With hidepid= the folder of another user's process is not there, yet the process is.
            Err(_) => i32::try_from(self.pid)
                .ok()
                .and_then(Pid::from_raw)
                .is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::PERM)),
        }
    }
}

/// The start time in a `/proc/PID/stat`, unless the process is a zombie or gone.
fn start_of_living(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // starttime is field 22 in proc(5); the state is field 3.
    fields.nth(18)?.parse().ok()
}

/// The id of this boot.
///
/// # Errors
///
/// When `/proc` does not tell.
pub fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_its_number_alone_is_not_enough() {
        let own = Process::own().unwrap();
        assert!(own.is_alive());
        assert!(!Process { start: own.start + 1, ..own }.is_alive());
        assert!(!Process { pid: 0x3fff_ffff, start: 1 }.is_alive());
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(start_of_living(&format!("12 (a) b (c)) {rest}")), Some(4711));
        assert_eq!(start_of_living("12 (dead) Z 1 2 3"), None);
        assert_eq!(start_of_living("12"), None);
    }
}
