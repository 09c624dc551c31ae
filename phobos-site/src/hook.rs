//! The settings of hooks: programs of the administrator's own that are told how jobs end, and what becomes due.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::{AbsolutePath, Span};

/// `[[hook]]`: a program that gets one JSON document on its standard input, for each event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hook {
    /// On which events.
    #[schemars(extend("examples" = [["failed", "resolved", "overdue"]]))]
    pub on: Vec<Event>,
    /// Of which jobs, by the names that `phobos-status` shows; of all, if none is named.
    #[serde(default)]
    pub jobs: Vec<String>,
    /// The program by its whole path, and its arguments.
    #[schemars(length(min = 1), extend("examples" = [["/usr/local/bin/tell-me", "phobos"]]))]
    pub command: Command,
    /// After which time it is ended.
    #[serde(default = "usual_limit")]
    pub limit: Span,
}

/// What a hook is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A run failed.
    Failed,
    /// A run went well after one that failed.
    Resolved,
    /// A run went well.
    Ok,
    /// Something is to be looked at.
    Attention,
    /// A drive was to be brought before.
    Overdue,
}

/// A program by its path, and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>")]
pub struct Command {
    /// The program.
    pub program: AbsolutePath,
    /// Its arguments.
    pub args: Vec<String>,
}

/// The words are no [`Command`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("name a program by its whole path, and its arguments: [\"/usr/bin/curl\", \"…\"]")]
pub struct BadCommand;

impl TryFrom<Vec<String>> for Command {
    type Error = BadCommand;

    fn try_from(words: Vec<String>) -> Result<Self, BadCommand> {
        let (program, args) = words.split_first().ok_or(BadCommand)?;
        let program = AbsolutePath::try_from(std::path::PathBuf::from(program)).map_err(|_| BadCommand)?;
        Ok(Self { program, args: args.to_vec() })
    }
}

fn usual_limit() -> Span {
    Span(std::time::Duration::from_secs(30))
}

impl Hook {
    /// Whether it is told of this event, of a job of this name or of none.
    pub fn hears(&self, event: Event, job: Option<&str>) -> bool {
        let is_meant = self.jobs.is_empty() || job.is_some_and(|job| self.jobs.iter().any(|known| known == job));
        self.on.contains(&event) && is_meant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn read(text: &str) -> Result<Vec<Hook>, String> {
        Config::parse(Path::new("x"), text).map(|config| config.hook).map_err(|error| error.to_string())
    }

    #[test]
    fn a_hook_hears_what_it_is_on_and_a_mistake_has_its_line() {
        let text = "[[hook]]\non = ['failed', 'ok']\njobs = ['luv']\ncommand = ['/bin/cat', '-']\n[[hook]]\non = ['overdue']\ncommand = ['/x']\n";
        let hooks = read(text).unwrap();
        assert_eq!((hooks[0].limit.0.as_secs(), hooks[0].command.args.len()), (30, 1));
        assert!(hooks[0].hears(Event::Failed, Some("luv")) && !hooks[0].hears(Event::Failed, Some("chew")));
        assert!(!hooks[0].hears(Event::Resolved, Some("luv")) && !hooks[0].hears(Event::Ok, None));
        assert!(hooks[1].hears(Event::Overdue, None));
        for (text, said) in [
            ("[[hook]]\non = ['failed']\ncommand = ['cat']\n", "x:3: command: name a program by its whole path"),
            ("[[hook]]\non = ['failed']\ncommand = []\n", "x:3: command: name a program"),
            ("[[hook]]\non = ['fails']\ncommand = ['/x']\n", "x:2: on: unknown variant `fails`"),
            ("[[hook]]\ncommand = ['/x']\n", "x:1: missing field `on`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
