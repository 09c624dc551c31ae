//! The page of a program or of one of its commands: what clap knows, then what is written by hand.

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, Command};
use clap_mangen::Man;
use phobos_site::exit;

use crate::Page;
use crate::hand::Hand;
use crate::roff::{body, code, heading, text, title};

/// The section of the manual for programs that only root needs.
const SECTION: u8 = 8;

/// The sections whose texts are written by hand, in the order in which they stand behind the options; others go before them.
const LAST: [&str; 5] = ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"];

/// Sections in which an indented line says what the line above it means.
const TERMS: [&str; 4] = ["EXIT STATUS", "ENVIRONMENT", "FILES", "THE LIGHT"];

/// What every program that reads the configuration has in its section FILES.
const CONFIGURATION: &str = "/etc/phobos/phobos.toml\n    The configuration, see phobos.toml(5).\n";

/// The script that has units call phobos; it reads its arguments itself.
pub(crate) fn migrate() -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("phobos-migrate")
        .about("Have units that call the original's scripts call phobos's programs instead")
        .arg(flag("apply").help("Write the drop-ins, UNIT.d/phobos.conf").conflicts_with("revert"))
        .arg(flag("revert").help("Take them away again"))
        .arg(Arg::new("root").long("root").value_name("DIR").help("Look below this folder instead of /"))
        .arg(Arg::new("unit").value_name("UNIT").num_args(0..).help("Only these units"))
}

/// A program and all of its commands that are not hidden.
pub(crate) fn commands(program: &Command) -> Vec<&Command> {
    let mut commands = vec![program];
    commands.extend(shown(program));
    commands
}

fn shown(program: &Command) -> impl Iterator<Item = &Command> {
    program.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

/// The name of a command's page, as `phobos-ext-hold`.
pub(crate) fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// The page of `command`, which is `program` itself or one of its commands.
pub(crate) fn page(command: &Command, program: &Command, hand: &Hand, date: &str) -> Result<Page> {
    let name = name(command);
    let about = command.get_about().with_context(|| format!("{name} says nothing about itself"))?.to_string();
    let man = Man::new(command.clone());
    let mut page = title(name, SECTION, date, &about);
    page.push_str(&rendered(&man, Man::render_synopsis_section)?);
    let description = hand.section(name, "DESCRIPTION").unwrap_or_default();
    page.push_str(&heading("DESCRIPTION"));
    page.push_str(&format!("{}.\n", text(&about)));
    if !description.trim().is_empty() {
        page.push_str(&format!(".PP\n{}", body(description, false)));
    }
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        page.push_str(&rendered(&man, Man::render_options_section)?);
    }
    if shown(command).next().is_some() {
        page.push_str(&heading("COMMANDS"));
        for command in shown(command) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            page.push_str(&format!(".TP\n\\fB{}\\fR(8)\n{}\n", code(self::name(command)), text(&about)));
        }
    }
    sections(&mut page, command, program, hand);
    Ok(Page { file: format!("{name}.{SECTION}"), text: page })
}

/// The page that says what all of it is.
pub(crate) fn overview(programs: &[Command], hand: &Hand, date: &str) -> Result<Page> {
    let mut page = title("phobos", 7, date, "backups for a house, and the drives that leave it");
    for (name, lines) in hand.of("phobos") {
        if name == "SEE ALSO" {
            page.push_str(&heading("PROGRAMS"));
            for program in programs {
                let about = program.get_about().context("a program says nothing about itself")?;
                page.push_str(&format!(".TP\n\\fB{}\\fR(8)\n{}\n", code(program.get_name()), text(&about.to_string())));
            }
            exits(&mut page);
        }
        page.push_str(&heading(name));
        page.push_str(&body(lines, TERMS.contains(&name.as_str())));
    }
    Ok(Page { file: "phobos.7".to_owned(), text: page })
}

/// What is written by hand, and what is the same on all pages.
fn sections(page: &mut String, command: &Command, program: &Command, hand: &Hand) {
    let name = name(command);
    for (title, lines) in hand.of(name) {
        if title != "DESCRIPTION" && !LAST.contains(&title.as_str()) {
            page.push_str(&heading(title));
            page.push_str(&body(lines, false));
        }
    }
    for title in LAST {
        let own = hand.section(name, title).or_else(|| {
            // Commands end as their program does.
            (title == "EXIT STATUS").then(|| hand.section(program.get_name(), title)).flatten()
        });
        let configured = title == "FILES" && command.get_arguments().any(|arg| arg.get_long() == Some("config"));
        match (title, own) {
            ("EXIT STATUS", None) => exits(page),
            ("SEE ALSO", own) => see_also(page, command, program, own.unwrap_or_default()),
            (_, None) if !configured => {}
            (_, own) => {
                page.push_str(&heading(title));
                if configured {
                    page.push_str(&body(CONFIGURATION, true));
                }
                page.push_str(&body(own.unwrap_or_default(), TERMS.contains(&title)));
            }
        }
    }
}

/// The exit codes that all programs share, as their `--help` tells them.
fn exits(page: &mut String) {
    page.push_str(&heading("EXIT STATUS"));
    for line in exit::HELP.lines().skip(1) {
        let (number, meaning) = line.trim().split_once(' ').unwrap_or((line, ""));
        page.push_str(&format!(".TP\n\\fB{}\\fR\n{}\n", code(number), text(meaning.trim())));
    }
}

fn see_also(page: &mut String, command: &Command, program: &Command, own: &str) {
    let mut others: Vec<String> = own.split([',', '\n']).map(|other| other.trim().to_owned()).collect();
    others.push("phobos(7)".to_owned());
    if name(command) != program.get_name() {
        others.push(format!("{}(8)", program.get_name()));
    }
    others.retain(|other| !other.is_empty());
    others.sort();
    others.dedup();
    let others: Vec<String> = others
        .iter()
        .map(|other| match other.split_once('(') {
            Some((page, section)) => format!("\\fB{}\\fR({section}", code(page)),
            None => code(other),
        })
        .collect();
    page.push_str(&heading("SEE ALSO"));
    page.push_str(&format!("{}\n", others.join(",\n")));
}

/// One section as `clap_mangen` writes it.
fn rendered(man: &Man, section: fn(&Man, &mut dyn std::io::Write) -> std::io::Result<()>) -> Result<String> {
    let mut bytes = Vec::new();
    section(man, &mut bytes)?;
    Ok(tidy(&String::from_utf8(bytes)?))
}

/// What `clap_mangen` writes, without what a linter complains about: blanks at a line's end, a string for a quote, a default that is nothing.
fn tidy(section: &str) -> String {
    let mut out = String::new();
    for line in section.lines() {
        // Its preamble is for each section again.
        if line.starts_with(".ie ") || line.starts_with(".el ") {
            continue;
        }
        out.push_str(&format!("{}\n", line.trim_end().replace("\\*(Aq", "\\(aq").replace(" [default: ]", "")));
    }
    out
}
