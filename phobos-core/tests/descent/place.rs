//! A folder with a source, its copy, and what a mirror would say of the two.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use phobos_core::borg::descent::{Contents, Whose, judge, judge_segment};
use phobos_core::borg::segment::{Checker, SegmentError, Summary};
use phobos_core::borg::state::{State, path_of};
use phobos_core::exec::{Exec, Invocation, System};
use phobos_core::fs::{Dir, FsError};

/// The largest segment of a test, in bytes.
const LIMIT: u64 = 64 * 1024 * 1024;

/// Runs a program that must succeed.
pub(crate) fn run(call: &Invocation) {
    System::default().run(call).unwrap_or_else(|error| panic!("{error}"));
}

/// A folder that holds everything.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    encryption: &'static str,
}

impl Place {
    /// A new repository `source`, made by Borg.
    pub(crate) fn new(encryption: &'static str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), encryption };
        place.borg("init --encryption=ENCRYPTION source");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Calls Borg in the folder; words are cut at blanks.
    pub(crate) fn borg(&self, words: &str) {
        run(&self.call(&format!("exec borg {}", words.replace("ENCRYPTION", self.encryption))));
    }

    /// Runs a script of the shell in the folder.
    pub(crate) fn sh(&self, script: &str) {
        run(&self.call(script));
    }

    fn call(&self, script: &str) -> Invocation {
        let script = format!("cd \"$0\" && {script}");
        Invocation::new("sh")
            .args(["-euc", &script])
            .arg(self.folder.path())
            .env("BORG_BASE_DIR", self.path("home"))
            .env("BORG_PASSPHRASE", "a passphrase")
            .env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes")
            .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
            .env("BORG_CHECK_I_KNOW_WHAT_I_AM_DOING", "YES")
            .env("BORG_DELETE_I_KNOW_WHAT_I_AM_DOING", "YES")
    }

    /// An archive of `bytes` random bytes.
    pub(crate) fn create(&self, repository: &str, archive: &str, bytes: u32) {
        self.sh(&format!("head -c {bytes} /dev/urandom >file"));
        self.borg(&format!("create --compression=none {repository}::{archive} file"));
    }

    pub(crate) fn copy(&self, from: &str, to: &str) {
        run(&Invocation::new("cp").args(["-a", "--"]).arg(self.path(from)).arg(self.path(to)));
    }
}

/// Both sides, to be read.
struct Folders<'f> {
    source: (&'f Dir, &'f State),
    copy: (&'f Dir, &'f State),
}

impl Folders<'_> {
    fn read(&self, whose: Whose, segment: u32) -> Result<Vec<u8>, FsError> {
        let (dir, state) = match whose {
            Whose::Source => self.source,
            Whose::Copy => self.copy,
        };
        dir.read(&path_of(segment, state.config.segments_per_dir), LIMIT).map(Option::unwrap_or_default)
    }
}

impl Contents for Folders<'_> {
    type Error = FsError;

    fn is_same(&mut self, segment: u32) -> Result<bool, FsError> {
        Ok(self.read(Whose::Source, segment)? == self.read(Whose::Copy, segment)?)
    }

    fn prove(&mut self, whose: Whose, segment: u32) -> Result<Option<Summary>, FsError> {
        Ok(prove(&self.read(whose, segment)?).ok())
    }
}

fn prove(bytes: &[u8]) -> Result<Summary, SegmentError> {
    let mut checker = Checker::new();
    bytes.chunks(4096).try_for_each(|chunk| checker.feed(chunk))?;
    checker.finish()
}

/// What a mirror of `source` over `copy` says before it has put anything in place: every reason to refuse.
pub(crate) fn refusals(source: &Path, copy: &Path) -> Vec<String> {
    let (source_dir, copy_dir) = (Dir::open(source).unwrap(), Dir::open(copy).unwrap());
    let copy = State::read(&copy_dir).unwrap();
    let source = match State::read(&source_dir) {
        Ok(state) => state,
        Err(error) => return vec![error.to_string()],
    };
    let mut contents = Folders { source: (&source_dir, &source), copy: (&copy_dir, &copy) };
    let mut refusals: Vec<_> = match judge(&source, Some(&copy), &mut contents) {
        Ok(findings) => findings.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    };
    let last = source.last();
    let is_settled = |segment: &u32| last.is_some_and(|last| *segment <= last);
    let fresh: BTreeSet<u32> = source
        .segments
        .keys()
        .filter(|segment| !copy.segments.contains_key(segment))
        .copied()
        .filter(is_settled)
        .collect();
    for segment in fresh {
        let proved = prove(&contents.read(Whose::Source, segment).unwrap());
        match proved {
            Ok(summary) => {
                refusals.extend(judge_segment(&source, segment, &summary).map(|finding| finding.to_string()));
            }
            Err(error) => refusals.push(format!("segment {segment}: {error}")),
        }
    }
    refusals
}

/// The state of the repository in `path`.
pub(crate) fn state(path: &Path) -> State {
    State::read(&Dir::open(path).unwrap()).unwrap()
}

/// The segment's file.
pub(crate) fn file(repository: &Path, segment: u32) -> PathBuf {
    repository.join(path_of(segment, 1000))
}

/// Changes a file's content.
pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}
