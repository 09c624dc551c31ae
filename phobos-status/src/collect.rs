//! Reads everything once: files of phobos's own, what its other programs tell as JSON, and what systemd says of timers and units.
//!
//! Whatever cannot be read is told as that, and the rest is shown all the same. Nothing is changed, and no namespace is made.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, ExecError};
use phobos_core::namespace;
use phobos_core::systemd;
use phobos_site::config::{Config, ConfigError, Table};
use phobos_site::drives::{self, Past};
use phobos_site::history::History;
use phobos_site::led::Board;
use phobos_site::ledger::Ledger;
use phobos_site::lock::Locks;
use phobos_site::paths::Paths;
use phobos_site::rotation::Failure;
use phobos_site::sister;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::digest::{Digest, Key};
use crate::facts::{Facts, Letter, LockFact, Room, Space, Timed, Work};

/// How long another program may take to answer.
const LIMIT: Duration = Duration::from_secs(20);

/// What the other programs are told of this one's environment.
const ENVIRONMENT: [&str; 5] = ["PATH", "TZ", "RUNTIME_DIRECTORY", "PHOBOS_MAIL_UNITS", "PHOBOS_MAIL_OWN"];

/// The most moments of one timer that are asked for.
const MOST_MOMENTS: usize = 400;

/// What is to be read, and with what.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) exec: &'a dyn Exec,
    pub(crate) config: Option<&'a Path>,
    pub(crate) paths: &'a Paths,
    pub(crate) board: &'a Board,
    /// How far ahead the timers' runs are asked for; without it the next one of each.
    pub(crate) ahead: Option<TimeDelta>,
    pub(crate) is_root: bool,
    pub(crate) now: DateTime<Utc>,
}

/// Reads all of it.
pub(crate) fn collect(sources: &Sources<'_>) -> Facts {
    let mut facts = Facts { machine: machine(), ..Facts::default() };
    let config = sources.configuration(&mut facts);
    // Each child belongs to the thread that waits for it.
    let (past, spaces, letters, room, timers) = thread::scope(|scope| {
        let past = scope.spawn(|| sources.past());
        // With a wrong configuration the other programs say the same again.
        let hosts = if facts.troubles.is_empty() { facts.hosts.as_slice() } else { &[] };
        let spaces = scope.spawn(|| sources.spaces(&config, hosts));
        let letters = scope.spawn(|| sources.letters());
        let room = scope.spawn(|| sources.room(&config));
        let timers = sources.timers();
        (joined(past.join()), joined(spaces.join()), joined(letters.join()), joined(room.join()), timers)
    });
    let mut troubles = std::mem::take(&mut facts.troubles);
    let mut told = |error: Option<String>| troubles.extend(error);
    told(past.1);
    told(spaces.1);
    told(letters.1);
    facts.past = past.0;
    (facts.spaces, facts.letters, facts.room, facts.timers) = (spaces.0, letters.0, room, timers);
    let history = History::new(&sources.paths.history());
    facts.under_way = history.under_way().unwrap_or_else(|error| {
        told(Some(Chain(&error).to_string()));
        Vec::new()
    });
    facts.board = sources.board.jobs().unwrap_or_else(|error| {
        told(Some(Chain(&error).to_string()));
        Vec::new()
    });
    facts.locks = sources.locks();
    facts.progress = sources.progress(&facts.locks);
    facts.overdue = TimeDelta::from_std(config.external.overdue.0).unwrap_or(TimeDelta::MAX);
    match drives::known(&config.external, Path::new(drives::CRYPTTAB)) {
        Ok(targets) => {
            let book = Ledger::new(&sources.paths.ledger()).read();
            facts.drives = drives::drives(&targets, &book, &|name| past_of(&facts.past, name), sources.now);
        }
        // A machine without any drive.
        Err(_) if config.external.drive.is_empty() => {}
        Err(error) => told(Some(Chain(&error).to_string())),
    }
    facts.troubles = troubles;
    if !sources.is_root {
        facts.unseen.extend(["holding spaces", "mail", "room"].map(str::to_owned));
    }
    facts
}

/// What a thread has found; a panic in it, which was told, has found nothing.
fn joined<T: Default>(found: thread::Result<T>) -> T {
    found.unwrap_or_default()
}

fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// What the history says of a drive.
fn past_of(digest: &Digest, drive: &str) -> Past {
    let Some(track) = digest.jobs.get(&Key::new(drives::JOB, drive)) else { return Past::default() };
    let last = &track.last;
    let failure = (last.exit != 0).then(|| Failure { at: last.end, error: last.error.clone() });
    Past { failure, good: track.last_good().map(|run| run.end) }
}

impl Sources<'_> {
    /// The tables that are needed; those with a mistake have their defaults, and the mistake is told.
    fn configuration(&self, facts: &mut Facts) -> Config {
        let mut config = Config::load(self.config, &[]).unwrap_or_default();
        for table in [Table::Backup, Table::External, Table::Pull] {
            match Config::load(self.config, &[table]) {
                Ok(read) => match table {
                    Table::External => config.external = read.external,
                    Table::Pull => (config.pull, config.folder) = (read.pull, read.folder),
                    _ => config.backup = read.backup,
                },
                Err(error) => self.mistake(&error, facts),
            }
        }
        match config.hosts() {
            Ok(hosts) => facts.hosts = hosts.iter().map(|host| host.name.to_string()).collect(),
            Err(error) => self.mistake(&error, facts),
        }
        config
    }

    /// Takes note of a mistake in the configuration: once, for a file that cannot be read is one, not three. That it is not
    /// for everybody to read is none.
    fn mistake(&self, error: &ConfigError, facts: &mut Facts) {
        let denied = matches!(error, ConfigError::Read { source, .. } if source.kind() == ErrorKind::PermissionDenied);
        let (told, text) = if denied && !self.is_root {
            (&mut facts.unseen, "settings".to_owned())
        } else {
            (&mut facts.troubles, Chain(error).to_string())
        };
        if !told.contains(&text) {
            told.push(text);
        }
    }

    fn past(&self) -> (Digest, Option<String>) {
        let mut digest = Digest::default();
        match History::new(&self.paths.history()).each_in_brief(|run| digest.note(run, self.now)) {
            Ok(strange) => digest.strange = strange,
            Err(error) => return (digest, Some(Chain(&error).to_string())),
        }
        (digest, None)
    }

    /// What one of phobos's programs tells as JSON; nothing where it is not installed.
    fn told<T: DeserializeOwned>(&self, program: &str, args: &[&str]) -> Result<Option<T>, String> {
        let call = sister::call(program, self.config);
        // A folder that systemd has named is this unit's own, and no spool.
        let call = call.only_env(&ENVIRONMENT);
        match self.exec.run(&call.args(args).limit(LIMIT)) {
            Ok(finished) => match serde_json::from_slice(&finished.stdout) {
                Ok(told) => Ok(Some(told)),
                Err(error) => Err(format!("cannot understand what {program} says: {error}")),
            },
            Err(ExecError::Missing { .. }) => Ok(None),
            Err(error) => Err(Chain(&error).to_string()),
        }
    }

    /// The holding spaces, if they can be seen without making anything.
    fn spaces(&self, config: &Config, hosts: &[String]) -> (Option<Vec<Space>>, Option<String>) {
        #[derive(Deserialize)]
        struct Listing {
            hosts: Vec<Space>,
        }
        if !self.sees_the_backups(config) || hosts.is_empty() {
            return (None, None);
        }
        match self.told::<Listing>("phobos-pull", &["list", "--json"]) {
            Ok(listing) => (listing.map(|listing| listing.hosts), None),
            Err(error) => (None, Some(error)),
        }
    }

    fn letters(&self) -> (Option<Vec<Letter>>, Option<String>) {
        #[derive(Deserialize)]
        struct Listing {
            letters: Vec<Letter>,
        }
        if !self.is_root {
            return (None, None);
        }
        match self.told::<Listing>("phobos-mail", &["list", "--json"]) {
            Ok(listing) => (listing.map(|listing| listing.letters), None),
            Err(error) => (None, Some(error)),
        }
    }

    /// How full the backup disk is; where it is not to be had, that is not worth a word.
    fn room(&self, config: &Config) -> Option<Room> {
        if !self.sees_the_backups(config) {
            return None;
        }
        let call = sister::call("phobos-ns", self.config);
        let call = call.args(["exec", "--", "df", "--block-size=1", "--output=used,avail"]).arg(&*config.backup.mount);
        let said = self.exec.run(&call.limit(LIMIT)).ok()?;
        room(&String::from_utf8_lossy(&said.stdout))
    }

    /// Whether there is a namespace, and this process may look into it.
    fn sees_the_backups(&self, config: &Config) -> bool {
        self.is_root && namespace::exists(&config.backup.namespace)
    }

    fn locks(&self) -> Vec<LockFact> {
        let locks = Locks::new(&self.paths.locks());
        let fact =
            |name| LockFact { name: format!("{name}"), holders: locks.holders(&name), waiters: locks.waiters(&name) };
        let facts = locks.names().into_iter().map(fact);
        facts.filter(|lock| !(lock.holders.is_empty() && lock.waiters.is_empty())).collect()
    }

    /// What the units say of themselves that hold a lock or wait for one.
    fn progress(&self, locks: &[LockFact]) -> BTreeMap<String, String> {
        let holders = locks.iter().flat_map(|lock| lock.holders.iter().chain(&lock.waiters));
        let units: BTreeSet<&str> = holders.filter_map(|holder| holder.unit.as_deref()).collect();
        let units: Vec<&str> = units.into_iter().collect();
        let shown = systemd::properties(self.exec, &units, &["StatusText"]).unwrap_or_default();
        let text = |(unit, values): (String, Vec<(String, String)>)| {
            let (_, text) = values.into_iter().find(|(name, text)| name == "StatusText" && !text.is_empty())?;
            Some((unit, text))
        };
        shown.into_iter().filter_map(text).collect()
    }

    /// The timers that start phobos's jobs; a machine without systemd has none.
    fn timers(&self) -> Vec<Timed> {
        let all = systemd::timers(self.exec, &[]).unwrap_or_else(|error| {
            log::debug!("{}", Chain(&error));
            Vec::new()
        });
        let units: Vec<&str> =
            all.iter().map(|timer| timer.activates.as_str()).filter(|unit| !unit.is_empty()).collect();
        let shown = systemd::properties(self.exec, &units, &["ExecStart"]).unwrap_or_default();
        let timed = |timer: &systemd::Timer| {
            let values = shown.get(&timer.activates)?;
            let work = values.iter().filter_map(|(_, value)| command_line(value)).find_map(Work::of_command)?;
            let planned = timer.next().into_iter().collect();
            Some(Timed { unit: timer.unit.clone(), activates: timer.activates.clone(), work, planned })
        };
        let mut timers: Vec<Timed> = all.iter().filter_map(timed).collect();
        if let Some(ahead) = self.ahead {
            self.plan(&mut timers, ahead);
        }
        timers
    }

    /// Adds the moments after the next one, as systemd reckons them.
    fn plan(&self, timers: &mut [Timed], ahead: TimeDelta) {
        let units: Vec<&str> = timers.iter().map(|timer| timer.unit.as_str()).collect();
        let shown = systemd::properties(self.exec, &units, &["TimersCalendar"]).unwrap_or_default();
        let of = |timer: &str| shown.get(timer).into_iter().flatten().filter_map(|(_, value)| calendar(value));
        let wanted: Vec<(usize, &str)> = timers
            .iter()
            .enumerate()
            // What is not going to elapse is not planned, whatever it says.
            .filter(|(_, timer)| !timer.planned.is_empty())
            .flat_map(|(index, timer)| of(&timer.unit).map(move |calendar| (index, calendar)))
            .collect();
        let calendars: Vec<&str> = wanted.iter().map(|(_, calendar)| *calendar).collect();
        let hours = usize::try_from(ahead.num_hours()).unwrap_or_default();
        let moments = systemd::elapses(self.exec, &calendars, hours.clamp(2, MOST_MOMENTS)).unwrap_or_else(|error| {
            log::debug!("{}", Chain(&error));
            Vec::new()
        });
        let end = self.now.checked_add_signed(ahead).unwrap_or(self.now);
        for ((index, _), moments) in wanted.iter().zip(moments) {
            let Some(timer) = timers.get_mut(*index) else { continue };
            let next = timer.planned.first().copied();
            timer.planned.extend(moments.into_iter().filter(|moment| Some(*moment) > next && *moment <= end));
            timer.planned.sort_unstable();
            timer.planned.dedup();
        }
    }
}

/// The command line in what systemd shows of `ExecStart=`: `{ path=… ; argv[]=… ; … }`.
fn command_line(value: &str) -> Option<&str> {
    let (_, line) = value.split_once("argv[]=")?;
    Some(line.split(" ; ").next().unwrap_or(line))
}

/// The expression in what systemd shows of `OnCalendar=`: `{ OnCalendar=… ; next_elapse=… }`.
fn calendar(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("OnCalendar=")?;
    Some(rest.split(" ; ").next().unwrap_or(rest).trim())
}

/// What `df --output=used,avail` says.
fn room(text: &str) -> Option<Room> {
    let mut numbers = text.lines().nth(1)?.split_whitespace().map(str::parse);
    Some(Room { used: numbers.next()?.ok()?, free: numbers.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_and_df_say_is_read() {
        let value =
            "{ path=/usr/local/bin/phobos-pull ; argv[]=/usr/local/bin/phobos-pull luv ; ignore_errors=no ; pid=0 }";
        assert_eq!(command_line(value), Some("/usr/local/bin/phobos-pull luv"));
        assert_eq!(calendar("{ OnCalendar=*-*-* 03:00:00 ; next_elapse=n/a }"), Some("*-*-* 03:00:00"));
        assert_eq!((command_line("{ }"), calendar("")), (None, None));
        assert_eq!(room("     Used     Avail\n 1000 24\n"), Some(Room { used: 1000, free: 24 }));
        for bad in ["", "Used Avail\n", "Used Avail\n1 x", "Used Avail\n1"] {
            assert_eq!(room(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn fuzz_status_sources() {
        let seeds: [&[u8]; 4] = [
            b"Used Avail\n1000 24\n",
            b"{ OnCalendar=*-*-* 03:00:00 ; next_elapse=n/a }",
            br#"{"host":"luv","state":"ok","stale":false,"last_success":"2026-11-27T05:00:00Z","bytes":1,"files":2,"error":"x"}"#,
            br#"{"id":"a","state":"waiting","written":"2026-11-27T05:00:00+01:00","subject":null,"reason":"x"}"#,
        ];
        phobos_fuzz::target("status sources", &seeds, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            std::hint::black_box((room(&text), command_line(&text), calendar(&text)));
            drop((serde_json::from_slice::<Space>(bytes), serde_json::from_slice::<Letter>(bytes)));
        });
    }
}
