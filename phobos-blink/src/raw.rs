//! blinkstick's own commands: the same transfers, the same pauses, the same output, the same exit codes.
//!
//! Where the original ends with a traceback, this ends with one line and the same exit code. Where the original is silent
//! about a mistake, this warns, and with `--strict` it fails.

use std::io::{self, Write};
use std::path::Path;

use phobos_core::error::Chain;
use phobos_site::led::color::Rgb;

use crate::color::{Color, Limit};
use crate::number;
use crate::options::Options;
use crate::stick::{Bus, BusError, Identity, Stick, Variant};
use crate::udev;

/// The steps of a morph, its two ends left out.
const STEPS: u32 = 50;

/// The longest pause, in seconds, that Python can make.
const LONGEST_PAUSE: f64 = 9_223_372_036.0;

/// What a command needs besides a stick.
pub(crate) trait World {
    /// Waits; `seconds` is neither negative nor endless.
    fn sleep(&mut self, seconds: f64);

    /// A random byte.
    fn random(&mut self) -> u8;
}

/// Where the command's words go, and what they are.
pub(crate) struct Words<'a> {
    /// Standard output.
    pub(crate) out: &'a mut dyn Write,
    /// The help, for a command that asks for nothing.
    pub(crate) help: &'a dyn Fn() -> String,
    /// The program's name.
    pub(crate) program: &'a str,
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RawError {
    #[error("{option}: {text:?} is not a {kind}number")]
    Number { option: &'static str, text: String, kind: &'static str },
    #[error("{option} {value} is out of range: it must be 0 to 255")]
    Byte { option: &'static str, value: i64 },
    #[error("the color value {0} is out of range: --limit must be 0 to 100")]
    Channel(i64),
    #[error("--limit 0 leaves nothing to morph or pulse")]
    NoLimit,
    #[error("cannot wait that long, or for less than nothing: {0} is out of range")]
    Pause(&'static str),
    #[error("cannot write {0:?} to an info block: each character must be one of Latin-1")]
    Infoblock(String),
    #[error("cannot read LED {0}: there is no such LED")]
    NoLed(i64),
    #[error("cannot find a BlinkStick with the serial number {0:?}")]
    NoSerial(String),
    #[error("cannot tell the model of a BlinkStick with the serial number {0:?}")]
    NoModel(String),
    #[error("cannot find a BlinkStick")]
    NoStick,
    #[error("{0:?} is no color")]
    BadColor(String),
    #[error("the BlinkStick {serial} sent only {length} bytes of report {report:#04x}")]
    Short { serial: String, report: u8, length: usize },
    #[error("cannot {verb} report {report:#04x} {direction} the BlinkStick {serial}")]
    Transfer { verb: &'static str, direction: &'static str, serial: String, report: u8, source: io::Error },
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The rule could not be written; all has been said on standard output.
    #[error("cannot add the udev rule")]
    Rule,
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

impl RawError {
    /// The exit code that the original gives, or the one that `--strict` has for it.
    pub(crate) fn code(&self, strict: bool) -> u8 {
        match self {
            Self::NoStick => 69,
            Self::NoSerial(_) if strict => 69,
            Self::BadColor(_) => 2,
            Self::Transfer { .. } | Self::Short { .. } if strict => 74,
            Self::Rule => 64,
            _ => 1,
        }
    }
}

/// Does what `options` ask for.
pub(crate) fn run(
    options: &Options,
    bus: &dyn Bus,
    world: &mut dyn World,
    words: &mut Words<'_>,
) -> Result<(), RawError> {
    let color = options.color.as_deref().map(|text| (text, Color::read(text)));
    if let (Some((text, Color::Unknown)), true) = (color, options.strict) {
        return Err(RawError::BadColor(text.to_owned()));
    }
    let mut sticks = open(options, bus)?;
    if options.add_udev_rule {
        return add_rule(words);
    }
    if sticks.is_empty() {
        if options.strict {
            return Err(RawError::NoStick);
        }
        log::warn!("{}, nothing was done", RawError::NoStick);
        return Ok(());
    }
    let percent = decimal("--limit", &options.limit)?;
    let bad_limit = || RawError::Number { option: "--limit", text: options.limit.clone(), kind: "finite " };
    let limit = Limit::percent(percent).ok_or_else(bad_limit)?;
    for (place, stick) in sticks.iter_mut().enumerate() {
        write_infoblocks(options, stick.as_mut())?;
        if let Some(mode) = &options.mode {
            set_mode(mode, stick.as_mut(), words)?;
        } else if let Some(count) = &options.led_count {
            set_led_count(count, stick.as_mut(), words)?;
        } else if options.info {
            show_info(options.inverse, stick.as_mut(), words.out)?;
        } else if let Some((text, color)) = color {
            if color == Color::Unknown && place == 0 {
                log::warn!("{}, black is taken for it", RawError::BadColor(text.to_owned()));
            }
            Painter::new(options, stick.as_mut(), world, limit)?.paint(options, color)?;
        } else {
            // The original ends here, even if there are more sticks.
            if place + 1 < sticks.len() && (options.infoblock1.is_some() || options.infoblock2.is_some()) {
                log::warn!("only the first of several BlinkSticks was written to");
            }
            words.out.write_all((words.help)().as_bytes())?;
            return Ok(());
        }
    }
    Ok(())
}

/// Opens the sticks that are meant, all before the first is written to.
fn open(options: &Options, bus: &dyn Bus) -> Result<Vec<Box<dyn Stick>>, RawError> {
    let found = bus.sticks()?;
    let Some(serial) = &options.serial else {
        return Ok((0..found.len()).map(|place| bus.open(place)).collect::<Result<_, _>>()?);
    };
    match found.iter().position(|stick| stick.serial == *serial) {
        Some(place) => Ok(vec![bus.open(place)?]),
        None if options.add_udev_rule => Ok(Vec::new()),
        None => Err(RawError::NoSerial(serial.clone())),
    }
}

fn add_rule(words: &mut Words<'_>) -> Result<(), RawError> {
    let path = Path::new(udev::PATH);
    match udev::write(path) {
        Ok(()) => {
            writeln!(words.out, "Rule added to {}", path.display())?;
            writeln!(words.out, "Reboot your computer for changes to take effect")?;
            if let Some(stronger) = udev::stronger() {
                log::warn!("{} keeps the light to root and its group all the same", stronger.display());
            }
            Ok(())
        }
        Err(error) => {
            let text = error.to_string();
            let reason = text.split(" (os error").next().unwrap_or_default();
            let number = error.raw_os_error().unwrap_or_default();
            writeln!(words.out, "[Errno {number}] {reason}: '{}'", path.display())?;
            writeln!(words.out, "Make sure you run this script as root: sudo {} --add-udev-rule", words.program)?;
            Err(RawError::Rule)
        }
    }
}

fn write_infoblocks(options: &Options, stick: &mut dyn Stick) -> Result<(), RawError> {
    for (report, text) in [(2, &options.infoblock1), (3, &options.infoblock2)] {
        let Some(text) = text else { continue };
        let bytes = text.chars().map(|c| u8::try_from(c).map_err(|_| RawError::Infoblock(text.clone())));
        let mut bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
        if bytes.len() > 32 {
            log::warn!("the text for an info block has more than 32 characters, the rest is likely to be lost");
        } else {
            bytes.resize(32, 0);
        }
        send(stick, report, &bytes)?;
    }
    Ok(())
}

fn set_mode(text: &str, stick: &mut dyn Stick, words: &mut Words<'_>) -> Result<(), RawError> {
    let mode = ["0", "1", "2", "3"].iter().position(|mode| *mode == text).and_then(|mode| u8::try_from(mode).ok());
    match mode {
        Some(mode) => send(stick, 4, &[mode]),
        None => Ok(writeln!(words.out, "Error: Invalid mode parameter value")?),
    }
}

fn set_led_count(text: &str, stick: &mut dyn Stick, words: &mut Words<'_>) -> Result<(), RawError> {
    let count = whole("--set-led-count", text)?;
    match u8::try_from(count) {
        Ok(count @ 1..=32) => send(stick, 0x81, &[count]),
        _ => Ok(writeln!(words.out, "Error: Invalid led-count parameter value")?),
    }
}

fn show_info(inverse: bool, stick: &mut dyn Stick, out: &mut dyn Write) -> Result<(), RawError> {
    let Identity { serial, manufacturer, product, .. } = stick.identity().clone();
    writeln!(out, "Found device:")?;
    writeln!(out, "    Manufacturer:  {manufacturer}")?;
    writeln!(out, "    Description:   {product}")?;
    let variant = stick.identity().variant().ok_or_else(|| RawError::NoModel(serial.clone()))?;
    writeln!(out, "    Variant:       {variant}")?;
    writeln!(out, "    Serial:        {serial}")?;
    let [red, green, blue] = first_led(stick)?.map(|value| if inverse { 255 - value } else { value });
    writeln!(out, "    Current Color: {}", Rgb { red, green, blue })?;
    let mode = get(stick, 4, 2)?.get(1).map_or(-1, |mode| i16::from(*mode));
    writeln!(out, "    Mode:          {mode}")?;
    if variant == Variant::Flex {
        let count = get(stick, 0x81, 2).ok().and_then(|reply| reply.get(1).copied());
        let count = count.map_or_else(|| "Error".to_owned(), |count| count.to_string());
        writeln!(out, "    LED conf:      {count}")?;
    }
    for (number, report) in [(1, 2), (2, 3)] {
        let reply = get(stick, report, 33)?;
        let text: String = reply.iter().skip(1).take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect();
        writeln!(out, "    Info Block {number}:  {text}")?;
    }
    Ok(())
}

/// Sets colours on one stick, one LED of it or all.
struct Painter<'a> {
    stick: &'a mut dyn Stick,
    world: &'a mut dyn World,
    limit: Limit,
    inverse: bool,
    strict: bool,
    target: Target,
    has_warned: bool,
}

/// What a colour is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// One LED; channel 0, index 0 is the first, or the whole stick.
    Led { channel: i64, index: i64 },
    /// This many LEDs of a channel, by a frame report.
    Frame { channel: i64, report: u8, leds: usize },
}

/// A colour on its way: whole numbers but for a morph, and within 0 to 255 only at its end.
type Values = [f64; 3];

const BLACK: Values = [0.0; 3];

impl<'a> Painter<'a> {
    fn new(
        options: &Options,
        stick: &'a mut dyn Stick,
        world: &'a mut dyn World,
        limit: Limit,
    ) -> Result<Self, RawError> {
        let channel = whole("--channel", &options.channel)?;
        let index = whole("--index", &options.index)?;
        let target = if options.all { whole_stick(stick, channel)? } else { Target::Led { channel, index } };
        let Options { inverse, strict, .. } = *options;
        Ok(Self { stick, world, limit, inverse, strict, target, has_warned: false })
    }

    fn paint(&mut self, options: &Options, color: Color) -> Result<(), RawError> {
        if options.blink {
            self.blink(options, color)
        } else if options.pulse {
            self.pulse(options, color)
        } else if options.morph {
            self.morph(options, color)
        } else {
            let values = self.draw(color);
            self.set(values)
        }
    }

    fn blink(&mut self, options: &Options, color: Color) -> Result<(), RawError> {
        let repeats = whole("--repeats", &options.repeats)?;
        let pause = decimal("--delay", &options.delay)? / 1000.0;
        for turn in 0..repeats {
            if turn > 0 {
                self.sleep("--delay", pause)?;
            }
            let values = self.draw(color);
            self.set(values)?;
            self.sleep("--delay", pause)?;
            self.set(BLACK)?;
        }
        Ok(())
    }

    /// Fades to the colour and back; the original darkens the first LED before, whichever LED it then pulses.
    fn pulse(&mut self, options: &Options, color: Color) -> Result<(), RawError> {
        let repeats = whole("--repeats", &options.repeats)?;
        if options.respect_index || options.all {
            self.set(BLACK)?;
        } else {
            let target = std::mem::replace(&mut self.target, Target::Led { channel: 0, index: 0 });
            let darkened = self.set(BLACK);
            self.target = target;
            darkened?;
        }
        for _ in 0..repeats {
            self.morph(options, color)?;
            self.morph(options, Color::Is(Rgb::BLACK))?;
        }
        Ok(())
    }

    fn morph(&mut self, options: &Options, color: Color) -> Result<(), RawError> {
        // The ends are stretched by what the limit will shrink them by, so that they are where they should be.
        let end = self.draw(color).map(|value| self.limit.apply(value));
        let end = self.stretch(end)?;
        let now = self.current()?;
        let start = Some(self.stretch(now)?).filter(|start| start.iter().all(|value| *value <= 255.0));
        let start = start.unwrap_or(BLACK);
        let steps = f64::from(STEPS + 1);
        let pause = decimal("--duration", &options.duration)? / (1000.0 * steps);
        self.set(start)?;
        for step in 1..=STEPS {
            let share = f64::from(step) / steps;
            let mix = |at: usize| start[at] * (1.0 - share) + end[at] * share;
            self.set([mix(0), mix(1), mix(2)])?;
            self.sleep("--duration", pause)?;
        }
        self.set(end)
    }

    /// The values of a colour, drawn by lot for `random`.
    fn draw(&mut self, color: Color) -> Values {
        match color {
            Color::Is(color) => color.bytes().map(f64::from),
            Color::Unknown => BLACK,
            Color::Random => std::array::from_fn(|_| f64::from(self.world.random())),
        }
    }

    fn stretch(&self, values: Values) -> Result<Values, RawError> {
        let stretch = |value| self.limit.undo(value).ok_or(RawError::NoLimit);
        let [red, green, blue] = values;
        Ok([stretch(red)?, stretch(green)?, stretch(blue)?])
    }

    /// The colour that the LED has now; the original regards `--inverse` only for the first.
    fn current(&mut self) -> Result<Values, RawError> {
        let index = match self.target {
            Target::Led { index, .. } => index,
            Target::Frame { .. } => 0,
        };
        if index == 0 {
            let values = first_led(self.stick)?;
            return Ok(values.map(|value| f64::from(if self.inverse { 255 - value } else { value })));
        }
        let (report, leds) = frame_for(index.saturating_add(1));
        let reply = get(self.stick, report, 2 + 3 * leds)?;
        let led = usize::try_from(index).ok().and_then(|index| reply.get(2..)?.chunks_exact(3).nth(index));
        match led {
            Some([green, red, blue]) => Ok([*red, *green, *blue].map(f64::from)),
            _ => Err(RawError::NoLed(index)),
        }
    }

    /// Sends a colour, limited first and inverted then; that a transfer fails is no error unless in strict mode.
    fn set(&mut self, values: Values) -> Result<(), RawError> {
        let [red, green, blue] = values;
        let [red, green, blue] = [self.channel(red)?, self.channel(green)?, self.channel(blue)?];
        let (report, payload) = match self.target {
            Target::Led { channel: 0, index: 0 } => (1, vec![red, green, blue]),
            Target::Led { channel, index } => {
                (5, vec![byte("--channel", channel)?, byte("--index", index)?, red, green, blue])
            }
            Target::Frame { channel, report, leds } => {
                let mut frame = vec![byte("--channel", channel)?];
                frame.extend([green, red, blue].repeat(leds));
                (report, frame)
            }
        };
        match send(self.stick, report, &payload) {
            Err(error) if !self.strict => {
                if !self.has_warned {
                    log::warn!("{}", Chain(&error));
                }
                self.has_warned = true;
                Ok(())
            }
            other => other,
        }
    }

    fn channel(&self, value: f64) -> Result<u8, RawError> {
        let limited = self.limit.apply(value);
        let sent = if self.inverse { 255.0 - limited } else { limited };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a whole number; one too large for i64 is out of range too"
        )]
        let sent = sent as i64;
        u8::try_from(sent).map_err(|_| RawError::Channel(sent))
    }

    /// Waits; `option` is where the time comes from.
    fn sleep(&mut self, option: &'static str, seconds: f64) -> Result<(), RawError> {
        if !(0.0..LONGEST_PAUSE).contains(&seconds) {
            return Err(RawError::Pause(option));
        }
        self.world.sleep(seconds);
        Ok(())
    }
}

/// How all LEDs of a stick are set: by a frame where the model and its mode take one, else as one.
fn whole_stick(stick: &mut dyn Stick, channel: i64) -> Result<Target, RawError> {
    const RGB_MODE: u8 = 0;
    const MIRROR_MODE: u8 = 3;
    let as_one = Target::Led { channel: 0, index: 0 };
    let leds = match stick.identity().variant() {
        None | Some(Variant::BlinkStick | Variant::Unknown) => return Ok(as_one),
        Some(Variant::Pro) => 64,
        Some(Variant::Square | Variant::Strip | Variant::Nano) => 8,
        Some(Variant::Flex) => get(stick, 0x81, 2).ok().and_then(|reply| reply.get(1).copied()).unwrap_or(32),
    };
    let mode = get(stick, 4, 2)?.get(1).copied().unwrap_or(RGB_MODE);
    let takes_no_frame = match stick.identity().variant() {
        Some(Variant::Pro) => mode != 2,
        _ => mode == MIRROR_MODE,
    };
    if takes_no_frame {
        return Ok(as_one);
    }
    let (report, leds) = frame_for(i64::from(leds));
    Ok(Target::Frame { channel, report, leds })
}

/// The smallest frame report for this many LEDs, and how many it has.
fn frame_for(leds: i64) -> (u8, usize) {
    match leds {
        ..=8 => (6, 8),
        9..=16 => (7, 16),
        17..=32 => (8, 32),
        33.. => (9, 64),
    }
}

/// The colour of the first LED as the stick tells it.
fn first_led(stick: &mut dyn Stick) -> Result<[u8; 3], RawError> {
    let reply = get(stick, 1, 33)?;
    match reply.get(1..4) {
        Some(&[red, green, blue]) => Ok([red, green, blue]),
        _ => Err(RawError::Short { serial: stick.identity().serial.clone(), report: 1, length: reply.len() }),
    }
}

fn send(stick: &mut dyn Stick, report: u8, payload: &[u8]) -> Result<(), RawError> {
    stick.send(report, payload).map_err(|source| {
        let serial = stick.identity().serial.clone();
        RawError::Transfer { verb: "send", direction: "to", serial, report, source }
    })
}

fn get(stick: &mut dyn Stick, report: u8, length: usize) -> Result<Vec<u8>, RawError> {
    stick.get(report, length).map_err(|source| {
        let serial = stick.identity().serial.clone();
        RawError::Transfer { verb: "get", direction: "from", serial, report, source }
    })
}

fn whole(option: &'static str, text: &str) -> Result<i64, RawError> {
    number::whole(text).ok_or_else(|| RawError::Number { option, text: text.to_owned(), kind: "whole " })
}

fn decimal(option: &'static str, text: &str) -> Result<f64, RawError> {
    number::decimal(text).ok_or_else(|| RawError::Number { option, text: text.to_owned(), kind: "" })
}

fn byte(option: &'static str, value: i64) -> Result<u8, RawError> {
    u8::try_from(value).map_err(|_| RawError::Byte { option, value })
}
