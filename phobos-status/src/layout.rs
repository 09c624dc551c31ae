//! Lines for a terminal of 80 columns, or for a pipe: wrapped, in columns, and with colours only where they are wanted.

use std::fmt::Write;

/// How wide a line may be.
pub(crate) const WIDTH: usize = 80;

/// How a word stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Warn,
    Bad,
    Strong,
    Weak,
}

/// Text that is being written.
#[derive(Debug)]
pub(crate) struct Sheet {
    text: String,
    colours: bool,
}

impl Sheet {
    /// An empty one, with colours or without.
    pub(crate) fn new(colours: bool) -> Self {
        Self { text: String::new(), colours }
    }

    /// What was written.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    /// A word in a tone.
    pub(crate) fn tone(&self, tone: Tone, word: &str) -> String {
        if !self.colours || word.is_empty() {
            return word.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31;1",
            Tone::Strong => "1",
            Tone::Weak => "2",
        };
        format!("\u{1b}[{code}m{word}\u{1b}[0m")
    }

    /// An empty line.
    pub(crate) fn gap(&mut self) {
        self.text.push('\n');
    }

    /// A line as it is; it must be short enough.
    pub(crate) fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// A title.
    pub(crate) fn title(&mut self, title: &str) {
        let title = self.tone(Tone::Strong, title.trim_end());
        self.line(&title);
    }

    /// `text` behind `head`, which has a tone; broken between words, its other lines `indent` blanks in.
    pub(crate) fn wrapped(&mut self, tone: Tone, head: &str, text: &str, indent: usize) {
        let mut first = true;
        for line in wrap(text, WIDTH.saturating_sub(indent)) {
            let lead = if first { format!("{head:indent$}") } else { " ".repeat(indent) };
            let blank = lead.trim_end().len();
            let (word, rest) = lead.split_at(blank);
            let word = if first { self.tone(tone, word) } else { word.to_owned() };
            self.line(&format!("{word}{rest}{line}"));
            first = false;
        }
    }
}

/// Breaks `text` between words into lines of `width` characters; a word that is longer is broken itself.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0_usize;
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        let needed = rest.len().saturating_add(usize::from(used > 0));
        if used > 0 && used.saturating_add(needed) > width {
            lines.push(String::new());
            used = 0;
        }
        while !rest.is_empty() {
            let Some(line) = lines.last_mut() else { break };
            if used > 0 {
                line.push(' ');
                used = used.saturating_add(1);
            }
            let tail = rest.split_off(rest.len().min(width.saturating_sub(used).max(1)));
            used = used.saturating_add(rest.len());
            line.extend(rest);
            rest = tail;
            if !rest.is_empty() {
                lines.push(String::new());
                used = 0;
            }
        }
    }
    lines
}

/// `text` in `width` characters: cut, or filled with blanks.
pub(crate) fn cell(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return format!("{text}{}", " ".repeat(width.saturating_sub(length)));
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// The same, with the text at the right.
pub(crate) fn right(text: &str, width: usize) -> String {
    let mut cell = String::new();
    let length = text.chars().count();
    if length > width || write!(cell, "{}{text}", " ".repeat(width.saturating_sub(length))).is_err() {
        return text.chars().take(width).collect();
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_broken_between_words_and_words_only_where_they_must() {
        assert_eq!(wrap("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(
            (cell("grün", 6), cell("grüner", 4), right("7 B", 5)),
            ("grün  ".into(), "grü…".into(), "  7 B".into())
        );
        let mut sheet = Sheet::new(true);
        sheet.wrapped(Tone::Bad, "FAILED", &"word ".repeat(20), 8);
        let text = sheet.finish();
        assert!(text.starts_with("\u{1b}[31;1mFAILED\u{1b}[0m  word word"), "{text:?}");
        assert_eq!(text.lines().nth(1).map(|line| line.starts_with("        word")), Some(true), "{text}");
        assert!(!Sheet::new(false).tone(Tone::Bad, "x").contains('\u{1b}'));
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_no_letter_lost(text in "[ -~äß€]{0,200}", width in 1_usize..90) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width));
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
