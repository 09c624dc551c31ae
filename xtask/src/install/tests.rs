//! What is put where, and what is taken away again.

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

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
fn a_dry_run_needs_no_program_to_be_built() {
    let scratch = Scratch::new();
    let item = Item { source: scratch.source.join("absent"), target: "usr/local/bin/x".into(), mode: 0o755 };
    apply(&scratch.sh, &scratch.tree, std::slice::from_ref(&item), true).unwrap();
    assert!(apply(&scratch.sh, &scratch.tree, &[item], false).is_err());
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
fn what_the_package_has_too_is_left_to_it() {
    let scratch = Scratch::new();
    scratch.apply(&[("etc/phobos/phobos.toml", "x", 0o644), ("usr/local/bin/x", "x", 0o755)], false);
    fs::create_dir_all(scratch.tree.join("usr/bin")).unwrap();
    scratch.change("usr/bin/phobos-ext", "the package's");
    scratch.apply(&[], false);
    assert_eq!(scratch.files(), ["etc/phobos/phobos.toml 644 x", "usr/bin/phobos-ext 644 the package's"]);
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

/// Whoever may write to /usr/local has no file of root's written.
#[test]
fn a_link_in_a_folders_place_or_on_the_way_is_refused() {
    for planted in ["usr/local", "usr/local/bin", "etc/systemd/system"] {
        let scratch = Scratch::new();
        let victim = scratch.tree.with_file_name("victim");
        fs::create_dir_all(victim.join("bin")).unwrap();
        let planted = scratch.tree.join(planted);
        fs::create_dir_all(planted.parent().unwrap()).unwrap();
        symlink(&victim, &planted).unwrap();
        let source = scratch.source.join("x");
        fs::write(&source, "p1").unwrap();
        let item = |target: &str| Item { source: source.clone(), target: target.into(), mode: 0o755 };
        let items = [item("usr/local/bin/x"), item("etc/systemd/system/x.service")];
        let error = format!("{:#}", apply(&scratch.sh, &scratch.tree, &items, false).unwrap_err());
        assert!(error.ends_with(&format!("{} is a link or a file, not a folder", planted.display())), "{error}");
        assert_eq!(list(&victim).unwrap(), [victim.join("bin")]);
        assert!(list(&victim.join("bin")).unwrap().is_empty());
    }
}

#[test]
fn a_link_in_the_place_of_an_unfinished_file_is_not_written_through() {
    let scratch = Scratch::new();
    scratch.install("p1", "u1");
    let victim = scratch.tree.with_file_name("victim");
    fs::write(&victim, "whole").unwrap();
    symlink(&victim, scratch.tree.join("usr/local/bin/.x.unfinished")).unwrap();
    scratch.install("p2", "u1");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "whole");
    assert!(scratch.files().contains(&"usr/local/bin/x 755 p2".to_owned()));
}

#[test]
fn a_unit_that_is_removed_is_disabled_too() {
    let scratch = Scratch::new();
    scratch.apply(&[("etc/systemd/system/x@.timer", "t", 0o644)], false);
    let wants = scratch.tree.join("etc/systemd/system/timers.target.wants");
    fs::create_dir(&wants).unwrap();
    symlink("/etc/systemd/system/x@.timer", wants.join("x@luv.timer")).unwrap();
    symlink("/etc/systemd/system/other.timer", wants.join("other.timer")).unwrap();
    scratch.apply(&[], false);
    assert_eq!(list(&wants).unwrap(), [wants.join("other.timer")]);
}

#[test]
fn keys_and_headers_have_folders_of_roots_own() {
    let scratch = Scratch::new();
    scratch.install("1", "1");
    for _ in 0..2 {
        private_folders(&scratch.tree).unwrap();
    }
    let mode = |path: &str| fs::metadata(scratch.tree.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(PRIVATE.map(mode), [0o700; 2]);
    assert_eq!(mode("etc/phobos"), 0o755);
    fs::remove_dir(scratch.tree.join(PRIVATE[0])).unwrap();
    symlink("/tmp", scratch.tree.join(PRIVATE[0])).unwrap();
    assert!(private_folders(&scratch.tree).is_err());
}
