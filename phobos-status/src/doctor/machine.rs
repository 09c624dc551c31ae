//! The checks themselves; each says what is wrong, and how to mend it.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]
#![expect(clippy::unnecessary_wraps, reason = "all checks have one form, and most of them may be unable to tell")]

use std::path::{Path, PathBuf};

use phobos_core::luks::{CrypttabLine, crypttab_lines};
use phobos_core::namespace::Propagation;

use super::signs::{Seen, Signs, State};
use super::{Fault, Found, PROGRAMS};

/// A file system that is fuller than this is nearly full, in percent.
const FULL: u64 = 90;

/// The first Borg without archives that could be made up (CVE-2023-36811), and the first rsync with the fixes of August 2026.
const BORG: [u64; 3] = [1, 2, 5];
const RSYNC: [u64; 3] = [3, 5, 0];

/// The scripts that phobos's programs stand for.
const SCRIPTS: [(&str, &str); 5] = [
    ("mkbackupns", "phobos-ns"),
    ("phobos-backup-monthly", "phobos-ext"),
    ("systemd-email", "phobos-mail"),
    ("backup-luv", "phobos-pull luv"),
    ("blinkstick", "phobos-blink"),
];

pub(super) fn fault(what: String, remedy: impl Into<String>) -> Fault {
    Fault { what, remedy: remedy.into() }
}

pub(super) fn config(signs: &Signs) -> Found {
    let faults = signs.mistakes.iter().map(|mistake| fault(mistake.clone(), "mend that line"));
    Some(faults.collect())
}

pub(super) fn hidden(signs: &Signs) -> Found {
    let mounted = signs.mounted.as_ref()?;
    let seen = mounted.contains(&signs.backup);
    let path = signs.backup.display();
    Some(
        seen.then(|| {
            fault(
                format!("{path} is mounted where everybody sees it"),
                format!("umount {path}, and set noauto in fstab"),
            )
        })
        .into_iter()
        .collect(),
    )
}

pub(super) fn fstab(signs: &Signs) -> Found {
    let fstab = signs.fstab.as_ref()?;
    let mut faults = Vec::new();
    for (target, what) in [(&signs.backup, "the backups"), (&signs.drives, "the drives")] {
        let entry = fstab.lines().map(str::split_whitespace).find_map(|mut fields| {
            let (source, place) = (fields.next()?, fields.next()?);
            (!source.starts_with('#') && Path::new(place) == target)
                .then(|| fields.nth(1).unwrap_or_default().to_owned())
        });
        let path = target.display();
        match entry {
            // A machine without off-site drives has no need for theirs.
            None if what == "the drives" && signs.keys.is_empty() => {}
            None => faults.push(fault(
                format!("fstab has no entry for {path}, where {what} are mounted"),
                format!("add one for {path} with the option noauto"),
            )),
            Some(options) if options.split(',').any(|option| option == "noauto") => {}
            Some(_) => faults.push(fault(
                format!("{path} is mounted at boot, for everybody"),
                format!("add noauto to the options of {path} in fstab"),
            )),
        }
    }
    Some(faults)
}

/// Whether the machine boots without the drives: it neither opens one that has `noauto` nor waits for one that has `nofail` (crypttab(5)).
pub(super) fn crypttab(signs: &Signs) -> Found {
    let mut faults = Vec::new();
    for CrypttabLine { name, device, options, .. } in crypttab_lines(signs.crypttab.as_ref()?) {
        let Some(device) = device else { continue };
        let is_drive = signs.headers.iter().any(|header| {
            let uuid = device.strip_prefix("UUID=").unwrap_or_default();
            uuid.eq_ignore_ascii_case(&header.expected) || Path::new(device) == header.device
        });
        if (is_drive || name == signs.mapping)
            && !options.split(',').any(|option| ["noauto", "nofail"].contains(&option))
        {
            faults.push(fault(
                format!("{name} is opened at boot, which waits for a drive that is elsewhere"),
                format!("add noauto to the options of {name} in /etc/crypttab"),
            ));
        }
    }
    Some(faults)
}

/// Whether there is a namespace, and whether it is a slave of the host's, as phobos makes it (`namespace::prepare`).
pub(super) fn namespace(signs: &Signs) -> Found {
    if !signs.namespace? {
        return Some(vec![fault("there is no namespace".to_owned(), "systemctl enable --now phobos-ns.service")]);
    }
    let Propagation { deaf, shared } = signs.propagation.as_ref()?;
    let told = |paths: &[PathBuf]| match paths {
        [] => None,
        [one] => Some(format!("{} is", one.display())),
        [first, others @ ..] => Some(format!("{} and {} more are", first.display(), others.len())),
    };
    let deaf = told(deaf).map(|are| {
        format!(
            "{are} private in the namespace: what the host unmounts stays busy there, and what it mounts is not seen"
        )
    });
    let shared =
        told(shared).map(|are| format!("{are} shared with the namespace: what is mounted in it, everybody sees"));
    // Only one who has made it by other means has made it so.
    let remedy = "phobos-ns remove && systemctl restart phobos-ns.service";
    Some(deaf.into_iter().chain(shared).map(|what| fault(what, remedy)).collect())
}

pub(super) fn timers(signs: &Signs) -> Found {
    let started = signs.timers.as_ref()?;
    let is_started = |name: &str| started.iter().any(|timer| timer == name);
    let mut faults = Vec::new();
    for host in &signs.hosts {
        let own = format!("phobos-pull@{host}.timer");
        if !is_started(&own) && !is_started("phobos-pull.timer") && !signs.timed_hosts.contains(host) {
            faults.push(fault(format!("no timer pulls {host}"), format!("systemctl enable --now {own}")));
        }
    }
    for timer in &signs.installed_timers {
        let is_of_one_host = timer.contains('@') || timer == "phobos-pull.timer";
        if !is_of_one_host && !is_started(timer) {
            faults.push(fault(
                format!("{timer} is installed and not started"),
                format!("systemctl enable --now {timer}; or, if it is not wanted, systemctl mask {timer}"),
            ));
        }
    }
    if is_started("borgmatic.timer") {
        faults.push(fault(
            "Debian's borgmatic.timer is started, which knows nothing of the namespace".to_owned(),
            "systemctl disable --now borgmatic.timer",
        ));
    }
    Some(faults)
}

pub(super) fn scripts(signs: &Signs) -> Found {
    let mut faults = Vec::new();
    for (unit, text) in &signs.units {
        for line in text.lines().filter(|line| line.starts_with("Exec")) {
            let called = line
                .split(['=', ' ', ';'])
                .filter_map(|word| word.trim_start_matches(['-', '+', '!', '@', ':']).rsplit('/').next());
            for word in called {
                let known = SCRIPTS.iter().find(|(script, _)| *script == word);
                if let Some((script, program)) = known {
                    faults.push(fault(
                        format!("{unit} calls {script}"),
                        format!("`phobos-migrate` shows how it can call {program}"),
                    ));
                }
            }
        }
    }
    Some(faults)
}

pub(super) fn keys(signs: &Signs) -> Found {
    let mut faults = Vec::new();
    for key in &signs.keys {
        let path = key.path.display();
        match key.state {
            State::Unseen => return None,
            State::Missing => faults
                .push(fault(format!("the key file {path} is not there"), "put it back from where you keep a copy")),
            State::There { owner, mode } if owner != 0 || mode & 0o077 != 0 => {
                let what = format!("the key file {path} can be read by others than root (mode {mode:o})");
                faults.push(fault(what, format!("chown root {path} && chmod 0400 {path}")));
            }
            State::There { .. } => {}
        }
    }
    Some(faults)
}

pub(super) fn headers(signs: &Signs) -> Found {
    let mut faults = Vec::new();
    for header in &signs.headers {
        let (path, drive) = (header.path.display(), &header.drive);
        let remedy = format!(
            "plug {drive} in, and run cryptsetup luksHeaderBackup {} --header-backup-file {path}",
            header.device.display()
        );
        match &header.uuid {
            Seen::Unseen => return None,
            Seen::Missing => {
                faults.push(fault(format!("the LUKS header of the drive {drive} has no backup at {path}"), remedy));
            }
            Seen::There(uuid) if !uuid.eq_ignore_ascii_case(&header.expected) => {
                faults.push(fault(format!("{path} is no header of the drive {drive}"), remedy));
            }
            Seen::There(_) => {}
        }
    }
    Some(faults)
}

pub(super) fn programs(signs: &Signs) -> Found {
    let missing = PROGRAMS.iter().filter(|(program, _)| !signs.programs.iter().any(|found| found == program));
    Some(
        missing
            .map(|(program, package)| fault(format!("{program} is not installed"), format!("apt install {package}")))
            .collect(),
    )
}

pub(super) fn borg(signs: &Signs) -> Found {
    let version = version(signs.borg.as_ref()?)?;
    Some(if version < BORG.to_vec() {
        vec![fault(
            format!(
                "{} takes archives that somebody has made up for real ones",
                signs.borg.as_deref().unwrap_or_default()
            ),
            "install Borg 1.2.5 or newer, or see that the distribution's package has the fix",
        )]
    } else {
        Vec::new()
    })
}

pub(super) fn rsync(signs: &Signs) -> Found {
    let said = signs.rsync.as_ref()?;
    let version = version(said)?;
    Some(if version < RSYNC.to_vec() {
        let number = version.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
        vec![fault(
            format!("rsync {number} has vulnerabilities that a host could use; what confines it still holds"),
            "install rsync 3.5.0 or newer, or see that the distribution's package has the fixes of August 2026",
        )]
    } else {
        Vec::new()
    })
}

/// The first number with dots in a text.
fn version(text: &str) -> Option<Vec<u64>> {
    let word = text
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))?;
    let number = |part: &str| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_default()
    };
    Some(word.split('.').take(3).map(number).collect())
}

pub(super) fn landlock(signs: &Signs) -> Found {
    let modules = signs.security_modules.as_ref()?;
    let has = modules.trim().split(',').any(|module| module == "landlock");
    Some(if has {
        Vec::new()
    } else {
        vec![fault(
            "the kernel has no Landlock: what receives a host's files is less confined".to_owned(),
            "add landlock to lsm= on the kernel's command line, or use a newer kernel",
        )]
    })
}

pub(super) fn clock(signs: &Signs) -> Found {
    let is_set = match signs.clock.as_deref()?.trim() {
        "yes" => true,
        "no" => false,
        _ => return None,
    };
    Some(if is_set {
        Vec::new()
    } else {
        vec![fault(
            "the clock is not set by the network".to_owned(),
            "systemctl enable --now systemd-timesyncd.service; when a drive is due depends on it",
        )]
    })
}

pub(super) fn disks(signs: &Signs) -> Found {
    let text = signs.disks.as_ref()?;
    let mut faults = Vec::new();
    for line in text.lines().skip(1) {
        let Some((percent, target)) = line.trim().split_once(' ') else { continue };
        let Some(percent) = percent.strip_suffix('%').and_then(|percent| percent.parse::<u64>().ok()) else { continue };
        if percent > FULL {
            faults.push(fault(format!("{} is {percent} % full", target.trim()), "make room there"));
        }
    }
    Some(faults)
}

pub(super) fn spaces(signs: &Signs) -> Found {
    let spaces = signs.spaces.as_ref()?;
    let gone = spaces.iter().filter(|space| !space.starts_with('.') && !signs.hosts.contains(space));
    Some(
        gone.map(|space| {
            fault(
                format!("the holding space {space} is of no host that is configured"),
                "if it is not needed any more, it is in the archives: remove it",
            )
        })
        .collect(),
    )
}

pub(super) fn unlock(signs: &Signs) -> Found {
    let is_encrypted = signs.root_is_encrypted?;
    let can = signs.remote_unlock?;
    if !is_encrypted && !can {
        return Some(Vec::new());
    }
    if !can {
        return Some(vec![fault(
            "the system's disk is encrypted, and nobody can unlock it from elsewhere after a power cut".to_owned(),
            "apt install dropbear-initramfs, and phobos-unlock setup --key FILE",
        )]);
    }
    let wrong = signs.unlock_faults.iter();
    Some(
        wrong
            .map(|what| fault(what.clone(), "phobos-unlock setup mends it; phobos-unlock check looks again"))
            .collect(),
    )
}
