//! What holds for any colour, number and command line; few cases, so that every run of the tests can afford them.

use phobos_site::led::color::Rgb;
use proptest::prelude::*;

use crate::color::{Color, Limit};
use crate::options::{Options, Parsed, parse};

/// Words as they occur in command lines, and words that almost do.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "--(i|in|ind|inde|index|inv|set-|set-c|set-color|b|bl|br|limit|delay|serial|strict|all|help|nope)(=.{0,4})?",
        2 => "-[ivsh1x=-]{1,4}",
        1 => Just("--".to_owned()),
        2 => "#?[0-9a-fA-FxX_+ ]{0,8}",
        1 => "\\PC{0,8}",
    ]
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_command_line_is_options_or_help_or_one_line_of_complaint(args in prop::collection::vec(word(), 0..8)) {
        match parse(&args) {
            Ok(_) => {}
            Err(error) => {
                let told = error.to_string();
                prop_assert!(!told.is_empty() && told.contains("option"), "{told}");
            }
        }
    }

    #[test]
    fn behind_two_dashes_everything_is_a_colour(args in prop::collection::vec(word(), 1..8)) {
        let line: Vec<_> = std::iter::once("--".to_owned()).chain(args.clone()).collect();
        let want = Options { color: args.first().cloned(), ..Options::default() };
        prop_assert_eq!(parse(&line), Ok(Parsed::Options(Box::new(want))));
    }

    #[test]
    fn a_value_is_taken_as_it_is(value in "\\PC{0,12}", color in "[^-]\\PC{0,8}") {
        let forms = [
            vec!["--serial".to_owned(), value.clone(), color.clone()],
            vec![format!("--serial={value}"), color.clone()],
            vec![color.clone(), format!("--ser={value}")],
            vec!["-s".to_owned(), value.clone(), color.clone()],
        ];
        let want = Options { serial: Some(value), color: Some(color), ..Options::default() };
        for form in forms {
            prop_assert_eq!(parse(&form), Ok(Parsed::Options(Box::new(want.clone()))));
        }
    }

    #[test]
    fn six_digits_are_the_colour_that_they_spell(red: u8, green: u8, blue: u8) {
        let color = Rgb { red, green, blue };
        let text = color.to_string();
        for text in [text.clone(), text.to_uppercase(), text[1..].to_owned(), text[1..].to_uppercase()] {
            prop_assert_eq!(Color::read(&text), Color::Is(color));
            prop_assert_eq!(Rgb::try_from(text.as_str()), Ok(color));
        }
    }

    /// The configuration is stricter than blinkstick's command line, but never means another colour.
    #[test]
    fn the_configuration_and_the_command_line_mean_the_same_colour(text in "#?\\PC{0,9}") {
        match (Rgb::try_from(text.as_str()), Color::read(&text)) {
            (Ok(color), read) => prop_assert_eq!(read, Color::Is(color)),
            (Err(_), read) => prop_assert!(matches!(read, Color::Unknown | Color::Random)),
        }
    }

    #[test]
    fn numbers_survive_what_python_allows_around_them(value: i32, before in "[ \t\n]{0,3}", after in "[ \t\n]{0,3}") {
        let sign = if value >= 0 { "+" } else { "" };
        let text = format!("{before}{sign}{value}{after}");
        prop_assert_eq!(crate::number::whole(&text), Some(i64::from(value)));
        prop_assert_eq!(crate::number::decimal(&text), Some(f64::from(value)));
    }

    #[test]
    fn no_text_upsets_the_readers_of_numbers(text in "[0-9_.eE+\\- naifx]{0,12}|\\PC{0,6}") {
        if crate::number::whole(&text).is_some() {
            prop_assert!(crate::number::decimal(&text).is_some(), "{text:?}");
        }
    }

    #[test]
    fn a_limit_keeps_order_and_bounds(percent in 0.0..=100.0, one: u8, other: u8) {
        let limit = Limit::percent(percent).unwrap();
        let apply = |value: u8| limit.apply(f64::from(value));
        let (low, high) = (one.min(other), one.max(other));
        prop_assert!(apply(low) <= apply(high) && apply(high) <= f64::from(high) && apply(low) >= 0.0);
    }
}
