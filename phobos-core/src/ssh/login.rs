//! What ssh says where a login came to nothing, and what that means.
//!
//! That a host is not there is believed for a short list of reasons only. Everything else that ends a connection is a failure.

/// Why a connection is not made to a machine that is away, as the C library says it.
const AWAY: [&str; 6] = [
    "Connection refused",
    "Connection timed out",
    "Operation timed out",
    "No route to host",
    "Network is unreachable",
    "Host is down",
];

/// Why a name leads to no address, as the C library says it.
const NAMELESS: [&str; 4] = [
    "Name or service not known",
    "Temporary failure in name resolution",
    "No address associated with hostname",
    "Name does not resolve",
];

/// Why ssh came to nothing, by one of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Login {
    /// An option that is configured is none of ssh's, or has a value that it does not know.
    Options,
    /// What confines ssh here does not let it connect to the port.
    Forbidden,
    /// The server's key is not known.
    NewKey,
    /// The server's key is not the one that is known.
    OtherKey,
    /// The server does not take our key.
    Denied,
    /// The two have no algorithm in common.
    Algorithms,
    /// The host in between does not let us through.
    Gate,
    /// The host is not there.
    Away,
    /// The connection was lost or never came about, for whatever reason.
    Lost,
}

/// Why ssh came to nothing, and the line that says so; `None` if these lines are not ssh's.
pub fn login<'a>(lines: impl Iterator<Item = &'a str>) -> Option<(Login, &'a str)> {
    lines.map(without_place).filter_map(|line| Some((Login::of(line)?, line))).min_by_key(|(login, _)| *login)
}

impl Login {
    /// What a line of ssh(1) tells; most lines are not its own.
    fn of(line: &str) -> Option<Self> {
        let starts = |starts: &[&str]| starts.iter().any(|start| line.starts_with(start));
        if line.starts_with("rsync") {
            return None;
        }
        if starts(&["ssh: Could not resolve hostname ", "ssh: connect to host "]) {
            // Nobody but Landlock keeps ssh from a port.
            return Some(match line {
                _ if is_away(line) => Self::Away,
                _ if line.ends_with(": Permission denied") => Self::Forbidden,
                _ => Self::Lost,
            });
        }
        if let Some((_, reason)) = line.split_once("open failed: ").filter(|_| line.contains("channel ")) {
            let connected = reason.strip_prefix("connect failed: ").is_some_and(is_away);
            return Some(if connected { Self::Away } else { Self::Gate });
        }
        if line.contains("Timeout, server ") && line.ends_with(" not responding.") {
            return Some(Self::Away);
        }
        if line.contains("Bad configuration option: ") || starts(&["command-line line ", "command-line: line "]) {
            return Some(Self::Options);
        }
        if line.contains(" host key is known for ") {
            return Some(Self::NewKey);
        }
        if starts(&["Host key verification failed"]) || line.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            return Some(Self::OtherKey);
        }
        if line.contains("Too many authentication failures") || starts(&["Load key "]) || is_denied(line) {
            return Some(Self::Denied);
        }
        if starts(&["Unable to negotiate with "]) {
            return Some(Self::Algorithms);
        }
        let lost = [
            "ssh: ",
            "ssh_exchange_identification: ",
            "kex_exchange_identification: ",
            "ssh_dispatch_run_fatal: ",
            "client_loop: ",
            "Connection closed by ",
            "Connection reset by ",
            "Connection to ",
            "Connection timed out during banner exchange",
            "Received disconnect from ",
            "Disconnected from ",
        ];
        starts(&lost).then_some(Self::Lost)
    }
}

/// Whether a line tells that a host is not there.
pub fn is_away(line: &str) -> bool {
    // rsync adds the error's number.
    let reason = line.rsplit_once(" (").filter(|(_, rest)| rest.ends_with(')')).map_or(line, |(reason, _)| reason);
    AWAY.iter().chain(&NAMELESS).any(|known| reason.trim_end().ends_with(known))
}

/// Whether a line is ssh's `USER@HOST: Permission denied (publickey,password).`, and not about a file.
fn is_denied(line: &str) -> bool {
    let methods = line.split_once(": Permission denied (").and_then(|(_, rest)| rest.strip_suffix(")."));
    methods.is_some_and(|methods| {
        methods.contains(|c: char| c.is_ascii_lowercase())
            && methods.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ',' | '-'))
    })
}

/// A line without the place in its source code that ssh puts before what `LogVerbose` makes it say.
pub fn without_place(line: &str) -> &str {
    let rest = line.split_once(".c:").and_then(|(_, rest)| rest.split_once("():"));
    let rest = rest.filter(|(function, _)| function.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    rest.and_then(|(_, rest)| rest.split_once(" (pid=")?.1.split_once("): ")).map_or(line, |(_, said)| said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Option<Login> {
        login(lines.iter().copied()).map(|(login, _)| login)
    }

    #[test]
    fn a_machine_is_away_for_few_reasons_only() {
        for reason in AWAY.iter().chain(&NAMELESS) {
            assert_eq!(of(&[&format!("ssh: connect to host luv port 22: {reason}")]), Some(Login::Away), "{reason}");
        }
        for line in ["ssh: connect to host luv port 22: Invalid argument", "Connection closed by 10.9.1.2 port 22"] {
            assert_eq!(of(&[line]), Some(Login::Lost), "{line}");
        }
        assert_eq!(of(&["cryptsetup: sda_crypt set up successfully", ""]), None);
    }

    #[test]
    fn what_tells_most_counts_wherever_it_stands() {
        let unknown = "No ED25519 host key is known for luv and you have requested strict checking.";
        assert_eq!(of(&["Host key verification failed.", unknown]), Some(Login::NewKey));
        let denied = "root@luv: Permission denied (publickey,keyboard-interactive).";
        assert_eq!(of(&["Connection closed by 10.9.1.2 port 22", denied]), Some(Login::Denied));
        assert_eq!(of(&["cat: /etc/shadow: Permission denied (13)"]), None);
    }
}
