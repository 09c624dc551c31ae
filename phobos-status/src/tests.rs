//! Made-up machines, and what is shown of them. `PHOBOS_BLESS=1` writes the files in `golden/` anew, to be read before they
//! are committed, and where the page is another one, takes its pictures in `docs/pictures` anew.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use phobos_site::history::{Run, UnderWay};
use phobos_site::led::{self, State};
use phobos_site::ledger::{Entry, Mirror, Room as DriveRoom};
use phobos_site::lock::{Holder, Mode};
use phobos_site::rotation::{Drive, Place};
use proptest::prelude::*;

use crate::digest::Key;
use crate::facts::{Claim, Facts, Letter, LockFact, Room, Space, Timed, Work, mirror_claims, pull_claims};
use crate::layout::WIDTH;
use crate::model::{Model, Severity};
use crate::zone::Zone;
use crate::zone::tests::{berlin, time};
use crate::{schedule, screen};

mod figures;
mod monitoring;
mod pages;

/// Ten o'clock in Berlin, on a Friday.
pub(crate) const NOW: &str = "2026-11-27T09:00:00Z";

/// A machine whose history is made up.
pub(crate) struct Machine {
    pub(crate) facts: Facts,
    pub(crate) now: DateTime<Utc>,
    pub(crate) zone: Zone,
}

impl Machine {
    /// One where nothing has ever run.
    pub(crate) fn empty() -> Self {
        let facts = Facts { machine: "nas".to_owned(), overdue: TimeDelta::days(35), ..Facts::default() };
        Self { facts, now: time(NOW), zone: berlin() }
    }

    pub(crate) fn model(&self) -> Model {
        Model::new(&self.facts, self.now, TimeDelta::days(3), self.zone.clone())
    }

    pub(crate) fn add(&mut self, run: Run) {
        self.facts.past.add(run, self.now);
    }

    /// A good run at a wall-clock time of Berlin in summer or winter, `days` before now.
    pub(crate) fn ran(&mut self, job: (&str, &str), days: i64, clock: &str, minutes: i64) -> &mut Self {
        let start = self.wall(days, clock);
        self.add(Run { end: start + TimeDelta::minutes(minutes), ..Run::new(job.0, job.1, start) });
        self
    }

    pub(crate) fn wall(&self, days: i64, clock: &str) -> DateTime<Utc> {
        let day = self.zone.local(self.now).date() - TimeDelta::days(days);
        let wanted = day.and_time(chrono::NaiveTime::parse_from_str(clock, "%H:%M").unwrap());
        let guesses = [1, 2].map(|hours| wanted.and_utc() - TimeDelta::hours(hours));
        guesses.into_iter().find(|guess| self.zone.local(*guess) == wanted).unwrap()
    }

    fn timer(&mut self, unit: &str, work: Work, ahead: &[(i64, &str)]) {
        let planned = ahead.iter().map(|(days, clock)| self.wall(-days, clock)).collect();
        let (unit, activates) = (format!("{unit}.timer"), format!("{unit}.service"));
        self.facts.timers.push(Timed { unit, activates, work, planned });
    }

    /// The owner's house, where all is well.
    pub(crate) fn quiet() -> Self {
        let mut machine = Self::empty();
        for days in (0..40).rev() {
            machine.ran(("borgmatic", ""), days, "03:00", 74 + days % 3);
            machine.ran(("pull", "luv"), days, "06:00", 3);
            if days % 7 == 5 {
                machine.ran(("borg-check", ""), days, "07:00", 310 + days % 4);
            }
            if days > 0 {
                machine.ran(("pull", "nuhc"), days, "15:00", 6);
                if days == 3 {
                    // It waited for the mirror to A.
                    let start = machine.wall(days, "23:00");
                    let end = start + TimeDelta::minutes(11);
                    machine.add(Run { end, waited_secs: 3 * 3600, ..Run::new("pull", "chew", start) });
                } else {
                    machine.ran(("pull", "chew"), days, "20:00", 11);
                }
            }
        }
        machine.ran(("ext", "B"), 31, "18:00", 140);
        machine.ran(("ext", "A"), 3, "18:00", 300);
        let hosts = ["chew", "luv", "nuhc"];
        machine.facts.hosts = hosts.map(str::to_owned).to_vec();
        let claims = |locks: &[&str]| locks.iter().map(|lock| Claim::alone(lock)).collect::<Vec<_>>();
        let job = |name: &str, claims| Work::Job { key: Key::new(name, ""), claims };
        machine.timer(
            "phobos-borgmatic",
            job("borgmatic", mirror_claims()),
            &[(1, "03:00"), (2, "03:00"), (3, "03:00")],
        );
        machine.timer("phobos-borg-check", job("borg-check", claims(&["repository"])), &[(2, "07:00")]);
        for (host, clock, first) in [("luv", "06:00", 1), ("nuhc", "15:00", 0), ("chew", "20:00", 0)] {
            let work = Work::Pulls(vec![host.to_owned()]);
            machine.timer(&format!("phobos-pull@{host}"), work, &[(first, clock), (first + 1, clock)]);
        }
        let space = |host: &str, days: i64, clock: &str, bytes| Space {
            host: host.to_owned(),
            state: "ok".to_owned(),
            stale: false,
            last_success: Some(machine.wall(days, clock)),
            bytes: Some(bytes),
            files: Some(12_000),
            error: String::new(),
            note: String::new(),
        };
        machine.facts.spaces = Some(vec![
            space("chew", 1, "20:00", 212_000_000_000),
            space("luv", 0, "06:00", 48_100_000_000),
            space("nuhc", 1, "15:00", 3_900_000_000),
        ]);
        let drive = |name: &str, days: i64, used, before| Drive {
            name: name.to_owned(),
            place: Place::Away(Some(machine.wall(days, "18:00"))),
            entry: Entry {
                seen: Some(machine.wall(days, "18:00")),
                mirror: Some(Mirror {
                    number: 100 - u64::try_from(days).unwrap(),
                    room: Some(DriveRoom { used, free: 4_000_000_000_000 - used }),
                    ..Mirror::at(machine.wall(days, "18:00") + TimeDelta::minutes(150))
                }),
                before: Some(Mirror {
                    number: 1,
                    room: Some(DriveRoom { used: before, free: 4_000_000_000_000 - before }),
                    ..Mirror::at(machine.wall(days + 60, "18:00"))
                }),
                ..Entry::default()
            },
            failure: None,
        };
        machine.facts.drives = vec![
            drive("A", 3, 1_620_000_000_000, 1_580_000_000_000),
            drive("B", 31, 1_590_000_000_000, 1_560_000_000_000),
        ];
        machine.facts.letters = Some(Vec::new());
        machine.facts.room = Some(Room { used: 1_630_000_000_000, free: 2_370_000_000_000 });
        machine
    }

    /// The same house in a bad month.
    pub(crate) fn bad() -> Self {
        let mut machine = Self::quiet();
        let refused = "ssh: connect to host chew port 22: Connection refused";
        let failed = |machine: &mut Self, days| {
            let start = machine.wall(days, "20:30");
            machine.add(Run {
                exit: 1,
                error: refused.to_owned(),
                origin: "ssh".to_owned(),
                ..Run::new("pull", "chew", start)
            });
        };
        failed(&mut machine, 2);
        failed(&mut machine, 1);
        machine.facts.board.push(led::Job {
            name: "pull-chew".to_owned(),
            state: State::Failed,
            text: refused.to_owned(),
            since: machine.wall(1, "20:30"),
            process: None,
            failure: None,
        });
        // B was to be brought 35 days after its last mirror, and nobody came.
        for drive in &mut machine.facts.drives {
            for mirror in [&mut drive.entry.mirror, &mut drive.entry.before].into_iter().flatten() {
                mirror.mirrored -= TimeDelta::days(40);
            }
        }
        let since = machine.wall(0, "07:00");
        let holder = |job: &str, pid, since, until| Holder {
            schema_version: phobos_core::schema::SchemaVersion,
            job: job.to_owned(),
            unit: Some(format!("phobos-{job}.service")),
            pid,
            started: 1,
            since,
            until,
            mode: Mode::Exclusive,
        };
        let until = Some(machine.wall(0, "12:30"));
        machine.facts.locks = vec![LockFact {
            name: "repository".to_owned(),
            holders: vec![holder("borg-check", 7, since, until)],
            waiters: vec![holder("ext-B", 8, machine.wall(0, "09:40"), None)],
        }];
        let run = |job: &str, object: &str, light: &str, start, pid| UnderWay {
            job: job.to_owned(),
            object: object.to_owned(),
            light: light.to_owned(),
            start,
            pid,
        };
        machine.facts.under_way =
            vec![run("borg-check", "", "borg-check", since, 7), run("ext", "B", "ext-B", machine.wall(0, "09:40"), 8)];
        machine.facts.progress =
            [("phobos-borg-check.service".to_owned(), "checking segments, 42 %".to_owned())].into();
        let letter = |state: &str, reason: &str| Letter {
            state: state.to_owned(),
            written: Some(machine.wall(1, "20:31")),
            subject: Some("unit phobos-pull@chew.service failed".to_owned()),
            reason: Some(reason.to_owned()),
        };
        machine.facts.letters =
            Some(vec![letter("waiting", "mail.example.org: timed out"), letter("set-aside", "550 no")]);
        machine.facts.past.strange = 1;
        machine.facts.room = Some(Room { used: 3_900_000_000_000, free: 100_000_000_000 });
        machine
    }
}

#[test]
fn the_command_line_is_consistent_and_the_help_tells_the_exit_codes() {
    use clap::CommandFactory;
    crate::Cli::command().debug_assert();
    assert!(crate::Cli::command().render_help().to_string().contains(phobos_site::exit::HELP));
}

/// Compares `text` with the file `name` in `golden/`; says whether that was just written anew because it was another.
fn golden(name: &str, text: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    let is_another = !std::fs::read_to_string(&path).is_ok_and(|before| before == text);
    let is_new = is_another && std::env::var_os("PHOBOS_BLESS").is_some();
    if is_new {
        std::fs::write(&path, text).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == want, "{} is not what is shown; PHOBOS_BLESS=1 writes it anew\n{text}", path.display());
    is_new
}

fn assert_is_narrow(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line:?} is longer than {WIDTH}");
        assert_eq!(line, line.trim_end(), "blanks at the end");
    }
}

#[test]
fn a_quiet_month_a_bad_one_and_an_empty_machine_on_one_screen() {
    for (name, machine) in [("quiet", Machine::quiet()), ("bad", Machine::bad()), ("empty", Machine::empty())] {
        let model = machine.model();
        let text = screen::draw(&model, false);
        assert_is_narrow(&text);
        assert!(text.lines().count() <= 50, "more than a screen");
        golden(&format!("{name}.txt"), &text);
        let coloured = screen::draw(&model, true);
        assert!(coloured.contains('\u{1b}') && !text.contains('\u{1b}'));
    }
    assert_eq!(Machine::quiet().model().state, Severity::Ok);
    assert_eq!(Machine::bad().model().state, Severity::Failed);
}

#[test]
fn the_schedule_is_the_owners_table() {
    for (name, machine) in [("quiet", Machine::quiet()), ("bad", Machine::bad()), ("empty", Machine::empty())] {
        let text = schedule::draw(&machine.model(), 2, false);
        assert_is_narrow(&text);
        golden(&format!("{name}-schedule.txt"), &text);
    }
}

#[test]
fn the_json_has_its_version_and_what_the_screen_has() {
    let model = Machine::bad().model();
    let json: serde_json::Value = serde_json::to_value(&model).unwrap();
    assert_eq!((&json["schema_version"], &json["state"]), (&1.into(), &"failed".into()));
    assert_eq!(json["findings"].as_array().unwrap().len(), model.findings.len());
    assert_eq!(json["running"][1]["waits_for"][0]["holders"][0], "borg-check");
    assert_eq!(json["jobs"][0]["usual"]["start"], 420);
    assert_eq!(json["drives"][0]["overdue"], true);
    assert_eq!(json["mail"]["set_aside"], 1);
    let schedule: serde_json::Value = serde_json::from_str(&schedule::json(&model).unwrap()).unwrap();
    assert_eq!(schedule["schema_version"], 1);
    assert!(schedule["planned"].as_array().unwrap().len() > 5, "{schedule}");
}

/// What a history, a lock, a host's name or a mail server says, in all places where it is shown.
pub(crate) fn hostile(evil: &str) -> Machine {
    let mut machine = Machine::bad();
    let start = machine.wall(1, "10:00");
    machine.facts.machine = evil.to_owned();
    machine.add(Run { exit: 1, error: evil.to_owned(), origin: evil.to_owned(), ..Run::new(evil, evil, start) });
    machine.add(Run::new(evil, "", start));
    machine.facts.hosts.push(evil.to_owned());
    let timer = Timed {
        unit: evil.to_owned(),
        activates: evil.to_owned(),
        work: Work::Job { key: Key::new(evil, ""), claims: vec![Claim::alone(evil)] },
        planned: vec![machine.now + TimeDelta::hours(1)],
    };
    machine.facts.timers.push(timer);
    machine.facts.spaces.as_mut().unwrap().push(Space {
        host: evil.to_owned(),
        state: evil.to_owned(),
        stale: true,
        last_success: None,
        bytes: Some(1),
        files: None,
        error: evil.to_owned(),
        note: evil.to_owned(),
    });
    for drive in &mut machine.facts.drives {
        drive.name = evil.to_owned();
    }
    for lock in &mut machine.facts.locks {
        lock.name = evil.to_owned();
        for holder in lock.holders.iter_mut().chain(&mut lock.waiters) {
            holder.unit = Some(evil.to_owned());
        }
    }
    machine.facts.under_way.push(UnderWay {
        job: evil.to_owned(),
        object: evil.to_owned(),
        light: evil.to_owned(),
        start,
        pid: 9,
    });
    machine.facts.progress = [(evil.to_owned(), evil.to_owned())].into();
    for letter in machine.facts.letters.iter_mut().flatten() {
        letter.reason = Some(evil.to_owned());
    }
    for state in [State::Failed, State::Attention, State::Unsafe] {
        let (name, text) = (format!("{evil}{}", state.word()), evil.to_owned());
        machine.facts.board.push(led::Job { name, state, text, since: start, process: None, failure: None });
    }
    machine.facts.troubles.push(evil.to_owned());
    machine
}

#[test]
fn nothing_raw_reaches_the_terminal() {
    for evil in ["\u{1b}]0;owned\u{7}\u{1b}[2J", "a\nb\r\tc", "\u{202e}txt", "\u{9b}31m", &"x".repeat(100_000)] {
        let machine = hostile(evil);
        let model = machine.model();
        for text in [screen::draw(&model, false), schedule::draw(&model, 31, false)] {
            assert!(text.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')), "{text:?}");
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
            assert!(text.len() < 40_000, "{}", text.len());
        }
        let json = serde_json::to_string(&model).unwrap();
        assert!(!json.contains('\u{1b}') && !json.contains("\\u001b") && !json.contains('\u{202e}'), "{json}");
    }
}

/// A machine that runs a job at two in the morning, in the weeks around a change of the clocks.
fn around(now: &str) -> Machine {
    let mut machine = Machine { now: time(now), ..Machine::empty() };
    for days in (0..20).rev() {
        // systemd starts what lies in the hour that is left out right after it.
        let day = machine.zone.local(machine.now).date() - TimeDelta::days(days);
        let start = machine.zone.midnight(day) + TimeDelta::minutes(150);
        let start = if machine.zone.clock(start).as_str() < "02:30" { start + TimeDelta::minutes(30) } else { start };
        machine.add(Run { end: start + TimeDelta::minutes(90), ..Run::new("night", "", start) });
    }
    machine
}

#[test]
fn when_the_clocks_change_the_usual_time_does_not() {
    for now in ["2026-04-05T10:00:00Z", "2026-11-01T10:00:00Z"] {
        let model = around(now).model();
        let usual = model.jobs[0].usual.clone().unwrap();
        assert_eq!((usual.start, usual.seconds, usual.every_seconds), (150, 90 * 60, Some(86_400)), "{now}");
        assert!(!model.jobs[0].late);
    }
}

#[test]
fn a_clock_that_jumped_is_no_measure_and_no_alarm() {
    let mut machine = Machine::quiet();
    let (past, future) = (DateTime::<Utc>::UNIX_EPOCH, time("2099-01-01T00:00:00Z"));
    // A battery that was empty, a clock that was set while a job ran, and one that was ahead all along.
    machine.add(Run { end: past + TimeDelta::minutes(3), ..Run::new("pull", "luv", past) });
    machine.add(Run { end: machine.now - TimeDelta::hours(3), ..Run::new("borgmatic", "", past) });
    machine.add(Run { end: machine.now - TimeDelta::days(2), ..Run::new("borg-check", "", machine.now) });
    machine.add(Run { end: future + TimeDelta::minutes(9), ..Run::new("pull", "chew", future) });
    let model = machine.model();
    let usual: Vec<_> = model.jobs.iter().map(|job| job.usual.as_ref().map(|usual| usual.seconds)).collect();
    assert_eq!(
        usual,
        Machine::quiet()
            .model()
            .jobs
            .iter()
            .map(|job| job.usual.as_ref().map(|usual| usual.seconds))
            .collect::<Vec<_>>()
    );
    assert!(model.findings.iter().all(|finding| finding.severity != Severity::Failed), "{:?}", model.findings);
    for extreme in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        machine.add(Run { end: extreme, exit: 1, ..Run::new("ext", "A", extreme) });
        machine.add(Run { end: extreme, ..Run::new("night", "", extreme) });
        let model = Model::new(&machine.facts, extreme, TimeDelta::MAX, Zone::system());
        assert!(!screen::draw(&model, false).is_empty() && !schedule::draw(&model, 31, false).is_empty());
        let model = machine.model();
        assert!(!screen::draw(&model, false).is_empty() && !schedule::draw(&model, 31, false).is_empty());
    }
}

/// Its timer was taken away, by an upgrade or by hand, and it is the timers that are asked what is due.
#[test]
fn a_backup_that_nobody_makes_any_more_is_not_forgotten() {
    for ago in [10, 60, 400] {
        let mut machine = Machine::empty();
        for days in (ago..ago + 40).rev() {
            machine.ran(("nightly-borg", ""), days, "03:00", 60);
            machine.ran(("old-borg", ""), days + 20, "02:00", 60);
        }
        let model = machine.model();
        let said: Vec<_> = model.findings.iter().map(|finding| finding.what.clone()).collect();
        assert!(matches!(said.as_slice(), [one] if one.starts_with("nightly-borg last went well ")), "{ago}: {said:?}");
    }
    let mut machine = Machine::empty();
    machine.ran(("nightly-borg", ""), 0, "03:00", 60);
    assert!(machine.model().findings.is_empty());
}

#[test]
fn what_is_late_long_or_waiting_is_told_once_with_a_remedy() {
    let said = |machine: &Machine| {
        let model = machine.model();
        model.findings.into_iter().map(|finding| format!("{}\n{}", finding.what, finding.remedy)).collect::<Vec<_>>()
    };
    assert_eq!(said(&Machine::quiet()), [""; 0]);
    let mut machine = Machine::quiet();
    machine.now += TimeDelta::days(4);
    machine.facts.spaces = None;
    let late = said(&machine);
    assert!(
        late.iter().any(|text| text.starts_with(
            "borgmatic last went well Fri 27 Nov 04:14; it runs every 1day\n`journalctl -u phobos-borgmatic.service`"
        )),
        "{late:?}"
    );
    assert!(late.iter().all(|text| !text.starts_with("borg-check")), "a week has not passed: {late:?}");
    // A host that is not configured any more, and that no timer pulls, is not missed. The backup is.
    machine.facts.hosts.clear();
    machine.facts.timers.clear();
    let unplanned = "borgmatic last went well Fri 27 Nov 04:14; it runs every 1day\nno timer starts it; `phobos-status doctor timers`";
    assert!(matches!(said(&machine).as_slice(), [one] if one.starts_with(unplanned)), "{:?}", said(&machine));
    let mut machine = Machine::quiet();
    let start = machine.wall(1, "03:00");
    machine.facts.under_way.push(UnderWay {
        job: "borgmatic".into(),
        object: String::new(),
        light: "borgmatic".into(),
        start,
        pid: 3,
    });
    let long = said(&machine);
    assert!(
        matches!(long.as_slice(), [text] if text.starts_with("borgmatic has been running for 1day 7h; it usually takes 1h 15m\n")),
        "{long:?}"
    );
    for (state, word) in
        [("interrupted", "was interrupted"), ("refused", "was refused: too many"), ("failed", "failed: too many")]
    {
        let mut machine = Machine::quiet();
        let space = &mut machine.facts.spaces.as_mut().unwrap()[1];
        (space.state, space.error) = (state.to_owned(), "too many".to_owned());
        let said = said(&machine);
        assert!(
            matches!(said.as_slice(), [text] if text.starts_with(&format!("pull of luv {word}")) && text.ends_with("`phobos-pull luv` tries again")),
            "{said:?}"
        );
    }
    // A laptop that is away is no failure.
    let mut machine = Machine::quiet();
    let at = machine.wall(0, "07:00");
    machine.add(Run { exit: 66, error: "away".into(), ..Run::new("pull", "luv", at) });
    assert_eq!(said(&machine), [""; 0]);
    machine.facts.spaces.as_mut().unwrap()[1].stale = true;
    assert!(
        said(&machine)[0].starts_with("pull of luv is stale: it was last pulled well today 06:00"),
        "{:?}",
        said(&machine)
    );
}

#[test]
fn whoever_is_not_root_reads_in_one_line_what_he_does_not_see() {
    let mut machine = Machine::quiet();
    machine.facts.unseen = ["holding spaces", "mail that waits"].map(str::to_owned).to_vec();
    (machine.facts.letters, machine.facts.spaces, machine.facts.room) = (None, None, None);
    let text = screen::draw(&machine.model(), false);
    assert_eq!(text.lines().last(), Some("Only root sees holding spaces and mail that waits; run it with sudo."));
    assert!(!text.contains("Mail") && !text.contains("Backup disk"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_history_is_shown_within_80_columns(
        runs in proptest::collection::vec((0_usize..6, -40_000_i64..3_000, -100_i64..5_000, 0_u8..3, 0_u64..9_000), 0..120),
    ) {
        let mut machine = Machine::quiet();
        let names = [("borgmatic", ""), ("pull", "luv"), ("ext", "A"), ("a-job-with-a-rather-long-name", "x"), ("borg-check", ""), ("x", "")];
        for (name, start, length, exit, waited_secs) in runs {
            let start = machine.now + TimeDelta::minutes(start);
            let end = start + TimeDelta::minutes(length);
            machine.add(Run { end, exit, waited_secs, error: "no".into(), ..Run::new(names[name].0, names[name].1, start) });
        }
        let model = machine.model();
        assert_is_narrow(&screen::draw(&model, false));
        assert_is_narrow(&schedule::draw(&model, 31, true).replace('\u{1b}', "").replace("[1m", "").replace("[2m", "").replace("[33m", "").replace("[0m", ""));
        prop_assert!(model.findings.windows(2).all(|pair| pair[0].severity >= pair[1].severity));
    }
}

#[test]
fn pulls_of_all_hosts_are_planned_for_each() {
    let mut machine = Machine::quiet();
    machine.facts.timers.retain(|timer| !timer.unit.contains("pull@"));
    machine.timer("phobos-pull", Work::Pulls(Vec::new()), &[(0, "20:00")]);
    let model = machine.model();
    let pulls: Vec<_> =
        model.planned.iter().filter(|run| ["luv", "nuhc", "chew"].contains(&run.name.as_str())).collect();
    assert_eq!(pulls.len(), 3);
    assert!(pulls.iter().all(|run| run.claims == pull_claims(&run.name)));
}
