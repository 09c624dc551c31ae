//! The rig: a real Debian machine in QEMU, with USB drives to plug, a power cord to pull and a light to read.
//!
//! A scenario is a test that tells a story on one [`Nas`]; `tests/e2e/` holds them, and `tests/README.md` tells how to
//! write and run one:
//!
//! ```ignore
//! #[test]
//! fn plug_to_green() -> Story {
//!     story(|nas| {
//!         let a = nas.drive("A");
//!         nas.plug(&a)?;
//!         nas.wait_for_light(Light::Yellow, seconds(60))?;
//!         nas.wait_for_light(Light::Green, seconds(180))?;
//!         ensure!(nas.light_at_rest()?);
//!         nas.check_copy(&a)
//!     })
//! }
//! ```
//!
//! What is underneath, from the bottom up:
//!
//! * `image`: root file system and backup disk, built by mmdebstrap and `mkfs.ext4 -d` from the package list, the files
//!   in `overlay/` and `build.sh` (which runs in the new root and makes the Borg repository). Kept in
//!   `target/rig-machine/image-KEY`, built again when any of that changes.
//! * `emulator`: QEMU itself, Debian 13's, unpacked into `target/rig-machine/emulator-N`; with KVM if a short boot shows that it
//!   works, or else with one thread.
//! * `qemu`, `qmp`: one QEMU process.
//! * `machine`: boots once, runs `prepare.sh` for each drive (LUKS, key file, file system), saves memory and disk in
//!   `target/rig-machine/booted-KEY`. Every scenario goes on from there with disks of its own, in two seconds. At most two machines
//!   run at a time on a host, whoever runs them.
//! * `programs`: phobos as built from the work tree for every other test, without its symbols, unpacked into the machine when it
//!   starts. It is not in the image: a change of the code costs a build, not a boot.
//! * `container`: the same Debian booted in a container, without what needs a kernel of its own; `tests/booted/` has its stories.
//! * `light`: the fake BlinkStick (`tests/fake-blinkstick/`) is a USB device in the machine. It writes down every report it
//!   gets, and how mappings, mounts and holders stood while the sender waited for its answer, to a port that ends in a
//!   file on the host.
//! * `older`: rsyncs of earlier years, for pulls.
//! * `waiting`: the same machine, before it boots.
//! * `main`: the same machine to play with, `cargo run -p phobos-tests --bin rig`.
//! * `nas`: the words in which scenarios are written.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;

mod container;
mod emulator;
mod guest;
mod host;
mod image;
mod light;
mod machine;
mod nas;
mod older;
mod programs;
mod qemu;
mod qmp;
mod waiting;

pub use container::Container;
pub use image::PASSPHRASE;
pub use light::{Light, Report, Witness};
pub use machine::{Machine, Writes, make_ready};
pub use nas::{Drive, Failure, Mail, Nas, STATUS_EMAIL_USER, Stage, Story, Unit, booted, minutes, seconds, story};
pub use older::older_rsyncs;
pub use programs::packages;
pub use waiting::Waiting;

/// Whether what is worth hours is to be tried too: `cargo xtask test --long`.
pub fn is_long() -> bool {
    std::env::var_os("PHOBOS_LONG").is_some_and(|long| !long.is_empty())
}

/// The seed that is given, or any; it is told, so that a run can be repeated.
pub fn seed() -> u64 {
    let given = std::env::var("PHOBOS_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
    tell(&format!("PHOBOS_SEED={seed}"));
    seed
}

/// Tells something past the test runner, which would show it for a failure only.
pub fn tell(text: &str) {
    // A closed standard error has no reader.
    drop(writeln!(std::io::stderr(), "{}", text.trim_end()));
}

/// Tells the person who runs the tests something.
#[expect(clippy::print_stderr, reason = "a test's standard error is where its reader looks")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
