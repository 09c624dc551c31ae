//! What the original did, case by case, and that this does the same.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use serde_json::Value;

use crate::raw::World;
use crate::stick::{Bus, BusError, Identity, Stick};

/// The cases recorded from the original.
const CASES: &str = include_str!("../fixtures/blinkstick-golden.json");

/// What happens on the bus: report id and payload without its first byte, which the firmware does not regard.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Out(u8, Vec<u8>),
    In(u8, usize),
    /// A transfer that failed; the original tries each twice.
    Failed(u8),
    Sleep(f64),
}

/// A case's sticks, and what has happened to them.
#[derive(Debug, Default)]
struct Rig {
    identities: Vec<Identity>,
    fails: Vec<bool>,
    /// What the sticks answer, in the order in which the original asked.
    replies: RefCell<VecDeque<Vec<u8>>>,
    /// What the dice show: the bytes of the colours that the original sent.
    dice: RefCell<VecDeque<u8>>,
    events: RefCell<Vec<Event>>,
    opened: Cell<usize>,
}

#[derive(Debug)]
struct FakeBus(Rc<Rig>);

#[derive(Debug)]
struct FakeStick {
    rig: Rc<Rig>,
    place: usize,
}

#[derive(Debug)]
struct FakeWorld(Rc<Rig>);

impl Bus for FakeBus {
    fn sticks(&self) -> Result<Vec<Identity>, BusError> {
        Ok(self.0.identities.clone())
    }

    fn open(&self, place: usize) -> Result<Box<dyn Stick>, BusError> {
        self.0.opened.set(self.0.opened.get() + 1);
        Ok(Box::new(FakeStick { rig: Rc::clone(&self.0), place }))
    }
}

impl FakeStick {
    fn note(&self, report: u8, event: Event) -> io::Result<()> {
        let fails = self.rig.fails[self.place];
        self.rig.events.borrow_mut().push(if fails { Event::Failed(report) } else { event });
        if fails { Err(io::Error::from_raw_os_error(32)) } else { Ok(()) }
    }
}

impl Stick for FakeStick {
    fn identity(&self) -> &Identity {
        &self.rig.identities[self.place]
    }

    fn send(&mut self, report: u8, payload: &[u8]) -> io::Result<()> {
        self.note(report, Event::Out(report, payload.to_vec()))
    }

    fn get(&mut self, report: u8, length: usize) -> io::Result<Vec<u8>> {
        self.note(report, Event::In(report, length))?;
        Ok(self.rig.replies.borrow_mut().pop_front().expect("the original asked less often"))
    }
}

impl World for FakeWorld {
    fn sleep(&mut self, seconds: f64) {
        self.0.events.borrow_mut().push(Event::Sleep(seconds));
    }

    fn random(&mut self) -> u8 {
        self.0.dice.borrow_mut().pop_front().expect("the original drew less often")
    }
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The report id in a recorded setup packet, as in `20 09 0001 0000`.
fn report(setup: &str) -> u8 {
    u8::from_str_radix(&setup.split(' ').nth(2).unwrap()[2..], 16).unwrap()
}

/// The recorded events, each pair of failed attempts as one.
fn recorded(case: &Value) -> Vec<Event> {
    let mut events = Vec::new();
    let mut list = case["events"].as_array().unwrap().iter();
    while let Some(event) = list.next() {
        let text = |at: usize| event[at].as_str().unwrap();
        events.push(match text(0) {
            "out" => Event::Out(report(text(1)), hex(text(2)).split_off(1)),
            "in" => Event::In(report(text(1)), usize::try_from(event[2].as_u64().unwrap()).unwrap()),
            "sleep" => Event::Sleep(text(1).parse().unwrap()),
            "ctrl-fail" => {
                let again = list.next().unwrap();
                assert_eq!(event, again);
                Event::Failed(u8::try_from(event[3].as_u64().unwrap()).unwrap())
            }
            other => panic!("{other}"),
        });
    }
    events
}

fn identity(device: &Value) -> Identity {
    let text = |key: &str, default: &str| device[key].as_str().unwrap_or(default).to_owned();
    Identity {
        serial: text("serial", "BS000001-1.0"),
        manufacturer: "Agile Innovative Ltd".to_owned(),
        product: text("prod", "BlinkStick"),
        release: u16::try_from(device["bcd"].as_u64().unwrap_or(0x0200)).unwrap(),
    }
}

fn rig(case: &Value) -> Rc<Rig> {
    let devices = case["devices"].as_array().unwrap();
    let events = case["events"].as_array().unwrap();
    let replies = events.iter().filter(|event| event[0] == "in").map(|event| hex(event[3].as_str().unwrap()));
    let dice = recorded(case).into_iter().filter_map(|event| match event {
        Event::Out(1, color) if color != [0; 3] => Some(color),
        _ => None,
    });
    Rc::new(Rig {
        identities: devices.iter().map(identity).collect(),
        fails: devices.iter().map(|device| !device["fail"].is_null()).collect(),
        replies: RefCell::new(replies.collect()),
        dice: RefCell::new(dice.flatten().collect()),
        ..Rig::default()
    })
}

/// Runs the drop-in on a rig: exit code, standard output, standard error.
fn run(rig: &Rc<Rig>, args: &[&str]) -> (u8, String, String) {
    let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let bus = || Ok(Box::new(FakeBus(Rc::clone(rig))) as Box<dyn Bus>);
    let code = crate::drop_in("blinkstick", &args, &bus, &mut FakeWorld(Rc::clone(rig)), &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn every_recorded_case_comes_out_as_the_original_did() {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() >= 165);
    let mut wrong = Vec::new();
    for case in &cases {
        let args: Vec<_> = case["argv"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
        let rig = rig(case);
        let (code, out, err) = run(&rig, &args);
        let stderr = case["stderr"].as_str().unwrap();
        let is_traceback = stderr.contains("[traceback");
        let same = case["rc"] == code
            && out == case["stdout"].as_str().unwrap()
            && (is_traceback || err == stderr)
            && *rig.events.borrow() == recorded(case);
        if !same {
            wrong.push(format!("{args:?} on {}: {code} {out:?} {err:?} {:?}", case["devices"], rig.events));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// A rig with these sticks; each replies to every question with what is given.
fn sticks(devices: &[(&str, u16)], replies: &[&str]) -> Rc<Rig> {
    let identity = |(serial, release): &(&str, u16)| Identity {
        serial: (*serial).to_owned(),
        release: *release,
        ..Identity::default()
    };
    Rc::new(Rig {
        identities: devices.iter().map(identity).collect(),
        fails: vec![false; devices.len()],
        replies: RefCell::new(replies.iter().map(|reply| hex(reply)).collect()),
        ..Rig::default()
    })
}

const ONE: &[(&str, u16)] = &[("BS000001-1.0", 0x0200)];

#[test]
fn the_rules_beyond_the_recorded_cases_hold() {
    let out = |payload: &[u8]| Event::Out(1, payload.to_vec());
    let none = Vec::new;
    let cases: Vec<(&[&str], u8, Vec<Event>)> = vec![
        (&["--delay", "-5", "--blink", "red"], 1, vec![out(&[255, 0, 0])]),
        (&["--delay", "abc", "--blink", "red"], 1, none()),
        (&["--delay", "nan", "--blink", "red"], 1, vec![out(&[255, 0, 0])]),
        (&["--delay", "inf", "--blink", "red"], 1, vec![out(&[255, 0, 0])]),
        (&["--delay", "abc", "red"], 0, vec![out(&[255, 0, 0])]),
        (&["--duration", "abc", "--morph", "red"], 1, vec![Event::In(1, 33)]),
        (&["--duration", "-1", "--morph", "red"], 1, vec![Event::In(1, 33), out(&[0; 3]), out(&[5, 0, 0])]),
        (&["--duration", "abc", "--pulse", "red"], 1, vec![out(&[0; 3]), Event::In(1, 33)]),
        (&["--repeats", "1.5", "--blink", "red"], 1, none()),
        (&["--repeats", "-3", "--blink", "red"], 0, none()),
        (&["--limit", "nan"], 1, none()),
        (&["--limit", "inf", "red"], 1, none()),
        (&["--limit", "1_0", "white"], 0, vec![out(&[25; 3])]),
        (&["--limit", "200", "808080"], 1, none()),
        (&["--limit", "200", "7f0000"], 0, vec![out(&[254, 0, 0])]),
        (&["--limit", "1000000", "off"], 0, vec![out(&[0; 3])]),
        (&["--limit", "-10", "010101"], 0, vec![out(&[0; 3])]),
        (&["--inverse", "--limit", "110", "white"], 1, none()),
        (&["--inverse", "--limit", "-10", "white"], 1, none()),
        (&["--index", " +1 ", "red"], 0, vec![Event::Out(5, vec![0, 1, 255, 0, 0])]),
        (&["--index", "-1", "red"], 1, none()),
        (&["--index", "-1", "--morph", "red"], 1, vec![Event::In(6, 26)]),
        (&["--index", "abc", "--set-mode", "1"], 0, vec![Event::Out(4, vec![1])]),
        (&["--set-led-count", "33"], 0, none()),
        (&["--set-color", "", "--set-mode", "", "red"], 0, vec![out(&[255, 0, 0])]),
        (&["--serial", "", "red"], 1, none()),
        (&["--serial", "bs000001-1.0", "red"], 1, none()),
    ];
    for (args, code, events) in cases {
        let rig = sticks(ONE, &["01000000"]);
        assert_eq!((run(&rig, args).0, rig.events.borrow().clone()), (code, events), "{args:?}");
    }
}

#[test]
fn without_a_stick_nothing_is_said_and_all_is_well_unless_strict() {
    for (args, code) in [
        (&[][..], 0),
        (&["red"], 0),
        (&["--limit", "abc"], 0),
        (&["--info"], 0),
        (&["--strict", "red"], 69),
        (&["--serial", "X", "red"], 1),
        (&["--strict", "--serial", "X", "red"], 69),
        (&["--strict", "nosuch"], 2),
        (&["--nope"], 2),
    ] {
        let (got, out, _) = run(&sticks(&[], &[]), args);
        assert_eq!((got, out.as_str()), (code, ""), "{args:?}");
    }
}

#[test]
fn strict_mode_fails_before_anything_is_sent_on_an_unknown_colour() {
    let rig = sticks(ONE, &[]);
    assert_eq!(run(&rig, &["--strict", "nosuch"]).0, 2);
    assert_eq!(rig.opened.get(), 0);
}

#[test]
fn strict_mode_ends_with_the_first_failed_transfer() {
    let rig = Rc::new(Rig { identities: vec![Identity::default()], fails: vec![true], ..Rig::default() });
    assert_eq!(run(&rig, &["--strict", "--blink", "red"]).0, 74);
    assert_eq!(*rig.events.borrow(), [Event::Failed(1)]);
}

#[test]
fn several_sticks_are_served_one_after_the_other() {
    let rig = sticks(&[("BS000003-1.0", 0x0200), ("BS000001-2.0", 0x0200)], &[]);
    assert_eq!(run(&rig, &["--blink", "--delay", "0", "red"]).0, 0);
    assert_eq!(rig.events.borrow().len(), 6);
    let rig = sticks(&[("BS000003-1.0", 0x0200), ("BS000001-2.0", 0x0200)], &[]);
    run(&rig, &["-sBS000001-2.0", "red"]);
    assert_eq!(rig.opened.get(), 1);
    let rig = sticks(&[("BS000003-1.0", 0x0200), ("BS000001-2.0", 0x0200)], &[]);
    assert_eq!(run(&rig, &["--set-mode", "9"]).1, "Error: Invalid mode parameter value\n".repeat(2));
}

#[test]
fn info_says_what_it_can() {
    let flex = &[("BS000003-3.1", 0x0203)];
    let rig = sticks(flex, &["01010002", "", "81", "0241", "0300"]);
    let (code, out, _) = run(&rig, &["-i", "--inverse"]);
    let want = "Found device:\n    Manufacturer:  \n    Description:   \n    Variant:       BlinkStick Flex\n    \
                Serial:        BS000003-3.1\n    Current Color: #fefffd\n    Mode:          -1\n    \
                LED conf:      Error\n    Info Block 1:  A\n    Info Block 2:  \n";
    assert_eq!((code, out.as_str()), (0, want));
    let (code, out, _) = run(&sticks(&[("X", 0)], &[]), &["-i"]);
    assert_eq!((code, out.lines().count()), (1, 3), "a serial number without a model");
    let (code, out, _) = run(&sticks(ONE, &["01"]), &["-i"]);
    assert_eq!((code, out.lines().count()), (1, 5), "a short reply");
}

/// Sticks, their replies, and what is to happen.
type AllCase = (&'static [(&'static str, u16)], &'static [&'static str], Vec<Event>);

#[test]
fn all_leds_are_set_by_one_frame() {
    let frame = |report, leds: usize| {
        let mut payload = vec![0];
        payload.extend([0, 255, 0].repeat(leds));
        Event::Out(report, payload)
    };
    let cases: [AllCase; 6] = [
        (ONE, &[], vec![Event::Out(1, vec![255, 0, 0])]),
        (&[("BS000001-2.0", 0x0200)], &["0402"], vec![Event::In(4, 2), frame(9, 64)]),
        (&[("BS000001-2.0", 0x0200)], &["0400"], vec![Event::In(4, 2), Event::Out(1, vec![255, 0, 0])]),
        (&[("BS000001-3.0", 0x0202)], &["0402"], vec![Event::In(4, 2), frame(6, 8)]),
        (&[("BS000001-3.0", 0x0200)], &["0403"], vec![Event::In(4, 2), Event::Out(1, vec![255, 0, 0])]),
        (&[("BS000001-3.0", 0x0203)], &["8120", "0402"], vec![Event::In(0x81, 2), Event::In(4, 2), frame(8, 32)]),
    ];
    for (devices, replies, events) in cases {
        let rig = sticks(devices, replies);
        assert_eq!(run(&rig, &["--all", "red"]).0, 0);
        assert_eq!(*rig.events.borrow(), events, "{devices:?}");
    }
    let rig = sticks(&[("BS000001-3.0", 0x0202)], &["0402"]);
    run(&rig, &["--all", "off"]);
    let mut dark = vec![0];
    dark.extend([0; 24]);
    assert_eq!(rig.events.borrow().last(), Some(&Event::Out(6, dark)));
}

#[test]
fn a_pulse_can_be_made_to_respect_its_index() {
    let rig = sticks(ONE, &[]);
    run(&rig, &["--pulse", "--repeats", "0", "--index", "2", "--respect-index", "red"]);
    assert_eq!(*rig.events.borrow(), [Event::Out(5, vec![0, 2, 0, 0, 0])]);
}
