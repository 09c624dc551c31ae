//! Whether a program makes progress: it writes output, or it or its children use processor time.

use std::fs;
use std::time::{Duration, Instant};

/// How often the processor time is looked at.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a program has done lately.
#[derive(Debug)]
pub(super) struct Activity {
    pid: u32,
    last: Instant,
    looked: Instant,
    ticks: u64,
}

impl Activity {
    /// The activity of the process `pid`, which was just started.
    pub(super) fn of(pid: u32) -> Self {
        let now = Instant::now();
        Self { pid, last: now, looked: now, ticks: 0 }
    }

    /// The program has written output.
    pub(super) fn note(&mut self) {
        self.last = Instant::now();
    }

    /// Whether it has done nothing for `stall`.
    pub(super) fn has_stalled(&mut self, stall: Duration) -> bool {
        if self.looked.elapsed() >= LONGEST_PAUSE.min(stall / 4) {
            self.looked = Instant::now();
            let ticks = ticks_of(self.pid);
            if ticks != self.ticks {
                self.ticks = ticks;
                self.note();
            }
        }
        self.last.elapsed() >= stall
    }
}

/// The processor time in clock ticks of the process `pid`, its children, and its process group if it leads one.
fn ticks_of(pid: u32) -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let stats = numbers.filter_map(|number| fs::read_to_string(format!("/proc/{number}/stat")).ok());
    stats.filter_map(|stat| ticks(&stat, pid)).fold(0, u64::saturating_add)
}

/// The processor time in a `/proc/PID/stat`, if that process is `pid`, its child, or in its process group (proc(5)).
fn ticks(stat: &str, pid: u32) -> Option<u64> {
    // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    let (head, rest) = stat.rsplit_once(") ")?;
    let own: u32 = head.split(' ').next()?.parse().ok()?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let is_meant = own == pid || number(1) == Some(pid.into()) || number(2) == Some(pid.into());
    is_meant.then(|| number(11).unwrap_or(0).saturating_add(number(12).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_counts_for_the_process_its_group_and_its_children() {
        let stat = |pid: u32, parent: u32, group: u32| {
            format!("{pid} (a) b (c)) S {parent} {group} 1 0 -1 0 1 2 3 4 70 7 0 0 20 0 1 0 99")
        };
        for (stat, want) in [
            (stat(5, 1, 1), Some(77)),
            (stat(6, 5, 1), Some(77)),
            (stat(6, 1, 5), Some(77)),
            (stat(6, 1, 1), None),
            (String::new(), None),
            ("5 (x) S".to_owned(), None),
        ] {
            assert_eq!(ticks(&stat, 5), want.or_else(|| stat.starts_with("5 (x)").then_some(0)), "{stat}");
        }
        assert!(ticks_of(std::process::id()) < u64::MAX);
    }
}
