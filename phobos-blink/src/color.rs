//! What a colour's text means to blinkstick, and its arithmetic, in the same floating-point steps.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use phobos_site::led::color::Rgb;

/// What a text means as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Color {
    /// This colour.
    Is(Rgb),
    /// Another one each time.
    Random,
    /// Nothing; blinkstick takes it for black.
    Unknown,
}

impl Color {
    /// Reads a text as blinkstick does; three digits without `#` are none, and only `off` and `random` need lower case.
    pub(crate) fn read(text: &str) -> Self {
        let found = if let Some(digits) = text.strip_prefix('#') {
            // blinkstick's pattern ends with `$`, which lets one line end pass.
            Rgb::from_hex(digits.strip_suffix('\n').unwrap_or(digits))
        } else if text == "random" {
            return Self::Random;
        } else if text == "off" {
            Some(Rgb::BLACK)
        } else {
            Rgb::from_hex(text).filter(|_| text.len() == 6).or_else(|| Rgb::named(text))
        };
        found.map_or(Self::Unknown, Self::Is)
    }
}

/// The brightest that a channel may get, as `--limit` says; may be any whole number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limit(f64);

impl Limit {
    /// The limit of `percent`; `None` if that is no finite number.
    pub(crate) fn percent(percent: f64) -> Option<Self> {
        let max = percent / 100.0 * 255.0;
        max.is_finite().then(|| Self(max.trunc()))
    }

    /// Scales a channel's value down to the limit.
    pub(crate) fn apply(self, value: f64) -> f64 {
        (value / 255.0 * self.0).trunc()
    }

    /// The value that [`Limit::apply`] would have made `value` of; `None` for the limit 0.
    pub(crate) fn undo(self, value: f64) -> Option<f64> {
        (self.0 != 0.0).then(|| (value / self.0 * 255.0).trunc())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(value: &str) -> Color {
        Color::Is(Rgb::try_from(value).unwrap())
    }

    #[test]
    fn colours_are_read_as_blinkstick_reads_them() {
        for (text, want) in [("red", "#ff0000"), ("FF3366", "#ff3366"), ("#F84", "#ff8844"), ("#f84\n", "#ff8844")] {
            assert_eq!(Color::read(text), is(want), "{text:?}");
        }
        assert_eq!(Color::read("random"), Color::Random);
        for text in ["Random", "OFF", "f84", "#", "", "#ff804", "1_2345", "+12345", " 1234 ", "0x1234", "ff8040\n", "-"]
        {
            assert_eq!(Color::read(text), Color::Unknown, "{text:?}");
        }
    }

    #[test]
    fn every_name_has_the_value_that_blinkstick_gives_it() {
        let names: std::collections::BTreeMap<String, String> =
            serde_json::from_str(include_str!("../fixtures/blinkstick-colors.json")).unwrap();
        assert_eq!(names.len(), 147);
        for (name, value) in names {
            assert_eq!(Color::read(&name), is(&value), "{name}");
            assert_eq!(Color::read(&name.to_uppercase()), is(&value), "{name}");
        }
    }

    #[test]
    fn a_limit_is_what_floating_point_makes_it() {
        let max = |percent| Limit::percent(percent).unwrap().0;
        let cases = [(50.0, 127.0), (33.0, 84.0), (1.0, 2.0), (99.9, 254.0), (50.5, 128.0), (-10.0, -25.0)];
        for (percent, want) in cases {
            assert!((max(percent) - want).abs() < 0.1, "{percent}");
        }
        assert_eq!(Limit::percent(f64::NAN), None);
        assert_eq!(Limit::percent(1e308), None);
    }

    /// The pairs for which whole-number arithmetic would give one more.
    #[test]
    fn scaling_is_done_in_floating_point() {
        let pairs = [
            (155, 51),
            (187, 75),
            (147, 85),
            (171, 85),
            (155, 102),
            (187, 150),
            (155, 153),
            (195, 153),
            (187, 165),
            (147, 170),
            (171, 170),
            (155, 204),
        ];
        for value in 0..=255 {
            for max in 0..=255 {
                let whole = value * max / 255;
                let want = if pairs.contains(&(value, max)) { whole - 1 } else { whole };
                let got = Limit(f64::from(max)).apply(f64::from(value));
                assert!((got - f64::from(want)).abs() < 0.1, "{value} {max}");
            }
        }
    }
}
