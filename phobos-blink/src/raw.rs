//! blinkstick's own commands: the same transfers, the same pauses, the same output, the same exit codes.
//!
//! Where the original ends with a traceback, this ends with one line and the same exit code. Where the original is silent
//! about a mistake, this warns, and with `--strict` it fails.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

mod painter;

use std::io::{self, Write};
use std::path::Path;

use phobos_site::led::color::Rgb;

use crate::color::{Color, Limit};
use crate::number;
use crate::options::Options;
use crate::stick::{Bus, BusError, Identity, Stick, Variant};
use crate::udev;

use self::painter::Painter;

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
            if place.saturating_add(1) < sticks.len() && (options.infoblock1.is_some() || options.infoblock2.is_some())
            {
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
    let [red, green, blue] = first_led(stick)?.map(|value| if inverse { !value } else { value });
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
