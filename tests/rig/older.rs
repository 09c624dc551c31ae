//! The rsyncs that hosts have which are not of this year: Debian's own, each unpacked with its libraries and its rrsync, and run by its
//! own loader.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host;
use crate::image;

/// Counts up when something else is to be unpacked.
const EDITION: u32 = 1;

/// Debian's releases with their rsync, and where its packages for the story are: 3.2.3 with rrsync in Perl, and 3.2.7.
const RELEASES: [&str; 2] = ["bullseye", "bookworm"];

/// The folder with a folder for each release, in which there is a program `rsync` to run; it is made if it is not there yet.
///
/// # Errors
///
/// When the packages cannot be had.
pub fn older_rsyncs() -> Result<PathBuf> {
    let cache = host::folder()?;
    let _lock = host::lock(&cache.join("older.lock"))?;
    let folder = cache.join(format!("older-{EDITION}"));
    if !folder.exists() {
        image::sweep(&cache, "older-")?;
        let unfinished = cache.join("older-unfinished");
        fs::create_dir(&unfinished)?;
        RELEASES.iter().try_for_each(|release| unpack(&unfinished, &folder, release))?;
        fs::rename(&unfinished, &folder)?;
    }
    Ok(folder)
}

/// Unpacks the rsync of a release into a folder in `unfinished`, which will be one in `folder`.
fn unpack(unfinished: &Path, folder: &Path, release: &str) -> Result<()> {
    let place = unfinished.join(release);
    let call = image::bootstrap("extract", &["rsync"]).arg(release).arg(&place).arg(image::debian()?);
    host::run(call, Duration::from_secs(300)).with_context(|| format!("cannot unpack the rsync of {release}"))?;
    let (libraries, there) = ("lib/x86_64-linux-gnu", folder.join(release).display().to_string());
    // It is mounted in the place of the machine's own.
    let run = format!(
        "#!/bin/sh\nexec '{there}/{libraries}/ld-linux-x86-64.so.2' --library-path '{there}/usr/{libraries}:{there}/{libraries}' \
         '{there}/usr/bin/rsync' \"$@\"\n"
    );
    fs::write(place.join("rsync"), run)?;
    Ok(fs::set_permissions(place.join("rsync"), fs::Permissions::from_mode(0o755))?)
}
