//! The `[led]` table of the configuration: which light, and what each state looks like.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use schemars::JsonSchema;
use serde::Serialize;

use super::State;
use super::color::Rgb;
use super::table::{self, Entry, NoToml, Value};

/// What the light is, and how it shows the states.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The light: blinkstick, blinkstick:SERIAL, sysfs:NAME (of /sys/class/leds), or none.
    #[schemars(with = "String", extend("pattern" = "^(none|blinkstick(:.+)?|sysfs:[^/]+)$"))]
    pub device: Device,
    /// Which of its LEDs.
    pub index: u8,
    /// Whether the light swells and fades while a job works.
    pub breathe: bool,
    /// What the light shows, by state.
    #[schemars(flatten)]
    pub palette: Palette,
    /// A second LED on the same light for some jobs; `*` at the end of a name stands for any rest.
    #[schemars(extend("examples" = [Second { index: 0, jobs: vec!["pull-*".to_owned()] }]))]
    pub second: Option<Second>,
}

/// The light that shows the states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum Device {
    /// A BlinkStick; all that are there, or the one with this serial number.
    BlinkStick {
        /// The serial number.
        serial: Option<String>,
    },
    /// A LED of the kernel: its name in `/sys/class/leds`.
    Sysfs {
        /// The folder's name.
        name: String,
    },
    /// No light.
    None,
}

/// What each state looks like; `off` is dark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(default)]
pub struct Palette {
    /// What the light shows while a job works: a CSS colour or "#rrggbb", and its brightness in percent.
    pub working: Look,
    /// While a job waits for another.
    pub waiting: Look,
    /// When something is to be looked at, such as a drive that is overdue.
    pub attention: Look,
    /// When the drive must not be unplugged.
    #[serde(rename = "unsafe")]
    pub unsafe_to_unplug: Look,
    /// When all is well.
    pub ok: Look,
    /// When a job has failed.
    pub failed: Look,
}

/// A colour and its brightness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Look {
    /// The colour at full brightness: a CSS name or "#rrggbb".
    #[schemars(with = "Option<String>")]
    pub color: Rgb,
    /// The brightness in percent, 0 to 100.
    #[schemars(with = "Option<u8>", range(max = 100))]
    pub limit: u8,
}

/// A second LED on the same light, and the jobs that it shows instead of the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Second {
    /// The LED.
    pub index: u8,
    /// Names of jobs; a `*` at the end stands for any rest.
    #[schemars(length(min = 1), inner(regex(pattern = r"^(\*|[A-Za-z0-9_:@+\\][A-Za-z0-9_.:@+\\-]*\*?)$")))]
    pub jobs: Vec<String>,
}

/// A setting that cannot be; the message starts with its key.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BadSetting {
    line: usize,
    message: String,
}

impl Settings {
    /// Whether the second LED shows the job called `name`.
    pub fn is_second(&self, name: &str) -> bool {
        self.second.as_ref().is_some_and(|second| {
            second.jobs.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == pattern,
            })
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device: Device::BlinkStick { serial: None },
            index: 1,
            breathe: false,
            palette: Palette::default(),
            second: None,
        }
    }
}

impl Default for Palette {
    fn default() -> Self {
        let look = |red, green, blue, limit| Look { color: Rgb { red, green, blue }, limit };
        Self {
            working: look(255, 255, 0, 10),
            waiting: look(0, 0, 255, 10),
            attention: look(255, 255, 255, 10),
            unsafe_to_unplug: look(255, 0, 255, 50),
            ok: look(0, 128, 0, 10),
            failed: look(255, 0, 0, 50),
        }
    }
}

impl Palette {
    /// What `state` looks like.
    pub fn look(&self, state: State) -> Look {
        match state {
            State::Working => self.working,
            State::Waiting => self.waiting,
            State::Attention => self.attention,
            State::Unsafe => self.unsafe_to_unplug,
            State::Ok => self.ok,
            State::Failed => self.failed,
            State::Off => Look { color: Rgb::BLACK, limit: 0 },
        }
    }
}

impl Look {
    /// The colour as it is sent.
    pub fn shown(self) -> Rgb {
        self.color.limited(self.limit)
    }
}

/// What is known of the second LED while the table is being read.
#[derive(Debug, Default)]
struct HalfSecond {
    index: Option<u8>,
    jobs: Option<Vec<String>>,
    line: usize,
}

impl Settings {
    /// Reads the table `[led]` of a configuration; the others are not regarded.
    ///
    /// # Errors
    ///
    /// The first mistake, with its line and key; or that the text is no TOML.
    pub fn parse(text: &str) -> Result<Self, BadSetting> {
        let entries = table::entries(text, "led")
            .map_err(|NoToml { line, reason }| BadSetting { line, message: format!("no valid TOML: {reason}") })?;
        let mut settings = Self::default();
        let mut second = HalfSecond::default();
        let mut seen: Vec<String> = Vec::new();
        for Entry { key, value, line } in entries {
            let wrong = |reason: String| BadSetting { line, message: told(&key, &reason) };
            settings.set(&mut second, &key, value).map_err(wrong)?;
            if key.starts_with("second") {
                second.line = line;
            }
            if seen.contains(&key) {
                return Err(wrong("it is set twice".to_owned()));
            }
            seen.push(key);
        }
        settings.second = second.whole(settings.index)?;
        Ok(settings)
    }

    /// Takes one value of the table.
    fn set(&mut self, second: &mut HalfSecond, key: &str, value: Value) -> Result<(), String> {
        match key {
            "device" => self.device = Device::parse(&text(value)?)?,
            "index" => self.index = within(&value, 255)?,
            "breathe" => self.breathe = flag(&value)?,
            "second.index" => second.index = Some(within(&value, 255)?),
            "second.jobs" => second.jobs = Some(job_names(value)?),
            "" | "second" => return Err("it must be a table".to_owned()),
            _ => {
                let (state, rest) = key.split_once('.').unwrap_or((key, ""));
                let look = self.palette.look_mut(state).ok_or("there is no such key")?;
                match rest {
                    "color" => look.color = Rgb::try_from(text(value)?.as_str()).map_err(|error| error.to_string())?,
                    "limit" => look.limit = within(&value, 100)?,
                    "" => return Err("it must be a table with color and limit".to_owned()),
                    _ => return Err("there is no such key".to_owned()),
                }
            }
        }
        Ok(())
    }
}

impl Palette {
    /// The look of the state with this word; dark is dark.
    fn look_mut(&mut self, word: &str) -> Option<&mut Look> {
        Some(match word {
            "working" => &mut self.working,
            "waiting" => &mut self.waiting,
            "attention" => &mut self.attention,
            "unsafe" => &mut self.unsafe_to_unplug,
            "ok" => &mut self.ok,
            "failed" => &mut self.failed,
            _ => return None,
        })
    }
}

impl HalfSecond {
    /// The second LED, if the table has one.
    fn whole(self, first: u8) -> Result<Option<Second>, BadSetting> {
        let line = self.line;
        let wrong = |key: &str, reason: &str| BadSetting { line, message: told(key, reason) };
        match (self.index, self.jobs) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(wrong("second.index", "it is missing")),
            (Some(_), None) => Err(wrong("second.jobs", "it is missing")),
            (Some(index), Some(_)) if index == first => {
                Err(wrong("second.index", &format!("{index} is the first LED already")))
            }
            (Some(index), Some(jobs)) => Ok(Some(Second { index, jobs })),
        }
    }
}

impl BadSetting {
    /// The line where it stands, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        match device {
            Device::None => "none".to_owned(),
            Device::BlinkStick { serial: None } => "blinkstick".to_owned(),
            Device::BlinkStick { serial: Some(serial) } => format!("blinkstick:{serial}"),
            Device::Sysfs { name } => format!("sysfs:{name}"),
        }
    }
}

impl Device {
    fn parse(text: &str) -> Result<Self, String> {
        let is_folder_name =
            |name: &str| !name.is_empty() && !matches!(name, "." | "..") && !name.contains(['/', '\0']);
        match text.split_once(':') {
            None if text == "blinkstick" => Ok(Self::BlinkStick { serial: None }),
            None if text == "none" => Ok(Self::None),
            Some(("blinkstick", serial)) if !serial.is_empty() => {
                Ok(Self::BlinkStick { serial: Some(serial.to_owned()) })
            }
            Some(("sysfs", name)) if is_folder_name(name) => Ok(Self::Sysfs { name: name.to_owned() }),
            _ => Err(format!("{text:?} is none of blinkstick, blinkstick:SERIAL, sysfs:NAME, none")),
        }
    }
}

fn told(key: &str, reason: &str) -> String {
    if key.is_empty() { format!("led: {reason}") } else { format!("led.{key}: {reason}") }
}

fn text(value: Value) -> Result<String, String> {
    match value {
        Value::Text(text) => Ok(text),
        _ => Err("it must be a text".to_owned()),
    }
}

fn flag(value: &Value) -> Result<bool, String> {
    match value {
        Value::Flag(flag) => Ok(*flag),
        _ => Err("it must be true or false".to_owned()),
    }
}

/// A whole number from 0 to `most`.
fn within(value: &Value, most: u8) -> Result<u8, String> {
    match value {
        Value::Whole(number) => u8::try_from(*number)
            .ok()
            .filter(|number| *number <= most)
            .ok_or_else(|| format!("{number} is not between 0 and {most}")),
        _ => Err(format!("it must be a whole number from 0 to {most}")),
    }
}

fn job_names(value: Value) -> Result<Vec<String>, String> {
    let names = match value {
        Value::Texts(names) if !names.is_empty() => names,
        _ => return Err("it must name at least one job, as in [\"health\", \"pull-*\"]".to_owned()),
    };
    for pattern in &names {
        let start = pattern.strip_suffix('*').unwrap_or(pattern);
        if !(super::is_job_name(start) || pattern == "*") {
            return Err(format!("{pattern:?} is no name of a job"));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text).map_err(|error| format!("{}: {error}", error.line()))
    }

    #[test]
    fn an_empty_table_is_the_default() {
        for text in ["", "[led]", "[mail]\nto = 7"] {
            assert_eq!(parse(text).unwrap(), Settings::default());
        }
        let palette = Settings::default().palette;
        assert_eq!(palette.look(State::Working).shown().to_string(), "#191900");
        assert_eq!(palette.look(State::Ok).shown().to_string(), "#000c00");
        assert_eq!(palette.look(State::Failed).shown().to_string(), "#7f0000");
        assert_eq!(palette.look(State::Off).shown(), Rgb::BLACK);
    }

    #[test]
    fn what_is_left_out_keeps_its_default() {
        let text = "[led]\nindex = 0\nfailed = { limit = 100 }\nunsafe.color = '#00f'\nbreathe = true\n\
                    [led.second]\nindex = 1\njobs = ['health', 'pull-*']";
        let settings = parse(text).unwrap();
        assert!(settings.breathe && settings.index == 0);
        assert_eq!(settings.palette.failed.shown().to_string(), "#ff0000");
        assert_eq!(settings.palette.look(State::Unsafe).shown().to_string(), "#00007f");
        assert_eq!(settings.palette.ok, Palette::default().ok);
        let names = ["health", "pull-luv", "ext", "healthy"];
        assert_eq!(names.map(|name| settings.is_second(name)), [true, true, false, false]);
    }

    #[test]
    fn devices_are_told_apart() {
        let device = |text: &str| parse(&format!("[led]\ndevice = '{text}'")).unwrap().device;
        assert_eq!(device("none"), Device::None);
        assert_eq!(device("sysfs:a::b"), Device::Sysfs { name: "a::b".into() });
        assert_eq!(device("blinkstick:X"), Device::BlinkStick { serial: Some("X".into()) });
    }

    #[test]
    fn every_mistake_names_its_line_and_key() {
        let no_device = "is none of blinkstick, blinkstick:SERIAL, sysfs:NAME, none";
        let no_color = "is no colour; use a CSS name, off, or six hex digits such as ff8800";
        let cases = [
            ("index = 256", "led.index: 256 is not between 0 and 255"),
            ("index = '1'", "led.index: it must be a whole number from 0 to 255"),
            ("breathe = 1", "led.breathe: it must be true or false"),
            ("device = 'sysfs:../x'", &format!("led.device: \"sysfs:../x\" {no_device}")),
            ("ok = { color = 'f84' }", &format!("led.ok.color: \"f84\" {no_color}")),
            ("ok = 'red'", "led.ok: it must be a table with color and limit"),
            ("unsafe.limit = 101", "led.unsafe.limit: 101 is not between 0 and 100"),
            ("unsafe.limit = 10.5", "led.unsafe.limit: it must be a whole number from 0 to 100"),
            ("ok = { brightness = 3 }", "led.ok.brightness: there is no such key"),
            ("colour = 'red'", "led.colour: there is no such key"),
            ("off.color = 'red'", "led.off.color: there is no such key"),
            (
                "second = { index = 0, jobs = [] }",
                "led.second.jobs: it must name at least one job, as in [\"health\", \"pull-*\"]",
            ),
            ("second = { index = 0, jobs = ['a/b'] }", "led.second.jobs: \"a/b\" is no name of a job"),
            ("second = { index = 1, jobs = ['a'] }", "led.second.index: 1 is the first LED already"),
            ("second = { index = 0 }", "led.second.jobs: it is missing"),
            ("second = 0", "led.second: it must be a table"),
            ("index = 2\nindex = 3", "led.index: it is set twice"),
        ];
        for (text, want) in cases {
            let line = 3 + text.matches('\n').count();
            assert_eq!(parse(&format!("a = 1\n[led]\n{text}")).unwrap_err(), format!("{line}: {want}"));
        }
        assert!(parse("[led]\nindex =").unwrap_err().starts_with("2: no valid TOML: "));
        assert_eq!(parse("led = 1").unwrap_err(), "1: led: it must be a table");
    }

    #[test]
    fn fuzz_led_settings() {
        phobos_fuzz::target("led_settings", &[b"[led]\nserial = 'BS1'\nindex = 1\nlimit = 50\nbreathe = true\nok = '#00ff00'\n[led.second]\nindex = 2\n", b"a = [1, {b = 2}]\nled = {limit = 5}\n"], |input| {
            let text = String::from_utf8_lossy(input);
            drop(Settings::parse(&text));
        });
    }
}
