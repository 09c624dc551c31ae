//! Command lines for blinkstick, made by lot.

/// Colours that are one, in every way to write them, and words that almost are.
const COLORS: [&str; 30] = [
    "red",
    "green",
    "blue",
    "yellow",
    "white",
    "black",
    "off",
    "MediumPurple",
    "palevioletred",
    "LIGHTSLATEGREY",
    "#ff8040",
    "#F84",
    "ff8040",
    "FF3366",
    "010203",
    "#ffffff",
    "7f7f7f",
    "00ff00",
    "random",
    "f84",
    "nosuch",
    "OFF",
    "#",
    "#ff804",
    "1_2345",
    "+12345",
    "0x1234",
    " 1234 ",
    "",
    "-",
];

/// How many of [`COLORS`] are colours.
const GOOD_COLORS: usize = 19;

/// Values of options: as one would give them, and as one would not.
const INDEXES: Values = Values {
    good: &["0", "1", "2", "7", "8", "16", "31", "32", "63", " 3 ", "+2", "01"],
    bad: &["64", "255", "256", "-1", "abc", "", "1.5", "0x1", "1__0"],
};
const CHANNELS: Values = Values { good: &["0", "1", "2"], bad: &["3", "300", "-1", "x", ""] };
const LIMITS: Values = Values {
    good: &["100", "50", "10", "33", "1", "0", "99.9", "50.5", "1e1", " 20 ", "7_5"],
    bad: &["nan", "inf", "abc", "", "1,5"],
};
/// Limits under which the colours of some cases are out of range, and those of others are not.
const WILD_LIMITS: [&str; 4] = ["101", "150", "-5", "1000"];
const DELAYS: Values = Values { good: &["0", "1", "5", "20", "2.5", "1e1"], bad: &["-1", "abc", "nan", "inf", ""] };
const DURATIONS: Values = Values { good: &["0", "20", "51", "100"], bad: &["-1", "abc", "nan", "1e999"] };
const REPEATS: Values = Values { good: &["1", "2", "3", "0"], bad: &["-1", "1.5", "x"] };
const MODES: Values = Values { good: &["0", "1", "2", "3"], bad: &["4", "02", " 1", "x", ""] };
const COUNTS: Values = Values { good: &["1", "8", "32", "+5"], bad: &["0", "33", "-1", "x", ""] };
const TEXTS: Values = Values {
    good: &["hello", "Zürich", "with two words", "a text of exactly thirty-two char"],
    bad: &["", "€", "a text that is longer than thirty-two characters"],
};

/// Option names as the original has them.
const NAMES: [&str; 20] = [
    "--help",
    "--info",
    "--serial",
    "--verbose",
    "--channel",
    "--index",
    "--brightness",
    "--limit",
    "--set-color",
    "--inverse",
    "--set-led-count",
    "--blink",
    "--pulse",
    "--morph",
    "--duration",
    "--delay",
    "--repeats",
    "--set-mode",
    "--set-infoblock1",
    "--set-infoblock2",
];

struct Values {
    good: &'static [&'static str],
    bad: &'static [&'static str],
}

/// One command line.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) args: Vec<String>,
    /// Whether its colours are drawn by lot, by either program with dice of its own.
    pub(crate) is_random: bool,
}

/// A sequence of numbers that looks like chance and is the same for the same seed (`SplitMix64`).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.roll() % count.max(1) as u64).unwrap_or_default()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// A value of an option, now and then one that is none.
    fn value(&mut self, values: &Values) -> String {
        let from = if self.one_in(8) { values.bad } else { values.good };
        self.pick(from).to_owned()
    }

    fn color(&mut self) -> String {
        let count = if self.one_in(5) { COLORS.len() } else { GOOD_COLORS };
        self.pick(&COLORS[..count]).to_owned()
    }

    /// A command line for one of these sticks.
    pub(crate) fn case(&mut self, serials: &[&str]) -> Case {
        let mut given: Vec<(&str, Option<String>)> = Vec::new();
        let mut color = None;
        match self.below(20) {
            0..=8 => color = Some(self.color()),
            9..=11 => {
                color = Some(self.color());
                given.push(("--blink", None));
                given.push(("--delay", Some(self.value(&DELAYS))));
                given.push(("--repeats", Some(self.value(&REPEATS))));
            }
            12 => {
                color = Some(self.color());
                given.push(("--morph", None));
                given.push(("--duration", Some(self.value(&DURATIONS))));
            }
            13 => {
                color = Some(self.color());
                given.push(("--pulse", None));
                given.push(("--duration", Some(self.value(&DURATIONS))));
            }
            14 | 15 => given.push(("--info", None)),
            16 => given.push(("--set-mode", Some(self.value(&MODES)))),
            17 => given.push(("--set-led-count", Some(self.value(&COUNTS)))),
            18 => {
                let name = if self.one_in(2) { "--set-infoblock1" } else { "--set-infoblock2" };
                given.push((name, Some(self.value(&TEXTS))));
            }
            _ => {}
        }
        self.add_any(&mut given, &mut color, serials);
        let is_random =
            color.as_deref() == Some("random") || given.iter().any(|(_, value)| value.as_deref() == Some("random"));
        // Whether a colour drawn by lot is out of range is a matter of luck.
        if !is_random && self.one_in(12) {
            given.push(("--limit", Some(self.pick(&WILD_LIMITS).to_owned())));
        }
        Case { args: self.line(given, color), is_random }
    }

    /// Adds what may go with every command.
    fn add_any(
        &mut self,
        given: &mut Vec<(&'static str, Option<String>)>,
        color: &mut Option<String>,
        serials: &[&str],
    ) {
        let valued = [
            ("--index", &INDEXES, 3),
            ("--channel", &CHANNELS, 8),
            ("--limit", &LIMITS, 4),
            ("--brightness", &LIMITS, 8),
            ("--set-mode", &MODES, 30),
            ("--set-led-count", &COUNTS, 40),
            ("--set-infoblock1", &TEXTS, 30),
            ("--delay", &DELAYS, 40),
        ];
        for (name, values, odds) in valued {
            if self.one_in(odds) {
                given.push((name, Some(self.value(values))));
            }
        }
        for (name, odds) in [("--inverse", 5), ("--verbose", 10), ("--info", 30), ("--blink", 50), ("--help", 60)] {
            if self.one_in(odds) {
                given.push((name, None));
            }
        }
        if self.one_in(6) {
            let unknown = ["BS999999-1.0", "bs000001-1.0", ""];
            let serial = if self.one_in(4) { self.pick(&unknown) } else { self.pick(serials) };
            given.push(("--serial", Some(serial.to_owned())));
        }
        if color.is_some() && self.one_in(3) {
            given.push(("--set-color", color.take()));
            *color = self.one_in(3).then(|| self.color());
        }
    }

    /// Writes options and colour down, in any order and in any of the ways that optparse takes.
    fn line(&mut self, mut given: Vec<(&str, Option<String>)>, color: Option<String>) -> Vec<String> {
        let mut args = Vec::new();
        let place = self.below(given.len() + 1);
        let mut left = color;
        for number in 0..=given.len() {
            if number == place {
                args.extend(left.take());
            }
            if given.is_empty() {
                break;
            }
            let (name, value) = given.swap_remove(self.below(given.len()));
            self.write(&mut args, name, value);
        }
        args.extend(left);
        if self.one_in(30) {
            args.insert(
                self.below(args.len() + 1),
                self.pick(&["--nope", "-x", "-i1", "--info=1", "--index", "--", "-vv", "-123"]).to_owned(),
            );
        }
        args
    }

    fn write(&mut self, args: &mut Vec<String>, name: &str, value: Option<String>) {
        let letter = match name {
            "--info" => Some("-i"),
            "--serial" => Some("-s"),
            "--verbose" => Some("-v"),
            "--help" => Some("-h"),
            _ => None,
        };
        let is_short = letter.is_some() && self.one_in(2);
        let name = match letter {
            Some(letter) if is_short => letter.to_owned(),
            _ => self.shortened(name),
        };
        match value {
            None => args.push(name),
            Some(value) if self.one_in(2) => {
                args.push(if is_short { name + &value } else { format!("{name}={value}") });
            }
            Some(value) => args.extend([name, value]),
        }
    }

    /// An option's name, or a beginning of it, which now and then is that of several.
    fn shortened(&mut self, name: &str) -> String {
        if !self.one_in(4) {
            return name.to_owned();
        }
        let start = &name[..3 + self.below(name.len() - 3)];
        let is_clear = NAMES.iter().filter(|other| other.starts_with(start)).count() == 1;
        if is_clear || self.one_in(5) { start.to_owned() } else { name.to_owned() }
    }
}
