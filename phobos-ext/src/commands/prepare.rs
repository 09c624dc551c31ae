//! `phobos-ext prepare`: makes a drive of a disk, from its partition table to the unit that mirrors to it.

mod act;
mod judge;
mod note;
mod plan;
mod smart;
mod tables;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use phobos_core::block::{self, Disk};
use phobos_core::exec::{self, Exec, System};
use phobos_core::fs::{Dir, shown_text};
use phobos_core::human;
use phobos_core::luks::{self, Uuid};
use phobos_core::signal::Signals;
use phobos_core::{copy, mount, terminal};
use phobos_site::config::{AbsolutePath, Config, Container, Drive, DriveName};
use phobos_site::drives::{CRYPTTAB, Target};
use phobos_site::exit::{self, Exit, Stop};
use phobos_site::lock::Locks;
use phobos_site::logging;
use phobos_site::paths::{self, Paths};

use self::act::Doing;
use self::judge::{Known, Needed, Seen, Task, Wish};
use self::note::Note;
use self::plan::{Basis, Step};
use super::close::{Closing, Open, Scope};
use super::{alone, enrol};
use crate::passphrase::Passphrase;
use crate::{Cli, TABLES, source};

pub(super) use self::plan::header_file;

/// The name under which it holds locks.
const HOLDER: &str = "phobos-ext prepare";

/// The folders of keys and of LUKS headers, beside the configuration.
const KEYS: &str = "keys";
pub(super) const HEADERS: &str = "headers";

/// The programs that a disk is looked at with, and those that it is made a drive with.
const LOOKING: [&str; 3] = ["lsblk", "wipefs", "sfdisk"];
const MAKING: [&str; 5] = ["blockdev", "cryptsetup", "mkfs.ext4", "mount", "setpriv"];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The disk: a whole one, such as /dev/sdX
    #[arg(value_name = "DEVICE")]
    device: PathBuf,
    /// What people are to call the drive
    #[arg(long, value_name = "NAME", value_parser = enrol::name)]
    name: DriveName,
    /// The disk's serial number, instead of typing it when asked
    #[arg(long, value_name = "SERIAL")]
    serial: Option<String>,
    /// Let go, for good, of what is on the disk
    #[arg(long)]
    wipe: bool,
    /// Give it no recovery passphrase: without the key file nobody can open it
    #[arg(long)]
    no_recovery: bool,
    /// Say what would be done, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// What is to go on the drive.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// The repository, in bytes.
    repository: u64,
    /// How many inodes the backups have.
    inodes: u64,
}

/// Prepares the drive.
pub(crate) fn run(cli: &Cli, args: &Args) -> Result<(), anyhow::Error> {
    exit::require_root()?;
    exec::require(&[&LOOKING[..], &MAKING[..]].concat())?;
    let config = Config::load(cli.config.as_deref(), &TABLES)?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let paths = Paths::from_environment();
    let caught = || signals.caught();
    let name = args.name.as_str();
    let wish = Wish { name, wipe: args.wipe };

    let mut disk = look(&system, &args.device)?;
    // From here on no other disk can get its name.
    let _held = disk.hold()?;
    let locks = Locks::new(&paths.locks());
    if let Some(note) = Note::read(&paths, name)?.filter(|note| note.is_of(&disk) && !args.dry_run) {
        let closing = Closing { exec: &system, config: &config, paths: &paths, locks: &locks, interrupted: &caught };
        let drive = drive(&config, &args.name, &disk, &note, Task::Everything)?;
        if is_left_open(&config, &note)? {
            let _alone = alone(&system, &signals, &config, &locks, &Target::from(&drive), HOLDER)?;
            log::warn!("closing {}, which an earlier run has left open", disk.path.display());
            closing.close(&Open::from(&Target::from(&drive)), Scope::All)?;
            disk = look(&system, &args.device)?;
        }
    }
    let first = seen(&config, &paths, name, disk.clone())?;
    let task = judge::judge(&first, wish)?;
    let is_asked = match (&args.serial, args.dry_run) {
        (Some(serial), _) => is_meant(&disk, serial).map(|()| false)?,
        (None, dry_run) => !dry_run && task == Task::Everything,
    };
    if !args.dry_run {
        for line in describe(&system, &disk) {
            log::info!("{line}");
        }
    }
    if is_asked {
        ask(&disk, &caught)?;
    }

    let note = match first.note.filter(|note| note.is_of(&disk)) {
        Some(note) => note,
        None => Note::new(&disk)?,
    };
    let drive = drive(&config, &args.name, &disk, &note, task)?;
    let target = Target::from(&drive);
    let _alone = alone(&system, &signals, &config, &locks, &target, HOLDER)?;
    let repository = source::check(&config.backup)?;
    let load = load(&config)?;
    judge::judge_size(&disk, load.repository)?;
    // Somebody may have mounted it while the serial number was typed, or may have configured it.
    let again = Config::load(cli.config.as_deref(), &TABLES)?;
    let now = seen(&again, &paths, name, look(&system, &args.device)?)?;
    disk.prove_same(&now.disk)?;
    if judge::judge(&now, wish)? != task {
        return Err(Stop::new(Exit::Busy, "the drive was prepared by somebody else meanwhile").into());
    }

    let steps = steps(&config, args, &disk, &note, &drive, task, load)?;
    if args.dry_run {
        return Ok(logging::result(&shown(&describe(&system, &disk), &steps))?);
    }
    let passphrase = (!args.no_recovery).then(Passphrase::random).transpose().context("cannot choose words by lot")?;
    let doing = Doing {
        exec: &system,
        config: &config,
        paths: &paths,
        interrupted: &caught,
        disk: &disk,
        drive: &drive,
        repository: repository.id().as_str(),
        passphrase: passphrase.as_ref(),
    };
    doing.all(&steps)?;
    log::info!(
        "the drive {name} is ready: plug it out and in again, or run `phobos-ext --drive {name}`, to mirror to it"
    );
    Ok(())
}

/// What a disk is known by, and what is typed to say that it is meant: its serial number, or its size where it has none.
fn known_by(disk: &Disk) -> String {
    disk.serial.clone().unwrap_or_else(|| disk.size.to_string())
}

/// Whether the container that is being made is open; that of a drive that is ready may be, and is somebody's.
fn is_left_open(config: &Config, note: &Note) -> Result<bool, anyhow::Error> {
    let container = Uuid::try_from(note.container.clone())?;
    let is_ready = config.external.drive.iter().any(|drive| match &drive.container {
        Container::Luks { uuid, .. } => *uuid == container,
        Container::Plain { .. } => false,
    });
    Ok(!is_ready && luks::active(Path::new("/sys"))?.iter().any(|active| active.is_of(&container)))
}

/// Looks at the disk `device`.
fn look(exec: &dyn Exec, device: &Path) -> Result<Disk, anyhow::Error> {
    let absent = |why: String| Stop::new(Exit::Absent, format!("{} {why}", device.display()));
    let real = fs::canonicalize(device).map_err(|error| absent(format!("cannot be found: {error}")))?;
    if mount::device_number(&real).is_none() {
        return Err(absent("is no block device".to_owned()).into());
    }
    Ok(block::disk(exec, &real)?)
}

/// What the judgement is made of.
fn seen(config: &Config, paths: &Paths, name: &str, disk: Disk) -> Result<Seen, anyhow::Error> {
    let drives = config.external.drive.iter().map(|drive| {
        let (container, device) = match &drive.container {
            Container::Luks { uuid, .. } => (Some(uuid.as_str().to_owned()), uuid.device()),
            Container::Plain { device } => (None, device.to_path_buf()),
        };
        Known { name: drive.name.as_str().to_owned(), container, disks: block::disks(&device) }
    });
    Ok(Seen {
        drives: drives.collect(),
        needed: needed(config)?,
        note: Note::read(paths, name)?,
        has_key: key_file(config, name).symlink_metadata().is_ok(),
        disk,
    })
}

/// What fstab and crypttab name, but for the place of drives and the lines of drives.
fn needed(config: &Config) -> Result<Vec<Needed>, anyhow::Error> {
    let read = |file: &str| match fs::read(file) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {file}")),
    };
    let line = |source: String, what: String, is_backup| {
        let disks = block::disks(&mount::device_of(&source));
        Needed { what, source, disks, is_backup }
    };
    let at = |place: &Path| fs::canonicalize(place).unwrap_or_else(|_| place.components().collect());
    let backup = at(&config.backup.mount);
    let mounts = mount::fstab_entries(&read(paths::FSTAB)?).into_iter().map(|(source, place)| (source, at(&place)));
    let mounts = mounts.filter(|(_, place)| *place != at(&config.external.mount)).map(|(source, place)| {
        line(source, format!("{} has it for {}", paths::FSTAB, place.display()), place == backup)
    });
    let own = format!("{}-", config.external.mapping.as_str());
    let mappings = luks::crypttab_devices(&read(CRYPTTAB)?).into_iter();
    let mappings = mappings.filter(|(name, _)| !name.starts_with(&own));
    let mappings = mappings.map(|(name, device)| line(device, format!("{CRYPTTAB} has it for {name}"), false));
    let mut needed: Vec<_> = mounts.chain(mappings).collect();
    // Whatever fstab says, this is where they are, once this process is in the namespace.
    let table = mount::table()?;
    needed.extend(mount::at(&table, &config.backup.mount).map(|entry| Needed {
        what: "the backups are on it".to_owned(),
        source: String::new(),
        disks: block::disks_of_mount(entry),
        is_backup: true,
    }));
    Ok(needed)
}

fn key_file(config: &Config, name: &str) -> PathBuf {
    config.folder.join(KEYS).join(format!("{name}.key"))
}

/// The drive as the configuration has it, or is to have it.
fn drive(config: &Config, name: &DriveName, disk: &Disk, note: &Note, task: Task) -> Result<Drive, anyhow::Error> {
    let known = config.external.drive.iter().find(|drive| drive.name == *name && task == Task::MachineOnly);
    if let Some(drive) = known {
        return Ok(drive.clone());
    }
    let uuid = Uuid::try_from(note.container.clone())?;
    let key_file = AbsolutePath::try_from(std::path::absolute(key_file(config, name.as_str()))?)?;
    Ok(Drive {
        name: name.clone(),
        container: Container::Luks { uuid, key_file },
        description: Some(description(disk)),
    })
}

/// How people recognise the disk; what it says of itself is a stranger's text.
fn description(disk: &Disk) -> String {
    let model = disk.model.as_deref().unwrap_or("a disk");
    let serial = disk.serial.as_ref().map(|serial| format!(", serial number {serial}"));
    shown_text(&format!("{model}{}, {}", serial.unwrap_or_default(), human::size(disk.size)))
}

/// What the disk is and has on it, a line each.
fn describe(exec: &dyn Exec, disk: &Disk) -> Vec<String> {
    let transport = disk.transport.as_deref().unwrap_or("an unknown bus");
    let found = judge::found(disk);
    let found = if found.is_empty() { "nothing is on it".to_owned() } else { format!("on it: {}", found.join(", ")) };
    vec![
        format!("{}: {}, by {}", disk.path.display(), description(disk), shown_text(transport)),
        found,
        smart::told(exec, &disk.path),
    ]
}

/// Whether somebody who says `text` means this disk.
fn is_meant(disk: &Disk, text: &str) -> Result<(), Stop> {
    if text.trim() == known_by(disk) {
        return Ok(());
    }
    let (path, what) = (disk.path.display(), if disk.serial.is_some() { "serial number" } else { "size in bytes" });
    let own = shown_text(&known_by(disk));
    Err(Stop::new(Exit::Refused, format!("the {what} of {path} is {own}, not {:?}; nothing was changed", text.trim())))
}

/// Has the serial number typed.
fn ask(disk: &Disk, interrupted: &dyn Fn() -> Option<i32>) -> Result<(), anyhow::Error> {
    if !terminal::is_there() {
        let text = "nobody is there to type the serial number: say it with --serial";
        return Err(Stop::new(Exit::Usage, text).into());
    }
    let what = match disk.serial {
        Some(_) => "its serial number".to_owned(),
        None => format!("its size in bytes, {}, as it has no serial number", disk.size),
    };
    logging::draw(&format!("all that is on {} will be gone; type {what}, to go on: ", disk.path.display()));
    match terminal::line(terminal::Echo::On, interrupted).context("cannot read what is typed")? {
        terminal::Answer::Line(text) => Ok(is_meant(disk, &text)?),
        terminal::Answer::End => Err(Stop::new(Exit::Usage, "nothing was typed, and nothing was changed").into()),
        terminal::Answer::Interrupted(signal) => {
            Err(Stop::new(Exit::Signal(signal), format!("stopped by signal {signal}; nothing was changed")).into())
        }
    }
}

/// How much there is to be mirrored; asked in the namespace.
fn load(config: &Config) -> Result<Load, anyhow::Error> {
    let survey = copy::survey(&Dir::open(&config.backup.repository)?, &mut |_| Ok(()))?;
    let repository = survey.items.values().map(|item| item.size).sum();
    let inodes = mount::usage(&config.backup.mount).context("cannot tell how full the backup disk is")?.inodes;
    Ok(Load { repository, inodes })
}

/// What is to be done.
fn steps(
    config: &Config,
    args: &Args,
    disk: &Disk,
    note: &Note,
    drive: &Drive,
    task: Task,
    load: Load,
) -> Result<Vec<Step>, anyhow::Error> {
    let Container::Luks { uuid, key_file } = &drive.container else {
        return Err(Stop::new(Exit::Refused, "the drive is one without encryption").into());
    };
    let basis = Basis {
        disk,
        note,
        name: args.name.as_str(),
        container: uuid,
        key_file,
        headers: &config.folder.join(HEADERS),
        mapping: &config.external.mapping,
        mount: &config.external.mount,
        file: &enrol::file(config, drive),
        text: &enrol::text(drive),
        enable: &enrol::enable_call(uuid),
        recovery: !args.no_recovery,
        wipe: args.wipe,
        inodes: load.inodes,
        udev: block::has_udev(),
    };
    Ok(match task {
        Task::Everything => plan::everything(&basis),
        Task::MachineOnly => plan::machine(&basis),
    })
}

/// What a dry run prints.
fn shown(described: &[String], steps: &[Step]) -> String {
    let mut lines = described.to_vec();
    for (number, step) in steps.iter().enumerate() {
        lines.push(format!("{:>2}. {}", number + 1, step.what));
        lines.extend(step.acts.iter().flat_map(plan::Act::shown).map(|line| format!("    {line}")));
    }
    lines.join("\n") + "\n"
}
