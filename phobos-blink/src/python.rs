//! What Python itself does with numbers, command lines and help texts, recorded, and that this does the same.
//!
//! The fixtures are made with Python 3.11's `int`, `float`, `optparse` and `textwrap` from random input.

use serde_json::Value;

use crate::options::{Options, Parsed, parse};

#[test]
fn numbers_are_read_as_python_reads_them() {
    let cases: Vec<(String, Option<Value>, Option<String>)> =
        serde_json::from_str(include_str!("../fixtures/python-3.11-numbers.json")).unwrap();
    for (text, whole, decimal) in cases {
        assert_eq!(crate::number::whole(&text).map(Value::from), whole, "{text:?}");
        let ours = crate::number::decimal(&text);
        match decimal {
            Some(theirs) if theirs == "nan" => assert!(ours.unwrap().is_nan(), "{text:?}"),
            Some(theirs) => assert_eq!(ours, Some(theirs.parse().unwrap()), "{text:?}"),
            None => assert_eq!(ours, None, "{text:?}"),
        }
    }
}

#[test]
fn command_lines_are_read_as_optparse_reads_them() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../fixtures/python-3.11-optparse.json")).unwrap();
    for case in cases {
        let args: Vec<String> = serde_json::from_value(case["argv"].clone()).unwrap();
        let ours = parse(&args);
        if let Some(error) = case["error"].as_str() {
            assert_eq!(ours.unwrap_err().to_string(), error, "{args:?}");
        } else if case["help"] == true {
            assert_eq!(ours, Ok(Parsed::Help), "{args:?}");
        } else {
            assert_eq!(ours, Ok(Parsed::Options(Box::new(options(&case)))), "{args:?}");
        }
    }
}

/// The options that a recorded case has; an empty value counts as none, as the original takes it.
fn options(case: &Value) -> Options {
    let given = &case["options"];
    let flag = |name: &str| given[name] == true;
    let text = |name: &str| given[name].as_str().map(str::to_owned);
    let or = |name: &str, default: &str| text(name).unwrap_or_else(|| default.to_owned());
    let filled = |name: &str| text(name).filter(|text| !text.is_empty());
    Options {
        info: flag("info"),
        serial: text("serial"),
        channel: or("channel", "0"),
        index: or("index", "0"),
        limit: or("limit", "100"),
        inverse: flag("inverse"),
        blink: flag("blink"),
        pulse: flag("pulse"),
        morph: flag("morph"),
        duration: or("duration", "1000"),
        delay: or("delay", "500"),
        repeats: or("repeats", "1"),
        mode: filled("mode"),
        led_count: filled("led_count"),
        infoblock1: filled("infoblock1"),
        infoblock2: filled("infoblock2"),
        color: filled("color").or_else(|| case["args"][0].as_str().map(str::to_owned)),
        add_udev_rule: flag("add_udev_rule"),
        ..Options::default()
    }
}

#[test]
fn the_help_is_laid_out_as_optparse_lays_it_out() {
    let cases: std::collections::BTreeMap<String, String> =
        serde_json::from_str(include_str!("../fixtures/python-3.11-help.json")).unwrap();
    for (columns, want) in cases {
        assert_eq!(crate::help::help("blinkstick", Some(&columns)), want, "COLUMNS={columns}");
    }
}
