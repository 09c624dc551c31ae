//! Stories on the rig's Debian, booted in a container: what needs systemd, its journal or the mail, but neither USB nor dm-crypt
//! nor a clock that can be set. `tests/README.md` tells how to write and run one.

mod faults;
mod jobs;
mod mail;
mod package;
mod pulls;
mod refusals;
mod servers;
mod surroundings;
mod units;
mod unlock;
mod waiting;
