//! blinkstick's options, and its way of reading them: Python's optparse.
//!
//! clap knows neither abbreviations that are ambiguous only by name nor these messages, so the command line has its own
//! small parser. It owes optparse: options and positionals in any order, `--opt=v` and `--opt v`, bundles such as `-vs SER`,
//! unambiguous beginnings of long options, `--` and the lone `-`, help acting at once, and the texts of its errors.
//! The options that phobos adds have to be written in full, so that no abbreviation of an original option changes its
//! meaning.
//!
//! Long because the table of the options is one, and how it is read can be checked only beside it.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

/// An option of the command line.
#[derive(Debug)]
pub(crate) struct Opt {
    key: Key,
    /// Its names, the short one first.
    pub(crate) names: &'static [&'static str],
    /// What its value is called in the help; `None` if it takes none.
    pub(crate) value: Option<&'static str>,
    /// Its text in the help.
    pub(crate) help: &'static str,
}

/// Options under a heading.
#[derive(Debug)]
pub(crate) struct Group {
    /// The heading.
    pub(crate) title: &'static str,
    /// What they have in common.
    pub(crate) description: &'static str,
    /// The options.
    pub(crate) options: &'static [Opt],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Help,
    Info,
    Serial,
    Verbose,
    Channel,
    Index,
    Limit,
    Color,
    Inverse,
    LedCount,
    Blink,
    Pulse,
    Morph,
    Duration,
    Delay,
    Repeats,
    Mode,
    Infoblock1,
    Infoblock2,
    AddUdevRule,
    Strict,
    All,
    RespectIndex,
    Version,
}

const fn flag(key: Key, names: &'static [&'static str], help: &'static str) -> Opt {
    Opt { key, names, value: None, help }
}

const fn valued(key: Key, names: &'static [&'static str], value: &'static str, help: &'static str) -> Opt {
    Opt { key, names, value: Some(value), help }
}

/// The options that are under no heading.
pub(crate) const GENERAL: &[Opt] = &[
    flag(Key::Help, &["-h", "--help"], "show this help message and exit"),
    flag(Key::Info, &["-i", "--info"], "Display BlinkStick info"),
    valued(
        Key::Serial,
        &["-s", "--serial"],
        "SERIAL",
        "Select device by serial number. If unspecified, action will be performed on all BlinkSticks.",
    ),
    flag(Key::Verbose, &["-v", "--verbose"], "Display debug output"),
];

/// The options under headings.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        title: "Change color",
        description: "These options control the color of the device",
        options: &[
            valued(Key::Channel, &["--channel"], "CHANNEL", "Select channel. Applies only to BlinkStick Pro."),
            valued(Key::Index, &["--index"], "INDEX", "Select index. Applies only to BlinkStick Pro."),
            valued(Key::Limit, &["--brightness"], "LIMIT", "Limit the brightness of the color 0..100"),
            valued(Key::Limit, &["--limit"], "LIMIT", "Alias to --brightness option"),
            valued(
                Key::Color,
                &["--set-color"],
                "COLOR",
                "Set the color for the device. This can also be the last argument for the script. The value can \
                 either be a named color, hex value, 'random' or 'off'.\n\
                 CSS color names are defined http://www.w3.org/TR/css3-color/ e.g. red, green, blue. Specify color \
                 using hexadecimal color value e.g. 'FF3366'",
            ),
            flag(Key::Inverse, &["--inverse"], "Control BlinkSticks in inverse mode"),
            valued(
                Key::LedCount,
                &["--set-led-count"],
                "LED_COUNT",
                "Set the number of LEDs to control for supported devices.",
            ),
        ],
    },
    Group {
        title: "Control animations",
        description: "These options will blink, morph or pulse selected color.",
        options: &[
            flag(
                Key::Blink,
                &["--blink"],
                "Blink LED (requires --set-color or color set as last argument, and optionally --delay)",
            ),
            flag(
                Key::Pulse,
                &["--pulse"],
                "Pulse LED (requires --set-color or color set as last argument, and optionally --duration).",
            ),
            flag(
                Key::Morph,
                &["--morph"],
                "Morph to specified color (requires --set-color or color set as last argument, and optionally \
                 --duration).",
            ),
            valued(
                Key::Duration,
                &["--duration"],
                "DURATION",
                "Set duration of transition in milliseconds (use with --morph and --pulse).",
            ),
            valued(Key::Delay, &["--delay"], "DELAY", "Set time in milliseconds to light LED for (use with --blink)."),
            valued(Key::Repeats, &["--repeats"], "REPEATS", "Number of repetitions (use with --blink and --pulse)."),
        ],
    },
    Group {
        title: "Device data and behaviour",
        description: "These options will change device mode and data stored internally.",
        options: &[
            valued(
                Key::Mode,
                &["--set-mode"],
                "MODE",
                "Set mode for BlinkStick Pro:\n    0 - default\n    1 - inverse\n    2 - ws2812\n    3 - ws2812 mirror",
            ),
            valued(Key::Infoblock1, &["--set-infoblock1"], "INFOBLOCK1", "Set the first info block for the device."),
            valued(Key::Infoblock2, &["--set-infoblock2"], "INFOBLOCK2", "Set the second info block for the device."),
        ],
    },
    Group {
        title: "Advanced options",
        description: "",
        options: &[flag(
            Key::AddUdevRule,
            &["--add-udev-rule"],
            "Add udev rule to access BlinkSticks without root permissions. Must be run as root.",
        )],
    },
];

/// What phobos adds; these have to be written in full.
pub(crate) const ADDED: &[Opt] = &[
    flag(Key::All, &["--all"], "Set every LED of the stick, with one report for all"),
    flag(Key::RespectIndex, &["--respect-index"], "Let --pulse begin by darkening the LED that it pulses, not LED 0"),
    flag(
        Key::Strict,
        &["--strict"],
        "Fail where blinkstick says nothing: 69 without a stick, 2 on an unknown color, 74 on a failed transfer",
    ),
    flag(Key::Version, &["--version"], "Print the version"),
];

/// What the command line says, before any of it is checked: as with the original, numbers are read when they are used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(crate) struct Options {
    pub(crate) info: bool,
    pub(crate) serial: Option<String>,
    pub(crate) channel: String,
    pub(crate) index: String,
    pub(crate) limit: String,
    pub(crate) inverse: bool,
    pub(crate) blink: bool,
    pub(crate) pulse: bool,
    pub(crate) morph: bool,
    pub(crate) duration: String,
    pub(crate) delay: String,
    pub(crate) repeats: String,
    /// `None` if not given or empty; the same for the next three.
    pub(crate) mode: Option<String>,
    pub(crate) led_count: Option<String>,
    pub(crate) infoblock1: Option<String>,
    pub(crate) infoblock2: Option<String>,
    /// The colour's text, from the option or else the first positional.
    pub(crate) color: Option<String>,
    pub(crate) add_udev_rule: bool,
    pub(crate) strict: bool,
    pub(crate) all: bool,
    pub(crate) respect_index: bool,
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Do something.
    Options(Box<Options>),
    /// Show the help.
    Help,
    /// Show the version.
    Version,
}

/// A mistake in a command line, in optparse's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("no such option: {0}")]
    Unknown(String),
    #[error("ambiguous option: {0} ({list}?)", list = .1.join(", "))]
    Ambiguous(String, Vec<&'static str>),
    #[error("{0} option requires 1 argument")]
    NoValue(&'static str),
    #[error("{0} option does not take a value")]
    Value(&'static str),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            info: false,
            serial: None,
            channel: "0".to_owned(),
            index: "0".to_owned(),
            limit: "100".to_owned(),
            inverse: false,
            blink: false,
            pulse: false,
            morph: false,
            duration: "1000".to_owned(),
            delay: "500".to_owned(),
            repeats: "1".to_owned(),
            mode: None,
            led_count: None,
            infoblock1: None,
            infoblock2: None,
            color: None,
            add_udev_rule: false,
            strict: false,
            all: false,
            respect_index: false,
        }
    }
}

/// Reads a command line, without the program's name.
pub(crate) fn parse(args: &[String]) -> Result<Parsed, UsageError> {
    let mut options = Options::default();
    let mut positionals = Vec::new();
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        if arg == "--" {
            positionals.extend(args.by_ref());
        } else if arg.starts_with("--") {
            let (name, attached) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (arg, None),
            };
            let (name, opt) = find_long(name)?;
            let value = match (opt.value, attached) {
                (None, Some(_)) => return Err(UsageError::Value(name)),
                (None, None) => "",
                (Some(_), Some(value)) => value,
                (Some(_), None) => args.next().ok_or(UsageError::NoValue(name))?,
            };
            if let Some(early) = options.take(opt.key, value) {
                return Ok(early);
            }
        } else if arg.len() > 1 && arg.starts_with('-') {
            let mut letters = arg.chars();
            letters.next();
            while let Some(letter) = letters.next() {
                let (name, opt) = find_short(letter)?;
                let value = match (opt.value, letters.as_str()) {
                    (None, _) => "",
                    (Some(_), "") => args.next().ok_or(UsageError::NoValue(name))?,
                    (Some(_), rest) => {
                        letters = "".chars();
                        rest
                    }
                };
                if let Some(early) = options.take(opt.key, value) {
                    return Ok(early);
                }
            }
        } else {
            positionals.push(arg);
        }
    }
    if options.color.is_none() {
        options.color = positionals.first().map(|&text| text.to_owned());
    }
    Ok(Parsed::Options(Box::new(options)))
}

impl Options {
    /// Takes an option; `Some` if it ends everything at once.
    fn take(&mut self, key: Key, value: &str) -> Option<Parsed> {
        let text = || value.to_owned();
        let unless_empty = || Some(text()).filter(|text| !text.is_empty());
        match key {
            Key::Help => return Some(Parsed::Help),
            Key::Version => return Some(Parsed::Version),
            Key::Info => self.info = true,
            Key::Serial => self.serial = Some(text()),
            Key::Verbose => {}
            Key::Channel => self.channel = text(),
            Key::Index => self.index = text(),
            Key::Limit => self.limit = text(),
            Key::Color => self.color = unless_empty(),
            Key::Inverse => self.inverse = true,
            Key::LedCount => self.led_count = unless_empty(),
            Key::Blink => self.blink = true,
            Key::Pulse => self.pulse = true,
            Key::Morph => self.morph = true,
            Key::Duration => self.duration = text(),
            Key::Delay => self.delay = text(),
            Key::Repeats => self.repeats = text(),
            Key::Mode => self.mode = unless_empty(),
            Key::Infoblock1 => self.infoblock1 = unless_empty(),
            Key::Infoblock2 => self.infoblock2 = unless_empty(),
            Key::AddUdevRule => self.add_udev_rule = true,
            Key::Strict => self.strict = true,
            Key::All => self.all = true,
            Key::RespectIndex => self.respect_index = true,
        }
        None
    }
}

/// All of the original's options, in the order of the help.
fn original() -> impl Iterator<Item = &'static Opt> {
    GENERAL.iter().chain(GROUPS.iter().flat_map(|group| group.options))
}

/// The option with this long name, or with the only one that begins so.
fn find_long(given: &str) -> Result<(&'static str, &'static Opt), UsageError> {
    let each_name = |opt: &'static Opt| opt.names.iter().map(move |name| (*name, opt));
    if let Some(exact) = original().chain(ADDED).flat_map(each_name).find(|(name, _)| *name == given) {
        return Ok(exact);
    }
    let mut candidates: Vec<(&'static str, &'static Opt)> = Vec::new();
    for candidate in original().flat_map(each_name).filter(|(name, _)| name.starts_with(given)) {
        let at = candidates.partition_point(|(name, _)| *name < candidate.0);
        candidates.insert(at, candidate);
    }
    match candidates.as_slice() {
        [] => Err(UsageError::Unknown(given.to_owned())),
        [only] => Ok(*only),
        several => Err(UsageError::Ambiguous(given.to_owned(), several.iter().map(|(name, _)| *name).collect())),
    }
}

fn find_short(letter: char) -> Result<(&'static str, &'static Opt), UsageError> {
    let wanted = format!("-{letter}");
    original()
        .find_map(|opt| opt.names.iter().find(|name| **name == wanted).map(|name| (*name, opt)))
        .ok_or(UsageError::Unknown(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(args: &[&str]) -> String {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        parse(&args).map_or_else(|error| error.to_string(), |parsed| format!("{parsed:?}"))
    }

    fn options(args: &[&str]) -> Options {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        match parse(&args) {
            Ok(Parsed::Options(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_mistake_is_told_in_optparse_words() {
        let cases: [(&[&str], &str); 13] = [
            (&["--nope"], "no such option: --nope"),
            (&["--nope=3"], "no such option: --nope"),
            (&["-x"], "no such option: -x"),
            (&["-12345"], "no such option: -1"),
            (&["-vx"], "no such option: -x"),
            (&["--index"], "--index option requires 1 argument"),
            (&["--inde"], "--index option requires 1 argument"),
            (&["-vs"], "-s option requires 1 argument"),
            (&["--info=1"], "--info option does not take a value"),
            (&["--in", "3"], "ambiguous option: --in (--index, --info, --inverse?)"),
            (&["--nope", "-h"], "no such option: --nope"),
            (&["--stric"], "no such option: --stric"),
            (&["--set-infoblock", "x"], "ambiguous option: --set-infoblock (--set-infoblock1, --set-infoblock2?)"),
        ];
        for (args, want) in cases {
            assert_eq!(told(args), want, "{args:?}");
        }
    }

    #[test]
    fn help_acts_at_once() {
        for args in [&["-h", "--nope"][..], &["-vh"], &["red", "--help"], &["--he"]] {
            assert_eq!(told(args), "Help", "{args:?}");
        }
        assert_eq!(told(&["--version"]), "Version");
        assert_eq!(options(&["--", "-h"]).color.unwrap(), "-h");
        assert_eq!(options(&["--index", "-h"]).index, "-h", "a value may look like an option");
    }

    #[test]
    fn an_option_is_found_by_every_beginning_that_is_its_own() {
        assert!(options(&["--inv"]).inverse && options(&["--p"]).pulse && options(&["--bl"]).blink);
        assert_eq!(options(&["--br", "5"]).limit, "5");
        assert_eq!(options(&["--limit", "5", "--brightness=7"]).limit, "7");
        assert_eq!(options(&["--set-c", "red", "blue"]).color.unwrap(), "red");
        assert_eq!(options(&["--a"]), options(&["--add-udev-rule"]), "an added option is no candidate");
        assert_eq!(options(&["--v"]), Options::default());
        assert!(options(&["--all"]).all && options(&["--strict"]).strict);
    }

    #[test]
    fn short_options_can_be_bundled() {
        let want = Options { info: true, serial: Some("X".into()), ..Options::default() };
        for args in [&["-ivsX"][..], &["-iv", "-s", "X"], &["-vis", "X"], &["-i", "--serial=X"]] {
            assert_eq!(options(args), want, "{args:?}");
        }
    }

    #[test]
    fn positionals_and_options_mix() {
        assert_eq!(options(&["red", "--index", "3", "blue"]).color.unwrap(), "red");
        assert_eq!(options(&["-", "red"]).color.unwrap(), "-");
        assert_eq!(options(&["--", "--index"]).color.unwrap(), "--index");
        assert_eq!(options(&[""]).color.unwrap(), "");
        assert_eq!(options(&["--set-color", "", "red"]).color.unwrap(), "red");
        assert_eq!(options(&["--set-color="]).color, None);
        assert_eq!(options(&["--index=", "--limit=a=b"]).limit, "a=b");
    }
}
