//! `phobos-unlock check`: looks whether this machine can still be unlocked from afar, and on request whether a passphrase opens it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, ExecError, Status};
use phobos_core::luks::{self, CrypttabEntry, MapperName};
use phobos_core::mount;
use phobos_site::exit::{Exit, Stop, require_root};
use phobos_site::logging;

use super::files::{DROPBEAR, PublicKey, Wanted, that_can_do_more};
use super::{BOOT, drivers, gives_up, image, read};
use crate::secret::{self, Secret};

/// What cryptsetup ends with where a passphrase is wrong (cryptsetup(8), "RETURN CODES").
const WRONG: Status = Status::Code(2);

/// What opens this machine's encrypted disks, as it stands there while it runs.
const CRYPTTAB: &str = "etc/crypttab";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ask for the passphrase, and try whether it opens what the machine asks it for before it boots
    #[arg(long)]
    test_passphrase: bool,
}

/// Looks whether this machine can still be unlocked from afar.
///
/// # Errors
///
/// What is wrong, where something is (1); a signal while the passphrase is asked for.
pub(crate) fn run(exec: &dyn Exec, args: &Args, interrupted: &dyn Fn() -> Option<i32>) -> Result<(), anyhow::Error> {
    require_root()?;
    let mut asked = below_root()?;
    let own = read(Path::new("/"), "etc/initramfs-tools/conf.d/phobos-unlock")?;
    let mut wrong = Vec::new();
    match (asked.is_empty(), own) {
        (true, None) => {
            return Ok(logging::result("the root is not encrypted, and nothing waits for a passphrase\n")?);
        }
        (false, None) => wrong.push(
            "the root is encrypted, and this machine waits for its passphrase at its own keyboard only; see `phobos-unlock setup`"
                .to_owned(),
        ),
        (_, Some(conf)) => asked.extend(look(exec, &conf, &mut wrong)?),
    }
    let tried = args.test_passphrase.then(|| secret::ask("this machine", interrupted)).transpose()?;
    match &tried {
        Some(secret) => wrong.extend(try_it(exec, &asked, secret)?),
        None => log::info!("no passphrase was tried; `phobos-unlock check --test-passphrase` asks for it and does"),
    }
    if wrong.is_empty() {
        let opened = if tried.is_some() { ", and the passphrase opens it" } else { "" };
        return Ok(logging::result(&format!("this machine can be unlocked from afar{opened}\n"))?);
    }
    logging::result(&(wrong.join("\n") + "\n"))?;
    let count = wrong.len();
    Err(Stop::new(Exit::Failed, format!("{count} {} wrong", if count == 1 { "thing is" } else { "things are" })).into())
}

/// Looks at what the machine boots from, where `conf` says how it waits; adds what is wrong. Returns the disks that are asked for.
fn look(exec: &dyn Exec, conf: &str, wrong: &mut Vec<String>) -> Result<BTreeSet<String>, anyhow::Error> {
    let keys = read(Path::new("/"), &format!("{DROPBEAR}/authorized_keys"))?.unwrap_or_default();
    wrong.extend(that_can_do_more(&keys).into_iter().map(|line| {
        format!("a key in /{DROPBEAR}/authorized_keys can do more than unlock: {line}; restrict it, or take it out")
    }));
    let wanted = of_files(&keys, conf)?;
    let (mut asked, mut given_up) = (BTreeSet::new(), BTreeSet::new());
    for kernel in image::kernels(Path::new(BOOT))? {
        let path = Path::new(BOOT).join(format!("initrd.img-{kernel}"));
        if let Some(newer) = newer_than(&path)? {
            wrong.push(format!(
                "{} is older than {newer}; run `update-initramfs -u -k {kernel}`, and this once more",
                path.display()
            ));
        }
        match image::rehearse(exec, &path, &kernel, &wanted) {
            Ok(crypttab) => {
                given_up.extend(image::given_up(&crypttab));
                asked.extend(luks::crypttab_devices(&crypttab).into_iter().map(|(name, _)| name));
            }
            Err(error) => wrong.push(format!("{}: {error:#}", path.display())),
        }
    }
    wrong.extend(given_up.iter().map(|disk| gives_up(disk)));
    Ok(asked)
}

/// Tries the passphrase with each of the disks, as crypttab says that they are opened; what is wrong.
fn try_it(exec: &dyn Exec, disks: &BTreeSet<String>, secret: &Secret) -> Result<Vec<String>, anyhow::Error> {
    let crypttab = read(Path::new("/"), CRYPTTAB)?.unwrap_or_default();
    let mut is_asked = false;
    let mut wrong = Vec::new();
    for disk in disks {
        let untried = |why: String| format!("whether the passphrase opens {disk} cannot be tried: {why}");
        let entry = match entry(&crypttab, disk) {
            Ok(entry) if entry.unlock.asks() => entry,
            Ok(_) => continue,
            Err(why) => {
                wrong.push(untried(why));
                continue;
            }
        };
        is_asked = true;
        match exec.run(&luks::try_passphrase(&entry).stdin(secret.clone())) {
            Ok(_) => {}
            Err(ExecError::Failed { status: WRONG, .. }) => wrong.push(format!(
                "the passphrase does not open {disk} ({}); add it with `cryptsetup luksAddKey`, if it is meant to",
                entry.device
            )),
            Err(error) => wrong.push(untried(Chain(&error).to_string())),
        }
    }
    if !is_asked && wrong.is_empty() {
        wrong.push(format!("no disk asks for a passphrase: each has its key in /{CRYPTTAB}"));
    }
    Ok(wrong)
}

/// How a disk is opened.
fn entry(crypttab: &str, disk: &str) -> Result<CrypttabEntry, String> {
    let name = MapperName::try_from(disk.to_owned()).map_err(|error| error.to_string())?;
    let entry = luks::crypttab_entry(crypttab, &name).map_err(|error| error.to_string())?;
    entry.ok_or_else(|| format!("it has no line in /{CRYPTTAB}"))
}

/// What the files that are there say of how the machine waits.
fn of_files(keys: &str, conf: &str) -> Result<Wanted, anyhow::Error> {
    let options = read(Path::new("/"), &format!("{DROPBEAR}/dropbear.conf"))?.unwrap_or_default();
    let port =
        options.lines().filter_map(|line| line.strip_suffix('"')?.rsplit_once(" -p ")?.1.parse().ok()).next_back();
    let ip = conf.lines().find_map(|line| line.strip_prefix("IP=")).unwrap_or("dhcp").to_owned();
    let own = keys.lines().filter_map(|line| line.split_once("\"/bin/cryptroot-unlock\" "));
    let keys = own.filter_map(|(_, key)| PublicKey::parse(key).ok()).collect();
    Ok(Wanted { keys, port: port.unwrap_or(22), ip, drivers: drivers(Path::new("/sys/class/net"))? })
}

/// The names of the encrypted disks that the root file system is on.
fn below_root() -> Result<BTreeSet<String>, anyhow::Error> {
    let table = mount::table()?;
    let root = mount::at(&table, Path::new("/")).map(|root| format!("/sys/dev/block/{}", root.number));
    let mut devices: Vec<_> = root.into_iter().map(PathBuf::from).collect();
    let mut names = BTreeSet::new();
    while let Some(device) = devices.pop() {
        let read = |file: &str| fs::read_to_string(device.join(file)).ok();
        if read("dm/uuid").is_some_and(|uuid| uuid.starts_with("CRYPT-")) {
            names.extend(read("dm/name").map(|name| name.trim().to_owned()));
        }
        devices.extend(fs::read_dir(device.join("slaves")).into_iter().flatten().flatten().map(|below| below.path()));
    }
    Ok(names)
}

/// A file of the configuration that was changed after the initramfs was made.
fn newer_than(image: &Path) -> Result<Option<String>, anyhow::Error> {
    let made = fs::metadata(image).with_context(|| format!("cannot read {}", image.display()))?.mtime();
    let files = ["authorized_keys", "dropbear.conf"].map(|name| format!("/{DROPBEAR}/{name}"));
    let more = ["/etc/initramfs-tools/modules", "/etc/initramfs-tools/conf.d/phobos-unlock", "/etc/crypttab"];
    let all = files.into_iter().chain(more.map(str::to_owned));
    Ok(all.into_iter().find(|file| fs::metadata(file).is_ok_and(|found| found.mtime() > made)))
}
