//! What the checks judge by, as it was seen.

mod access;
mod drives;
mod telling;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phobos_core::error::Chain;
use phobos_core::exec::{self, Exec, ExecError, Invocation};
use phobos_core::namespace::Propagation;
use phobos_core::{mount, namespace, systemd};
use phobos_site::config::{Config, Table};
use phobos_site::drives::{CRYPTTAB, Target};
use phobos_site::ledger::Book;
use phobos_site::paths;

use super::PROGRAMS;
use crate::facts::Work;
use crate::model::Model;

#[cfg(test)]
pub(super) use access::Lent;
pub(super) use access::held;
pub(super) use drives::{Asked, Ways};
pub(super) use telling::{GROUP, Node};

/// How long a program may take to answer.
const LIMIT: Duration = Duration::from_secs(20);

/// How long it takes to unpack and look through what the machine boots from.
const UNLOCK_LIMIT: Duration = Duration::from_secs(300);

/// Where the administrator's own units are.
const UNITS: &str = "/etc/systemd/system";

/// How much of a unit is read, in bytes.
const LONGEST: u64 = 256 * 1024;

/// The folder of the headers' backups, beside the configuration.
const HEADERS: &str = "headers";

/// Where the keys are of those who may unlock the machine from elsewhere.
const UNLOCKERS: [&str; 2] = ["/etc/dropbear/initramfs/authorized_keys", "/etc/dropbear-initramfs/authorized_keys"];

/// What was seen; `None` for what cannot be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signs {
    /// Mistakes in the configuration.
    pub(super) mistakes: Vec<String>,
    /// Where the backups are mounted, and the drives.
    pub(super) backup: PathBuf,
    pub(super) drives: PathBuf,
    /// What is mounted outside of the namespace.
    pub(super) mounted: Option<Vec<PathBuf>>,
    pub(super) fstab: Option<String>,
    /// The text of crypttab, and the name of the drives' mapping.
    pub(super) crypttab: Option<String>,
    pub(super) mapping: String,
    pub(super) namespace: Option<bool>,
    /// How its mounts differ from what they should be.
    pub(super) propagation: Option<Propagation>,
    pub(super) hosts: Vec<String>,
    /// The timers that are started, those that are installed, and the hosts that some timer pulls.
    pub(super) timers: Option<Vec<String>>,
    pub(super) installed_timers: Vec<String>,
    pub(super) timed_hosts: Vec<String>,
    /// The administrator's services.
    pub(super) units: Vec<(String, String)>,
    pub(super) keys: Vec<Key>,
    pub(super) headers: Vec<Header>,
    /// The keys that can write on a host.
    pub(super) lent: Option<Vec<access::Lent>>,
    /// The files of keys that let somebody in, with their texts, and each rrsync that they call: where it is, and its text.
    pub(super) authorized: Option<Vec<(PathBuf, String)>>,
    pub(super) rrsyncs: BTreeMap<String, (PathBuf, String)>,
    /// The programs that are installed.
    pub(super) programs: Vec<String>,
    pub(super) borg: Option<String>,
    pub(super) rsync: Option<String>,
    pub(super) security_modules: Option<String>,
    pub(super) clock: Option<String>,
    /// What `df` says.
    pub(super) disks: Option<String>,
    /// The names of the holding spaces.
    pub(super) spaces: Option<Vec<String>>,
    pub(super) root_is_encrypted: Option<bool>,
    pub(super) remote_unlock: Option<bool>,
    /// What `phobos-unlock check` finds wrong.
    pub(super) unlock_faults: Vec<String>,
    /// What is not as it should be with the drives, and what to do about it.
    pub(super) attention: Option<Vec<(String, String)>>,
    /// What disks say of themselves.
    pub(super) asked: Vec<Asked>,
    pub(super) ways: Vec<Ways>,
    /// The units that mirror, and the devices that they wait for.
    pub(super) waiting: Option<Vec<(String, PathBuf)>>,
    /// The drives that are known.
    pub(super) known: Vec<PathBuf>,
    /// How many messages wait, and how many were refused for good.
    pub(super) letters: Option<(usize, usize)>,
    /// How sending a test message went, where one was sent.
    pub(super) sent: Option<Result<(), String>>,
    /// The lights, and the group whose programs may set them.
    pub(super) lights: (Vec<Node>, Option<u32>),
}

/// With what this machine is looked at.
pub(crate) struct Looking<'a> {
    pub(crate) exec: &'a dyn Exec,
    pub(crate) config: Option<&'a Path>,
    pub(crate) is_root: bool,
    /// How the machine stands.
    pub(crate) model: &'a dyn Fn() -> Model,
    pub(crate) book: &'a Book,
    /// The names of the checks that are wanted; all of them where there is none.
    pub(crate) wanted: &'a [String],
}

/// A key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) path: PathBuf,
    pub(super) state: State,
}

/// The backup of a drive's LUKS header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) drive: String,
    pub(super) device: PathBuf,
    pub(super) path: PathBuf,
    /// The UUID that is to be in it.
    pub(super) expected: String,
    /// The UUID that is; empty for what is no header.
    pub(super) uuid: Seen,
}

/// What is seen of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing: only root may look there.
    Unseen,
    Missing,
    There(String),
}

/// What is seen of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing: only root may look there.
    Unseen,
    Missing,
    There {
        owner: u32,
        mode: u32,
    },
}

impl Looking<'_> {
    /// Looks at this machine; changes nothing.
    pub(crate) fn look(&self) -> Signs {
        let (mut signs, targets) = look(self.exec, self.config, self.is_root);
        if self.is_wanted("drives") || self.is_wanted("mail") {
            let model = (self.model)();
            signs.letters = model.mail.as_ref().map(|mail| (mail.waiting, mail.set_aside));
            signs.attention = Some(model.attention);
        }
        if signs.remote_unlock == Some(true) && self.is_wanted("unlock") {
            signs.unlock_faults = unlock_faults(self.exec);
        }
        signs.known = targets.iter().map(|target| target.device.clone()).collect();
        signs.waiting = Path::new(UNITS).is_dir().then(|| drives::waiting(Path::new(UNITS)));
        let encrypted = targets.iter().filter(|target| target.luks.is_some());
        signs.ways = encrypted
            .map(|target| {
                let drive = target.name.to_string();
                let header = signs.headers.iter().find(|header| header.drive == drive);
                Ways {
                    slots: header.and_then(|header| drives::slots(self.exec, &header.path)),
                    is_on_sheet: self.book.drives.get(&drive).is_some_and(|entry| entry.sheet.is_some()),
                    drive,
                }
            })
            .collect();
        if self.is_root && self.is_wanted("health") {
            let mut disks: Vec<_> =
                targets.iter().map(|target| (target.device.clone(), format!("the drive {}", target.name))).collect();
            let entries = mount::fstab_entries(signs.fstab.as_deref().unwrap_or_default());
            let source = entries.iter().find(|(_, place)| *place == signs.backup);
            disks.extend(source.map(|(source, _)| (mount::device_of(source), "the backups".to_owned())));
            signs.asked = drives::ask(self.exec, &disks);
        }
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        signs.lights = telling::nodes(Path::new("/sys"), Path::new("/dev"), &groups);
        // Nobody wants a message for each look.
        let is_named = self.wanted.iter().any(|name| name == "mailer");
        signs.sent = is_named.then(|| telling::send(self.exec, self.config));
        signs
    }

    /// Whether the check of this name is wanted: what takes long is looked at for it alone.
    fn is_wanted(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted == name)
    }
}

/// What is seen at once, and the drives that are known.
fn look(exec: &dyn Exec, file: Option<&Path>, is_root: bool) -> (Signs, Vec<Target>) {
    let mut signs = Signs::default();
    let (mistakes, _) = Config::mistakes(file);
    signs.mistakes = mistakes.iter().map(|mistake| Chain(mistake).to_string()).collect();
    // Of what has a mistake the defaults.
    let of = |table| Config::load(file, &[table]).unwrap_or_default();
    let pull = of(Table::Pull);
    let hosts = pull.hosts().unwrap_or_default();
    signs.hosts = hosts.iter().map(|host| host.name.to_string()).collect();
    if is_root {
        signs.lent = Some(access::lent(&pull.folder, &hosts));
        let authorized = access::authorized(&fs::read_to_string("/etc/passwd").unwrap_or_default());
        signs.rrsyncs = access::rrsyncs(&authorized);
        signs.authorized = Some(authorized);
    }
    let mut config = of(Table::Backup);
    config.external = of(Table::External).external;
    signs.backup = config.backup.mount.to_path_buf();
    signs.drives = config.external.mount.to_path_buf();
    let outside = mount::table_of(Path::new("/proc/1/mountinfo")).ok();
    signs.fstab = fs::read_to_string(paths::FSTAB).ok();
    signs.crypttab = match fs::read_to_string(CRYPTTAB) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(String::new()),
        read => read.ok(),
    };
    config.external.mapping.as_str().clone_into(&mut signs.mapping);
    signs.namespace = is_root.then(|| namespace::exists(&config.backup.namespace));
    let inside = signs.namespace.filter(|is_there| *is_there).and_then(|_| inside(exec, &config.backup.namespace));
    signs.propagation = inside.zip(outside.as_ref()).map(|(inside, outside)| namespace::propagation(&inside, outside));
    signs.mounted = outside.map(|table| table.into_iter().map(|entry| entry.target).collect());
    let targets = phobos_site::drives::known(&config.external, Path::new(CRYPTTAB)).unwrap_or_default();
    for target in &targets {
        let Some((uuid, unlock)) = &target.luks else { continue };
        signs.keys.extend(unlock.key_file.iter().map(|file| key(file, is_root)));
        let (drive, expected) = (target.name.to_string(), uuid.as_str().to_owned());
        let path = config.folder.join(HEADERS).join(format!("{drive}-{expected}.header"));
        let uuid_there = header(&path, is_root);
        signs.headers.push(Header { drive, device: uuid.device(), path, expected, uuid: uuid_there });
    }
    timers(exec, &mut signs);
    (signs.units, signs.installed_timers) = units();
    let found = PROGRAMS.iter().filter(|(program, _)| exec::find(Path::new(program)).is_some());
    signs.programs = found.map(|(program, _)| (*program).to_owned()).collect();
    let said = |program: &str, args: &[&str]| {
        let call = Invocation::new(program).args(args).env("LC_ALL", "C.UTF-8").limit(LIMIT);
        exec.run(&call).ok().map(|finished| String::from_utf8_lossy(&finished.stdout).into_owned())
    };
    signs.borg = said("borg", &["--version"]).map(|text| first_line(&text));
    signs.rsync = said("rsync", &["--version"]).map(|text| first_line(&text));
    signs.security_modules = fs::read_to_string("/sys/kernel/security/lsm").ok();
    signs.clock = said("timedatectl", &["show", "--property=NTPSynchronized", "--value"]);
    let kinds = ["tmpfs", "devtmpfs", "overlay", "squashfs", "efivarfs", "iso9660"]
        .map(|kind| format!("--exclude-type={kind}"));
    let mut df: Vec<&str> = vec!["--local", "--output=pcent,target"];
    df.extend(kinds.iter().map(String::as_str));
    signs.disks = said("df", &df);
    // The backups may be mounted for that, which must not be seen outside.
    if signs.propagation.as_ref().is_some_and(|propagation| propagation.shared.is_empty()) {
        let holding = config.backup.holding.display().to_string();
        let config = file.map(|file| file.display().to_string());
        let mut args: Vec<&str> = config.iter().flat_map(|file| ["--config", file.as_str()]).collect();
        args.extend(["exec", "--", "ls", "-A1", "--", &holding]);
        signs.spaces = said("phobos-ns", &args).map(|text| text.lines().map(str::to_owned).collect());
    }
    let root = said("findmnt", &["--noheadings", "--output=SOURCE", "--target=/"]);
    let root = root.map(|root| root.trim().to_owned()).filter(|root| root.starts_with("/dev/"));
    let below = root.and_then(|root| said("lsblk", &["--noheadings", "--inverse", "--output=TYPE", &root]));
    signs.root_is_encrypted = below.map(|below| below.split_whitespace().any(|kind| kind == "crypt"));
    signs.remote_unlock = is_root.then(|| UNLOCKERS.iter().any(|path| Path::new(path).exists()));
    (signs, targets)
}

/// What is mounted in the namespace that `file` keeps, which nothing is done to.
fn inside(exec: &dyn Exec, file: &Path) -> Option<Vec<mount::Entry>> {
    // In another mount namespace than PID 1's the file is a plain one.
    let mut named = OsString::from("--mount=");
    named.push(Path::new("/proc/1/root").join(file.strip_prefix("/").unwrap_or(file)));
    let call = Invocation::new("nsenter").arg(named).args(["--", "cat", "/proc/self/mountinfo"]).limit(LIMIT);
    let said = exec.run(&call).ok()?.stdout;
    mount::parse(&String::from_utf8_lossy(&said)).ok()
}

/// What `phobos-unlock check` finds wrong, a line each; nothing where it is not installed.
fn unlock_faults(exec: &dyn Exec) -> Vec<String> {
    let mut said = Vec::new();
    let call = Invocation::new("phobos-unlock").arg("check").limit(UNLOCK_LIMIT);
    match exec.pour(&call, &mut |bytes| said.extend_from_slice(bytes)) {
        Ok(()) | Err(ExecError::Missing { .. }) => Vec::new(),
        Err(error) if said.is_empty() => vec![Chain(&error).to_string()],
        Err(_) => String::from_utf8_lossy(&said).lines().map(str::to_owned).collect(),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn key(path: &Path, is_root: bool) -> Key {
    let state = match fs::metadata(path) {
        Ok(metadata) => State::There { owner: metadata.uid(), mode: metadata.mode() & 0o7777 },
        Err(_) if !is_root => State::Unseen,
        Err(_) => State::Missing,
    };
    Key { path: path.to_owned(), state }
}

/// The UUID in the backup of a LUKS header: 40 bytes from the 168th on, in both versions of LUKS.
fn header(path: &Path, is_root: bool) -> Seen {
    let read = || -> std::io::Result<String> {
        let mut start = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(fs::File::open(path)?, 208), &mut start)?;
        let uuid = start.get(168..).filter(|_| start.starts_with(b"LUKS")).unwrap_or_default();
        Ok(String::from_utf8_lossy(uuid).trim_end_matches('\0').to_owned())
    };
    match read() {
        Ok(uuid) => Seen::There(uuid),
        Err(_) if !is_root => Seen::Unseen,
        Err(_) => Seen::Missing,
    }
}

/// The timers that systemd has loaded, and which hosts they pull.
fn timers(exec: &dyn Exec, signs: &mut Signs) {
    let Ok(timers) = systemd::timers(exec, &[]) else { return };
    let units: Vec<&str> =
        timers.iter().map(|timer| timer.activates.as_str()).filter(|unit| !unit.is_empty()).collect();
    let shown = systemd::properties(exec, &units, &["ExecStart"]).unwrap_or_default();
    for (_, value) in shown.values().flatten() {
        let line = value.split_once("argv[]=").map_or("", |(_, line)| line.split(" ; ").next().unwrap_or(line));
        if let Some(Work::Pulls(hosts)) = Work::of_command(line) {
            // Without a name it is all of them.
            signs.timed_hosts.extend(if hosts.is_empty() { signs.hosts.clone() } else { hosts });
        }
    }
    signs.timers = Some(timers.into_iter().map(|timer| timer.unit).collect());
}

/// The administrator's services with their texts, and the names of phobos's timers that are installed.
fn units() -> (Vec<(String, String)>, Vec<String>) {
    let (mut services, mut timers) = (Vec::new(), Vec::new());
    let folder = phobos_core::fs::Dir::open(Path::new(UNITS));
    let Ok(folder) = folder else { return (services, timers) };
    for entry in folder.entries().unwrap_or_default() {
        let Ok(name) = entry.name.into_string() else { continue };
        let path = Path::new(&name);
        let is = |end: &str| path.extension().is_some_and(|extension| extension == end);
        // A unit that is masked is a link to /dev/null, and not wanted.
        if is("timer")
            && name.starts_with("phobos-")
            && fs::symlink_metadata(Path::new(UNITS).join(path)).is_ok_and(|metadata| metadata.is_file())
        {
            timers.push(name);
        } else if is("service") {
            // What cannot be read, or is a link, is not the administrator's own text.
            if let Ok(Some(text)) = folder.read(path, LONGEST) {
                services.push((name, String::from_utf8_lossy(&text).into_owned()));
            }
        }
    }
    services.sort();
    timers.sort();
    (services, timers)
}
