//! What the script makes of units, and what it leaves alone.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use xshell::TempDir;

/// The owner's units.
const UNITS: [(&str, &str); 4] = [
    (
        "backup-exthdd.service",
        "[Unit]\nOnFailure=status-email-user@%n.service\n[Service]\nType=oneshot\nExecStartPre=/home/jon/bin/mkbackupns\n\
         # ExecStart=/usr/local/bin/blinkstick\nExecStart=/usr/bin/nsenter --mount=/root/mntns/1 \\\n    /home/jon/bin/phobos-backup-monthly\n",
    ),
    (
        "status-email-user@.service",
        "[Service]\nExecStart=-/usr/local/bin/systemd-email %i\n\
         ExecStart=/usr/local/bin/blinkstick --index 1 --limit 50 --set-color red\n",
    ),
    (
        "ipod.service",
        "[Service]\nExecStart=/usr/bin/rsync /home/jon/blinkstick-photos /x\nExecStart=blinkstick green\n\
         ExecStop=/bin/sh -c 'umount /media/ipod && /usr/local/bin/blinkstick off'\n",
    ),
    ("other.service", "[Service]\nExecStart=/bin/echo systemd-email blinkstick\n"),
];

struct House {
    sh: Shell,
    root: TempDir,
}

impl House {
    fn new() -> Self {
        let sh = Shell::new().unwrap();
        let root = sh.create_temp_dir().unwrap();
        let house = Self { sh, root };
        fs::create_dir_all(house.at("")).unwrap();
        for (name, text) in UNITS {
            fs::write(house.at(name), text).unwrap();
        }
        house
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join("etc/systemd/system").join(name)
    }

    /// What the script says, on both ways, and how it ended.
    fn run(&self, args: &[&str]) -> (String, Option<i32>) {
        let (script, root) = (project().join("xtask/assets").join(MIGRATE), self.root.path());
        let output = cmd!(self.sh, "{script} --root {root}").args(args).quiet().ignore_status().output().unwrap();
        (String::from_utf8([output.stdout, output.stderr].concat()).unwrap(), output.status.code())
    }

    /// All files with what is in them.
    fn files(&self) -> Vec<String> {
        let root = self.root.path();
        let files = cmd!(self.sh, "find {root} -type f").quiet().read().unwrap();
        let mut files: Vec<_> =
            files.lines().map(|file| format!("{file}\n{}", fs::read_to_string(file).unwrap())).collect();
        files.sort();
        files
    }
}

#[test]
fn what_would_change_is_shown_and_nothing_is_changed() {
    let house = House::new();
    let before = house.files();
    let (said, code) = house.run(&[]);
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "-ExecStartPre=/home/jon/bin/mkbackupns",
        "+ExecStartPre=/usr/local/bin/phobos-ns",
        "+ExecStart=/usr/bin/nsenter --mount=/run/phobos/ns/backup      /usr/local/bin/phobos-ext",
        "+ExecStart=-/usr/local/bin/phobos-mail %i",
        "+ExecStart=/usr/local/bin/phobos-blink green",
        " ExecStart=/usr/bin/rsync /home/jon/blinkstick-photos /x",
        "+ExecStop=/bin/sh -c 'umount /media/ipod && /usr/local/bin/phobos-blink off'",
    ] {
        assert!(said.lines().any(|own| own == line), "{line}: {said}");
    }
    assert!(!said.contains("other.service"), "{said}");
    assert_eq!(house.files(), before);
}

#[test]
fn what_is_written_is_taken_away_again_and_nothing_else() {
    let house = House::new();
    let before = house.files();
    for _ in 0..2 {
        assert_eq!(house.run(&["--apply"]).1, Some(0));
    }
    let written = fs::read_to_string(house.at("ipod.service.d/phobos.conf")).unwrap();
    let (_, body) = written.split_once('\n').unwrap();
    assert_eq!(
        body,
        "[Service]\nExecStart=\nExecStart=/usr/bin/rsync /home/jon/blinkstick-photos /x\n\
         ExecStart=/usr/local/bin/phobos-blink green\nExecStop=\n\
         ExecStop=/bin/sh -c 'umount /media/ipod && /usr/local/bin/phobos-blink off'\n"
    );
    // One unit alone, then the rest, one of which is gone by then.
    let (said, _) = house.run(&["--revert", "ipod.service"]);
    assert_eq!(said.lines().count(), 1, "{said}");
    fs::remove_file(house.at("backup-exthdd.service")).unwrap();
    assert_eq!(house.run(&["--revert"]).1, Some(0));
    fs::write(house.at("backup-exthdd.service"), UNITS[0].1).unwrap();
    assert_eq!(house.files(), before);
    assert!(!house.at("ipod.service.d").exists());
}

#[test]
fn what_somebody_has_written_or_changed_is_left_alone() {
    let house = House::new();
    house.run(&["--apply"]);
    let changed = house.at("ipod.service.d/phobos.conf");
    fs::write(&changed, fs::read_to_string(&changed).unwrap() + "Nice=10\n").unwrap();
    let own = house.at("status-email-user@.service.d/phobos.conf");
    fs::write(&own, "[Service]\nNice=5\n").unwrap();
    let link = house.at("backup-exthdd.service.d/phobos.conf");
    let elsewhere = house.root.path().join("elsewhere");
    fs::rename(&link, &elsewhere).unwrap();
    symlink(&elsewhere, &link).unwrap();
    let before = house.files();
    for way in ["--apply", "--revert"] {
        let (said, code) = house.run(&[way]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("ipod.service.d/phobos.conf"), "{said}");
        assert_eq!(house.files(), before, "{way}");
        assert!(link.is_symlink());
    }
}

#[test]
fn a_drop_in_that_comes_later_is_a_persons_to_change() {
    let house = House::new();
    fs::create_dir(house.at("ipod.service.d")).unwrap();
    fs::write(house.at("ipod.service.d/zz.conf"), "[Service]\nExecStop=/bin/true\n").unwrap();
    fs::create_dir(house.at("backup-exthdd.service.d")).unwrap();
    let earlier = "[Service]\nExecStartPre=\nExecStartPre=/bin/true\nNice=1\n";
    fs::write(house.at("backup-exthdd.service.d/10-own.conf"), earlier).unwrap();
    let (said, code) = house.run(&["--apply"]);
    assert!(code == Some(1) && said.contains("zz.conf says what it runs"), "{said}");
    assert!(!house.at("ipod.service.d/phobos.conf").exists());
    // What an earlier one says counts.
    let written = fs::read_to_string(house.at("backup-exthdd.service.d/phobos.conf")).unwrap();
    assert!(!written.contains("phobos-ns"), "{written}");
    assert!(written.contains("/usr/local/bin/phobos-ext"), "{written}");
}

#[test]
fn a_unit_that_is_linked_from_elsewhere_is_the_administrators_too() {
    let house = House::new();
    let root = house.root.path();
    for folder in ["home/jon", "usr/lib/systemd/system"] {
        fs::create_dir_all(root.join(folder)).unwrap();
        fs::rename(house.at("ipod.service"), root.join(folder).join("ipod.service")).unwrap();
        symlink(root.join(folder).join("ipod.service"), house.at("ipod.service")).unwrap();
        let (said, _) = house.run(&["--apply", "ipod.service"]);
        assert_eq!(said.contains("written"), folder == "home/jon", "{said}");
        house.run(&["--revert"]);
        fs::remove_file(house.at("ipod.service")).unwrap();
        fs::write(house.at("ipod.service"), UNITS[2].1).unwrap();
    }
    symlink("/dev/null", house.at("masked.service")).unwrap();
    assert_eq!(house.run(&[]).1, Some(0));
}

#[test]
fn the_configuration_says_where_the_namespace_is() {
    let house = House::new();
    fs::create_dir_all(house.root.path().join("etc/phobos")).unwrap();
    let config = house.root.path().join("etc/phobos/phobos.toml");
    fs::write(config, "[backup]\n#namespace = \"/no\"\nnamespace = \"/root/mntns/1\"\n").unwrap();
    let (said, _) = house.run(&[]);
    assert!(said.contains("+ExecStart=/usr/bin/nsenter --mount=/root/mntns/1 "), "{said}");
}

#[test]
fn wrong_arguments_are_told() {
    let house = House::new();
    for wrong in [&["--nope"][..], &["--root"]] {
        let (said, code) = house.run(wrong);
        assert_eq!(code, Some(2), "{said}");
    }
    let (help, code) = house.run(&["--help"]);
    assert!(code == Some(0) && help.lines().all(|line| line.len() <= 80), "{help}");
}
