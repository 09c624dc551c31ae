//! This NAS, as all of its programs see it: the configuration, the places of files, the names of locks, exit codes, the
//! light's board, the history, the drives and their turns, log lines.
//!
//! It lies between the programs and `phobos-core`, whose tools know nothing of this machine.

pub mod archives;
pub mod config;
pub mod drives;
pub mod exit;
pub mod history;
pub mod hook;
pub mod job;
pub mod led;
pub mod ledger;
pub mod lock;
pub mod logging;
pub mod mail;
pub mod namespace;
pub mod note;
pub mod paths;
pub mod pull;
pub mod rotation;
pub mod sister;
pub mod spare;
pub mod trust;
pub mod usage;
pub mod values;
