//! `phobos-unlock`: gives a headless machine the passphrase of its encrypted root, over ssh and before it boots.
//!
//! What answers is known by keys that are pinned, those of the system in the initramfs apart from those of the one that runs
//! then: a passphrase goes to the first alone, and the second is the proof that it was taken.

mod secret;
mod server;
mod settings;
mod setup;
mod trust;
mod unlock;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use phobos_core::exec::{self, System};
use phobos_core::signal::Signals;
use phobos_site::exit::{Exit, Stop};
use phobos_site::{exit, logging};

use server::View;
use settings::Place;

/// Give a machine the passphrase of its encrypted root before it boots
#[derive(Debug, Parser)]
#[command(
    name = "phobos-unlock",
    version,
    subcommand_negates_reqs = true,
    subcommand_precedence_over_arg = true,
    disable_help_subcommand = true,
    max_term_width = exit::WIDTH,
    after_help = exit::HELP
)]
pub struct Cli {
    /// The machine: its table in unlock.toml, or its name or address
    #[arg(value_name = "NAME", required = true, value_parser = settings::host_name)]
    name: Option<String>,
    /// Read this file instead of ~/.config/phobos/unlock.toml; pinned keys are in the folder `unlock` beside it
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The machine's address, instead of what the file says
    #[arg(long, value_name = "ADDRESS", global = true, value_parser = settings::host_name)]
    host: Option<String>,
    /// The port that takes the passphrase
    #[arg(long, value_name = "PORT", global = true)]
    port: Option<u16>,
    /// The port of the running system's ssh server
    #[arg(long, value_name = "PORT", global = true)]
    booted_port: Option<u16>,
    /// The private key that is let in
    #[arg(short, long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Wait this long for the machine to ask, such as 30m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// Do something else than unlock
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the keys of the machine's ssh servers, and pin them
    Trust(trust::Args),
    /// On the machine itself: make it wait for its passphrase on the network, and prove that it will
    Setup(setup::Args),
    /// On the machine itself: look whether it can still be unlocked from afar
    Check(setup::check::Args),
}

/// Runs the program and returns its exit code.
pub fn main(cli: &Cli) -> ExitCode {
    logging::init(log::LevelFilter::Info);
    exit::guarded(|| exit::conclude(run(cli)))
}

fn run(cli: &Cli) -> Result<(), anyhow::Error> {
    secret::harden();
    let signals = Signals::catch().context("cannot catch signals")?;
    let (system, caught) = (System::new(&signals), || signals.caught());
    match &cli.command {
        Some(Command::Setup(args)) => return setup::run(&system, args, cli.port.unwrap_or(settings::PORT)),
        Some(Command::Check(args)) => return setup::check::run(&system, args, &caught),
        Some(Command::Trust(_)) | None => {}
    }
    exec::require(&["ssh", "ssh-keyscan", "ssh-keygen"])?;
    let place = Place::new(cli.config.as_deref())?;
    let name = match (&cli.command, &cli.name) {
        (Some(Command::Trust(args)), _) => &args.name,
        (None, Some(name)) => name,
        _ => return Err(Stop::new(Exit::Usage, "which machine? see `phobos-unlock --help`").into()),
    };
    let mut machine = place.machine(name)?;
    let set = |value: &mut u16, given: Option<u16>| *value = given.unwrap_or(*value);
    set(&mut machine.port, cli.port);
    set(&mut machine.booted_port, cli.booted_port);
    machine.identity = cli.identity.clone().or(machine.identity);
    if let Some(host) = &cli.host {
        machine.host.clone_from(host);
    }
    let view = View { name, machine: &machine, place: &place, exec: &system };
    match &cli.command {
        Some(Command::Trust(args)) => trust::run(&view, args, &caught),
        _ => unlock::run(&view, cli.wait.unwrap_or(machine.wait), &signals),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["phobos-unlock"]).is_err());
        assert!(Cli::try_parse_from(["phobos-unlock", "-oProxyCommand=x"]).is_err());
        assert!(Cli::try_parse_from(["phobos-unlock", "nas", "--wait", "30m"]).is_ok());
        assert!(Cli::try_parse_from(["phobos-unlock", "trust", "nas", "--stage", "before-boot"]).is_ok());
    }
}
