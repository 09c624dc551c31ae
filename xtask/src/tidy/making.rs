//! Files and folders are made in one place, `phobos_core::fs`: with the modes that they are to have, and through no link.

use super::files;
use crate::{crates, project};
use std::fs;

/// What makes or overwrites files and folders by path, as the umask and whoever planted a link will have it.
const BY_PATH: [&str; 7] =
    ["File::create", "File::options", "fs::write(", "create_dir", "DirBuilder", "OpenOptions", "fs::copy("];

/// Says, in the line above, why something else is right there.
const REASON: &str = "// Outside phobos_core::fs: ";

/// The lines of product code that make files by path without saying why; each with its number.
fn makers(text: &str) -> Vec<(usize, &str)> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let is_comment = line.trim_start().starts_with("//");
        let above = number.checked_sub(1).map_or("", |above| lines[above].trim_start());
        let has_reason = above.strip_prefix(REASON).is_some_and(|reason| !reason.is_empty());
        if !is_comment && !has_reason && BY_PATH.iter().any(|word| line.contains(word)) {
            found.push((number + 1, *line));
        }
    }
    found
}

#[test]
fn files_and_folders_are_made_by_phobos_core_fs_alone() {
    let mut sources: Vec<_> =
        crates().unwrap().iter().flat_map(|package| files(&package.join("src"), &[".rs"])).collect();
    // What installs the product runs as root in folders that others may write to.
    sources.extend(files(&project().join("xtask/src/install"), &[".rs"]));
    sources.push(project().join("xtask/src/install.rs"));
    sources.retain(|path| !path.ends_with("tests.rs") && !path.components().any(|part| part.as_os_str() == "tests"));
    assert!(sources.len() > 100);
    let mut wrong = Vec::new();
    for path in sources {
        let text = fs::read_to_string(&path).unwrap();
        wrong.extend(makers(&text).iter().map(|(number, line)| format!("{}:{number}: {line}", path.display())));
    }
    assert!(wrong.is_empty(), "use phobos_core::fs instead: {wrong:#?}");
}

#[test]
fn what_makes_a_file_by_path_is_found() {
    let code = "use std::fs::{self, DirBuilder};\n// fs::write(x)\nfs::write(x)?;\nlet made = fs::create_dir_all(x);\n\
                // Outside phobos_core::fs: it is a device.\nFile::create(x)?;\n// Outside phobos_core::fs: \nFile::create(y)?;\n\
                #[cfg(test)]\nmod tests {\nfs::write(x);\n}\n";
    let found: Vec<usize> = makers(code).into_iter().map(|(number, _)| number).collect();
    assert_eq!(found, [1, 3, 4, 8]);
}
