//! Gives files back to their host over ssh: with a key of their own that may write there for a while, by an rsync that is confined as
//! a pull's.
//!
//! A folder that the host has stays as it is. So the host is asked first what it lacks, by a dry run, and then only that is sent.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use phobos_core::exec::Invocation;
use phobos_core::fs::{Dir, shown, shown_text};
use phobos_core::progress::{ChangeKind, CopyEvent};
use phobos_core::rsync::{self, Fetched};
use phobos_core::sandbox::{Alias, Lent};
use phobos_core::teardown;
use phobos_site::archives;
use phobos_site::exit::{Exit, Stop};

use super::place::{self, Placed};
use super::target::Way;
use super::{OVERWRITE, Restore, kept, told};
use crate::ending::{self, Complaints, Ending, PARTIAL};
use crate::host::boxed;
use crate::remote;
use crate::secrets::{RESTORE, Secrets, lent_name};
use crate::space::user_of_checks;
use crate::transfer::{SILENCE, in_bytes};
use crate::{allowed, check, users};

/// What keeps rights from what is sent unless they are asked for: set-user-ID and set-group-ID bits of files, and capabilities, which
/// rsync keeps under another name. With a filter of its own rsync no longer leaves out what it leaves out otherwise (rsync(1), "--xattrs").
const DISARMED: [&str; 4] = [
    "--chmod=Fug-s",
    "--filter=-x user.rsync.security.capability",
    "--filter=-x security.capability",
    "--filter=-x system.*",
];

/// What rrsync says where another one has its folder's lock: a key that may write is used by one at a time (rrsync's `lock_or_die`).
const ANOTHER: &str = "Another instance of rrsync";

/// For how long the rrsync of the call before is waited for, and after what time it is asked again.
const GONE: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(500);

/// What is to be sent.
#[derive(Debug, Default)]
struct Plan {
    /// The names as they land.
    names: Vec<PathBuf>,
    /// Those that are there already and stay.
    left: Vec<PathBuf>,
}

impl Restore<'_> {
    /// The key that may write on the host.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(super) fn write_key(&self) -> Result<PathBuf, Stop> {
        let key = self.host.restore_key(&self.config.folder);
        if key.is_file() {
            return Ok(key);
        }
        let name = &self.host.name;
        let text = format!(
            "nothing may write on {name}; run `phobos-pull authorize {name} --restore`, and put the line there"
        );
        Err(Stop::new(Exit::Config, text))
    }

    /// Sends what is `asked` for in `space`, to the host; or says what would be, where it is to be a dry run.
    ///
    /// # Errors
    ///
    /// When the host does not let us, or something could not be sent; what was sent until then is whole, and stays.
    pub(super) fn send(
        &self,
        way: &Way<'_>,
        space: &Dir,
        asked: &[PathBuf],
        holding: &Path,
    ) -> Result<Placed, anyhow::Error> {
        let Self { config, paths, host, .. } = *self;
        let (owner, reads_all) = self.sends_as(space)?;
        // Of checks, whose user it may be, none is under way.
        let is_of_checks = owner == user_of_checks(config.backup.uid_base);
        let _alone = is_of_checks.then(|| check::alone(&paths.runtime.join("pull"))).transpose()?;
        // rsync asks for the path of the folder that it is in, and has one in its own mount namespace only.
        let [seen, meant] = [place::open(space.path())?.stat_self()?, space.stat_self()?];
        if (seen.dev, seen.ino) != (meant.dev, meant.ino) {
            return Err(Stop::new(Exit::Refused, format!("{} is another folder by now", shown(space.path()))).into());
        }
        self.sweep(owner)?;
        let secrets = Secrets::lend(config, paths, host, &self.write_key()?, owner, RESTORE)?;
        let users = users::lend(owner, paths, &lent_name(&host.name, RESTORE, "users"))?;
        let alias = Alias { id: owner, passwd: users.path().to_owned() };
        let sender = Sender {
            restore: self,
            way,
            space,
            asked,
            holding,
            secrets: secrets.as_ref(),
            alias: &alias,
            reads_all,
            program: &std::env::current_exe().context("cannot find this program")?,
        };
        let result = sender.run();
        let result = teardown::join(result.map_err(boxed), self.sweep(owner).map_err(boxed));
        let result = teardown::join(result, Lent::close(users));
        Ok(teardown::join(result, secrets.map_or(Ok(()), Secrets::close))?)
    }

    /// The user who sends what is in `space`, and whether it is not that user's: what Borg has extracted is nobody's, as other programs
    /// are, none of which is to get at the key.
    fn sends_as(&self, space: &Dir) -> Result<(u32, bool), anyhow::Error> {
        let Self { config, host, .. } = *self;
        let owner = space.stat_self()?.uid;
        if owner == 0 {
            let text =
                format!("what {} has is root's here, which sends nothing; give it back into a folder here", host.name);
            return Err(Stop::new(Exit::Refused, text).into());
        }
        if owner != archives::user()? {
            return Ok((owner, false));
        }
        let own = Dir::open(&config.backup.holding).and_then(|holding| holding.stat(Path::new(host.name.as_str())));
        let own = own.ok().flatten().map(|stat| stat.uid).filter(|owner| self.is_of_a_host(*owner));
        Ok((own.unwrap_or_else(|| user_of_checks(config.backup.uid_base)), true))
    }
}

/// One host that files are sent to.
struct Sender<'a> {
    restore: &'a Restore<'a>,
    way: &'a Way<'a>,
    space: &'a Dir,
    asked: &'a [PathBuf],
    holding: &'a Path,
    secrets: Option<&'a Secrets>,
    alias: &'a Alias,
    /// Whether what is sent is another user's.
    reads_all: bool,
    program: &'a Path,
}

impl Sender<'_> {
    fn run(&self) -> Result<Placed, anyhow::Error> {
        let args = self.restore.args;
        let Plan { mut names, left } = self.plan(args.overwrite)?;
        let mut placed = Placed { left: left.iter().map(|name| shown(name)).collect(), ..Placed::default() };
        if args.dry_run {
            let all = names.iter().map(|name| (name, false)).chain(left.iter().map(|name| (name, true)));
            told::sent(self.space, all.map(|(name, left)| (self.place(name), name.as_path(), left)), args.json)?;
            return Ok(placed);
        }
        if !args.privileged {
            placed.held_back = self.privileged(&mut names)?;
        }
        if !names.is_empty() {
            let list: Vec<u8> = names.iter().flat_map(|name| [self.inside(name).as_bytes(), b"\0"].concat()).collect();
            let keeps = if args.overwrite { None } else { Some("--ignore-existing") };
            let mut call = self.call(&["--files-from=-", "--from0"], keeps).stdin(list);
            call = call.args(["--", "."]).arg(self.target());
            let fetched = self.rsync(&call, &[0], &mut |_| {})?;
            placed.bytes = fetched.stats.bytes_transferred;
            placed.put = u64::try_from(names.len())?;
        }
        let lets = "what is of another kind is never replaced, and files only if the line there was printed with `--overwrite`";
        placed.tell(&self.restore.host.name, if args.overwrite { lets } else { OVERWRITE });
        Ok(placed)
    }

    /// Asks the host what it lacks, and what of it may be replaced.
    fn plan(&self, replaces: bool) -> Result<Plan, anyhow::Error> {
        let (mut names, mut left, mut taken) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut strange = None;
        // Whatever the host's own side says is among what our rsync says.
        let mut note = |all: &mut BTreeSet<PathBuf>, said: &str| match self.landed(said) {
            // The folder that all goes into.
            _ if said == "./" => {}
            Some(name) => drop(all.insert(name)),
            None => drop(strange.get_or_insert_with(|| shown_text(said))),
        };
        self.ask("--ignore-existing", &mut |event| match event {
            // Of another name of a file rsync does not say that it is new where the folder to put it into is yet to be made: what is
            // there would be passed over here.
            CopyEvent::Change(change) if change.kind == ChangeKind::Created || !change.name.ends_with('/') => {
                note(&mut names, change.name);
            }
            CopyEvent::Left(name) => note(&mut left, name),
            _ => {}
        })?;
        if replaces {
            self.ask("--existing", &mut |event| match event {
                // A folder stays as it is, and so does what is of another kind there.
                CopyEvent::Change(change) if change.kind == ChangeKind::Changed && !change.name.ends_with('/') => {
                    note(&mut taken, change.name);
                }
                _ => {}
            })?;
        }
        if let Some(name) = strange {
            let text =
                format!("{} asks for what nobody wants to give it: {name}; nothing was sent", self.restore.host.name);
            return Err(Stop::new(Exit::Refused, text).into());
        }
        // What is there in the place of a folder may be a link: nothing is written through it.
        let is_beyond = |name: &PathBuf| name.ancestors().skip(1).any(|above| left.contains(above));
        names.retain(|name| !is_beyond(name));
        taken.retain(|name| !is_beyond(name));
        let left = left.difference(&taken).cloned().collect();
        Ok(Plan { names: names.union(&taken).cloned().collect(), left })
    }

    /// The name that rsync shows as `said`, if it is that of something which is asked for and there.
    fn landed(&self, said: &str) -> Option<PathBuf> {
        let name = rsync::name(said.strip_suffix('/').unwrap_or(said));
        let is_plain = name.components().all(|part| matches!(part, Component::Normal(_)));
        let first = name.components().next()?.as_os_str();
        let is_asked = self.asked.iter().any(|path| path.file_name().is_none_or(|last| last == first));
        let is_there = || self.space.stat(&self.place(&name)).is_ok_and(|stat| stat.is_some());
        (is_plain && is_asked && is_there()).then_some(name)
    }

    /// A dry run over all that is asked for.
    fn ask(&self, which: &str, see: &mut dyn FnMut(CopyEvent<'_>)) -> Result<(), anyhow::Error> {
        let call = self.call(&["--dry-run", "--recursive", "--info=skip1", "--out-format=%i %n"], Some(which));
        let asked = self.asked.iter().map(|path| match path.file_name() {
            Some(name) => cut(path.parent(), Path::new(name)),
            None => OsString::from("./"),
        });
        let call = call.arg("--").args(asked).arg(self.target());
        // What a folder with something in it is in the way of stays, and nobody is told of it; what cannot be read here was told before.
        let good: &[i32] = if which == "--existing" { &[0, PARTIAL] } else { &[0] };
        self.rsync(&call, good, see).map(drop)
    }

    /// The call, confined, but for what is sent and whereto.
    fn call(&self, more: &[&str], which: Option<&str>) -> Invocation {
        let Restore { host, args, .. } = *self.restore;
        let own = [
            "--archive",
            "--no-recursive",
            "--relative",
            // A folder that is not in the list stays as it is, the one that all goes into first of all.
            "--no-implied-dirs",
            "--hard-links",
            "--acls",
            "--xattrs",
            "--numeric-ids",
            "--sparse",
        ];
        let call = Invocation::new("rsync").args(own).arg("--fake-super").args(more).args(which);
        // What is to be replaced is, whatever its time is: rrsync takes no word of how finely times are compared.
        let call = call.args(args.overwrite.then_some("--ignore-times"));
        let call = if args.privileged { call } else { call.args(DISARMED) };
        let call = call.args(host.bandwidth_limit.as_ref().map(|limit| format!("--bwlimit={}", in_bytes(limit))));
        let call = call.args(self.restore.not_the_hosts(self.holding)).arg(format!("--timeout={SILENCE}"));
        let files = Secrets::files(self.secrets);
        let call = call.args(rsync::told(true)).args(["--no-old-args", "--no-secluded-args"]);
        let call =
            call.arg(format!("--rsh={}", rsync::rsh(&remote::ssh(host, files)))).bound().limit(host.time_limit.0);
        let secrets = [files.identity, files.known_hosts];
        let mut sandbox =
            allowed::confinement(host, self.way.origin, self.space.path(), Some(self.alias.clone()), &secrets, None);
        sandbox.reads_all = self.reads_all;
        sandbox.confine(self.program, call)
    }

    /// Runs one rsync, and judges its end, which is to be one of the `good` exit codes.
    fn rsync(
        &self,
        call: &Invocation,
        good: &[i32],
        see: &mut dyn FnMut(CopyEvent<'_>),
    ) -> Result<Fetched, anyhow::Error> {
        let name = &self.restore.host.name;
        let until = Instant::now().checked_add(GONE);
        let Ending { exit, text } = loop {
            let mut complaints = Complaints::default();
            let fetched = self
                .restore
                .watch(call, &mut complaints, see)
                .with_context(|| format!("cannot give back to {name}"))?;
            if good.contains(&fetched.code) {
                return Ok(fetched);
            }
            let ending = ending::of(fetched.code, &complaints, name.as_str());
            // The one of the call before may take a moment to end there; it has let nothing begin.
            if !ending.text.contains(ANOTHER) || until.is_none_or(|until| Instant::now() >= until) {
                break ending;
            }
            thread::sleep(AGAIN);
        };
        if text.contains(ANOTHER) {
            let text = format!(
                "cannot give back to {name}: another rsync writes there with a restricted key; try again when it is done"
            );
            return Err(Stop::new(Exit::Busy, text).into());
        }
        // It is the other key that has to be let in.
        let text = text
            .replace(&format!("`phobos-pull authorize {name}`"), &format!("`phobos-pull authorize {name} --restore`"));
        Err(Stop::new(
            exit,
            format!("cannot give back to {name}: {text}; what was sent until then is whole, and stays"),
        )
        .into())
    }

    /// The host's folder as an argument of rsync.
    fn target(&self) -> String {
        let Way { host, origin, address, folder } = self.way;
        let user = host.user_at(origin).map(|user| format!("{}@", user.as_str())).unwrap_or_default();
        format!("{user}{address}:{}", host.asked(origin, folder, true))
    }

    /// What lands at `name`, as rsync is asked for it.
    fn inside(&self, name: &Path) -> OsString {
        let first = name.components().next().map(|first| first.as_os_str().to_owned()).unwrap_or_default();
        let from = self.asked.iter().find(|path| path.file_name() == Some(&first));
        cut(from.and_then(|path| path.parent()), name)
    }

    /// What would give its user rights on the host; devices are taken out of what is sent, for rrsync knows no other way.
    fn privileged(&self, names: &mut Vec<PathBuf>) -> Result<Vec<String>, anyhow::Error> {
        let (mut held_back, mut sent) = (Vec::new(), Vec::with_capacity(names.len()));
        for name in names.drain(..) {
            let place = self.place(&name);
            let kept = self.space.stat(&place)?.map(|stat| kept::strictly(self.space, &place, &stat));
            match kept {
                Some(None) => {
                    held_back.push(format!("{} (what it is cannot be understood, left out)", shown(&name)));
                    continue;
                }
                Some(Some(kept)) if matches!(kept.kind, 'b' | 'c') => {
                    held_back.push(format!("{} (a device, left out)", shown(&name)));
                    continue;
                }
                Some(Some(kept)) if kept.kind == '-' && kept.mode & 0o6000 != 0 => {
                    held_back.push(format!("{} (runs as its owner no more)", shown(&name)));
                }
                _ => {}
            }
            sent.push(name);
        }
        *names = sent;
        Ok(held_back)
    }

    /// Where in the space that is which lands at `name`.
    fn place(&self, name: &Path) -> PathBuf {
        Path::new(&self.inside(name)).components().filter(|part| matches!(part, Component::Normal(_))).collect()
    }
}

/// `name` below `above`, cut where its name on the other side begins (rsync(1), "--relative"). The dot in front makes it no option, and
/// no comment in a list of files.
fn cut(above: Option<&Path>, name: &Path) -> OsString {
    let above = above.filter(|above| !above.as_os_str().is_empty());
    let parts = above.map(|above| [above.as_os_str().as_bytes(), b"/./"].concat()).unwrap_or_default();
    OsString::from_vec([b"./", parts.as_slice(), name.as_os_str().as_bytes()].concat())
}
