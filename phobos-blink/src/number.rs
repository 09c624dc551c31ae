//! Numbers as Python's `int()` and `float()` read them, which is how blinkstick reads its arguments.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

/// A whole number: white space around it, a sign, and single underscores between digits are allowed.
///
/// A number beyond `i64` becomes the nearest one within it, which is out of every range that matters.
pub(crate) fn whole(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !are_digits(digits) {
        return None;
    }
    let value = digits
        .chars()
        .filter_map(|c| c.to_digit(10))
        .fold(0_i64, |value, digit| value.saturating_mul(10).saturating_add(i64::from(digit)));
    Some(if negative { value.saturating_neg() } else { value })
}

/// A decimal number, `inf` and `nan` included.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    let text = text.trim();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if ["inf", "infinity", "nan"].iter().any(|word| unsigned.eq_ignore_ascii_case(word)) {
        return text.parse().ok();
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_part = |part: &str| part.is_empty() || are_digits(part);
    let is_good = is_part(before)
        && is_part(after)
        && !(before.is_empty() && after.is_empty())
        && exponent.is_none_or(|text| are_digits(text.strip_prefix(['+', '-']).unwrap_or(text)));
    if is_good { text.replace('_', "").parse().ok() } else { None }
}

/// Whether `text` is one or more digits, with single underscores only between two of them.
fn are_digits(text: &str) -> bool {
    text.split('_').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_as_python_reads_them() {
        let good = [("3", 3), (" 3 ", 3), ("+2", 2), ("1_0", 10), ("01", 1), ("-0", 0), ("\t-12\n", -12)];
        for (text, want) in good {
            assert_eq!(whole(text), Some(want), "{text:?}");
        }
        assert_eq!(whole("99999999999999999999"), Some(i64::MAX));
        assert_eq!((whole("\u{85}7\u{a0}"), whole("\u{1f}7")), (Some(7), None));
        for text in ["", " ", "abc", "1.5", "0x10", "1__0", "_1", "1_", "+ 1", "--1", "1e3", "+", "1 2"] {
            assert_eq!(whole(text), None, "{text:?}");
        }
    }

    #[test]
    fn decimal_numbers_are_read_as_python_reads_them() {
        let good = [
            ("50.5", 50.5),
            ("1e2", 100.0),
            (".5", 0.5),
            ("5.", 5.0),
            (" +1_0.2_5 ", 10.25),
            ("-1E-2", -0.01),
            ("1e999", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("inf", f64::INFINITY),
        ];
        for (text, want) in good {
            assert_eq!(decimal(text), Some(want), "{text:?}");
        }
        assert!(decimal("NaN").unwrap().is_nan() && decimal("-nan").unwrap().is_nan());
        for text in ["", ".", "e5", "1e", "0x1", "1__0", "1_.5", "1._5", "1e_5", "in", "1,5", "+-1", "1 2"] {
            assert_eq!(decimal(text), None, "{text:?}");
        }
    }

    #[test]
    fn fuzz_python_numbers() {
        phobos_fuzz::target("python_numbers", &[b"12", b"-0x1f", b"1_000", b" 1e5 ", b"inf", b"0.5"], |input| {
            let text = String::from_utf8_lossy(input);
            std::hint::black_box((whole(&text), decimal(&text)));
        });
    }
}
