//! This machine's names, and names for things on it.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::fs::File;
use std::io::Read;

/// What mail calls this machine where it has no name that can stand in an address.
const NAMELESS: &str = "localhost";

/// The machine's name, if it can stand in a mail address; else `localhost`.
pub(crate) fn name() -> String {
    let uname = rustix::system::uname();
    good(&uname.nodename().to_string_lossy()).unwrap_or_else(|| NAMELESS.to_owned())
}

/// The machine's name with its domain, if it has one: many servers take no mail from a name without a dot.
pub(crate) fn full_name() -> Option<String> {
    let name = name();
    if name.contains('.') {
        return Some(name);
    }
    in_hosts(&beginning_of("/etc/hosts").unwrap_or_default(), &name)
}

/// The full name that a line of `hosts` gives to `name`: the first on the line, which also has `name` (hosts(5)).
fn in_hosts(hosts: &str, name: &str) -> Option<String> {
    hosts.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut names = line.split_ascii_whitespace().skip(1);
        let first = names.next().filter(|first| first.contains('.'))?;
        names.any(|other| other == name).then(|| good(first)).flatten()
    })
}

/// The beginning of a file of the system, which is short unless something is wrong with it.
fn beginning_of(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(64 * 1024).read_to_end(&mut bytes));
    read.is_ok().then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// The domain of mail from this machine: what its mail system adds to a bare name, else the machine's name.
pub(crate) fn mail_domain() -> String {
    mailname().or_else(full_name).unwrap_or_else(name)
}

/// The domains that make a bare name of this machine an address, best first.
///
/// Every mail system takes `localhost` for its own; one that hands all its mail on goes by `/etc/mailname`.
pub(crate) fn own_domains() -> Vec<String> {
    let mut domains: Vec<_> = mailname().into_iter().collect();
    domains.push(NAMELESS.to_owned());
    domains.dedup();
    domains
}

fn mailname() -> Option<String> {
    // Without the file, which is Debian's, other names do.
    beginning_of("/etc/mailname").and_then(|text| good(text.trim()))
}

fn good(name: &str) -> Option<String> {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    (name.len() <= 200 && name.split('.').all(label)).then(|| name.to_owned())
}

/// A name that nothing else on this machine has, now or later.
pub(crate) fn unique() -> String {
    let mut bytes = [0; 16];
    let random = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if random == Ok(bytes.len()) {
        return format!("{:032x}", u128::from_ne_bytes(bytes));
    }
    format!("{:024x}{:08x}", chrono::Local::now().timestamp_micros(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_name_becomes_part_of_an_address() {
        assert_eq!(good("nas.example.org").as_deref(), Some("nas.example.org"));
        for name in ["", "(none)", "a b", "a\nb", "-a", "a..b", "a@b"] {
            assert_eq!(good(name), None, "{name}");
        }
    }

    #[test]
    fn a_full_name_is_found_beside_the_short_one() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1\tnas.lan nas # nas.example.org nas\n::1 localhost\n";
        assert_eq!(in_hosts(hosts, "nas").as_deref(), Some("nas.lan"));
        assert_eq!(in_hosts(hosts, "localhost"), None);
        assert_eq!(in_hosts("127.0.1.1 evil\u{7}.lan nas\n", "nas"), None);
    }

    #[test]
    fn unique_names_differ() {
        assert_ne!(unique(), unique());
        assert_eq!(unique().len(), 32);
    }
}
