//! ssh's keys: those of hosts, which are pinned, and those shown to hosts, which are restricted to reading.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Class, Classified};
use crate::exec::{Exec, ExecError, Invocation};

/// How long a host may take to show its keys, in seconds.
const SCAN_SECS: &str = "15";

/// A key that a host shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// Its kind and itself, as in a known-hosts file: `ssh-ed25519 AAAA…`.
    pub key: String,
    /// What people compare: `SHA256:…`.
    pub fingerprint: String,
    /// What people call its kind: `ED25519`.
    pub kind: String,
}

/// Why something about keys was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// The host shows no keys: it is not there, or no ssh server is.
    #[error("{host} shows no host keys: is it there, and its ssh server on port {port}?")]
    NoKeys {
        /// The host.
        host: String,
        /// The port that was asked.
        port: u16,
    },
    /// A program for keys failed.
    #[error("cannot {verb} {object}")]
    Tool {
        /// What was tried.
        verb: &'static str,
        /// On what.
        object: String,
        /// What the program said.
        source: ExecError,
    },
    /// A program for keys said something that cannot be understood.
    #[error("cannot understand what ssh-keygen says about the keys of {0}")]
    Nonsense(String),
    /// The known-hosts file cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Classified for SshError {
    fn class(&self) -> Class {
        match self {
            Self::NoKeys { .. } | Self::Tool { .. } | Self::Nonsense(_) | Self::File { .. } => Class::Source,
        }
    }
}

/// The name of a host in a known-hosts file: with its port, if that is not ssh's own.
pub fn known_as(address: &str, port: u16) -> String {
    if port == 22 { address.to_owned() } else { format!("[{address}]:{port}") }
}

/// Asks a host for its keys; whoever answers may be somebody else.
///
/// # Errors
///
/// [`SshError::NoKeys`] if nobody answers.
pub fn scan(exec: &dyn Exec, address: &str, port: u16) -> Result<Vec<HostKey>, SshError> {
    let nobody = || SshError::NoKeys { host: address.to_owned(), port };
    let call = Invocation::new("ssh-keyscan").args(["-T", SCAN_SECS, "-p", &port.to_string(), "--", address]);
    let shown = match exec.run(&call) {
        Ok(finished) => finished.text(),
        Err(ExecError::Failed { .. }) => return Err(nobody()),
        Err(source) => return Err(SshError::Tool { verb: "ask for the host keys of", object: address.into(), source }),
    };
    let keys: Vec<String> = shown.lines().filter_map(key_of_line).collect();
    if keys.is_empty() {
        return Err(nobody());
    }
    fingerprints(exec, address, keys)
}

/// The keys that a known-hosts file has for a host; none if there is no such file.
///
/// # Errors
///
/// If the file cannot be read.
pub fn known(exec: &dyn Exec, known_hosts: &Path, host: &str) -> Result<Vec<HostKey>, SshError> {
    if !known_hosts.exists() {
        return Ok(Vec::new());
    }
    let call = Invocation::new("ssh-keygen").args(["-F", host, "-f"]).arg(known_hosts);
    match exec.run(&call) {
        Ok(finished) => fingerprints(exec, host, finished.text().lines().filter_map(key_of_line).collect()),
        // That is how ssh-keygen says that there are none.
        Err(ExecError::Failed { status: crate::exec::Status::Code(1), .. }) => Ok(Vec::new()),
        Err(source) => {
            Err(SshError::Tool { verb: "look for a host key in", object: known_hosts.display().to_string(), source })
        }
    }
}

/// The text of a known-hosts file in which `host` has `keys` and no others.
pub fn with_keys(text: &str, host: &str, keys: &[HostKey]) -> String {
    let others = text.lines().filter(|line| line.split_whitespace().next() != Some(host));
    let lines = others.map(str::to_owned).chain(keys.iter().map(|key| format!("{host} {}", key.key)));
    lines.map(|line| line + "\n").collect()
}

/// The public half of a private key, as one line with its comment.
///
/// # Errors
///
/// If there is no such key, or it needs a passphrase.
pub fn public_key(exec: &dyn Exec, identity: &Path) -> Result<String, SshError> {
    // An empty passphrase, so that nobody is asked for one.
    let call = Invocation::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(identity);
    let object = || identity.display().to_string();
    let text = exec.run(&call).map_err(|source| SshError::Tool { verb: "read the key", object: object(), source })?;
    Ok(text.text())
}

/// Makes a private key without a passphrase, and its public half beside it.
///
/// # Errors
///
/// If it cannot be written.
pub fn make_key(exec: &dyn Exec, identity: &Path, comment: &str) -> Result<(), SshError> {
    let call = Invocation::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(identity);
    let object = || identity.display().to_string();
    exec.run(&call).map(drop).map_err(|source| SshError::Tool { verb: "make the key", object: object(), source })
}

/// The line of `authorized_keys` that lets `public_key` read below `root` with rsync, and do nothing else.
pub fn read_only_line(root: &Path, public_key: &str) -> String {
    let command = format!("rrsync -ro {}", shell_word(&root.display().to_string()));
    // Within the quotes of an option sshd knows one escape only.
    format!("restrict,command=\"{}\" {public_key}", command.replace('"', "\\\""))
}

/// A word as a shell takes it, quoted where it must be.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The key of a line of a known-hosts file, without the host and without comments.
fn key_of_line(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (host, kind, key) = (words.next()?, words.next()?, words.next()?);
    (!host.starts_with(['#', '@'])).then(|| format!("{kind} {key}"))
}

/// The keys with what people compare.
fn fingerprints(exec: &dyn Exec, host: &str, keys: Vec<String>) -> Result<Vec<HostKey>, SshError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let text = keys.iter().map(|key| format!("host {key}\n")).collect::<Vec<_>>().concat();
    let call = Invocation::new("ssh-keygen").args(["-l", "-f", "-"]).stdin(text.into_bytes());
    let shown =
        exec.run(&call).map_err(|source| SshError::Tool { verb: "read the keys of", object: host.into(), source })?;
    let shown = shown.text();
    let prints: Vec<_> = shown.lines().filter_map(parse_fingerprint).collect();
    if prints.len() != keys.len() {
        return Err(SshError::Nonsense(host.to_owned()));
    }
    let key = |(key, (fingerprint, kind)): (String, (&str, &str))| HostKey {
        key,
        fingerprint: fingerprint.to_owned(),
        kind: kind.to_owned(),
    };
    Ok(keys.into_iter().zip(prints).map(key).collect())
}

/// Reads a line of `ssh-keygen -l`: `256 SHA256:… comment (ED25519)`.
fn parse_fingerprint(line: &str) -> Option<(&str, &str)> {
    let fingerprint = line.split_whitespace().nth(1).filter(|text| text.starts_with("SHA256:"))?;
    let kind = line.rsplit_once('(')?.1.strip_suffix(')')?;
    Some((fingerprint, kind))
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.fingerprint, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::System;
    use crate::exec::fake::Script;

    #[test]
    fn a_line_lets_a_key_read_below_one_folder_and_do_nothing_else() {
        let line = |root: &str| read_only_line(Path::new(root), "ssh-ed25519 AAAA pull@nas");
        assert_eq!(line("/home"), "restrict,command=\"rrsync -ro /home\" ssh-ed25519 AAAA pull@nas");
        assert!(line("/srv/x y").starts_with("restrict,command=\"rrsync -ro '/srv/x y'\" ssh-ed25519 "));
        assert!(line("/a'b\"c$d").starts_with(r#"restrict,command="rrsync -ro '/a'\''b\"c$d'" ssh-ed25519 "#));
    }

    #[test]
    fn the_keys_of_a_host_are_scanned_and_shown_as_people_compare_them() {
        let scanned = include_str!("../fixtures/ssh-keyscan-9.2.txt");
        let prints = include_str!("../fixtures/ssh-keygen-l-9.2.txt");
        let script = Script::new().says(scanned).says(prints);
        let keys = scan(&script, "luv", 2222).unwrap();
        assert_eq!(keys.len(), 2);
        assert!(keys[0].key.starts_with("ecdsa-sha2-nistp256 AAAA"), "{keys:?}");
        assert_eq!(keys[1].kind, "ED25519");
        assert_eq!(keys[1].to_string(), "SHA256:KZQ+Cwy0YmUeSOXOIxrAOWXpaMJKPojwb6EOJTrYOHg (ED25519)");
        let calls = script.calls();
        assert_eq!(calls[0], "ssh-keyscan -T 15 -p 2222 -- luv");
        assert_eq!(calls[1], "ssh-keygen -l -f -");
    }

    #[test]
    fn a_host_that_shows_no_keys_is_not_there() {
        for script in [Script::new().says(""), Script::new().fails(1, "getaddrinfo luv: Name or service not known")] {
            let error = scan(&script, "luv", 22).unwrap_err();
            assert_eq!(error.to_string(), "luv shows no host keys: is it there, and its ssh server on port 22?");
        }
    }

    #[test]
    fn a_host_keeps_no_key_but_those_that_are_trusted_now() {
        let key = HostKey { key: "ssh-ed25519 NEW".into(), fingerprint: "SHA256:x".into(), kind: "ED25519".into() };
        let text = "# ours\nluv ssh-ed25519 OLD\nluv ssh-rsa OLD\n[luv]:2222 ssh-ed25519 OTHER\nchew ssh-rsa X";
        assert_eq!(
            with_keys(text, "luv", &[key]),
            "# ours\n[luv]:2222 ssh-ed25519 OTHER\nchew ssh-rsa X\nluv ssh-ed25519 NEW\n"
        );
    }

    #[test]
    fn a_key_is_made_read_and_known_by_the_real_programs() {
        let system = System::default();
        let scratch = tempfile::tempdir().unwrap();
        let identity = scratch.path().join("key");
        make_key(&system, &identity, "pull@nas").unwrap();
        let public = public_key(&system, &identity).unwrap();
        assert!(public.starts_with("ssh-ed25519 ") && public.ends_with(" pull@nas"), "{public}");

        let known_hosts = scratch.path().join("known_hosts");
        assert!(known(&system, &known_hosts, "[luv]:2222").unwrap().is_empty());
        let two: Vec<&str> = public.split(' ').take(2).collect();
        let keys = fingerprints(&system, "luv", vec![two.join(" ")]).unwrap();
        std::fs::write(&known_hosts, with_keys("", &known_as("luv", 2222), &keys)).unwrap();
        assert_eq!(known(&system, &known_hosts, "[luv]:2222").unwrap(), keys);
        assert!(known(&system, &known_hosts, "luv").unwrap().is_empty());
        assert_eq!(known_as("luv", 22), "luv");
    }
}
