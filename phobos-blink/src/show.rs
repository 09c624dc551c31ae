//! The arbiter's other half: what the jobs have posted is put on the light.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use phobos_core::error::Chain;
use phobos_core::flock;
use phobos_core::fs::Dir;
use phobos_core::human;
use phobos_core::schema::SchemaVersion;
use phobos_site::led::color::Rgb;
use phobos_site::led::{Board, Device, Job, LedError, Look, Settings, Shown, State, choose};
use serde::Serialize;

use crate::stick::{Bus, BusError, Stick, Variant};

/// How long one `show` waits for another; without this, an older choice could be put on the light after a newer one.
const TURN_LIMIT: Duration = Duration::from_secs(8);

/// Where the kernel's LEDs are.
const LEDS: &str = "/sys/class/leds";

/// Why the light does not show what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShowError {
    #[error("cannot find {}", serial.as_ref().map_or_else(|| "a BlinkStick".to_owned(), |serial| format!("the BlinkStick {serial}")))]
    NoStick { serial: Option<String> },
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Board(#[from] LedError),
    #[error("cannot set the color of the BlinkStick {serial}")]
    Transfer { serial: String, source: io::Error },
    #[error("cannot write {}", path.display())]
    Sysfs { path: PathBuf, source: io::Error },
    #[error("cannot blink {}: the kernel's timer trigger is not there; load the module ledtrig-timer", led.display())]
    NoTimer { led: PathBuf },
}

impl ShowError {
    /// The program's exit code for it.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NoStick { .. } => 69,
            Self::Transfer { .. } | Self::Sysfs { .. } => 74,
            _ => 1,
        }
    }
}

/// What each LED is to show.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// The first LED, which may be the only one.
    pub(crate) first: Shown,
    /// The second, if the settings have one.
    pub(crate) second: Option<Shown>,
}

/// What `jobs --json` prints.
#[derive(Serialize)]
struct Listing<'a> {
    schema_version: SchemaVersion<1>,
    shown: &'a Shown,
    #[serde(skip_serializing_if = "Option::is_none")]
    second: Option<&'a Shown>,
    jobs: &'a [Job],
}

/// What the LEDs are to show for these jobs.
pub(crate) fn picture(settings: &Settings, jobs: &[Job]) -> Picture {
    let of = |second: bool| choose(jobs.iter().filter(|job| settings.is_second(&job.name) == second));
    Picture { first: of(false), second: settings.second.as_ref().map(|_| of(true)) }
}

impl Picture {
    /// The picture and the jobs behind it as JSON.
    pub(crate) fn json(&self, jobs: &[Job]) -> Result<String, serde_json::Error> {
        let listing = Listing { schema_version: SchemaVersion, shown: &self.first, second: self.second.as_ref(), jobs };
        serde_json::to_string_pretty(&listing).map(|text| text + "\n")
    }

    /// The picture and the jobs behind it for people.
    pub(crate) fn table(&self, jobs: &[Job]) -> String {
        let named = |shown: &Shown| match &shown.job {
            Some(job) => format!("{} ({job})", shown.state.word()),
            None => shown.state.word().to_owned(),
        };
        let mut lines = vec![format!("light: {}", named(&self.first))];
        lines.extend(self.second.as_ref().map(|second| format!("second: {}", named(second))));
        let now = Utc::now();
        let width = jobs.iter().map(|job| job.name.len()).max().unwrap_or(0);
        for job in jobs {
            let age = human::span(now - job.light_since());
            let line = format!("{:width$}  {:9}  {age:>6}  {}", job.name, job.light().word(), job.light_text());
            lines.push(line.trim_end().to_owned());
            if job.light() != job.state {
                lines.push(format!("{:width$}  {:9}  (and now {})", "", "", job.state.word()));
            }
        }
        lines.join("\n") + "\n"
    }
}

/// Puts what the jobs have posted on the light.
pub(crate) fn show(
    settings: &Settings,
    board: &Board,
    bus: &dyn Fn() -> Result<Box<dyn Bus>, BusError>,
) -> Result<Picture, ShowError> {
    let _turn = take_turn(board);
    if let Err(error) = board.settle() {
        // Another user's board can be shown, but not put in order.
        log::debug!("{}", Chain(&error));
    }
    let picture = picture(settings, &board.jobs()?);
    match &settings.device {
        Device::None => {}
        Device::Sysfs { name } => {
            show_on_led(&Path::new(LEDS).join(name), picture.first.state, settings.palette.look(picture.first.state))?;
        }
        Device::BlinkStick { .. } => {
            for stick in &mut sticks(settings, bus)? {
                show_on_stick(settings, &picture, stick.as_mut())?;
            }
        }
    }
    Ok(picture)
}

/// Opens the sticks that are the light; none if it is something else.
pub(crate) fn sticks(
    settings: &Settings,
    bus: &dyn Fn() -> Result<Box<dyn Bus>, BusError>,
) -> Result<Vec<Box<dyn Stick>>, ShowError> {
    match &settings.device {
        Device::BlinkStick { serial } => open(&*bus()?, serial.as_deref()),
        Device::Sysfs { .. } | Device::None => Ok(Vec::new()),
    }
}

/// Opens the stick with this serial number, or all.
fn open(bus: &dyn Bus, serial: Option<&str>) -> Result<Vec<Box<dyn Stick>>, ShowError> {
    let found = bus.sticks()?;
    let is_meant = |place: &usize| serial.is_none_or(|serial| found.get(*place).is_some_and(|id| id.serial == serial));
    let sticks: Vec<_> = (0..found.len()).filter(is_meant).map(|place| bus.open(place)).collect::<Result<_, _>>()?;
    if sticks.is_empty() { Err(ShowError::NoStick { serial: serial.map(str::to_owned) }) } else { Ok(sticks) }
}

fn show_on_stick(settings: &Settings, picture: &Picture, stick: &mut dyn Stick) -> Result<(), ShowError> {
    let color = |shown: &Shown| settings.palette.look(shown.state).shown();
    set_led(stick, settings.index, color(&picture.first))?;
    match (&settings.second, &picture.second) {
        (Some(second), Some(shown)) => set_led(stick, second.index, color(shown)),
        _ => Ok(()),
    }
}

/// Sets one LED; a stick of the first generation has only one, whatever the index.
pub(crate) fn set_led(stick: &mut dyn Stick, index: u8, color: Rgb) -> Result<(), ShowError> {
    let [red, green, blue] = color.bytes();
    let has_one = stick.identity().variant() == Some(Variant::BlinkStick);
    let sent = if index == 0 || has_one {
        stick.send(1, &[red, green, blue])
    } else {
        stick.send(5, &[0, index, red, green, blue])
    };
    sent.map_err(|source| ShowError::Transfer { serial: stick.identity().serial.clone(), source })
}

/// Shows a state on a LED of the kernel: in its colour where it has several, else by its backoff.
fn show_on_led(led: &Path, state: State, look: Look) -> Result<(), ShowError> {
    let write = |name: &str, text: String| {
        let path = led.join(name);
        phobos_core::fs::set(&path, text.as_bytes()).map_err(|source| ShowError::Sysfs { path, source })
    };
    let content = |name: &str| fs::read_to_string(led.join(name)).unwrap_or_default();
    let max: u32 = content("max_brightness").trim().parse().unwrap_or(255);
    let triggers = content("trigger");
    if !triggers.is_empty() {
        write("trigger", "none".to_owned())?;
    }
    let channels = content("multi_index");
    if !channels.trim().is_empty() {
        let [red, green, blue] = look.color.bytes().map(|value| u32::from(value) * max / 255);
        let intensity = |channel: &str| match channel {
            "red" => red,
            "green" => green,
            "blue" => blue,
            _ => 0,
        };
        let intensities: Vec<_> = channels.split_whitespace().map(|name| intensity(name).to_string()).collect();
        write("multi_intensity", intensities.join(" "))?;
        return write("brightness", (max * u32::from(look.limit)).div_ceil(100).to_string());
    }
    let backoff = match state {
        State::Off => return write("brightness", "0".to_owned()),
        State::Ok => return write("brightness", max.to_string()),
        State::Working => (1000, 1000),
        State::Waiting => (100, 1900),
        State::Attention => (1500, 300),
        State::Unsafe => (300, 300),
        State::Failed => (100, 100),
    };
    if !triggers.split([' ', '\n']).any(|trigger| trigger.trim_matches(['[', ']']) == "timer") {
        // Dark, so that it is never taken for the steady light of `ok`.
        write("brightness", "0".to_owned())?;
        return Err(ShowError::NoTimer { led: led.to_owned() });
    }
    write("trigger", "timer".to_owned())?;
    write("delay_on", backoff.0.to_string())?;
    write("delay_off", backoff.1.to_string())
}

/// Waits for another `show` to be done; a light that is put right out of turn is better than one that is not.
pub(crate) fn take_turn(board: &Board) -> Option<File> {
    // Whoever may not write the board may not keep others from showing it either, and has no turn.
    let folder = Dir::open(board.run()).ok()?;
    let file = flock::open(&folder, Path::new(".show.lock")).ok()?;
    let turn = flock::within(file, TURN_LIMIT).ok()?;
    if turn.is_none() {
        log::warn!(
            "another phobos-blink has been setting the light for {}, not waiting for it",
            human::duration(TURN_LIMIT)
        );
    }
    turn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stick::Identity;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn led(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        // What the kernel has for a LED, and then what this one has in it.
        let empty = ["brightness", "multi_intensity", "delay_on", "delay_off"].map(|name| (name, ""));
        for (name, text) in empty.iter().chain(files) {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn written(led: &tempfile::TempDir, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| fs::read_to_string(led.path().join(name)).unwrap_or_default()).collect()
    }

    /// Sticks that keep what they are sent, as `SERIAL REPORT: PAYLOAD`.
    #[derive(Default, Clone)]
    struct Notes {
        found: Vec<Identity>,
        sent: Rc<RefCell<Vec<String>>>,
    }

    struct Noting(Identity, Rc<RefCell<Vec<String>>>);

    impl Bus for Notes {
        fn sticks(&self) -> Result<Vec<Identity>, BusError> {
            Ok(self.found.clone())
        }
        fn open(&self, place: usize) -> Result<Box<dyn Stick>, BusError> {
            Ok(Box::new(Noting(self.found[place].clone(), Rc::clone(&self.sent))))
        }
    }

    impl Stick for Noting {
        fn identity(&self) -> &Identity {
            &self.0
        }
        fn send(&mut self, report: u8, payload: &[u8]) -> io::Result<()> {
            self.1.borrow_mut().push(format!("{} {report}: {payload:?}", self.0.serial));
            Ok(())
        }
        fn get(&mut self, _report: u8, _length: usize) -> io::Result<Vec<u8>> {
            Ok(Vec::new())
        }
    }

    /// What is sent to these sticks when a drive is safe and a health check has failed.
    fn sent(settings: &str, serials: &[&str]) -> Result<Vec<String>, ShowError> {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::new(&folder.path().join("run"), &folder.path().join("kept"));
        board.post("ext", State::Ok, "").unwrap();
        board.post("health", State::Failed, "").unwrap();
        let identity = |serial: &&str| Identity { serial: (*serial).to_owned(), ..Identity::default() };
        let bus = Notes { found: serials.iter().map(identity).collect(), ..Notes::default() };
        let settings = Settings::parse(settings).unwrap();
        show(&settings, &board, &|| Ok(Box::new(bus.clone()) as Box<dyn Bus>))?;
        Ok(bus.sent.take())
    }

    #[test]
    fn the_worst_state_is_shown_on_every_stick_or_on_the_one_that_is_meant() {
        assert_eq!(sent("", &["A-2.0", "B-1.0"]).unwrap(), ["A-2.0 5: [0, 1, 127, 0, 0]", "B-1.0 1: [127, 0, 0]"]);
        let one = "led.device = 'blinkstick:B-1.0'\nled.failed.limit = 100";
        assert_eq!(sent(one, &["A-2.0", "B-1.0"]).unwrap(), ["B-1.0 1: [255, 0, 0]"]);
        assert_eq!(sent(one, &["A-2.0"]).unwrap_err().to_string(), "cannot find the BlinkStick B-1.0");
        assert_eq!(sent("", &[]).unwrap_err().code(), 69);
        assert_eq!(sent("led.device = 'none'", &[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_second_led_shows_its_own_jobs_and_no_others() {
        let text = "[led]\nindex = 1\nsecond = { index = 0, jobs = ['health', 'pull-*'] }";
        assert_eq!(sent(text, &["N-3.0"]).unwrap(), ["N-3.0 5: [0, 1, 0, 12, 0]", "N-3.0 1: [127, 0, 0]"]);
    }

    #[test]
    fn a_coloured_kernel_led_shows_the_colour() {
        let led = led(&[("max_brightness", "200\n"), ("multi_index", "green red blue\n"), ("trigger", "[none] timer")]);
        let look = Settings::default().palette.failed;
        show_on_led(led.path(), State::Failed, look).unwrap();
        assert_eq!(written(&led, &["multi_intensity", "brightness", "trigger"]), ["0 200 0", "100", "none"]);
    }

    #[test]
    fn a_plain_kernel_led_shows_the_state_by_its_rhythm() {
        let led = led(&[("max_brightness", "1\n"), ("trigger", "none [heartbeat] timer\n")]);
        let look = Settings::default().palette.ok;
        show_on_led(led.path(), State::Ok, look).unwrap();
        assert_eq!(written(&led, &["trigger", "brightness"]), ["none", "1"]);
        fs::write(led.path().join("trigger"), "[none] timer\n").unwrap();
        show_on_led(led.path(), State::Failed, look).unwrap();
        assert_eq!(written(&led, &["trigger", "delay_on", "delay_off"]), ["timer", "100", "100"]);
    }

    #[test]
    fn without_a_timer_a_plain_led_stays_dark_rather_than_look_fine() {
        let led = led(&[("max_brightness", "1\n"), ("trigger", "[none] heartbeat\n")]);
        let error = show_on_led(led.path(), State::Failed, Settings::default().palette.failed).unwrap_err();
        assert!(error.to_string().contains("ledtrig-timer"), "{error}");
        assert_eq!(written(&led, &["brightness"]), ["0"]);
    }

    #[test]
    fn a_missing_led_is_named() {
        let error = show_on_led(Path::new("/no/such/led"), State::Ok, Settings::default().palette.ok).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /no/such/led/brightness");
    }
}
