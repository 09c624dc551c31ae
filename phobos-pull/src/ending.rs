//! What the end of an rsync means: read from its exit code, and from what rsync, ssh and the host have said.
//!
//! That a host is not there is believed for a short list of reasons only. Everything else that ends a connection is a
//! failure: a host that may be away for a week must not hide one for so long.

use std::collections::VecDeque;

use phobos_core::fs::is_hidden;
use phobos_core::rsync;
use phobos_core::ssh::{Login, is_away, login, without_place};
use phobos_site::exit::Exit;

use crate::parts;

/// How many of the first lines that rsync and ssh complain with are kept, and how many of the last.
const KEPT: usize = 20;

/// How many of them an error shows.
const SHOWN: usize = 3;

/// How much is shown of both ends of a long path, in characters.
const PATH_SHOWN: usize = 60;

/// rsync's exit codes with a meaning of their own here (rsync(1), "EXIT VALUES").
const PROTOCOL: i32 = 2;
const SOCKET: i32 = 10;
const CLOSED: i32 = 12;
pub(crate) const PARTIAL: i32 = 23;
const NO_DAEMON: i32 = 35;
const NOT_CONFINED: i32 = 78;
const NO_PROGRAM: [i32; 2] = [126, 127];
const SSH_FAILED: i32 = 255;

/// What the end of an rsync means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The exit code that it stands for.
    pub(crate) exit: Exit,
    /// What happened, and what can be done.
    pub(crate) text: String,
}

/// What rsync and ssh complained of: the first lines and the last ones.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    first: Vec<String>,
    last: VecDeque<String>,
    left_out: usize,
    /// A source that the host has not, in rsync's words.
    pub(crate) missing: Option<String>,
}

/// What the exit code `code` means, with what was said before; `host` is the host's name here.
pub(crate) fn of(code: i32, complaints: &Complaints, host: &str) -> Ending {
    let ending = |exit, text| Ending { exit, text };
    let said = complaints.summary();
    match code {
        SSH_FAILED | CLOSED => match login(complaints.lines()) {
            Some((login, line)) => of_login(login, line, host),
            None => far_side(complaints, host),
        },
        SOCKET | NO_DAEMON => match complaints.lines().rfind(|line| is_away(line)) {
            Some(line) => ending(Exit::Absent, format!("it is not there: {line}")),
            None if code == NO_DAEMON => ending(Exit::Absent, format!("it is not there: {said}")),
            None => ending(Exit::Failed, format!("no connection to its rsync daemon: {said}")),
        },
        NOT_CONFINED => ending(Exit::Config, said),
        PROTOCOL if complaints.lines().any(|line| line.contains("is your shell clean")) => ending(
            Exit::Failed,
            "it says something before rsync does: whoever logs in without a terminal must get no greeting, so take it out \
             of .bashrc or its like there; or its shell is nologin"
                .to_owned(),
        ),
        PROTOCOL => far_side(complaints, host),
        _ if NO_PROGRAM.contains(&code) => far_side(complaints, host),
        PARTIAL => ending(Exit::Failed, {
            let attributes = || complaints.lines().find_map(too_many_attributes).map(attributes_text);
            let path = || complaints.lines().find_map(too_long).map(path_text);
            attributes().or_else(path).unwrap_or_else(|| format!("some files could not be copied: {said}"))
        }),
        _ => match rsync::meaning(code) {
            Some(meaning) => ending(Exit::Failed, format!("{meaning}: {said}")),
            None => ending(Exit::Failed, format!("rsync ended with exit code {code}: {said}")),
        },
    }
}

/// What it means for the host called `host` that a login came to nothing; `line` is what ssh said.
pub(crate) fn of_login(login: Login, line: &str, host: &str) -> Ending {
    let (exit, text) = match login {
        Login::Options => {
            (Exit::Config, format!("ssh does not take its options: {line}; see `ssh-options` and `jump` of {host}"))
        }
        Login::Forbidden => (
            Exit::Config,
            format!("ssh is not let out to that port: {line}; name it with `port` or `jump`, not in `ssh-options`"),
        ),
        Login::NewKey => (Exit::Refused, format!("its host key is not known; run `phobos-pull trust {host}`")),
        Login::OtherKey => (
            Exit::Refused,
            format!(
                "its host key is not the one that is known; if it was changed for a good reason, run `phobos-pull \
                 trust {host}`"
            ),
        ),
        Login::Denied => (
            Exit::Failed,
            format!(
                "it does not let phobos-pull in: {line}; put the line that `phobos-pull authorize {host}` prints there"
            ),
        ),
        Login::Algorithms => (
            Exit::Failed,
            format!(
                "it knows only ways that ssh here no longer takes: {line}; renew its ssh server or its keys, or allow \
                 what it offers with `ssh-options`, such as \"HostKeyAlgorithms=+ssh-rsa\""
            ),
        ),
        Login::Gate => (
            Exit::Failed,
            format!("the host in between does not let phobos-pull through: {line}; see `permitopen` in sshd(8)"),
        ),
        Login::Away => (Exit::Absent, format!("it is not there: {line}")),
        Login::Lost => (Exit::Failed, format!("the connection was lost: {line}")),
    };
    Ending { exit, text }
}

/// What the host's own side said before it ended; ssh has not complained.
fn far_side(complaints: &Complaints, host: &str) -> Ending {
    let said = complaints.summary();
    let has = |texts: &[&str]| complaints.news().any(|line| texts.iter().any(|text| line.contains(text)));
    let text = if complaints.news().next().is_none() {
        format!(
            "the connection was closed without a word; is rsync there, and does the line that `phobos-pull authorize \
             {host}` prints start it? Or one of rsync's processes was killed"
        )
    } else if has(&["command not found", ": not found", "cannot execute", "Unknown command"]) {
        format!("it has no rsync or rrsync where the key looks for it: {said}; install its package rsync")
    } else if has(&["unrecognized option", "unknown option", "illegal option", "invalid option", "usage: rsync"]) {
        format!("its rsync is another one, or too old: {said}; install rsync (samba.org's) there, 3.1 or newer")
    } else if has(&["rrsync", "has been disabled on this server", "unsafe arg", "invalid rsync-command"]) {
        format!(
            "what restricts the key refuses the call: {said}; put the line that `phobos-pull authorize {host}` prints there"
        )
    } else if has(&["account is currently not available"]) {
        format!("its user may not log in: {said}")
    } else {
        format!("rsync there ended: {said}")
    };
    Ending { exit: Exit::Failed, text }
}

/// The file of a line that says that its attributes have no room; of one that was being made, only its name is known.
fn too_many_attributes(line: &str) -> Option<&str> {
    let lower = line.to_ascii_lowercase();
    let is_about_attributes = ["xattr", "acl"].iter().any(|word| lower.contains(word));
    if !is_about_attributes || !(line.contains("No space left on device") || line.contains("Argument list too long")) {
        return None;
    }
    let path = line.split('"').nth(1)?;
    Some(parts::made(path).unwrap_or(path))
}

fn attributes_text(file: &str) -> String {
    format!(
        "{file} has more extended attributes or ACL entries than the file system of the holding spaces keeps for one file \
         (ext4: 4 KB); leave it out with `exclude`, or set `xattrs = false` or `acls = false` for this host, or let ext4 \
         keep more: `tune2fs -O ea_inode DEVICE`"
    )
}

/// The path of a line that says that it is too long (ENAMETOOLONG): rsync gives up some bytes before the kernel would.
fn too_long(line: &str) -> Option<&str> {
    line.contains("File name too long").then(|| line.split('"').nth(1)).flatten()
}

fn path_text(path: &str) -> String {
    let ends: (String, String) =
        (path.chars().take(PATH_SHOWN).collect(), path.chars().rev().take(PATH_SHOWN).collect());
    format!(
        "the path {}…{} has {} bytes, too many for rsync here; shorten it on the host, or leave it out with `exclude`",
        ends.0,
        ends.1.chars().rev().collect::<String>(),
        path.len()
    )
}

impl Complaints {
    /// Takes a line.
    pub(crate) fn add(&mut self, line: &str) {
        let line = without_place(line);
        // What a host's ssh or rsync writes goes to terminals and mails.
        let line: String = line.chars().map(|c| if is_hidden(c) { '?' } else { c }).collect();
        if self.missing.is_none() && is_missing_source(&line) {
            self.missing = Some(line.clone());
        }
        if self.first.len() < KEPT {
            return self.first.push(line);
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back(line);
    }

    /// The lines that were kept.
    pub(crate) fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.first.iter().chain(&self.last).map(String::as_str)
    }

    /// The lines, and how many there were between them.
    pub(crate) fn each(&self) -> impl Iterator<Item = String> {
        let left_out = (self.left_out > 0).then(|| format!("and {} more such lines", self.left_out));
        self.first.iter().cloned().chain(left_out).chain(self.last.iter().cloned())
    }

    /// The lines that say more than that something has ended.
    fn news(&self) -> impl Iterator<Item = &str> {
        // rsync ends with a line that repeats its exit code, and takes the silence of an ssh that failed for news.
        self.lines().filter(|line| {
            !line.starts_with("rsync error: ")
                && !line.starts_with("rsync warning: ")
                && !line.contains("connection unexpectedly closed")
                && !line.ends_with("write error: Broken pipe (32)")
        })
    }

    /// The lines that tell most, on one line.
    pub(crate) fn summary(&self) -> String {
        let news: Vec<_> = self.news().collect();
        let Some(first) = news.get(..SHOWN.min(news.len())).filter(|first| !first.is_empty()) else {
            return self.first.first().cloned().unwrap_or_else(|| "it gave no reason".to_owned());
        };
        match news.len().saturating_sub(first.len()).saturating_add(self.left_out) {
            0 => first.join(" | "),
            more => format!("{} | and {more} more", first.join(" | ")),
        }
    }
}

/// Whether a line says that a source itself is not there; a file below it is said to have vanished.
fn is_missing_source(line: &str) -> bool {
    line.starts_with("rsync: ")
        && ["link_stat \"", "change_dir \""].iter().any(|call| line.contains(call))
        && line.ends_with(": No such file or directory (2)")
}

#[cfg(test)]
mod tests;
