//! Versions of rsync, and which of them a host could harm this machine through.

use phobos_core::exec::{Exec, Invocation};

/// The first version without the vulnerabilities that were published in August 2026 (rsync's NEWS.md).
const SAFE: Version = Version(3, 5, 0);

/// The version's remote protocol that came with 3.4.0; what speaks an older one is older.
const PROTOCOL_OF_3_4: u32 = 32;

/// A version of rsync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32, u32, u32);

impl Version {
    /// Reads the first line of `rsync --version`: `rsync  version 3.2.7  protocol version 31`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip_while(|word| *word != "version").skip(1);
        let version = words.next()?.trim_start_matches('v');
        let mut numbers = version.split('.').map(|number| {
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        Some(Self(numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or_default()))
    }
}

/// What is to be said of the rsync of this machine, if anything is.
pub(crate) fn concern_here(exec: &dyn Exec) -> Option<String> {
    let said = exec.run(&Invocation::new("rsync").arg("--version")).ok()?.text();
    concern(said.lines().next()?)
}

fn concern(first_line: &str) -> Option<String> {
    let Some(version) = Version::parse(first_line) else {
        return Some(format!(
            "the rsync of this machine does not say which version it is: {first_line:?}; install rsync 3.5.0 or newer"
        ));
    };
    (version < SAFE).then(|| {
        let Version(major, minor, patch) = version;
        format!(
            "rsync {major}.{minor}.{patch} of this machine has vulnerabilities, by which a host could take over the process that \
             receives its files; what confines that process still holds. Install rsync 3.5.0 or newer, or see that the \
             distribution's package has the fixes of August 2026"
        )
    })
}

/// What is to be said of a host's rsync, by what rsync here says of the two protocols (`--debug=proto`), if it tells enough.
pub(crate) fn concern_there(said: &str, host: &str) -> Option<String> {
    let protocol: u32 = said.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("(Client) Protocol versions: remote=")?;
        rest.split(',').next()?.parse().ok()
    })?;
    (protocol < PROTOCOL_OF_3_4).then(|| {
        format!(
            "{host} has an rsync before 3.4.0 (protocol {protocol}), with vulnerabilities of its own; install rsync 3.5.0 or \
             newer there, or see that its distribution's package has the fixes of August 2026"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_before_the_fixes_is_named() {
        for (line, named) in [
            ("rsync  version 3.2.7  protocol version 31", Some("rsync 3.2.7 ")),
            ("rsync  version 3.4.1  protocol version 32", Some("rsync 3.4.1 ")),
            ("rsync  version v3.5.0pre1  protocol version 32", None),
            ("rsync  version 3.5.0  protocol version 32", None),
            ("rsync  version 3.10.2  protocol version 33", None),
            ("rsync  version 4.0  protocol version 40", None),
            ("openrsync: protocol version 29", Some("does not say which version it is")),
            ("", Some("does not say which version it is")),
        ] {
            let said = concern(line);
            assert_eq!(said.is_some(), named.is_some(), "{line}: {said:?}");
            assert!(said.unwrap_or_default().contains(named.unwrap_or_default()), "{line}");
        }
    }

    #[test]
    fn a_host_is_named_for_an_old_protocol_alone() {
        let said = |remote: &str| {
            concern_there(&format!("x\n(Client) Protocol versions: remote={remote}, negotiated=30\n/home"), "luv")
        };
        assert!(said("31").unwrap().starts_with("luv has an rsync before 3.4.0 (protocol 31), "));
        assert_eq!([said("32"), said("x"), concern_there("", "luv")], [None, None, None]);
    }
}
