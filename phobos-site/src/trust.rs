//! Host keys that a person has compared: which of those that a server shows are trusted from now on.

use std::io;

use phobos_core::ssh::HostKey;
use phobos_core::terminal::{self, Answer, Echo};

use crate::exit::{Exit, Stop};
use crate::logging;

/// A server whose keys are to be trusted.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What its owner calls it.
    pub name: &'a str,
    /// Who shows the keys, where that is not the whole of what is called so.
    pub who: &'a str,
    /// With what they are to be compared, ending the sentence that they are.
    pub how: &'a str,
    /// The keys that it shows.
    pub shown: &'a [HostKey],
    /// Those that were trusted until now.
    pub known: &'a [HostKey],
}

impl Question<'_> {
    /// The keys that are trusted: those with one of `fingerprints`, or else what whoever is at the terminal says.
    ///
    /// # Errors
    ///
    /// When the terminal cannot be read or written. That no key is trusted (65), or that a signal came first, is the inner error.
    pub fn ask(
        &self,
        fingerprints: &[String],
        interrupted: &dyn Fn() -> Option<i32>,
    ) -> io::Result<Result<Vec<HostKey>, Stop>> {
        let Self { name, who, how, shown, known } = *self;
        let refused = |message: String| Ok(Err(Stop::new(Exit::Refused, message)));
        if !fingerprints.is_empty() {
            let same = |key: &&HostKey| fingerprints.contains(&key.fingerprint);
            let trusted: Vec<_> = shown.iter().filter(same).cloned().collect();
            if trusted.is_empty() {
                return refused(format!(
                    "{who} shows none of the keys that you trust, but {}: somebody else may be answering in its place",
                    list(shown)
                ));
            }
            return Ok(Ok(trusted));
        }
        if !known.is_empty() {
            logging::result(&format!("{who} had other keys until now: {}\n", list(known)))?;
        }
        let lines = shown.iter().map(|key| format!("  {key}\n")).collect::<Vec<_>>().concat();
        logging::result(&format!("{who} shows these keys; compare them with {how}:\n{lines}"))?;
        if !terminal::is_there() {
            return refused(format!(
                "nobody is here to compare the keys of {name}; give the right one with --fingerprint SHA256:…"
            ));
        }
        logging::result("Are they the same? [yes/no] ")?;
        match terminal::line(Echo::On, interrupted)? {
            Answer::Line(answer) if answer.trim() == "yes" => Ok(Ok(shown.to_vec())),
            Answer::Line(_) | Answer::End => {
                refused(format!("the keys of {name} are not trusted; nothing was changed"))
            }
            Answer::Interrupted(signal) => Ok(Err(Stop::by_signal(signal))),
        }
    }
}

/// Keys in one line.
pub fn list(keys: &[HostKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_key_with_the_given_fingerprint_is_trusted() {
        let key = |fingerprint: &str| HostKey {
            key: "ssh-ed25519 AAAA".into(),
            fingerprint: fingerprint.into(),
            kind: "ED25519".into(),
        };
        let shown = [key("SHA256:a"), key("SHA256:b")];
        let question = Question { name: "luv", who: "luv", how: "what is here", shown: &shown, known: &[] };
        let ask = |fingerprint: &str| question.ask(&[fingerprint.into()], &|| None).unwrap();
        assert_eq!(ask("SHA256:b").unwrap(), [key("SHA256:b")]);
        let error = ask("SHA256:c").unwrap_err();
        assert!(error.to_string().starts_with("luv shows none of the keys that you trust, but SHA256:a (ED25519), "));
    }
}
