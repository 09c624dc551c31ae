//! How a host is talked to: ssh with its options, and the host in between where there is one.

use std::path::Path;

use phobos_core::exec::shell_word;
use phobos_core::sandbox::Control;
use phobos_core::ssh;
use phobos_site::pull::{Host, Jump, KNOWN_HOSTS};

/// Where the files are that ssh reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a> {
    /// The host keys of the clients.
    pub(crate) known_hosts: &'a Path,
    /// The private key.
    pub(crate) identity: &'a Path,
    /// Where the connection is shared with the ssh after this one, and what it says is logged; none if there is none.
    pub(crate) control: Option<&'a Control>,
}

/// How long a connection that is shared waits for the next ssh, in seconds: the files of a large space are counted meanwhile.
const SHARED_FOR: u32 = 15;

/// What ssh takes for no error although it ends with it: that the host has fallen silent, that they have no algorithm in common.
const LOUD: &str = "LogVerbose=clientloop.c:server_alive_check*,packet.c:sshpkt_vfatal*";

/// What ssh does where nobody has said otherwise.
const MAY: [&str; 3] = ["ConnectTimeout=30", "ServerAliveInterval=30", "ServerAliveCountMax=4"];

/// ssh to `host` with its options, one word each, without user, host and command.
///
/// It asks nobody, trusts nobody new, reads no other configuration, and gives the host nothing of this machine. It says what
/// went wrong and nothing else: no banner of the host's, but that the host has fallen silent.
pub(crate) fn ssh(host: &Host, files: Files<'_>) -> Vec<String> {
    saying(host, files, &["LogLevel=ERROR", LOUD])
}

/// The same, but ssh also says what is no error of its own, such as that a connection through the host is refused.
pub(crate) fn ssh_that_talks(host: &Host, files: Files<'_>) -> Vec<String> {
    saying(host, files, &["LogLevel=INFO"])
}

fn saying(host: &Host, files: Files<'_>, log: &[&str]) -> Vec<String> {
    let mut options = must(files);
    options.extend(files.control.into_iter().flat_map(shared));
    options.extend(log.iter().map(|option| (*option).to_owned()));
    options.extend(host.jump.as_ref().map(|jump| format!("ProxyCommand={}", proxy(host, jump, files))));
    let own = host.ssh_options.iter().map(|option| option.as_str().to_owned());
    options.extend(own.chain(MAY.map(str::to_owned)));
    words(options, host.port, files)
}

/// What lets the next ssh use this one's connection. One that goes on in the background can say nothing on standard error.
fn shared(control: &Control) -> [String; 3] {
    let place = control.folder().display().to_string().replace('%', "%%");
    ["ControlMaster=auto".to_owned(), format!("ControlPath=\"{place}/%C\""), format!("ControlPersist={SHARED_FOR}")]
}

/// ssh to the host in between, without user and host.
pub(crate) fn ssh_to_gate(jump: &Jump, files: Files<'_>) -> Vec<String> {
    let options = must(files).into_iter().chain(MAY.map(str::to_owned)).collect();
    words(options, jump.port, files)
}

/// The command that gives ssh a connection through the host in between, for a shell.
pub(crate) fn proxy(host: &Host, jump: &Jump, files: Files<'_>) -> String {
    let mut words = ssh_to_gate(jump, files);
    words.extend(["-W".to_owned(), "[%h]:%p".to_owned(), "--".to_owned(), whom(host, jump)]);
    // The ssh in front expands `%`; only the last two are meant for it.
    let quoted = words.iter().map(|word| match word.as_str() {
        "[%h]:%p" => "'[%h]:%p'".to_owned(),
        other => shell_word(&other.replace('%', "%%")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The host in between, with the user to log in as there.
pub(crate) fn whom(host: &Host, jump: &Jump) -> String {
    format!("{}@{}", jump.user.as_ref().unwrap_or(&host.user).as_str(), jump.address)
}

/// What must hold: ssh takes the first value that it finds.
fn must(files: Files<'_>) -> Vec<String> {
    ssh::strict_options(files.known_hosts, Some(files.identity))
}

fn words(options: Vec<String>, port: Option<u16>, files: Files<'_>) -> Vec<String> {
    let mut words = ["ssh", "-F", "none", "-T"].map(str::to_owned).to_vec();
    let log = files.control.map(|control| control.log().display().to_string());
    words.extend(log.into_iter().flat_map(|log| ["-E".to_owned(), log]));
    words.extend(options.into_iter().flat_map(|option| ["-o".to_owned(), option]));
    words.extend(port.into_iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
    words
}

/// The known-hosts file in the folder of `phobos.toml`.
pub(crate) fn known_hosts(configuration: &Path) -> std::path::PathBuf {
    configuration.join(KNOWN_HOSTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, known_hosts: &str) -> String {
        let host = Host::parse(&"luv".parse().unwrap(), text).unwrap();
        let files =
            Files { known_hosts: Path::new(known_hosts), identity: Path::new("/etc/phobos/keys/pull"), control: None };
        ssh(&host, files).join(" ")
    }

    #[test]
    fn ssh_is_told_what_must_hold_before_what_may_be_changed() {
        let words = told("source = ['luv:/home/']\nport = 2222\nssh-options = ['ConnectTimeout=5']", "/etc/phobos/k");
        assert_eq!(
            words,
            "ssh -F none -T -o BatchMode=yes -o StrictHostKeyChecking=yes \
             -o UserKnownHostsFile=\"/etc/phobos/k\" -o GlobalKnownHostsFile=/dev/null -o UpdateHostKeys=no \
             -o IdentityFile=\"/etc/phobos/keys/pull\" -o IdentitiesOnly=yes -o ForwardAgent=no \
             -o ClearAllForwardings=yes -o PermitLocalCommand=no -o LogLevel=ERROR \
             -o LogVerbose=clientloop.c:server_alive_check*,packet.c:sshpkt_vfatal* -o ConnectTimeout=5 \
             -o ConnectTimeout=30 -o ServerAliveInterval=30 -o ServerAliveCountMax=4 -p 2222"
        );
    }

    #[test]
    fn the_host_in_between_gets_the_same_key_and_the_same_known_hosts() {
        let words = told("source = ['luv:/home/']\njump = 'jon@gate:2222'", "/etc/it's 5%/k");
        assert!(words.contains(" -o ProxyCommand=ssh -F none -T -o BatchMode=yes "), "{words}");
        assert!(words.contains(r#"-o 'UserKnownHostsFile="/etc/it'\''s 5%%%%/k"' -o "#), "{words}");
        assert!(words.contains(r#" -o 'IdentityFile="/etc/phobos/keys/pull"' -o "#), "{words}");
        assert!(words.contains(" -p 2222 -W '[%h]:%p' -- jon@gate -o "), "{words}");
        let words = told("source = ['luv:/home/']\nuser = 'eve'\njump = 'gate'", "/k");
        assert!(words.contains(" -W '[%h]:%p' -- eve@gate -o "), "{words}");
    }
}
