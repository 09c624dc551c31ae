//! `install` and `uninstall`: programs, units, udev rules and the sample configuration into a file system tree.
//!
//! What was installed is remembered in a manifest, in the format of sha256sum: `cd / && sha256sum --check MANIFEST` tells
//! what the administrator changed since. A changed file is never overwritten; the new one is put beside it.

mod compat;
mod leaving;
mod place;

use self::place::Found;
use crate::files::{self, Item, Layout, PRIVATE};
use crate::{again_as_root, build, is_root, list, man, say, target};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{self, Path, PathBuf};
use xshell::{Shell, cmd};

/// The command line of `install`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// The cargo profile to build with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Install the programs of this folder and build none; with phobos-manual among them, its pages too
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// The folder with man pages and completions
    #[arg(long, value_name = "FOLDER", requires = "programs", hide = true)]
    manual: Option<PathBuf>,
    /// Also put links under the names of the original's programs into this folder, so that no path in a unit need change
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, require_equals = true, default_missing_value = "/usr/local/bin")]
    compat: Option<PathBuf>,
}

/// Where to install, and whether to do it.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The tree to install into; another one than / is for images
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    destdir: PathBuf,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// The command line of `uninstall`.
#[derive(Debug, clap::Args)]
pub(crate) struct Away {
    #[command(flatten)]
    place: Place,
    /// Even if units are enabled or at work; they are disabled
    #[arg(long)]
    anyway: bool,
    /// Remove the configuration, the history and mail that waits too; keys and headers of drives stay
    #[arg(long)]
    purge: bool,
}

/// What was installed last, below the tree.
const MANIFEST: &str = "usr/local/share/phobos/manifest";

/// What is appended to the name of a file that stands in the way of a changed one.
const BESIDE: &str = ".phobos-new";

/// Installs everything, or what changed since the last time.
///
/// # Errors
///
/// If the programs cannot be built or a file cannot be written; what was installed until then is in the manifest.
pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let tree = path::absolute(&args.place.destdir)?;
    let here = tree == Path::new("/");
    let (folder, manual) = match &args.programs {
        Some(folder) => {
            let folder = path::absolute(folder)?;
            let manual = match &args.manual {
                Some(manual) => Some(path::absolute(manual)?),
                None if args.place.dry_run => None,
                None => man::from(sh, &folder)?,
            };
            (folder, manual)
        }
        // A rehearsal compiles nothing.
        None if args.place.dry_run => (target()?.join("unbuilt"), None),
        None => {
            let built = build(sh, &args.profile)?;
            (built, Some(man::make(sh, &args.profile)?))
        }
    };
    if here && !is_root() && !args.place.dry_run {
        // Building is no job for root, writing here is.
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut line = vec!["install".to_owned(), "--destdir=/".to_owned(), "--programs".to_owned(), text(&folder)];
        line.extend(manual.iter().map(|manual| format!("--manual={}", text(manual))));
        line.extend(args.compat.iter().map(|folder| format!("--compat={}", text(folder))));
        return again_as_root(sh, &line.iter().map(String::as_str).collect::<Vec<_>>());
    }
    if here && package_is_in(&tree) {
        say("the Debian package of phobos is here too: units in /etc come before its own; remove one of the two");
    }
    let changed = apply(sh, &tree, &files::items(Layout::Local, &folder, manual.as_deref())?, args.place.dry_run)?;
    if args.programs.is_none() && args.place.dry_run {
        say("built      man pages and completions, below usr/local/share");
    }
    if let Some(folder) = &args.compat {
        compat::link(&tree, folder, args.place.dry_run)?;
    }
    if args.place.dry_run {
        return Ok(());
    }
    private_folders(&tree)?;
    if here {
        for line in next_steps(&changed) {
            say(line);
        }
    }
    Ok(())
}

/// Whether the Debian package is installed in the tree, too.
fn package_is_in(tree: &Path) -> bool {
    tree.join(Layout::Package.bin()).join("phobos-ext").exists()
}

/// Installs everything into another tree than this machine's, with the programs of the folder `programs`.
///
/// # Errors
///
/// If a file cannot be written.
pub(crate) fn into(sh: &Shell, tree: &Path, programs: &Path) -> Result<()> {
    apply(sh, tree, &files::items(Layout::Local, programs, None)?, false)?;
    private_folders(tree)
}

/// Makes the folders that nothing is installed into.
fn private_folders(tree: &Path) -> Result<()> {
    PRIVATE.iter().try_for_each(|folder| place::private(tree, Path::new(folder)))
}

/// Removes what is in the manifest and was not changed since.
///
/// # Errors
///
/// If units are enabled or at work, or a file cannot be removed.
pub(crate) fn uninstall(sh: &Shell, args: &Away) -> Result<()> {
    let place = &args.place;
    let tree = path::absolute(&place.destdir)?;
    let here = tree == Path::new("/");
    if here && !is_root() && !place.dry_run {
        let flags = [(args.anyway, "--anyway"), (args.purge, "--purge")];
        let line = ["uninstall", "--destdir=/"].into_iter();
        let line: Vec<&str> = line.chain(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag)).collect();
        return again_as_root(sh, &line);
    }
    let last = read_manifest(&tree)?;
    leaving::stop_first(sh, &tree, &last, here, args.anyway || place.dry_run)?;
    compat::unlink(&tree, place.dry_run)?;
    apply(sh, &tree, &[], place.dry_run)?;
    if args.purge {
        leaving::purge(&tree, place.dry_run)?;
    }
    Ok(())
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Disk {
    Nothing,
    /// A file, with its hash.
    File(String),
    /// A link, a folder: nothing that was installed.
    Other,
}

/// What to do about one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// It is what it should be.
    Nothing,
    /// It is not there.
    New,
    /// It is as it was installed, and there is a newer one.
    Replace,
    /// It was changed, and there is a newer one.
    Beside,
    /// It was changed, and there is nothing newer than what it was made from.
    Keep,
    /// It was installed and then removed from /etc: that is the administrator's word.
    StayAway,
    /// It is as it was installed, and phobos has no such file any more.
    Remove,
    /// It was changed, and phobos has no such file any more.
    Forget,
}

/// Decides about one file from what is on disk, what was installed there last, and what is to be there.
fn decide(disk: &Disk, last: Option<&str>, ours: Option<&str>, configuration: bool) -> Action {
    let Some(ours) = ours else {
        return match disk {
            Disk::File(hash) if Some(hash.as_str()) == last => Action::Remove,
            Disk::Nothing => Action::Nothing,
            _ => Action::Forget,
        };
    };
    match disk {
        Disk::Nothing if last.is_some() && configuration => Action::StayAway,
        Disk::Nothing => Action::New,
        Disk::File(hash) if hash == ours => Action::Nothing,
        Disk::File(hash) if Some(hash.as_str()) == last => Action::Replace,
        _ if last == Some(ours) => Action::Keep,
        _ => Action::Beside,
    }
}

/// Brings the tree to hold `items` and returns the targets that changed.
fn apply(sh: &Shell, tree: &Path, items: &[Item], dry_run: bool) -> Result<Vec<PathBuf>> {
    let last = read_manifest(tree)?;
    let mut work = Work { sh, tree, dry_run, last: &last, now: Manifest::new(), changed: Vec::new() };
    let done = items.iter().try_for_each(|item| work.install(item)).and_then(|()| work.remove_gone());
    if done.is_err() {
        // Half done: what was not reached is as it was.
        for (target, hash) in &last {
            work.now.entry(target.clone()).or_insert_with(|| hash.clone());
        }
    }
    if !dry_run {
        write_manifest(tree, &last, &work.now)?;
    }
    done?;
    if work.changed.is_empty() {
        say("nothing to do");
    }
    Ok(work.changed)
}

/// Targets and the hashes of what was installed there.
type Manifest = BTreeMap<PathBuf, String>;

/// An installation on its way.
struct Work<'a> {
    sh: &'a Shell,
    tree: &'a Path,
    dry_run: bool,
    last: &'a Manifest,
    now: Manifest,
    changed: Vec<PathBuf>,
}

impl Work<'_> {
    fn install(&mut self, item: &Item) -> Result<()> {
        let Item { source, target, mode } = item;
        if self.dry_run && target.starts_with(Layout::Local.bin()) && !source.is_file() {
            say(&format!("built      {}, unless it is the same already", self.tree.join(target).display()));
            self.now.insert(target.clone(), String::new());
            return Ok(());
        }
        let text = files::content(Layout::Local, item)?;
        let ours = hash(self.sh, &text)?;
        let path = self.tree.join(target);
        let disk = look(self.sh, self.tree, target)?;
        let last = self.last.get(target).map(String::as_str);
        let action = decide(&disk, last, Some(&ours), target.starts_with("etc"));
        tell(action, &path);
        match action {
            Action::New | Action::Replace => self.changed.push(target.clone()),
            Action::Beside => self.changed.push(beside(target)),
            _ => (),
        }
        if !self.dry_run {
            match action {
                Action::New | Action::Replace => place::write(self.tree, target, &text, *mode)?,
                Action::Beside => place::write(self.tree, &beside(target), &text, *mode)?,
                // The administrator took the new one: it need not lie beside any more.
                Action::Nothing => place::remove(self.tree, &beside(target))?,
                _ => (),
            }
        }
        self.now.insert(target.clone(), ours);
        Ok(())
    }

    /// Removes what was installed once and is none of phobos's files any more.
    fn remove_gone(&mut self) -> Result<()> {
        for (target, hash) in self.last.iter().filter(|(target, _)| !self.now.contains_key(*target)) {
            let path = self.tree.join(target);
            if target.starts_with("etc/phobos") && package_is_in(self.tree) {
                say(&format!("kept       {}: the Debian package has it too", path.display()));
                continue;
            }
            let action = decide(&look(self.sh, self.tree, target)?, Some(hash), None, false);
            tell(action, &path);
            if action == Action::Remove {
                self.changed.push(target.clone());
            }
            if !self.dry_run {
                if action == Action::Remove {
                    place::remove(self.tree, target)?;
                    self.disable(target)?;
                }
                place::remove(self.tree, &beside(target))?;
            }
        }
        Ok(())
    }
}

impl Work<'_> {
    /// Removes the links with which a unit that is gone was enabled, its instances' too; systemctl finds them no more.
    fn disable(&self, target: &Path) -> Result<()> {
        let (Some(folder), Some(unit)) = (target.parent(), target.file_name()) else { return Ok(()) };
        if !folder.ends_with("systemd/system") {
            return Ok(());
        }
        let ends = [".wants", ".requires", ".upholds"];
        for wanting in list(&self.tree.join(folder))? {
            let Some(name) =
                wanting.file_name().filter(|name| ends.iter().any(|end| name.to_string_lossy().ends_with(end)))
            else {
                continue;
            };
            if wanting.is_symlink() || !wanting.is_dir() {
                continue;
            }
            for link in list(&wanting)? {
                let link = folder.join(name).join(link.file_name().unwrap_or_default());
                if place::link(self.tree, &link)?.is_some_and(|said| said.file_name() == Some(unit)) {
                    place::remove(self.tree, &link)?;
                    say(&format!("disabled   {}", self.tree.join(&link).display()));
                }
            }
        }
        Ok(())
    }
}

fn tell(action: Action, path: &Path) {
    let path = path.display();
    match action {
        Action::Nothing => (),
        Action::New => say(&format!("new        {path}")),
        Action::Replace => say(&format!("newer      {path}")),
        Action::Beside => say(&format!("beside     {path}{BESIDE}: {path} was changed here and is left as it is")),
        Action::Keep => say(&format!("kept       {path}: changed here")),
        Action::StayAway => say(&format!("left out   {path}: it was removed here")),
        Action::Remove => say(&format!("removed    {path}")),
        Action::Forget => say(&format!("kept       {path}: changed here, and no file of phobos any more")),
    }
}

fn look(sh: &Shell, tree: &Path, target: &Path) -> Result<Disk> {
    match place::look(tree, target)? {
        Found::File(text) => Ok(Disk::File(hash(sh, &text)?)),
        Found::Other => Ok(Disk::Other),
        Found::Nothing => Ok(Disk::Nothing),
    }
}

fn hash(sh: &Shell, text: &[u8]) -> Result<String> {
    let line = cmd!(sh, "sha256sum").stdin(text).quiet().read()?;
    Ok(line.split(' ').next().unwrap_or_default().to_owned())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(BESIDE);
    name.into()
}

fn read_manifest(tree: &Path) -> Result<Manifest> {
    let path = tree.join(MANIFEST);
    let text = match place::look(tree, Path::new(MANIFEST))? {
        Found::Nothing => return Ok(Manifest::new()),
        Found::File(text) => String::from_utf8(text).unwrap_or_default(),
        Found::Other => String::from("a link"),
    };
    let entry = |line: &str| line.split_once("  ").map(|(hash, target)| (target.into(), hash.to_owned()));
    let entries: Option<Manifest> = text.lines().map(entry).collect();
    entries.with_context(|| format!("{} is no list of hashes and files; remove it", path.display()))
}

fn write_manifest(tree: &Path, last: &Manifest, now: &Manifest) -> Result<()> {
    if now.is_empty() {
        return place::remove(tree, Path::new(MANIFEST));
    }
    if now == last {
        return Ok(());
    }
    let lines: Vec<String> = now.iter().map(|(target, hash)| format!("{hash}  {}\n", target.display())).collect();
    place::write(tree, Path::new(MANIFEST), lines.concat().as_bytes(), 0o644)
}

/// What the administrator does next, after `changed` was installed on the machine itself.
fn next_steps(changed: &[PathBuf]) -> Vec<&'static str> {
    let any = |folder: &str| changed.iter().any(|target| target.starts_with(folder));
    let mut steps = Vec::new();
    if any("etc/sysusers.d") {
        steps.push("  systemd-sysusers    # makes the users phobos-mail and phobos-pull");
    }
    if any("etc/systemd") {
        steps.push("  systemctl daemon-reload");
    }
    if any("etc/udev") {
        steps.push("  udevadm control --reload && udevadm trigger --subsystem-match=usb --subsystem-match=hidraw");
    }
    let is_new = |name: &str| changed.iter().any(|target| target.ends_with(name));
    if is_new("phobos-mail-flush.timer") {
        steps.push("  systemctl enable --now phobos-mail-flush.timer    # sends what could not be sent at once");
    }
    if is_new("phobos-ext@.service") {
        steps.push("  and for each drive, with the UUID of its LUKS container as `blkid` shows it:");
        steps.push("  systemctl enable \"$(systemd-escape --template=phobos-ext@.service UUID)\"");
    }
    if is_new("phobos-ext-drives.timer") {
        steps
            .push("  systemctl enable --now phobos-ext-drives.timer    # tells which drive is overdue, or nearly full");
    }
    if is_new("phobos-status-page.timer") {
        steps.push(
            "  systemctl enable --now phobos-status-page.timer    # keeps /var/lib/phobos/status.html up to date",
        );
    }
    if is_new("phobos-status-hook.path") {
        steps.push("  and if the configuration has hooks:");
        steps.push("  systemctl enable --now phobos-status-hook.path phobos-status-hook.timer");
    }
    if is_new("phobos-status-digest.timer") {
        steps.push("  systemctl enable --now phobos-status-digest.timer    # mails every week how everything is");
    }
    if is_new("phobos-ext-verify-source.timer") {
        steps.push(
            "  systemctl enable --now phobos-ext-verify-source.timer    # reads some of the repository again each night",
        );
    }
    if is_new("phobos-ext-drill.timer") {
        steps.push("  and with the repository's passphrase in /etc/credstore/borg-passphrase, root's alone, or if it has none:");
        steps.push("  systemctl enable --now phobos-ext-drill.timer    # restores files from a drive that is here, once a month");
    }
    if !steps.is_empty() {
        steps.insert(0, "next:");
    }
    steps
}

#[cfg(test)]
mod tests;
