//! The help text, laid out as Python's optparse and textwrap lay it out for blinkstick.

use std::collections::VecDeque;

use crate::options::{GENERAL, GROUPS, Opt};

/// What stands above the help and above every complaint about the command line.
const BANNER: &str = "BlinkStick control script 1.2.0\n(c) Agile Innovative Ltd 2013-2014\n";

/// The widest that the column of options gets.
const MAX_COLUMN: usize = 24;

/// The banner and the usage line.
pub(crate) fn usage(program: &str) -> String {
    format!("{BANNER}\nUsage: {program} [options] [color]\n")
}

/// The whole help; `columns` is the variable `COLUMNS`.
pub(crate) fn help(program: &str, columns: Option<&str>) -> String {
    let columns = columns.and_then(crate::number::whole).unwrap_or(80);
    let layout = Layout::new(columns);
    let mut text = usage(program);
    text.push_str("\nOptions:\n");
    for opt in GENERAL {
        layout.option(&mut text, 2, opt);
    }
    for group in GROUPS {
        text.push_str("\n  ");
        text.push_str(group.title);
        text.push_str(":\n");
        if !group.description.is_empty() {
            for line in wrap(group.description, (layout.width - 4).max(11) - 4) {
                line_to(&mut text, 4, &line);
            }
            text.push('\n');
        }
        for opt in group.options {
            layout.option(&mut text, 4, opt);
        }
    }
    text
}

/// Where the columns are.
struct Layout {
    width: i64,
    /// Where the texts of the options begin.
    column: usize,
}

impl Layout {
    fn new(columns: i64) -> Self {
        let width = columns.saturating_sub(2);
        let most = usize::try_from((width - 20).max(4)).map_or(MAX_COLUMN, |most| most.min(MAX_COLUMN));
        let grouped = GROUPS.iter().flat_map(|group| group.options).map(|opt| names(opt).len() + 4);
        let widest = GENERAL.iter().map(|opt| names(opt).len() + 2).chain(grouped).max().unwrap_or(0);
        Self { width, column: most.min(widest + 2) }
    }

    /// Writes one option with its text beside it, or below where there is no room.
    fn option(&self, text: &mut String, indent: usize, opt: &Opt) {
        let names = names(opt);
        let room = self.column.saturating_sub(indent + 2);
        let width = (self.width - i64::try_from(self.column).unwrap_or(0)).max(11);
        let mut lines = opt.help.split('\n').flat_map(|paragraph| wrap(paragraph, width));
        if names.len() > room {
            line_to(text, indent, &names);
        } else {
            let first = lines.next().unwrap_or_default();
            line_to(text, indent, &format!("{names:room$}  {first}"));
        }
        for line in lines {
            line_to(text, self.column, &line);
        }
    }
}

/// An option's names as the help shows them: `-s SERIAL, --serial=SERIAL`.
fn names(opt: &Opt) -> String {
    let shown = opt.names.iter().map(|name| match opt.value {
        Some(value) if name.starts_with("--") => format!("{name}={value}"),
        Some(value) => format!("{name} {value}"),
        None => (*name).to_owned(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn line_to(text: &mut String, indent: usize, line: &str) {
    text.extend(std::iter::repeat_n(' ', indent));
    text.push_str(line);
    text.push('\n');
}

/// Breaks `paragraph` into lines of at most `width` characters, as Python's textwrap does.
///
/// Space at the very beginning stays, a word with hyphens may be broken after one, and a word that is too long for a
/// line is broken anywhere.
fn wrap(paragraph: &str, width: i64) -> Vec<String> {
    let width = usize::try_from(width).map_or(1, |width| width.max(1));
    let mut pieces = VecDeque::from(pieces(paragraph));
    let mut lines = Vec::new();
    while !pieces.is_empty() {
        let mut line = Vec::new();
        let mut length = 0;
        if !lines.is_empty() && pieces.front().is_some_and(|piece| piece.trim().is_empty()) {
            pieces.pop_front();
        }
        while let Some(piece) = next_if(&mut pieces, |piece| length + piece.len() <= width) {
            length += piece.len();
            line.push(piece);
        }
        if let Some(piece) = next_if(&mut pieces, |piece| piece.len() > width) {
            let room = width - length;
            // Where a hyphen of the word stands within the room, the break is made there.
            let end = match piece.get(..room).and_then(|start| start.rfind('-')) {
                Some(hyphen) if piece.bytes().take(hyphen).any(|byte| byte != b'-') => hyphen + 1,
                _ => room,
            };
            let (now, later) = piece.split_at(end);
            line.push(now.to_owned());
            pieces.push_front(later.to_owned());
        }
        if line.last().is_some_and(|piece| piece.trim().is_empty()) {
            line.pop();
        }
        if !line.is_empty() {
            lines.push(line.concat());
        }
    }
    lines
}

fn next_if(pieces: &mut VecDeque<String>, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
    if pieces.front().is_some_and(|piece| is_wanted(piece)) { pieces.pop_front() } else { None }
}

/// Cuts a paragraph into white space, words, and parts of words that end with a hyphen.
fn pieces(paragraph: &str) -> Vec<String> {
    let letters: Vec<char> = paragraph.chars().collect();
    let letter = |at: Option<usize>| at.and_then(|at| letters.get(at)).is_some_and(char::is_ascii_alphabetic);
    let mut pieces: Vec<String> = Vec::new();
    let mut piece = String::new();
    for (at, c) in letters.iter().enumerate() {
        let is_space = c.is_whitespace();
        if piece.chars().next().is_some_and(|first| first.is_whitespace() != is_space) {
            pieces.push(std::mem::take(&mut piece));
        }
        piece.push(*c);
        // Two letters on either side, as in `well-known`; a hyphen may stand between the letters, as in `e-mail-to`.
        let before = letter(at.checked_sub(1)) && letter(at.checked_sub(2));
        let after = letter(Some(at + 1)) && letter(Some(at + 2));
        if *c == '-' && before && after {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_is_the_original_one() {
        assert_eq!(help("blinkstick", None), include_str!("../fixtures/blinkstick-help.txt"));
        assert_eq!(help("blinkstick", Some("wide")), help("blinkstick", Some("80")));
        assert!(help("phobos-blink", None).contains("\nUsage: phobos-blink [options] [color]\n"));
    }

    #[test]
    fn a_narrow_terminal_does_not_matter() {
        for columns in ["0", "-5", "10", "26", "40", "99999999999999999999"] {
            assert!(help("blinkstick", Some(columns)).contains("--set-infoblock2"), "{columns}");
        }
    }

    #[test]
    fn lines_break_as_textwrap_breaks_them() {
        let text = "Blink LED (requires --set-color or color)";
        assert_eq!(wrap(text, 54), [text]);
        assert_eq!(wrap(text, 28), ["Blink LED (requires --set-", "color or color)"]);
        assert_eq!(wrap("    0 - default", 11), ["    0 -", "default"]);
        assert_eq!(wrap("abcdefghijklmnop", 11), ["abcdefghijk", "lmnop"]);
    }
}
