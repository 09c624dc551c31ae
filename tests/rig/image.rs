//! The machine's disks: a Debian 13 root file system and a backup disk, built once and kept.

use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use phobos_core::exec::Invocation;

use crate::host;

/// What is in the machine beside Debian's smallest variant.
const PACKAGES: [&str; 28] = [
    "acl",
    "bsd-mailx",
    "borgbackup",
    "borgmatic",
    "cryptsetup-bin",
    "dbus",
    "dmsetup",
    "e2fsprogs",
    "exim4-daemon-light",
    "fdisk",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "linux-image-amd64",
    "lsof",
    "openssh-server",
    "procps",
    "psmisc",
    "python3-usb",
    "rsync",
    "strace",
    "systemd",
    "systemd-cryptsetup",
    "systemd-sysv",
    "udev",
    "util-linux",
    "util-linux-extra",
    "zstd",
];

/// Packages that a scenario installs in the place of others: each with what it needs besides, in `/opt/debs/NAME`.
const SET_ASIDE: [&str; 8] = [
    "cryptsetup-initramfs",
    "dbus-broker",
    "dma",
    "dropbear-initramfs",
    "msmtp-mta",
    "nullmailer",
    "opensmtpd",
    "postfix",
];

/// The Python original of `phobos-blink`, a package of Python; its wheel is unpacked into `/opt/blinkstick`.
const ORIGINAL: &str = "BlinkStick==1.2.0";

/// Counts up when this module builds something else from the same parts.
const BUILDER: u32 = 2;

/// The passphrase of the repository on the machine's backup disk.
pub const PASSPHRASE: &str = "over the hills";

/// How large the machine's root file system is.
const ROOT_SIZE: &str = "3G";

/// How large its backup disk is.
const BACKUP_SIZE: &str = "256M";

/// The disks and what is needed to boot from them.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    folder: PathBuf,
    key: u64,
}

impl Image {
    /// Finds the image in the cache or builds it; whoever else wants it waits for that.
    pub(crate) fn get(cache: &Path) -> Result<Self> {
        let _lock = host::lock(&cache.join("image.lock"))?;
        let overlay = host::workspace().join("tests/rig/overlay");
        let build = host::workspace().join("tests/rig/build.sh");
        let key = key(&overlay, &build)?;
        let image = Self { folder: cache.join(format!("image-{key:016x}")), key };
        if !image.folder.exists() {
            sweep(cache, "image-")?;
            let unfinished = cache.join("image-unfinished");
            host::remove_folder(&unfinished)?;
            fs::create_dir(&unfinished)?;
            build_in(&unfinished, &overlay, &build).context("cannot build the machine's image")?;
            fs::rename(&unfinished, &image.folder)?;
        }
        Ok(image)
    }

    /// What the image is made of, as a number.
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// The root file system, a raw image.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root.img")
    }

    /// The backup disk, a raw image.
    pub(crate) fn backup(&self) -> PathBuf {
        self.folder.join("backup.img")
    }

    /// The kernel.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The initial RAM disk.
    pub(crate) fn initrd(&self) -> PathBuf {
        self.folder.join("initrd.img")
    }

    /// The key that root's shell takes.
    pub(crate) fn ssh_key(&self) -> PathBuf {
        self.folder.join("ssh-key")
    }
}

/// Removes what an earlier version of the rig left in the cache under `prefix`.
pub(crate) fn sweep(cache: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            host::remove_folder(&entry.path())?;
        }
    }
    Ok(())
}

/// A number that changes when anything does that the image is made of.
fn key(overlay: &Path, build: &Path) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    (BUILDER, PACKAGES, SET_ASIDE, ORIGINAL, PASSPHRASE, ROOT_SIZE, BACKUP_SIZE).hash(&mut hasher);
    fs::read(build)?.hash(&mut hasher);
    for path in files(overlay)? {
        path.strip_prefix(overlay)?.hash(&mut hasher);
        fs::read(&path)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// All files below `folder`, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// Builds all files of an image in `folder`.
fn build_in(folder: &Path, overlay: &Path, build: &Path) -> Result<()> {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let root = folder.join("root");
    let ssh_key = folder.join("ssh-key");
    host::run(
        Invocation::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "rig", "-f"]).arg(&ssh_key),
        minutes(1),
    )?;

    let initramfs = overlay.join("etc/initramfs-tools");
    let call = bootstrap("minbase", &PACKAGES)
        .arg(format!("--essential-hook=copy-in '{}' /etc", initramfs.display()))
        .args(SET_ASIDE.map(|name| format!("--customize-hook={}", set_aside(name))));
    host::run(call.arg("trixie").arg(&root).arg(debian()?), minutes(20))?;

    host::run(
        Invocation::new("cp").args(["--recursive", "--no-target-directory", "--preserve=mode"]).arg(overlay).arg(&root),
        minutes(1),
    )?;
    original(&root)?;
    let shell = root.join("root/.ssh");
    fs::create_dir_all(&shell)?;
    fs::copy(ssh_key.with_extension("pub"), shell.join("authorized_keys"))?;
    fs::copy(build, root.join("build.sh"))?;
    host::run(
        Invocation::new("chroot")
            .arg(&root)
            .args(["/bin/sh", "/build.sh", PASSPHRASE])
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TMPDIR", "/tmp"),
        minutes(5),
    )?;
    fs::remove_file(root.join("build.sh"))?;

    for name in ["vmlinuz", "initrd.img"] {
        fs::copy(fs::canonicalize(root.join(name))?, folder.join(name))?;
    }
    let seed = root.join("seed");
    file_system(&seed, &folder.join("backup.img"), "backup", BACKUP_SIZE)?;
    fs::remove_dir_all(&seed)?;
    file_system(&root, &folder.join("root.img"), "root", ROOT_SIZE)?;
    fs::remove_dir_all(&root)?;
    Ok(())
}

/// The beginning of a call that makes a folder with Debian's `packages`; what is left to add are its release, the folder and the
/// mirror.
pub(crate) fn bootstrap(variant: &str, packages: &[&str]) -> Invocation {
    Invocation::new("mmdebstrap")
        .args(["--quiet", "--mode=root", "--format=directory", "--skip=cleanup/reproducible"])
        .arg(format!("--variant={variant}"))
        .arg("--keyring=/usr/share/keyrings/debian-archive-keyring.gpg")
        .arg("--aptopt=Acquire::Languages \"none\"")
        .args(["doc", "locale", "man", "info"].map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")))
        .arg(format!("--include={}", packages.join(",")))
}

/// A shell line that fetches `package`, and what it depends on, into `/opt/debs` of the root folder `$1`, without installing it.
fn set_aside(package: &str) -> String {
    format!(
        "set -eu; export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG; mkdir -p \"$1/opt/debs/{package}\"; \
         rm -f \"$1\"/var/cache/apt/archives/*.deb; \
         apt-get install --quiet --yes --download-only --no-install-recommends {package}; \
         mv \"$1\"/var/cache/apt/archives/*.deb \"$1/opt/debs/{package}/\""
    )
}

/// Unpacks the Python original into `/opt/blinkstick`.
fn original(root: &Path) -> Result<()> {
    let folder = root.join("opt/blinkstick");
    let call = Invocation::new("pip3").args(["install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:"]);
    let call = call.args(["--root-user-action=ignore", "--disable-pip-version-check", "--target"]).arg(folder);
    host::run(call.arg(ORIGINAL), Duration::from_secs(300)).map(drop)
}

/// Makes an ext4 image of `folder`'s content, without a loop device.
fn file_system(folder: &Path, image: &Path, label: &str, size: &str) -> Result<()> {
    let [program, words @ ..] = ext4(label);
    let call = Invocation::new(program).args(words).arg("-d").arg(folder).arg(image).arg(size);
    host::run(call, Duration::from_secs(300)).map(drop)
}

/// The words that make an ext4 with the label `label`, but for what is in it, where, and how large it is.
pub(crate) fn ext4(label: &str) -> [&str; 9] {
    ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-L", label]
}

/// Where this machine gets Debian's packages from.
pub(crate) fn debian() -> Result<String> {
    let listed = host::run(
        Invocation::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)", "Origin: Debian", "Label: Debian"]),
        Duration::from_secs(60),
    )?;
    let mut message = String::from("no Debian mirror in this machine's apt configuration");
    if listed.is_empty() {
        write!(message, "; run `apt-get update` once")?;
    }
    listed.lines().next().map(str::to_owned).context(message)
}
