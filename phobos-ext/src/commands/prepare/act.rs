//! Carries a plan out, step by step, each told before it begins; a step that fails says which it was.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use phobos_core::block::{self, Disk};
use phobos_core::exec::{Exec, Invocation, Observer};
use phobos_core::fs::{Dir, Durability, make_private, make_shared, replace};
use phobos_core::human;
use phobos_core::luks::{self, Mapping};
use phobos_core::mount::Access;
use phobos_core::teardown;
use phobos_site::config::{Config, Drive};
use phobos_site::drives::Target;
use phobos_site::exit::Stop;
use phobos_site::ledger::Ledger;
use phobos_site::logging;
use phobos_site::paths::Paths;

use super::note;
use super::plan::{Act, Step};
use crate::boxed;
use crate::commands::enrol;
use crate::passphrase::Passphrase;
use crate::record::DriveRecord;
use crate::session::Session;

/// How long the kernel may take to see a partition.
const PART_LIMIT: Duration = Duration::from_secs(60);

/// How many random bytes a key has: more than LUKS makes of them.
const KEY_BYTES: usize = 64;

/// How often somebody who waits for a program is told that it is still at work.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a plan is carried out with.
pub(super) struct Doing<'a> {
    pub(super) exec: &'a dyn Exec,
    pub(super) config: &'a Config,
    pub(super) paths: &'a Paths,
    pub(super) interrupted: &'a dyn Fn() -> Option<i32>,
    pub(super) disk: &'a Disk,
    pub(super) drive: &'a Drive,
    /// The id of the repository that the drive is to belong to.
    pub(super) repository: &'a str,
    pub(super) passphrase: Option<&'a Passphrase>,
}

impl Doing<'_> {
    /// Does all of it.
    pub(super) fn all(&self, steps: &[Step]) -> Result<(), anyhow::Error> {
        let mut is_proved = false;
        for (number, step) in steps.iter().enumerate() {
            log::info!("step {} of {}: {}", number + 1, steps.len(), step.what);
            let prove = || {
                // The first byte goes to the disk that was looked at, and to no other that was plugged in meanwhile.
                if step.on_drive && !is_proved {
                    self.disk.prove_same(&block::disk(self.exec, &self.disk.path)?)?;
                }
                step.acts.iter().try_for_each(|act| self.act(act))
            };
            prove().with_context(|| {
                format!(
                    "cannot {}; the drive {} is not ready; the same command once more goes on",
                    step.what,
                    self.drive.name.as_str()
                )
            })?;
            is_proved |= step.on_drive;
        }
        Ok(())
    }

    fn act(&self, act: &Act) -> Result<(), anyhow::Error> {
        if let Some(signal) = (self.interrupted)() {
            return Err(Stop::by_signal(signal).into());
        }
        let write = |path: &Path| format!("cannot write {}", path.display());
        match act {
            Act::Folder(path) => make_private(path).with_context(|| format!("cannot make {}", path.display())),
            Act::Note(note) => note.write(self.paths, self.drive.name.as_str()),
            Act::Key(path) => make_key(path),
            Act::Run(call) => self.run(call),
            Act::Feed(call, lines) => self.run(&call.clone().stdin(lines.clone().into_bytes())),
            Act::Whisper(call) => {
                let passphrase = self.passphrase.context("there is no passphrase")?;
                self.run(&call.clone().stdin(passphrase.key()))
            }
            Act::Await { part, start, size } => self.wait_for(part, *start, *size),
            Act::Remove(path) => match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("cannot remove {}", path.display()))
                }
                _ => Ok(()),
            },
            Act::Keep { from, to } => keep(from, to).with_context(|| write(to)),
            Act::Unlocked { call, .. } => self.unlocked(call),
            Act::Record(_) => self.record(),
            Act::Show => self.show(),
            Act::Configure { file, text } => {
                let folder = file.parent().unwrap_or(Path::new("/"));
                make_shared(folder)
                    .and_then(|()| replace(file, text.as_bytes(), 0o644, Durability::Synced))
                    .with_context(|| write(file))
            }
            Act::Table { file, line } => {
                let verb = if line.write_to(file)? { "added a line to" } else { "left as it is:" };
                log::info!("{verb} {}", file.display());
                Ok(())
            }
            Act::Enable(_) => {
                enrol::enable(self.exec, self.drive);
                Ok(())
            }
            Act::Finish => {
                enrol::remember(&Ledger::new(&self.paths.ledger()), self.drive, None);
                note::forget(self.paths, self.drive.name.as_str())
            }
        }
    }

    fn run(&self, call: &Invocation) -> Result<(), anyhow::Error> {
        let mut waiting = Waiting { began: Instant::now(), told: Instant::now() };
        Ok(self.exec.stream(call, &mut waiting).map(drop)?)
    }

    /// Waits until the kernel has the partition, which it is asked to look for again meanwhile.
    fn wait_for(&self, part: &Path, start: u64, size: u64) -> Result<(), anyhow::Error> {
        let began = Instant::now();
        loop {
            match self.disk.part_at(start, size) {
                Some(found) if found == *part => return Ok(()),
                Some(other) => {
                    return Err(anyhow!("the partition is called {}, not {}", other.display(), part.display()));
                }
                None if began.elapsed() > PART_LIMIT => {
                    return Err(anyhow!("the kernel does not show {}", part.display()));
                }
                None => {}
            }
            let call = Invocation::new("blockdev").arg("--rereadpt").arg(&self.disk.path).limit(PART_LIMIT);
            // It is refused as long as somebody looks at the old partitions, such as udev.
            if let Err(error) = self.exec.run(&call) {
                log::debug!("{error}");
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn unlocked(&self, call: &Invocation) -> Result<(), anyhow::Error> {
        let target = Target::from(self.drive);
        let (uuid, unlock) = target.luks.as_ref().context("the drive is not encrypted")?;
        luks::clear_leftover(self.exec, uuid, &self.config.external.mapping)?;
        let mapping = Mapping::obtain(self.exec, uuid, &self.config.external.mapping, unlock)?;
        let done = self.run(call);
        Ok(teardown::join(done.map_err(boxed), mapping.close())?)
    }

    fn record(&self) -> Result<(), anyhow::Error> {
        let record = DriveRecord::new(self.repository, self.drive.name.as_str());
        Session::with(self.exec, self.config, &Target::from(self.drive), Access::Write, |root| record.write(root))
    }

    fn show(&self) -> Result<(), anyhow::Error> {
        let passphrase = self.passphrase.context("there is no passphrase")?;
        log::warn!(
            "this is the recovery passphrase of the drive {}, which is kept nowhere: write it down, away from this machine \
             and from the drive",
            self.drive.name.as_str()
        );
        Ok(logging::result(&format!("{}\n", passphrase.words()))?)
    }
}

/// Makes a key file, whole or not at all; one that is there is an earlier run's, and opens nothing yet.
fn make_key(path: &Path) -> Result<(), anyhow::Error> {
    let (folder, name) =
        path.parent().zip(path.file_name()).with_context(|| format!("{} has no name", path.display()))?;
    let folder = Dir::open(folder)?;
    let name = Path::new(name);
    if folder.stat(name)?.is_some() {
        let key = folder.read(name, 1 << 20)?.unwrap_or_default();
        return if key.len() >= 32 {
            Ok(())
        } else {
            Err(anyhow!("{} is there already, and too short for a key", path.display()))
        };
    }
    let mut key = [0; KEY_BYTES];
    luks::fill_random(&mut key)?;
    Ok(folder.replace(name, &key, 0o400, Durability::Synced)?)
}

/// Puts a file in its place when the disk has it.
fn keep(from: &Path, to: &Path) -> Result<(), anyhow::Error> {
    File::open(from)?.sync_all()?;
    fs::rename(from, to)?;
    let folder = to.parent().context("it is in no folder")?;
    Ok(Dir::open(folder)?.sync()?)
}

/// Tells now and then that a program is still at work.
struct Waiting {
    began: Instant,
    told: Instant,
}

impl Observer for Waiting {
    fn out(&mut self, line: &str) {
        log::debug!("{line}");
    }

    fn err(&mut self, line: &str) {
        log::debug!("{line}");
    }

    fn tick(&mut self) -> Result<(), String> {
        if self.told.elapsed() > PATIENCE {
            self.told = Instant::now();
            log::info!("still at work, for {}", human::duration(self.began.elapsed()));
        }
        Ok(())
    }
}
