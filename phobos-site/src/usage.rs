//! Wrong arguments: one line that says what is wrong, what may be meant, and where to read on.
//!
//! The programs read their arguments with clap, whose messages have several lines; this crate knows nothing of clap but its
//! text.

use std::process::ExitCode;

use crate::exit::Exit;
use crate::logging;

/// How many letters may be wrong in a word that another is meant by.
const NEAR: usize = 2;

/// Says what is wrong with the arguments of `program`, by clap's message, and returns the exit code for that.
pub fn refuse(program: &str, message: &str) -> ExitCode {
    logging::init(log::LevelFilter::Info);
    log::error!("{}", line(program, message));
    Exit::Usage.into()
}

/// The word among `known` that `word` is most likely meant for, if it is near enough to any.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let near = known.into_iter().map(|other| (strsim::osa_distance(word, other), other)).min();
    near.filter(|(distance, other)| *distance <= NEAR && *distance < other.chars().count()).map(|(_, other)| other)
}

/// clap's message on one line, without its usage.
fn line(program: &str, message: &str) -> String {
    let mut text = String::new();
    for line in message.lines().map(str::trim).take_while(|line| !line.starts_with("Usage: ")) {
        let (separator, said) = match (line.strip_prefix("error: "), line.strip_prefix("tip: ")) {
            (Some(error), _) => ("", error.to_owned()),
            (_, Some(tip)) => ("; ", advice(tip)),
            _ if line.is_empty() || line.starts_with("For more information") => continue,
            // The arguments that are missing, or the values that are known.
            _ => (" ", line.to_owned()),
        };
        if !text.is_empty() {
            text.push_str(separator);
        }
        text.push_str(&said);
    }
    format!("{text}; see `{program} --help`")
}

/// clap's tip as a question.
fn advice(tip: &str) -> String {
    let meant = tip.split_once(" exists: ").or_else(|| tip.split_once(" exist: "));
    match meant.filter(|_| tip.contains("similar")) {
        Some((_, words)) => format!("did you mean {}?", words.replace(", ", " or ")),
        None => tip.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clap_says_is_one_line() {
        let usage = "\n\nUsage: p [OPTIONS] <HOST>...\n\nFor more information, try '--help'.\n";
        let said = |message: &str| line("p", &format!("error: {message}{usage}"));
        assert_eq!(
            said("unexpected argument '--al' found\n\n  tip: a similar argument exists: '--all'"),
            "unexpected argument '--al' found; did you mean '--all'?; see `p --help`"
        );
        assert_eq!(
            said("unrecognized subcommand 'exce'\n\n  tip: some similar subcommands exist: 'exec', 'exit'"),
            "unrecognized subcommand 'exce'; did you mean 'exec' or 'exit'?; see `p --help`"
        );
        assert_eq!(
            said("the following required arguments were not provided:\n  <HOST>...\n  <KEY>"),
            "the following required arguments were not provided: <HOST>... <KEY>; see `p --help`"
        );
        assert_eq!(
            said("unexpected argument 'ls' found\n\n  tip: the command goes behind `--`: p -- ls"),
            "unexpected argument 'ls' found; the command goes behind `--`: p -- ls; see `p --help`"
        );
        let value = "error: invalid value 'x' for '--jobs <N>': invalid digit\n\nFor more information, try '--help'.\n";
        assert_eq!(line("p", value), "invalid value 'x' for '--jobs <N>': invalid digit; see `p --help`");
    }

    #[test]
    fn a_mistyped_word_is_known_by_few_letters() {
        let known = ["close", "mirror", "ls"];
        for (word, meant) in [("colse", "close"), ("clos", "close"), ("miror", "mirror"), ("sl", "ls")] {
            assert_eq!(nearest(word, known), Some(meant), "{word}");
        }
        for word in ["photo", "by hand", "", "x"] {
            assert_eq!(nearest(word, known), None, "{word}");
        }
    }
}
