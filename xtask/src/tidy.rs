//! Small rules of the project that no compiler checks, as tests.

mod arrows;
mod making;
mod rooms;
mod units;

use crate::{crates, list, programs, project};
use phobos_site::config::Config;
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
fn every_picture_is_small_and_shown_with_what_it_shows() {
    let mut shown = Vec::new();
    for path in files(project(), &[".md"]) {
        let text = fs::read_to_string(&path).unwrap();
        for reference in text.split("![").skip(1) {
            let (says, rest) = reference.split_once("](").unwrap();
            let target = path.parent().unwrap().join(rest.split(')').next().unwrap());
            assert!(says.len() > 20, "{}: {} has no text for who does not see it", path.display(), target.display());
            shown.push(target.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", target.display())));
        }
    }
    for picture in files(project(), &[".png"]) {
        assert!(picture.metadata().unwrap().len() <= 150_000, "{} is too large", picture.display());
        assert!(shown.contains(&picture.canonicalize().unwrap()), "{} is shown nowhere", picture.display());
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
    let parse = |text: &str| Config::parse(&path, text).unwrap();
    parse(&sample);
    let (all, defaults) = (uncommented(&sample, false), uncommented(&sample, true));
    // The example of a password is for a server that protects it, which the default is not; a drive has one way to be opened.
    let relay = all.replace("transport = \"auto\"", "transport = \"submission://mail.example.org\"");
    let all = parse(&relay.replace("device = \"/dev/disk", "#device = \"/dev/disk"));
    assert_eq!((all.external.drive.len(), all.hook.len()), (1, 1));
    assert!(all.led.second.is_some() && all.mail.hello.is_some() && all.mail.tls_fingerprint.is_some());
    // What the host sets has its default, but for what is an example.
    let host = sample.split("#[[pull]]").nth(1).unwrap().split("\n\n").next().unwrap();
    let (host, own) = (uncommented(host, false), uncommented(host, true));
    let examples: Vec<&str> = host.lines().filter(|line| own.lines().all(|own| own != *line)).collect();
    assert!(own.contains("acls = true") && examples.len() > 5, "{examples:?}");
    assert_eq!(all.pull, parse(&format!("[[pull]]\n{}", examples.join("\n"))).pull);
    let (once, _) = defaults.split_once("# The hosts that are pulled").unwrap();
    let mut once = parse(&once.replace("[[external.drive]]", ""));
    once.folder = Config::default().folder;
    assert_eq!(format!("{once:#?}"), format!("{:#?}", Config::default()));
}

/// A text without the `#` of its settings; without those that are examples too, if so wished.
fn uncommented(text: &str, defaults: bool) -> String {
    let mut is_example = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let setting = line.strip_prefix('#').filter(|setting| !setting.is_empty() && !setting.starts_with(' '));
        match setting {
            Some(setting) if !(defaults && is_example) || setting.starts_with('[') => lines.push(setting),
            Some(_) => {}
            None => {
                is_example = line.ends_with("Example:");
                lines.push(line);
            }
        }
    }
    lines.join("\n")
}
