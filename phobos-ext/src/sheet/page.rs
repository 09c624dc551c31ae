//! What is written for somebody who has to get everything back: sections of text and commands, as plain text and as a page.

/// How wide a line of text is.
const WIDTH: usize = 96;

/// What commands are indented by.
pub(super) const INDENT: &str = "        ";

/// A part of what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) heading: String,
    pub(super) blocks: Vec<Block>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    Text(String),
    /// Lines to be typed as they stand, but for the words in capitals.
    Commands(Vec<String>),
    /// Lines to be read letter by letter.
    Verbatim(Vec<String>),
}

/// A paragraph.
pub(super) fn text_of(text: &str) -> Block {
    Block::Text(text.to_owned())
}

/// Commands that nothing is filled into.
pub(super) fn commands(lines: &[&str]) -> Block {
    Block::Commands(lines.iter().map(|line| (*line).to_owned()).collect())
}

/// All of it as plain text.
pub(super) fn text(title: &str, subtitle: &str, sections: &[Section]) -> String {
    let mut lines = vec![title.to_uppercase()];
    lines.extend(wrapped(subtitle).into_iter().chain([String::new()]));
    for section in sections {
        lines.extend([section.heading.clone(), "-".repeat(section.heading.chars().count())]);
        for block in &section.blocks {
            match block {
                Block::Text(text) => lines.extend(wrapped(text)),
                Block::Commands(commands) => lines.extend(commands.iter().map(|line| format!("{INDENT}{line}"))),
                Block::Verbatim(own) => lines.extend(own.iter().map(|line| format!("    | {line}"))),
            }
        }
        lines.push(String::new());
    }
    lines.join("\n")
}

/// All of it as a page that needs nothing but itself.
pub(super) fn html(title: &str, subtitle: &str, sections: &[Section]) -> String {
    let section = |section: &Section| {
        let blocks = section.blocks.iter().map(|block| match block {
            Block::Text(text) => format!("<p>{}</p>\n", escaped(text)),
            Block::Commands(lines) => format!("<pre>{}</pre>\n", escaped(&lines.join("\n"))),
            Block::Verbatim(lines) => format!("<pre class=\"letters\">{}</pre>\n", escaped(&lines.join("\n"))),
        });
        format!("<section>\n<h2>{}</h2>\n{}</section>\n", escaped(&section.heading), blocks.collect::<String>())
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{0}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<h1>{0}</h1>\n<p>{1}</p>\n{2}</body>\n</html>\n",
        escaped(title),
        escaped(subtitle),
        sections.iter().map(section).collect::<String>()
    )
}

/// How the page is printed.
const STYLE: &str = "\
body { font: 10pt/1.35 serif; max-width: 46em; margin: 1em auto; }
h1 { font-size: 15pt; } h2 { font-size: 11pt; margin: 0.9em 0 0.2em; } p { margin: 0.2em 0; }
pre { font: 9pt/1.3 monospace; margin: 0.3em 0 0.3em 2em; white-space: pre-wrap; }
pre.letters { border: 1px solid; padding: 0.4em; }
section { break-inside: avoid; }
@page { margin: 15mm; }
";

/// The text in lines of no more than [`WIDTH`] characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().map_or(0, |line| line.chars().count());
        match lines.last_mut() {
            Some(last) if line > 0 && line + 1 + word.chars().count() <= WIDTH => {
                last.push(' ');
                last.push_str(word);
            }
            Some(last) if line == 0 => last.push_str(word),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
