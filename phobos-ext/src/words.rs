//! A first word that is no command: TEXT where a drop-in is meant, and a mistake everywhere else.

use std::ffi::OsString;

use phobos_site::usage;

/// The name under which phobos-ext is not a drop-in.
const OWN_NAME: &str = "phobos-ext";

/// What must be said of the words `text` in the command line `args`, its first word included; `None` where they are meant:
/// under another name, in a unit of systemd (`INVOCATION_ID`), or behind `--`.
pub(crate) fn mistake(text: &[String], commands: &[String], args: &[OsString], is_in_unit: bool) -> Option<String> {
    let first = text.first()?;
    let name = args.first().map(std::path::Path::new).and_then(|program| program.file_name());
    let behind = args.iter().position(|word| word == "--").map_or(0, |at| args.len() - at - 1);
    if is_in_unit || name.is_some_and(|name| name != OWN_NAME) || text.len() <= behind {
        return None;
    }
    let near = usage::nearest(first, commands.iter().map(String::as_str));
    let advice = near.map_or(String::new(), |command| format!("did you mean `{OWN_NAME} {command}`? "));
    Some(format!(
        "{first:?} is no command, and nothing was done; {advice}To mirror and have a text echoed: `{OWN_NAME} -- {}`",
        text.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str, is_in_unit: bool) -> Option<String> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let text: Vec<String> = line.split(' ').skip(1).filter(|word| *word != "--").map(str::to_owned).collect();
        mistake(&text, &["close".to_owned(), "mirror".to_owned(), "drives".to_owned()], &args, is_in_unit)
    }

    #[test]
    fn a_word_that_is_no_command_is_a_mistake_but_where_a_drop_in_is_meant() {
        for line in ["phobos-ext colse", "/usr/local/bin/phobos-ext clos", "phobos-ext lcose x -- y"] {
            assert!(said(line, false).is_some_and(|said| said.contains("did you mean `phobos-ext close`?")), "{line}");
        }
        let said_of_text = said("phobos-ext by hand", false).unwrap();
        assert!(!said_of_text.contains("did you mean") && said_of_text.ends_with("`phobos-ext -- by hand`"));
        for (line, is_in_unit) in [
            ("phobos-ext colse", true),
            ("phobos-backup-monthly colse", false),
            ("phobos-ext -- colse", false),
            ("phobos-ext -- by hand", false),
            ("phobos-ext", false),
        ] {
            assert_eq!(said(line, is_in_unit), None, "{line}");
        }
    }
}
