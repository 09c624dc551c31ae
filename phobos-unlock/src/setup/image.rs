//! The initramfs: built beside the one that boots today, unpacked and looked at, and only then put in its place.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use phobos_core::exec::{Exec, Invocation};
use phobos_core::fs::{Dir, make_private};

use super::files::{DROPBEAR, Wanted};

/// How long an initramfs may take to be made or unpacked, on a small machine.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// The largest file of it that is read, in bytes.
const READ: u64 = 1024 * 1024;

/// What is run after a new initramfs was made, as update-initramfs(8) does: boot loaders that keep a copy.
const AFTER: &str = "/etc/initramfs/post-update.d";

/// Where an initramfs is unpacked: there is room, and only root gets there.
const SCRATCH: &str = "/var/lib/phobos/unlock";

/// What a new initramfs is called until it is proved.
const UNPROVED: &str = ".phobos-unproved";

/// The disks that an initramfs asks a passphrase for.
const CRYPTTAB: &str = "cryptroot/crypttab";

/// The kernels that have an initramfs, the newest last.
pub(crate) fn kernels(boot: &Path) -> Result<Vec<String>, anyhow::Error> {
    let entries = fs::read_dir(boot).with_context(|| format!("cannot read {}", boot.display()))?;
    let mut kernels = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("cannot read {}", boot.display()))?.file_name();
        let version = name.to_str().and_then(|name| name.strip_prefix("initrd.img-"));
        let is_own = |version: &&str| boot.join(format!("vmlinuz-{version}")).exists();
        kernels.extend(version.filter(is_own).map(str::to_owned));
    }
    kernels.sort();
    Ok(kernels)
}

/// Makes the initramfs of a kernel anew and puts it in place, if it proves to be what is `wanted`, or whatever it is without. Returns
/// the disks that the new one gives up, see [`given_up`].
///
/// # Errors
///
/// When it cannot be made, or lacks something; the one that is there stays.
pub(crate) fn renew(
    exec: &dyn Exec,
    boot: &Path,
    kernel: &str,
    wanted: Option<&Wanted>,
) -> Result<BTreeSet<String>, anyhow::Error> {
    let name = format!("initrd.img-{kernel}");
    let (path, unproved) = (boot.join(&name), boot.join(format!("{name}{UNPROVED}")));
    forget(&unproved)?;
    let made = make(exec, kernel, &unproved).and_then(|()| match wanted {
        Some(wanted) => rehearse(exec, &unproved, kernel, wanted).map(|crypttab| given_up(&crypttab)),
        None => Ok(BTreeSet::new()),
    });
    let given_up = match made {
        Ok(given_up) => given_up,
        Err(error) => {
            forget(&unproved)?;
            return Err(error.context(format!("{} stays as it is", path.display())));
        }
    };
    let folder = Dir::open(boot)?;
    folder.open_file(Path::new(&format!("{name}{UNPROVED}")))?.sync_all().context("cannot write the new initramfs")?;
    folder.rename(Path::new(&format!("{name}{UNPROVED}")), &folder, Path::new(&name))?;
    folder.sync()?;
    if Path::new(AFTER).is_dir() {
        let args = [format!("--arg={kernel}"), format!("--arg={}", path.display()), AFTER.to_owned()];
        exec.run(&Invocation::new("run-parts").args(args).limit(LIMIT)).context("the boot loader was not told")?;
    }
    Ok(given_up)
}

fn make(exec: &dyn Exec, kernel: &str, path: &Path) -> Result<(), anyhow::Error> {
    let call = Invocation::new("mkinitramfs").arg("-o").arg(path).arg(kernel).bound().limit(LIMIT);
    exec.run(&call).map(drop).context("the initramfs cannot be made")
}

fn forget(path: &Path) -> Result<(), anyhow::Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Unpacks an initramfs and proves that it has all that remote unlock takes. Returns the text of its crypttab.
///
/// # Errors
///
/// When it cannot be unpacked, or lacks something: what.
pub(crate) fn rehearse(exec: &dyn Exec, path: &Path, kernel: &str, wanted: &Wanted) -> Result<String, anyhow::Error> {
    // Host keys are in it.
    let folder = Scratch::new(path)?;
    let call = Invocation::new("unmkinitramfs").arg(path).arg(&folder.0).bound().limit(LIMIT);
    exec.run(&call).context("the initramfs cannot be unpacked")?;
    // One with microcode in front of it has folders for both.
    let main = folder.0.join("main");
    let tree = if main.is_dir() { main } else { folder.0.clone() };
    let lacks = lacking(&tree, kernel, wanted)?;
    match lacks.first() {
        // Lacking nothing, it has a crypttab.
        None => Ok(text(&Dir::open(&tree)?, CRYPTTAB).unwrap_or_default()),
        Some(_) => Err(anyhow!("the new initramfs could not be unlocked from afar: {}", lacks.join("; "))),
    }
}

/// What a file of an unpacked initramfs says; one that cannot be read says nothing, and is told as lacking.
fn text(root: &Dir, path: &str) -> Option<String> {
    let bytes = root.read(Path::new(path), READ).ok().flatten()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The disks of a crypttab that are asked for a number of times only: three unless it is said (crypttab(5), `tries=`). Then the machine
/// asks for none any more, and nobody can unlock it from afar until it is switched off and on.
pub(crate) fn given_up(crypttab: &str) -> BTreeSet<String> {
    let lines = crypttab.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let disk = |line: &str| {
        let mut fields = line.split_whitespace();
        let (name, options) = (fields.next()?, fields.nth(2).unwrap_or_default());
        (!options.split(',').any(|option| option == "tries=0")).then(|| name.to_owned())
    };
    lines.filter_map(disk).collect()
}

/// What an unpacked initramfs lacks.
fn lacking(tree: &Path, kernel: &str, wanted: &Wanted) -> Result<Vec<String>, anyhow::Error> {
    let root = Dir::open(tree)?;
    let read = |path: &str| text(&root, path);
    let mut lacks = Vec::new();
    let is_there = |paths: &[&str]| paths.iter().any(|path| tree.join(path).symlink_metadata().is_ok());
    if !is_there(&["sbin/dropbear", "usr/sbin/dropbear"]) {
        lacks.push("there is no dropbear in it".to_owned());
    }
    if !is_there(&["scripts/init-premount/dropbear"]) {
        lacks.push("nothing in it starts dropbear".to_owned());
    }
    if !is_there(&["bin/cryptroot-unlock", "usr/bin/cryptroot-unlock"]) {
        lacks.push("there is no cryptroot-unlock in it".to_owned());
    }
    let crypttab = read(CRYPTTAB).unwrap_or_default();
    if !crypttab.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        lacks.push(
            "no encrypted disk is configured in it: the root is not encrypted, or its line in /etc/crypttab lacks the option \
             `initramfs`"
                .to_owned(),
        );
    }
    let homes = fs::read_dir(tree).with_context(|| format!("cannot read {}", tree.display()))?;
    let mut keys = String::new();
    for home in homes {
        let name = home.with_context(|| format!("cannot read {}", tree.display()))?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.starts_with("root")) {
            keys.push_str(&read(&format!("{name}/.ssh/authorized_keys")).unwrap_or_default());
        }
    }
    let has_line = |line: &String| keys.lines().any(|found| found == line);
    if !wanted.keys.iter().all(|key| has_line(&key.line())) {
        lacks.push("not all keys are in it".to_owned());
    }
    if !["rsa", "ecdsa", "ed25519"].iter().any(|kind| is_there(&[&format!("etc/dropbear/dropbear_{kind}_host_key")])) {
        lacks.push("there is no host key in it".to_owned());
    }
    let options = format!("-p {}\"", wanted.port);
    if !read("etc/dropbear/dropbear.conf").is_some_and(|text| text.contains(&options)) {
        lacks.push("dropbear's options are not in it".to_owned());
    }
    if !read("conf/conf.d/phobos-unlock").is_some_and(|text| text.contains(&format!("IP={}\n", wanted.ip))) {
        lacks.push("the network's settings are not in it".to_owned());
    }
    let there = modules(tree, kernel);
    let missing = wanted.drivers.iter().filter(|driver| !there.contains(&driver.replace('-', "_")));
    lacks.extend(missing.map(|driver| format!("the network card's driver {driver} is not in it")));
    Ok(lacks)
}

/// The modules of the kernel in a tree, and those that are built into it, with `_` for `-`.
fn modules(tree: &Path, kernel: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let name = |path: &Path| -> Option<String> {
        let name = path.file_name()?.to_str()?;
        let (name, rest) = name.split_once('.')?;
        rest.starts_with("ko").then(|| name.replace('-', "_"))
    };
    for libraries in ["lib/modules", "usr/lib/modules"] {
        let top = tree.join(libraries).join(kernel);
        let builtin = fs::read_to_string(top.join("modules.builtin")).unwrap_or_default();
        found.extend(builtin.lines().filter_map(|line| name(Path::new(line))));
        let mut folders = vec![top];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    _ => found.extend(name(&entry.path())),
                }
            }
        }
    }
    found
}

/// The host keys of the initramfs as people compare them.
pub(crate) fn host_keys(exec: &dyn Exec, root: &Path) -> Result<Vec<String>, anyhow::Error> {
    let mut keys = Vec::new();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let path = root.join(DROPBEAR).join(format!("dropbear_{kind}_host_key"));
        if path.is_file() {
            let shown = exec.run(&Invocation::new("dropbearkey").args(["-y", "-f"]).arg(&path))?.text();
            let public: Vec<_> = shown.lines().filter(|line| line.contains(" AAAA")).collect();
            let public = public.join("\n") + "\n";
            let shown = exec.run(&Invocation::new("ssh-keygen").args(["-l", "-f", "-"]).stdin(public.into_bytes()))?;
            keys.push(shown.text());
        }
    }
    Ok(keys)
}

/// A folder of root's own, which goes again.
struct Scratch(PathBuf);

impl Scratch {
    fn new(path: &Path) -> Result<Self, anyhow::Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let scratch = Self(Path::new(SCRATCH).join(name));
        // What an earlier run has left.
        scratch.remove()?;
        make_private(&scratch.0).with_context(|| format!("cannot make {}", scratch.0.display()))?;
        Ok(scratch)
    }

    fn remove(&self) -> Result<(), anyhow::Error> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.0.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            log::warn!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_disk_is_given_up_unless_it_may_be_tried_for_ever() {
        let crypttab =
            "# none\n\na UUID=1 none luks\nb UUID=2 none luks,tries=0,discard\nc UUID=3 none tries=03\nd UUID=4\n";
        assert!(super::given_up(crypttab).iter().eq(["a", "c", "d"]));
    }

    use super::*;
    use crate::setup::files::PublicKey;

    #[test]
    fn what_an_initramfs_lacks_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq4MqT0mYqXo4mHkq1y9c4m5b3b1c2d3e4f5g6h7i8j owner@laptop";
        let wanted = Wanted {
            keys: vec![PublicKey::parse(key).unwrap()],
            port: 2222,
            ip: "dhcp".into(),
            drivers: vec!["virtio_net".into(), "r8169".into()],
        };
        let keys = format!("{}\n", wanted.keys[0].line());
        let files = [
            ("usr/sbin/dropbear", ""),
            ("scripts/init-premount/dropbear", ""),
            ("usr/bin/cryptroot-unlock", ""),
            ("cryptroot/crypttab", "root_crypt UUID=x none luks\n"),
            ("root-x1/.ssh/authorized_keys", keys.as_str()),
            ("etc/dropbear/dropbear_ed25519_host_key", ""),
            ("etc/dropbear/dropbear.conf", "DROPBEAR_OPTIONS=\"-s -j -k -I 300 -p 2222\"\n"),
            ("conf/conf.d/phobos-unlock", "IP=dhcp\n"),
            ("usr/lib/modules/6.1/kernel/drivers/net/virtio-net.ko.xz", ""),
            ("usr/lib/modules/6.1/modules.builtin", "kernel/drivers/net/r8169.ko\n"),
        ];
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let lacks = || lacking(folder.path(), "6.1", &wanted).unwrap();
        assert_eq!(lacks(), Vec::<String>::new());
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::remove_file(&path).unwrap();
            assert_eq!(lacks().len(), 1, "{}", path.display());
            fs::write(path, text).unwrap();
        }
    }
}
