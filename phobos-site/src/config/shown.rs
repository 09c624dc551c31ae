//! What is in force: every setting with its value, and where that comes from.
//!
//! The defaults are those that the sample configuration shows, which is tested to show them as they are.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use phobos_core::fs::shown_text;
use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reading::{line_at, read, read_trusted, toml_files};
use super::{Config, ConfigError, DRIVES, folder_of};
use crate::pull;

/// The configuration as it is installed, with every setting.
pub const SAMPLE: &str = include_str!("../../../phobos-ext/dist/phobos.toml");

/// What ends a comment above an example.
const EXAMPLE: &str = "Example:";

/// The tables of the sample that are there once.
const ONCE: [&str; 5] = ["backup", "locks", "external", "led", "mail"];

/// A setting that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its table, which one of several by its name, and the key, with dots between them.
    pub name: String,
    /// Its value, as TOML writes it, escaped for people.
    pub value: String,
    /// The file that it stands in; without one it is a default.
    pub file: Option<PathBuf>,
    /// The line there, from 1 on.
    pub line: Option<usize>,
}

impl Config {
    /// All settings of the configuration at `path`, or of the default one: those of files in their order, then the defaults.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or may not be trusted. What is in it need not fit together.
    pub fn shown(path: Option<&Path>) -> Result<Vec<Setting>, ConfigError> {
        let mut all = Vec::new();
        let mut folder = Self::default().folder;
        let mut hosts = BTreeSet::new();
        if let Some((file, text)) = read(path)? {
            folder = folder_of(file);
            flatten(&text, Some(file), "", &mut all);
        }
        for file in toml_files(&folder.join(DRIVES))? {
            if let Some(text) = read_trusted(&file)? {
                flatten(&text, Some(&file), "", &mut all);
            }
        }
        for file in toml_files(&folder.join(pull::FOLDER))? {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(text) = read_trusted(&file)? {
                flatten(&text, Some(&file), &format!("pull.{}", shown_text(&name)), &mut all);
                hosts.insert(name);
            }
        }
        let own = all.iter().filter_map(|setting| setting.name.strip_prefix("pull.")?.split_once('.'));
        hosts.extend(own.map(|(host, _)| host.to_owned()));
        let set: BTreeSet<String> = all.iter().map(|setting| setting.name.clone()).collect();
        all.extend(defaults(&hosts).into_iter().filter(|setting| !set.contains(&setting.name)));
        Ok(all)
    }
}

/// The defaults that the sample shows, and those of each of these hosts.
fn defaults(hosts: &BTreeSet<String>) -> Vec<Setting> {
    let mut text = String::new();
    let mut is_example = false;
    for line in SAMPLE.lines() {
        match line.strip_prefix('#').filter(|setting| !setting.starts_with(' ')) {
            Some(setting) if is_example && !setting.starts_with('[') => {}
            Some(setting) => text.push_str(setting),
            None => {
                is_example = line.ends_with(EXAMPLE);
                text.push_str(line);
            }
        }
        text.push('\n');
    }
    let mut all = Vec::new();
    flatten(&text, None, "", &mut all);
    let mut defaults = Vec::new();
    for setting in all {
        let (table, key) = setting.name.split_once('.').unwrap_or_default();
        match key.rsplit_once('.') {
            // A look of the light is a table by itself.
            _ if ONCE.contains(&table) && !key.starts_with("drive.") => defaults.push(setting),
            Some((_, key)) if table == "pull" => {
                let of =
                    |host: &String| Setting { name: format!("pull.{}.{key}", shown_text(host)), ..setting.clone() };
                defaults.extend(hosts.iter().map(of));
            }
            _ => {}
        }
    }
    defaults
}

/// Adds the settings of a text, in the order in which they stand there.
fn flatten(text: &str, file: Option<&Path>, above: &str, all: &mut Vec<Setting>) {
    let Ok(root) = DeTable::parse(text) else { return };
    let mut found = Vec::new();
    table(root.get_ref(), above, &mut found);
    found.sort_by_key(|(_, start, _)| *start);
    for (name, start, end) in found {
        // What stands on several lines is shown on one.
        let value = text.get(start..end).unwrap_or_default().lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let line = file.map(|_| line_at(text, start));
        all.push(Setting { name, value: shown_text(&value), file: file.map(Path::to_path_buf), line });
    }
}

fn table(values: &DeTable<'_>, above: &str, found: &mut Vec<(String, usize, usize)>) {
    for (key, value) in values {
        let name =
            if above.is_empty() { shown_text(key.get_ref()) } else { format!("{above}.{}", shown_text(key.get_ref())) };
        match value.get_ref() {
            DeValue::Table(inner) if !is_inline(value) => table(inner, &name, found),
            DeValue::Array(inner) if !inner.is_empty() && inner.iter().all(|item| item.get_ref().is_table()) => {
                for (number, item) in (1_usize..).zip(inner.iter()) {
                    let DeValue::Table(item) = item.get_ref() else { continue };
                    let called = ["name", "host"].iter().find_map(|key| item.get(*key)?.get_ref().as_str());
                    let called = called.map_or_else(|| number.to_string(), shown_text);
                    table(item, &format!("{name}.{called}"), found);
                }
            }
            _ => found.push((name, value.span().start, value.span().end)),
        }
    }
}

/// Whether a table is written as a value, `{ … }`: its span is what is between the braces then, and else its heading.
fn is_inline(value: &Spanned<DeValue<'_>>) -> bool {
    let DeValue::Table(table) = value.get_ref() else { return false };
    table.iter().next().is_some_and(|(_, inner)| value.span().contains(&inner.span().start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn each_setting_is_shown_once_with_where_it_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["drives.d", "pull.d"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(
            at("phobos.toml"),
            "[external]\nnotice = true\n\n[led]\nok = { color = \"white\", limit = 1 }\n[[pull]]\nhost = \"luv\"\nsource = [\n  \"a:/\",\n  \"b:/\"\n]\n",
        )
        .unwrap();
        fs::write(at("drives.d/A.toml"), "[[external.drive]]\nname = \"A\"\ndevice = \"/dev/x\"\n").unwrap();
        fs::write(at("pull.d/nuhc.toml"), "acls = false\n").unwrap();
        let all = Config::shown(Some(&at("phobos.toml"))).unwrap();
        let of = |name: &str| {
            let own: Vec<_> = all.iter().filter(|setting| setting.name == name).collect();
            assert_eq!(own.len(), 1, "{name}: {own:?}");
            let file = own[0].file.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
            (own[0].value.as_str(), file.into_owned(), own[0].line)
        };
        let set = |value, file: &str, line| (value, file.to_owned(), Some(line));
        let default = |value| (value, String::new(), None);
        assert_eq!(of("external.notice"), set("true", "phobos.toml", 2));
        assert_eq!(of("external.mount"), default("\"/extbackup\""));
        assert_eq!(of("external.drive.A.device"), set("\"/dev/x\"", "A.toml", 3));
        assert_eq!(of("led.ok"), set("{ color = \"white\", limit = 1 }", "phobos.toml", 5));
        assert_eq!(of("led.failed"), default("{ color = \"red\", limit = 50 }"));
        assert_eq!(of("pull.luv.source"), set("[ \"a:/\", \"b:/\" ]", "phobos.toml", 8));
        assert_eq!(of("pull.luv.acls"), default("true"));
        assert_eq!(of("pull.nuhc.acls"), set("false", "nuhc.toml", 1));
        assert_eq!(of("pull.nuhc.max-delete"), default("\"50%\""));
        assert_eq!(of("mail.to"), default("\"root\""));
        for example in ["mail.from", "led.second", "pull.luv.port", "external.drive.B.uuid", "hook.1.limit"] {
            assert!(all.iter().all(|setting| setting.name != example), "{example}");
        }
    }

    #[test]
    fn what_is_in_force_without_a_file_are_the_defaults() {
        let all = defaults(&BTreeSet::new());
        assert!(all.len() > 25 && all.iter().all(|setting| setting.file.is_none()), "{all:#?}");
        let lines: Vec<_> = all.iter().map(|setting| format!("{} = {}", setting.name, setting.value)).collect();
        let mut config = Config::parse(Path::new("test"), &lines.join("\n")).unwrap();
        config.folder = Config::default().folder;
        assert_eq!(format!("{config:#?}"), format!("{:#?}", Config::default()));
    }
}
