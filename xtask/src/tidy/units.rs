//! What every unit keeps to: as little right as its work needs, an end to every wait, and a failure that is told.

use super::files;
use crate::{crates, project};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How exposed a unit may be by `systemd-analyze security`, by what its name begins with.
const LIMITS: [(&str, f64); 11] = [
    ("status-email-", 2.0),
    ("phobos-mail-", 2.0),
    ("blinkstick-", 2.0),
    ("phobos-blink-", 2.0),
    ("phobos-borgmatic", 4.5),
    ("phobos-borg-check", 4.5),
    ("phobos-pull", 4.0),
    ("phobos-status-", 4.0),
    ("phobos-ext", 7.0),
    ("backup-exthdd", 7.0),
    ("phobos-ns", 7.0),
];

/// Units that tell others' failures, or that show them: nobody is called for their own.
const TELLERS: [&str; 4] = ["status-email-", "phobos-mail-", "blinkstick-", "phobos-blink-"];

/// What a unit notes about itself.
const NOTE: &str = "# systemd-analyze security: ";

fn services() -> Vec<(String, PathBuf, String)> {
    let found = crates().unwrap().into_iter().flat_map(|package| files(&package.join("dist"), &[".service"]));
    let services: Vec<_> = found
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap();
            (name, path, text)
        })
        .collect();
    assert!(services.len() >= 12, "{services:?}");
    services
}

fn is_any(name: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|beginning| name.starts_with(beginning))
}

/// What systemd makes of the unit's hardening.
#[expect(clippy::disallowed_methods, reason = "a test's own call")]
fn exposure(unit: &Path) -> f64 {
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(unit)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("systemd-analyze is not here; `cargo xtask setup` installs it with systemd-container");
    let said = String::from_utf8(output.stdout).unwrap();
    let last = said.lines().last().unwrap_or_default();
    let score = last.split(": ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|score| score.parse().ok());
    score.unwrap_or_else(|| panic!("{}: {said}{}", unit.display(), String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn no_unit_is_more_exposed_than_it_says_and_may_be() {
    for (name, path, text) in services() {
        let (_, limit) = LIMITS.into_iter().find(|(beginning, _)| name.starts_with(beginning)).unwrap_or_else(|| {
            panic!("{name}: no limit for it here");
        });
        let noted = text.lines().find_map(|line| line.strip_prefix(NOTE)).unwrap_or_else(|| {
            panic!("{name} does not note its score");
        });
        let noted: f64 = noted.parse().unwrap();
        assert!(noted <= limit, "{name} notes {noted}, and may have {limit}");
        let real = exposure(&path);
        assert!(real <= noted, "{name} notes {noted}, and systemd says {real}");
    }
}

#[test]
fn no_unit_waits_for_ever_and_every_failure_is_told() {
    for (name, _, text) in services() {
        // A oneshot has no limit of its own.
        assert!(text.contains("\nType=oneshot\n"), "{name}");
        let limit = text.lines().find_map(|line| line.strip_prefix("TimeoutStartSec="));
        assert!(limit.is_some_and(|limit| limit != "0" && limit != "infinity"), "{name} may take for ever");
        if !is_any(&name, &TELLERS) {
            let told = "\nOnFailure=status-email-user@%n.service blinkstick-fail.service\n";
            assert!(text.contains(told), "{name}: nobody is told of its failure");
        }
    }
}

/// Borg breaks a lock that a dead process of this machine has left, and takes it for another machine's where it cannot find out
/// the network card's number or asks for its name in vain (`platform/base.py`: the host's name and `uuid.getnode()`).
#[test]
fn borg_knows_its_machine_in_every_unit() {
    let reads_natively = |name: &str| name == "phobos-ext-verify-source.service";
    let runs_borg = |name: &str| is_any(name, &["phobos-ext", "backup-exthdd", "phobos-borg"]) && !reads_natively(name);
    let services: Vec<_> = services().into_iter().filter(|(name, ..)| runs_borg(name)).collect();
    assert!(services.len() >= 4, "{services:?}");
    for (name, _, text) in services {
        let setting = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let families: Vec<_> = setting("RestrictAddressFamilies=").unwrap_or_default().split(' ').collect();
        assert!(["AF_INET", "AF_INET6", "AF_NETLINK"].iter().all(|family| families.contains(family)), "{name}");
        for key in ["IPAddressDeny=", "PrivateNetwork="] {
            assert_eq!(setting(key), None, "{name}");
        }
    }
}

/// The groups of system calls that systemd knows, by name.
#[expect(clippy::disallowed_methods, reason = "a test's own call")]
fn groups() -> BTreeMap<String, Vec<String>> {
    let output = Command::new("systemd-analyze")
        .args(["syscall-filter", "--no-pager"])
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("systemd-analyze is not here; `cargo xtask setup` installs it with systemd-container");
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut group = String::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let name = line.trim();
        if line.starts_with('@') {
            name.clone_into(&mut group);
        } else if !name.is_empty() && !name.starts_with('#') {
            groups.entry(group.clone()).or_default().push(name.to_owned());
        }
    }
    assert!(groups.contains_key("@system-service"), "{groups:?}");
    groups
}

/// The system calls that a unit's filter lets through (systemd.exec(5)): a list of what is allowed, from which lines that begin
/// with `~` take, and to which others add; `None` where there is no filter.
fn allowed(text: &str, groups: &BTreeMap<String, Vec<String>>) -> Option<BTreeSet<String>> {
    let mut allowed = None;
    for line in text.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (takes, words) = line.strip_prefix('~').map_or((false, line), |words| (true, words));
        let mut left: Vec<&str> = words.split(' ').collect();
        let allowed = allowed.get_or_insert_with(|| groups["@default"].iter().cloned().collect::<BTreeSet<_>>());
        while let Some(word) = left.pop() {
            if word.starts_with('@') {
                left.extend(groups.get(word).unwrap_or_else(|| panic!("no group {word}")).iter().map(String::as_str));
            } else if takes {
                allowed.remove(word);
            } else {
                allowed.insert(word.to_owned());
            }
        }
    }
    allowed
}

/// Programs that must not outlive phobos are started through `setpriv --pdeathsig`, which sets the capabilities that it has; what
/// a filter refuses it, it takes for its end.
#[test]
fn setpriv_can_bind_a_program_to_phobos_in_every_unit() {
    let groups = groups();
    let starts_some =
        |text: &str| text.lines().any(|line| line.starts_with("ExecStart=") && !line.contains("phobos-blink"));
    let services: Vec<_> = services().into_iter().filter(|(.., text)| starts_some(text)).collect();
    assert!(services.len() >= 9, "{services:?}");
    for (name, _, text) in services {
        let allowed = allowed(&text, &groups).unwrap_or_else(|| panic!("{name} has no filter"));
        for call in ["capget", "capset", "prctl", "execve"] {
            assert!(allowed.contains(call), "{name} refuses setpriv the call {call}");
        }
    }
}

/// systemd makes a slash of a dash in `%I`.
#[test]
fn an_instance_with_a_dash_is_passed_on_as_it_is() {
    for path in files(project(), &[".service", ".timer", ".conf"]) {
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| line.starts_with("Exec")) {
            assert!(!line.contains("%I"), "{}: {line}", path.display());
        }
    }
}
