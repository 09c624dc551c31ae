//! `phobos-status doctor`: what is known to go wrong on a real machine, and how to mend it. Each check is a pure function of what
//! was seen; what cannot be seen is told as that, and is no fault.

mod access;
mod machine;
mod outside;
mod signs;

use std::collections::BTreeSet;

use phobos_core::schema::SchemaVersion;
use phobos_site::exit::{Exit, Stop};
use serde::Serialize;

use crate::layout::{Sheet, Tone};
use crate::model::clean;
pub(crate) use signs::{Looking, Signs};

/// Something that is set up wrongly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    pub(crate) what: String,
    pub(crate) remedy: String,
}

/// What a check has found; `None` if what it needs cannot be seen.
type Found = Option<Vec<Fault>>;

/// A check.
struct Check {
    name: &'static str,
    about: &'static str,
    judge: fn(&Signs) -> Found,
}

/// All checks, in the order in which they are run.
const CHECKS: [Check; 26] = [
    check("config", "the configuration can be read, every table and file of it", machine::config),
    check("hidden", "the backups are mounted nowhere but in the namespace", machine::hidden),
    check("fstab", "fstab has the backups and the drives, both with noauto", machine::fstab),
    check("crypttab", "the machine boots without the drives that are in crypttab", machine::crypttab),
    check("namespace", "the namespace is there, and follows what the host mounts", machine::namespace),
    check("timers", "every job has a timer that is started", machine::timers),
    check("scripts", "no unit calls the scripts that phobos stands for", machine::scripts),
    check("keys", "the key files are root's alone", machine::keys),
    check("restore", "no key that can write on a host is left behind", access::restore),
    check("headers", "each drive's LUKS header is backed up, and is the drive's", machine::headers),
    check("drives", "no drive is overdue, nearly full or failing", outside::standing),
    check("health", "no disk that is here says that it fails", outside::health),
    check("recovery", "each drive can be opened without this machine, and is on a sheet", outside::recovery),
    check("devices", "each drive has a unit that waits for it, and none waits in vain", outside::devices),
    check("mail", "no mail waits for a server", outside::mail),
    check("mailer", "a test message arrives; sent only if this check is named", outside::mailer),
    check("light", "units may set the light, and nobody else", outside::light),
    check("programs", "what phobos calls is installed", machine::programs),
    check("borg", "Borg has no known faults", machine::borg),
    check("rsync", "rsync has no known faults", machine::rsync),
    check("rrsync", "rrsync holds the keys to their folders by which others get in here", access::rrsync),
    check("landlock", "the kernel can confine what a host sends", machine::landlock),
    check("clock", "the clock is set by the network", machine::clock),
    check("disks", "no file system is over 90 % full", machine::disks),
    check("spaces", "no holding space is of a host that is not configured any more", machine::spaces),
    check("unlock", "a machine whose disk is encrypted can be unlocked from elsewhere", machine::unlock),
];

/// What the programs call.
const PROGRAMS: [(&str, &str); 6] = [
    ("borg", "borgbackup"),
    ("rsync", "rsync"),
    ("cryptsetup", "cryptsetup-bin"),
    ("ssh", "openssh-client"),
    ("mount", "mount"),
    ("setpriv", "util-linux"),
];

const fn check(name: &'static str, about: &'static str, judge: fn(&Signs) -> Found) -> Check {
    Check { name, about, judge }
}

/// What all checks have found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema_version: SchemaVersion<1>,
    checks: Vec<Line>,
}

/// What one check has found.
#[derive(Debug, Serialize)]
struct Line {
    check: &'static str,
    about: &'static str,
    /// `ok`, `fault`, or `unseen` if it cannot be told.
    state: &'static str,
    faults: Vec<Fault>,
}

/// Runs the checks of these names, or all of them.
///
/// # Errors
///
/// When there is no check of a name.
pub(crate) fn run(names: &[String], signs: &Signs) -> Result<Report, Stop> {
    let known: BTreeSet<&str> = CHECKS.iter().map(|check| check.name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(name.as_str())) {
        let near = phobos_site::usage::nearest(name, CHECKS.iter().map(|check| check.name));
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let all: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        let text = format!("there is no check {:?}{near}; there are {}", clean(name), all.join(", "));
        return Err(Stop::new(Exit::Usage, text));
    }
    let wanted = CHECKS.iter().filter(|check| names.is_empty() || names.iter().any(|name| name == check.name));
    let line = |check: &Check| {
        let found = (check.judge)(signs);
        let state = match &found {
            None => "unseen",
            Some(faults) if faults.is_empty() => "ok",
            Some(_) => "fault",
        };
        let faults = found.unwrap_or_default().into_iter();
        let faults = faults.map(|fault| Fault { what: clean(&fault.what), remedy: clean(&fault.remedy) }).collect();
        Line { check: check.name, about: check.about, state, faults }
    };
    Ok(Report { schema_version: SchemaVersion, checks: wanted.map(line).collect() })
}

impl Report {
    /// Whether nothing was found.
    pub(crate) fn is_well(&self) -> bool {
        self.checks.iter().all(|line| line.faults.is_empty())
    }

    /// As people read it: what is wrong first.
    pub(crate) fn draw(&self, colours: bool) -> String {
        let mut sheet = Sheet::new(colours);
        for line in self.checks.iter().filter(|line| line.state == "fault") {
            for fault in &line.faults {
                sheet.wrapped(Tone::Bad, line.check, &fault.what, INDENT);
                if !fault.remedy.is_empty() {
                    sheet.wrapped(Tone::Weak, "", &format!("-> {}", fault.remedy), INDENT);
                }
            }
        }
        for line in self.checks.iter().filter(|line| line.state == "ok") {
            sheet.wrapped(Tone::Good, line.check, &format!("ok: {}", line.about), INDENT);
        }
        for line in self.checks.iter().filter(|line| line.state == "unseen") {
            sheet.wrapped(Tone::Weak, line.check, &format!("cannot be told here: {}", line.about), INDENT);
        }
        sheet.finish()
    }
}

/// How far in what is said of a check is.
const INDENT: usize = 11;

#[cfg(test)]
mod tests;
