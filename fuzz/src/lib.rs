//! Feeds a parser with input that is damaged at random: it may refuse anything, but not panic, not go on for ever, and not take
//! more memory than its input is worth.
//!
//! A target is a test in the parser's own crate, in a module `fuzz`, so that what is private can be one. The suite runs some
//! hundred inputs of each, always the same; `cargo xtask fuzz NAME --seconds 600` goes on for as long as one likes, with
//! another seed each time. An input that a parser does not bear is written down, and belongs into the target's corpus then.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How many inputs of each target the suite tries.
const INPUTS: u64 = 500;

/// The longest input, in bytes.
const LONGEST: usize = 32 * 1024;

/// How much memory a parser may have at a time, in bytes: some, and so much for each byte of the input.
const MEMORY: usize = 1024 * 1024;
const MEMORY_PER_BYTE: usize = 512;

/// How long it may compute for one input; the longest takes some milliseconds without optimization.
const TIME: Duration = Duration::from_secs(2);

/// How long no input may take, on a machine that does much else.
const FOR_EVER: Duration = Duration::from_secs(120);

/// What is written in the place of a number.
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1",
    "255",
    "256",
    "65536",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "18446744073709551616",
    "1e308",
    "00000000000000000000000000000001",
];

/// What is put between other things.
const WORDS: [&[u8]; 14] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\\",
    b"\"",
    b"'",
    b"[[",
    b"{{",
    b"\x1b[2J",
    b"\xff\xfe",
    b"\xf0\x9f\x92\xbe",
    b"../",
    b"\\x2",
    b"=",
];

/// Tries `run` on the corpus and on what comes of it.
///
/// # Panics
///
/// When `run` does, when it takes too long, or when it takes too much memory.
pub fn target(name: &str, corpus: &[&[u8]], mut run: impl FnMut(&[u8])) {
    let seconds = number("PHOBOS_FUZZ_SECONDS").map(Duration::from_secs);
    let seed = number("PHOBOS_FUZZ_SEED").unwrap_or(1);
    let watch = Watch::start(name);
    let began = Instant::now();
    let mut lot = Lot(seed ^ name.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into())));
    for input in corpus {
        one(name, seed, input, &mut run);
    }
    let mut tried = 0;
    while seconds.map_or(tried < INPUTS, |limit| began.elapsed() < limit) {
        let input = lot.damaged(corpus);
        one(name, seed, &input, &mut run);
        tried += 1;
        watch.0.fetch_add(1, Ordering::Relaxed);
    }
    if seconds.is_some() {
        say(&format!("{name}: {tried} inputs with the seed {seed}"));
    }
}

/// Tries one input.
fn one(name: &str, seed: u64, input: &[u8], run: &mut impl FnMut(&[u8])) {
    let began = computed();
    let mut ended = Ok(());
    let memory = allocation_counter::measure(|| ended = catch_unwind(AssertUnwindSafe(|| run(input))));
    let took = computed().saturating_sub(began);
    let most = MEMORY + MEMORY_PER_BYTE * input.len();
    let wrong = match &ended {
        Err(_) => Some("it panics".to_owned()),
        Ok(()) if took > TIME => Some(format!("it takes {took:?}")),
        Ok(()) if memory.bytes_max > u64::try_from(most).unwrap_or(u64::MAX) => {
            Some(format!("it takes {} bytes of memory", memory.bytes_max))
        }
        Ok(()) => None,
    };
    let Some(wrong) = wrong else { return };
    let file = std::env::temp_dir().join(format!("phobos-fuzz-{name}"));
    let kept = std::fs::write(&file, input).map_or_else(|error| error.to_string(), |()| file.display().to_string());
    say(&format!("{name}, seed {seed}: {wrong} on {} ({kept})", input.escape_ascii()));
    match ended {
        Err(panic) => resume_unwind(panic),
        #[expect(clippy::panic, reason = "this is how a test fails")]
        Ok(()) => panic!("{name}: {wrong}"),
    }
}

/// How long this thread has computed, whatever else the machine did meanwhile.
pub fn computed() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let (secs, nanos) = (u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default());
    Duration::new(secs, nanos)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[expect(clippy::print_stderr, reason = "a test's standard error is where its reader looks")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Ends the test program when no input comes to an end: nothing else can end a loop.
struct Watch(Arc<AtomicU64>);

impl Watch {
    fn start(name: &str) -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let (seen, name) = (Arc::downgrade(&count), name.to_owned());
        std::thread::spawn(move || {
            let (mut last, mut since) = (0, Instant::now());
            while let Some(count) = seen.upgrade() {
                let now = count.load(Ordering::Relaxed);
                drop(count);
                if now != last {
                    (last, since) = (now, Instant::now());
                } else if since.elapsed() > FOR_EVER {
                    say(&format!("{name}: an input takes for ever"));
                    std::process::abort();
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Self(count)
    }
}

/// Draws lots: `SplitMix64` (Steele, Lea and Flood, 2014).
struct Lot(u64);

impl Lot {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Something below `count`; 0 where there is nothing.
    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % count).unwrap_or_default()
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> Option<&'a T> {
        all.get(self.below(all.len())).copied()
    }

    /// A range of an input that is `length` long.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = (length - start).min(1 << self.below(12));
        start..start + self.below(most + 1)
    }

    /// Something from the corpus, damaged a few times.
    fn damaged(&mut self, corpus: &[&[u8]]) -> Vec<u8> {
        let mut input = self.of(corpus).unwrap_or_default().to_vec();
        for _ in 0..=self.below(6) {
            self.damage(&mut input, corpus);
        }
        input.truncate(LONGEST);
        input
    }

    fn damage(&mut self, input: &mut Vec<u8>, corpus: &[&[u8]]) {
        let range = self.range(input.len());
        let at = range.start;
        match self.below(10) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = [0, 1, 0x7f, 0x80, 0xff, b'\n', b' ', b'-'][self.below(8)];
                }
            }
            2 => drop(input.splice(range, std::iter::empty())),
            3 => input.truncate(at),
            4 => {
                let part: Vec<u8> = input.get(range).unwrap_or_default().to_vec();
                for _ in 0..=self.below(20) {
                    input.splice(at..at, part.iter().copied());
                    if input.len() > LONGEST {
                        break;
                    }
                }
            }
            5 => {
                let other = self.of(corpus).unwrap_or_default();
                let part = other.get(self.range(other.len())).unwrap_or_default().to_vec();
                input.splice(range, part);
            }
            6 => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            7 => {
                let number = Self::number(input, at);
                input.splice(number, NUMBERS[self.below(NUMBERS.len())].bytes());
            }
            8 => {
                let many: Vec<u8> = (0..self.below(9)).map(|_| self.next().to_le_bytes()[0]).collect();
                input.splice(range, many);
            }
            _ => {
                let wide = [u64::MAX, 0, 1, 1 << 31, (1 << 32) - 1, 1 << 63][self.below(6)].to_le_bytes();
                let width = [1, 2, 4, 8][self.below(4)];
                let end = (at + width).min(input.len());
                input.splice(at..end, wide.into_iter().take(width));
            }
        }
    }

    /// The next number in decimal digits from `at` on, or nothing there.
    fn number(input: &[u8], at: usize) -> std::ops::Range<usize> {
        let rest = input.get(at..).unwrap_or_default();
        let Some(start) = rest.iter().position(u8::is_ascii_digit) else { return at..at };
        let digits = rest[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        at + start..at + start + digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_is_found() {
        let corpus: [&[u8]; 2] = [b"a 17 b\n", b"x"];
        let panics = |run: &mut dyn FnMut(&[u8])| {
            catch_unwind(AssertUnwindSafe(|| target("trial", &corpus, |input| run(input)))).is_err()
        };
        assert!(!panics(&mut |_| {}));
        assert!(panics(&mut |input| assert!(!input.windows(5).any(|part| part == b"65536"))));
        assert!(panics(&mut |input| assert!(input.len() < 100)));
        assert!(panics(&mut |_| drop(vec![0_u8; 2 * MEMORY + MEMORY_PER_BYTE * LONGEST])));
        let mut kept = Vec::new();
        assert!(!panics(&mut |input| kept.push(input.len())), "what is kept is the caller's");
    }

    #[test]
    fn a_seed_gives_the_same_inputs() {
        let corpus: [&[u8]; 1] = [b"one 2 three"];
        let inputs = || {
            let mut lot = Lot(7);
            (0..500).map(|_| lot.damaged(&corpus)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(), inputs());
        assert!(inputs().iter().any(Vec::is_empty) && inputs().iter().any(|input| input.len() > 11));
    }
}
