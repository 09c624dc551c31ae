//! fstab(5): what is to be mounted where, and how.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::MountError;
use super::table::unescape;

/// An entry of fstab(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabEntry {
    /// What is to be mounted: a device, `LABEL=…`, `UUID=…`.
    pub source: String,
    /// The type of the file system.
    pub kind: String,
    /// The options, as they stand.
    pub options: String,
}

/// The fstab entry of `target`, if there is one.
///
/// # Errors
///
/// When fstab exists and cannot be read.
pub fn fstab_entry(fstab: &Path, target: &Path) -> Result<Option<FstabEntry>, MountError> {
    match fs::read_to_string(fstab) {
        Ok(text) => Ok(parse_fstab(&text, target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(MountError::Read { path: fstab.to_owned(), source }),
    }
}

/// All entries in the text of an fstab: what is to be mounted, and where.
pub fn fstab_entries(text: &str) -> Vec<(String, PathBuf)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let fields = lines.map(str::split_whitespace);
    let entry = |source: &str, place: &str| (unescape(source).display().to_string(), unescape(place));
    fields.filter_map(|mut fields| Some(entry(fields.next()?, fields.next()?))).collect()
}

/// The device that a line of fstab or crypttab means, as far as its path says so.
pub fn device_of(source: &str) -> PathBuf {
    let tags = [
        ("UUID=", "/dev/disk/by-uuid"),
        ("LABEL=", "/dev/disk/by-label"),
        ("PARTUUID=", "/dev/disk/by-partuuid"),
        ("PARTLABEL=", "/dev/disk/by-partlabel"),
    ];
    let named = tags.iter().find_map(|(tag, folder)| {
        // One component, whatever is written there.
        let name = Path::new(source.strip_prefix(tag)?.trim_matches('"')).file_name()?;
        Some(Path::new(folder).join(name))
    });
    named.unwrap_or_else(|| source.into())
}

fn parse_fstab(text: &str, target: &Path) -> Option<FstabEntry> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.map(str::split_whitespace).find_map(|mut fields| {
        let (source, place) = (fields.next()?, fields.next()?);
        let place: PathBuf = unescape(place).components().collect();
        // The place in fstab may be a link to the one that is meant, or on the way to it.
        let meant = place == target || fs::canonicalize(&place).is_ok_and(|real| real == target);
        meant.then(|| FstabEntry {
            source: unescape(source).display().to_string(),
            kind: fields.next().unwrap_or("auto").to_owned(),
            options: fields.next().unwrap_or("defaults").to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fstab_is_read_as_mount_reads_it() {
        let text =
            "# LABEL=no /backup ext4\nLABEL=extbackup  /extbackup/ ext4 noauto,noatime 0 2\n/dev/x /my\\040place";
        let entry = parse_fstab(text, Path::new("/extbackup")).unwrap();
        assert_eq!(entry.options, "noauto,noatime");
        assert_eq!(parse_fstab(text, Path::new("/my place")).unwrap().kind, "auto");
        assert_eq!(parse_fstab(text, Path::new("/backup")), None);
        let entries = fstab_entries(text);
        assert_eq!(entries, [("LABEL=extbackup".into(), "/extbackup/".into()), ("/dev/x".into(), "/my place".into())]);
    }

    #[test]
    fn fuzz_fstab() {
        phobos_fuzz::target(
            "fstab",
            &[b"# a comment\nLABEL=backup /backup ext4 noauto,nofail 0 2\n/dev/sda1 /a\\040b auto\n"],
            |input| {
                let text = String::from_utf8_lossy(input);
                drop((parse_fstab(&text, Path::new("/backup")), fstab_entries(&text)));
            },
        );
    }
}
