//! Each check fires where it is to, and does not where all is well.

use std::path::PathBuf;
use std::time::Duration;

use phobos_core::block::Health;
use phobos_core::namespace::Propagation;

use super::signs::{Asked, Header, Key, Lent, Node, Seen, State, Ways};
use super::*;

/// A machine with nothing wrong.
fn well() -> Signs {
    let text = |text: &str| Some(text.to_owned());
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Signs {
        backup: "/backup".into(),
        drives: "/extbackup".into(),
        mounted: Some(vec!["/".into(), "/boot".into()]),
        fstab: text(
            "# x\nUUID=1 / ext4 defaults 0 1\nUUID=2 /backup ext4 noauto,noatime 0 0\nLABEL=extbackup /extbackup ext4 noatime,noauto 0 0\n",
        ),
        crypttab: text(
            "# extbackup UUID=a-b /k luks\nvault UUID=c /k luks\nother UUID=A-B /k luks,nofail\nextbackup UUID=a-b /k luks,noauto\n",
        ),
        mapping: "extbackup".into(),
        namespace: Some(true),
        propagation: Some(Propagation::default()),
        hosts: names(&["luv", "chew"]),
        timers: Some(names(&["phobos-pull@luv.timer", "phobos-borgmatic.timer", "my-own.timer"])),
        installed_timers: names(&["phobos-borgmatic.timer", "phobos-pull.timer", "phobos-pull@.timer"]),
        timed_hosts: names(&["chew"]),
        units: vec![(
            "backup-exthdd.service".into(),
            "[Service]\n# mkbackupns\nExecStartPre=-/usr/local/bin/phobos-ns\nExecStart=/bin/true\n".into(),
        )],
        keys: vec![Key { path: "/etc/phobos/keys/A".into(), state: State::There { owner: 0, mode: 0o400 } }],
        headers: vec![Header {
            drive: "A".into(),
            device: "/dev/disk/by-uuid/a-b".into(),
            path: "/h".into(),
            expected: "a-b".into(),
            uuid: Seen::There("A-B".into()),
        }],
        lent: Some(vec![Lent {
            path: "/etc/phobos/keys/restore-luv".into(),
            host: "luv".into(),
            age: Duration::from_secs(2 * 24 * 3600),
        }]),
        authorized: Some(vec![
            (
                "/root/.ssh/authorized_keys".into(),
                "restrict,command=\"rrsync -ro /srv\" ssh-ed25519 AAAA other@nas\n".into(),
            ),
            (
                "/home/jon/.ssh/authorized_keys".into(),
                "command=\"/old/rrsync -ro /\" ssh-rsa AAAA\nssh-rsa AAAA jon\n".into(),
            ),
        ]),
        rrsyncs: [
            ("rrsync", "/usr/bin/rrsync", "#!/usr/bin/python3\n        return '/proc/self/fd/%d' % fd\n"),
            ("/old/rrsync", "/old/rrsync", "#!/usr/bin/env perl\n"),
        ]
        .map(|(word, path, text)| (word.to_owned(), (path.into(), text.to_owned())))
        .into(),
        programs: names(&["borg", "rsync", "cryptsetup", "ssh", "mount", "setpriv"]),
        borg: text("borg 1.4.0"),
        rsync: text("rsync  version 3.5.0  protocol version 32"),
        security_modules: text("lockdown,capability,landlock,yama,apparmor\n"),
        clock: text("yes\n"),
        disks: text("Use% Mounted on\n 90% /\n  1% /boot\n"),
        spaces: Some(names(&["luv", ".phobos"])),
        root_is_encrypted: Some(true),
        remote_unlock: Some(true),
        attention: Some(Vec::new()),
        asked: vec![
            Asked { what: "the drive A".into(), health: Health::Good },
            Asked { what: "the backups".into(), health: Health::Unknown("it does not tell".into()) },
        ],
        ways: vec![Ways { drive: "A".into(), slots: Some(2), is_on_sheet: true }],
        waiting: Some(vec![("phobos-ext@a-b.service".into(), "/dev/disk/by-uuid/a-b".into())]),
        known: vec!["/dev/disk/by-uuid/a-b".into(), "/dev/loop0".into()],
        letters: Some((0, 0)),
        sent: Some(Ok(())),
        lights: (vec![Node { path: "/dev/hidraw0".into(), group: 999, mode: 0o660 }], Some(999)),
        ..Signs::default()
    }
}

fn faults(name: &str, signs: &Signs) -> Vec<String> {
    let report = run(&[name.to_owned()], signs).unwrap();
    report.checks[0].faults.iter().map(|fault| format!("{}; {}", fault.what, fault.remedy)).collect()
}

/// A change of a machine that is well, and what is said of it then.
type Case = (&'static str, fn(&mut Signs), &'static str);

const CASES: [Case; 45] = [
    (
        "config",
        |signs| signs.mistakes.push("phobos.toml:3: mount: no".into()),
        "phobos.toml:3: mount: no; mend that line",
    ),
    (
        "hidden",
        |signs| signs.mounted.as_mut().unwrap().push("/backup".into()),
        "/backup is mounted where everybody sees it; umount /backup",
    ),
    (
        "fstab",
        |signs| signs.fstab = Some("UUID=2 /backup ext4 noatime 0 0\nx /extbackup ext4 noauto".into()),
        "/backup is mounted at boot, for everybody; add noauto",
    ),
    (
        "fstab",
        |signs| signs.fstab = Some("UUID=2 /backup ext4 noauto 0 0\n#x /extbackup ext4 noauto".into()),
        "fstab has no entry for /extbackup",
    ),
    (
        "fstab",
        |signs| signs.fstab = Some(String::new()),
        "fstab has no entry for /backup, where the backups are mounted; add one",
    ),
    (
        "crypttab",
        |signs| signs.crypttab = Some("  photos UUID=A-B /k luks,noautomatic\n".into()),
        "photos is opened at boot, which waits for a drive that is elsewhere; add noauto to the options of photos in",
    ),
    ("crypttab", |signs| signs.crypttab = Some("photos /dev/disk/by-uuid/a-b\n".into()), "photos is opened at boot"),
    ("crypttab", |signs| signs.crypttab = Some("extbackup PARTUUID=x /k\n".into()), "extbackup is opened at boot"),
    (
        "namespace",
        |signs| signs.namespace = Some(false),
        "there is no namespace; systemctl enable --now phobos-ns.service",
    ),
    (
        "namespace",
        |signs| signs.propagation.as_mut().unwrap().deaf.extend(["/".into(), "/run".into()]),
        "/ and 1 more are private in the namespace: what the host unmounts stays busy there, and what it mounts is not seen; \
         phobos-ns remove",
    ),
    (
        "namespace",
        |signs| signs.propagation.as_mut().unwrap().shared.push("/".into()),
        "/ is shared with the namespace: what is mounted in it, everybody sees; phobos-ns remove",
    ),
    (
        "restore",
        |signs| signs.lent.as_mut().unwrap()[0].age += Duration::from_secs(1),
        "the key /etc/phobos/keys/restore-luv can write on luv; it was lent for 2 days, and left behind; rm /etc/phobos/keys/restore-luv \
         /etc/phobos/keys/restore-luv.pub, and take its line out of .ssh/authorized_keys on luv",
    ),
    (
        "rrsync",
        |signs| signs.rrsyncs.get_mut("rrsync").unwrap().1 = "#!/usr/bin/python3\n".into(),
        "a key in /root/.ssh/authorized_keys is held to /srv by /usr/bin/rrsync, which can be led out of it (CVE-2026-53783); put the",
    ),
    (
        "rrsync",
        |signs| signs.authorized.as_mut().unwrap()[1].1 = "command=\"/old/rrsync -ro /home\" ssh-rsa AAAA\n".into(),
        "a key in /home/jon/.ssh/authorized_keys is held to /home by /old/rrsync, that of rsync 3.2.3 or older, which follows",
    ),
    (
        "timers",
        |signs| signs.hosts.push("nuhc".into()),
        "no timer pulls nuhc; systemctl enable --now phobos-pull@nuhc.timer",
    ),
    (
        "timers",
        |signs| signs.installed_timers.push("phobos-borg-check.timer".into()),
        "phobos-borg-check.timer is installed and not started",
    ),
    (
        "timers",
        |signs| signs.timers.as_mut().unwrap().push("borgmatic.timer".into()),
        "Debian's borgmatic.timer is started",
    ),
    (
        "scripts",
        |signs| signs.units.push(("a.service".into(), "ExecStartPre=/home/jon/bin/mkbackupns\n".into())),
        "a.service calls mkbackupns; `phobos-migrate` shows how it can call phobos-ns",
    ),
    (
        "scripts",
        |signs| signs.units.push(("b.service".into(), "ExecStart=-/usr/local/bin/systemd-email %i\n".into())),
        "b.service calls systemd-email",
    ),
    (
        "keys",
        |signs| signs.keys[0].state = State::There { owner: 0, mode: 0o440 },
        "the key file /etc/phobos/keys/A can be read by others than root (mode 440); chown",
    ),
    (
        "keys",
        |signs| signs.keys[0].state = State::There { owner: 1000, mode: 0o400 },
        "the key file /etc/phobos/keys/A can be read by others than root",
    ),
    ("keys", |signs| signs.keys[0].state = State::Missing, "the key file /etc/phobos/keys/A is not there"),
    (
        "headers",
        |signs| signs.headers[0].uuid = Seen::Missing,
        "the LUKS header of the drive A has no backup at /h; plug A in, and run cryptsetup",
    ),
    (
        "headers",
        |signs| signs.headers[0].uuid = Seen::There(String::new()),
        "/h is no header of the drive A; plug A in",
    ),
    ("programs", |signs| drop(signs.programs.remove(0)), "borg is not installed; apt install borgbackup"),
    ("borg", |signs| signs.borg = Some("borg 1.2.4".into()), "borg 1.2.4 takes archives"),
    (
        "rsync",
        |signs| signs.rsync = Some("rsync  version 3.2.7  protocol version 31".into()),
        "rsync 3.2.7 has vulnerabilities",
    ),
    ("landlock", |signs| signs.security_modules = Some("capability,yama".into()), "the kernel has no Landlock"),
    ("clock", |signs| signs.clock = Some("no\n".into()), "the clock is not set by the network"),
    ("disks", |signs| signs.disks = Some("Use% Mounted on\n 91% /srv a\n  -  /x\n".into()), "/srv a is 91 % full"),
    ("spaces", |signs| signs.spaces.as_mut().unwrap().push("gone".into()), "the holding space gone is of no host"),
    ("unlock", |signs| signs.remote_unlock = Some(false), "the system's disk is encrypted, and nobody can unlock it"),
    (
        "unlock",
        |signs| signs.unlock_faults.push("/boot/initrd.img-6.1 is older than /etc/crypttab".into()),
        "/boot/initrd.img-6.1 is older than /etc/crypttab; phobos-unlock setup mends it",
    ),
    (
        "drives",
        |signs| signs.attention.as_mut().unwrap().push(("the drive A is overdue".into(), "plug in A".into())),
        "the drive A is overdue; plug in A",
    ),
    (
        "health",
        |signs| signs.asked[1].health = Health::Failing("8 sectors cannot be read".into()),
        "the disk of the backups fails: 8 sectors cannot be read",
    ),
    ("recovery", |signs| signs.ways[0].slots = Some(1), "nothing but its key file on this machine opens the drive A"),
    ("recovery", |signs| signs.ways[0].is_on_sheet = false, "no recovery sheet has been made that has the drive A"),
    (
        "devices",
        |signs| signs.waiting.as_mut().unwrap().push(("phobos-ext@c.service".into(), "/dev/disk/by-uuid/c".into())),
        "phobos-ext@c.service waits for /dev/disk/by-uuid/c, which is no drive that is configured",
    ),
    (
        "devices",
        |signs| signs.known.push("/dev/disk/by-uuid/c".into()),
        "nothing happens when the drive /dev/disk/by-uuid/c is plugged in; systemctl enable $(systemd-escape",
    ),
    ("mail", |signs| signs.letters = Some((2, 0)), "no server has taken 2 messages yet"),
    ("mail", |signs| signs.letters = Some((0, 1)), "no server would take 1 message"),
    (
        "mailer",
        |signs| signs.sent = Some(Err("no server".into())),
        "a test message did not leave as a unit sends it: no",
    ),
    ("light", |signs| signs.lights.0[0].group = 0, "units cannot set the light at /dev/hidraw0"),
    ("light", |signs| signs.lights.1 = None, "units cannot set the light at /dev/hidraw0"),
    ("light", |signs| signs.lights.0[0].mode = 0o666, "any user can turn the light at /dev/hidraw0 green"),
];

#[test]
fn each_check_fires_where_it_is_to_and_nowhere_else() {
    assert!(run(&[], &well()).unwrap().is_well(), "{}", run(&[], &well()).unwrap().draw(false));
    for (name, change, said) in CASES {
        let mut signs = well();
        change(&mut signs);
        let found = faults(name, &signs);
        assert!(matches!(found.as_slice(), [one, ..] if one.starts_with(said)), "{name}: {found:?}");
        let report = run(&[], &signs).unwrap();
        let others = report.checks.iter().filter(|line| line.check != name && !line.faults.is_empty());
        assert_eq!(others.count(), 0, "{name}");
    }
    for check in CHECKS {
        assert!(CASES.iter().any(|(name, ..)| *name == check.name), "nobody makes {} fire", check.name);
    }
}

/// The owner's unit waits for a label, which any of his drives has.
#[test]
fn a_unit_that_waits_for_a_label_waits_for_any_drive() {
    let mut signs = well();
    signs.known.push("/dev/disk/by-uuid/c".into());
    signs.waiting = Some(vec![("backup-exthdd.service".into(), "/dev/disk/by-label/extbackup".into())]);
    assert!(faults("devices", &signs).is_empty());
}

#[test]
fn what_cannot_be_seen_is_no_fault() {
    let report = run(&[], &Signs { programs: well().programs, ..Signs::default() }).unwrap();
    assert!(report.is_well());
    let unseen: Vec<_> = report.checks.iter().filter(|line| line.state == "unseen").map(|line| line.check).collect();
    assert_eq!(
        unseen,
        [
            "hidden",
            "fstab",
            "crypttab",
            "namespace",
            "timers",
            "restore",
            "drives",
            "health",
            "devices",
            "mail",
            "mailer",
            "light",
            "borg",
            "rsync",
            "rrsync",
            "landlock",
            "clock",
            "disks",
            "spaces",
            "unlock"
        ]
    );
    // Where there is one, and nobody can look into it.
    let blind = Signs { propagation: None, ..well() };
    assert_eq!(run(&["namespace".to_owned()], &blind).unwrap().checks[0].state, "unseen");
    let mut signs = well();
    signs.keys = vec![Key { path: PathBuf::from("/k"), state: State::Unseen }];
    assert_eq!(run(&["keys".to_owned()], &signs).unwrap().checks[0].state, "unseen");
    for strange in ["", "openrsync", "borg x.y", "\u{1b}[2J"] {
        let signs = Signs {
            rsync: Some(strange.into()),
            borg: Some(strange.into()),
            clock: Some(strange.into()),
            disks: Some(strange.into()),
            ..well()
        };
        assert!(run(&[], &signs).is_ok());
    }
}

#[test]
fn a_check_can_be_run_alone_and_is_read_by_people_and_programs() {
    let mut signs = well();
    signs.namespace = Some(false);
    signs.units.push(("\u{1b}[2J.service".into(), "ExecStart=mkbackupns\n".into()));
    let error = run(&["namspace".to_owned()], &signs).unwrap_err().to_string();
    assert!(
        error.starts_with("there is no check \"namspace\"; did you mean namespace?; there are config, "),
        "{error}"
    );
    let text = run(&["scripts".to_owned(), "namespace".to_owned(), "clock".to_owned()], &signs).unwrap().draw(false);
    let want = "\
namespace  there is no namespace
           -> systemctl enable --now phobos-ns.service
scripts    \\u{1b}[2J.service calls mkbackupns
           -> `phobos-migrate` shows how it can call phobos-ns
clock      ok: the clock is set by the network
";
    assert_eq!(text, want);
    let json = serde_json::to_value(run(&[], &signs).unwrap()).unwrap();
    assert_eq!((&json["schema_version"], json["checks"].as_array().map(Vec::len)), (&1.into(), Some(CHECKS.len())));
    assert_eq!(json["checks"][4]["faults"][0]["what"], "there is no namespace");
    for line in run(&[], &Signs::default()).unwrap().draw(false).lines() {
        assert!(line.chars().count() <= crate::layout::WIDTH, "{line}");
    }
}

#[test]
fn fuzz_doctor_signs() {
    let seeds: [&[u8]; 3] = [
        b"UUID=2 /backup ext4 noauto,noatime 0 0\n",
        b"rsync  version 3.2.7  protocol",
        b"Use% Mounted on\n 91% /srv\n",
    ];
    phobos_fuzz::target("doctor signs", &seeds, |bytes| {
        let text = || Some(String::from_utf8_lossy(bytes).into_owned());
        let units = vec![("x".to_owned(), String::from_utf8_lossy(bytes).into_owned())];
        let signs = Signs {
            fstab: text(),
            crypttab: text(),
            rsync: text(),
            borg: text(),
            disks: text(),
            clock: text(),
            security_modules: text(),
            units,
            ..well()
        };
        std::hint::black_box(run(&[], &signs).map(|report| report.draw(false).len()).unwrap_or_default());
    });
}
