//! The frame that every job runs in: it waits for locks and says for whom, and tells light and history how the job ended,
//! whatever happens.
//!
//! A [`Job`] is a guard. [`Job::end`] tells how it went; a job that is dropped without, because of a panic, is told as a
//! failure by its `Drop`. One that is killed is found dead by the light's board, and by the next job that begins.

mod killed;

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, Hold};

use crate::exit::{self, Exit};
use crate::history::{History, Run, Running};
use crate::led::{self, Board, State};
use crate::lock::{Lock, LockError, LockName, Locks, Mode, Patience};
use crate::logging;
use crate::paths::Paths;
use crate::spare;

/// What the jobs of one program share: how programs are started, where locks, history and light are, and how long to wait.
pub struct Frame<'a> {
    /// Starts programs.
    pub exec: &'a dyn Exec,
    /// Is asked again and again while a job waits; a signal's number ends the wait.
    pub interrupted: &'a (dyn Fn() -> Option<i32> + Sync),
    /// The locks of this machine.
    pub locks: Locks,
    /// The history of this machine.
    pub history: History,
    /// The light's board.
    pub board: Board,
    /// Until when to wait for locks, Borg's included.
    pub deadline: Instant,
}

/// Which job it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec<'a> {
    /// Its name in the history, such as `ext`.
    pub name: &'a str,
    /// What it works on, such as the drive's name; empty if there is only one thing.
    pub object: &'a str,
    /// Its name on the light and in the records of locks, such as `ext-A`.
    pub light: String,
    /// What it says on the light while it is at work.
    pub working: String,
    /// What it shows.
    pub visibility: Visibility,
    /// When it should end if it got its locks at once; by default, what the history says.
    pub expected_end: Option<DateTime<Utc>>,
}

/// What a job shows on the light and leaves in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// All it does: somebody watches, or waits for the green light.
    All,
    /// That it failed: nobody looks at the light for a scheduled job that goes well.
    Failures,
    /// Nothing: a dry run.
    Nothing,
}

/// How a job ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ending {
    /// The exit code.
    pub exit: u8,
    /// What went wrong, on one line; empty for a good end.
    pub error: String,
    /// Who gave the exit code, where it was not phobos itself: the program, or `signal`.
    pub origin: String,
    /// How many bytes were copied, where they are counted.
    pub bytes: Option<u64>,
    /// What the light says to a good end.
    pub text: String,
    /// Whether a failure is none before its time, as that of a host that may be away.
    pub tolerated: bool,
}

/// A job at work.
#[must_use = "dropping it tells that it has failed"]
pub struct Job<'a> {
    frame: &'a Frame<'a>,
    spec: Spec<'a>,
    start: Cell<DateTime<Utc>>,
    waited: Cell<Duration>,
    /// Whether the light shows that it waits.
    waits: Cell<bool>,
    breath: RefCell<Option<Box<dyn Hold>>>,
    /// Tells others that it is under way, until it is in the history.
    running: RefCell<Option<Running>>,
    ended: bool,
    /// Says for whom the job waits.
    say: &'a dyn Fn(&str),
}

/// Tells that a job that could not even begin has failed, as `light`: before its own name is known, or while another run has
/// it, or before there is a [`Frame`]. What the light says to that is not worth a second line, for a configuration that cannot
/// be read is the light's too.
pub fn failed_early(exec: &dyn Exec, board: &Board, light: &str, error: &dyn fmt::Display) {
    let _spent = spare::spend();
    if let Err(error) = board.post(light, State::Failed, &error.to_string()) {
        log::debug!("{}", Chain(&error));
    }
    if let Err(error) = led::show(exec, board) {
        log::debug!("{}", Chain(&error));
    }
}

impl<'a> Frame<'a> {
    /// The frame of a program whose paths are `paths`, waiting for locks until `deadline`.
    pub fn new(
        exec: &'a dyn Exec,
        interrupted: &'a (dyn Fn() -> Option<i32> + Sync),
        paths: &Paths,
        board: Board,
        deadline: Instant,
    ) -> Self {
        Self {
            exec,
            interrupted,
            locks: Locks::new(&paths.locks()),
            history: History::new(&paths.history()),
            board,
            deadline,
        }
    }

    /// Tells that a job that could not even begin has failed; see [`failed_early`].
    pub fn failed_early(&self, light: &str, error: &dyn fmt::Display) {
        failed_early(self.exec, &self.board, light, error);
    }

    /// Takes a lock for a job that is not told of, or that has not begun.
    ///
    /// # Errors
    ///
    /// As for [`Locks::take`].
    pub fn lock(
        &self,
        name: &LockName,
        mode: Mode,
        holder: &str,
        until: Option<DateTime<Utc>>,
    ) -> Result<Lock, LockError> {
        let mut patience = Patience::until(self.deadline)
            .on_wait(|whom| log::info!("waiting for {whom}"))
            .interrupted_by(|| (self.interrupted)());
        self.locks.take(name, mode, holder, until, &mut patience)
    }

    /// Begins a job: the light shows that it is at work, and breathes if `breathing` says so.
    pub fn begin(&'a self, spec: Spec<'a>, breathing: Option<&led::Settings>, say: &'a dyn Fn(&str)) -> Job<'a> {
        self.tell_of_the_killed();
        let start = Utc::now();
        let running = RefCell::new(self.note(&spec, start));
        let job = Job {
            frame: self,
            spec,
            start: Cell::new(start),
            waited: Cell::default(),
            waits: Cell::new(false),
            breath: RefCell::new(None),
            running,
            ended: false,
            say,
        };
        job.post_working();
        if job.spec.visibility == Visibility::All {
            let breath = breathing.and_then(|settings| led::breathe(self.exec, &self.board, settings));
            job.breath.replace(breath);
        }
        job
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("locks", &self.locks).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Job<'_> {
    /// The job's name on the light.
    pub fn light(&self) -> &str {
        &self.spec.light
    }

    /// When the job began.
    pub fn start(&self) -> DateTime<Utc> {
        self.start.get()
    }

    /// Lets the job begin now: for one that is in the history from when it has its locks. Returns that moment.
    pub fn begins(&self) -> DateTime<Utc> {
        self.start.set(Utc::now());
        if let Some(Err(error)) = self.running.borrow_mut().as_mut().map(|running| running.began_at(self.start.get())) {
            log::warn!("{}", Chain(&error));
        }
        self.start.get()
    }

    /// How long the job has waited for locks.
    pub fn waited(&self) -> Duration {
        self.waited.get()
    }

    /// Takes a lock; the wait is shown and counted.
    ///
    /// # Errors
    ///
    /// As for [`Locks::take`].
    pub fn lock(&self, name: &LockName, mode: Mode) -> Result<Lock, LockError> {
        let Spec { name: job, object, .. } = self.spec;
        let expected = || self.frame.history.expected_end(job, object, Utc::now());
        let until = self.spec.expected_end.or_else(expected);
        self.waiting(self.frame.deadline, |patience| self.frame.locks.take(name, mode, self.light(), until, patience))
    }

    /// Does something that may have to wait until `deadline`, such as for Borg's own lock; the wait is shown and counted.
    ///
    /// # Errors
    ///
    /// That of `attempt`.
    pub fn waiting<T, E>(
        &self,
        deadline: Instant,
        attempt: impl FnOnce(&mut Patience<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let mut patience =
            Patience::until(deadline).on_wait(|whom| self.on_wait(whom)).interrupted_by(|| (self.frame.interrupted)());
        let result = attempt(&mut patience);
        self.waited.set(self.waited.get().saturating_add(began.elapsed()));
        if result.is_ok() && self.waits.replace(false) {
            self.post_working();
        }
        result
    }

    /// Until when to wait for locks.
    pub fn deadline(&self) -> Instant {
        self.frame.deadline
    }

    /// Tells history and light how the job ended; the light last, when everything else is done.
    pub fn end(mut self, ending: &Ending) {
        self.tell(ending);
    }

    fn tell(&mut self, ending: &Ending) {
        self.ended = true;
        if let Some(Err(error)) = self.breath.take().map(|mut breath| breath.release()) {
            log::warn!("the light did not breathe to the end: {}", Chain(&error));
        }
        if self.spec.visibility == Visibility::Nothing {
            return;
        }
        let _spent = (ending.exit != 0).then(spare::spend);
        let run = Run {
            end: Utc::now(),
            waited_secs: self.waited.get().as_secs(),
            origin: ending.origin.clone(),
            exit: ending.exit,
            error: ending.error.clone(),
            bytes: ending.bytes,
            ..Run::new(self.spec.name, self.spec.object, self.start.get())
        };
        if let Err(error) = self.frame.history.append(&run) {
            log::warn!("{}", Chain(&error));
        }
        match (ending.exit, self.spec.visibility) {
            (0, Visibility::All) => self.post(State::Ok, &ending.text),
            (0, _) => led::make_good(self.frame.exec, &self.frame.board, self.light()),
            _ if ending.tolerated => self.post_if_seen(State::Off, ""),
            _ => self.post(State::Failed, &ending.error),
        }
    }

    fn on_wait(&self, whom: &str) {
        self.waits.set(true);
        let text = format!("waiting for {whom}");
        (self.say)(&text);
        self.post_if_seen(State::Waiting, &text);
    }

    fn post_working(&self) {
        self.post_if_seen(State::Working, &self.spec.working);
    }

    fn post_if_seen(&self, state: State, text: &str) {
        if self.spec.visibility == Visibility::All {
            self.post(state, text);
        }
    }

    fn post(&self, state: State, text: &str) {
        led::tell(self.frame.exec, &self.frame.board, self.light(), state, text);
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let why = logging::last_panic().unwrap_or_else(|| "it ended without saying how".to_owned());
            let error = format!("internal error: {why}");
            self.tell(&Ending { exit: Exit::Failed.code(), error, ..Ending::default() });
        }
    }
}

impl fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("spec", &self.spec).field("start", &self.start).finish_non_exhaustive()
    }
}

impl Ending {
    /// The end that `error` stands for.
    pub fn failed(error: &(dyn Error + 'static)) -> Self {
        Self {
            exit: exit::exit_of(error).code(),
            error: Chain(error).to_string(),
            origin: exit::origin_of(error).unwrap_or_default(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests;
