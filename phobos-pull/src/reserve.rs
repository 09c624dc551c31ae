//! The room that no pull takes: a floor of free space and free inodes, so that one host cannot fill the disk for all.
//!
//! It is looked at before a pull begins and about once a second while rsync runs. A pull that brings much ends well above the
//! floor: what is left between is for the other hosts, whose small pulls go on. So a host that sends without end costs itself
//! its pull, and nobody else.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use phobos_core::human;
use phobos_site::config::Reserve;
use phobos_site::pull::HostName;
use rustix::fs::fstatvfs;

use crate::walk;

/// A pull that has brought more than this part of the reserve brings much.
const MUCH: u64 = 16;

/// What a file system has of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stock {
    /// How much of it is free for those who are not root.
    pub(crate) free: u64,
    /// How much there is; 0 where the file system does not count it.
    pub(crate) total: u64,
}

/// Why a pull may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// How much is free.
    free: u64,
    /// How much is kept.
    reserve: u64,
    /// How much must be free for a pull that has brought what this one has.
    needed: u64,
}

/// The reserve as one pull has to keep it.
#[derive(Debug)]
pub(crate) struct Keeper<'a> {
    host: &'a HostName,
    holding: &'a Path,
    reserve: Reserve,
    /// A descriptor of the file system, which stays this one whatever is mounted meanwhile.
    file_system: OwnedFd,
    /// What the rsync that runs has brought, and those before it.
    bytes: Cell<u64>,
    earlier_bytes: Cell<u64>,
    files: Cell<u64>,
    was_hit: Cell<bool>,
}

/// Why a pull that has brought so much of something may not go on, if it may not; `reserve` is what is kept of it.
pub(crate) fn shortage(stock: Stock, reserve: u64, brought: u64) -> Option<Shortage> {
    let much = brought > reserve / MUCH;
    let needed = if much { reserve.saturating_add(reserve / 2) } else { reserve };
    (stock.total > 0 && stock.free < needed).then_some(Shortage { free: stock.free, reserve, needed })
}

/// How many of `files` inodes are kept: the same share as of the bytes.
fn of_files(reserve: Reserve, bytes: u64, files: u64) -> u64 {
    let kept = u128::from(reserve.of(bytes)).saturating_mul(u128::from(files)).checked_div(u128::from(bytes));
    kept.and_then(|kept| u64::try_from(kept).ok()).unwrap_or_default()
}

impl Shortage {
    /// What is short, in words; `show` writes how much of it.
    fn words(self, show: impl Fn(u64) -> String) -> String {
        let Self { free, reserve, needed } = self;
        let free = show(free);
        if needed == reserve {
            format!("{free} free, less than the reserve of {}", show(reserve))
        } else {
            format!(
                "{free} free, and a pull that brings much leaves {}: the reserve of {} and room for the other hosts",
                show(needed),
                show(reserve)
            )
        }
    }
}

impl<'a> Keeper<'a> {
    /// Watches over the file system of the holding spaces while `host` is pulled.
    ///
    /// # Errors
    ///
    /// If the folder of the spaces cannot be opened.
    pub(crate) fn new(holding: &'a Path, host: &'a HostName, reserve: Reserve) -> io::Result<Self> {
        Ok(Self {
            host,
            holding,
            reserve,
            file_system: walk::open(holding)?,
            bytes: Cell::default(),
            earlier_bytes: Cell::default(),
            files: Cell::default(),
            was_hit: Cell::default(),
        })
    }

    /// Takes how many bytes the rsync that runs has brought so far.
    pub(crate) fn brings(&self, bytes: u64) {
        let before = self.bytes.replace(bytes);
        if bytes < before {
            // Another rsync has begun.
            self.earlier_bytes.set(self.earlier_bytes.get().saturating_add(before));
        }
    }

    /// Takes that a file or folder was made.
    pub(crate) fn makes_file(&self) {
        self.files.set(self.files.get().saturating_add(1));
    }

    /// Whether the pull was ended for want of room.
    pub(crate) fn was_hit(&self) -> bool {
        self.was_hit.get()
    }

    /// Whether the pull may begin or go on.
    ///
    /// # Errors
    ///
    /// Why it may not, on one line: whose pull, what is left, the reserve, and what to do.
    pub(crate) fn check(&self) -> Result<(), String> {
        let place = self.holding.display();
        // A disk that does not answer is rsync's to stumble over, in words of its own.
        let Ok(all) = fstatvfs(&self.file_system) else { return Ok(()) };
        let bytes =
            Stock { free: all.f_bavail.saturating_mul(all.f_frsize), total: all.f_blocks.saturating_mul(all.f_frsize) };
        let inodes = Stock { free: all.f_favail, total: all.f_files };
        let brought = self.earlier_bytes.get().saturating_add(self.bytes.get());
        let of_bytes = shortage(bytes, self.reserve.of(bytes.total), brought).map(|short| short.words(human::size));
        let kept = of_files(self.reserve, bytes.total, inodes.total);
        let of_inodes = || {
            let short = shortage(inodes, kept, self.files.get())?;
            Some(short.words(|count| format!("{count} inodes")))
        };
        let Some(what) = of_bytes.or_else(of_inodes) else { return Ok(()) };
        self.was_hit.set(true);
        Err(format!(
            "no room for {} in {place}: {what}; make room there, leave something out with `exclude`, or set another `reserve` \
             in [backup]",
            self.host
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keeper<'a>(folder: &'a Path, host: &'a HostName, reserve: &str) -> Keeper<'a> {
        Keeper::new(folder, host, reserve.to_owned().try_into().unwrap()).unwrap()
    }

    #[test]
    fn a_refusal_names_the_host_the_room_the_reserve_and_what_to_do() {
        let (folder, host) = (tempfile::tempdir().unwrap(), "luv".parse().unwrap());
        assert_eq!(keeper(folder.path(), &host, "0%").check(), Ok(()));
        let all = keeper(folder.path(), &host, "9999T");
        assert!(!all.was_hit());
        let said = all.check().unwrap_err();
        assert!(all.was_hit());
        assert!(said.starts_with(&format!("no room for luv in {}: ", folder.path().display())), "{said}");
        assert!(
            said.contains(" free, less than the reserve of ") && said.ends_with("another `reserve` in [backup]"),
            "{said}"
        );
    }

    #[test]
    fn what_several_rsyncs_bring_is_added_up() {
        let (folder, host) = (tempfile::tempdir().unwrap(), "luv".parse().unwrap());
        let keeper = keeper(folder.path(), &host, "0%");
        for bytes in [5, 9, 9, 2, 4] {
            keeper.brings(bytes);
        }
        assert_eq!(keeper.earlier_bytes.get() + keeper.bytes.get(), 13);
    }

    #[test]
    fn of_inodes_the_same_share_is_kept() {
        let reserve = Reserve::try_from("10%".to_owned()).unwrap();
        assert_eq!(of_files(reserve, 1000, 70), 7);
        let size = Reserve::try_from("1KiB".to_owned()).unwrap();
        assert_eq!(of_files(size, 4096, u64::MAX), u64::MAX / 4);
        assert_eq!(of_files(size, 0, 5), 0);
    }

    proptest! {
        #[test]
        fn nobody_gets_below_the_reserve(free: u64, total: u64, reserve: u64, brought: u64) {
            let stock = Stock { free, total };
            if shortage(stock, reserve, brought).is_none() {
                prop_assert!(total == 0 || free >= reserve);
            }
        }

        /// Who was let through is let through with more room, a smaller reserve, or less brought.
        #[test]
        fn more_room_or_less_brought_never_ends_a_pull(
            (free, less) in (any::<u64>(), any::<u64>()),
            (reserve, smaller) in (any::<u64>(), any::<u64>()),
            (brought, fewer) in (any::<u64>(), any::<u64>()),
        ) {
            let may = |free, reserve, brought| {
                let stock = Stock { free, total: u64::MAX };
                shortage(stock, reserve, brought).is_none()
            };
            if may(free.min(less), reserve, brought) {
                prop_assert!(may(free, reserve, brought));
            }
            if may(free, reserve, brought) {
                prop_assert!(may(free, reserve, brought.min(fewer)));
                prop_assert!(may(free, reserve.min(smaller), brought.min(reserve.min(smaller) / MUCH)));
            }
        }

        /// What a host that brings much leaves is enough for a good many others that bring little.
        #[test]
        fn who_brings_much_leaves_room_for_others(reserve in 2..u64::MAX / 2, more in 1..u64::MAX / 2, others in 0..MUCH / 2) {
            let left = Stock { free: reserve + reserve / 2, total: u64::MAX };
            let brought = reserve / MUCH + more;
            prop_assert!(shortage(left, reserve, brought).is_none());
            let below = Stock { free: left.free - 1, ..left };
            prop_assert!(shortage(below, reserve, brought).is_some());
            let after = Stock { free: left.free - others * (reserve / MUCH), ..left };
            prop_assert!(shortage(after, reserve, reserve / MUCH).is_none());
        }
    }
}
