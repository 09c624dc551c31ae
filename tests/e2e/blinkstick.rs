//! phobos-blink beside the Python original: the same arguments, the same sticks, the same transfers.

mod cases;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use phobos_tests::{Story, minutes, seed, story, tell};
use serde::Deserialize;
use serde_json::json;

use cases::{Case, Dice};

/// Runs both programs in the machine.
const BESIDE: &str = include_str!("blinkstick/beside.py");

/// The sets of sticks, and how many command lines each is given.
const SETS: [(&[&str], usize); 6] = [
    (&["v1:BS000001-1.0"], 50),
    (&["pro:BS000002-2.0"], 52),
    (&["nano:BS000003-3.0"], 52),
    (&["flex:BS000004-3.1"], 52),
    (&["v1:BS000001-1.0", "pro:BS000002-2.0", "nano:BS000003-3.0"], 50),
    (&["flex:BS000004-3.1", "flex:BS000005-3.1", "pro:BS000002-2.0"], 50),
];

/// What both programs did with one set of sticks.
#[derive(Debug, Deserialize)]
struct Beside {
    /// The hidraw nodes that were left after the original's last run.
    left_by_original: Vec<String>,
    original: Vec<Outcome>,
    phobos: Vec<Outcome>,
}

/// What a program did.
#[derive(Debug, Deserialize)]
struct Outcome {
    code: i32,
    out: String,
    err: String,
    events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Event {
    /// Direction, serial number, report, length, data, and when, in nanoseconds.
    Transfer(String, String, u8, u16, String, u64),
    /// A pause in seconds, which the original did not make.
    Sleep(f64),
}

/// Every command line has the same effect: transfers, pauses, standard output, exit code.
///
/// `PHOBOS_SEED` runs the command lines of an earlier run again.
#[test]
fn blinkstick_and_phobos_blink_do_the_same() -> Story {
    let seed = seed();
    story(|nas| {
        let mut dice = Dice::new(seed);
        let sets: Vec<(&[&str], Vec<Case>)> = SETS
            .iter()
            .map(|(sticks, count)| {
                let serials: Vec<_> = sticks.iter().filter_map(|stick| Some(stick.split_once(':')?.1)).collect();
                (*sticks, (0..*count).map(|_| dice.case(&serials)).collect())
            })
            .collect();
        ensure!(sets.iter().map(|(_, cases)| cases.len()).sum::<usize>() >= 300);
        let plan = sets.iter().map(|(sticks, cases)| {
            json!({ "sticks": sticks, "cases": cases.iter().map(|case| &case.args).collect::<Vec<_>>() })
        });
        nas.write("/root/plan.json", &serde_json::to_string(&plan.collect::<Vec<_>>())?)?;
        nas.write("/root/beside.py", BESIDE)?;
        // Without phobos's udev rule the sticks stay without their driver once the original has run, as for the owner
        // who moves over; phobos-blink has to see to it.
        nas.sh(
            "systemctl stop fake-blinkstick; rm /etc/udev/rules.d/70-phobos-blinkstick.rules; udevadm control --reload; \
             systemd-run --quiet --unit=rig-beside --property=RemainAfterExit=yes \
             --property=StandardOutput=truncate:/root/result.json --property=StandardError=journal python3 /root/beside.py /root/plan.json",
        )?;
        let ended = "[ \"$(systemctl show --property=SubState --value rig-beside)\" != running ]";
        nas.wait_until("both programs have run", ended, minutes(12))?;
        tell(&nas.journal("rig-beside")?);
        ensure!(nas.unit("rig-beside")?.result == "success", "{}", nas.journal("rig-beside")?);

        let results: Vec<Beside> = serde_json::from_str(&nas.read("/root/result.json")?)?;
        let mut wrong = Vec::new();
        for ((sticks, cases), beside) in sets.iter().zip(&results) {
            ensure!(beside.left_by_original.is_empty(), "the original has left {:?}", beside.left_by_original);
            ensure!(beside.original.len() == cases.len() && beside.phobos.len() == cases.len());
            let mut transfers = 0;
            for ((case, original), phobos) in cases.iter().zip(&beside.original).zip(&beside.phobos) {
                if let Err(why) = compare(case, original, phobos) {
                    wrong.push(format!("{sticks:?} {:?}\n  {why:#}\n  {}", case.args, phobos.err.trim_end()));
                }
                transfers += wire(original, case.is_random).len();
            }
            ensure!(transfers > cases.len() / 2, "{sticks:?}: {transfers} transfers are too few to tell anything");
            let connected = beside.phobos.iter().filter(|phobos| phobos.err.contains("connected the driver")).count();
            ensure!(
                (1..=sticks.len()).contains(&connected),
                "{sticks:?}: the driver was connected in {connected} runs"
            );
        }
        ensure!(results.len() == sets.len());
        ensure!(wrong.is_empty(), "PHOBOS_SEED={seed}: {} differ\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    })
}

/// Whether `phobos` did what `original` did.
fn compare(case: &Case, original: &Outcome, phobos: &Outcome) -> Result<()> {
    ensure!(phobos.code == original.code, "exit code {} instead of {}; {}", phobos.code, original.code, original.err);
    let (theirs, ours) = (wire(original, case.is_random), wire(phobos, case.is_random));
    ensure!(ours == theirs, "transfers {ours:?} instead of {theirs:?}");
    ensure!(phobos.out == original.out, "output {:?} instead of {:?}", phobos.out, original.out);
    compare_pauses(original, phobos)?;

    // A traceback is one line; a usage error is the same text; and what the original keeps quiet about is a warning.
    let lines: Vec<_> = phobos.err.lines().filter(|line| !line.starts_with("info: ")).collect();
    let is_told = |from: usize, prefix: &str| lines.iter().skip(from).all(|line| line.starts_with(prefix));
    match original.code {
        0 => ensure!(original.err.is_empty() && is_told(0, "warn: "), "it was told {lines:?}"),
        2 => ensure!(phobos.err == original.err, "it was told {:?} instead of {:?}", phobos.err, original.err),
        _ => {
            let errors = lines.iter().filter(|line| line.starts_with("error: ")).count();
            ensure!(original.err.starts_with("Traceback") && errors == 1, "it was told {lines:?}");
        }
    }
    Ok(())
}

/// The transfers in a form in which both programs' are the same: report and payload without its first byte, which means
/// nothing to the firmware, and without the colours if they are drawn by lot.
fn wire(outcome: &Outcome, is_random: bool) -> Vec<String> {
    let transfers = outcome.events.iter().filter_map(|event| match event {
        Event::Transfer(direction, serial, report, length, data, _) => {
            let payload = data.get(2..).unwrap_or_default();
            let told = match (direction.as_str(), report) {
                ("in", _) => "",
                (_, 1) if is_random => "",
                (_, 5) if is_random => payload.get(..4).unwrap_or_default(),
                _ => payload,
            };
            Some(format!("{direction} {serial} {report} {length} {told}"))
        }
        Event::Sleep(..) => None,
    });
    transfers.collect()
}

/// Whether `phobos` waited between its transfers for as long as `original` would have, at least.
fn compare_pauses(original: &Outcome, phobos: &Outcome) -> Result<()> {
    let mut due: BTreeMap<usize, f64> = BTreeMap::new();
    let mut transfers = 0;
    for event in &original.events {
        match event {
            Event::Transfer(..) => transfers += 1,
            Event::Sleep(seconds) => *due.entry(transfers).or_default() += seconds,
        }
    }
    let times: Vec<_> = phobos
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Transfer(.., time) => Some(*time),
            Event::Sleep(..) => None,
        })
        .collect();
    for (after, seconds) in due.into_iter().filter(|(after, _)| *after < times.len()) {
        let before = after.checked_sub(1).context("a pause before all transfers")?;
        #[expect(clippy::cast_precision_loss, reason = "some seconds, in nanoseconds")]
        let waited = (times[after] - times[before]) as f64 / 1e9;
        ensure!(waited >= seconds - 1e-6, "a pause of {waited} s instead of {seconds} s before transfer {after}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(transfers: &[(&str, u64)], pause: f64) -> Outcome {
        let transfer =
            |&(data, time): &(&str, u64)| Event::Transfer("out".into(), "BS1-2.0".into(), 5, 6, data.into(), time);
        let mut events: Vec<_> = transfers.iter().map(transfer).collect();
        if pause > 0.0 {
            events.insert(1, Event::Sleep(pause));
        }
        Outcome { code: 0, out: String::new(), err: String::new(), events }
    }

    #[test]
    fn every_difference_is_found() {
        let case = Case { args: Vec::new(), is_random: false };
        let lot = Case { args: Vec::new(), is_random: true };
        let original = || outcome(&[("050001ff0000", 0), ("050001000000", 0)], 0.02);
        let good = || outcome(&[("000001ff0000", 5), ("000001000000", 20_000_005)], 0.0);
        compare(&case, &original(), &good()).unwrap_or_else(|error| unreachable!("{error:#}"));
        let colour = || outcome(&[("050001ff0100", 5), ("050001000000", 20_000_005)], 0.0);
        assert!(compare(&lot, &original(), &colour()).is_ok(), "its colours are drawn by lot");
        let wrong = [
            colour(),
            outcome(&[("050001ff0000", 5), ("050001000000", 19_000_005)], 0.0),
            outcome(&[("050001ff0000", 5)], 0.0),
            Outcome { code: 1, ..good() },
            Outcome { out: "x".into(), ..good() },
            Outcome { err: "error: x\n".into(), ..good() },
        ];
        for wrong in wrong {
            assert!(compare(&case, &original(), &wrong).is_err(), "{wrong:?}");
        }
        let index = outcome(&[("050002ff0000", 5), ("050001000000", 20_000_005)], 0.0);
        assert!(compare(&lot, &original(), &index).is_err(), "an index is not drawn by lot");
    }

    #[test]
    fn the_same_seed_makes_the_same_command_lines() {
        let lines = |seed| {
            let mut dice = Dice::new(seed);
            (0..40).map(|_| dice.case(&["BS1-2.0"]).args).collect::<Vec<_>>()
        };
        assert_eq!(lines(7), lines(7));
        assert_ne!(lines(7), lines(8));
    }
}
