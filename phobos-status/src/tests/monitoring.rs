//! The dashboard and the rules of `docs/monitoring`: they name what is really written, and Prometheus' own tool takes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use phobos_core::exec::{Exec, Invocation, System};
use phobos_site::history::Run;
use serde_json::{Value, json};

use super::Machine;
use crate::digest::Key;
use crate::facts::Work;
use crate::metrics;

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring").canonicalize().unwrap().join(name)
}

/// Has Prometheus' own tool look at something, which it must have nothing to say against.
fn promtool(args: &[&str], stdin: &str) {
    let call = Invocation::new("promtool").args(args).stdin(stdin.as_bytes().to_vec()).limit(Duration::from_secs(60));
    let finished = System::default().run(&call);
    finished.unwrap_or_else(|error| panic!("{error} (`cargo xtask setup` installs promtool)"));
}

/// Has it look at a file with this content.
fn promtool_at(words: &[&str], content: &Value) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file.yml");
    // All JSON is YAML.
    std::fs::write(&file, content.to_string()).unwrap();
    promtool(&[words, &[file.to_str().unwrap()]].concat(), "");
}

/// A machine where all goes well; that a host was not there is nothing to wake anybody for.
fn good() -> Machine {
    let mut machine = Machine::quiet();
    let now = machine.now;
    machine.add(Run { exit: 66, ..Run::new("pull", "nuhc", now) });
    machine
}

/// A machine where everything is wrong that a rule is about.
fn bad() -> Machine {
    let mut machine = Machine::bad();
    let now = machine.now;
    for days in (3..20).rev() {
        machine.ran(("night", ""), days, "01:00", 5);
    }
    machine.timer("night", Work::Job { key: Key::new("night", ""), claims: Vec::new() }, &[(1, "01:00")]);
    machine.add(Run { exit: 2, ..Run::new("borgmatic", "", now) });
    machine.add(Run { exit: 66, ..Run::new("ext", "A", now) });
    machine.facts.spaces.as_mut().unwrap()[0].stale = true;
    machine
}

/// Each series that a machine writes: its name, its labels and its value. A label without a value is none for Prometheus.
fn series(machine: &Machine) -> Vec<(String, BTreeMap<String, String>, String)> {
    let text = metrics::draw(&machine.model());
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parts = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap().split(',').filter_map(|label| {
            let (name, value) = label.split_once('=')?;
            let value = value.trim_matches('"');
            (!value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        });
        (name.to_owned(), labels.collect(), value.to_owned())
    });
    parts.collect()
}

/// What Prometheus has of a machine for two hours; `written` is when its file was.
fn scraped(machine: &Machine, written: &str) -> Vec<Value> {
    let all = series(machine).into_iter().map(|(name, labels, value)| {
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        json!({"series": format!("{name}{{{}}}", labels.join(",")), "values": format!("{value}+0x24")})
    });
    let file = "node_textfile_mtime_seconds{file=\"/var/lib/node/phobos.prom\",instance=\"nas\"}";
    all.chain([json!({"series": file, "values": written})]).collect()
}

/// The metrics that are written, each with its labels.
fn written() -> BTreeMap<String, BTreeSet<String>> {
    let mut written: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, labels, _) in series(&good()).into_iter().chain(series(&bad())) {
        written.entry(name).or_default().extend(labels.into_keys());
    }
    written
}

/// The metrics that an expression names, each with the labels it asks for.
fn named(expression: &str) -> Vec<(&str, Vec<&str>)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = expression.match_indices("phobos_").map(|(at, _)| at);
    let rests = starts.filter(|at| !expression[..*at].ends_with(is_part)).map(|at| &expression[at..]);
    let parts = rests.map(|rest| {
        let (name, after) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
        let asked = after.strip_prefix('{').and_then(|after| after.split_once('}')).map_or("", |(labels, _)| labels);
        let labels = asked.split(',').map(|label| label.split(['=', '!', '~']).next().unwrap().trim());
        (name, labels.filter(|label| !label.is_empty()).collect())
    });
    parts.collect()
}

/// The labels in a text for people, between two words each.
fn shown<'a>(text: &'a str, before: &str, is_end: fn(char) -> bool) -> Vec<&'a str> {
    text.split(before).skip(1).map(|rest| rest.split(is_end).next().unwrap()).collect()
}

fn assert_is_written(expression: &str, shown: &[&str]) {
    let (written, named) = (written(), named(expression));
    for (name, asked) in &named {
        let labels = written.get(*name).unwrap_or_else(|| panic!("nothing writes {name}: {expression}"));
        for label in asked.iter().chain(shown) {
            assert!(labels.contains(*label), "{name} has no label {label}: {expression}");
        }
    }
}

/// The rules: name, expression and what it says.
fn rules(text: &str) -> Vec<[&str; 3]> {
    let rules = text.split("- alert: ").skip(1).map(|rule| {
        let line = |key: &str| rule.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap();
        [rule.lines().next().unwrap(), line("expr: "), line("summary: ")]
    });
    rules.collect()
}

#[test]
fn what_names_no_metric_is_found() {
    let text = "time() - phobos_a_b > 3 and on (x) (my_phobos_c / phobos_d{e=\"f\", g!~\"h\"})";
    assert_eq!(named(text), [("phobos_a_b", vec![]), ("phobos_d", vec!["e", "g"])]);
    assert_eq!(shown("{{a}} of {{b}}", "{{", |c| c == '}'), ["a", "b"]);
    for (expression, shown) in
        [("phobos_none", vec![]), ("phobos_drive_overdue{host=\"x\"}", vec![]), ("phobos_drive_overdue", vec!["host"])]
    {
        let found = std::panic::catch_unwind(|| assert_is_written(expression, &shown));
        assert!(found.is_err(), "{expression} {shown:?}");
    }
}

#[test]
fn prometheus_takes_what_is_written() {
    for machine in [good(), bad(), Machine::empty()] {
        promtool(&["check", "metrics"], &metrics::draw(&machine.model()));
    }
}

#[test]
fn the_dashboard_shows_what_is_written_in_grafanas_own_model() {
    let board: Value = serde_json::from_slice(&std::fs::read(docs("dashboard.json")).unwrap()).unwrap();
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no number: {value}"));
    // Grafana demands 8 to 40 characters. From schema 36 on a data source is an object with type and uid.
    assert!((8..=40).contains(&board["uid"].as_str().unwrap().len()) && board.get("id").is_none());
    assert!(number(&board["schemaVersion"]) >= 36 && !board["title"].as_str().unwrap().is_empty());
    let variable = &board["templating"]["list"][0];
    assert_eq!((&variable["name"], &variable["type"]), (&"datasource".into(), &"datasource".into()));
    let (mut ids, mut cells, mut rules) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for panel in board["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(number(&panel["id"])), "{title}: another panel has its id");
        assert_eq!(panel["datasource"], json!({"type": "prometheus", "uid": "${datasource}"}), "{title}");
        assert!(["stat", "bargauge", "timeseries"].map(Value::from).contains(&panel["type"]), "{title}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| number(&panel["gridPos"][side]));
        assert!(x + w <= 24 && w > 0 && h > 0, "{title} is wider than the 24 columns");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{title} lies over another panel at {cell:?}");
        }
        let mut letters = BTreeSet::new();
        for target in panel["targets"].as_array().unwrap() {
            assert!(letters.insert(target["refId"].as_str().unwrap()), "{title}: another query has its letter");
            let (expression, legend) = (target["expr"].as_str().unwrap(), target["legendFormat"].as_str().unwrap());
            assert!(!named(expression).is_empty(), "{title}");
            assert_is_written(expression, &shown(legend, "{{", |c| c == '}'));
            rules.push(json!({"record": "panel:query", "expr": expression, "labels": {"n": rules.len().to_string()}}));
        }
    }
    promtool_at(&["check", "rules"], &json!({"groups": [{"name": "dashboard", "rules": rules}]}));
}

#[test]
fn each_alert_fires_on_what_it_is_about_and_on_nothing_else() {
    let pull = json!({"job_name": "pull", "object": "chew"});
    let expected = [
        ("PhobosSilent", "critical", json!({"instance": "nas"}), "nas has not written its figures for an hour"),
        ("PhobosJobFailed", "critical", pull, "pull chew failed with exit code 1"),
        ("PhobosJobFailed", "critical", json!({"job_name": "borgmatic"}), "borgmatic failed with exit code 2"),
        ("PhobosJobFailed", "critical", json!({"job_name": "ext", "object": "A"}), "ext A failed with exit code 66"),
        ("PhobosJobLate", "warning", json!({"job_name": "night"}), "the last good run of night is too long ago"),
        ("PhobosHoldingSpaceStale", "warning", json!({"host": "chew"}), "the copy of chew is older than it may be"),
        ("PhobosDriveOverdue", "warning", json!({"drive": "B"}), "the drive B was to be brought before"),
        ("PhobosBackupDiskNearlyFull", "warning", json!({}), "2.5% of the backup disk are free"),
        ("PhobosMailWaits", "warning", json!({}), "2 messages about failures could not be sent"),
        ("PhobosFindings", "critical", json!({}), "3 things are wrong; `phobos-status` says which"),
    ];
    let text = std::fs::read_to_string(docs("alerts.yml")).unwrap();
    let rules = rules(&text);
    assert_eq!(rules.len(), text.matches("alert:").count());
    for [_, expression, says] in &rules {
        let labels = shown(says, "$labels.", |c| !(c.is_ascii_alphanumeric() || c == '_'));
        assert_is_written(expression, &labels);
    }
    let fires = |name: &str| -> Vec<Value> {
        let of_name = expected.iter().filter(|(alert, ..)| *alert == name);
        let alerts = of_name.map(|(_, severity, labels, says)| {
            let mut labels = labels.clone();
            labels["severity"] = (*severity).into();
            json!({"exp_labels": labels, "exp_annotations": {"summary": says}})
        });
        alerts.collect()
    };
    for [name, ..] in &rules {
        assert!(!fires(name).is_empty(), "{name} is not tried");
    }
    let case = |name: &str, series: Vec<Value>, fires: &dyn Fn(&str) -> Vec<Value>| {
        let looks =
            rules.iter().map(|[name, ..]| json!({"eval_time": "2h", "alertname": name, "exp_alerts": fires(name)}));
        let looks: Vec<Value> = looks.collect();
        json!({"name": name, "interval": "5m", "input_series": series, "alert_rule_test": looks})
    };
    let well = case("all is well", scraped(&good(), "0+300x24"), &|_| Vec::new());
    let wrong = case("all is wrong", scraped(&bad(), "0+0x24"), &fires);
    promtool(&["check", "rules", docs("alerts.yml").to_str().unwrap()], "");
    let cases = json!({"rule_files": [docs("alerts.yml")], "evaluation_interval": "5m", "tests": [well, wrong]});
    promtool_at(&["test", "rules"], &cases);
}
