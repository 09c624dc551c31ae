//! Colours on one stick, one LED of it or all: at once, blinking, pulsing, morphing.

use phobos_core::error::Chain;
use phobos_site::led::color::Rgb;

use crate::color::{Color, Limit};
use crate::options::Options;
use crate::stick::{Stick, Variant};

use super::{RawError, World, byte, decimal, first_led, get, send, whole};

/// The steps of a morph, its two ends left out.
const STEPS: u32 = 50;

/// The longest pause, in seconds, that Python can make.
const LONGEST_PAUSE: f64 = 9_223_372_036.0;

/// Sets colours on one stick, one LED of it or all.
pub(super) struct Painter<'a> {
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
    pub(super) fn new(
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

    pub(super) fn paint(&mut self, options: &Options, color: Color) -> Result<(), RawError> {
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
            let ([red, green, blue], [to_red, to_green, to_blue]) = (start, end);
            let mix = |from: f64, to: f64| from * (1.0 - share) + to * share;
            self.set([mix(red, to_red), mix(green, to_green), mix(blue, to_blue)])?;
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
            return Ok(values.map(|value| f64::from(if self.inverse { !value } else { value })));
        }
        let (report, leds) = frame_for(index.saturating_add(1));
        let reply = get(self.stick, report, leds.saturating_mul(3).saturating_add(2))?;
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
            clippy::as_conversions,
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
