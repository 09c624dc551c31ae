//! Where the jobs post: one file per job, replaced as a whole, under one lock.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::State;
use phobos_core::error::Chain;
use phobos_core::folders;
use phobos_core::process::{Process, boot_id};

/// The version of the files; another one is not understood.
const VERSION: u32 = 1;

/// How long a post waits for another to be done; each takes a millisecond.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

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
        let process =
            Process::own().map_err(|source| LedError::Io { action: "read", path: "/proc/self/stat".into(), source })?;
        self.post_as(job, state, text, Some(process))
    }

    /// Posts on behalf of `process`; without one, nobody will notice if a job at work dies.
    ///
    /// # Errors
    ///
    /// As for [`Board::post`]; a failure that cannot be kept is posted until the machine's next start all the same.
    pub fn post_as(&self, job: &str, state: State, text: &str, process: Option<Process>) -> Result<(), LedError> {
        check(job)?;
        let boot = boot_id().map_err(|source| LedError::Io {
            action: "read",
            path: "/proc/sys/kernel/random/boot_id".into(),
            source,
        })?;
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_LIMIT).collect();
        let process = process.filter(|_| state.needs_process());
        let post = Post { version: VERSION, state, text, since: Utc::now(), boot, process };
        make_folder(&self.run)?;
        let _lock = self.lock()?;
        if let Err(error) = self.settle_locked() {
            log::warn!("{}", Chain(&error));
        }
        match state {
            // The failure is kept before the post goes, so that it is never missing from both.
            State::Failed => match self.keep(job, &post) {
                Ok(()) => remove(&file(&self.run, job)),
                Err(error) => write(&self.run, job, &post).and(Err(error)),
            },
            State::Ok => {
                write(&self.run, job, &post)?;
                remove(&file(&self.kept, job))
            }
            State::Off => remove(&file(&self.run, job)),
            State::Working | State::Waiting | State::Attention | State::Unsafe => write(&self.run, job, &post),
        }
    }

    /// Takes `job` off the board, an earlier failure included: it has succeeded, and that is nothing to show.
    ///
    /// # Errors
    ///
    /// [`LedError`] if the name is none or a file cannot be removed; the failure may still stand.
    pub fn make_good(&self, job: &str) -> Result<(), LedError> {
        check(job)?;
        make_folder(&self.run)?;
        let _lock = self.lock()?;
        remove(&file(&self.run, job))?;
        remove(&file(&self.kept, job))
    }

    /// What all jobs say, by name; a job whose process died at work has failed.
    ///
    /// # Errors
    ///
    /// [`LedError`] if a folder is there and cannot be read.
    pub fn jobs(&self) -> Result<Vec<Job>, LedError> {
        // The run folder first: a failure moves from there to the other, so that it is seen at least once.
        let boot = boot_id().unwrap_or_default();
        let mut jobs: Vec<Job> = Vec::new();
        let insert = |job: Job, jobs: &mut Vec<Job>| {
            let at = jobs.partition_point(|other| other.name < job.name);
            jobs.insert(at, job);
        };
        for (name, read) in read_folder(&self.run)? {
            if let Some(job) = judge(&name, read, &boot) {
                insert(job, &mut jobs);
            }
        }
        for (name, read) in read_folder(&self.kept)? {
            let Post { text, since, .. } = read.unwrap_or_else(|reason| broken(&reason));
            let failure = Failure { text, since };
            if let Some(job) = jobs.iter_mut().find(|job| job.name == name) {
                job.failure = Some(failure);
            } else {
                let text = failure.text.clone();
                let failure = Some(failure);
                insert(Job { name, state: State::Failed, text, since, process: None, failure }, &mut jobs);
            }
        }
        Ok(jobs)
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
        make_folder(&self.run)?;
        let _lock = self.lock()?;
        let mut acked = Vec::new();
        for failed in self.jobs()? {
            let is_meant = job.is_none_or(|job| job == failed.name);
            if !is_meant || failed.light() != State::Failed {
                continue;
            }
            if failed.state == State::Failed {
                remove(&file(&self.run, &failed.name))?;
            }
            remove(&file(&self.kept, &failed.name))?;
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
        let _lock = self.lock()?;
        self.settle_locked()
    }

    fn settle_locked(&self) -> Result<(), LedError> {
        let boot = boot_id().unwrap_or_default();
        for (name, read) in read_folder(&self.run)? {
            let Some(Job { state: State::Failed, text, since, .. }) = judge(&name, read, &boot) else {
                continue;
            };
            let post = Post { version: VERSION, state: State::Failed, text, since, boot: boot.clone(), process: None };
            self.keep(&name, &post)?;
            remove(&file(&self.run, &name))?;
        }
        Ok(())
    }

    /// Writes a failure where it outlasts the machine's next start, a loss of power right after included.
    fn keep(&self, job: &str, post: &Post) -> Result<(), LedError> {
        make_folder(&self.kept)?;
        write(&self.kept, job, post)?;
        File::open(&self.kept).and_then(|folder| folder.sync_all()).map_err(io_error("sync", &self.kept))
    }

    /// Takes the lock of all who change the posts.
    fn lock(&self) -> Result<File, LedError> {
        lock(&self.run.join(".lock"))
    }
}

/// Takes the lock `path`, which the kernel lets go of when the file is closed.
fn lock(path: &Path) -> Result<File, LedError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o644)
        .open(path)
        .map_err(io_error("open", path))?;
    let began = Instant::now();
    loop {
        match fs2::FileExt::try_lock_exclusive(&file) {
            Ok(()) => return Ok(file),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(source) => return Err(io_error("lock", path)(source)),
        }
        if began.elapsed() > LOCK_LIMIT {
            return Err(LedError::Busy { path: path.to_owned() });
        }
        std::thread::sleep(Duration::from_millis(2));
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
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(io_error("read", folder)(source)),
    };
    let mut posts = Vec::new();
    for entry in entries {
        let file_name = entry.map_err(io_error("read", folder))?.file_name();
        let name = file_name.to_str().and_then(|name| name.strip_suffix(".json"));
        // Everything else is a lock or a file that is still being written.
        let Some(name) = name.filter(|name| is_job_name(name)) else { continue };
        match fs::read(folder.join(&file_name)) {
            Ok(bytes) => posts.push((name.to_owned(), understand(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => posts.push((name.to_owned(), Err(error.to_string()))),
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
fn write(folder: &Path, job: &str, post: &Post) -> Result<(), LedError> {
    // The dot keeps it apart from all posts, and the lock keeps others from writing it.
    let temporary = folder.join(format!(".{job}.new"));
    let text = serde_json::to_vec(post).map_err(io::Error::other);
    text.and_then(|text| {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o644).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(&text)?;
        file.sync_all()
    })
    .map_err(io_error("write", &temporary))?;
    let path = file(folder, job);
    fs::rename(&temporary, &path).map_err(io_error("write", &path))
}

fn make_folder(folder: &Path) -> Result<(), LedError> {
    folders::make_shared(folder).map_err(io_error("make", folder))
}

fn remove(path: &Path) -> Result<(), LedError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

fn check(job: &str) -> Result<(), LedError> {
    if is_job_name(job) { Ok(()) } else { Err(LedError::Name { name: job.to_owned() }) }
}

fn file(folder: &Path, job: &str) -> PathBuf {
    folder.join(format!("{job}.json"))
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> LedError + 'a {
    move |source| LedError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::led::choose;
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
    fn an_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("run"), "").unwrap();
        let board = Board::new(&folder.path().join("run"), &folder.path().join("kept"));
        let error = board.post("a", State::Ok, "").unwrap_err();
        let told = Chain(&error).to_string();
        assert!(told.starts_with("cannot make ") && told.contains("/run: "), "{told}");
    }
}
