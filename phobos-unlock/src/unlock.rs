//! `phobos-unlock NAME`: waits until the machine asks, gives it the passphrase, and waits until its own system answers.

use std::time::{Duration, Instant};

use anyhow::Context;
use phobos_core::human;
use phobos_core::signal::Signals;
use phobos_core::ssh::HostKey;
use phobos_core::terminal;
use phobos_site::exit::{Exit, Stop};

use crate::secret::{self, Secret};
use crate::server::{Said, Seen, View, stranger};
use crate::settings::Stage;

/// How often the machine is looked for.
const EVERY: Duration = Duration::from_secs(1);

/// How often somebody may mistype; Debian's initramfs itself takes three (crypttab(5), `tries`).
const TRIES: u32 = 3;

/// How long the system that has taken a passphrase may still answer before it is thought to ask for another disk's.
const LINGERING: Duration = Duration::from_secs(20);

/// Unlocks it.
///
/// # Errors
///
/// When it is not there (66), when it or what answers in its place is not to be trusted, or no passphrase opens it (65), when it
/// does not let our key in (77); and when it does not come up (1).
pub(crate) fn run(view: &View<'_>, wait: Duration, signals: &Signals) -> Result<(), anyhow::Error> {
    let name = view.name;
    for stage in [Stage::BeforeBoot, Stage::Booted] {
        if !view.place.pins(name, stage).is_file() {
            let text = format!(
                "no key of {name} is pinned for {}; run `phobos-unlock trust {name}` while that answers",
                stage.words()
            );
            return Err(Stop::new(Exit::Refused, text).into());
        }
    }
    let mut unlocking = Unlocking {
        view,
        signals,
        secret: None,
        tries: 0,
        given: None,
        unclear: Vec::new(),
        begun: Instant::now(),
        wait,
    };
    while !unlocking.step()? {
        unlocking.pause()?;
    }
    Ok(())
}

struct Unlocking<'a> {
    view: &'a View<'a>,
    signals: &'a Signals,
    secret: Option<Secret>,
    /// How many passphrases were wrong.
    tries: u32,
    /// When the last one was taken.
    given: Option<Instant>,
    /// What something showed last that is neither the machine nor certainly another one.
    unclear: Vec<HostKey>,
    begun: Instant,
    wait: Duration,
}

impl Unlocking<'_> {
    /// Does what there is to do now; whether it is up.
    fn step(&mut self) -> Result<bool, anyhow::Error> {
        let name = self.view.name;
        match self.seen()? {
            Seen::System(Stage::Booted) => {
                match self.given {
                    Some(_) => log::info!("{name} is up"),
                    None => log::info!("{name} is up already, and was not asked to unlock anything"),
                }
                return Ok(true);
            }
            Seen::Stranger(shown) => {
                let stage = if self.given.is_some() { Stage::Booted } else { Stage::BeforeBoot };
                return Err(Stop::new(Exit::Refused, stranger(name, stage, &shown)).into());
            }
            Seen::System(Stage::BeforeBoot) if self.given.is_none_or(|given| given.elapsed() >= LINGERING) => {
                self.give()?;
            }
            Seen::Unclear(shown) => {
                if self.unclear.is_empty() {
                    log::debug!("what answers for {name} shows no key of a kind that is pinned");
                }
                self.unclear = shown;
            }
            Seen::System(Stage::BeforeBoot) | Seen::Nobody => {}
        }
        self.has_time()?;
        // Whoever starts this before the machine is there need not stay.
        if self.secret.is_none() {
            self.obtain()?;
            log::info!("waiting until {name} asks for its passphrase");
        }
        Ok(false)
    }

    /// The system that answers, wherever it does.
    fn seen(&self) -> Result<Seen, anyhow::Error> {
        let (before, booted) = (Stage::BeforeBoot, Stage::Booted);
        let is_one = self.view.machine.server(before) == self.view.machine.server(booted);
        match self.view.look(before)? {
            Seen::Nobody if !is_one => self.view.look(booted),
            seen => Ok(seen),
        }
    }

    fn give(&mut self) -> Result<(), anyhow::Error> {
        let name = self.view.name;
        if self.secret.is_none() {
            self.obtain()?;
        }
        let secret = self.secret.take().unwrap_or_default();
        match self.view.give(&secret)? {
            Said::Unlocked => {
                log::info!("{name} has taken the passphrase, and boots");
                (self.given, self.secret) = (Some(Instant::now()), Some(secret));
            }
            Said::Wrong => {
                self.tries += 1;
                drop(secret);
                let can_ask = self.view.machine.passphrase_command.is_empty() && terminal::is_there();
                if !can_ask || self.tries >= TRIES {
                    let text = format!("the passphrase is wrong: it opens no disk of {name}");
                    return Err(Stop::new(Exit::Refused, text).into());
                }
                log::warn!("that passphrase opens no disk of {name}");
            }
            Said::NotNow(why) => {
                log::info!("{name} does not ask yet: {why}");
                self.secret = Some(secret);
            }
            Said::Lost(why) => {
                log::warn!("the connection to {name} came to nothing, and is tried again: {why}");
                self.secret = Some(secret);
            }
        }
        Ok(())
    }

    fn obtain(&mut self) -> Result<(), anyhow::Error> {
        let command = &self.view.machine.passphrase_command;
        let secret = if command.is_empty() {
            secret::ask(self.view.name, &|| self.signals.caught())?
        } else {
            secret::of_command(self.view.exec, command)?
        };
        self.secret = Some(secret);
        Ok(())
    }

    /// Gives up when there is no more time.
    fn has_time(&self) -> Result<(), Stop> {
        let (name, machine) = (self.view.name, self.view.machine);
        match self.given {
            Some(given) if given.elapsed() >= machine.boot => Err(Stop::new(
                Exit::Failed,
                format!(
                    "{name} has taken the passphrase, but its own system did not answer within {}; look at its console",
                    human::duration(machine.boot)
                ),
            )),
            None if self.begun.elapsed() >= self.wait && !self.unclear.is_empty() => {
                Err(Stop::new(Exit::Refused, stranger(name, Stage::BeforeBoot, &self.unclear)))
            }
            None if self.begun.elapsed() >= self.wait => {
                let server = machine.server(Stage::BeforeBoot);
                Err(Stop::new(
                    Exit::Absent,
                    format!(
                        "{name} is not there: nothing that takes a passphrase answered at {} port {} within {}",
                        server.host,
                        server.port,
                        human::duration(self.wait)
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    fn pause(&self) -> Result<(), anyhow::Error> {
        match self.signals.wait(EVERY).context("cannot wait")? {
            Some(signal) => Err(Stop::by_signal(signal).into()),
            None => Ok(()),
        }
    }
}
