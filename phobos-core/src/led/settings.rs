//! The `[led]` table of the configuration: which light, and what each state looks like.

use serde::Deserialize;

use super::State;
use super::color::Rgb;

/// What the light is, and how it shows the states.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawSettings")]
pub struct Settings {
    /// The light.
    pub device: Device,
    /// The LED on it.
    pub index: u8,
    /// Whether the light breathes while the state is working.
    pub breathe: bool,
    /// What each state looks like.
    pub palette: Palette,
    /// A second LED for some of the jobs, if there is one.
    pub second: Option<Second>,
}

/// The light that shows the states.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Palette {
    /// A job is at work.
    pub working: Look,
    /// A job waits for another.
    pub waiting: Look,
    /// Something is overdue.
    pub attention: Look,
    /// The drive must not be unplugged.
    pub unsafe_to_unplug: Look,
    /// All is well.
    pub ok: Look,
    /// A job has failed.
    pub failed: Look,
}

/// A colour and its brightness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The colour at full brightness.
    pub color: Rgb,
    /// The brightness in percent, 0 to 100.
    pub limit: u8,
}

/// A second LED on the same light, and the jobs that it shows instead of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Second {
    /// The LED.
    pub index: u8,
    /// Names of jobs; a `*` at the end stands for any rest.
    pub jobs: Vec<String>,
}

/// A setting that cannot be; the message starts with its key.
#[derive(Debug, thiserror::Error)]
#[error("led.{key}: {reason}")]
pub struct BadSetting {
    key: String,
    reason: String,
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

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawSettings {
    device: Option<String>,
    index: Option<i64>,
    breathe: Option<bool>,
    working: RawLook,
    waiting: RawLook,
    attention: RawLook,
    r#unsafe: RawLook,
    ok: RawLook,
    failed: RawLook,
    second: Option<RawSecond>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawLook {
    color: Option<String>,
    limit: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSecond {
    index: i64,
    jobs: Vec<String>,
}

impl TryFrom<RawSettings> for Settings {
    type Error = BadSetting;

    fn try_from(raw: RawSettings) -> Result<Self, BadSetting> {
        let Settings { device, index, breathe, palette, .. } = Settings::default();
        let index = raw.index.map_or(Ok(index), |given| checked_index("index", given))?;
        let second = raw.second.map(Second::try_from).transpose()?;
        if second.as_ref().is_some_and(|second| second.index == index) {
            return Err(bad("second.index", format!("{index} is the first LED already")));
        }
        Ok(Self {
            device: raw.device.map_or(Ok(device), |text| Device::parse(&text))?,
            index,
            breathe: raw.breathe.unwrap_or(breathe),
            palette: Palette {
                working: raw.working.or(palette.working, "working")?,
                waiting: raw.waiting.or(palette.waiting, "waiting")?,
                attention: raw.attention.or(palette.attention, "attention")?,
                unsafe_to_unplug: raw.r#unsafe.or(palette.unsafe_to_unplug, "unsafe")?,
                ok: raw.ok.or(palette.ok, "ok")?,
                failed: raw.failed.or(palette.failed, "failed")?,
            },
            second,
        })
    }
}

impl TryFrom<RawSecond> for Second {
    type Error = BadSetting;

    fn try_from(raw: RawSecond) -> Result<Self, BadSetting> {
        let index = checked_index("second.index", raw.index)?;
        if raw.jobs.is_empty() {
            return Err(bad("second.jobs", "name at least one job".to_owned()));
        }
        for pattern in &raw.jobs {
            let start = pattern.strip_suffix('*').unwrap_or(pattern);
            let is_good = super::is_job_name(start) || (start.is_empty() && pattern == "*");
            if !is_good {
                return Err(bad("second.jobs", format!("{pattern:?} is no name of a job")));
            }
        }
        Ok(Self { index, jobs: raw.jobs })
    }
}

impl RawLook {
    /// The look as written, with what is left out taken from `default`.
    fn or(self, default: Look, key: &str) -> Result<Look, BadSetting> {
        let color = match self.color {
            None => default.color,
            Some(text) => {
                Rgb::try_from(text.as_str()).map_err(|error| bad(&format!("{key}.color"), error.to_string()))?
            }
        };
        let limit = match self.limit {
            None => default.limit,
            Some(limit) => u8::try_from(limit)
                .ok()
                .filter(|limit| *limit <= 100)
                .ok_or_else(|| bad(&format!("{key}.limit"), format!("{limit} is not between 0 and 100")))?,
        };
        Ok(Look { color, limit })
    }
}

impl Device {
    fn parse(text: &str) -> Result<Self, BadSetting> {
        let is_folder_name =
            |name: &str| !name.is_empty() && !matches!(name, "." | "..") && !name.contains(['/', '\0']);
        match text.split_once(':') {
            None if text == "blinkstick" => Ok(Self::BlinkStick { serial: None }),
            None if text == "none" => Ok(Self::None),
            Some(("blinkstick", serial)) if !serial.is_empty() => {
                Ok(Self::BlinkStick { serial: Some(serial.to_owned()) })
            }
            Some(("sysfs", name)) if is_folder_name(name) => Ok(Self::Sysfs { name: name.to_owned() }),
            _ => Err(bad("device", format!("{text:?} is none of blinkstick, blinkstick:SERIAL, sysfs:NAME, none"))),
        }
    }
}

fn checked_index(key: &str, given: i64) -> Result<u8, BadSetting> {
    u8::try_from(given).map_err(|_| bad(key, format!("{given} is not between 0 and 255")))
}

fn bad(key: &str, reason: String) -> BadSetting {
    BadSetting { key: key.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn an_empty_table_is_the_default() {
        assert_eq!(parse("").unwrap(), Settings::default());
        let palette = Settings::default().palette;
        assert_eq!(palette.look(State::Working).shown().to_string(), "#191900");
        assert_eq!(palette.look(State::Ok).shown().to_string(), "#000c00");
        assert_eq!(palette.look(State::Failed).shown().to_string(), "#7f0000");
        assert_eq!(palette.look(State::Off).shown(), Rgb::BLACK);
    }

    #[test]
    fn what_is_left_out_keeps_its_default() {
        let text = "index = 0\nfailed = { limit = 100 }\n[second]\nindex = 1\njobs = ['health', 'pull-*']";
        let settings = parse(text).unwrap();
        assert_eq!(settings.palette.failed.shown().to_string(), "#ff0000");
        assert_eq!(settings.palette.ok, Palette::default().ok);
        let names = ["health", "pull-luv", "ext", "healthy"];
        assert_eq!(names.map(|name| settings.is_second(name)), [true, true, false, false]);
    }

    #[test]
    fn devices_are_told_apart() {
        let device = |text: &str| parse(&format!("device = '{text}'")).unwrap().device;
        assert_eq!(device("none"), Device::None);
        assert_eq!(device("sysfs:a::b"), Device::Sysfs { name: "a::b".into() });
        assert_eq!(device("blinkstick:X"), Device::BlinkStick { serial: Some("X".into()) });
    }

    #[test]
    fn every_mistake_names_its_key() {
        let cases = [
            ("index = 256", "led.index: 256 is not between 0 and 255"),
            (
                "device = 'sysfs:../x'",
                "led.device: \"sysfs:../x\" is none of blinkstick, blinkstick:SERIAL, sysfs:NAME, none",
            ),
            (
                "ok = { color = 'f84' }",
                "led.ok.color: \"f84\" is no colour; use a CSS name, off, or six hex digits such as ff8800",
            ),
            ("unsafe = { limit = 101 }", "led.unsafe.limit: 101 is not between 0 and 100"),
            ("second = { index = 0, jobs = [] }", "led.second.jobs: name at least one job"),
            ("second = { index = 0, jobs = ['a/b'] }", "led.second.jobs: \"a/b\" is no name of a job"),
            ("second = { index = 1, jobs = ['a'] }", "led.second.index: 1 is the first LED already"),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text).unwrap_err(), want, "{text}");
        }
        assert!(parse("colour = 'red'").unwrap_err().contains("unknown field"));
        assert!(parse("ok = { brightness = 3 }").unwrap_err().contains("unknown field"));
    }
}
