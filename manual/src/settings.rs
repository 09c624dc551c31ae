//! The page of the configuration: each setting as its type tells of it.

use anyhow::Result;

use crate::Page;
use crate::hand::Hand;
use crate::roff::{body, code, heading, text, title};
use crate::tables::{Setting, tables};

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
    for table in tables()? {
        page.push_str(&heading(&table.heading));
        page.push_str(&format!("{}\n", text(&table.about)));
        page.extend(table.settings.iter().map(setting));
    }
    for title in ["FILES", "EXAMPLES"] {
        page.push_str(&heading(title));
        page.push_str(&body(own(title), title == "FILES"));
    }
    page.push_str(&heading("SEE ALSO"));
    page.push_str("\\fBphobos\\fR(7),\n\\fBphobos\\-status\\-config\\fR(8)\n");
    Ok(Page { file: "phobos.toml.5".to_owned(), text: page })
}

/// A setting and what it is for.
fn setting(setting: &Setting) -> String {
    let example = if setting.is_example { " This is an example." } else { "" };
    let words = text(&format!("{}{example}", setting.about));
    format!(".PP\n.EX\n\\fB{}\\fR\n.EE\n.RS 7\n{words}\n.RE\n", code(&setting.line()))
}
