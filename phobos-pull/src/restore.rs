//! `phobos-pull restore`: gives files back from a host's holding space, here, in an archive or on an off-site drive, with the owners,
//! modes and links that it keeps beside them.
//!
//! rsync writes into a folder of root's own below the one that was named, where nobody else gets in; what is whole and was looked
//! at is then put in place by renames, relative to descriptors, and never over anything.

mod archived;
mod asked;
mod kept;
mod origin;
mod place;
mod sending;
mod stage;
mod target;
mod told;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use phobos_core::exec::{self, ExecError, Invocation, System};
use phobos_core::fs::Dir;
use phobos_core::progress::{Backoff, CopyEvent};
use phobos_core::rsync::{self, Fetched};
use phobos_core::signal::Signals;
use phobos_core::teardown;
use phobos_site::archives;
use phobos_site::config::Config;
use phobos_site::exit::{Exit, Stop};
use phobos_site::job::{Ending, Frame, Spec, Visibility};
use phobos_site::led::Board;
use phobos_site::lock::{LockName, Mode};
use phobos_site::paths::Paths;
use phobos_site::pull::{Host, HostName};

use self::archived::LATEST;
use self::asked::Asked;
use self::origin::{Opened, Origin};
use self::place::Placed;
use self::stage::Stage;
use self::target::Target;
use crate::ending::Complaints;
use crate::host::boxed;
use crate::mark::Marks;
use crate::screen::Screen;
use crate::{Cli, authorize, pull, users};

/// The job's name in the history and, with the host's name, on the light.
const NAME: &str = "restore";

/// What replaces what was left.
const OVERWRITE: &str = "`--overwrite` replaces files";

/// The width of a bar in characters.
const BAR_WIDTH: u8 = 20;

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Args {
    /// The host
    #[arg(value_name = "HOST")]
    host: HostName,
    /// Give these back: paths on the host, such as /home/anna/photos
    #[arg(value_name = "PATH", required_unless_present_any = ["list", "from"])]
    paths: Vec<PathBuf>,
    /// Give them back from here: `holding`, `archive NAME` of the backup repository (`latest` is the newest), or `drive NAME`, which
    /// is opened for it and closed again
    #[arg(long, value_name = "ORIGIN", num_args = 1..=2, action = clap::ArgAction::Set)]
    from: Vec<String>,
    /// Put them into this folder, each by its last name; `HOST:/FOLDER` is a folder on the host itself, for which `phobos-pull
    /// authorize HOST --restore` has to be run first
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    to: PathBuf,
    /// Show what there is instead
    #[arg(long, conflicts_with_all = ["to", "overwrite", "privileged", "dry_run"])]
    list: bool,
    /// Put them in place of files that are there already
    #[arg(long)]
    overwrite: bool,
    /// Give devices back too, and programs that run as their owner
    #[arg(long)]
    privileged: bool,
    /// Say what would be given back, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Gives files back, or shows what there is.
///
/// # Errors
///
/// When what is asked for is not there, or could not be given back as a whole; no file has its final name then that is not whole.
pub(crate) fn run(cli: &Cli, config: &Config, args: &Args) -> Result<(), anyhow::Error> {
    let host = pull::find(config, &args.host)?;
    let (origin, more) = origin::parse(&args.from)?;
    let asked: Vec<_> = args.paths.iter().cloned().chain(more).collect();
    if asked.is_empty() && !args.list {
        return Err(Stop::new(Exit::Usage, "say what is to be given back: paths, as the host has them").into());
    }
    if origin == Origin::Archive(None) && !(args.list && asked.is_empty()) {
        let text =
            format!("--from archive: name it; `phobos-pull restore {} --list --from archive` shows them", host.name);
        return Err(Stop::new(Exit::Usage, text).into());
    }
    let asked = asked::checked(&asked, args.list)?;
    exec::require(&["rsync", "mount", "setpriv"])?;
    if matches!(origin, Origin::Archive(_)) {
        exec::require(&["borg"])?;
    }
    // Before the namespace is entered: it is a folder of the machine outside.
    let target = (!args.list).then(|| Target::open(&args.to, &host)).transpose()?;
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let wait = cli.lock_wait.unwrap_or(config.locks.wait.0);
    let deadline = Instant::now().checked_add(wait).context("the lock wait is too long")?;
    let paths = Paths::from_environment();
    let caught = || signals.caught();
    let frame = Frame::new(&system, &caught, &paths, Board::system().lit_by(cli.config.as_deref()), deadline);
    pull::enter_namespace(config, &system, &signals, &frame.locks)?;
    let light = format!("{NAME}-{}", host.name);
    let restore = Restore { config, host: &host, system: &system, screen: &Screen::new(), args, paths: &paths };
    let target = target.as_ref();
    let is_sent = matches!(target, Some(Target::Host(..)));
    if is_sent {
        restore.write_key()?;
    }
    // It only reads the space: a mirror and Borg go on, and so does another restore, but no pull. One that goes to the host is alone:
    // what is at work for the host then is its own.
    let lock = |mode| frame.lock(&host.lock(), mode, &light, None);
    let drive = match &origin {
        Origin::Archive(name) => {
            let _own = is_sent.then(|| lock(Mode::Exclusive)).transpose()?;
            // Borg may not change it meanwhile; nothing that only reads it is kept waiting.
            let _lock = frame.lock(&LockName::Repository, Mode::Shared, &light, None)?;
            let repository = &config.backup.repository;
            return restore.archives(repository, name.as_deref(), &asked, target, &frame, light.clone());
        }
        Origin::Holding => None,
        Origin::Drive(name) => Some(name),
    };
    let _lock = lock(if is_sent { Mode::Exclusive } else { Mode::Shared })?;
    let opened = Opened::open(&system, cli.config.as_deref(), config, drive)?;
    let result = match opened.repository_alone(&config.backup) {
        Ok(Some(repository)) => {
            log::info!("the drive has no holding spaces: what its newest archive has is taken");
            restore.archives(&repository, Some(LATEST), &asked, target, &frame, light.clone())
        }
        Ok(None) => restore.kept(&opened, &asked, target, &frame, light.clone()),
        Err(error) => Err(error),
    };
    Ok(teardown::join(result.map_err(boxed), opened.close().map_err(boxed))?)
}

/// What a restore works with.
struct Restore<'a> {
    config: &'a Config,
    host: &'a Host,
    system: &'a System<'a>,
    screen: &'a Screen,
    args: &'a Args,
    paths: &'a Paths,
}

/// What is copied, and from whose holding spaces.
struct Copied<'a> {
    found: &'a [Asked],
    /// Where the marks of pulls are that say what a killed one has left.
    holding: &'a Path,
    /// Whether it is there for this restore alone: what was copied goes at once, so that there is room.
    is_scratch: bool,
}

impl Restore<'_> {
    /// Shows what there is in a holding space, or gives it back into `target`. Nothing of the space is held open afterwards.
    fn kept(
        &self,
        opened: &Opened<'_>,
        asked: &[PathBuf],
        target: Option<&Target<'_>>,
        frame: &Frame<'_>,
        light: String,
    ) -> Result<(), anyhow::Error> {
        let Self { host, args, .. } = *self;
        let space = opened.space(host)?;
        let found = asked::found(&space, &host.name, &opened.shown, asked.to_vec())?;
        let Some(target) = target else { return told::list(&space, &found, args.json) };
        let target = match target {
            Target::Here(target) => target,
            Target::Host(way, _) => {
                return self.to_host(frame, light, || self.send(way, &space, asked, &opened.holding()));
            }
        };
        if args.dry_run {
            return told::rehearse(&found, target, args.overwrite, args.json);
        }
        self.job(frame, light, || {
            // Nobody of the host's own user may change what is read.
            self.sweep(space.stat_self()?.uid)?;
            let copied = Copied { found: &found, holding: &opened.holding(), is_scratch: false };
            self.give_back(&copied, Stage::make(target)?, target)
        })
    }

    /// Opens the archives of a repository, and shows them, or what one of them has, or gives that back into `target`.
    fn archives(
        &self,
        repository: &Path,
        name: Option<&str>,
        asked: &[PathBuf],
        target: Option<&Target<'_>>,
        frame: &Frame<'_>,
        light: String,
    ) -> Result<(), anyhow::Error> {
        let opened =
            archived::Opened::open(self.system, repository, self.config, self.paths, self.host, frame.interrupted)?;
        let result = match name {
            Some(name) => self.archived(&opened, name, asked, target, frame, light),
            None => opened.all().and_then(|all| told::archives(&all, self.args.json)),
        };
        Ok(teardown::join(result.map_err(boxed), opened.close().map_err(boxed))?)
    }

    /// Shows what an archive has, or gives it back into `target`.
    fn archived(
        &self,
        opened: &archived::Opened<'_>,
        name: &str,
        asked: &[PathBuf],
        target: Option<&Target<'_>>,
        frame: &Frame<'_>,
        light: String,
    ) -> Result<(), anyhow::Error> {
        let Self { host, args, .. } = *self;
        let archive = opened.find(name)?;
        let mut lines = told::Archived::default();
        let Some(target) = target else {
            opened.look(&archive, asked, &mut |path, entry| lines.list(asked, path, entry))?;
            return lines.print(args.json);
        };
        let (way, target) = (if let Target::Host(way, _) = target { Some(way) } else { None }, target.here()?);
        let mut failed = None;
        let found = opened.look(&archive, asked, &mut |path, entry| {
            if !args.dry_run || failed.is_some() || way.is_some() {
                return;
            }
            let Some(path) = archived::lands(asked, path) else { return };
            failed = lines.rehearse(&path, entry, target, args.overwrite).err();
        })?;
        let extract = |stage: &Stage| opened.extract(&archive, asked, &found, &stage.scratch(archives::user()?)?);
        if let Some(way) = way {
            return self.to_host(frame, light, || {
                let stage = Stage::make(target)?;
                let space = extract(&stage)?;
                let placed = self.send(way, &space, asked, &self.config.backup.holding)?;
                drop(space);
                stage.close()?;
                Ok(placed)
            });
        }
        if args.dry_run {
            return failed.map_or_else(|| lines.print(args.json), Err);
        }
        self.job(frame, light, || {
            let stage = Stage::make(target)?;
            let space = extract(&stage)?;
            let place = format!("archive {}", archive.name);
            let found = asked::found(&space, &host.name, &place, asked.to_vec())?;
            let copied = Copied { found: &found, holding: &self.config.backup.holding, is_scratch: true };
            self.give_back(&copied, stage, target)
        })
    }

    /// Gives files back to the host, or says what would be. The key has done its work then.
    fn to_host(
        &self,
        frame: &Frame<'_>,
        light: String,
        work: impl FnOnce() -> Result<Placed, anyhow::Error>,
    ) -> Result<(), anyhow::Error> {
        if self.args.dry_run {
            return work().map(drop);
        }
        self.job(frame, light, work)?;
        authorize::remove_restore_key(self.config, self.host)?;
        log::info!(
            "{}: the key that could write there is gone; its line in .ssh/authorized_keys there can go, too",
            self.host.name
        );
        Ok(())
    }

    /// Does the work of a restore in the frame of a job, and says what came of it.
    fn job(
        &self,
        frame: &Frame<'_>,
        light: String,
        work: impl FnOnce() -> Result<Placed, anyhow::Error>,
    ) -> Result<(), anyhow::Error> {
        let Self { host, screen, args, .. } = *self;
        let say = |text: &str| screen.say(log::Level::Info, &host.name, text);
        let visibility = if screen.is_watched() { Visibility::All } else { Visibility::Failures };
        let object = host.name.as_str();
        let spec = Spec { name: NAME, object, light, working: String::new(), visibility, expected_end: None };
        // A mistake in what was asked for has been told by now, to whom it concerns: it is no failure of a job.
        let job = frame.begin(spec, None, &say);
        let result = work();
        screen.end(&host.name);
        job.end(&match &result {
            Ok(placed) => Ending { bytes: Some(placed.bytes), ..Ending::default() },
            Err(error) => Ending::failed(error.as_ref()),
        });
        let placed = result?;
        screen.conclude(&placed.summary());
        log::info!("{}: {}", host.name, placed.summary());
        if args.json { told::print(&placed.printed()) } else { Ok(()) }
    }

    /// Copies what was found beside its place, looks at it, and puts it in place.
    fn give_back(&self, copied: &Copied<'_>, stage: Stage, target: &Dir) -> Result<Placed, anyhow::Error> {
        let bytes = self.copy(copied, &stage)?;
        let held_back = if self.args.privileged { Vec::new() } else { stage.disarm()? };
        // Nothing has its final name before it is on the disk.
        stage.tree().sync_file_system()?;
        let mut placed = Placed { bytes, held_back, ..Placed::default() };
        let overwrite = if self.args.overwrite { place::Over::Files } else { place::Over::Nothing };
        placed.put(stage.tree(), target, overwrite)?;
        stage.close()?;
        target.sync_file_system()?;
        let kinds = "a folder is never replaced, nor by one";
        placed.tell(&self.host.name, if self.args.overwrite { kinds } else { OVERWRITE });
        Ok(placed)
    }

    /// Copies into the stage; returns how many bytes.
    fn copy(&self, copied: &Copied<'_>, stage: &Stage) -> Result<u64, anyhow::Error> {
        let mut call = Invocation::new("rsync").args(self.arguments(copied.holding));
        if copied.is_scratch {
            call = call.arg("--remove-source-files");
        }
        let call = call.arg("--");
        let call = call.args(copied.found.iter().map(|asked| by_descriptor(asked.above.as_fd(), &asked.last)));
        let call = call.arg(by_descriptor(stage.tree().as_fd(), Path::new(""))).bound().only_env(&["PATH"]);
        let mut complaints = Complaints::default();
        let fetched = self
            .watch(&call, &mut complaints, &mut |_| {})
            .with_context(|| format!("cannot copy what {} has; nothing was put in place", self.host.name))?;
        if fetched.code != 0 {
            let why = rsync::meaning(fetched.code).unwrap_or("rsync has failed");
            let text = format!(
                "cannot copy what {} has: {why} ({}); nothing was put in place",
                self.host.name,
                complaints.summary()
            );
            return Err(Stop::new(Exit::Failed, text).into());
        }
        Ok(fetched.stats.bytes_transferred)
    }

    /// Whether the user is one that a holding space belongs to, and nothing else.
    fn is_of_a_host(&self, user: u32) -> bool {
        let base = self.config.backup.uid_base;
        (base..base.saturating_add(crate::space::HOSTS)).contains(&user)
    }

    /// Ends all processes of the user, if that is one that a holding space belongs to.
    fn sweep(&self, user: u32) -> Result<(), anyhow::Error> {
        if !self.is_of_a_host(user) {
            return Ok(());
        }
        let program = std::env::current_exe().context("cannot find this program")?;
        users::sweep(self.system, &program, user)
    }

    /// Runs an rsync, shows how far it has come, hears what it complains of, and passes the rest to `see`.
    fn watch(
        &self,
        call: &Invocation,
        complaints: &mut Complaints,
        see: &mut dyn FnMut(CopyEvent<'_>),
    ) -> Result<Fetched, ExecError> {
        let mut backoff = Backoff::default();
        rsync::fetch(self.system, call, &mut |event| {
            match event {
                CopyEvent::Progress(progress) => {
                    if self.screen.is_watched() {
                        let bar = progress.bar(BAR_WIDTH);
                        self.screen.show(&self.host.name, &format!("{bar} copied {}", progress.words()));
                    } else if backoff.is_due() {
                        let text = format!("copied {}", progress.words());
                        self.screen.show(&self.host.name, &text);
                        self.screen.say(log::Level::Info, &self.host.name, &text);
                    }
                }
                CopyEvent::Warning(line) => complaints.add(line),
                other => see(other),
            }
            Ok(())
        })
    }

    /// What a pull that was killed has left is not the host's.
    fn not_the_hosts(&self, holding: &Path) -> Vec<String> {
        let scratch = Marks::new(holding).read(&self.host.name).map(|mark| mark.scratch);
        let names = scratch.map(|scratch| [scratch.temporary(), scratch.partial()]);
        names.into_iter().flatten().map(|name| format!("--exclude={name}/")).collect()
    }

    fn arguments(&self, holding: &Path) -> Vec<String> {
        let mut args: Vec<String> =
            ["--archive", "--hard-links", "--acls", "--xattrs", "--numeric-ids", "--sparse", "--modify-window=-1"]
                .map(str::to_owned)
                .to_vec();
        if !self.host.is_local() {
            // What was kept beside the files is undone on the way.
            args.extend(["--fake-super", "-M--super"].map(str::to_owned));
        }
        args.extend(self.not_the_hosts(holding));
        args.extend(rsync::told(true).map(str::to_owned));
        args
    }
}

/// `name` in a folder that is held open, for a program of ours: it gets there whatever the folder is called by now, and in
/// whichever mount namespace it is.
fn by_descriptor(folder: BorrowedFd<'_>, name: &Path) -> PathBuf {
    // With nothing behind it, it ends in a slash: what is in the folder.
    Path::new("/proc").join(std::process::id().to_string()).join("fd").join(folder.as_raw_fd().to_string()).join(name)
}
