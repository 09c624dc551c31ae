//! `phobos-unlock trust NAME`: shows the keys of the machine's ssh servers, and pins those that somebody has compared.

use std::path::Path;

use anyhow::Context;
use phobos_core::fs::{Durability, make_private, replace};
use phobos_core::ssh::{self, HostKey, SshError};
use phobos_site::exit::{Exit, Stop};
use phobos_site::trust::{Question, list};

use crate::server::{View, greeting};
use crate::settings::Stage;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine
    #[arg(value_name = "NAME", value_parser = crate::settings::host_name)]
    pub(crate) name: String,
    /// The system that answers now, `before-boot` or `booted`; else it is told by what its ssh server says
    #[arg(long, value_name = "SYSTEM", value_parser = Stage::parse)]
    stage: Option<Stage>,
    /// Trust the key with this fingerprint, and ask nobody
    #[arg(long, value_name = "SHA256:…", value_parser = ssh::fingerprint)]
    fingerprint: Vec<String>,
}

/// Shows and pins the keys of whichever of the two systems answer now.
///
/// # Errors
///
/// If none answers, or nobody trusts what is shown; what was pinned before stays.
pub(crate) fn run(view: &View<'_>, args: &Args, interrupted: &dyn Fn() -> Option<i32>) -> Result<(), anyhow::Error> {
    let mut has_answered = false;
    let (before, booted) = (Stage::BeforeBoot, Stage::Booted);
    let is_one = view.machine.server(before) == view.machine.server(booted);
    let stages = [before, booted];
    for stage in stages.into_iter().filter(|stage| args.stage.is_none_or(|wanted| wanted == *stage)) {
        let server = view.machine.server(stage);
        let Some(greeting) = greeting(&server) else { continue };
        // The initramfs has dropbear, whatever the system has.
        let is_it = !is_one || args.stage.is_some() || greeting.contains("dropbear") == (stage == before);
        if !is_it {
            continue;
        }
        let shown = match ssh::scan(view.exec, &server.host, server.port) {
            Err(SshError::NoKeys { .. }) => continue,
            shown => shown?,
        };
        has_answered = true;
        let name = ssh::known_as(&server.host, server.port);
        let pins = view.place.pins(view.name, stage);
        let known = ssh::known(view.exec, &pins, &name)?.keys;
        let is_settled = !known.is_empty() && known.iter().all(|key| shown.contains(key));
        if is_settled && args.fingerprint.is_empty() {
            log::info!("{}: its key is pinned: {}", stage.words(), list(&known));
            continue;
        }
        let how = match stage {
            Stage::BeforeBoot => "what `phobos-unlock setup` printed on the machine",
            Stage::Booted => "what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on the machine",
        };
        let who = format!("{} of {}", stage.words(), view.name);
        let question = Question { name: view.name, who: &who, how, shown: &shown, known: &known };
        let trusted = question.ask(&args.fingerprint, interrupted).context("cannot read the answer")??;
        pin(&pins, &name, &trusted)?;
        log::info!("pinned for {} of {}: {}", stage.words(), view.name, list(&trusted));
    }
    if !has_answered {
        let server = view.machine.server(args.stage.unwrap_or(before));
        let text = format!("{} is not there: no ssh server answers at {} port {}", view.name, server.host, server.port);
        return Err(Stop::new(Exit::Absent, text).into());
    }
    for stage in stages.into_iter().filter(|stage| !view.place.pins(view.name, *stage).is_file()) {
        log::warn!("nothing is pinned yet for {}; run this once more while it answers", stage.words());
    }
    Ok(())
}

/// Makes these the only keys of the file.
fn pin(pins: &Path, name: &str, keys: &[HostKey]) -> Result<(), anyhow::Error> {
    let text = keys.iter().map(|key| format!("{name} {}\n", key.key)).collect::<Vec<_>>().concat();
    let folder = pins.parent().unwrap_or(Path::new("/"));
    make_private(folder)
        .and_then(|()| replace(pins, text.as_bytes(), 0o600, Durability::Synced))
        .with_context(|| format!("cannot write {}", pins.display()))
}
