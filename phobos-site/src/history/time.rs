//! The times of a history, of which ten years have some 400,000.

use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Deserializer;
use serde::de::Visitor;

/// Reads a time. Those that phobos writes have one form, which chrono's general parser takes ten times as long for.
pub(super) fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    struct Moment;
    impl Visitor<'_> for Moment {
        type Value = DateTime<Utc>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time as of RFC 3339")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            utc(text.as_bytes()).map_or_else(|| text.parse().map_err(E::custom), Ok)
        }
    }
    deserializer.deserialize_str(Moment)
}

/// Reads `YYYY-MM-DDTHH:MM:SS[.FRACTION]Z`; `None` for anything else.
pub(super) fn utc(text: &[u8]) -> Option<DateTime<Utc>> {
    let (whole, rest) = text.split_first_chunk::<19>()?;
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', n0, n1, b':', s0, s1] = *whole else {
        return None;
    };
    let fraction = match rest {
        b"Z" => &[],
        [b'.', digits @ .., b'Z'] if !digits.is_empty() => digits,
        _ => return None,
    };
    let mut places = [b'0'; 9];
    places.get_mut(..fraction.len())?.copy_from_slice(fraction);
    let [f0, f1, f2, f3, f4, f5, f6, f7, f8] = places;
    let date = number_of([y0, y1, y2, y3, m0, m1, d0, d1])?;
    let time = number_of([b'0', b'0', h0, h1, n0, n1, s0, s1])?;
    let nanos = number_of([b'0', f0, f1, f2, f3, f4, f5, f6])?.checked_mul(100)?;
    let nanos = nanos.checked_add(number_of([b'0', b'0', b'0', b'0', b'0', b'0', f7, f8])?)?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(date / 10_000).ok()?, date / 100 % 100, date % 100)?;
    Some(date.and_hms_nano_opt(time / 10_000, time / 100 % 100, time % 100, nanos)?.and_utc())
}

/// The number that eight digits are, `None` if one of them is none: all at once, for ten years have some ten million of them.
fn number_of(digits: [u8; 8]) -> Option<u32> {
    // Each byte becomes what its digit counts; whatever is no digit is above 9 then.
    let ones = u64::from_be_bytes(digits) ^ 0x3030_3030_3030_3030;
    if (ones | ones.wrapping_add(0x0606_0606_0606_0606)) & 0xf0f0_f0f0_f0f0_f0f0 != 0 {
        return None;
    }
    // Neighbours are put together: to 4 numbers below 100, 2 below 10,000, and one.
    let join =
        |all: u64, bits: u32, low: u64, base: u64| ((all >> bits) & low).wrapping_mul(base).wrapping_add(all & low);
    let tens = join(ones, 8, 0x00ff_00ff_00ff_00ff, 10);
    let thousands = join(tens, 16, 0x0000_ffff_0000_ffff, 100);
    u32::try_from(join(thousands, 32, 0xffff_ffff, 10_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_digits_are_a_number_and_nothing_else_is() {
        for number in (0..100_000_000).step_by(7919).chain([0, 1, 99_999_999]) {
            assert_eq!(number_of(format!("{number:08}").as_bytes().try_into().unwrap()), Some(number));
        }
        for place in 0..8 {
            for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
                for others in [b'0', b'9'] {
                    let mut digits = [others; 8];
                    digits[place] = byte;
                    assert_eq!(number_of(digits), None, "{digits:?}");
                }
            }
        }
    }

    proptest::proptest! {
        /// Times are read as chrono reads them, and whatever is not of the one form is left to it.
        #[test]
        fn a_time_that_is_read_quickly_is_what_chrono_takes_it_for(
            text in "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,10})?Z?",
            at in 0_usize..40,
            by in "[0-9:TZ./ +-]",
        ) {
            let mut damaged = text.clone();
            if at < text.len() {
                damaged.replace_range(at..=at, &by);
            }
            for text in [text, damaged] {
                if let Some(time) = utc(text.as_bytes()) {
                    proptest::prop_assert_eq!(text.parse::<DateTime<Utc>>().ok(), Some(time), "{}", text);
                }
            }
        }
    }
}
