//! The man pages and completions: what the programs declare for their command lines, what the types of the configuration say of each
//! setting, and beside them what somebody has written by hand (`pages/`).
//!
//! It knows all programs, and no program knows it. `cargo xtask man` starts it.

#![expect(
    clippy::format_push_string,
    reason = "pages are small, and writing to a String has an error that never happens"
)]

mod hand;
mod program;
mod roff;
mod sample;
mod settings;
mod tables;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use phobos_site::config::Config;
use std::fs;
use std::path::Path;

pub use self::hand::Hand;
pub use self::sample::sample;

/// The shells that get completions.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// One file of the manual.
#[derive(Debug)]
pub struct Page {
    /// Its name, as `phobos-ext.8`.
    pub file: String,
    /// Its text, for roff.
    pub text: String,
}

/// The programs, as they declare their command lines.
pub fn programs() -> Vec<Command> {
    let mut programs = vec![
        phobos_blink::documented(),
        phobos_ext::Cli::command(),
        phobos_mail::Cli::command(),
        program::migrate(),
        phobos_ns::Cli::command(),
        phobos_pull::Cli::command(),
        phobos_status::Cli::command(),
        phobos_unlock::Cli::command(),
    ];
    for program in &mut programs {
        // From here on each command knows its whole name and the options of those above it.
        program.build();
    }
    programs
}

/// All pages, which carry this `date`.
///
/// # Errors
///
/// If what was written by hand is not as it should be.
pub fn pages(date: &str) -> Result<Vec<Page>> {
    let hand = Hand::read()?;
    let mut pages = Vec::new();
    for program in programs() {
        for command in program::commands(&program) {
            pages.push(program::page(command, &program, &hand, date)?);
        }
    }
    pages.push(settings::page(&hand, date)?);
    pages.push(program::overview(&programs(), &hand, date)?);
    Ok(pages)
}

/// Writes all pages into `folder/man`, the completions of each shell into `folder/completions/SHELL`, and the schemas of the
/// configuration into `folder/schema`.
///
/// # Errors
///
/// If a file cannot be written.
pub fn write(folder: &Path, date: &str) -> Result<()> {
    let man = folder.join("man");
    make(&man)?;
    for page in pages(date)? {
        let path = man.join(&page.file);
        fs::write(&path, page.text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let schemas = folder.join("schema");
    make(&schemas)?;
    for (name, schema) in [("phobos", Config::schema()), ("phobos-host", Config::host_schema())] {
        let path = schemas.join(format!("{name}.schema.json"));
        let text = serde_json::to_string_pretty(&schema)? + "\n";
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    for shell in SHELLS {
        let place = folder.join("completions").join(shell.to_string());
        make(&place)?;
        for mut program in programs() {
            let name = program.get_name().to_owned();
            clap_complete::generate_to(shell, &mut program, name, &place)
                .with_context(|| format!("cannot write completions into {}", place.display()))?;
        }
    }
    Ok(())
}

/// Makes an empty folder.
fn make(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

#[cfg(test)]
mod tests;
