//! `install` and `uninstall`: programs, units, udev rules and the sample configuration into a file system tree.
//!
//! What was installed is remembered in a manifest, in the format of sha256sum: `cd / && sha256sum --check MANIFEST` tells
//! what the administrator changed since. A changed file is never overwritten; the new one is put beside it.

use crate::{again_as_root, build, crates, is_root, list, programs, say};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
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
    /// Install the programs of this folder and build none
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// Where to install, and whether to do it.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The tree to install into; another one than / is for packages and images
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    destdir: PathBuf,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// What was installed last, below the tree.
const MANIFEST: &str = "usr/local/share/phobos/manifest";

/// What is appended to the name of a file that stands in the way of a changed one.
const BESIDE: &str = ".phobos-new";

/// A file to install.
struct Item {
    source: PathBuf,
    /// Below the tree.
    target: PathBuf,
    mode: u32,
}

/// Installs everything, or what changed since the last time.
///
/// # Errors
///
/// If the programs cannot be built or a file cannot be written; what was installed until then is in the manifest.
pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let folder = match &args.programs {
        Some(folder) => path::absolute(folder)?,
        None => build(sh, &args.profile)?,
    };
    let tree = path::absolute(&args.place.destdir)?;
    if tree == Path::new("/") && !is_root() && !args.place.dry_run {
        // Building is no job for root, writing here is.
        return again_as_root(sh, &["install", "--destdir=/", "--programs", &folder.to_string_lossy()]);
    }
    let items = items(&folder)?;
    let changed = apply(sh, &tree, &items, args.place.dry_run)?;
    if tree == Path::new("/") && !args.place.dry_run {
        for line in next_steps(&changed) {
            say(line);
        }
    }
    Ok(())
}

/// Installs everything into another tree than this machine's, with the programs of the folder `programs`.
///
/// # Errors
///
/// If a file cannot be written.
pub(crate) fn into(sh: &Shell, tree: &Path, programs: &Path) -> Result<()> {
    apply(sh, tree, &items(programs)?, false).map(drop)
}

/// Removes what is in the manifest and was not changed since.
///
/// # Errors
///
/// If a file cannot be removed.
pub(crate) fn uninstall(sh: &Shell, place: &Place) -> Result<()> {
    let tree = path::absolute(&place.destdir)?;
    if tree == Path::new("/") && !is_root() && !place.dry_run {
        return again_as_root(sh, &["uninstall", "--destdir=/"]);
    }
    apply(sh, &tree, &[], place.dry_run).map(drop)
}

/// Every file there is to install, with the programs of `folder`.
fn items(folder: &Path) -> Result<Vec<Item>> {
    let mut items: Vec<Item> = programs()?
        .into_iter()
        .map(|name| Item { source: folder.join(&name), target: Path::new("usr/local/bin").join(name), mode: 0o755 })
        .collect();
    for source in dist()? {
        let target = target(&source).with_context(|| format!("{} has no place to be installed", source.display()))?;
        items.push(Item { source, target, mode: 0o644 });
    }
    Ok(items)
}

/// Every file in the packages' `dist` folders, and in folders in there.
fn dist() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in crates()? {
        for path in list(&folder.join("dist"))? {
            if path.is_dir() { files.extend(list(&path)?) } else { files.push(path) }
        }
    }
    Ok(files)
}

/// Where a file of a `dist` folder goes, by its name's end.
fn target(source: &Path) -> Option<PathBuf> {
    let folder = match source.extension()?.to_str()? {
        "service" | "timer" | "path" | "socket" | "target" => PathBuf::from("etc/systemd/system"),
        "rules" => "etc/udev/rules.d".into(),
        "toml" => "etc/phobos".into(),
        "conf" if source.parent()?.ends_with("sysusers.d") => "etc/sysusers.d".into(),
        // A drop-in is for a unit of the administrator's own, who puts it there.
        "conf" => Path::new("usr/local/share/phobos").join(source.parent()?.file_name()?),
        _ => return None,
    };
    Some(folder.join(source.file_name()?))
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
    let last = read_manifest(&tree.join(MANIFEST))?;
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
    fn install(&mut self, Item { source, target, mode }: &Item) -> Result<()> {
        let text = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
        let ours = hash(self.sh, &text)?;
        let path = self.tree.join(target);
        let disk = look(self.sh, &path)?;
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
                Action::New | Action::Replace => write(&path, &text, *mode)?,
                Action::Beside => write(&beside(&path), &text, *mode)?,
                // The administrator took the new one: it need not lie beside any more.
                Action::Nothing => remove(&beside(&path))?,
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
            let action = decide(&look(self.sh, &path)?, Some(hash), None, false);
            tell(action, &path);
            if action == Action::Remove {
                self.changed.push(target.clone());
            }
            if !self.dry_run {
                if action == Action::Remove {
                    remove(&path)?;
                }
                remove(&beside(&path))?;
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

fn look(sh: &Shell, path: &Path) -> Result<Disk> {
    match fs::symlink_metadata(path) {
        Ok(kind) if kind.is_file() => {
            let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Disk::File(hash(sh, &text)?))
        }
        Ok(_) => Ok(Disk::Other),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Disk::Nothing),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
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

/// Puts a file in place in one step: a program that runs, or a reader, sees the old one or the new one.
fn write(path: &Path, text: &[u8], mode: u32) -> Result<()> {
    let folder = path.parent().context("a file without a folder")?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".unfinished");
    let unfinished = folder.join(name);
    let place = || {
        // Whatever the umask is: programs and their settings are everybody's to run and read.
        make_folder(folder)?;
        let mut file = File::create(&unfinished)?;
        file.write_all(text)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    place().with_context(|| format!("cannot write {}", path.display()))
}

/// Makes `folder`, and those above it that are missing, with the permissions that a folder of the system has.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    folder.parent().map_or(Ok(()), make_folder)?;
    fs::create_dir(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn read_manifest(path: &Path) -> Result<Manifest> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Manifest::new()),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let entry = |line: &str| line.split_once("  ").map(|(hash, target)| (target.into(), hash.to_owned()));
    let entries: Option<Manifest> = text.lines().map(entry).collect();
    entries.with_context(|| format!("{} is no list of hashes and files; remove it", path.display()))
}

fn write_manifest(tree: &Path, last: &Manifest, now: &Manifest) -> Result<()> {
    let path = tree.join(MANIFEST);
    if now.is_empty() {
        return remove(&path);
    }
    if now == last {
        return Ok(());
    }
    let lines: Vec<String> = now.iter().map(|(target, hash)| format!("{hash}  {}\n", target.display())).collect();
    write(&path, lines.concat().as_bytes(), 0o644)
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
    if !steps.is_empty() {
        steps.insert(0, "next:");
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is removed with its contents.
    struct Scratch {
        sh: Shell,
        _folder: xshell::TempDir,
        tree: PathBuf,
        source: PathBuf,
    }

    impl Scratch {
        fn new() -> Self {
            let sh = Shell::new().unwrap();
            let folder = sh.create_temp_dir().unwrap();
            let (tree, source) = (folder.path().join("tree"), folder.path().join("source"));
            fs::create_dir(&source).unwrap();
            Self { sh, _folder: folder, tree, source }
        }

        /// Installs a program and a unit with these contents.
        fn install(&self, program: &str, unit: &str) -> Vec<PathBuf> {
            self.apply(&[("usr/local/bin/x", program, 0o755), ("etc/systemd/system/x.service", unit, 0o644)], false)
        }

        fn apply(&self, files: &[(&str, &str, u32)], dry_run: bool) -> Vec<PathBuf> {
            let item = |(target, text, mode): &(&str, &str, u32)| {
                let source = self.source.join(Path::new(target).file_name().unwrap());
                fs::write(&source, text).unwrap();
                Item { source, target: target.into(), mode: *mode }
            };
            let items: Vec<Item> = files.iter().map(item).collect();
            apply(&self.sh, &self.tree, &items, dry_run).unwrap()
        }

        /// Every file of the tree but the manifest, with its mode and contents.
        fn files(&self) -> Vec<String> {
            let sh = &self.sh;
            sh.create_dir(&self.tree).unwrap();
            let _here = sh.push_dir(&self.tree);
            let found = cmd!(sh, "find . -type f -not -name manifest -printf %P\t%m\n").quiet().read().unwrap();
            let mut lines: Vec<String> = found
                .lines()
                .map(|line| {
                    let (path, mode) = line.split_once('\t').unwrap();
                    format!("{path} {mode} {}", fs::read_to_string(self.tree.join(path)).unwrap())
                })
                .collect();
            lines.sort();
            lines
        }

        fn change(&self, target: &str, text: &str) {
            fs::write(self.tree.join(target), text).unwrap();
        }
    }

    #[test]
    fn a_fresh_tree_gets_everything() {
        let scratch = Scratch::new();
        assert_eq!(scratch.install("p1", "u1").len(), 2);
        assert_eq!(scratch.files(), ["etc/systemd/system/x.service 644 u1", "usr/local/bin/x 755 p1"]);
        let _here = scratch.sh.push_dir(&scratch.tree);
        cmd!(scratch.sh, "sha256sum --check --quiet {MANIFEST}").run().unwrap();
    }

    /// Runs in a process of its own, because the umask is the whole process's.
    #[test]
    fn whatever_the_umask_is_everybody_can_read_what_is_installed() {
        const MARK: &str = "PHOBOS_TEST_UMASK";
        if std::env::var_os(MARK).is_some() {
            let scratch = Scratch::new();
            scratch.install("p1", "u1");
            for folder in ["usr", "usr/local", "usr/local/bin", "usr/local/share/phobos", "etc", "etc/systemd/system"] {
                let mode = fs::metadata(scratch.tree.join(folder)).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o755, "{folder}");
            }
            assert_eq!(scratch.files(), ["etc/systemd/system/x.service 644 u1", "usr/local/bin/x 755 p1"]);
            let manifest = fs::metadata(scratch.tree.join(MANIFEST)).unwrap().permissions().mode();
            assert_eq!(manifest & 0o777, 0o644);
            return;
        }
        let sh = Shell::new().unwrap();
        let me = std::env::current_exe().unwrap();
        let name = "install::tests::whatever_the_umask_is_everybody_can_read_what_is_installed";
        for umask in ["022", "027", "077"] {
            let script = format!("umask {umask}; exec \"$0\" --exact {name}");
            cmd!(sh, "sh -c {script} {me}").env(MARK, "1").quiet().ignore_stdout().run().unwrap();
        }
    }

    #[test]
    fn a_second_time_does_nothing() {
        let scratch = Scratch::new();
        scratch.install("p1", "u1");
        let before = fs::metadata(scratch.tree.join(MANIFEST)).unwrap().modified().unwrap();
        assert!(scratch.install("p1", "u1").is_empty());
        assert_eq!(fs::metadata(scratch.tree.join(MANIFEST)).unwrap().modified().unwrap(), before);
    }

    #[test]
    fn a_newer_file_replaces_the_one_that_nobody_changed() {
        let scratch = Scratch::new();
        scratch.install("p1", "u1");
        assert_eq!(scratch.install("p2", "u1"), [Path::new("usr/local/bin/x")]);
        assert_eq!(scratch.files(), ["etc/systemd/system/x.service 644 u1", "usr/local/bin/x 755 p2"]);
    }

    #[test]
    fn a_changed_file_is_left_and_the_newer_one_put_beside_it_once() {
        let scratch = Scratch::new();
        scratch.install("p1", "u1");
        scratch.change("etc/systemd/system/x.service", "mine");
        assert!(scratch.install("p1", "u1").is_empty());
        assert_eq!(scratch.install("p1", "u2"), [Path::new("etc/systemd/system/x.service.phobos-new")]);
        let both = [
            "etc/systemd/system/x.service 644 mine",
            "etc/systemd/system/x.service.phobos-new 644 u2",
            "usr/local/bin/x 755 p1",
        ];
        assert_eq!(scratch.files(), both);
        assert!(scratch.install("p1", "u2").is_empty());
        assert_eq!(scratch.files(), both);

        // The administrator takes the new one: nothing stays beside it, and it follows again.
        scratch.change("etc/systemd/system/x.service", "u2");
        scratch.install("p1", "u2");
        scratch.install("p1", "u3");
        assert_eq!(scratch.files(), ["etc/systemd/system/x.service 644 u3", "usr/local/bin/x 755 p1"]);
    }

    #[test]
    fn a_file_that_was_there_before_phobos_is_not_touched() {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.tree.join("usr/local/bin")).unwrap();
        scratch.change("usr/local/bin/x", "the original script");
        scratch.install("p1", "u1");
        assert!(scratch.files().contains(&"usr/local/bin/x 644 the original script".to_owned()));
        assert!(scratch.files().contains(&"usr/local/bin/x.phobos-new 755 p1".to_owned()));
    }

    #[test]
    fn a_link_is_neither_followed_nor_replaced() {
        let scratch = Scratch::new();
        scratch.install("p1", "u1");
        let unit = scratch.tree.join("etc/systemd/system/x.service");
        fs::remove_file(&unit).unwrap();
        std::os::unix::fs::symlink("/dev/null", &unit).unwrap();
        scratch.install("p1", "u2");
        assert_eq!(fs::read_link(&unit).unwrap(), Path::new("/dev/null"));
        assert!(beside(&unit).exists());
    }

    #[test]
    fn what_was_removed_from_etc_stays_away_but_a_program_comes_back() {
        let scratch = Scratch::new();
        scratch.install("p1", "u1");
        fs::remove_file(scratch.tree.join("etc/systemd/system/x.service")).unwrap();
        fs::remove_file(scratch.tree.join("usr/local/bin/x")).unwrap();
        scratch.install("p1", "u2");
        assert_eq!(scratch.files(), ["usr/local/bin/x 755 p1"]);
    }

    #[test]
    fn a_dry_run_changes_nothing_and_tells_the_same() {
        let scratch = Scratch::new();
        let files = [("usr/local/bin/x", "p1", 0o755)];
        assert_eq!(scratch.apply(&files, true).len(), 1);
        assert!(!scratch.tree.exists());
        assert_eq!(scratch.apply(&files, false).len(), 1);
    }

    #[test]
    fn what_phobos_has_no_more_is_removed_unless_it_was_changed() {
        let scratch = Scratch::new();
        let files = [("usr/local/bin/x", "x", 0o755), ("usr/local/bin/y", "y", 0o755)];
        scratch.apply(&files, false);
        scratch.change("usr/local/bin/y", "mine");
        assert_eq!(scratch.apply(&[], false), [Path::new("usr/local/bin/x")]);
        assert_eq!(scratch.files(), ["usr/local/bin/y 755 mine"]);
        assert!(!scratch.tree.join(MANIFEST).exists());
    }

    #[test]
    fn a_failure_half_way_forgets_nothing() {
        let scratch = Scratch::new();
        scratch.install("p1", "u1");
        let item =
            |name: &str, target: &str| Item { source: scratch.source.join(name), target: target.into(), mode: 0o755 };
        fs::write(scratch.source.join("x"), "p2").unwrap();
        let items = [item("x", "usr/local/bin/x"), item("absent", "usr/local/bin/y")];
        let error = apply(&scratch.sh, &scratch.tree, &items, false).unwrap_err();
        assert!(error.to_string().starts_with("cannot read "), "{error}");
        scratch.install("p3", "u2");
        assert_eq!(scratch.files(), ["etc/systemd/system/x.service 644 u2", "usr/local/bin/x 755 p3"]);
    }

    #[test]
    fn every_case_is_decided() {
        let file = |hash: &str| Disk::File(hash.to_owned());
        let cases = [
            (Disk::Nothing, None, Some("new"), Action::New),
            (Disk::Nothing, Some("old"), Some("new"), Action::StayAway),
            (Disk::Nothing, Some("old"), None, Action::Nothing),
            (file("new"), None, Some("new"), Action::Nothing),
            (file("new"), Some("old"), Some("new"), Action::Nothing),
            (file("old"), Some("old"), Some("new"), Action::Replace),
            (file("mine"), Some("old"), Some("new"), Action::Beside),
            (file("mine"), Some("new"), Some("new"), Action::Keep),
            (file("mine"), None, Some("new"), Action::Beside),
            (Disk::Other, Some("new"), Some("new"), Action::Keep),
            (file("old"), Some("old"), None, Action::Remove),
            (file("mine"), Some("old"), None, Action::Forget),
        ];
        for (disk, last, ours, want) in cases {
            assert_eq!(decide(&disk, last, ours, true), want, "{disk:?} {last:?} {ours:?}");
        }
    }

    #[test]
    fn next_steps_are_for_what_changed() {
        assert!(next_steps(&["usr/local/bin/phobos-ns".into()]).is_empty());
        let steps = next_steps(&["etc/systemd/system/phobos-mail.service".into()]);
        assert_eq!(steps, ["next:", "  systemctl daemon-reload"]);
        assert_eq!(next_steps(&["etc/systemd/system/phobos-ext@.service".into()]).len(), 4);
        assert_eq!(next_steps(&["etc/sysusers.d/phobos-pull.conf".into()]).len(), 2);
    }

    #[test]
    fn every_file_in_dist_has_a_place() {
        for source in dist().unwrap() {
            assert!(target(&source).is_some(), "{}", source.display());
        }
    }
}
