//! One call of rsync: what it is told, and what its end means.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use phobos_core::exec::{Exec, ExecError, Invocation};
use phobos_core::fs::Times;
use phobos_core::human;
use phobos_core::mount;
use phobos_core::progress::{Backoff, ChangeKind, CopyEvent, Halt, Progress};
use phobos_core::rsync::{self, Fetched};
use phobos_core::sandbox::{Alias, Control};
use phobos_site::config::Size;
use phobos_site::exit::{Exit, Stop};
use phobos_site::pull::{Connection, Host, Origin, Tolerated};

use crate::allowed;
use crate::ending::{self, Complaints, Ending};
use crate::parts::Scratch;
use crate::remote::{self, Files};
use crate::reserve::Keeper;
use crate::screen::Screen;
use crate::tallies::Tallies;

/// How long a host may say nothing, in seconds: rsync's `--timeout`.
pub(crate) const SILENCE: u32 = 600;

/// The width of a bar in characters.
const BAR_WIDTH: u8 = 20;

/// How often systemd is told how far a host has come, at most.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// rsync's exit code for deletions that were kept back (rsync(1), "EXIT VALUES").
const KEPT_BACK: i32 = 25;

/// What a copy may delete, always last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletions {
    /// Nothing, and it does not look for it.
    Never,
    /// Nothing; it counts what it would delete.
    KeptBack,
    /// This much, folders included.
    AtMost(u64),
    /// All that the host no longer has.
    All,
    /// Nothing, and it copies nothing: it says what it would do.
    DryRun,
}

/// One connection of a host, ready to be copied from.
#[derive(Debug)]
pub(crate) struct Transfer<'a> {
    /// The host.
    pub(crate) host: &'a Host,
    /// What is copied with one rsync.
    pub(crate) connection: &'a Connection<'a>,
    /// The holding space.
    pub(crate) space: &'a Path,
    /// How finely it keeps times.
    pub(crate) times: Times,
    /// The names of what is phobos's own in it.
    pub(crate) scratch: &'a Scratch,
    /// Who receives, for sources elsewhere.
    pub(crate) alias: Option<&'a Alias>,
    /// What ssh reads, as the one who runs it can.
    pub(crate) files: Files<'a>,
    /// How much of ssh's log earlier passes have heard, where it has one.
    pub(crate) heard: &'a Cell<u64>,
    /// The program that confines.
    pub(crate) program: &'a Path,
    /// When the host's time is over.
    pub(crate) deadline: Instant,
    /// Whether changes are printed.
    pub(crate) echoes: bool,
    /// Ends the copy when it takes too much room; none where nothing is written.
    pub(crate) keeper: Option<&'a Keeper<'a>>,
}

/// What a copy did.
#[derive(Debug)]
pub(crate) struct Copied {
    /// By rsync's own statistics.
    pub(crate) fetched: Fetched,
    /// By source.
    pub(crate) tallies: Tallies,
    /// What rsync complained of.
    pub(crate) complaints: Complaints,
    /// Whether rsync itemized any change.
    pub(crate) has_changes: bool,
}

impl Transfer<'_> {
    /// Copies, and deletes what `deletions` allows.
    ///
    /// # Errors
    ///
    /// When rsync could not be started, was killed, or took too long; its exit codes are no errors here.
    pub(crate) fn run(&self, exec: &dyn Exec, screen: &Screen, deletions: Deletions) -> Result<Copied, ExecError> {
        let landing = self.host.landing(self.connection.origin);
        let below = |path: PathBuf| path.strip_prefix(&landing).map(Path::to_owned).unwrap_or(path);
        let mut listener = Listener {
            host: self.host,
            screen,
            space: self.space,
            backoff: Backoff::default(),
            told: None,
            tallies: Tallies::new(self.connection.sources.iter().map(|source| below(source.place()))),
            complaints: Complaints::default(),
            echoes: self.echoes,
            has_changes: false,
            keeper: self.keeper,
        };
        screen.show(&self.host.name, &format!("asking {}", self.connection.origin));
        let left = self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let call = self.invocation(deletions).limit(left);
        let fetched = rsync::fetch(exec, &call, &mut |event| listener.take(event))?;
        if let Some(control) = self.files.control {
            let (said, end) = control.read(self.heard.get());
            self.heard.set(end);
            said.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| listener.complaints.add(line));
        }
        let Listener { tallies, complaints, has_changes, .. } = listener;
        Ok(Copied { fetched, tallies, complaints, has_changes })
    }

    /// The call, confined unless the sources are on this machine.
    fn invocation(&self, deletions: Deletions) -> Invocation {
        let call = Invocation::new("rsync").args(self.arguments(deletions)).bound();
        let secrets: &[&Path] = match self.connection.origin {
            Origin::Local => return call,
            Origin::Daemon { .. } => &[],
            Origin::Ssh { .. } => &[self.files.identity, self.files.known_hosts],
        };
        let control = self.files.control.filter(|_| !secrets.is_empty()).map(Control::folder);
        allowed::confinement(self.host, self.connection.origin, self.space, self.alias.cloned(), secrets, control)
            .confine(self.program, call)
    }

    fn arguments(&self, deletions: Deletions) -> Vec<OsString> {
        let host = self.host;
        let mut args: Vec<String> = ["--archive", "--relative", "--sparse"].map(str::to_owned).to_vec();
        let switches = [
            ("--numeric-ids", host.numeric_ids),
            ("--hard-links", host.hard_links),
            ("--acls", host.acls),
            ("--xattrs", host.xattrs),
            ("--one-file-system", host.one_file_system),
        ];
        args.extend(switches.iter().filter(|(_, wanted)| *wanted).map(|(switch, _)| (*switch).to_owned()));
        args.extend(rsync::window(self.times).map(str::to_owned));
        args.extend(host.filter_files.iter().map(|file| format!("--filter=merge {}", file.display())));
        args.extend(host.exclude.iter().map(|pattern| format!("--exclude={}", pattern.as_str())));
        args.extend(host.bandwidth_limit.as_ref().map(|limit| format!("--bwlimit={}", in_bytes(limit))));
        args.extend([format!("--partial-dir={}", self.scratch.partial()), format!("--timeout={SILENCE}")]);
        let landing = host.landing(self.connection.origin);
        if landing.as_os_str().is_empty() {
            let temporary = self.scratch.temporary();
            args.push(format!("--filter=protect /{temporary}/"));
            args.extend((deletions != Deletions::DryRun).then(|| format!("--temp-dir={temporary}")));
        }
        args.extend(match deletions {
            Deletions::Never => vec![],
            Deletions::KeptBack => vec!["--delete-after".to_owned(), "--max-delete=0".to_owned()],
            Deletions::AtMost(files) => vec!["--delete-after".to_owned(), format!("--max-delete={files}")],
            Deletions::All => vec!["--delete-after".to_owned()],
            Deletions::DryRun if host.delete => vec!["--delete-after".to_owned(), "--dry-run".to_owned()],
            Deletions::DryRun => vec!["--dry-run".to_owned()],
        });
        args.extend(rsync::told(true).map(str::to_owned));
        args.push("--out-format=%i %n%L".to_owned());
        match self.connection.origin {
            Origin::Ssh { .. } => {
                // rsync itself escapes what the host's shell would expand; `--secluded-args` would need no escaping, but
                // a key that is restricted with rrsync refuses it.
                args.extend(["--no-old-args", "--no-secluded-args"].map(str::to_owned));
                args.push(format!("--rsh={}", rsync::rsh(&remote::ssh(host, self.files))));
            }
            Origin::Daemon { .. } => args.push("--no-motd".to_owned()),
            Origin::Local => {}
        }
        let mut target: OsString = if *self.connection.origin == Origin::Local {
            // Root receives them as they are, and a device would be one here.
            args.push("--no-devices".to_owned());
            self.space.join(&landing).into()
        } else {
            // Owners and modes are kept beside the files, because an ordinary user receives them, and devices with them: a file
            // without content here. It is in the holding
            // space, and need not get through the folders above.
            args.push("--fake-super".to_owned());
            Path::new(".").join(&landing).into()
        };
        if !landing.as_os_str().is_empty() {
            // The folder is a host's to give and to take: nothing is made in it but by rsync itself.
            args.push("--mkpath".to_owned());
        }
        if !target.as_encoded_bytes().ends_with(b"/") {
            target.push("/");
        }
        args.push("--".to_owned());
        args.extend(host.arguments(self.connection));
        args.into_iter().map(OsString::from).chain([target]).collect()
    }

    /// What to say of an error that came before rsync's own end.
    pub(crate) fn stopped(&self, error: ExecError) -> anyhow::Error {
        match error {
            ExecError::TimedOut { .. } => {
                let limit = humantime::format_duration(self.host.time_limit.0);
                Stop::new(Exit::Failed, format!("cannot copy from {}: it took longer than {limit}", self.from())).into()
            }
            ExecError::Stopped { reason, .. } => {
                Stop::new(Exit::Failed, format!("cannot copy from {}: {reason}", self.from())).into()
            }
            other => anyhow::Error::new(other).context(format!("cannot copy from {}", self.from())),
        }
    }

    /// What the end of a copy means: a note, if there is something to be known; [`KEPT_BACK`] is no failure here.
    ///
    /// # Errors
    ///
    /// When the copy is no success.
    pub(crate) fn verdict(&self, copied: &Copied) -> Result<Option<String>, anyhow::Error> {
        let code = copied.fetched.code;
        let complaints = &copied.complaints;
        if code == 0 || code == KEPT_BACK {
            return Ok(None);
        }
        if let Some(line) = &complaints.missing {
            // However many files may be missing, a source that is gone is none that was copied.
            let text = format!("cannot copy from {}: a source is not there: {line}", self.from());
            return Err(Stop::new(Exit::Failed, text).into());
        }
        if let Some(tolerated) = self.host.success.iter().find(|tolerated| tolerated.code() == code) {
            let what = match tolerated {
                Tolerated::Partial => "could not be copied",
                Tolerated::Vanished => "vanished while they were read",
            };
            return Ok(Some(format!("some files {what}: {}", complaints.summary())));
        }
        let Ending { exit, text } = ending::of(code, complaints, self.host.name.as_str());
        Err(Stop::new(exit, format!("cannot copy from {}: {text}", self.from())).into())
    }

    /// What is copied, for messages.
    fn from(&self) -> String {
        let more = self.connection.sources.len().saturating_sub(1);
        let first = self.host.arguments(self.connection).into_iter().next().unwrap_or_default();
        if more > 0 { format!("{first} and {more} more") } else { first }
    }
}

/// rsync takes a number without a unit for KiB here, but for bytes everywhere else.
pub(crate) fn in_bytes(limit: &Size) -> String {
    let text = limit.as_str();
    if text.ends_with(|c: char| c.is_ascii_digit()) { format!("{text}B") } else { text.to_owned() }
}

/// Hears what one rsync tells.
struct Listener<'a> {
    host: &'a Host,
    screen: &'a Screen,
    space: &'a Path,
    backoff: Backoff,
    /// When systemd was told.
    told: Option<Instant>,
    tallies: Tallies,
    complaints: Complaints,
    echoes: bool,
    has_changes: bool,
    keeper: Option<&'a Keeper<'a>>,
}

impl Listener<'_> {
    fn take(&mut self, event: CopyEvent<'_>) -> Result<(), Halt> {
        match event {
            CopyEvent::Progress(progress) => {
                if let Some(keeper) = self.keeper {
                    keeper.brings(progress.done);
                }
                self.show(&progress);
            }
            CopyEvent::Change(change) => {
                if let (Some(keeper), ChangeKind::Created) = (self.keeper, change.kind) {
                    keeper.makes_file();
                }
                self.tallies.take(change);
                self.has_changes = true;
                if self.echoes {
                    phobos_site::logging::say(format_args!("{}: {change}", self.host.name));
                }
            }
            CopyEvent::Warning(line) => self.complaints.add(line),
            CopyEvent::Tick => return self.keeper.map_or(Ok(()), Keeper::check).map_err(Halt::Because),
            _ => {}
        }
        Ok(())
    }

    fn show(&mut self, progress: &Progress) {
        let is_stale = self.told.is_none_or(|told| told.elapsed() >= STATUS_PAUSE);
        let is_logged = !self.screen.is_watched() && self.backoff.is_due();
        if !(self.screen.is_watched() || is_stale || is_logged) {
            return;
        }
        let room = mount::usage(self.space).map(|usage| format!(", {} free", human::size(usage.available)));
        let text = format!("copied {}{}", progress.words(), room.unwrap_or_default());
        if self.screen.is_watched() {
            self.screen.show(&self.host.name, &format!("{} {text}", progress.bar(BAR_WIDTH)));
        } else if is_stale {
            self.told = Some(Instant::now());
            self.screen.show(&self.host.name, &text);
        }
        if is_logged {
            self.screen.say(log::Level::Info, &self.host.name, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phobos_core::exec::fake::Script;
    use phobos_site::config::Config;

    fn host(text: &str) -> Host {
        let text = format!("[[pull]]\nhost = 'luv'\n{text}");
        Config::parse(Path::new("/etc/phobos/phobos.toml"), &text).unwrap().pull.remove(0)
    }

    fn files() -> Files<'static> {
        Files {
            known_hosts: Path::new("/run/phobos/pull/.luv.hosts"),
            identity: Path::new("/run/phobos/pull/luv"),
            control: None,
        }
    }

    fn call(text: &str, deletions: Deletions) -> String {
        let host = host(text);
        let script = Script::new().ok();
        let transfer = Transfer {
            host: &host,
            connection: &host.connections()[0],
            space: Path::new("/backup/holding/luv"),
            times: Times::Nanoseconds,
            scratch: &Scratch::try_from("77".to_owned()).unwrap(),
            alias: None,
            files: files(),
            heard: &Cell::new(0),
            program: Path::new("/usr/local/bin/phobos-pull"),
            deadline: Instant::now() + Duration::from_secs(60),
            echoes: false,
            keeper: None,
        };
        transfer.run(&script, &Screen::new(), deletions).unwrap();
        script.calls().remove(0)
    }

    #[test]
    fn rsync_is_told_everything_that_matters() {
        let ssh = remote::ssh(&host("source = ['a:/x']"), files());
        assert_eq!(
            call("source = ['root@luv:/home/', 'root@luv:/etc/']", Deletions::KeptBack),
            format!(
                "rsync --archive --relative --sparse --numeric-ids --hard-links --acls --xattrs --modify-window=-1 \
                 --partial-dir=.phobos-partial-77 --timeout=600 '--filter=protect /.phobos-temp-77/' --temp-dir=.phobos-temp-77 --delete-after --max-delete=0 --outbuf=Line \
                 --no-human-readable --info=progress2,stats2,nonreg0 '--out-format=%i %n%L' --no-old-args \
                 --no-secluded-args '--rsh={}' --fake-super -- root@luv:/home/ :/etc/ ./",
                rsync::rsh(&ssh).replace('\'', r"'\''")
            )
        );
        let all = "source = ['/srv/']\nnumeric-ids = false\nhard-links = false\nacls = false\nxattrs = false\n\
                   one-file-system = true\nexclude = ['- x']\nfilter-files = ['/etc/phobos/f f']\nbandwidth-limit = '5'";
        assert_eq!(
            call(all, Deletions::Never),
            "rsync --archive --relative --sparse --one-file-system --modify-window=-1 '--filter=merge /etc/phobos/f f' '--exclude=- x' \
             --bwlimit=5B --partial-dir=.phobos-partial-77 --timeout=600 '--filter=protect /.phobos-temp-77/' --temp-dir=.phobos-temp-77 --outbuf=Line --no-human-readable \
             --info=progress2,stats2,nonreg0 '--out-format=%i %n%L' --no-devices -- /srv/ /backup/holding/luv/"
        );
        let daemon = call("source = ['rsync://luv/music/']\nbandwidth-limit = '5MiB'", Deletions::AtMost(7));
        assert!(daemon.contains(" --bwlimit=5MiB ") && daemon.contains(" --delete-after --max-delete=7 "), "{daemon}");
        assert!(daemon.ends_with(" --no-motd --fake-super --mkpath -- rsync://luv/music/ ./music/"), "{daemon}");
        let dry_run = call("source = ['/srv/']\ndelete = false", Deletions::DryRun);
        assert!(dry_run.contains(" --dry-run ") && !dry_run.contains("--delete"), "{dry_run}");
    }
}
