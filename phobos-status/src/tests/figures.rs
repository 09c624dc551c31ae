//! Figures for other programs: Prometheus' text format, and Nagios' line.

use super::{Machine, golden, hostile};
use crate::{check, metrics};

/// Whether a line is a sample without a time stamp: `name{label="value",…} number`.
fn is_sample(line: &str) -> bool {
    let Some((series, value)) = line.rsplit_once(' ') else { return false };
    let (name, labels) = series.split_once('{').map_or((series, "}"), |(name, labels)| (name, labels));
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !name.is_empty();
    let Some(labels) = labels.strip_suffix('}') else { return false };
    let mut rest = labels;
    while !rest.is_empty() {
        let Some((label, quoted)) = rest.split_once("=\"") else { return false };
        let mut end = None;
        let mut is_escaped = false;
        for (at, c) in quoted.char_indices() {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let Some(end) = end else { return false };
        if !is_name(label) {
            return false;
        }
        rest = quoted[end + 1..].trim_start_matches(',');
    }
    is_name(name) && value.parse::<f64>().is_ok()
}

#[test]
fn every_line_is_a_sample_or_says_what_it_is() {
    assert!(
        is_sample("a_b{c=\"d\\\"}\",e=\"\"} 3") && !is_sample("a{c=\"d} 3") && !is_sample("a 3 x") && !is_sample("A 1")
    );
    for machine in
        [Machine::quiet(), Machine::bad(), Machine::empty(), hostile("x\"} 1\nevil{y=\"\\"), hostile("\u{1b}[2J\\")]
    {
        let text = metrics::draw(&machine.model());
        let mut known = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                assert!(known.insert(help.split(' ').next().unwrap().to_owned()), "{line} stands twice");
            } else if !line.starts_with("# TYPE ") {
                assert!(is_sample(line), "{line}");
                assert!(known.contains(line.split(['{', ' ']).next().unwrap()), "{line} comes before what it is");
                let unit = [
                    "_seconds",
                    "_bytes",
                    "_files",
                    "_code",
                    "_late",
                    "_running",
                    "_stale",
                    "_in",
                    "_overdue",
                    "_waiting",
                    "_aside",
                    "_findings",
                    "_state",
                ];
                assert!(unit.iter().any(|unit| line.split(['{', ' ']).next().unwrap().ends_with(unit)), "{line}");
            }
        }
        assert!(text.ends_with('\n'));
    }
}

#[test]
fn a_failure_is_apart_from_the_last_success() {
    let text = metrics::draw(&Machine::bad().model());
    let of = |name: &str| {
        let start = format!("{name}{{job_name=\"pull\",object=\"chew\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("{name}: {text}")).to_owned()
    };
    assert_eq!(of("phobos_job_last_exit_code"), "1");
    let [good, last] =
        ["success", "run"].map(|what| of(&format!("phobos_job_last_{what}_timestamp_seconds")).parse::<i64>().unwrap());
    assert!(good < last);
    // To be looked at with `promtool check metrics <target/status/bad.prom`.
    let folder = super::pages::folder();
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("bad.prom"), &text).unwrap();
    golden("empty.prom", &metrics::draw(&Machine::empty().model()));
}

#[test]
fn nagios_gets_one_line_and_its_own_codes() {
    let (code, line) = check::draw(&Machine::quiet().model());
    assert_eq!(code, 0);
    golden("quiet.check", &format!("{line}\n"));
    let (code, line) = check::draw(&Machine::bad().model());
    assert_eq!(code, 2);
    golden("bad.check", &format!("{line}\n"));
    let mut machine = Machine::bad();
    machine.facts.board.clear();
    machine.facts.past = Machine::quiet().facts.past;
    assert_eq!(check::draw(&machine.model()).0, 1);
    let (_, line) = check::draw(&hostile("a|b\n'c'=d").model());
    assert_eq!((line.matches('|').count(), line.lines().count()), (1, 1), "{line}");
}
