//! A light that breathes while a job works: a slow fade of the LED that shows the job, and of no other.
//!
//! The job's program runs `phobos-blink show --breathe` and holds its standard input open; that ends when the job does,
//! however it ends. Each step is taken under the same lock as every other change of the light and looks at the board
//! first, so that a state posted meanwhile is never painted over.

use std::fs;
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use phobos_site::led::color::Rgb;
use phobos_site::led::{Board, Look, Settings, Shown, State};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::show::{self, Picture, ShowError};
use crate::stick::{Bus, BusError, Stick};

/// The time from one step to the next; the eye sees no steps at 25 a second.
const STEP: Duration = Duration::from_millis(40);

/// The time from bright to bright: that of a calm breath.
const BREATH: Duration = Duration::from_millis(4500);

/// How bright the light is at its darkest, as a share of its full brightness.
const DARKEST: f64 = 0.2;

/// How long a new post may go unnoticed; whoever posts it has the light show it anyway.
const LONGEST_STEP: Duration = Duration::from_millis(480);

/// How long the death of a process, which changes no file of the board, may go unnoticed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Lets the light breathe until standard input ends, then leaves it as the jobs have posted.
pub(crate) fn breathe(
    settings: &Settings,
    board: &Board,
    bus: &dyn Fn() -> Result<Box<dyn Bus>, BusError>,
) -> Result<(), ShowError> {
    show::show(settings, board, bus)?;
    let mut sticks = show::sticks(settings, bus)?;
    tell_ready();
    let began = Instant::now();
    let mut breather = Breather::new(settings, board);
    let mut pause = STEP;
    while !input_has_ended(pause) {
        let _turn = show::take_turn(board);
        breather.step(began.elapsed(), &mut sticks)?;
        pause = breather.pause(began.elapsed());
    }
    show::show(settings, board, bus).map(drop)
}

/// Says that whatever holds this may go on with its work.
fn tell_ready() {
    let mut out = io::stdout().lock();
    // Whoever does not listen does not mind.
    drop(writeln!(out, "{}", phobos_site::led::BREATHING).and_then(|()| out.flush()));
}

/// Waits for a while, and tells whether standard input was closed meanwhile.
fn input_has_ended(pause: Duration) -> bool {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let limit = Timespec { tv_sec: 0, tv_nsec: pause.subsec_nanos().into() };
    match poll(&mut fds, Some(&limit)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => false,
        // Nobody writes to it, so that it is readable at its end only.
        _ => true,
    }
}

/// What the light shows, and what was last sent for it.
struct Breather<'a> {
    settings: &'a Settings,
    board: &'a Board,
    picture: Picture,
    looked: Option<(Duration, [Option<SystemTime>; 2])>,
    sent: Vec<(u8, Rgb)>,
}

impl<'a> Breather<'a> {
    fn new(settings: &'a Settings, board: &'a Board) -> Self {
        let picture = show::picture(settings, &[]);
        Self { settings, board, picture, looked: None, sent: Vec::new() }
    }

    /// Puts the LEDs of all sticks where they should be at the time `at`; sends nothing if they are there.
    fn step(&mut self, at: Duration, sticks: &mut [Box<dyn Stick>]) -> Result<(), ShowError> {
        self.look(at)?;
        let wanted = self.wanted(at);
        for led in &wanted {
            if self.sent.contains(led) {
                continue;
            }
            for stick in &mut *sticks {
                show::set_led(stick.as_mut(), led.0, led.1)?;
            }
        }
        self.sent = wanted;
        Ok(())
    }

    /// How long the LEDs are right as they are.
    fn pause(&self, at: Duration) -> Duration {
        let mut pause = STEP;
        while pause < LONGEST_STEP && self.wanted(at + pause) == self.sent {
            pause += STEP;
        }
        pause
    }

    /// The LEDs and their colours at the time `at`.
    fn wanted(&self, at: Duration) -> Vec<(u8, Rgb)> {
        let second = self.settings.second.as_ref().zip(self.picture.second.as_ref());
        let leds = [Some((self.settings.index, &self.picture.first)), second.map(|(led, shown)| (led.index, shown))];
        leds.into_iter().flatten().map(|(index, shown)| (index, self.color(at, shown))).collect()
    }

    /// Reads the board if it may have changed.
    fn look(&mut self, at: Duration) -> Result<(), ShowError> {
        let changed = |path: &std::path::Path| fs::metadata(path).and_then(|data| data.modified()).ok();
        let marks = [changed(self.board.run()), changed(self.board.kept())];
        let is_fresh = self.looked.is_some_and(|(when, seen)| seen == marks && at.saturating_sub(when) < LOOK_AGAIN);
        if !is_fresh {
            self.picture = show::picture(self.settings, &self.board.jobs()?);
            self.looked = Some((at, marks));
        }
        Ok(())
    }

    fn color(&self, at: Duration, shown: &Shown) -> Rgb {
        let look = self.settings.palette.look(shown.state);
        if shown.state == State::Working { breath(look, at) } else { look.shown() }
    }
}

/// The colour of a breathing light at the time `at`; bright at first, and never quite dark.
fn breath(look: Look, at: Duration) -> Rgb {
    let phase = at.as_secs_f64() / BREATH.as_secs_f64() * std::f64::consts::TAU;
    let level = DARKEST + (1.0 - DARKEST) * phase.cos().midpoint(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 255")]
    let scale = |value: u8| ((f64::from(value) * level).round() as u8).max(value.min(1));
    let Rgb { red, green, blue } = look.shown();
    Rgb { red: scale(red), green: scale(green), blue: scale(blue) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stick::Identity;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// What was sent: report and payload.
    type Sent = Vec<(u8, Vec<u8>)>;

    /// Keeps what it is sent.
    #[derive(Default, Clone)]
    struct Notes {
        identity: Identity,
        sent: Rc<RefCell<Sent>>,
    }

    impl Stick for Notes {
        fn identity(&self) -> &Identity {
            &self.identity
        }
        fn send(&mut self, report: u8, payload: &[u8]) -> io::Result<()> {
            self.sent.borrow_mut().push((report, payload.to_vec()));
            Ok(())
        }
        fn get(&mut self, _report: u8, _length: usize) -> io::Result<Vec<u8>> {
            Ok(Vec::new())
        }
    }

    fn run(breather: &mut Breather<'_>, stick: &Notes, millis: std::ops::Range<u64>) -> Sent {
        let mut sticks: Vec<Box<dyn Stick>> = vec![Box::new(stick.clone()), Box::<Notes>::default()];
        for at in millis.step_by(40) {
            breather.step(Duration::from_millis(at), &mut sticks).unwrap();
        }
        stick.sent.take()
    }

    #[test]
    fn a_working_job_breathes_on_its_led_alone() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::new(&folder.path().join("run"), &folder.path().join("kept"));
        let settings = Settings::default();
        board.post("ext", State::Working, "").unwrap();
        let mut breather = Breather::new(&settings, &board);
        let stick = Notes::default();
        let sent = run(&mut breather, &stick, 0..4500);
        assert!(sent.iter().all(|(report, payload)| *report == 5 && payload[1] == settings.index));
        let red: Vec<u8> = sent.iter().map(|(_, payload)| payload[2]).collect();
        let darkest = red.iter().position(|value| value == red.iter().min().unwrap()).unwrap();
        assert_eq!((red[0], red[darkest]), (25, 5));
        assert!(red[..darkest].is_sorted_by(|a, b| a > b) && red[darkest..].is_sorted(), "{red:?}");
        assert!(red.len() < 50, "only what changes is sent: {}", red.len());

        board.post("ext", State::Ok, "").unwrap();
        let sent = run(&mut breather, &stick, 4500..9000);
        assert_eq!(sent, [(5, vec![0, 1, 0, 12, 0])], "steady green from the next step on");
    }

    #[test]
    fn nothing_is_done_while_nothing_changes() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::new(&folder.path().join("run"), &folder.path().join("kept"));
        let settings = Settings::default();
        let mut breather = Breather::new(&settings, &board);
        let mut sticks: Vec<Box<dyn Stick>> = Vec::new();
        let mut steps = |breather: &mut Breather<'_>| {
            let (mut at, mut steps) = (Duration::ZERO, 0);
            while at < BREATH {
                breather.step(at, &mut sticks).unwrap();
                at += breather.pause(at);
                steps += 1;
            }
            steps
        };
        assert_eq!(steps(&mut breather), 10, "at rest, about two looks a second");
        board.post("ext", State::Working, "").unwrap();
        let breathing = steps(&mut breather);
        assert!((30..50).contains(&breathing), "{breathing}");
    }

    #[test]
    fn a_breath_is_never_quite_dark() {
        let look = Look { color: Rgb { red: 255, green: 30, blue: 0 }, limit: 10 };
        for at in 0..100 {
            let Rgb { red, green, blue } = breath(look, Duration::from_millis(at * 45));
            assert!(red > 0 && green > 0 && blue == 0);
        }
    }
}
