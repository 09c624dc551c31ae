//! Rooms: a file is one subject of readable length, and ARCHITECTURE.md's map shows the modules that there are.

use super::files;
use crate::{crates, project};
use std::collections::BTreeSet;
use std::fs;

/// How many lines a file of a library or a program may have.
const LONGEST: usize = 450;

/// How the line begins with which a longer file gives its reason, in its first comment.
const REASON: &str = "//! Long because ";

/// Whether a file is longer than it may be, and gives no reason for that.
fn is_too_long(text: &str) -> bool {
    let has_reason = text.lines().take_while(|line| line.starts_with("//!")).any(|line| line.starts_with(REASON));
    text.lines().count() > LONGEST && !has_reason
}

#[test]
fn no_product_file_is_longer_than_can_be_read_at_once() {
    for package in crates().unwrap() {
        // Tests are read one by one.
        let code = files(&package.join("src"), &[".rs"]).into_iter().filter(|path| !path.ends_with("tests.rs"));
        for path in code {
            let text = fs::read_to_string(&path).unwrap();
            assert!(
                !is_too_long(&text),
                "{} has more than {LONGEST} lines: split it by subject, or give the reason in a line `{REASON}…`",
                path.display()
            );
        }
    }
}

#[test]
fn a_reason_counts_in_the_first_comment_only() {
    let code = "let a = 1;\n".repeat(LONGEST);
    assert!(!is_too_long(&code));
    assert!(is_too_long(&format!("//! A file.\n{code}")));
    assert!(!is_too_long(&format!("//! A file.\n//!\n{REASON}the table is one.\n{code}")));
    assert!(is_too_long(&format!("//! A file.\n{code}{REASON}it is.\n")));
}

/// The modules that the map in ARCHITECTURE.md names for `package`, in its order.
fn mapped(text: &str, package: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| !line.starts_with(&format!("    {package} "))).skip(1);
    let modules = lines.take_while(|line| line.starts_with("      "));
    modules.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn the_map_names_each_module_once_and_no_other() {
    let text = fs::read_to_string(project().join("ARCHITECTURE.md")).unwrap();
    for package in ["phobos-core", "phobos-site"] {
        let modules: BTreeSet<String> = fs::read_to_string(project().join(package).join("src/lib.rs"))
            .unwrap()
            .lines()
            .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
            .map(str::to_owned)
            .collect();
        let map = mapped(&text, package);
        let once: BTreeSet<String> = map.iter().cloned().collect();
        assert_eq!(once, modules, "the map of {package} in ARCHITECTURE.md is not its modules");
        assert_eq!(map.len(), once.len(), "the map of {package} in ARCHITECTURE.md names a module twice: {map:?}");
    }
}
