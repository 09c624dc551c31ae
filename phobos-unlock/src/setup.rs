//! `phobos-unlock setup`: makes this machine wait for its passphrase on the network, and proves that it will before anything boots
//! from it. `phobos-unlock check` looks whether it still does.

pub(crate) mod check;
mod files;
mod image;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use phobos_core::exec::{Exec, Invocation};
use phobos_core::flock;
use phobos_core::fs::{Dir, Durability, make_private, make_shared, replace};
use phobos_site::exit::{Exit, Stop, require_root};
use phobos_site::logging;

use self::files::{Change, DROPBEAR, PublicKey, Wanted, changes, that_can_do_more};

/// What has to be installed: a file, and the package that brings it.
const PACKAGES: [(&str, &str); 2] = [
    ("/usr/share/initramfs-tools/hooks/dropbear", "dropbear-initramfs"),
    ("/usr/share/initramfs-tools/hooks/cryptroot", "cryptsetup-initramfs"),
];

/// The largest file that is changed, in bytes.
const LIMIT: u64 = 1024 * 1024;

const BOOT: &str = "/boot";

/// Where the lock is.
const LOCKS: &str = "/run/phobos/unlock";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Let this public key in, to unlock and for nothing else; may be given more than once
    #[arg(long, value_name = "FILE", required_unless_present = "revert")]
    key: Vec<PathBuf>,
    /// The network before the disks are open, as the kernel takes it after ip=
    #[arg(long, value_name = "SPEC", default_value = "dhcp", value_parser = files::ip)]
    ip: String,
    /// Say what would be changed, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Take everything back that this has set up
    #[arg(long, conflicts_with_all = ["key", "ip"])]
    revert: bool,
}

/// Sets it up.
///
/// # Errors
///
/// When something is missing, or the new initramfs lacks something: what the machine boots from is as it was.
pub(crate) fn run(exec: &dyn Exec, args: &Args, port: u16) -> Result<(), anyhow::Error> {
    require_root()?;
    let missing: Vec<_> =
        PACKAGES.iter().filter(|(sign, _)| !Path::new(sign).exists()).map(|(_, package)| *package).collect();
    if !missing.is_empty() && !args.revert {
        let text = format!("missing: {0}; run `apt-get install {0}`, and this once more", missing.join(" "));
        return Err(Stop::new(Exit::Failed, text).into());
    }
    let wanted = if args.revert { None } else { Some(wanted(args, port)?) };
    let _alone = (!args.dry_run).then(alone).transpose()?;
    let changes = changes(wanted.as_ref(), &|path| read(Path::new("/"), path))?;
    let kernels = image::kernels(Path::new(BOOT))?;
    if args.dry_run {
        return show(&changes, &kernels);
    }
    if kernels.is_empty() {
        return Err(anyhow!("no kernel with an initramfs is in {BOOT}"));
    }
    let work = write(&changes).and_then(|()| renew(exec, &kernels, wanted.as_ref()));
    if let Err(error) = work {
        // A later kernel would have an initramfs that nobody has proved.
        let before: Vec<_> = changes.iter().map(Change::undone).collect();
        write(&before).context("the files in /etc cannot be put back as they were")?;
        return Err(error);
    }
    if wanted.is_some() {
        tell(exec)?;
    } else {
        log::info!("this machine no longer waits for its passphrase on the network");
    }
    Ok(())
}

/// Keeps others from setting it up at the same time: each would take the other's initramfs away before it is proved.
fn alone() -> Result<File, anyhow::Error> {
    make_private(Path::new(LOCKS)).with_context(|| format!("cannot make {LOCKS}"))?;
    let file = flock::open(&Dir::open(Path::new(LOCKS))?, Path::new("setup.lock"))?;
    let taken = flock::within(file, Duration::ZERO).context("cannot lock")?;
    Ok(taken.ok_or_else(|| Stop::new(Exit::Busy, "another `phobos-unlock setup` is at work; try later"))?)
}

fn wanted(args: &Args, port: u16) -> Result<Wanted, anyhow::Error> {
    let mut keys = Vec::new();
    for file in &args.key {
        let size = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
        let text = if size <= LIMIT { fs::read_to_string(file) } else { Err(io::ErrorKind::FileTooLarge.into()) };
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        let key =
            PublicKey::parse(&text).map_err(|why| Stop::new(Exit::Refused, format!("{}: {why}", file.display())))?;
        keys.push(key);
    }
    let drivers = drivers(Path::new("/sys/class/net"))?;
    if drivers.is_empty() {
        log::warn!("no network card has a driver of its own here, so that none is added to the initramfs");
    }
    Ok(Wanted { keys, port, ip: args.ip.clone(), drivers })
}

/// The drivers of the network cards that are here, each once.
fn drivers(net: &Path) -> Result<Vec<String>, anyhow::Error> {
    let mut drivers = Vec::new();
    for card in fs::read_dir(net).with_context(|| format!("cannot read {}", net.display()))? {
        let card = card.with_context(|| format!("cannot read {}", net.display()))?.path();
        // What is no module of its own is in the kernel.
        let driver = fs::read_link(card.join("device/driver/module")).ok();
        drivers.extend(driver.and_then(|path| Some(path.file_name()?.to_str()?.to_owned())));
    }
    drivers.sort();
    drivers.dedup();
    Ok(drivers)
}

fn read(root: &Path, path: &str) -> Result<Option<String>, anyhow::Error> {
    let path = root.join(path);
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(found) if found.len() > LIMIT || !found.is_file() => {
            Err(anyhow!("{} is no file of settings", path.display()))
        }
        _ => Ok(Some(fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?)),
    }
}

fn write(changes: &[Change]) -> Result<(), anyhow::Error> {
    for change in changes {
        let path = Path::new("/").join(&change.path);
        let failed = || format!("cannot write {}", path.display());
        match &change.text {
            Some(text) => {
                make_shared(path.parent().unwrap_or(Path::new("/"))).with_context(failed)?;
                replace(&path, text.as_bytes(), change.mode, Durability::Synced).with_context(failed)?;
            }
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(failed),
                _ => {}
            },
        }
    }
    Ok(())
}

/// Makes each kernel's initramfs anew, the newest kernel's last.
fn renew(exec: &dyn Exec, kernels: &[String], wanted: Option<&Wanted>) -> Result<(), anyhow::Error> {
    let lacks_host_key = image::host_keys(exec, Path::new("/"))?.is_empty();
    if wanted.is_some() && lacks_host_key {
        let path = Path::new("/").join(DROPBEAR).join("dropbear_ed25519_host_key");
        exec.run(&Invocation::new("dropbearkey").args(["-t", "ed25519", "-f"]).arg(&path)).context("no host key")?;
    }
    let mut given_up = BTreeSet::new();
    for kernel in kernels {
        log::info!("making the initramfs of {kernel} anew");
        given_up.extend(image::renew(exec, Path::new(BOOT), kernel, wanted)?);
    }
    for disk in given_up {
        log::warn!("{}", gives_up(&disk));
    }
    Ok(())
}

/// What is said of a disk that is given up after some wrong passphrases.
fn gives_up(disk: &str) -> String {
    format!(
        "after some wrong passphrases for {disk} this machine asks for none any more, until it is switched off and on; add the option \
         tries=0 to its line in /etc/crypttab, and run `update-initramfs -u`"
    )
}

fn show(changes: &[Change], kernels: &[String]) -> Result<(), anyhow::Error> {
    let mut text = String::new();
    for change in changes {
        let [before, after] = [&change.before, &change.text].map(|text| text.as_deref().unwrap_or_default());
        text.push_str(&["/", &change.path, "\n"].concat());
        for line in before.lines().filter(|line| !after.lines().any(|other| other == *line)) {
            text.push_str(&["  - ", line, "\n"].concat());
        }
        for line in after.lines().filter(|line| !before.lines().any(|other| other == *line)) {
            text.push_str(&["  + ", line, "\n"].concat());
        }
    }
    for kernel in kernels {
        text.push_str(&["/boot/initrd.img-", kernel, ", made anew\n"].concat());
    }
    Ok(logging::result(&text)?)
}

/// Says what has to be known on the machines that will unlock this one.
fn tell(exec: &dyn Exec) -> Result<(), anyhow::Error> {
    let keys = read(Path::new("/"), &format!("{DROPBEAR}/authorized_keys"))?.unwrap_or_default();
    for line in that_can_do_more(&keys) {
        log::warn!("left alone, and it lets somebody do more than unlock: {line}");
    }
    logging::say(format_args!("this machine waits for its passphrase from the next boot on; its host keys are then:"));
    for key in image::host_keys(exec, Path::new("/"))? {
        logging::say(format_args!("  {key}"));
    }
    logging::say(format_args!("on the machine that unlocks it: phobos-unlock trust NAME, and then phobos-unlock NAME"));
    Ok(())
}
