//! What every unit keeps to: as little right as its work needs, an end to every wait, and a failure that is told.

use super::files;
use crate::{crates, project};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How exposed a unit may be by `systemd-analyze security`, by what its name begins with.
const LIMITS: [(&str, f64); 10] = [
    ("status-email-", 2.0),
    ("phobos-mail-", 2.0),
    ("blinkstick-", 2.0),
    ("phobos-blink-", 2.0),
    ("phobos-borgmatic", 4.5),
    ("phobos-borg-check", 4.5),
    ("phobos-pull", 4.0),
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
    let runs_borg = |name: &str| is_any(name, &["phobos-ext", "backup-exthdd", "phobos-borg"]);
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
