//! `phobos-pull trust HOST`: shows the keys that a host's ssh server has, and pins them when somebody has compared them.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use phobos_core::exec::{Exec, ExecError, Invocation, System};
use phobos_core::fs::{Durability, make_passage, replace};
use phobos_core::ssh::{self, HostKey, Known};
use phobos_site::config::Config;
use phobos_site::exit::{Exit, Stop};
use phobos_site::paths::Paths;
use phobos_site::pull::{Host, HostName};
use phobos_site::trust::{Question, list};

use crate::client::{self, Server};
use crate::ending::{self, Ending};
use crate::pull;
use crate::remote::{self, Files};

/// How long a host behind another one may take to show its key.
const LIMIT: Duration = Duration::from_secs(90);

/// With what keys are to be compared.
const HOW: &str =
    "what this says on the host itself:\n  for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $key; done";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The host
    #[arg(value_name = "HOST")]
    host: HostName,
    /// Trust the key with this fingerprint, and ask nobody
    #[arg(long, value_name = "SHA256:…", value_parser = ssh::fingerprint)]
    fingerprint: Vec<String>,
}

/// Shows and pins the keys of the host's ssh servers.
///
/// # Errors
///
/// If a server shows no keys or nobody trusts them; keys of other servers may have been pinned.
pub(crate) fn run(config: &Config, args: &Args) -> Result<(), anyhow::Error> {
    let host = pull::find(config, &args.host)?;
    let system = System::default();
    let known_hosts = remote::known_hosts(&config.folder);
    for (index, server) in client::servers(&host)?.into_iter().enumerate() {
        let name = server.known_as();
        let known = ssh::known(&system, &known_hosts, &name)?;
        if known.has_authority && args.fingerprint.is_empty() {
            log::info!("{name} is known by an authority in {}, which signs its keys", known_hosts.display());
            continue;
        }
        let is_behind = host.jump.is_some() && index > 0;
        let shown = if is_behind {
            scan_through(&system, config, &host, &server)?
        } else {
            ssh::scan(&system, &server.address, server.port)?
        };
        if is_settled(&shown, &known.keys, &args.fingerprint) {
            log::info!("the host key of {name} is known: {}", list(&known.keys));
            continue;
        }
        let is_gate = host.jump.is_some() && index == 0;
        if is_gate && !known.keys.is_empty() && known.keys.iter().all(|key| shown.contains(key)) {
            // The fingerprint is meant for the host behind it.
            log::info!("the host key of {name} is known: {}", list(&known.keys));
            continue;
        }
        let question = Question { name: &name, who: &name, how: HOW, shown: &shown, known: &known.keys };
        let trusted = question.ask(&args.fingerprint, &|| None).context("cannot read the answer")??;
        pin(&known_hosts, &server, &known, &trusted)?;
        log::info!("trusted from now on for {name}: {}", list(&trusted));
    }
    Ok(())
}

/// Asks a server behind the host in between for its key: a login that ends as soon as the key is known.
fn scan_through(
    system: &System<'_>,
    config: &Config,
    host: &Host,
    server: &Server,
) -> Result<Vec<HostKey>, anyhow::Error> {
    let Some(jump) = &host.jump else { return Ok(ssh::scan(system, &server.address, server.port)?) };
    let (identity, known_hosts) = (host.identity(&config.folder), remote::known_hosts(&config.folder));
    let files = Files { known_hosts: &known_hosts, identity: &identity, control: None };
    let folder = Paths::from_environment().runtime.join("pull");
    let found = folder.join(format!(".{}.scan", host.name));
    make_passage(&folder)?;
    let forget = || match fs::remove_file(&found) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    forget()?;
    let option = |text: String| ["-o".to_owned(), text];
    let options = [
        "BatchMode=yes".to_owned(),
        "StrictHostKeyChecking=accept-new".to_owned(),
        format!("UserKnownHostsFile={}", found.display()),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "HashKnownHosts=no".to_owned(),
        // Nobody is logged in as, and nobody is asked.
        "PreferredAuthentications=none".to_owned(),
        "ConnectTimeout=30".to_owned(),
        format!("ProxyCommand={}", remote::proxy(host, jump, files)),
    ];
    let call = Invocation::new("ssh").args(["-F", "none", "-T", "-p", &server.port.to_string()]);
    let call = call.args(options.into_iter().flat_map(option)).args(["--", &server.address, "exit"]).limit(LIMIT);
    let said = match system.run(&call) {
        Err(ExecError::Failed { stderr, .. }) => stderr,
        other => other.map(|_| String::new())?,
    };
    let shown = ssh::known(system, &found, &server.known_as())?.keys;
    forget()?;
    if !shown.is_empty() {
        return Ok(shown);
    }
    let Some((login, line)) = ssh::login(said.lines().map(str::trim)) else {
        let text = format!("{} shows no host key through {}: {}", server.known_as(), jump.address, said.trim());
        return Err(Stop::new(Exit::Failed, text).into());
    };
    let Ending { exit, text } = ending::of_login(login, line, host.name.as_str());
    Err(Stop::new(exit, format!("cannot ask {} through {}: {text}", server.known_as(), jump.address)).into())
}

/// Whether the server still has all keys that are known, and nobody wants others.
fn is_settled(shown: &[HostKey], known: &[HostKey], fingerprints: &[String]) -> bool {
    let wanted = |fingerprint: &String| known.iter().any(|key| key.fingerprint == *fingerprint);
    !known.is_empty() && known.iter().all(|key| shown.contains(key)) && fingerprints.iter().all(wanted)
}

/// Makes `keys` the only ones of the server in the known-hosts file, which everybody can read.
fn pin(known_hosts: &Path, server: &Server, known: &Known, keys: &[HostKey]) -> Result<(), anyhow::Error> {
    let text = match fs::read_to_string(known_hosts) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("cannot read {}", known_hosts.display()))?,
    };
    let text = ssh::with_keys(&text, &server.known_as(), known, keys);
    // Those who talk to the hosts read it.
    replace(known_hosts, text.as_bytes(), 0o644, Durability::Synced)
        .with_context(|| format!("cannot write {}", known_hosts.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_settled_until_it_is_gone_or_another_is_wanted() {
        let key = |fingerprint: &str| HostKey {
            key: format!("ssh-ed25519 {fingerprint}"),
            fingerprint: fingerprint.into(),
            kind: "ED25519".into(),
        };
        let (a, b) = (key("SHA256:a"), key("SHA256:b"));
        let both = [a.clone(), b.clone()];
        let settled = |known: &[HostKey], wanted: &[&str]| {
            is_settled(&both, known, &wanted.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert!(settled(std::slice::from_ref(&a), &[]) && settled(&both, &["SHA256:b"]));
        assert!(!settled(&[], &[]) && !settled(&[key("SHA256:old")], &[]) && !settled(&[a], &["SHA256:b"]));
    }
}
