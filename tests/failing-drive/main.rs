//! A drive that fails as it is told to, and that remembers all it was told to write: a file for a loop device, through FUSE.
//!
//! ```text
//! a-drive-that-fails IMAGE FOLDER
//! ```
//!
//! mounts on FOLDER, and serves there until it is unmounted or killed:
//!
//! - `drive`: IMAGE, which itself is never changed: what is written stays in memory.
//! - `orders`: takes lines. KIND is `read`, `write`, `flush` or `any`; N counts what comes after the last `count`.
//!   - `count` begins to count, and `record` to record as well; `mark` remembers the drive, `reset` brings it back as it was then.
//!   - `fail KIND N EIO [ever]`: the Nth ends with this error, with `ever` all from the Nth on; ENOSPC and EROFS too.
//!   - `lose KIND N [ever]`: it ends well, and is not done.
//!   - `hold KIND N`: it waits, and all that come after it, until `go`; `step` lets one go on.
//!   - `well` takes all of that back, and goes on.
//! - `told`: one line with what was counted, how often an order was met, and whether the drive is held.
//! - `cut.N`: the drive as a power cut behind the Nth flush of the record leaves it; `cut.N.SEED` has also some of what was
//!   written after that flush and before the next one, in pieces of 4096 bytes, chosen by the seed.
//! - `now.NAME`: the drive as it is when the name is used first.
//!
//! Cuts and what is `now` can be written, each for itself, and removed.

mod folder;
mod image;
mod orders;
mod record;

use std::io;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use fuser::{Config, MountOption};

use crate::folder::Folder;
use crate::image::Image;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("a-drive-that-fails: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [image, folder] = args.as_slice() else { bail!("usage: a-drive-that-fails IMAGE FOLDER") };
    let drive = Image::open(image.as_ref()).with_context(|| format!("cannot read {image}"))?;
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("a-drive-that-fails".to_owned())];
    let served: io::Result<()> = fuser::mount(Folder::new(drive), folder, &config);
    served.with_context(|| format!("cannot serve {folder}"))
}

#[expect(clippy::print_stderr, reason = "who told the story looks there")]
fn say(text: &str) {
    eprintln!("{text}");
}
