//! A run that could not begin: told on the light and in the history, as the failures of its hosts are.

use std::io::{self, IsTerminal};

use chrono::{DateTime, Utc};
use phobos_core::error::Chain;
use phobos_core::exec::System;
use phobos_site::config::Config;
use phobos_site::exit;
use phobos_site::history::{History, Run};
use phobos_site::job;
use phobos_site::led::Board;
use phobos_site::paths::Paths;
use phobos_site::pull::HostName;
use phobos_site::spare;

use crate::host::{NAME, light_job};
use crate::{Cli, TABLES};

/// Tells that the run of `cli`, which began at `start`, has failed before any pull. For a host that was named it is that host's
/// failure, which its next good pull makes good; for all of them it is the next run's that can begin.
pub(crate) fn tell(cli: &Cli, start: DateTime<Utc>, error: &anyhow::Error) {
    if cli.dry_run {
        return;
    }
    let exec = System::default();
    let history = History::new(&Paths::from_environment().history());
    let board = Board::system().lit_by(cli.config.as_deref());
    let text = Chain(error.as_ref()).to_string();
    let all = cli.hosts.is_empty().then(|| (String::new(), NAME.to_owned()));
    let named = cli.hosts.iter().filter(|host| !is_mistyped(cli, host));
    for (object, light) in all.into_iter().chain(named.map(|host| (host.to_string(), light_job(host)))) {
        let run = Run {
            end: Utc::now(),
            exit: exit::exit_of(error.as_ref()).code(),
            error: text.clone(),
            origin: exit::origin_of(error.as_ref()).unwrap_or_default(),
            ..Run::new(NAME, &object, start)
        };
        let _spent = spare::spend();
        if let Err(error) = history.append(&run) {
            log::warn!("{}", Chain(&error));
        }
        job::failed_early(&exec, &board, &light, &text);
    }
}

/// Whether somebody at a terminal has named a host that there is not, and reads so: no pull of it would ever make that good.
fn is_mistyped(cli: &Cli, host: &HostName) -> bool {
    let config = || Config::load(cli.config.as_deref(), &TABLES).ok();
    io::stderr().is_terminal() && config().is_some_and(|config| matches!(config.host(host), Ok(None)))
}
