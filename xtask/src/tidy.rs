//! Small rules of the project that no compiler checks, as tests.

mod arrows;
mod making;
mod rooms;
mod units;

use crate::{crates, list, programs, project};
use phobos_site::config::{Config, HOST_EXAMPLES};
use std::fs;
use std::path::{Path, PathBuf};

/// Every file of the project below `folder` with one of these ends, without what was built.
fn files(folder: &Path, ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in list(folder).unwrap() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if name != "target" && name != ".git" {
                found.extend(files(&path, ends));
            }
        } else if ends.iter().any(|end| name.ends_with(end)) {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_rust_file_says_first_what_it_is() {
    for path in files(project(), &[".rs"]) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} does not start with `//! `", path.display());
    }
}

#[test]
fn text_has_no_trailing_blanks_and_ends_with_a_line_end() {
    for path in files(project(), &[".rs", ".toml", ".md", ".service", ".timer", ".rules", ".sh"]) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n'), "{}: the last line has no end", path.display());
        for (number, line) in text.lines().enumerate() {
            assert_eq!(line, line.trim_end(), "{}:{}: blanks at the end", path.display(), number + 1);
        }
    }
}

#[test]
fn every_package_shares_the_workspaces_settings() {
    let mut folders = crates().unwrap();
    folders.extend(["xtask", "tests", "manual"].map(|folder| project().join(folder)));
    for folder in folders {
        let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        for line in ["edition.workspace", "rust-version.workspace", "license.workspace", "[lints]\nworkspace"] {
            assert!(text.contains(&format!("{line} = true")), "{}: no `{line} = true`", folder.display());
        }
    }
}

#[test]
fn a_unit_calls_only_programs_that_are_installed() {
    let programs = programs().unwrap();
    for path in files(project(), &[".service"]) {
        let text = fs::read_to_string(&path).unwrap();
        for call in text.split("/usr/local/bin/").skip(1) {
            let program = call.split(|c: char| c.is_whitespace()).next().unwrap_or_default();
            if program.starts_with("phobos-") {
                assert!(programs.iter().any(|known| known == program), "{}: {program}", path.display());
            }
        }
    }
}

/// The stories and the programs' own tests look at what is printed; this finds JSON that nobody has thought of.
#[test]
fn whatever_is_printed_as_json_says_its_version() {
    for package in crates().unwrap() {
        let sources = files(&package.join("src"), &[".rs"]).into_iter().filter(|path| !path.ends_with("tests.rs"));
        let code: String = sources
            .map(|path| fs::read_to_string(path).unwrap().split("#[cfg(test)]").next().unwrap_or_default().to_owned())
            .collect();
        let printed = code.matches("to_string_pretty(").count();
        let versions =
            code.matches("schema_version: u32").count() + code.matches("schema_version: SchemaVersion<").count();
        assert!(printed <= versions, "{}: JSON without schema_version", package.display());
    }
}

#[test]
fn the_sample_configuration_shows_the_defaults_and_may_be_uncommented() {
    let path = project().join("phobos-ext/dist/phobos.toml");
    let sample = fs::read_to_string(&path).unwrap();
    assert!(Config::parse(&path, &sample).is_ok());
    let settings: Vec<&str> = sample.lines().map(uncommented).collect();
    // The example of a password is for a server that protects it, which the default is not.
    let (auto, relay) = ("transport = \"auto\"", "transport = \"submission://mail.example.org\"");
    let settings = settings.join("\n");
    assert!(settings.contains(auto));
    let mut config = Config::parse(&path, &settings.replace(auto, relay)).unwrap();
    assert_eq!(config.external.drive.len(), 3);
    config.external.drive.clear();
    // What the example of a host sets has its default, but for what has none.
    let host = settings
        .split("[[pull]]")
        .nth(1)
        .unwrap()
        .lines()
        .filter(|line| HOST_EXAMPLES.contains(&line.split(" = ").next().unwrap()));
    let host = format!("[[pull]]\n{}", host.collect::<Vec<_>>().join("\n"));
    assert_eq!(std::mem::take(&mut config.pull), Config::parse(&path, &host).unwrap().pull);
    assert_eq!(std::mem::take(&mut config.hook).len(), 1);
    config.led.second = None;
    config.folder = Config::default().folder;
    let to = std::mem::take(&mut config.mail).to;
    config.mail.to = to;
    assert_eq!(format!("{config:#?}"), format!("{:#?}", Config::default()));
}

/// A setting behind a `#`, without it.
fn uncommented(line: &str) -> &str {
    line.strip_prefix('#').filter(|setting| !setting.starts_with(' ')).unwrap_or(line)
}
