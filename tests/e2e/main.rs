//! The end-to-end scenarios: phobos on a real Debian machine. `tests/README.md` tells how to write and run one.

mod blinkstick;
mod faults;
mod light;
mod mirror;
mod owner;
mod prepare;
mod rig;
mod unlock;
