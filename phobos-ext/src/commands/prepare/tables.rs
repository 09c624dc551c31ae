//! crypttab and fstab: a line more where it is missing, and every other line as it was.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use phobos_core::fs::{Durability, replace};
use phobos_core::luks::Uuid;
use phobos_core::{luks, mount};

/// What is appended to the name of a table for the one before it.
const OLD: &str = ".before-phobos";

/// The permissions of a table that is made.
const MODE: u32 = 0o644;

/// A line that one of the tables is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// In crypttab: the drive's container, for somebody who unlocks it by hand.
    Crypttab { mapping: String, container: Uuid, key_file: PathBuf },
    /// In fstab: where drives are mounted, by their label.
    Fstab { label: String, place: PathBuf },
}

impl Line {
    /// The line, without its end.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Crypttab { mapping, container, key_file } => {
                format!("{mapping} UUID={} {} luks,noauto", container.as_str(), escaped(key_file))
            }
            Self::Fstab { label, place } => {
                format!("LABEL={label} {} ext4 noauto,noatime,nodev,nosuid,noexec 0 0", escaped(place))
            }
        }
    }

    /// The table with the line; `None` where it says all that is needed.
    pub(super) fn added_to(&self, table: &str) -> Option<String> {
        match self {
            Self::Crypttab { mapping, container, .. } => {
                let devices = luks::crypttab_devices(table);
                let uuid = format!("uuid={}", container.as_str());
                if devices.iter().any(|(_, device)| device.replace('"', "").to_ascii_lowercase() == uuid) {
                    return None;
                }
                // A drive that had this name before, and is gone, has its line: two of one name are none.
                let is_old = |line: &str| line.split_whitespace().next() == Some(mapping);
                Some(with(table, &self.text(), &is_old))
            }
            Self::Fstab { place, .. } => {
                let has = |place: &Path| place.components().collect::<PathBuf>();
                if mount::fstab_entries(table).iter().any(|(_, other)| has(other) == has(place)) {
                    return None;
                }
                Some(with(table, &self.text(), &|_| false))
            }
        }
    }

    /// Sees to it that the file `table` has the line; the file before is kept beside it. Returns whether anything was changed.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no text, or cannot be written; it is as it was.
    pub(super) fn write_to(&self, table: &Path) -> Result<bool, anyhow::Error> {
        // A table behind a link stays where it is.
        let real = fs::canonicalize(table).unwrap_or_else(|_| table.to_owned());
        let old = match fs::read(&real) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", table.display())),
        };
        let text = std::str::from_utf8(old.as_deref().unwrap_or_default());
        let text = text.with_context(|| format!("{} is no text in UTF-8", table.display()))?;
        let Some(new) = self.added_to(text) else { return Ok(false) };
        let mode = fs::metadata(&real).map_or(MODE, |metadata| metadata.permissions().mode() & 0o777);
        let write = |path: &Path, bytes: &[u8]| {
            replace(path, bytes, mode, Durability::Synced).with_context(|| format!("cannot write {}", path.display()))
        };
        if let Some(old) = &old {
            write(&beside(&real), old)?;
        }
        write(&real, new.as_bytes())?;
        Ok(true)
    }
}

/// Where the table before is kept.
fn beside(table: &Path) -> PathBuf {
    let mut name = table.as_os_str().to_owned();
    name.push(OLD);
    name.into()
}

/// The text with `line` in the place of the first that `is_old`, or else at its end; every other byte stays.
fn with(text: &str, line: &str, is_old: &dyn Fn(&str) -> bool) -> String {
    let old = text.split_inclusive('\n').position(is_old);
    let Some(old) = old else {
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        return format!("{text}{end}{line}\n");
    };
    let lines = text.split_inclusive('\n').enumerate();
    lines.map(|(number, own)| if number == old { format!("{line}\n") } else { own.to_owned() }).collect()
}

/// As fstab(5) has blanks in a path.
fn escaped(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let text = String::from_utf8_lossy(bytes);
    let each = text.chars().map(|c| match c {
        ' ' | '\t' | '\n' | '\\' => format!("\\{:03o}", u32::from(c)),
        other => other.to_string(),
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crypttab() -> Line {
        let container = Uuid::try_from("11111111-2222-4333-8444-555555555555".to_owned()).unwrap();
        Line::Crypttab { mapping: "extbackup-A".into(), container, key_file: "/etc/phobos/keys/A.key".into() }
    }

    const OWN: &str = "extbackup-A UUID=11111111-2222-4333-8444-555555555555 /etc/phobos/keys/A.key luks,noauto";

    #[test]
    fn a_line_is_added_once_and_all_others_stay() {
        let cases = [
            ("", format!("{OWN}\n")),
            ("# mine\nroot UUID=x none luks\n", format!("# mine\nroot UUID=x none luks\n{OWN}\n")),
            ("root\tUUID=x  none luks", format!("root\tUUID=x  none luks\n{OWN}\n")),
            // A drive of that name that is gone, between two others; a comment is no line of it.
            (
                "#extbackup-A UUID=z\na UUID=x\nextbackup-A UUID=y k luks\nb UUID=z\r\n",
                format!("#extbackup-A UUID=z\na UUID=x\n{OWN}\nb UUID=z\r\n"),
            ),
        ];
        for (before, after) in cases {
            assert_eq!(crypttab().added_to(before).as_deref(), Some(after.as_str()), "{before:?}");
            assert_eq!(crypttab().added_to(&after), None);
        }
        // Under another name it is known too.
        let other = "extbackup UUID=\"11111111-2222-4333-8444-555555555555\" /root/k luks\n";
        assert_eq!(crypttab().added_to(other), None);
    }

    #[test]
    fn a_place_that_fstab_has_is_the_administrators() {
        let line = |place: &str| Line::Fstab { label: "extbackup".into(), place: place.into() };
        let own = "LABEL=backup /backup ext4 noauto 0 0\nLABEL=extbackup /extbackup/ ext4 noauto 0 2\n";
        assert_eq!(line("/extbackup").added_to(own), None);
        let added = line("/ext backup").added_to(own).unwrap();
        let last = "LABEL=extbackup /ext\\040backup ext4 noauto,noatime,nodev,nosuid,noexec 0 0\n";
        assert_eq!(added, format!("{own}{last}"));
        assert_eq!(line("/ext backup").added_to(&added), None);
    }

    #[test]
    fn the_table_before_is_kept_and_a_failure_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (table, real) = (folder.path().join("crypttab"), folder.path().join("elsewhere"));
        assert!(crypttab().write_to(&table).unwrap());
        assert!(!beside(&table).exists());
        fs::rename(&table, &real).unwrap();
        fs::write(&real, "root UUID=x none\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("elsewhere", &table).unwrap();
        assert!(crypttab().write_to(&table).unwrap());
        assert!(!crypttab().write_to(&table).unwrap());
        assert!(fs::symlink_metadata(&table).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), format!("root UUID=x none\n{OWN}\n"));
        assert_eq!(fs::read_to_string(beside(&real)).unwrap(), "root UUID=x none\n");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&real, b"\xff\n").unwrap();
        assert!(crypttab().write_to(&table).unwrap_err().to_string().contains("is no text in UTF-8"));
        assert!(crypttab().write_to(Path::new("/nowhere/crypttab")).is_err());
    }
}
