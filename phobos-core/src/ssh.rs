//! ssh's keys: those of hosts, which are pinned, and those shown to hosts, which are restricted to reading; and what ssh says of a
//! login that came to nothing.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

mod login;
mod options;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Class, Classified};
use crate::exec::{self, Exec, ExecError, Invocation};

pub use self::login::{Login, is_away, login, without_place};
pub use self::options::strict_options;

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

/// The entries of a known-hosts file for a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Known {
    /// Its keys, those that are revoked left out.
    pub keys: Vec<HostKey>,
    /// Whether a certificate of an authority is accepted for it (`@cert-authority`).
    pub has_authority: bool,
    /// The lines that are about it, counted from 1.
    pub lines: Vec<usize>,
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

/// Asks a host for its keys. The answer is not authenticated: compare the fingerprints.
///
/// # Errors
///
/// [`SshError::NoKeys`] if nobody answers.
pub fn scan(exec: &dyn Exec, address: &str, port: u16) -> Result<Vec<HostKey>, SshError> {
    let mut keys = ask(exec, address, port, &[])?;
    // A slow server does not answer all questions that are asked at once, and this is the last of them.
    if !keys.is_empty() && !keys.iter().any(|key| key.starts_with("ssh-ed25519 ")) {
        keys.extend(ask(exec, address, port, &["-t", "ed25519"])?);
    }
    if keys.is_empty() {
        return Err(SshError::NoKeys { host: address.to_owned(), port });
    }
    fingerprints(exec, address, keys)
}

/// The keys that a host shows to ssh-keyscan with these options; none if nobody answers.
fn ask(exec: &dyn Exec, address: &str, port: u16, options: &[&str]) -> Result<Vec<String>, SshError> {
    let call = Invocation::new("ssh-keyscan").args(["-T", SCAN_SECS]).args(options);
    let call = call.args(["-p", &port.to_string(), "--", address]);
    match exec.run(&call) {
        Ok(finished) => Ok(finished.text().lines().filter_map(key_of_line).collect()),
        Err(ExecError::Failed { .. }) => Ok(Vec::new()),
        Err(source) => Err(SshError::Tool { verb: "ask for the host keys of", object: address.into(), source }),
    }
}

/// The entries of a known-hosts file for a host; none if there is no such file.
///
/// # Errors
///
/// If the file cannot be read.
pub fn known(exec: &dyn Exec, known_hosts: &Path, host: &str) -> Result<Known, SshError> {
    if !known_hosts.exists() {
        return Ok(Known::default());
    }
    // It knows names that are hashed, lists of names, and patterns.
    let call = Invocation::new("ssh-keygen").args(["-F", host, "-f"]).arg(known_hosts);
    match exec.run(&call) {
        Ok(finished) => {
            let (mut known, keys) = Known::parse(&finished.text());
            known.keys = fingerprints(exec, host, keys)?;
            Ok(known)
        }
        // That is how ssh-keygen says that there are none.
        Err(ExecError::Failed { status: crate::exec::Status::Code(1), .. }) => Ok(Known::default()),
        Err(source) => {
            Err(SshError::Tool { verb: "look for a host key in", object: known_hosts.display().to_string(), source })
        }
    }
}

impl Known {
    /// Reads what `ssh-keygen -F` prints: `# Host luv found: line 3` with the line after it.
    fn parse(text: &str) -> (Self, Vec<String>) {
        let (mut known, mut keys) = (Self::default(), Vec::new());
        for line in text.lines() {
            if let Some((_, place)) = line.split_once(" found: line ").filter(|_| line.starts_with("# Host ")) {
                known.lines.extend(place.split_whitespace().next().and_then(|number| number.parse::<usize>().ok()));
            } else if line.starts_with("@cert-authority ") {
                known.has_authority = true;
            } else {
                keys.extend(key_of_line(line));
            }
        }
        (known, keys)
    }

    /// Whether the host is unknown: there is neither a key of its own nor an authority for it.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.has_authority
    }
}

/// The text of a known-hosts file in which `host` has `keys` and no others; `known` is what it has so far.
///
/// Authorities and revoked keys stay, and so do the other names of a line that has several.
pub fn with_keys(text: &str, host: &str, known: &Known, keys: &[HostKey]) -> String {
    let others = (1..).zip(text.lines()).filter_map(|(number, line)| {
        if known.lines.contains(&number) { without_host(line, host) } else { Some(line.to_owned()) }
    });
    let lines = others.chain(keys.iter().map(|key| format!("{host} {}", key.key)));
    lines.map(|line| line + "\n").collect()
}

/// A line of a known-hosts file that is no longer about `host`; `None` if it was about nobody else.
fn without_host(line: &str, host: &str) -> Option<String> {
    if line.trim_start().starts_with('@') {
        return Some(line.to_owned());
    }
    let (names, rest) = line.trim_start().split_once(char::is_whitespace)?;
    // A hashed name stands alone.
    if names.starts_with('|') {
        return None;
    }
    let mut others: Vec<String> =
        names.split(',').filter(|name| !name.eq_ignore_ascii_case(host)).map(str::to_owned).collect();
    others.iter().any(|name| !name.starts_with('!')).then_some(())?;
    if others.iter().any(|name| name.contains(['*', '?'])) {
        others.push(format!("!{host}"));
    }
    Some(format!("{} {rest}", others.join(",")))
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
    let command = format!("rrsync -ro {}", exec::shell_word(&root.display().to_string()));
    // Within the quotes of an option sshd knows one escape only.
    format!("restrict,command=\"{}\" {public_key}", command.replace('"', "\\\""))
}

/// The line of `authorized_keys` that lets `public_key` write below `root` with rsync until the day `until` begins there, a date such
/// as 20261130 (sshd(8), `authorized_keys`), delete nothing, and replace nothing unless it `replaces`; and do nothing else.
pub fn write_line(root: &Path, until: &str, replaces: bool, public_key: &str) -> String {
    let keeps = if replaces { "" } else { "-no-overwrite " };
    let command = format!("rrsync -wo -no-del {keeps}{}", exec::shell_word(&root.display().to_string()));
    format!("restrict,expiry-time=\"{until}\",command=\"{}\" {public_key}", command.replace('"', "\\\""))
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

/// A key's fingerprint as people compare it, from a command line.
///
/// # Errors
///
/// What a fingerprint is, if it is none.
pub fn fingerprint(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    match text.strip_prefix("SHA256:") {
        Some(hash) if hash.len() == 43 && hash.chars().all(good) => Ok(text.to_owned()),
        _ => Err("a fingerprint is SHA256: and 43 letters, as `ssh-keygen -l` shows it".to_owned()),
    }
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
    fn a_fingerprint_is_what_ssh_keygen_shows() {
        assert!(fingerprint("SHA256:KZQ+Cwy0YmUeSOXOIxrAOWXpaMJKPojwb6EOJTrYOHg").is_ok());
        assert!(fingerprint("KZQ+Cwy0YmUeSOXOIxrAOWXpaMJKPojwb6EOJTrYOHg").is_err());
        assert!(fingerprint("SHA256:short").is_err());
    }

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
    fn a_slow_host_is_asked_once_more_for_the_key_that_counts() {
        let scanned = include_str!("../fixtures/ssh-keyscan-9.2.txt");
        let (ecdsa, ed25519): (Vec<_>, Vec<_>) = scanned.lines().partition(|line| !line.contains(" ssh-ed25519 "));
        let prints = include_str!("../fixtures/ssh-keygen-l-9.2.txt");
        let script = Script::new().says(&ecdsa.join("\n")).says(&ed25519.join("\n")).says(prints);
        assert_eq!(scan(&script, "luv", 2222).unwrap().len(), 2);
        assert_eq!(script.calls()[1], "ssh-keyscan -T 15 -t ed25519 -p 2222 -- luv");
    }

    #[test]
    fn a_host_that_shows_no_keys_is_not_there() {
        for script in [Script::new().says(""), Script::new().fails(1, "getaddrinfo luv: Name or service not known")] {
            let error = scan(&script, "luv", 22).unwrap_err();
            assert_eq!(error.to_string(), "luv shows no host keys: is it there, and its ssh server on port 22?");
        }
    }

    /// Every way to write a host's name in the file is found and replaced.
    #[test]
    fn a_host_keeps_no_key_but_those_that_are_trusted_now() {
        let system = System::default();
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("known_hosts");
        let keys: Vec<String> = ["old", "older", "oldest", "other", "authority", "revoked", "new"]
            .iter()
            .map(|name| {
                let identity = scratch.path().join(name);
                make_key(&system, &identity, "").unwrap();
                public_key(&system, &identity).unwrap()
            })
            .collect();
        let [old, older, oldest, other, authority, revoked, new] = keys.as_slice() else { panic!("seven keys") };
        std::fs::write(&file, format!("luv {old}\n")).unwrap();
        system.run(&Invocation::new("ssh-keygen").args(["-H", "-f"]).arg(&file)).unwrap();
        let hashed = std::fs::read_to_string(&file).unwrap();
        assert!(hashed.starts_with("|1|"), "{hashed}");
        let text = format!(
            "# ours\n{hashed}LUV,10.0.0.2 {older}\n*uv,!ruv {oldest}\n[luv]:2222 {other}\nchew {other}\n\
             @cert-authority *.lan {authority}\n@revoked luv {revoked}\nluv {old}\n"
        );
        std::fs::write(&file, &text).unwrap();
        let before = known(&system, &file, "luv").unwrap();
        assert_eq!((before.keys.len(), before.has_authority, before.lines.len()), (4, false, 5));
        let new = fingerprints(&system, "luv", vec![new.clone()]).unwrap();
        std::fs::write(&file, with_keys(&text, "luv", &before, &new)).unwrap();
        assert_eq!(known(&system, &file, "luv").unwrap().keys, new);
        // And everybody else is known as before.
        for (host, keys) in [("10.0.0.2", 1), ("uv", 1), ("ruv", 0), ("[luv]:2222", 1), ("chew", 1)] {
            assert_eq!(known(&system, &file, host).unwrap().keys.len(), keys, "{host}");
        }
        let signed = known(&system, &file, "x.lan").unwrap();
        assert!(signed.has_authority && signed.keys.is_empty() && !signed.is_empty());
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# ours\n10.0.0.2 ") && text.contains("\n@revoked luv "), "{text}");
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
        std::fs::write(&known_hosts, with_keys("", &known_as("luv", 2222), &Known::default(), &keys)).unwrap();
        assert_eq!(known(&system, &known_hosts, "[luv]:2222").unwrap().keys, keys);
        assert!(known(&system, &known_hosts, "luv").unwrap().is_empty());
        assert_eq!(known_as("luv", 22), "luv");
    }

    #[test]
    fn fuzz_ssh_keys() {
        phobos_fuzz::target(
            "ssh_keys",
            &[
                include_bytes!("../fixtures/ssh-keyscan-9.2.txt"),
                include_bytes!("../fixtures/ssh-keygen-l-9.2.txt"),
                b"# Host luv found: line 3\nluv,10.0.0.1 ssh-ed25519 AAAA\n@cert-authority *.lan ssh-rsa BBBB\n",
            ],
            |input| {
                let text = String::from_utf8_lossy(input);
                let (known, _) = Known::parse(&text);
                drop(
                    text.lines().map(|line| (key_of_line(line), parse_fingerprint(line).is_some())).collect::<Vec<_>>(),
                );
                drop(with_keys(&text, "luv", &known, &[]));
            },
        );
    }
}
