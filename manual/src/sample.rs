//! The sample configuration: every setting with what it is for, and its default or an example.

use anyhow::Result;

use crate::tables::{Table, tables};

/// How wide a comment is.
const WIDTH: usize = 120;

/// What the file begins with.
const HEAD: &str = "\
# The configuration of phobos: /etc/phobos/phobos.toml.
#
# Everything here is optional. A setting without a blank after its # is a default, or an example where it says so:
# remove the # to change it. The file must not be writable by others than root. An editor with the language server of
# TOML (taplo) knows all of it where the first line is: #:schema /usr/share/phobos/phobos.schema.json
# (/usr/local/share/phobos/ where it was installed by `cargo xtask install`).
";

/// The file.
///
/// # Errors
///
/// If a setting says nothing of itself.
pub fn sample() -> Result<String> {
    let tables = tables()?;
    Ok(tables.iter().fold(HEAD.to_owned(), |text, table| text + "\n" + &drawn(table)))
}

fn drawn(table: &Table) -> String {
    let mut text = String::new();
    if table.is_of_several() {
        text.push_str(&comment(&format!("{} Example:", table.about)));
        text.push('#');
    }
    text.push_str(&format!("{}\n", table.heading));
    for setting in &table.settings {
        let example = if setting.is_example { " Example:" } else { "" };
        text.push_str(&comment(&format!("{}{example}", setting.about)));
        text.push_str(&format!("#{}\n", setting.line()));
    }
    text
}

/// Words as the lines of a comment.
fn comment(words: &str) -> String {
    let mut lines = vec!["#".to_owned()];
    for word in words.split(' ') {
        match lines.last_mut().filter(|line| line.chars().count() + word.chars().count() < WIDTH) {
            Some(line) => *line = format!("{line} {word}"),
            None => lines.push(format!("# {word}")),
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use phobos_site::config::SAMPLE;

    #[test]
    fn the_sample_that_is_installed_is_this_one() {
        assert!(sample().unwrap() == SAMPLE, "write it anew: cargo xtask sample");
    }

    #[test]
    fn comments_are_not_too_wide() {
        let words = "word ".repeat(60);
        let lines = comment(words.trim());
        assert!(lines.lines().all(|line| line.starts_with("# word") && line.len() <= WIDTH));
        assert_eq!(lines.matches("word").count(), 60);
    }
}
