//! The page of the configuration: each setting as the sample configuration tells of it, which is tested to have all of them.

use anyhow::{Result, ensure};

use crate::Page;
use crate::hand::Hand;
use crate::roff::{body, code, heading, text, title};

/// The configuration as it is installed.
pub(crate) const SAMPLE: &str = include_str!("../../phobos-ext/dist/phobos.toml");

/// One line or more of the sample that belong together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A table's heading.
    Table(String),
    /// What comments say, and the settings below them.
    Settings {
        /// In words.
        words: Vec<String>,
        /// As they stand in the file.
        lines: Vec<String>,
    },
}

/// The page.
pub(crate) fn page(hand: &Hand, date: &str) -> Result<Page> {
    let mut page = title("phobos.toml", 5, date, "the configuration of phobos");
    let own = |title: &str| hand.section("phobos.toml", title).unwrap_or_default();
    page.push_str(&heading("SYNOPSIS"));
    let files = own("SYNOPSIS").lines().filter(|line| !line.is_empty());
    let files: Vec<String> = files.map(|file| format!(".B {}\n", code(file))).collect();
    page.push_str(&files.join(".br\n"));
    page.push_str(&heading("DESCRIPTION"));
    page.push_str(&body(own("DESCRIPTION"), false));
    let entries = entries(SAMPLE);
    ensure!(entries.len() > 20, "the sample configuration is not understood");
    let mut begun = true;
    for entry in entries {
        begun = match entry {
            Entry::Table(name) => {
                page.push_str(&heading(&name));
                true
            }
            Entry::Settings { words, lines } => {
                page.push_str(&setting(&words, &lines, begun));
                false
            }
        };
    }
    for title in ["FILES", "EXAMPLES"] {
        page.push_str(&heading(title));
        page.push_str(&body(own(title), title == "FILES"));
    }
    page.push_str(&heading("SEE ALSO"));
    page.push_str("\\fBphobos\\fR(7),\n\\fBphobos\\-status\\-config\\fR(8)\n");
    Ok(Page { file: "phobos.toml.5".to_owned(), text: page })
}

/// Settings and what they mean; right below a heading no paragraph begins.
fn setting(words: &[String], lines: &[String], first: bool) -> String {
    let words: Vec<String> = words.iter().map(|line| text(line)).collect();
    let mut out = String::from(if first { "" } else { ".PP\n" });
    if !lines.is_empty() {
        let lines: Vec<String> = lines.iter().map(|line| format!("\\fB{}\\fR", code(line))).collect();
        out.push_str(&format!(".EX\n{}\n.EE\n", lines.join("\n")));
    }
    let words = words.join("\n");
    out.push_str(&match (words.is_empty(), lines.is_empty()) {
        (true, _) => String::new(),
        (false, true) => format!("{words}\n"),
        (false, false) => format!(".RS 7\n{words}\n.RE\n"),
    });
    out
}

/// What the sample says, piece by piece.
pub(crate) fn entries(sample: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let (mut words, mut lines) = (Vec::new(), Vec::new());
    let mut begun = false;
    for line in sample.lines().chain([""]) {
        let setting = line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' '));
        let table = line.starts_with('[').then_some(line);
        let comment = line.strip_prefix("# ");
        let ends = match (setting, comment) {
            (Some(_), _) => false,
            (None, Some(_)) => !lines.is_empty(),
            (None, None) => true,
        };
        if ends && (!words.is_empty() || !lines.is_empty()) {
            let entry = Entry::Settings { words: std::mem::take(&mut words), lines: std::mem::take(&mut lines) };
            if begun {
                entries.push(entry);
            }
        }
        match (table, setting, comment) {
            (_, Some(table @ ("[[pull]]" | "[[hook]]")), _) => entries.push(Entry::Table(table.to_owned())),
            (Some(table), ..) => {
                begun = true;
                entries.push(Entry::Table(table.to_owned()));
            }
            (_, Some(setting), _) => lines.push(setting.to_owned()),
            (.., Some(comment)) => words.push(comment.to_owned()),
            _ => {}
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_belong_to_the_settings_below_them() {
        let sample = "# The file.\n\n[a]\n# One\n# two.\n#x = 1\n#y = 2\n# Three.\n#z = 3\n\n# Alone.\n";
        let settings = |words: &[&str], lines: &[&str]| Entry::Settings {
            words: words.iter().map(ToString::to_string).collect(),
            lines: lines.iter().map(ToString::to_string).collect(),
        };
        let want = [
            Entry::Table("[a]".to_owned()),
            settings(&["One", "two."], &["x = 1", "y = 2"]),
            settings(&["Three."], &["z = 3"]),
            settings(&["Alone."], &[]),
        ];
        assert_eq!(entries(sample), want);
    }
}
