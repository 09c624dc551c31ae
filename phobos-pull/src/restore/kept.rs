//! What rsync's `--fake-super` keeps of a file beside it: its real mode, device and owner, as a receiver without rights cannot
//! set them.

use std::ffi::OsStr;
use std::path::Path;

use phobos_core::fs::{Dir, FsError, Kind, Stat, shown};
use rustix::io::Errno;

/// The attribute: `MODE MAJOR,MINOR UID:GID`, the mode in octal with the bits of the kind.
const ATTRIBUTE: &str = "user.rsync.%stat";

/// The longest target of a link that is read.
const LONGEST: u64 = 4096;

/// What a file is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// The letter that `ls` has for its kind.
    pub(super) kind: char,
    /// The permissions: 12 bits.
    pub(super) mode: u32,
    /// The owner.
    pub(super) uid: u32,
    /// The group.
    pub(super) gid: u32,
}

/// What `name` in `folder` is on the host; where nothing is kept, what it is here.
pub(super) fn of(folder: &Dir, name: &Path, stat: &Stat) -> Kept {
    let kept = folder.attribute(name, OsStr::new(ATTRIBUTE)).ok();
    kept.and_then(|text| parse(&text)).unwrap_or_else(|| as_it_is(stat))
}

/// As [`of`], but nothing where what is kept cannot be understood: rsync reads it more leniently, and what only it understands may be a
/// device.
pub(super) fn strictly(folder: &Dir, name: &Path, stat: &Stat) -> Option<Kept> {
    let is_absent = |error: &std::io::Error| {
        error
            .raw_os_error()
            .is_some_and(|code| [Errno::NODATA, Errno::OPNOTSUPP].map(Errno::raw_os_error).contains(&code))
    };
    match folder.attribute(name, OsStr::new(ATTRIBUTE)) {
        Ok(text) => parse(&text),
        Err(FsError::Io { source, .. }) if is_absent(&source) => Some(as_it_is(stat)),
        Err(_) => None,
    }
}

/// What a file of the host is by `stat` alone.
pub(super) fn as_it_is(stat: &Stat) -> Kept {
    let kind = match stat.kind {
        Kind::File => '-',
        Kind::Dir => 'd',
        Kind::Link => 'l',
        _ => '?',
    };
    Kept { kind, mode: stat.mode, uid: stat.uid, gid: stat.gid }
}

/// Where the link `name` in `folder` leads on the host, escaped for people.
///
/// # Errors
///
/// When it cannot be read.
pub(super) fn leads(folder: &Dir, name: &Path, stat: &Stat) -> Result<Option<String>, FsError> {
    if stat.kind == Kind::Link {
        return folder.read_link(name).map(|target| Some(shown(&target)));
    }
    // A receiver without rights over links keeps them as files.
    let text = folder.read(name, LONGEST)?;
    Ok(text.map(|text| phobos_core::fs::shown_text(&String::from_utf8_lossy(&text))))
}

fn parse(text: &[u8]) -> Option<Kept> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split(' ');
    let (mode, _device, owner) = (words.next()?, words.next()?, words.next()?);
    let mode = u32::from_str_radix(mode, 8).ok()?;
    let (uid, gid) = owner.trim_end_matches('\0').split_once(':')?;
    let kind = match mode & 0o170_000 {
        0o100_000 => '-',
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o060_000 => 'b',
        0o020_000 => 'c',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => return None,
    };
    Some(Kept { kind, mode: mode & 0o7777, uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

impl Kept {
    /// Kind and permissions as `ls -l` shows them.
    pub(super) fn letters(&self) -> String {
        let bit = |mask: u32, letter: char| if self.mode & mask == 0 { '-' } else { letter };
        let last = |run: u32, special: u32, letter: char| match (self.mode & special != 0, self.mode & run != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, _) => bit(run, 'x'),
        };
        [
            self.kind,
            bit(0o400, 'r'),
            bit(0o200, 'w'),
            last(0o100, 0o4000, 's'),
            bit(0o040, 'r'),
            bit(0o020, 'w'),
            last(0o010, 0o2000, 's'),
            bit(0o004, 'r'),
            bit(0o002, 'w'),
            last(0o001, 0o1000, 't'),
        ]
        .iter()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rsync_keeps_is_understood() {
        let kept = parse(b"104711 0,0 1234:2345").unwrap();
        assert_eq!(kept, Kept { kind: '-', mode: 0o4711, uid: 1234, gid: 2345 });
        assert_eq!(kept.letters(), "-rws--x--x");
        assert_eq!(parse(b"120777 0,0 1:2").unwrap().letters(), "lrwxrwxrwx");
        assert_eq!(parse(b"41754 0,0 0:0").unwrap().letters(), "drwxr-xr-T");
        assert_eq!(parse(b"60660 8,1 0:6").unwrap().kind, 'b');
    }

    #[test]
    fn an_attribute_that_lies_is_none() {
        let lies: [&[u8]; 9] = [
            b"",
            b"104711",
            b"104711 0,0",
            b"104711 0,0 1",
            b"9 0,0 1:2",
            b"0 0,0 1:2",
            b"104711 0,0 -1:2",
            b"104711 0,0 99999999999:2",
            b"\xff 0,0 1:2",
        ];
        for lie in lies {
            assert_eq!(parse(lie), None, "{}", String::from_utf8_lossy(lie));
        }
    }
}
