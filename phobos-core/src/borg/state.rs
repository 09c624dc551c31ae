//! What a repository's folder holds, read once: its config, its segments by size and time, and what hints and index say.
//!
//! Nothing is believed: every folder and file is opened relative to the repository's descriptor, no link is followed, sizes
//! are bounded, and hints or an index that are damaged or prove wrong count as missing, because Borg rebuilds them.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::config::{Config, ConfigError, MAX_CONFIG};
use super::hints::{Hints, HintsError};
use super::index::{Index, IndexError, Integrity, MAX_INTEGRITY, Summing};
use super::segment;
use crate::error::{Class, Classified};
use crate::fs::{Dir, FsError, Kind};

/// More names than that in one folder are not read, where Borg has a thousand.
const MAX_NAMES: usize = 1 << 20;

/// What a repository is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Which repository it is, and its key.
    pub config: Config,
    /// Its segments, where Borg looks for them.
    pub segments: BTreeMap<u32, Segment>,
    /// The transaction that the newest hints or index are of.
    pub noted: Option<u32>,
    /// The last segment that ends with a COMMIT: where the last complete transaction ended.
    pub committed: Option<u32>,
    /// The hints of `noted`; `None` where they are missing or damaged.
    pub hints: Option<Hints>,
    /// The index of `noted`; `None` where it is missing or damaged.
    pub index: Option<Index>,
}

/// A segment as the folder tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Its size in bytes.
    pub size: u64,
    /// The time of its last change: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
}

/// Why a folder's state cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// There is no `config`, so it is no repository.
    #[error("there is no file `config`")]
    NoConfig,
    /// Its `config` is not that of a repository of Borg 1.x.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something in it is a link, of the wrong kind, or cannot be read.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A file in it cannot be read.
    #[error("cannot read {}", crate::fs::shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder has more names than any repository's.
    #[error("{} has more than {MAX_NAMES} names", crate::fs::shown(path))]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
}

impl Classified for StateError {
    fn class(&self) -> Class {
        match self {
            Self::NoConfig | Self::Config(_) | Self::TooMany { .. } => Class::Refused,
            Self::Read { .. } => Class::Failed,
            Self::Fs(error) => error.class(),
        }
    }
}

impl State {
    /// Reads the state of the repository in `folder`, which nobody should be writing to.
    ///
    /// # Errors
    ///
    /// When it is none of Borg 1.x, when a link or something else is where a folder or file belongs, or when something
    /// cannot be read.
    pub fn read(folder: &Dir) -> Result<Self, StateError> {
        let config = folder.read(Path::new("config"), MAX_CONFIG)?.ok_or(StateError::NoConfig)?;
        let config = Config::parse(&config)?;
        let mut noted: Option<u32> = None;
        for name in names(folder)? {
            let number = ["hints.", "index."].iter().find_map(|start| number(name.strip_prefix(start)?));
            noted = noted.max(number);
        }
        let (hints, index) = match noted {
            Some(transaction) => notes(folder, transaction)?,
            None => (None, None),
        };
        let data = folder.open_dir(Path::new("data"))?;
        let segments = segments(&data, config.segments_per_dir)?;
        let committed = committed(&data, config.segments_per_dir, &segments)?;
        Ok(Self { config, segments, noted, committed, hints, index })
    }

    /// The last complete transaction: the segment that it ended in.
    pub fn last(&self) -> Option<u32> {
        self.noted.max(self.committed)
    }
}

/// Where the segment is, below the repository's folder.
pub fn path_of(segment: u32, segments_per_dir: u64) -> PathBuf {
    Path::new("data").join(below_data(segment, segments_per_dir))
}

fn below_data(segment: u32, segments_per_dir: u64) -> PathBuf {
    Path::new(&(u64::from(segment) / segments_per_dir.max(1)).to_string()).join(segment.to_string())
}

/// A number as Borg writes it: digits without anything in front of them.
fn number(text: &str) -> Option<u32> {
    let canonical = text == "0" || !text.starts_with('0');
    (canonical && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The names in a folder that can be text.
fn names(folder: &Dir) -> Result<Vec<String>, StateError> {
    let entries = folder.entries()?;
    if entries.len() > MAX_NAMES {
        return Err(StateError::TooMany { path: folder.path().to_owned() });
    }
    Ok(entries.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect())
}

/// The hints and the index of a transaction, where they can be believed.
fn notes(folder: &Dir, transaction: u32) -> Result<(Option<Hints>, Option<Index>), StateError> {
    let integrity = folder.read(Path::new(&format!("integrity.{transaction}")), MAX_INTEGRITY);
    let integrity = match integrity {
        Ok(bytes) => bytes.map(|bytes| Integrity::parse(&bytes)).unwrap_or_default(),
        Err(FsError::TooLarge { .. }) => Integrity::default(),
        Err(error) => return Err(error.into()),
    };
    let name = format!("hints.{transaction}");
    let mut hints = None;
    if let Some((file, _)) = open(folder, &name)? {
        let mut file = Summing::hints(&name, BufReader::new(file));
        hints = match Hints::read(&mut file) {
            Ok(read) => Some(read),
            Err(HintsError::Read(source)) => return Err(StateError::Read { path: folder.path().join(name), source }),
            Err(HintsError::Damaged(_)) => None,
        };
        hints = hints.filter(|_| integrity.hints.as_ref().is_none_or(|digests| file.is(digests)));
    }
    let name = format!("index.{transaction}");
    let mut index = None;
    if let Some((file, size)) = open(folder, &name)? {
        let mut file = Summing::index(&name, file);
        index = match Index::read(&mut file, size) {
            Ok(read) => Some(read),
            Err(IndexError::Read(source)) => return Err(StateError::Read { path: folder.path().join(name), source }),
            Err(IndexError::Damaged(_)) => None,
        };
        index = index.filter(|_| integrity.index.as_ref().is_none_or(|digests| file.is(digests)));
    }
    Ok((hints, index))
}

fn open(folder: &Dir, name: &str) -> Result<Option<(std::fs::File, u64)>, StateError> {
    Ok(match folder.stat(Path::new(name))? {
        Some(stat) => Some((folder.open_file(Path::new(name))?, stat.size)),
        None => None,
    })
}

fn segments(data: &Dir, segments_per_dir: u64) -> Result<BTreeMap<u32, Segment>, StateError> {
    let mut segments = BTreeMap::new();
    for folder_name in names(data)? {
        let Some(folder_number) = number(&folder_name) else { continue };
        let folder = match data.open_dir(Path::new(&folder_name)) {
            Ok(folder) => folder,
            // Borg takes no notice of a file there.
            Err(FsError::Kind { .. })
                if data.stat(Path::new(&folder_name))?.is_some_and(|it| it.kind == Kind::File) =>
            {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for name in names(&folder)? {
            let Some(segment) = number(&name) else { continue };
            if u64::from(segment) / segments_per_dir != u64::from(folder_number) {
                continue;
            }
            let path = Path::new(&name);
            match folder.stat(path)? {
                Some(stat) if stat.kind == Kind::File => {
                    segments.insert(segment, Segment { size: stat.size, mtime: stat.mtime });
                }
                // Its error says what it is.
                Some(_) => drop(folder.open_file(path)?),
                None => {}
            }
        }
    }
    Ok(segments)
}

/// The last segment that ends with a COMMIT.
fn committed(data: &Dir, segments_per_dir: u64, segments: &BTreeMap<u32, Segment>) -> Result<Option<u32>, StateError> {
    for (segment, is) in segments.iter().rev() {
        let Some(at) = is.size.checked_sub(segment::COMMIT_ENTRY.len() as u64) else { continue };
        let name = below_data(*segment, segments_per_dir);
        let read = |source| StateError::Read { path: data.path().join(&name), source };
        let mut file = data.open_file(&name)?;
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(at)).map_err(read)?;
        file.take(segment::COMMIT_ENTRY.len() as u64).read_to_end(&mut tail).map_err(read)?;
        if tail == segment::COMMIT_ENTRY {
            return Ok(Some(*segment));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Dir {
        Dir::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/borg").join(name)).unwrap()
    }

    #[test]
    fn repositories_of_real_borg_are_read() {
        for name in ["1.2.4-none", "1.2.4-repokey", "1.4.5-none", "1.4.5-repokey"] {
            let state = State::read(&fixture(name)).unwrap();
            let (hints, index) = (state.hints.as_ref().unwrap(), state.index.as_ref().unwrap());
            assert_eq!(state.noted, state.committed, "{name}");
            let named: Vec<_> = index.segments.keys().copied().collect();
            assert_eq!(hints.live().collect::<Vec<_>>(), named, "{name}");
            for (segment, named) in &index.segments {
                assert_eq!(u64::from(named.objects), hints.segments[segment], "{name}");
                let mut checker = segment::Checker::new();
                let path = path_of(*segment, state.config.segments_per_dir);
                let bytes = fixture(name).read(&path, 1 << 20).unwrap().unwrap();
                checker.feed(&bytes).unwrap();
                let summary = checker.finish().unwrap();
                assert_eq!(summary.bytes, state.segments[segment].size);
                assert!(summary.last_put >= Some(named.highest.into()), "{name}");
            }
        }
    }

    #[test]
    fn what_integrity_disproves_counts_as_missing() {
        let place = tempfile::tempdir().unwrap();
        let from = fixture("1.2.4-none");
        std::fs::create_dir(place.path().join("data")).unwrap();
        for entry in from.entries().unwrap() {
            if let Ok(Some(bytes)) = from.read(Path::new(&entry.name), 1 << 20) {
                std::fs::write(place.path().join(&entry.name), bytes).unwrap();
            }
        }
        let folder = Dir::open(place.path()).unwrap();
        let state = State::read(&folder).unwrap();
        assert!(state.hints.is_some() && state.index.is_some());
        for start in ["hints", "index"] {
            let path = place.path().join(format!("{start}.{}", state.noted.unwrap()));
            let good = std::fs::read(&path).unwrap();
            for at in [good.len() / 3, good.len() - 1] {
                let mut bytes = good.clone();
                bytes[at] ^= 1;
                std::fs::write(&path, bytes).unwrap();
                let state = State::read(&folder).unwrap();
                assert_eq!((state.hints.is_none(), state.index.is_none()), (start == "hints", start == "index"));
            }
            std::fs::write(&path, good).unwrap();
        }
    }

    #[test]
    fn links_and_other_things_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let folder = Dir::open(place.path()).unwrap();
        assert!(matches!(State::read(&folder), Err(StateError::NoConfig)));
        let config = include_str!("../../fixtures/borg/1.2.4-none/config");
        std::fs::write(place.path().join("config"), config).unwrap();
        assert!(State::read(&folder).is_err(), "there is no data");
        std::fs::create_dir_all(place.path().join("data/0")).unwrap();
        assert_eq!(State::read(&folder).unwrap().last(), None);
        std::os::unix::fs::symlink("/etc/hostname", place.path().join("data/0/3")).unwrap();
        let error = State::read(&folder).unwrap_err().to_string();
        assert!(error.contains("data/0/3 is a symbolic link"), "{error}");
        std::fs::remove_file(place.path().join("data/0/3")).unwrap();
        std::os::unix::fs::symlink("0", place.path().join("data/1")).unwrap();
        let error = State::read(&folder).unwrap_err().to_string();
        assert!(error.contains("data/1 is a symbolic link"), "{error}");
    }
}
