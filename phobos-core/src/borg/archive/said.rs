//! What Borg says at its end, and what that means.

use serde::Deserialize;

use super::{ArchiveError, Unopened};
use crate::exec::ExecError;
use crate::fs::shown_text;

/// What Borg says where the key cannot be had or opened, in its own names for errors, and what that means.
const KEY: [(&str, Unopened); 8] = [
    ("PassphraseWrong", Unopened::Passphrase),
    ("NoPassphraseFailure", Unopened::NoPassphrase),
    ("PasscommandFailure", Unopened::NoPassphrase),
    ("RepoKeyNotFoundError", Unopened::NoKey),
    ("KeyfileNotFoundError", Unopened::NoKey),
    ("KeyfileMismatchError", Unopened::OtherKey),
    ("KeyfileInvalidError", Unopened::OtherKey),
    ("NotABorgKeyFile", Unopened::OtherKey),
];

/// What it only warns of where `borg check --repair` has put zeros in the place of what was lost (`archive.py`, `extract_item`).
pub(super) const ZEROS: &str = "damaged (all-zero) chunks";

/// What it says where what it has read is not what was written.
const DAMAGE: [&str; 8] = [
    ZEROS,
    "IntegrityError",
    "FileIntegrityError",
    "ObjectNotFound",
    "InvalidRepository",
    "CheckNeeded",
    "UnpackException",
    "Decompression",
];

/// What Borg's end means.
pub(super) fn understand(error: ExecError) -> ArchiveError {
    let said = match &error {
        ExecError::TimedOut { .. } => return ArchiveError::Time,
        ExecError::Failed { stderr, .. } => stderr,
        _ => return ArchiveError::Exec(error),
    };
    if let Some((_, why)) = KEY.iter().find(|(name, _)| said.contains(name)) {
        return ArchiveError::Unopened { why: *why };
    }
    if DAMAGE.iter().any(|name| said.contains(name)) {
        return ArchiveError::Damaged { said: message(said) };
    }
    match sentence(said) {
        Some(said) => ArchiveError::Failed { said },
        None => ArchiveError::Exec(error),
    }
}

/// What a person is told of what Borg has said: its first sentence, or else its last line.
fn message(said: &str) -> String {
    sentence(said).unwrap_or_else(|| shown_text(said.lines().last().unwrap_or_default()))
}

/// The first thing that Borg has said, or else what was raised in it.
fn sentence(said: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        message: String,
    }
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()).map(|line| line.message);
    let lines = lines.filter(|text| !text.starts_with("Traceback"));
    let first = lines.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).next();
    // Of a long one only the end was kept; where it was raised comes first, and Borg's versions last.
    let raised = || {
        let (_, text) = said.rsplit("\\n").find_map(|line| line.split_once("Error: "))?;
        Some(text.trim_end_matches(['"', '}']).to_owned())
    };
    let text: String = first.or_else(raised)?.chars().take(300).collect();
    Some(shown_text(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Invocation, Status};

    #[test]
    fn borgs_end_is_told_by_what_it_says() {
        let failed = |stderr: &str| {
            let invocation = Invocation::new("borg").call();
            understand(ExecError::Failed { invocation, status: Status::Code(2), stderr: stderr.to_owned() })
        };
        let json = r#"{"type": "log_message", "message": "passphrase supplied in ... is incorrect.", "msgid": "PassphraseWrong"}"#;
        assert!(matches!(failed(json), ArchiveError::Unopened { why: Unopened::Passphrase }));
        let json = r#"{"message": "Data integrity error: Chunk ab: id verification failed\nTraceback", "msgid": "IntegrityError"}"#;
        let told = failed(json).to_string();
        assert_eq!(told, "Borg cannot read it: Data integrity error: Chunk ab: id verification failed");
        let cut = r#"k.py, line 3\n    raise\nborg.helpers.errors.IntegrityError: Data integrity error: Segment entry checksum mismatch [segment 3]\n\nPlatform: Linux\nBorg: 1.2.4", "levelname": "ERROR", "name": "borg.archiver"}"#;
        let traced = r#"{"message": "Traceback (most recent call last):\n  File 1\nborg.helpers.errors.IntegrityError: Data integrity error: Segment entry checksum mismatch [segment 3]\n\nBorg: 1.2.4", "name": "borg.archiver"}"#;
        assert!(
            failed(traced).to_string().ends_with("Segment entry checksum mismatch [segment 3]"),
            "{}",
            failed(traced)
        );
        assert!(failed(cut).to_string().ends_with("Segment entry checksum mismatch [segment 3]"), "{}", failed(cut));
        assert!(matches!(failed("Permission denied"), ArchiveError::Exec(_)));
        let warned = r#"{"type": "log_message", "message": "a/b: when setting extended attribute user.x: not supported", "levelname": "WARNING"}"#;
        let raised = r#"{"message": "Traceback (most recent call last):\n  File 1\nOSError: [Errno 28] No space left on device: 'a'\n\nBorg: 1.2.4"}"#;
        for (said, told) in [
            (warned, "a/b: when setting extended attribute user.x: not supported"),
            (raised, "[Errno 28] No space left on device: 'a'"),
        ] {
            assert_eq!(failed(said).to_string(), format!("Borg has failed: {told}"));
        }
    }
}
