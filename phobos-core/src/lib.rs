//! Typed wrappers for the tools and kernel objects that a backup server lives on.
//!
//! | what | modules |
//! |---|---|
//! | programs: a call as data, one trait that runs it, and a fake of it | [`exec`], [`signal`] |
//! | what has to be closed again, and both errors where work and clean-up fail | [`teardown`], [`error`] |
//! | drives: what is plugged in, LUKS mappings, file systems and their mounts, private mount namespaces | [`block`], [`luks`], [`fsck`], [`mount`], [`namespace`] |
//! | copies: rsync, trees that are surveyed, planned, proved and put in place as one, and what both tell | [`rsync`], [`copy`], [`progress`] |
//! | Borg's repositories: what they are, whether they are whole, their lock as a guard | [`borg`] |
//! | jobs that keep out of each other's way | [`lock`], [`process`] |
//! | strangers: files that others may have prepared, programs that handle what others send | [`fs`], [`sandbox`], [`ssh`] |
//! | systemd: its units and names, and what it shows of this process | [`systemd`], [`notify`] |
//!
//! The library wraps and guards; it prints nothing, decides nothing and knows no particular machine. It logs through `log`.
//! Programs are started by [`exec`] alone, on the calling thread, because a process with a second thread cannot enter a mount
//! namespace. A guard ([`luks::Mapping`], [`mount::Mount`], [`lock::Lock`]) has a `close` that reports, and a `Drop` that
//! closes and logs.
//!
//! ```
//! use phobos_core::{Chain, Exec, Invocation, exec::fake::Script, teardown};
//!
//! // A test answers calls from a script; a program uses `phobos_core::System`.
//! let exec = Script::new().says("/dev/sda1\n").fails(32, "target is busy");
//!
//! let found = exec.run(&Invocation::new("findmnt").args(["-no", "SOURCE", "/srv"]));
//! let work = found.map(|found| found.text());
//! // Clean-up is shielded from the signal that may have ended the work.
//! let clean_up = exec.run(&Invocation::new("umount").arg("/srv").shielded()).map(drop);
//!
//! let error = teardown::join(work, clean_up).unwrap_err();
//! assert_eq!(Chain(&error).to_string(), "`umount /srv` failed with exit code 32: target is busy");
//! ```

pub mod block;
pub mod borg;
pub mod copy;
pub mod error;
pub mod exec;
pub mod flock;
pub mod fs;
pub mod fsck;
pub mod human;
pub mod lock;
pub mod luks;
pub mod mount;
pub mod namespace;
pub mod notify;
pub mod process;
pub mod progress;
pub mod rsync;
pub mod sandbox;
pub mod schema;
pub mod signal;
pub mod ssh;
pub mod systemd;
pub mod teardown;
pub mod terminal;

pub use error::{Chain, Class, Classified};
pub use exec::{Exec, ExecError, Invocation, System};
pub use signal::Signals;
pub use teardown::Close;
