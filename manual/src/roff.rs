//! Text as roff wants it.

/// Escapes what roff would take for its own: backslashes, hyphens (which have to stay ASCII so that a command can be copied),
/// quotes, and a line's first character. `code` between backticks becomes bold.
pub(crate) fn text(plain: &str) -> String {
    let mut out = String::new();
    let mut bold = false;
    for c in plain.chars() {
        match c {
            '`' => {
                bold = !bold;
                out.push_str(if bold { "\\fB" } else { "\\fR" });
            }
            c => escaped(c, &mut out),
        }
    }
    guarded(out)
}

/// The same, word for word: a backtick is a backtick.
pub(crate) fn code(plain: &str) -> String {
    let mut out = String::new();
    plain.chars().for_each(|c| escaped(c, &mut out));
    guarded(out)
}

fn escaped(c: char, out: &mut String) {
    match c {
        '\\' => out.push_str("\\e"),
        '-' => out.push_str("\\-"),
        '\'' => out.push_str("\\(aq"),
        '`' => out.push_str("\\(ga"),
        '~' => out.push_str("\\(ti"),
        '^' => out.push_str("\\(ha"),
        c => out.push(c),
    }
}

/// A line that begins with a dot would be a request.
fn guarded(line: String) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

/// The heading of a page.
pub(crate) fn title(name: &str, section: u8, date: &str, about: &str) -> String {
    let manual = match section {
        5 => "File Formats Manual",
        7 => "Miscellaneous Information Manual",
        _ => "System Manager\\(aqs Manual",
    };
    let version = env!("CARGO_PKG_VERSION");
    format!(
        ".TH \"{}\" \"{section}\" \"{date}\" \"phobos {version}\" \"{manual}\"\n.SH NAME\n{} \\- {}\n",
        code(&name.to_uppercase()),
        code(name),
        text(about)
    )
}

/// A section's heading.
pub(crate) fn heading(title: &str) -> String {
    format!(".SH {}\n", if title.contains(' ') { format!("\"{title}\"") } else { title.to_owned() })
}

/// What one line of a hand-written text is, and those below it.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Paragraph(Vec<&'a str>),
    /// Indented lines, as they are typed.
    Block(Vec<&'a str>),
}

/// The body of a section. Lines that are indented stand as they are. Where `terms` says so, a paragraph with an indented part
/// behind it is a term and its explanation.
pub(crate) fn body(lines: &str, terms: bool) -> String {
    let parts = parts(lines);
    let mut out = String::new();
    let mut first = true;
    let mut rest = parts.iter().peekable();
    while let Some(part) = rest.next() {
        match part {
            Part::Paragraph(lines) if terms && matches!(rest.peek(), Some(Part::Block(_))) => {
                let Some(Part::Block(explained)) = rest.next() else { break };
                let term: Vec<String> = lines.iter().map(|line| code(line)).collect();
                let explained: Vec<String> = explained.iter().map(|line| text(line.trim_start())).collect();
                out.push_str(&format!(".TP\n\\fB{}\\fR\n{}\n", term.join("\n"), explained.join("\n")));
            }
            Part::Paragraph(lines) => {
                let lines: Vec<String> = lines.iter().map(|line| text(line)).collect();
                out.push_str(&format!("{}{}\n", if first { "" } else { ".PP\n" }, lines.join("\n")));
            }
            Part::Block(lines) => {
                let lines: Vec<String> = lines.iter().map(|line| code(line)).collect();
                let before = if first { "" } else { ".PP\n" };
                out.push_str(&format!("{before}.RS 4\n.EX\n{}\n.EE\n.RE\n", lines.join("\n")));
            }
        }
        first = false;
    }
    out
}

fn parts(lines: &str) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut apart = true;
    for line in lines.lines() {
        let indented = line.strip_prefix("    ");
        match (parts.last_mut(), indented) {
            _ if line.trim().is_empty() => {
                apart = true;
                continue;
            }
            (Some(Part::Block(block)), Some(line)) if !apart => block.push(line),
            (Some(Part::Paragraph(paragraph)), None) if !apart => paragraph.push(line),
            (_, Some(line)) => parts.push(Part::Block(vec![line])),
            (_, None) => parts.push(Part::Paragraph(vec![line])),
        }
        apart = false;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_roff_would_take_for_its_own_is_escaped() {
        assert_eq!(text(r"a\b --c `d-e` it's"), r"a\eb \-\-c \fBd\-e\fR it\(aqs");
        assert_eq!(text(".profile"), r"\&.profile");
        assert_eq!(code("`x`"), r"\(gax\(ga");
    }

    #[test]
    fn indented_lines_are_blocks_or_explanations() {
        let lines = "One\ntwo:\n    a b\n\nThree\n";
        assert_eq!(body(lines, false), "One\ntwo:\n.PP\n.RS 4\n.EX\na b\n.EE\n.RE\n.PP\nThree\n");
        assert_eq!(body("/etc/x\n    is `it`\n", true), ".TP\n\\fB/etc/x\\fR\nis \\fBit\\fR\n");
    }
}
