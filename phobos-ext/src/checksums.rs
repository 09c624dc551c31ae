//! Checksums of what lies on a drive and has none in itself: recorded when it was read back, for whoever reads it again.
//!
//! A list is what `xxhsum -c` takes, called at the top of the drive; what it does not know is a comment. It is written anew as
//! `NAME.new` while a mirror is made, and gets its name when the mirror is complete. What phobos itself keeps on the drive, the lists
//! too, is in the [`crate::seal`].

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use phobos_core::copy::{Checksum, Content, CopyError, Crc, Summing};
use phobos_core::fs::Dir;

use crate::record::FOLDER;

/// The folder of the lists, in phobos's own.
pub(crate) const LISTS: &str = "checksums";

/// What a line begins with, as `xxhsum -H3 --tag` has it; older versions of xxhsum take no other form of this kind of checksum.
const KIND: &[u8] = b"XXH3 (";

/// What is between the path and the checksum.
const IS: &[u8] = b") = ";

/// What the line before that of a large file begins with.
const CRC: &[u8] = b"# CRC32 ";

/// From which size on a file is large, in bytes: one that is read again may be read in several goes.
pub(crate) const LARGE: u64 = 64 * 1024 * 1024;

/// How long a line may be: the longest path, each of its bytes escaped.
const LONGEST: u64 = 16 * 1024;

/// Which files a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum List {
    /// The repository's, but for its segments, which have checksums in themselves.
    Repository,
    /// Those that rsync copies.
    Spaces,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) sum: Checksum,
    /// The CRC-32 and the size of a large one.
    pub(crate) large: Option<(Crc, u64)>,
}

impl From<Checksum> for Known {
    fn from(sum: Checksum) -> Self {
        Self { sum, large: None }
    }
}

impl From<Content> for Known {
    fn from(Content { sum, crc, size }: Content) -> Self {
        Self { sum, large: (size >= LARGE).then_some((crc, size)) }
    }
}

/// A list that is being written.
#[derive(Debug)]
pub(crate) struct Draft {
    list: List,
    out: BufWriter<File>,
    sum: Summing,
}

/// A list that is complete and not in its place yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drafted {
    pub(crate) list: List,
    pub(crate) sum: Checksum,
}

impl List {
    pub(crate) const ALL: [Self; 2] = [Self::Repository, Self::Spaces];

    /// Where it is, from the top of the drive.
    pub(crate) fn path(self) -> PathBuf {
        let name = match self {
            Self::Repository => "repository",
            Self::Spaces => "spaces",
        };
        Path::new(FOLDER).join(LISTS).join(name)
    }

    fn draft(self) -> PathBuf {
        self.path().with_extension("new")
    }

    /// What it says, in its order: paths from the top of the drive, and what the files there have to be.
    pub(crate) fn read(
        self,
        root: &Dir,
    ) -> Result<impl Iterator<Item = Result<(PathBuf, Known), CopyError>>, CopyError> {
        let path = self.path();
        let mut input = BufReader::new(root.open_file(&path)?);
        let full = root.path().join(&path);
        let mut line = Vec::new();
        let mut next = move || -> io::Result<Option<(PathBuf, Known)>> {
            let mut large = None;
            loop {
                line.clear();
                let count = input.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
                if count == 0 && large.is_none() {
                    return Ok(None);
                }
                let line = line.strip_suffix(b"\n").unwrap_or_default();
                if let Some((path, sum)) = parse(line) {
                    return Ok(Some((path, Known { sum, large })));
                }
                if large.is_some() || !line.starts_with(CRC) {
                    break;
                }
                large = parse_crc(line);
            }
            Err(io::Error::new(io::ErrorKind::InvalidData, "a line is no checksum and path"))
        };
        let mut is_over = false;
        Ok(std::iter::from_fn(move || {
            let found = if is_over { None } else { next().transpose() };
            is_over = !matches!(found, Some(Ok(_)));
            found.map(|found| found.map_err(|source| CopyError::Read { path: full.clone(), source }))
        }))
    }
}

impl Draft {
    /// An empty list, beside the one that counts.
    pub(crate) fn new(root: &Dir, list: List) -> Result<Self, CopyError> {
        root.make_dir(Path::new(FOLDER), 0o700)?.make_dir(Path::new(LISTS), 0o700)?;
        let path = list.draft();
        if root.stat(&path)?.is_some() {
            root.remove(&path)?;
        }
        Ok(Self { list, out: BufWriter::new(root.create_new(&path, 0o600)?), sum: Summing::default() })
    }

    /// Adds a file.
    pub(crate) fn add(&mut self, path: &Path, known: impl Into<Known>) -> Result<(), CopyError> {
        let line = lines(path, known.into());
        self.sum.feed(&line);
        self.out.write_all(&line).map_err(|source| self.failed(source))
    }

    /// Takes over the lines of the list that counts, if it is one that can be believed, for those that `is_kept` says.
    pub(crate) fn keep(
        &mut self,
        root: &Dir,
        is_kept: &mut dyn FnMut(&Path) -> Result<bool, CopyError>,
    ) -> Result<(), CopyError> {
        for found in self.list.read(root)? {
            let (path, known) = found?;
            if is_kept(&path)? {
                self.add(&path, known)?;
            }
        }
        Ok(())
    }

    /// Writes it to the disk.
    pub(crate) fn close(self) -> Result<Drafted, CopyError> {
        let (list, sum) = (self.list, self.sum.checksum());
        let wrong = |source| CopyError::Write { path: list.draft(), source };
        let file = self.out.into_inner().map_err(|error| wrong(error.into_error()))?;
        file.sync_all().map_err(wrong)?;
        Ok(Drafted { list, sum })
    }

    fn failed(&self, source: io::Error) -> CopyError {
        CopyError::Write { path: self.list.draft(), source }
    }
}

impl Drafted {
    /// Lets it be the list that counts.
    pub(crate) fn put_in_place(&self, root: &Dir) -> Result<(), CopyError> {
        Ok(root.rename(&self.list.draft(), root, &self.list.path())?)
    }
}

/// A path as its own text, for a message and for what has to find it again: bytes that are no text are `\xNN`.
pub(crate) fn to_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        text.extend(chunk.invalid().iter().map(|byte| format!(r"\x{byte:02x}")));
    }
    text
}

/// What [`to_text`] has made; `None` for anything else.
pub(crate) fn from_text(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        rest = if let Some(rest) = escaped.strip_prefix('\\') {
            bytes.push(b'\\');
            rest
        } else {
            let digits = escaped.strip_prefix('x')?.get(..2)?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            escaped.get(3..)?
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(PathBuf::from(OsStr::from_bytes(&bytes)))
}

fn lines(path: &Path, Known { sum, large }: Known) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    let is_escaped = bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r' | b'\\'));
    let mut line = Vec::new();
    if let Some((crc, size)) = large {
        line.extend_from_slice(CRC);
        line.extend_from_slice(format!("{crc} {size}\n").as_bytes());
    }
    if is_escaped {
        line.push(b'\\');
    }
    line.extend_from_slice(KIND);
    for byte in bytes {
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\\' => line.extend_from_slice(b"\\\\"),
            byte => line.push(*byte),
        }
    }
    line.extend_from_slice(IS);
    line.extend_from_slice(sum.to_string().as_bytes());
    line.push(b'\n');
    line
}

fn parse(line: &[u8]) -> Option<(PathBuf, Checksum)> {
    let (is_escaped, line) = line.strip_prefix(b"\\").map_or((false, line), |rest| (true, rest));
    let rest = line.strip_prefix(KIND)?;
    let (rest, sum) = rest.split_at_checked(rest.len().checked_sub(16)?)?;
    let sum = std::str::from_utf8(sum).ok()?.parse().ok()?;
    let name = rest.strip_suffix(IS).filter(|name| !name.is_empty())?;
    let mut path = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        path.push(match (byte, is_escaped) {
            (b'\\', true) => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            (byte, _) => *byte,
        });
    }
    Some((PathBuf::from(OsStr::from_bytes(&path)), sum))
}

fn parse_crc(line: &[u8]) -> Option<(Crc, u64)> {
    let (crc, size) = std::str::from_utf8(line.strip_prefix(CRC)?).ok()?.split_once(' ')?;
    Some((crc.parse().ok()?, size.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn path(bytes: &[u8]) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(bytes))
    }

    #[test]
    fn any_path_comes_back_from_its_line_and_from_its_text() {
        let sum = Checksum::of(b"content");
        for bytes in [
            &b"holding/luv/a photo.jpg"[..],
            b"a\nb",
            b"\\",
            b"\\x41",
            b"a) = 2d06800538d394c2",
            b"a\\nb",
            b"\r",
            b"\xff\xfe/\xc3\xa4",
            "\u{e4}\u{1f4f7}".as_bytes(),
        ] {
            let line = lines(&path(bytes), sum.into());
            let inside = line.strip_suffix(b"\n").unwrap();
            assert!(!inside.contains(&b'\n'), "{bytes:?}");
            assert_eq!(parse(inside), Some((path(bytes), sum)), "{bytes:?}");
            assert_eq!(from_text(&to_text(&path(bytes))), Some(path(bytes)), "{bytes:?}");
        }
        assert_eq!(lines(Path::new("a b"), Checksum::of(b"").into()), b"XXH3 (a b) = 2d06800538d394c2\n");
        assert_eq!(lines(Path::new("a\\b\n"), Checksum::of(b"").into()), b"\\XXH3 (a\\\\b\\n) = 2d06800538d394c2\n");
    }

    #[test]
    fn what_is_no_line_is_none() {
        for text in [
            "",
            "XXH3 (",
            "XXH3 () = 2d06800538d394c2",
            "XXH3 (a) = 2d06800538d394c",
            "XXH3 (a)  2d06800538d394c2",
            "XXH64 (a) = 2d06800538d394c2",
            r"\XXH3 (a\t) = 2d06800538d394c2",
            r"\XXH3 (a\) = 2d06800538d394c2",
            "XXH3 (a) = \u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        for text in [r"a\", r"a\y", r"a\x4", r"a\xg0"] {
            assert_eq!(from_text(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_large_has_a_crc_before_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let root = Dir::open(folder.path()).unwrap();
        let content = |size| Content { sum: Checksum::of(b"a"), crc: Crc::default().and(b"a"), size };
        let mut draft = Draft::new(&root, List::Spaces).unwrap();
        for (name, size) in [("small", LARGE - 1), ("large", LARGE), ("#", LARGE + 7)] {
            draft.add(Path::new(name), content(size)).unwrap();
        }
        draft.close().unwrap().put_in_place(&root).unwrap();
        let read =
            || List::Spaces.read(&root).unwrap().map(|found| found.ok().map(|(_, known)| known.large.map(|it| it.1)));
        assert_eq!(read().collect::<Vec<_>>(), [Some(None), Some(Some(LARGE)), Some(Some(LARGE + 7))]);
        let path = folder.path().join(List::Spaces.path());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().nth(1), Some("# CRC32 e8b7be43 67108864"));
        // Without its file, twice, and what is none.
        let sound = "XXH3 (a) = 2d06800538d394c2\n";
        for bad in ["# CRC32 e8b7be43 67108864\n", "# CRC32 e8b7be43 1\n# CRC32 e8b7be43 1\n", "# CRC32 x\nx\n", "# \n"]
        {
            fs::write(&path, [sound, bad].concat()).unwrap();
            assert_eq!(read().collect::<Vec<_>>(), [Some(None), None], "{bad:?}");
        }
    }

    #[test]
    fn a_list_is_the_old_one_until_the_new_one_is_put_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let root = Dir::open(folder.path()).unwrap();
        let write = |names: &[&str], old: bool| {
            let mut draft = Draft::new(&root, List::Spaces).unwrap();
            if old {
                draft.keep(&root, &mut |path| Ok(path != Path::new("b"))).unwrap();
            }
            for name in names {
                draft.add(Path::new(name), Checksum::of(name.as_bytes())).unwrap();
            }
            draft.close().unwrap()
        };
        let read = || -> Vec<String> {
            List::Spaces.read(&root).unwrap().map(|found| found.unwrap().0.to_str().unwrap().to_owned()).collect()
        };
        assert!(List::Spaces.read(&root).is_err());
        write(&["a", "b"], false).put_in_place(&root).unwrap();
        assert_eq!(read(), ["a", "b"]);
        let next = write(&["c"], true);
        assert_eq!(read(), ["a", "b"]);
        next.put_in_place(&root).unwrap();
        assert_eq!(read(), ["a", "c"]);
        let bytes = fs::read(folder.path().join(List::Spaces.path())).unwrap();
        assert_eq!(Checksum::of(&bytes), next.sum);
        // One that ends in the middle of a line, and one without an end.
        fs::write(folder.path().join(List::Spaces.path()), &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(List::Spaces.read(&root).unwrap().flatten().count(), 1);
        fs::File::create(folder.path().join(List::Spaces.path())).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(List::Spaces.read(&root).unwrap().count(), 1);
    }
}
