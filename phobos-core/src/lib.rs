//! Typed wrappers for the tools and kernel objects that a backup server lives on: rsync, Borg and its lock,
//! cryptsetup, mounts and mount namespaces, systemd, locks.
//!
//! The library wraps and guards; it prints nothing and decides nothing. Programs are started by [`exec`] alone.
//! A guard (`Mapping`, `Mount`, `Lock`, `RepositoryLock`) has a `close` that reports, and a `Drop` that closes and logs.

pub mod borg;
pub mod confine;
pub mod error;
pub mod exec;
pub mod folders;
pub mod fs;
pub mod lock;
pub mod luks;
pub mod mount;
pub mod namespace;
pub mod process;
pub mod rsync;
pub mod signal;
pub mod ssh;
pub mod systemd;
pub mod teardown;
