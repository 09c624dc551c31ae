//! `phobos-status config`: whether the configuration is sound, and what is in force.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use phobos_core::error::Chain;
use phobos_core::fs::shown_text;
use phobos_core::schema::SchemaVersion;
use phobos_site::config::{Config, Setting};
use phobos_site::exit::Exit;
use phobos_site::logging;
use serde::Serialize;

/// How wide a setting may be for what stands behind it to be in a column.
const COLUMN: usize = 48;

/// What is to be told where there is no mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// That there is none.
    Check,
    /// Every setting, as lines of TOML.
    Text,
    /// The same as JSON.
    Json,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Printed {
    schema_version: SchemaVersion<1>,
    settings: Vec<Setting>,
}

/// Tells all mistakes of the configuration in `file`, or what is wanted.
///
/// # Errors
///
/// When it changes meanwhile, or nobody takes what is printed.
pub(crate) fn tell(file: Option<&Path>, wanted: Wanted) -> Result<ExitCode, anyhow::Error> {
    let (mistakes, files) = Config::mistakes(file);
    if !mistakes.is_empty() {
        let lines = mistakes.iter().map(|mistake| shown_text(&Chain(mistake).to_string()) + "\n");
        logging::result(&lines.collect::<String>())?;
        return Ok(Exit::Config.into());
    }
    let text = match wanted {
        Wanted::Check => format!("all is well in {files} files\n"),
        Wanted::Text => draw(&Config::shown(file)?),
        Wanted::Json => {
            let printed = Printed { schema_version: SchemaVersion, settings: Config::shown(file)? };
            serde_json::to_string_pretty(&printed).context("cannot write JSON")? + "\n"
        }
    };
    logging::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// As lines of TOML, each with where it comes from.
fn draw(settings: &[Setting]) -> String {
    let line = |setting: &Setting| {
        let origin = match (&setting.file, setting.line) {
            (Some(file), Some(line)) => format!("{}:{line}", file.display()),
            _ => "default".to_owned(),
        };
        let text = format!("{} = {}", setting.name, setting.value);
        format!("{text:COLUMN$} # {}\n", shown_text(&origin))
    };
    settings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_setting_comes_from_stands_behind_it() {
        let setting = |name: &str, value: &str, file: Option<&str>| Setting {
            name: name.to_owned(),
            value: value.to_owned(),
            file: file.map(Into::into),
            line: file.map(|_| 3),
        };
        let all = [setting("mail.to", "\"jon\"", Some("/etc/phobos/phobos.toml")), setting("led.index", "1", None)];
        assert_eq!(
            draw(&all),
            "mail.to = \"jon\"                                  # /etc/phobos/phobos.toml:3\n\
             led.index = 1                                    # default\n"
        );
    }
}
