//! Links under the names of the original's programs, so that not even the paths in units need change.
//!
//! What stands in a link's way is somebody else's and is left as it is. The links are remembered beside the manifest.

use super::place::{self, Found};
use crate::files::Layout;
use crate::say;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The original's programs, and those that take their places.
const LINKS: [(&str, &str); 5] = [
    ("blinkstick", "phobos-blink"),
    ("mkbackupns", "phobos-ns"),
    ("systemd-email", "phobos-mail"),
    ("phobos-backup-monthly", "phobos-ext"),
    ("backup-exthdd", "phobos-ext"),
];

/// The links that were made, a path a line, below the tree.
const MADE: &str = "usr/local/share/phobos/links";

/// Puts the links into `folder`, which is below `tree`.
///
/// # Errors
///
/// If a link cannot be made; what was made until then is remembered.
pub(super) fn link(tree: &Path, folder: &Path, dry_run: bool) -> Result<()> {
    let folder = folder.strip_prefix("/").unwrap_or(folder);
    let mut made = made(tree)?;
    let mut done = Ok(());
    for (name, program) in LINKS {
        let (target, says) = (folder.join(name), Path::new("/").join(Layout::Local.bin()).join(program));
        let path = tree.join(&target);
        if place::link(tree, &target)?.as_deref() == Some(says.as_path()) {
            made.push(target);
        } else if !matches!(place::look(tree, &target)?, Found::Nothing) {
            say(&format!("kept       {}: it is not phobos's; move it away and install again", path.display()));
        } else {
            say(&format!("link       {} -> {}", path.display(), says.display()));
            if !dry_run {
                done = place::symlink(tree, &target, &says);
                if done.is_err() {
                    break;
                }
            }
            made.push(target);
        }
    }
    made.sort();
    made.dedup();
    if !dry_run {
        let lines: Vec<String> = made.iter().map(|target| format!("{}\n", target.display())).collect();
        place::write(tree, Path::new(MADE), lines.concat().as_bytes(), 0o644)?;
    }
    done
}

/// Takes the links away that still say what they said.
///
/// # Errors
///
/// If one cannot be removed.
pub(super) fn unlink(tree: &Path, dry_run: bool) -> Result<()> {
    for target in made(tree)? {
        let said = place::link(tree, &target)?;
        let ours = said.is_some_and(|said| said.parent() == Some(&Path::new("/").join(Layout::Local.bin())));
        let path = tree.join(&target);
        if ours {
            say(&format!("removed    {}", path.display()));
            if !dry_run {
                place::remove(tree, &target)?;
            }
        } else {
            say(&format!("kept       {}: it is not the link that was made", path.display()));
        }
    }
    if dry_run { Ok(()) } else { place::remove(tree, Path::new(MADE)) }
}

fn made(tree: &Path) -> Result<Vec<PathBuf>> {
    match place::look(tree, Path::new(MADE))? {
        Found::File(text) => {
            let text = String::from_utf8(text).with_context(|| format!("{MADE} is no list of links; remove it"))?;
            Ok(text.lines().map(PathBuf::from).collect())
        }
        Found::Nothing | Found::Other => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn links_are_made_remembered_and_taken_away_and_nothing_else_is() {
        let sh = xshell::Shell::new().unwrap();
        let folder = sh.create_temp_dir().unwrap();
        let tree = folder.path().join("tree");
        let bin = tree.join("usr/local/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("blinkstick"), "the original").unwrap();
        link(&tree, Path::new("/usr/local/bin"), true).unwrap();
        assert_eq!(fs::read_dir(&bin).unwrap().count(), 1, "a rehearsal changes nothing");
        for _ in 0..2 {
            link(&tree, Path::new("/usr/local/bin"), false).unwrap();
        }
        let said = |name: &str| fs::read_link(bin.join(name)).unwrap();
        assert_eq!(said("mkbackupns"), Path::new("/usr/local/bin/phobos-ns"));
        assert_eq!(said("backup-exthdd"), said("phobos-backup-monthly"));
        assert_eq!(fs::read_to_string(bin.join("blinkstick")).unwrap(), "the original");
        // Somebody has put the original back.
        fs::remove_file(bin.join("systemd-email")).unwrap();
        fs::write(bin.join("systemd-email"), "mine").unwrap();
        unlink(&tree, true).unwrap();
        assert_eq!(fs::read_dir(&bin).unwrap().count(), 5);
        unlink(&tree, false).unwrap();
        let mut left: Vec<_> = fs::read_dir(&bin).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["blinkstick", "systemd-email"]);
        assert!(!tree.join(MADE).exists());
    }

    #[test]
    fn each_name_of_the_original_has_a_program() {
        let programs = crate::programs().unwrap();
        assert!(LINKS.iter().all(|(_, program)| programs.iter().any(|known| known == program)));
    }
}
