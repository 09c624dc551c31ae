//! Shows the namespace and the locks.

use std::fmt::Write;

use anyhow::Context;
use chrono::{DateTime, Local, Utc};
use phobos_core::namespace::{self, Inventory, Mounted};
use phobos_core::schema::SchemaVersion;
use phobos_site::config::Config;
use phobos_site::lock::{Holder, Locks};
use phobos_site::logging;
use phobos_site::namespace::plan;
use serde::Serialize;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// All there is to tell.
#[derive(Debug, Serialize)]
struct Status {
    schema_version: SchemaVersion<1>,
    file: String,
    /// What is in the namespace; none if there is no namespace.
    namespace: Option<Inventory>,
    locks: Vec<LockStatus>,
}

#[derive(Debug, Serialize)]
struct LockStatus {
    name: String,
    holders: Vec<Holder>,
    waiters: Vec<Holder>,
}

pub(crate) fn run(config: &Config, locks: &Locks, args: &Args) -> Result<(), anyhow::Error> {
    let names = locks.names();
    let locks = names.iter().map(|name| LockStatus {
        name: name.to_string(),
        holders: locks.holders(name),
        waiters: locks.waiters(name),
    });
    let status = Status {
        schema_version: SchemaVersion,
        file: config.backup.namespace.display().to_string(),
        locks: locks.filter(|lock| !(lock.holders.is_empty() && lock.waiters.is_empty())).collect(),
        namespace: namespace::look(plan(&config.backup))?,
    };
    if args.json {
        logging::result(&(serde_json::to_string_pretty(&status).context("cannot write JSON")? + "\n"))?;
    } else {
        logging::result(&text(&status)?)?;
    }
    Ok(())
}

fn text(status: &Status) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    match &status.namespace {
        None => writeln!(text, "{}: no namespace", status.file)?,
        Some(inventory) => {
            let since = inventory.since.map_or("a time not known".to_owned(), local);
            writeln!(text, "{}: a namespace since {since}", status.file)?;
            let mounted = |mount: &Mounted| format!("{} on {}", mount.source.display(), mount.target.display());
            list(&mut text, "mounted in it", inventory.mounts.iter().map(mounted))?;
            list(&mut text, "kept busy, although unmounted outside", inventory.pins.iter().map(mounted))?;
            list(&mut text, "in it", inventory.processes.iter().map(ToString::to_string))?;
        }
    }
    for lock in &status.locks {
        writeln!(text, "lock {}", lock.name)?;
        list(&mut text, "held by", lock.holders.iter().map(words))?;
        list(&mut text, "awaited by", lock.waiters.iter().map(words))?;
    }
    Ok(text)
}

fn list(text: &mut String, title: &str, lines: impl Iterator<Item = String>) -> std::fmt::Result {
    lines.into_iter().try_for_each(|line| writeln!(text, "  {title}: {line}"))
}

fn words(holder: &Holder) -> String {
    let until = holder.until.map_or(String::new(), |until| format!(", expected to end {}", local(until)));
    let mode = match holder.mode {
        phobos_site::lock::Mode::Shared => "shared",
        phobos_site::lock::Mode::Exclusive => "alone",
    };
    let unit = holder.unit.as_ref().map_or(String::new(), |unit| format!(", {unit}"));
    format!("{} (pid {}{unit}), {mode}, since {}{until}", holder.job, holder.pid, local(holder.since))
}

fn local(time: DateTime<Utc>) -> String {
    time.with_timezone(&Local).format("%F %T").to_string()
}
