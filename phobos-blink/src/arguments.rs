//! The arbiter's command line, read without clap.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::CommandFactory;
use phobos_site::led::State;

use crate::options::{ADDED, GENERAL, GROUPS, Opt};
use crate::{Cli, Command};

/// What `--help` prints after one of the arbiter's words.
pub(crate) const HELP: &str = "\
The light that many jobs share

Usage: phobos-blink job NAME STATE [--text TEXT] [--pid PID]
       phobos-blink show [--breathe]
       phobos-blink ack [NAME]
       phobos-blink jobs [--json]

Commands:
  job   Post what a job does, and put the light right; STATE is
        working, waiting, attention, unsafe, ok, failed or off
  show  Put what the jobs have posted on the light
  ack   Acknowledge the failure of a job, or of all
  jobs  List the jobs

Options:
      --config FILE  Read the configuration from FILE
      --text TEXT    Say more about the state
      --pid PID      The process that is at work; the job has failed if it dies
                     [default: the one that runs this]
      --breathe      Let the light breathe while a job works, until standard
                     input ends
      --json         As JSON
  -h, --help         Print this

Everything else is blinkstick's command line: see `phobos-blink --help`. To it
phobos-blink adds
      --all            Set every LED of the stick, with one report for all
      --respect-index  Let --pulse begin by darkening the LED that it pulses,
                       not LED 0
      --strict         Fail where blinkstick says nothing: 69 without a stick,
                       2 on an unknown color, 74 on a failed transfer
      --version        Print the version
";

/// What `--help` says of the arbiter behind blinkstick's own help, under this program's own name.
pub(crate) const MORE: &str = "
The light that many jobs share (more with `phobos-blink jobs --help`):
  job NAME STATE  Post what a job does, and put the light right
  show            Put what the jobs have posted on the light
  ack [NAME]      Acknowledge the failure of a job, or of all
  jobs [--json]   List the jobs
";

/// The whole command line, blinkstick's included, for the manual page and for completions.
pub(crate) fn documented() -> clap::Command {
    let arg = |opt: &'static Opt| {
        let long = opt.names.iter().find_map(|name| name.strip_prefix("--")).unwrap_or_default();
        let short = opt.names.iter().filter(|name| name.len() == 2).find_map(|name| name.chars().nth(1));
        let arg = clap::Arg::new(long).long(long).short(short).help(opt.help);
        match opt.value {
            Some(value) => arg.value_name(value),
            None => arg.action(clap::ArgAction::SetTrue),
        }
    };
    let general = GENERAL.iter().filter(|opt| !opt.names.contains(&"--help")).map(arg);
    let groups =
        GROUPS.iter().flat_map(|group| group.options.iter().map(move |opt| arg(opt).help_heading(group.title)));
    let added = ADDED.iter().filter(|opt| !opt.names.contains(&"--version")).map(arg);
    Cli::command()
        .subcommand_required(false)
        .args(general.chain(groups))
        .args(added.map(|arg| arg.help_heading("Beyond blinkstick")))
        .arg(clap::Arg::new("color").value_name("COLOR").help("A CSS name, six hex digits, random or off"))
}

/// A mistake in the command line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadArguments {
    #[error("{0} is no option of {1}")]
    Option(String, String),
    #[error("{0} needs a value")]
    NoValue(String),
    #[error("{0} takes no value")]
    Value(String),
    #[error("{0}: {1:?} is no number of a process")]
    Pid(String, String),
    #[error("{1} {0}")]
    Positionals(&'static str, String),
    #[error("the state {0:?} must be one of {states}", states = State::ALL.map(State::word).join(", "))]
    State(String),
    #[error("{0:?} is not UTF-8")]
    Text(OsString),
}

/// The state with this word.
pub(crate) fn state(word: &str) -> Result<State, BadArguments> {
    State::ALL.into_iter().find(|state| state.word() == word).ok_or_else(|| BadArguments::State(word.to_owned()))
}

/// Reads a command line that begins with one of the arbiter's words; `None` asks for help.
pub(crate) fn parse(args: &[OsString]) -> Result<Option<Cli>, BadArguments> {
    let mut args = args.iter().map(OsString::as_os_str);
    let word = args.next().map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
    let (mut config, mut said, mut pid, mut json, mut breathe) = (None, String::new(), None, false, false);
    let mut positionals: Vec<String> = Vec::new();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if bytes == b"--" {
            for arg in args.by_ref() {
                positionals.push(text(arg)?);
            }
        } else if bytes.starts_with(b"-") && bytes != b"-" {
            let mut parts = bytes.splitn(2, |byte| *byte == b'=');
            let (name, attached) = (parts.next().unwrap_or(bytes), parts.next().map(OsStr::from_bytes));
            let name = String::from_utf8_lossy(name).into_owned();
            let mut value = || attached.or_else(|| args.next()).ok_or_else(|| BadArguments::NoValue(name.clone()));
            match (name.as_str(), word.as_str()) {
                ("--config", _) => config = Some(value()?.into()),
                ("--text", "job") => said = text(value()?)?,
                ("--pid", "job") => {
                    let given = text(value()?)?;
                    pid = Some(given.parse().map_err(|_| BadArguments::Pid(name.clone(), given))?);
                }
                ("-h" | "--help" | "--json" | "--breathe", _) if attached.is_some() => {
                    return Err(BadArguments::Value(name));
                }
                ("--json", "jobs") => json = true,
                ("--breathe", "show") => breathe = true,
                ("-h" | "--help", _) => return Ok(None),
                _ => return Err(BadArguments::Option(name, word)),
            }
        } else {
            positionals.push(text(arg)?);
        }
    }
    let wanted = match word.as_str() {
        "job" => "takes a name and a state",
        "ack" => "takes at most one name",
        _ => "takes no names",
    };
    let mut positionals = positionals.into_iter();
    let given = (positionals.next(), positionals.next(), positionals.next());
    let command = match (word.as_str(), given) {
        ("job", (Some(name), Some(word), None)) => Command::Job { name, state: state(&word)?, text: said, pid },
        ("show", (None, ..)) => Command::Show { breathe },
        ("ack", (name, None, _)) => Command::Ack { name },
        ("jobs", (None, ..)) => Command::Jobs { json },
        _ => return Err(BadArguments::Positionals(wanted, word)),
    };
    Ok(Some(Cli { config, command }))
}

fn text(arg: &OsStr) -> Result<String, BadArguments> {
    arg.to_str().map(str::to_owned).ok_or_else(|| BadArguments::Text(arg.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn ours(args: &[&str]) -> Result<Option<Cli>, BadArguments> {
        parse(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    /// What is declared for clap, and so is in the manual page, is what is read.
    #[test]
    fn the_parser_agrees_with_the_declaration() {
        let words = [
            "ext",
            "ok",
            "working",
            "--text",
            "--text=a=b",
            "--pid",
            "7",
            "--json",
            "--breathe",
            "--config=/c",
            "--",
            "-x",
        ];
        let mut tried = 0;
        for command in crate::COMMANDS {
            let mut lines = vec![vec![command]];
            for _ in 0..3 {
                let longer = lines.iter().flat_map(|line| {
                    words.iter().map(move |word| line.iter().copied().chain([*word]).collect::<Vec<_>>())
                });
                lines = longer.chain(lines.clone()).collect();
                lines.sort_unstable();
                lines.dedup();
            }
            for line in lines {
                let theirs = Cli::try_parse_from(["phobos-blink"].iter().chain(&line)).ok();
                // clap refuses an option given twice, and one as the value of another.
                if theirs.is_some() {
                    assert_eq!(ours(&line).ok().flatten(), theirs, "{line:?}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 100, "{tried}");
    }

    #[test]
    fn the_help_names_all_that_is_declared() {
        for command in Cli::command().get_subcommands() {
            assert!(HELP.contains(&format!("phobos-blink {}", command.get_name())));
            assert!(MORE.contains(&format!("\n  {} ", command.get_name())));
            for long in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(HELP.contains(&format!("--{long}")), "{long}");
            }
        }
        for opt in crate::options::ADDED {
            assert!(HELP.contains(opt.names[0]), "{opt:?}");
        }
        assert!(matches!(ours(&["job", "-h"]), Ok(None)));
        let all = crate::help::help("phobos-blink", None) + HELP + MORE;
        assert!(all.lines().all(|line| line.chars().count() <= phobos_site::exit::WIDTH), "{all}");
    }

    #[test]
    fn the_documentation_has_every_option() {
        documented().debug_assert();
        let help = documented().render_long_help().to_string();
        for opt in GENERAL.iter().chain(GROUPS.iter().flat_map(|group| group.options)).chain(ADDED) {
            assert!(opt.names.iter().all(|name| help.contains(name)), "{opt:?}");
        }
    }

    #[test]
    fn every_mistake_is_told() {
        let cases: [(&[&str], &str); 9] = [
            (&["job"], "job takes a name and a state"),
            (&["job", "a", "ok", "b"], "job takes a name and a state"),
            (&["ack", "a", "b"], "ack takes at most one name"),
            (&["show", "a"], "show takes no names"),
            (&["show", "--json"], "--json is no option of show"),
            (&["jobs", "--json=1"], "--json takes no value"),
            (&["job", "a", "ok", "--text"], "--text needs a value"),
            (&["job", "a", "ok", "--pid", "x"], "--pid: \"x\" is no number of a process"),
            (
                &["job", "a", "green"],
                "the state \"green\" must be one of off, ok, working, waiting, attention, unsafe, failed",
            ),
        ];
        for (args, want) in cases {
            assert_eq!(ours(args).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn fuzz_arbiter_arguments() {
        phobos_fuzz::target(
            "arbiter_arguments",
            &[b"job\next\nfailed\n--text\nno", b"show\n--config=/x", b"jobs\n--json", b"ack\next"],
            |input| {
                let text = String::from_utf8_lossy(input);
                let args: Vec<OsString> = text.split('\n').map(OsString::from).collect();
                drop(parse(&args));
            },
        );
    }

    #[test]
    fn fuzz_blinkstick_options() {
        phobos_fuzz::target(
            "blinkstick_options",
            &[
                b"--index\n1\n--limit\n50\n--set-color\nred",
                b"-vs\nBS1\n--pulse\n--duration=500\n#ff8800",
                b"--brightness\n--\n-\nrandom",
            ],
            |input| {
                let text = String::from_utf8_lossy(input);
                let args: Vec<String> = text.split('\n').map(str::to_owned).collect();
                drop(crate::options::parse(&args));
            },
        );
    }
}
