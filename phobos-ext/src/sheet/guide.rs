//! What stands on each drive: the sheet without its secrets, for whoever has the drive open.

use std::path::Path;

use super::page::{self, Block, Section, commands, text_of};
use super::{mounted, restore};

/// The text, for a drive with the repository and the holding spaces at these places.
pub(crate) fn guide(inner: &Path, holding: Option<&Path>) -> String {
    let sections = [open(), restore(inner, holding), close(), look(inner), damaged(inner)];
    page::text("How to get everything back from this drive", INTRODUCTION, &sections)
}

const INTRODUCTION: &str = "This drive holds a copy of a Borg backup repository. If the repository is encrypted, its passphrase is \
    needed too; where that is kept, the owner's recovery sheet says. The machine that wrote this drive is not needed.";

fn open() -> Section {
    let blocks = vec![
        text_of("Any computer with Linux will do, as root. On Debian and Ubuntu:"),
        commands(&["apt-get install borgbackup rsync xxhash"]),
        text_of(
            "Whoever reads this has the drive open. It has to be mounted at /mnt; where it is mounted at FOLDER instead (by a \
             desktop, for example):",
        ),
        commands(&["mount --bind FOLDER /mnt", "mount -o remount,bind,ro /mnt"]),
    ];
    Section { heading: "1. Open the drive".to_owned(), blocks }
}

fn close() -> Section {
    let blocks = vec![
        commands(&["cd /", "umount /mnt"]),
        text_of(
            "What else has it open closes it the way it was opened: a desktop by \u{201c}eject\u{201d}, a shell by:",
        ),
        commands(&["umount FOLDER", "cryptsetup close MAPPING"]),
    ];
    Section { heading: "3. Close the drive, and unplug it".to_owned(), blocks }
}

fn look(inner: &Path) -> Section {
    let blocks = vec![
        text_of(
            "Whether the files are what they were says xxhsum; whether an archive is whole says Borg, which reads all of it here \
             and writes nothing:",
        ),
        Block::Commands(vec![
            "cd /mnt".to_owned(),
            "xxhsum --check --quiet .phobos/checksums/*".to_owned(),
            format!("borg --bypass-lock extract --dry-run {}::NAME", mounted(inner)),
        ]),
        text_of("Borg's own check wants to write, and so needs a copy of the repository on another disk, COPY:"),
        commands(&["borg check COPY"]),
    ];
    Section { heading: "If anything looks damaged".to_owned(), blocks }
}

fn damaged(inner: &Path) -> Section {
    let before = format!(
        "Copy all of this drive to a disk with room before anything on it is repaired. The repository as it was before its last \
         change is whole as well, in a folder below /mnt/.phobos/generation: section 2 holds for it, with that folder in the place of \
         {0}, and after this, or else Borg refuses what is older than what it has seen:",
        mounted(inner)
    );
    let key = "Every older \u{201c}config\u{201d} of the repository, which has its key, is in /mnt/.phobos/config. The key is on the \
               recovery sheet too; for a copy of the repository at COPY it is typed in with:";
    let blocks = vec![
        Block::Text(before),
        commands(&["export BORG_BASE_DIR=$(mktemp -d)"]),
        text_of(key),
        commands(&["borg key import --paper COPY"]),
    ];
    Section { heading: "If it is damaged".to_owned(), blocks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_places_that_the_drive_has_and_no_others() {
        let text = guide(Path::new("repos/my borg"), Some(Path::new("holding")));
        assert!(text.lines().any(|line| line == "        borg --bypass-lock list '/mnt/repos/my borg'"), "{text}");
        assert!(text.contains(" /mnt/holding/HOST/ "), "{text}");
        assert!(!text.contains("/mnt/borg"), "{text}");
        let alone = guide(Path::new("borg"), None);
        assert!(!alone.contains("HOST") && !alone.contains("holding"), "{alone}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}
