//! Where the jobs post: one file per job, replaced as a whole, under one lock.
//!
//! Nobody but the board's owner can open the lock. A failure, or that a job is at work, is posted without it rather than not
//! at all; only what takes a failure away needs it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::State;
use phobos_core::error::Chain;
use phobos_core::flock;
use phobos_core::folders;
use phobos_core::fs::{Dir, Durability, FsError};
use phobos_core::process::{Process, boot_id};

/// The version of the files; another one is not understood.
const VERSION: u32 = 1;

/// How long a post waits for another to be done; each takes a millisecond.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// How large a file of a post may be, in bytes.
const POST_LIMIT: u64 = 64 * 1024;

/// From how many failures on, that are kept at once, the disk is waited for once and not for each.
const MANY: usize = 8;

/// The longest text of a post, in characters.
const TEXT_LIMIT: usize = 500;

/// The variables that name the folders of [`Board::system`].
const VARIABLES: [&str; 2] = ["PHOBOS_LED_RUN", "PHOBOS_LED_KEPT"];

/// The folders of [`Board::system`] where the variables name none.
const FOLDERS: [&str; 2] = ["/run/phobos/led", "/var/lib/phobos/led"];

/// The two folders that the jobs' posts live in.
///
/// Time stamps are for people: a post from the future counts like any other. A file that cannot be understood, because
/// it is half written or of another version, counts as a failure of its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    run: PathBuf,
    kept: PathBuf,
    config: Option<PathBuf>,
}

/// What one job says, or what must be thought of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Its last post; `failed` if the process that posted died at work.
    pub state: State,
    /// What it said.
    pub text: String,
    /// When it said so.
    pub since: DateTime<Utc>,
    /// The process that is at work.
    pub process: Option<Process>,
    /// An earlier failure that nobody has acknowledged and that no success has made good.
    pub failure: Option<Failure>,
}

/// A failure that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What the job said.
    pub text: String,
    /// When it failed.
    pub since: DateTime<Utc>,
}

/// Why a post came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedError {
    /// The job's name could lead out of the folder, or is no name at all.
    #[error("cannot post for {name:?}: a name is 1 to 200 of A-Z a-z 0-9 _ - . : @ + \\, the first no dot or dash")]
    Name {
        /// The name.
        name: String,
    },
    /// A file or folder could not be read or written; the posts are as they were before, or as they are meant to be.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder is not what it has to be, or the system refused it; the posts are as they were before.
    #[error(transparent)]
    File(#[from] FsError),
    /// Another process held the lock for too long; nothing was changed.
    #[error("cannot lock {}: it is held for more than {} s", path.display(), LOCK_LIMIT.as_secs())]
    Busy {
        /// The lock.
        path: PathBuf,
    },
}

/// A post as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Post {
    version: u32,
    state: State,
    text: String,
    /// In milliseconds since 1970.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    since: DateTime<Utc>,
    boot: String,
    process: Option<Process>,
}

/// A job's name and its post, or the reason why that cannot be understood.
type NamedPost = (String, Result<Post, String>);

/// Whether `name` may name a job: it is a file's name and never a path or an option.
pub fn is_job_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:@+\\".contains(&byte);
    (1..=200).contains(&name.len()) && !name.starts_with(['.', '-']) && name.bytes().all(is_good)
}

impl Job {
    /// The state that the light shows for it: a failure stays until it is made good.
    pub fn light(&self) -> State {
        if self.failure.is_some() { State::Failed } else { self.state }
    }

    /// When it came into the state that the light shows.
    pub fn light_since(&self) -> DateTime<Utc> {
        self.earlier_failure().map_or(self.since, |failure| failure.since)
    }

    /// What it said about the state that the light shows.
    pub fn light_text(&self) -> &str {
        self.earlier_failure().map_or(&self.text, |failure| &failure.text)
    }

    /// The failure that outshines the last post; a post that is a failure itself is newer.
    fn earlier_failure(&self) -> Option<&Failure> {
        self.failure.as_ref().filter(|_| self.state != State::Failed)
    }
}

impl Board {
    /// A board in these folders, which are made when something is posted.
    pub fn new(run: &Path, kept: &Path) -> Self {
        Self { run: run.to_owned(), kept: kept.to_owned(), config: None }
    }

    /// The machine's board: `/run/phobos/led` and `/var/lib/phobos/led`, unless `PHOBOS_LED_RUN` and `PHOBOS_LED_KEPT`
    /// name others.
    ///
    /// `RUNTIME_DIRECTORY` and `STATE_DIRECTORY` are not regarded: they belong to one unit, the light to all.
    pub fn system() -> Self {
        let folder = |variable: &str, default: &str| {
            let given = std::env::var_os(variable).filter(|given| !given.is_empty());
            given.map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        Self { run: folder(VARIABLES[0], FOLDERS[0]), kept: folder(VARIABLES[1], FOLDERS[1]), config: None }
    }

    /// The same board, whose light is the one in this configuration; without one, in the default configuration.
    #[must_use]
    pub fn lit_by(self, config: Option<&Path>) -> Self {
        Self { config: config.map(Path::to_owned), ..self }
    }

    /// The configuration that names the light, if it is not the default one.
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The variables that lead another process to this board.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [(VARIABLES[0], self.run.clone()), (VARIABLES[1], self.kept.clone())]
    }

    /// The folder that ends with the machine.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The folder of the failures that stay.
    pub fn kept(&self) -> &Path {
        &self.kept
    }

    /// Posts that this process, working for `job`, is in `state`.
    ///
    /// `ok` makes an earlier failure of the job good; nothing else but [`Board::make_good`] and [`Board::ack`] does.
    ///
    /// # Errors
    ///
    /// [`LedError`] if the name is none or the files cannot be written; an earlier post then still stands.
    pub fn post(&self, job: &str, state: State, text: &str) -> Result<(), LedError> {
        // Only who is at work is looked for later; a failure is posted even where `/proc` cannot be read.
        let process = state.needs_process().then(Process::own).transpose();
        let process =
            process.map_err(|source| LedError::Io { action: "read", path: "/proc/self/stat".into(), source })?;
        self.post_as(job, state, text, process)
    }

    /// Posts on behalf of `process`; without one, nobody will notice if a job at work dies.
    ///
    /// # Errors
    ///
    /// As for [`Board::post`]; a failure that cannot be kept is posted until the machine's next start all the same.
    pub fn post_as(&self, job: &str, state: State, text: &str, process: Option<Process>) -> Result<(), LedError> {
        check(job)?;
        let boot = match boot_id() {
            // A failure counts whatever the boot is.
            Err(_) if state == State::Failed => String::new(),
            boot => boot.map_err(|source| LedError::Io {
                action: "read",
                path: "/proc/sys/kernel/random/boot_id".into(),
                source,
            })?,
        };
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_LIMIT).collect();
        let process = process.filter(|_| state.needs_process());
        let post = Post { version: VERSION, state, text, since: Utc::now(), boot, process };
        let takes_a_failure_away = matches!(state, State::Ok | State::Off);
        let run = make_folder(&self.run);
        let lock = match run.as_ref().map(|run| self.lock(run)) {
            Ok(Ok(lock)) => Some(lock),
            Ok(Err(error)) if takes_a_failure_away => return Err(error),
            Ok(Err(error)) => {
                log::warn!("posting without the lock: {}", Chain(&error));
                None
            }
            Err(_) => None,
        };
        if let Some(Err(error)) = lock.as_ref().map(|_| self.settle_locked()) {
            log::warn!("{}", Chain(&error));
        }
        match state {
            // The failure is kept before the post goes, so that it is never missing from both.
            State::Failed => match self.keep(&[(job, &post)]) {
                Ok(()) => run.map_or(Ok(()), |run| remove(&run, job)),
                Err(error) => run.and_then(|run| write(&run, job, &post, Durability::Loose)).and(Err(error)),
            },
            State::Ok => {
                write(&run?, job, &post, Durability::Loose)?;
                self.forget(job)
            }
            State::Off => remove(&run?, job),
            State::Working | State::Waiting | State::Attention | State::Unsafe => {
                write(&run?, job, &post, Durability::Loose)
            }
        }
    }

    /// Takes `job` off the board, an earlier failure included: it has succeeded, and that is nothing to show.
    ///
    /// # Errors
    ///
    /// [`LedError`] if the name is none or a file cannot be removed; the failure may still stand.
    pub fn make_good(&self, job: &str) -> Result<(), LedError> {
        check(job)?;
        let run = make_folder(&self.run)?;
        let _lock = self.lock(&run)?;
        remove(&run, job)?;
        self.forget(job)
    }

    /// What all jobs say, by name; a job whose process died at work has failed.
    ///
    /// # Errors
    ///
    /// [`LedError`] if a folder is there and cannot be read.
    pub fn jobs(&self) -> Result<Vec<Job>, LedError> {
        // The run folder first: a failure moves from there to the other, so that it is seen at least once.
        let boot = boot_id().unwrap_or_default();
        let judged = read_folder(&self.run)?.into_iter().filter_map(|(name, read)| judge(&name, read, &boot));
        let mut jobs: BTreeMap<String, Job> = judged.map(|job| (job.name.clone(), job)).collect();
        for (name, read) in read_folder(&self.kept)? {
            let Post { text, since, .. } = read.unwrap_or_else(|reason| broken(&reason));
            let failure = Some(Failure { text: text.clone(), since });
            jobs.entry(name.clone())
                .or_insert(Job { name, state: State::Failed, text, since, process: None, failure: None })
                .failure = failure;
        }
        Ok(jobs.into_values().collect())
    }

    /// Acknowledges the failure of `job`, or of all jobs, and returns the names of those that had failed.
    ///
    /// # Errors
    ///
    /// [`LedError`] if the name is none or a file cannot be removed; the other failures may be gone.
    pub fn ack(&self, job: Option<&str>) -> Result<Vec<String>, LedError> {
        job.map_or(Ok(()), check)?;
        if !self.run.is_dir() && !self.kept.is_dir() {
            return Ok(Vec::new());
        }
        let run = make_folder(&self.run)?;
        let _lock = self.lock(&run)?;
        let mut acked = Vec::new();
        for failed in self.jobs()? {
            let is_meant = job.is_none_or(|job| job == failed.name);
            if !is_meant || failed.light() != State::Failed {
                continue;
            }
            if failed.state == State::Failed {
                remove(&run, &failed.name)?;
            }
            self.forget(&failed.name)?;
            acked.push(failed.name);
        }
        Ok(acked)
    }

    /// Keeps the failures of jobs that died at work, so that they outlast the machine's next start.
    ///
    /// # Errors
    ///
    /// [`LedError`] if a file cannot be written; the failures are still found by [`Board::jobs`] until then.
    pub fn settle(&self) -> Result<(), LedError> {
        if !self.run.is_dir() {
            return Ok(());
        }
        let _lock = self.lock(&Dir::open(&self.run)?)?;
        self.settle_locked()
    }

    fn settle_locked(&self) -> Result<(), LedError> {
        let boot = boot_id().unwrap_or_default();
        let failed = |(name, read): NamedPost| match judge(&name, read, &boot) {
            Some(Job { state: State::Failed, text, since, .. }) => {
                let boot = boot.clone();
                Some((name, Post { version: VERSION, state: State::Failed, text, since, boot, process: None }))
            }
            _ => None,
        };
        let failed: Vec<_> = read_folder(&self.run)?.into_iter().filter_map(failed).collect();
        if failed.is_empty() {
            return Ok(());
        }
        self.keep(&failed.iter().map(|(name, post)| (name.as_str(), post)).collect::<Vec<_>>())?;
        let run = Dir::open(&self.run)?;
        failed.iter().try_for_each(|(name, _)| remove(&run, name))
    }

    /// Writes failures where they outlast the machine's next start, a loss of power right after included.
    fn keep(&self, failures: &[(&str, &Post)]) -> Result<(), LedError> {
        let kept = make_folder(&self.kept)?;
        let durability = if failures.len() < MANY { Durability::Synced } else { Durability::Loose };
        failures.iter().try_for_each(|(job, post)| write(&kept, job, post, durability))?;
        // Of many, the names alone are waited for: a post that a loss of power has emptied counts as failed as well.
        match durability {
            Durability::Loose => Ok(kept.sync()?),
            Durability::Synced => Ok(()),
        }
    }

    /// Removes a failure that was kept.
    fn forget(&self, job: &str) -> Result<(), LedError> {
        if !self.kept.is_dir() {
            return Ok(());
        }
        remove(&Dir::open(&self.kept)?, job)
    }

    /// Takes the lock of all who change the posts, which the kernel lets go of when the file is closed.
    fn lock(&self, run: &Dir) -> Result<File, LedError> {
        let name = Path::new(".lock");
        let path = || self.run.join(name);
        flock::within(flock::open(run, name)?, LOCK_LIMIT)
            .map_err(|source| LedError::Io { action: "lock", path: path(), source })?
            .ok_or_else(|| LedError::Busy { path: path() })
    }
}

/// What a post means now: `None` if it is from before the machine started.
fn judge(name: &str, read: Result<Post, String>, boot: &str) -> Option<Job> {
    let post = read.unwrap_or_else(|reason| broken(&reason));
    let is_of_this_boot = post.boot == boot || boot.is_empty();
    let is_dead = post.process.as_ref().is_some_and(|process| !process.is_alive());
    let died = || format!("it died while {}: {}", post.state.word(), post.text);
    let (state, text) = match post.state {
        State::Failed => (State::Failed, post.text),
        _ if !is_of_this_boot => return None,
        state if is_dead && state.needs_process() => (State::Failed, died().trim_end_matches([' ', ':']).to_owned()),
        state => (state, post.text),
    };
    let process = post.process.filter(|_| state.needs_process());
    Some(Job { name: name.to_owned(), state, text, since: post.since, process, failure: None })
}

/// What stands in for a file that cannot be understood.
fn broken(reason: &str) -> Post {
    Post {
        version: VERSION,
        state: State::Failed,
        text: format!("its file cannot be understood: {reason}"),
        since: DateTime::UNIX_EPOCH,
        boot: String::new(),
        process: None,
    }
}

/// The posts in `folder`, each understood or with the reason why not; a folder that is not there holds none.
fn read_folder(folder: &Path) -> Result<Vec<NamedPost>, LedError> {
    let folder = match Dir::open(folder) {
        Ok(folder) => folder,
        Err(FsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut posts = Vec::new();
    for entry in folder.entries()? {
        let name = entry.name.to_str().and_then(|name| name.strip_suffix(".json"));
        // Everything else is a lock or a file that is still being written.
        let Some(name) = name.filter(|name| is_job_name(name)) else { continue };
        match folder.read(Path::new(&entry.name), POST_LIMIT) {
            Ok(Some(bytes)) => posts.push((name.to_owned(), understand(&bytes))),
            Ok(None) => {}
            // It has gone since it was seen.
            Err(FsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => posts.push((name.to_owned(), Err(Chain(&error).to_string()))),
        }
    }
    Ok(posts)
}

fn understand(bytes: &[u8]) -> Result<Post, String> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    // The version first: what follows may have changed with it.
    let Head { version } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!("it is of version {version}"));
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// Replaces the post of `job` in `folder` as a whole.
fn write(folder: &Dir, job: &str, post: &Post, durability: Durability) -> Result<(), LedError> {
    let name = file(job);
    let failed = |source| LedError::Io { action: "write", path: folder.path().join(&name), source };
    let text = serde_json::to_vec(post).map_err(io::Error::from).map_err(failed)?;
    Ok(folder.replace(&name, &text, 0o644, durability)?)
}

fn make_folder(folder: &Path) -> Result<Dir, LedError> {
    folders::make_shared(folder).map_err(|source| LedError::Io { action: "make", path: folder.to_owned(), source })?;
    Ok(Dir::open(folder)?)
}

fn remove(folder: &Dir, job: &str) -> Result<(), LedError> {
    match folder.remove(&file(job)) {
        Err(FsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => Ok(result?),
    }
}

fn check(job: &str) -> Result<(), LedError> {
    if is_job_name(job) { Ok(()) } else { Err(LedError::Name { name: job.to_owned() }) }
}

fn file(job: &str) -> PathBuf {
    format!("{job}.json").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::led::choose;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    /// A board in a folder of its own.
    fn board() -> (TempDir, Board) {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::new(&folder.path().join("run"), &folder.path().join("kept"));
        (folder, board)
    }

    fn shown(board: &Board) -> State {
        choose(&board.jobs().unwrap()).state
    }

    /// A process that has been and is no more.
    fn dead() -> Process {
        Process { start: 1, ..Process::own().unwrap() }
    }

    fn scribble(board: &Board, name: &str, text: &str) {
        fs::create_dir_all(&board.run).unwrap();
        fs::write(board.run.join(name), text).unwrap();
    }

    #[test]
    fn a_board_that_nobody_posted_to_is_empty() {
        let (_folder, board) = board();
        assert_eq!(board.jobs().unwrap(), []);
        assert_eq!(board.ack(None).unwrap(), Vec::<String>::new());
        board.settle().unwrap();
    }

    #[test]
    fn the_last_post_of_a_job_counts() {
        let (_folder, board) = board();
        for state in [State::Working, State::Waiting, State::Unsafe, State::Attention, State::Ok] {
            board.post("ext", state, "two\nlines").unwrap();
            let jobs = board.jobs().unwrap();
            assert_eq!((jobs.len(), jobs[0].state, jobs[0].text.as_str()), (1, state, "two lines"));
            assert_eq!(jobs[0].process.is_some(), state.needs_process());
        }
        board.post("ext", State::Off, "").unwrap();
        assert_eq!(board.jobs().unwrap(), []);
    }

    #[test]
    fn a_failure_stays_until_the_same_job_succeeds() {
        let (_folder, board) = board();
        board.post("ext", State::Failed, "cable").unwrap();
        for state in [State::Working, State::Off, State::Attention] {
            board.post("ext", state, "").unwrap();
            board.post("other", State::Ok, "").unwrap();
            assert_eq!(shown(&board), State::Failed);
        }
        assert_eq!(choose(&board.jobs().unwrap()).text, "cable");
        board.post("ext", State::Ok, "").unwrap();
        assert_eq!(shown(&board), State::Ok);
    }

    #[test]
    fn a_failure_can_be_acknowledged_by_name_or_with_all_others() {
        let (_folder, board) = board();
        for job in ["a", "b", "c"] {
            board.post(job, State::Failed, "").unwrap();
        }
        board.post_as("died", State::Working, "", Some(dead())).unwrap();
        board.post("fine", State::Ok, "").unwrap();
        assert_eq!(board.ack(Some("b")).unwrap(), ["b"]);
        assert_eq!(board.ack(Some("b")).unwrap(), Vec::<String>::new());
        assert_eq!(board.ack(None).unwrap(), ["a", "c", "died"]);
        assert_eq!(shown(&board), State::Ok);
    }

    #[test]
    fn after_a_reboot_only_failures_are_left() {
        let (folder, board) = board();
        board.post("ext", State::Failed, "disk full").unwrap();
        board.post("mail", State::Ok, "").unwrap();
        board.post_as("died", State::Working, "copying", Some(dead())).unwrap();
        board.settle().unwrap();
        fs::remove_dir_all(folder.path().join("run")).unwrap();
        let jobs = board.jobs().unwrap();
        let told: Vec<_> = jobs.iter().map(|job| (job.name.as_str(), job.light_text())).collect();
        assert_eq!(told, [("died", "it died while working: copying"), ("ext", "disk full")]);
        assert!(jobs.iter().all(|job| job.light() == State::Failed));
    }

    #[test]
    fn posts_of_another_boot_are_not_shown_except_failures() {
        let (_folder, board) = board();
        let post = |state: &str| {
            format!(r#"{{"version":1,"state":"{state}","text":"","since":1767225600000,"boot":"old","process":null}}"#)
        };
        for state in ["ok", "working", "unsafe", "attention"] {
            scribble(&board, "a.json", &post(state));
            assert_eq!(board.jobs().unwrap(), [], "{state}");
        }
        scribble(&board, "a.json", &post("failed"));
        assert_eq!(shown(&board), State::Failed);
    }

    #[test]
    fn a_dead_process_has_failed_and_the_next_run_does_not_hide_it() {
        let (_folder, board) = board();
        for state in [State::Working, State::Waiting] {
            board.post_as("ext", state, "", Some(dead())).unwrap();
            let want = format!("it died while {}", state.word());
            assert_eq!(choose(&board.jobs().unwrap()).text, want);
        }
        board.post("ext", State::Working, "").unwrap();
        assert_eq!(shown(&board), State::Failed);
        board.post("ext", State::Ok, "").unwrap();
        assert_eq!(shown(&board), State::Ok);
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_a_failure() {
        let (_folder, board) = board();
        let cases = [
            ("", "EOF while parsing"),
            (r#"{"version":1,"state":"ok","te"#, "EOF while parsing"),
            (r#"{"version":2,"state":"splendid"}"#, "it is of version 2"),
            (r#"{"version":1,"state":"splendid"}"#, "unknown variant"),
            ("\0\0\0\0", "expected value"),
        ];
        for (text, want) in cases {
            scribble(&board, "a.json", text);
            let shown = choose(&board.jobs().unwrap());
            assert_eq!(shown.state, State::Failed, "{text}");
            assert!(shown.text.contains(want), "{}", shown.text);
        }
        board.post("a", State::Ok, "").unwrap();
        assert_eq!(shown(&board), State::Ok);
    }

    #[test]
    fn a_post_from_the_future_counts_like_any_other() {
        let (_folder, board) = board();
        let boot = boot_id().unwrap();
        scribble(
            &board,
            "a.json",
            &format!(r#"{{"version":1,"state":"ok","text":"","since":32472144000000,"boot":"{boot}","process":null}}"#),
        );
        assert_eq!(shown(&board), State::Ok);
        board.post("b", State::Working, "").unwrap();
        assert_eq!(shown(&board), State::Working);
    }

    #[test]
    fn files_that_are_no_posts_are_left_alone() {
        let (_folder, board) = board();
        for name in [".a.new", ".lock", "a.txt", ".json", "-x.json"] {
            scribble(&board, name, "{");
        }
        assert_eq!(board.jobs().unwrap(), []);
    }

    #[test]
    fn a_name_is_never_a_path_or_an_option() {
        let (_folder, board) = board();
        for name in ["", ".", "..", "../x", "a/b", "-x", ".hidden", "a b", "a\n", "ä", "a\0"] {
            assert!(matches!(board.post(name, State::Ok, ""), Err(LedError::Name { .. })), "{name:?}");
            assert!(board.ack(Some(name)).is_err(), "{name:?}");
        }
        for name in ["ext", r"phobos-ext@a\x2db.service", "pull:luv", "A.1_b+c"] {
            board.post(name, State::Ok, "").unwrap();
        }
    }

    #[test]
    fn jobs_that_post_at_once_lose_nothing() {
        let (_folder, board) = board();
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let board = &board;
                scope.spawn(move || {
                    for _ in 0..25 {
                        board.post(name, State::Working, "").unwrap();
                        board.post(name, State::Failed, name).unwrap();
                    }
                });
            }
        });
        let jobs = board.jobs().unwrap();
        assert_eq!(jobs.len(), 4);
        assert!(jobs.iter().all(|job| job.light() == State::Failed && job.light_text() == job.name));
    }

    #[test]
    fn a_failure_that_cannot_be_kept_is_shown_all_the_same() {
        let (folder, board) = board();
        fs::write(folder.path().join("kept"), "").unwrap();
        assert!(board.post("ext", State::Failed, "").is_err());
        fs::remove_file(folder.path().join("kept")).unwrap();
        assert_eq!(shown(&board), State::Failed);
        board.post("other", State::Ok, "").unwrap();
        fs::remove_dir_all(folder.path().join("run")).unwrap();
        assert_eq!(shown(&board), State::Failed, "the next post has kept it");
    }

    #[test]
    fn a_failure_is_told_without_the_lock_and_a_success_is_not() {
        let (folder, board) = board();
        board.post("ext", State::Ok, "").unwrap();
        let lock = board.run.join(".lock");
        assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
        let held = File::open(&lock).unwrap();
        fs2::FileExt::lock_exclusive(&held).unwrap();
        board.post("ext", State::Failed, "cable").unwrap();
        assert_eq!(shown(&board), State::Failed);
        assert!(matches!(board.post("ext", State::Ok, ""), Err(LedError::Busy { .. })));
        assert_eq!(shown(&board), State::Failed);
        board.post("other", State::Working, "").unwrap();
        drop(held);
        board.ack(None).unwrap();
        // Nor where there is no lock at all, or no place for what ends with the machine.
        fs::remove_file(&lock).unwrap();
        fs::create_dir(&lock).unwrap();
        board.post("ext", State::Failed, "cable").unwrap();
        assert_eq!(shown(&board), State::Failed);
        fs::remove_dir_all(&board.run).unwrap();
        fs::write(&board.run, "").unwrap();
        board.post("third", State::Failed, "").unwrap();
        assert!(folder.path().join("kept/third.json").exists());
    }

    #[test]
    fn a_board_of_twenty_thousand_posts_is_read_and_put_in_order_in_moments() {
        // In memory, as /run is: what is measured is the board and not the disk.
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let board = Board::new(&folder.path().join("run"), &folder.path().join("kept"));
        fs::create_dir_all(&board.run).unwrap();
        let boot = boot_id().unwrap();
        for number in 0..20_000 {
            let state = if number % 2 == 0 { "working" } else { "ok" };
            let text = format!(
                r#"{{"version":1,"state":"{state}","text":"","since":0,"boot":"{boot}","process":{{"pid":1073741823,"start":1}}}}"#
            );
            fs::write(board.run.join(format!("job{number}.json")), text).unwrap();
        }
        let began = std::time::Instant::now();
        board.post("ext", State::Ok, "").unwrap();
        assert_eq!(board.jobs().unwrap().len(), 20_001);
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    }

    #[test]
    fn what_is_no_file_is_a_failure_and_holds_nobody_up() {
        let (_folder, board) = board();
        fs::create_dir_all(&board.run).unwrap();
        nix::unistd::mkfifo(&board.run.join("fifo.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", board.run.join("zero.json")).unwrap();
        let jobs = board.jobs().unwrap();
        assert!(jobs.len() == 2 && jobs.iter().all(|job| job.state == State::Failed), "{jobs:?}");
    }

    #[test]
    fn an_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("run"), "").unwrap();
        let board = Board::new(&folder.path().join("run"), &folder.path().join("kept"));
        let error = board.post("a", State::Ok, "").unwrap_err();
        let told = Chain(&error).to_string();
        assert!(told.starts_with("cannot make ") && told.contains("/run: "), "{told}");
    }
}
