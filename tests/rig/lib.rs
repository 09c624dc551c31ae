//! The rig: a real Debian machine in QEMU, with USB drives to plug and a light to read.
