//! The light that many jobs share: each job posts what it does, one pure function picks what the light shows.
//!
//! A job's post is a file in the [`Board`]'s run folder, which ends with the machine; a failure is kept in a second folder
//! until the same job succeeds or somebody acknowledges it. [`choose`] ranks the posts. Putting the result on a LED is
//! the business of the program `phobos-blink`, which [`tell`] runs.

mod board;
pub mod color;
mod settings;
mod table;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use board::{Board, Failure, Job, LedError, is_job_name};
pub use settings::{BadSetting, Device, Look, Palette, Second, Settings};

use phobos_core::error::Chain;
use phobos_core::exec::{Exec, ExecError, Hold, Invocation, Observer};

/// The program that puts a state on the light.
const PROGRAM: &str = "phobos-blink";

/// What the program says once the light breathes.
pub const BREATHING: &str = "breathing";

/// How long putting a state on the light may hold up a job.
const SHOW_LIMIT: Duration = Duration::from_secs(10);

/// What a job says about itself; the later in this list, the more it matters to whoever looks at the light.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// There is nothing to show.
    Off,
    /// All is done, and a drive may be unplugged.
    Ok,
    /// The job is at work.
    Working,
    /// The job waits for another.
    Waiting,
    /// Something is overdue.
    Attention,
    /// The drive must not be unplugged, though no job is at work on it.
    Unsafe,
    /// The job has failed.
    Failed,
}

/// What the light shows, and on whose behalf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The state that matters most.
    pub state: State,
    /// The job that is in it; of several, the one that came into it last. `None` if nothing is posted.
    pub job: Option<String>,
    /// What the job said.
    pub text: String,
}

impl State {
    /// All states, the one that matters least first.
    pub const ALL: [Self; 7] =
        [Self::Off, Self::Ok, Self::Working, Self::Waiting, Self::Attention, Self::Unsafe, Self::Failed];

    /// The state's word, as in a job's file and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Ok => "ok",
            Self::Working => "working",
            Self::Waiting => "waiting",
            Self::Attention => "attention",
            Self::Unsafe => "unsafe",
            Self::Failed => "failed",
        }
    }

    /// Whether only a living process can be in this state.
    pub fn needs_process(self) -> bool {
        matches!(self, Self::Working | Self::Waiting)
    }
}

/// Picks what the light shows: failed before unsafe before attention before waiting before working before ok before off.
pub fn choose<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Shown {
    let rank = |job: &&Job| (job.light(), job.light_since(), std::cmp::Reverse(job.name.clone()));
    match jobs.into_iter().max_by_key(rank) {
        Some(job) => Shown { state: job.light(), job: Some(job.name.clone()), text: job.light_text().to_owned() },
        None => Shown { state: State::Off, job: None, text: String::new() },
    }
}

/// Lets the light breathe while the state is working, if the settings want it, until the returned holder is released or
/// this process ends; that it cannot is one warning.
///
/// The LED is driven by another process: this one may enter namespaces, which it could not with a second thread.
pub fn breathe(exec: &dyn Exec, board: &Board, settings: &Settings) -> Option<Box<dyn Hold>> {
    if !settings.breathe {
        return None;
    }
    let call = call(board).arg("--breathe").shielded().limit(SHOW_LIMIT);
    let held = exec.hold(&call, BREATHING, &mut Unheard);
    held.map_err(|error| log::warn!("cannot let the light breathe: {}", Chain(&error))).ok()
}

/// Posts `state` for `job` and puts the light right; whatever goes wrong is one warning, for telling never breaks doing.
pub fn tell(exec: &dyn Exec, board: &Board, job: &str, state: State, text: &str) {
    if let Err(error) = board.post(job, state, text) {
        log::warn!("cannot tell the light that {job} is {}: {}", state.word(), Chain(&error));
    }
    if let Err(error) = show(exec, board) {
        log::warn!("cannot put {} on the light: {}", state.word(), Chain(&error));
    }
}

/// Takes `job` off the board, an earlier failure included: it has succeeded, and nobody is there to see it. Where it is not
/// on the board, the light is not touched; whatever goes wrong is one warning.
pub fn make_good(exec: &dyn Exec, board: &Board, job: &str) {
    if board.jobs().is_ok_and(|jobs| jobs.iter().all(|other| other.name != job)) {
        return;
    }
    if let Err(error) = board.make_good(job) {
        log::warn!("cannot take {job} off the light's board: {}", Chain(&error));
    }
    if let Err(error) = show(exec, board) {
        log::warn!("cannot take {job} off the light: {}", Chain(&error));
    }
}

/// Puts what is posted on this board on the light.
///
/// # Errors
///
/// When there is no light, or it cannot be set; it shows what it showed.
pub fn show(exec: &dyn Exec, board: &Board) -> Result<(), ExecError> {
    exec.run(&call(board).shielded().limit(SHOW_LIMIT)).map(drop)
}

/// The call that puts what is posted on this board on the light.
fn call(board: &Board) -> Invocation {
    let call = Invocation::new(PROGRAM).arg("show");
    let call = board.config().into_iter().fold(call, |call, config| call.arg("--config").arg(config));
    board.environment().into_iter().fold(call, |call, (name, value)| call.env(name, value))
}

/// Listens to nothing.
struct Unheard;

impl Observer for Unheard {
    fn out(&mut self, _line: &str) {}
    fn err(&mut self, _line: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta, Utc};
    use phobos_core::exec::fake::Script;

    fn job(name: &str, state: State, failed: bool) -> Job {
        let failure = failed.then(|| Failure { text: "broke".into(), since: DateTime::UNIX_EPOCH });
        Job {
            name: name.to_owned(),
            state,
            text: state.word().to_owned(),
            since: DateTime::UNIX_EPOCH,
            process: None,
            failure,
        }
    }

    /// Every combination of states of three jobs, each with and without a failure that nobody acknowledged.
    #[test]
    fn over_all_combinations_the_worst_state_is_shown() {
        let order =
            [State::Failed, State::Unsafe, State::Attention, State::Waiting, State::Working, State::Ok, State::Off];
        let kinds: Vec<_> = State::ALL.into_iter().flat_map(|state| [(state, false), (state, true)]).collect();
        for a in &kinds {
            for b in &kinds {
                for c in &kinds {
                    let jobs = [job("a", a.0, a.1), job("b", b.0, b.1), job("c", c.0, c.1)];
                    let any = |state| {
                        jobs.iter().any(|job| job.state == state || (state == State::Failed && job.failure.is_some()))
                    };
                    let want = order.into_iter().find(|state| any(*state)).unwrap();
                    assert_eq!(choose(&jobs).state, want, "{jobs:?}");
                    assert_eq!(choose(jobs.iter().rev()), choose(&jobs), "order must not matter");
                }
            }
        }
    }

    #[test]
    fn only_work_and_waiting_end_with_their_process() {
        let ending: Vec<_> = State::ALL.into_iter().filter(|state| state.needs_process()).collect();
        assert_eq!(ending, [State::Working, State::Waiting]);
    }

    #[test]
    fn without_jobs_the_light_is_off() {
        assert_eq!(choose([]), Shown { state: State::Off, job: None, text: String::new() });
    }

    #[test]
    fn of_several_in_one_state_the_last_one_is_named() {
        let mut later = job("a", State::Ok, false);
        later.since = Utc::now() + TimeDelta::hours(5);
        assert_eq!(choose(&[job("b", State::Ok, false), later]).job.unwrap(), "a");
    }

    #[test]
    fn the_light_breathes_only_where_it_is_wanted() {
        let board = Board::new("/nowhere/run".as_ref(), "/nowhere/kept".as_ref());
        let script = Script::new().ok().fails(69, "cannot find a BlinkStick");
        let wanted = Settings { breathe: true, ..Settings::default() };
        assert!(breathe(&script, &board, &Settings::default()).is_none());
        assert!(breathe(&script, &board, &wanted).is_some());
        assert!(breathe(&script, &board, &wanted).is_none());
        assert_eq!(script.calls(), ["phobos-blink show --breathe"; 2]);
    }

    #[test]
    fn a_success_that_nobody_watches_ends_a_failure_and_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::new(&folder.path().join("run"), &folder.path().join("kept"));
        let script = Script::new().ok().ok();
        make_good(&script, &board, "night");
        tell(&script, &board, "night", State::Failed, "");
        make_good(&script, &board, "other");
        assert_eq!(board.jobs().unwrap().len(), 1);
        make_good(&script, &board, "night");
        assert_eq!(board.jobs().unwrap(), []);
        assert_eq!(script.calls(), ["phobos-blink show"; 2]);
    }

    #[test]
    fn telling_never_breaks_doing() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::new(&folder.path().join("run"), &folder.path().join("kept"));
        let script = Script::new().ok().fails(74, "no light").ok();
        tell(&script, &board, "ext", State::Working, "");
        tell(&script, &board, "ext", State::Ok, "");
        tell(&script, &board, "../ext", State::Failed, "");
        tell(&script, &board.clone().lit_by(Some("/etc/other.toml".as_ref())), "ext", State::Ok, "");
        let plain = "phobos-blink show";
        assert_eq!(script.calls(), [plain, plain, plain, "phobos-blink show --config /etc/other.toml"]);
        assert_eq!(board.jobs().unwrap().len(), 1);
    }
}
