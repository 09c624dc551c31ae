//! Recovery passphrases: words chosen by lot, which people can write down and type.
//!
//! The words are those of BIP 39 (`english.txt` of trezor/python-mnemonic, MIT licence, Copyright 2013-2016 Pavol Rusnak): 2048
//! common ones, of which no two begin with the same four letters.

use std::fmt;
use std::io;

use phobos_core::luks::fill_random;

/// The list.
const WORDS: &str = include_str!("passphrase-words.txt");

/// How many words there are: as many as eleven bits tell apart.
const COUNT: usize = 2048;

/// How many of them a passphrase has: 88 bits, which nobody guesses.
const LENGTH: usize = 8;

/// A passphrase; it is shown only where that is asked for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Passphrase(String);

impl Passphrase {
    /// A new one.
    ///
    /// # Errors
    ///
    /// When the kernel has no random numbers.
    pub(crate) fn random() -> io::Result<Self> {
        let mut bytes = [0; 2 * LENGTH];
        fill_random(&mut bytes)?;
        Ok(Self::of(&bytes))
    }

    /// What somebody has typed: letters in any case, blanks where there are some.
    pub(crate) fn typed(text: &str) -> Self {
        Self(text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" "))
    }

    /// A word for each two bytes.
    fn of(bytes: &[u8]) -> Self {
        let all: Vec<_> = WORDS.split_whitespace().collect();
        // The list is as long as a power of two, so that no word comes more often than another.
        let words = bytes.chunks_exact(2).filter_map(|pair| match pair {
            [high, low] => all.get((usize::from(*high) << 8 | usize::from(*low)) % COUNT).copied(),
            _ => None,
        });
        Self(words.collect::<Vec<_>>().join(" "))
    }

    /// The words, with a blank between them.
    pub(crate) fn words(&self) -> &str {
        &self.0
    }

    /// What a program gets as the key.
    pub(crate) fn key(&self) -> Vec<u8> {
        self.0.clone().into_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn words_are_known_by_four_letters_and_each_is_as_likely() {
        let words: Vec<_> = WORDS.split_whitespace().collect();
        assert_eq!(words.len(), COUNT);
        assert!(words.iter().all(|word| word.len() <= 8 && word.bytes().all(|byte| byte.is_ascii_lowercase())));
        let beginnings: BTreeSet<_> = words.iter().map(|word| word.get(..4).unwrap_or(word)).collect();
        assert_eq!(beginnings.len(), COUNT);
    }

    #[test]
    fn a_passphrase_is_eight_words_that_nobody_knows_beforehand() {
        let [one, other] = [Passphrase::random().unwrap(), Passphrase::random().unwrap()];
        assert_ne!(one, other);
        assert_eq!(one.words().split(' ').count(), LENGTH);
        assert_eq!(format!("{one:?}"), "Passphrase(..)");
        assert_eq!(Passphrase::of(&[0, 0, 7, 255, 8, 0]).words(), "abandon zoo abandon");
        assert_eq!(Passphrase::typed("  Abandon\tZOO ").key(), b"abandon zoo");
    }
}
