//! What is written by hand: for each page its sections, in files of plain text.
//!
//! `# NAME` begins a page, `## TITLE` a section of it. Below it are paragraphs; lines that are indented by four blanks are
//! commands, or what a line above them means.

use anyhow::{Result, bail};
use std::collections::BTreeMap;

/// The files, one for each program.
const FILES: [&str; 9] = [
    include_str!("../pages/phobos.txt"),
    include_str!("../pages/phobos.toml.txt"),
    include_str!("../pages/phobos-blink.txt"),
    include_str!("../pages/phobos-ext.txt"),
    include_str!("../pages/phobos-mail.txt"),
    include_str!("../pages/phobos-ns.txt"),
    include_str!("../pages/phobos-pull.txt"),
    include_str!("../pages/phobos-status.txt"),
    include_str!("../pages/phobos-unlock.txt"),
];

/// All that is written by hand.
#[derive(Debug)]
pub struct Hand {
    pages: BTreeMap<String, Sections>,
}

/// A page's sections, in their order.
pub(crate) type Sections = Vec<(String, String)>;

impl Hand {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// If a line belongs to no section, or a page stands there twice.
    pub fn read() -> Result<Self> {
        let mut pages = BTreeMap::new();
        for file in FILES {
            for (name, sections) in parse(file)? {
                if pages.insert(name.clone(), sections).is_some() {
                    bail!("the page {name} is written twice");
                }
            }
        }
        Ok(Self { pages })
    }

    /// The names of the pages.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pages.keys().map(String::as_str)
    }

    /// The sections of a page; none if nobody has written any.
    pub fn of(&self, page: &str) -> &[(String, String)] {
        self.pages.get(page).map_or(&[], Vec::as_slice)
    }

    /// The text of one section of a page.
    pub fn section(&self, page: &str, title: &str) -> Option<&str> {
        self.of(page).iter().find(|(own, _)| own == title).map(|(_, text)| text.as_str())
    }
}

fn parse(file: &str) -> Result<Vec<(String, Sections)>> {
    let mut pages: Vec<(String, Sections)> = Vec::new();
    for line in file.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let Some((_, sections)) = pages.last_mut() else { bail!("the section {title} is on no page") };
            sections.push((title.to_owned(), String::new()));
        } else if let Some(name) = line.strip_prefix("# ") {
            pages.push((name.to_owned(), Vec::new()));
        } else {
            let section = pages.last_mut().and_then(|(_, sections)| sections.last_mut());
            match section {
                Some((_, text)) => {
                    text.push_str(line);
                    text.push('\n');
                }
                None if line.is_empty() => {}
                None => bail!("this line is in no section: {line}"),
            }
        }
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_sections_are_told_by_their_marks() {
        let pages = parse("# a\n\n## FILES\n\nx\n    y\n# b\n").unwrap();
        assert_eq!(pages[0], ("a".to_owned(), vec![("FILES".to_owned(), "\nx\n    y\n".to_owned())]));
        assert_eq!(pages[1].1, []);
        assert!(parse("## FILES\n").is_err());
        assert!(parse("# a\nx\n").is_err());
    }
}
