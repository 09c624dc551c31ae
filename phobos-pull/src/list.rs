//! What is known of all hosts: the last good pull, its age and length, the state, and the next run.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Context;
use chrono::{DateTime, Local, TimeDelta, Utc};
use phobos_core::error::Chain;
use phobos_core::exec::System;
use phobos_core::human;
use phobos_core::signal::Signals;
use phobos_core::systemd;
use phobos_site::config::Config;
use phobos_site::exit;
use phobos_site::lock::Locks;
use phobos_site::logging;
use phobos_site::paths::Paths;
use phobos_site::pull::Host;
use serde::Serialize;

use crate::mark::{Mark, Marks, State};
use crate::outcome::days;
use crate::pull;
use crate::{Cli, TABLES};

/// The timer for all hosts, and those for one each.
const ALL: &str = "phobos-pull.timer";
const EACH: &str = "phobos-pull@*.timer";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The version of what is printed as JSON.
const SCHEMA_VERSION: u32 = 1;

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    schema_version: u32,
    hosts: &'a [Line],
}

/// What is known of one host.
#[derive(Debug, Serialize)]
struct Line {
    host: String,
    /// A mark's state, `interrupted` for a pull that runs no more, `new` for a host that was never pulled.
    state: &'static str,
    /// Whether the last good pull is older than `stale-after`.
    stale: bool,
    last_success: Option<DateTime<Utc>>,
    /// The size of what the host has, in bytes, as of the last good pull.
    bytes: Option<u64>,
    files: Option<u64>,
    /// How long the last good pull took.
    seconds: Option<i64>,
    next: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
}

pub(crate) fn run(cli: &Cli, args: &Args) -> Result<(), anyhow::Error> {
    exit::require_root()?;
    let config = Config::load(cli.config.as_deref(), &TABLES)?;
    let hosts = config.hosts()?;
    if hosts.is_empty() {
        // Neither namespace nor disk is needed to know that there is nothing.
        log::info!("{}", pull::no_host(&config));
        if args.json {
            print_json(&[])?;
        }
        return Ok(());
    }
    let signals = Signals::catch().context("cannot catch signals")?;
    let system = System::new(&signals);
    let next = systemd::next_runs(&system, &[ALL, EACH]).unwrap_or_else(|error| {
        log::debug!("{}", Chain(&error));
        BTreeMap::new()
    });
    let locks = Locks::new(&Paths::from_environment().locks());
    pull::enter_namespace(&config, &system, &signals, &locks)?;
    let marks = Marks::new(&config.backup.holding);
    let now = Utc::now();
    let lines: Vec<_> = hosts
        .iter()
        .map(|host| {
            let is_held = !locks.holders(&host.lock()).is_empty();
            line(host, marks.read(&host.name), is_held, &next, now)
        })
        .collect();
    if args.json {
        print_json(&lines)?;
    } else {
        logging::result(&table(&lines, now)?)?;
    }
    Ok(())
}

fn print_json(hosts: &[Line]) -> Result<(), anyhow::Error> {
    let printed = Printed { schema_version: SCHEMA_VERSION, hosts };
    Ok(logging::result(&(serde_json::to_string_pretty(&printed).context("cannot write JSON")? + "\n"))?)
}

fn line(
    host: &Host,
    mark: Option<Mark>,
    is_held: bool,
    next: &BTreeMap<String, DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Line {
    // A host's name is an instance as it is written: the units take it with `%i`.
    let own = format!("phobos-pull@{}.timer", host.name);
    let next = [own.as_str(), ALL].iter().filter_map(|timer| next.get(*timer)).min().copied();
    let name = host.name.to_string();
    let Some(mark) = mark else {
        return Line {
            host: name,
            state: "new",
            stale: false,
            last_success: None,
            bytes: None,
            files: None,
            seconds: None,
            next,
            error: String::new(),
            note: String::new(),
        };
    };
    let limit = TimeDelta::from_std(host.stale_after.0).unwrap_or(TimeDelta::MAX);
    Line {
        host: name,
        state: if mark.state == State::Running && !is_held { "interrupted" } else { mark.state.word() },
        stale: mark.age(now).is_none_or(|age| age > limit),
        last_success: mark.success.as_ref().map(|success| success.start),
        bytes: mark.success.as_ref().map(|success| success.bytes),
        files: mark.success.as_ref().map(|success| success.files),
        seconds: mark.length().map(|length| length.num_seconds()),
        next,
        error: mark.error,
        note: mark.note,
    }
}

fn table(lines: &[Line], now: DateTime<Utc>) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let width = lines.iter().map(|line| line.host.len()).max().unwrap_or_default().max(4);
    writeln!(
        text,
        "{:width$}  {:11}  {:16}  {:10}  {:>10}  {:>8}  NEXT",
        "HOST", "STATE", "LAST SUCCESS", "AGE", "SIZE", "TOOK"
    )?;
    for line in lines {
        let time = |time: Option<DateTime<Utc>>| {
            time.map_or("-".to_owned(), |time| time.with_timezone(&Local).format("%F %R").to_string())
        };
        let age = match line.last_success {
            None => "-".to_owned(),
            Some(success) if success > now && line.stale => "future".to_owned(),
            Some(success) => days(now - success),
        };
        let size = line.bytes.map_or("-".to_owned(), human::size);
        let took = line
            .seconds
            .map_or("-".to_owned(), |seconds| human::span(TimeDelta::try_seconds(seconds).unwrap_or_default()));
        let (host, state) = (&line.host, if line.stale && line.state == "ok" { "stale" } else { line.state });
        writeln!(
            text,
            "{host:width$}  {state:11}  {:16}  {age:10}  {size:>10}  {took:>8}  {}",
            time(line.last_success),
            time(line.next)
        )?;
        for detail in [&line.error, &line.note].into_iter().filter(|detail| !detail.is_empty()) {
            writeln!(text, "{:width$}  {detail}", "")?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mark::Success;
    use std::path::Path;

    #[test]
    fn each_host_has_a_line_that_tells_what_its_copy_is_worth() {
        let text = "[[pull]]\nhost = 'luv'\nsource = ['luv:/']\n[[pull]]\nhost = 'chew'\nsource = ['chew:/']";
        let config = Config::parse(Path::new("/etc/phobos/phobos.toml"), text).unwrap();
        let at = |hours: i64| DateTime::from_timestamp(hours * 3600, 0).unwrap();
        let [luv, chew] = config.pull.as_slice() else { panic!("two hosts") };
        let mut mark = Mark::begin(&luv.name, None, at(0));
        mark.success = Some(Success { start: at(0), end: at(1), files: 5, bytes: 7_000_000, sources: BTreeMap::new() });
        let mut good = mark.clone();
        (good.state, good.note) = (State::Ok, "vanished".to_owned());
        let next = [(ALL.to_owned(), at(500)), ("phobos-pull@luv.timer".to_owned(), at(300))].into();
        let lines = [
            line(luv, Some(mark.clone()), true, &next, at(24)),
            line(luv, Some(mark), false, &next, at(24)),
            line(luv, Some(good), false, &next, at(200)),
            line(chew, None, false, &next, at(0)),
        ];
        let seen: Vec<_> = lines.iter().map(|line| (line.state, line.stale)).collect();
        assert_eq!(seen, [("running", false), ("interrupted", false), ("ok", true), ("new", false)]);
        assert_eq!((lines[0].seconds, lines[0].next), (Some(3600), Some(at(300))));
        assert_eq!(lines[3].next, Some(at(500)));
        let table = table(&lines, at(200)).unwrap();
        assert!(table.contains("stale        1970-01-01") && table.contains("  8 days"), "{table}");
        assert!(table.contains("      7 MB        1h  "), "{table}");
        assert!(table.lines().any(|line| line.trim() == "vanished"), "{table}");
    }
}
