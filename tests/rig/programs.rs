//! The programs under test, built once per test run and put on a disk of the machine's as a tar file.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use phobos_core::exec::Invocation;

use crate::host;
use crate::qemu::PROGRAMS_SIZE;

/// What is not a program of the product, and where it goes.
const HELPER: &str = "fake-blinkstick";

/// An example of phobos-core that takes an encrypted drive.
const EXAMPLE: &str = "e2e-example-copy-to-drive";

/// The tar file, once it is made.
static MADE: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Builds the programs, if that was not done yet, and returns the tar file with them, their units and rules.
pub(crate) fn tar() -> Result<PathBuf> {
    let Ok(mut made) = MADE.lock() else { bail!("the programs under test could not be built") };
    if let Some(tar) = &*made {
        return Ok(tar.clone());
    }
    let folder = host::folder()?;
    let _lock = host::lock(&folder.join("programs.lock"))?;
    let tree = folder.join("programs");
    host::remove_folder(&tree)?;
    build_into(&tree).context("cannot build the programs under test")?;

    let unfinished = folder.join("programs.tar.unfinished");
    host::run(
        Invocation::new("tar")
            .args(["--create", "--owner=root", "--group=root", "--file"])
            .arg(&unfinished)
            .arg("--directory")
            .arg(&tree)
            .arg("."),
        Duration::from_secs(60),
    )?;
    if fs::metadata(&unfinished)?.len() > PROGRAMS_SIZE {
        bail!("the programs under test do not fit on their disk of {PROGRAMS_SIZE} bytes");
    }
    OpenOptions::new().write(true).open(&unfinished)?.set_len(PROGRAMS_SIZE)?;
    // A machine that runs keeps the file it has opened.
    let tar = folder.join("programs.tar");
    fs::rename(&unfinished, &tar)?;
    *made = Some(tar.clone());
    Ok(tar)
}

/// Debian packages of the programs under test, one for each of these versions, by name: `VERSION.deb`. The first is made twice and
/// the same, and lintian has nothing to say about it.
///
/// # Errors
///
/// When one cannot be made, or is not as it should be.
pub fn packages(versions: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
    tar()?;
    let folder = host::folder()?;
    let _lock = host::lock(&folder.join("programs.lock"))?;
    let mut packages = Vec::new();
    for version in versions {
        let mut made = Vec::new();
        // One version is enough to see whether two are the same, and what lintian says.
        let attempts: &[&str] = if packages.is_empty() { &["once", "again"] } else { &["once"] };
        for attempt in attempts {
            let output = folder.join("packages").join(attempt);
            host::remove_folder(&output)?;
            let call = xtask("deb").arg("--programs").arg(built()).args(["--compression", "gzip", "--level", "1"]);
            host::run(call.args(["--package-version", version, "--output"]).arg(&output), Duration::from_secs(300))?;
            let package = fs::read_dir(&output)?.next().context("no package was made")??.path();
            made.push(fs::read(&package)?);
            if *attempt == "again" {
                let lint =
                    Invocation::new("lintian").args(["--allow-root", "--fail-on", "error,warning"]).arg(&package);
                let said = host::shell(&lint.limit(Duration::from_secs(300)), "on this machine", "lintian")?;
                ensure!(said.is_empty(), "lintian says of {}: {said}", package.display());
            }
        }
        ensure!(made.first() == made.last(), "two packages of version {version} are not the same");
        packages.extend(made.pop().map(|content| (format!("{version}.deb"), content)));
    }
    Ok(packages)
}

/// The call of one of the project's chores.
fn xtask(chore: &str) -> Invocation {
    let manifest = host::workspace().join("Cargo.toml");
    cargo().args(["run", "--quiet", "--package", "xtask", "--manifest-path"]).arg(manifest).args(["--", chore])
}

/// The call of cargo. What tells a test program to time its tests would have it build everything anew.
fn cargo() -> Invocation {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    Invocation::new("env").args(["--unset=RUSTC_BOOTSTRAP", "--"]).arg(cargo)
}

/// Where cargo has built them.
fn built() -> PathBuf {
    host::target().join("debug")
}

/// Builds the programs and lays them out below `tree` as they are installed.
///
/// They are what the other tests have built, of the whole workspace so that cargo takes it as it is: a profile of their own cost
/// two minutes of both processors, and left out that arithmetic is checked.
fn build_into(tree: &Path) -> Result<()> {
    let manifest = host::workspace().join("Cargo.toml");
    let call = cargo().args(["build", "--quiet", "--workspace", "--bins", "--manifest-path"]).arg(manifest);
    host::run(call, Duration::from_secs(1200))?;

    let built = built();
    host::run(xtask("install").arg("--programs").arg(&built).arg("--destdir").arg(tree), Duration::from_secs(1200))?;
    let helpers = tree.join("usr/local/lib/rig");
    let units = tree.join("etc/systemd/system");
    for folder in [&helpers, &units] {
        fs::create_dir_all(folder)?;
    }
    for name in [HELPER, EXAMPLE] {
        fs::copy(built.join(name), helpers.join(name))?;
    }
    // Their symbols are three quarters of them, and every machine unpacks them.
    let mut programs = vec![helpers.join(HELPER), helpers.join(EXAMPLE)];
    for entry in fs::read_dir(tree.join("usr/local/bin"))? {
        let path = entry?.path();
        // One of them is a script.
        if fs::read(&path)?.starts_with(b"\x7fELF") {
            programs.push(path);
        }
    }
    host::run(Invocation::new("strip").args(programs), Duration::from_secs(60))?;
    let service = format!("{HELPER}.service");
    fs::copy(host::workspace().join("tests/fake-blinkstick").join(&service), units.join(&service))?;
    Ok(())
}
