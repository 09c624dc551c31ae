//! What history and light are told of jobs, whatever becomes of them.

use super::*;
use phobos_core::exec::fake::Script;
use std::path::Path;

fn frame<'a>(script: &'a Script, folder: &Path, interrupted: &'a (dyn Fn() -> Option<i32> + Sync)) -> Frame<'a> {
    Frame {
        exec: script,
        interrupted,
        locks: Locks::new(&folder.join("lock")),
        history: History::new(&folder.join("history.jsonl")),
        board: Board::new(&folder.join("run"), &folder.join("kept")),
        deadline: Instant::now(),
    }
}

fn spec(visibility: Visibility) -> Spec<'static> {
    Spec {
        name: "ext",
        object: "A",
        light: "ext-A".to_owned(),
        working: "mirroring".to_owned(),
        visibility,
        expected_end: None,
    }
}

/// What the light's board and the history say: the state, and each run's exit code and error.
fn told(frame: &Frame<'_>) -> (Option<State>, Vec<(u8, String)>) {
    let state = frame.board.jobs().unwrap().first().map(led::Job::light);
    let runs = frame.history.read().unwrap();
    (state, runs.into_iter().map(|run| (run.exit, run.error)).collect())
}

#[test]
fn a_job_is_seen_at_work_and_at_its_end() {
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::new().ok().ok().ok().ok());
    let frame = frame(&script, folder.path(), &|| None);
    let job = frame.begin(spec(Visibility::All), None, &|_| {});
    assert_eq!(told(&frame), (Some(State::Working), vec![]));
    job.end(&Ending::default());
    assert_eq!(told(&frame), (Some(State::Ok), vec![(0, String::new())]));
}

#[test]
fn a_scheduled_job_shows_only_that_it_failed() {
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::new().ok().ok().ok().ok());
    let frame = frame(&script, folder.path(), &|| None);
    let job = frame.begin(spec(Visibility::Failures), None, &|_| {});
    assert_eq!(told(&frame), (None, vec![]));
    job.end(&Ending::failed(&exit::Stop::new(Exit::Refused, "no")));
    assert_eq!(told(&frame), (Some(State::Failed), vec![(65, "no".to_owned())]));
    let away = Ending { tolerated: true, ..Ending::failed(&exit::Stop::new(Exit::Absent, "away")) };
    frame.begin(spec(Visibility::Failures), None, &|_| {}).end(&away);
    assert_eq!(told(&frame).0, Some(State::Failed), "nothing was made good");
    frame.begin(spec(Visibility::Failures), None, &|_| {}).end(&Ending::default());
    assert_eq!(told(&frame).0, None);
}

#[test]
fn a_dry_run_shows_nothing() {
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::new());
    let frame = frame(&script, folder.path(), &|| None);
    frame.begin(spec(Visibility::Nothing), None, &|_| {}).end(&Ending { exit: 65, ..Ending::default() });
    assert_eq!(told(&frame), (None, vec![]));
}

#[test]
fn a_panic_is_told_as_a_failure() {
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::new().ok().ok().ok().ok());
    let frame = frame(&script, folder.path(), &|| None);
    logging::init(log::LevelFilter::Off);
    let work = std::panic::AssertUnwindSafe(|| {
        let _job = frame.begin(spec(Visibility::All), None, &|_| {});
        panic!("the sky is falling");
    });
    assert!(std::panic::catch_unwind(work).is_err());
    let (state, runs) = told(&frame);
    assert_eq!(state, Some(State::Failed));
    let [(1, error)] = runs.as_slice() else { panic!("{runs:?}") };
    assert!(error.starts_with("internal error: the sky is falling ("), "{error}");
}

#[test]
fn a_wait_is_shown_and_counted() {
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::new().ok().ok().ok().ok());
    let frame = Frame { deadline: Instant::now() + Duration::from_secs(60), ..frame(&script, folder.path(), &|| None) };
    let held = frame.lock(&LockName::Holding, Mode::Exclusive, "night", None).unwrap();
    let held = RefCell::new(Some(held));
    let said = RefCell::new(String::new());
    // The other job ends when it is known that it is waited for.
    let say = |text: &str| {
        said.borrow_mut().push_str(text);
        drop(held.take());
    };
    let job = frame.begin(spec(Visibility::All), None, &say);
    let _lock = job.lock(&LockName::Holding, Mode::Shared).unwrap();
    assert!(said.borrow().starts_with("waiting for the lock holding, held by night (pid "), "{said:?}");
    assert!(job.waited() > Duration::ZERO);
    let (asked, began) = (job.start(), job.begins());
    assert!(asked < began && job.start() == began);
    assert_eq!(script.calls().len(), 3, "at work, waiting, at work: each is put on the light");
    assert_eq!(told(&frame).0, Some(State::Working));
    job.end(&Ending::default());
}

#[test]
fn a_job_that_could_not_begin_has_failed() {
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::new().fails(69, "no light"));
    let frame = frame(&script, folder.path(), &|| None);
    frame.failed_early("ext", &"no such drive");
    let jobs = frame.board.jobs().unwrap();
    assert_eq!((jobs[0].name.as_str(), jobs[0].light(), jobs[0].light_text()), ("ext", State::Failed, "no such drive"));
    assert_eq!(script.calls(), ["phobos-blink show"]);
}

#[test]
fn the_light_breathes_for_a_job_that_somebody_watches() {
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::new().ok().ok().ok().ok());
    let frame = frame(&script, folder.path(), &|| None);
    let breathing = led::Settings { breathe: true, ..led::Settings::default() };
    frame.begin(spec(Visibility::Failures), Some(&breathing), &|_| {}).end(&Ending::default());
    assert_eq!(script.calls(), [""; 0]);
    frame.begin(spec(Visibility::All), Some(&breathing), &|_| {}).end(&Ending::default());
    assert_eq!(script.calls(), ["phobos-blink show", "phobos-blink show --breathe", "phobos-blink show"]);
}

#[test]
fn what_is_known_of_a_run_is_in_the_history() {
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::new().ok().ok().ok().ok());
    let frame = frame(&script, folder.path(), &|| None);
    let job = frame.begin(spec(Visibility::All), None, &|_| {});
    // A lock that is free is had without a word, under the job's name.
    let lock = job.lock(&LockName::Holding, Mode::Exclusive).unwrap();
    assert_eq!(frame.locks.holders(&LockName::Holding)[0].job, "ext-A");
    assert_eq!(script.calls().len(), 1, "nothing was to be shown");
    drop(lock);
    job.waited.set(Duration::from_secs(90));
    let start = job.start();
    let ending =
        Ending { exit: 23, error: "no".to_owned(), origin: "rsync".to_owned(), bytes: Some(7), ..Ending::default() };
    job.end(&ending);
    let [run] = &frame.history.read().unwrap()[..] else { panic!() };
    assert!(run.end > start);
    let wanted = Run {
        exit: 23,
        error: "no".to_owned(),
        origin: "rsync".to_owned(),
        bytes: Some(7),
        ..Run::new("ext", "A", start)
    };
    assert_eq!(*run, Run { end: run.end, waited_secs: 90, ..wanted });
}

#[test]
fn a_failure_that_is_tolerated_is_not_shown() {
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::new().ok().ok());
    let frame = frame(&script, folder.path(), &|| None);
    let away = Ending { tolerated: true, ..Ending::failed(&exit::Stop::new(Exit::Absent, "away")) };
    frame.begin(spec(Visibility::All), None, &|_| {}).end(&away);
    assert_eq!(told(&frame), (None, vec![(66, "away".to_owned())]));
}

/// Only a job that was killed leaves its record behind.
#[test]
fn a_killed_job_is_told_by_the_next_one() {
    for (visibility, shown) in [(Visibility::All, None), (Visibility::Failures, Some(State::Failed))] {
        let (folder, script) = (tempfile::tempdir().unwrap(), Script::new().ok().ok().ok().ok());
        let frame = frame(&script, folder.path(), &|| None);
        let records = folder.path().join("running");
        let job = frame.begin(spec(visibility), None, &|_| {});
        let record = std::fs::read_dir(&records).unwrap().next().unwrap().unwrap().path();
        let text = std::fs::read_to_string(&record).unwrap();
        let pid = format!("\"pid\":{}", std::process::id());
        assert!(text.contains(&pid), "{text}");
        job.end(&Ending::default());
        assert_eq!(std::fs::read_dir(&records).unwrap().count(), 0);
        let start = (Utc::now() - chrono::TimeDelta::hours(1)).to_rfc3339();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        (value["process"]["start"], value["start"]) = (1.into(), start.into());
        std::fs::write(&record, value.to_string()).unwrap();
        frame.board.ack(None).unwrap();
        let before = script.calls().len();
        frame
            .begin(Spec { name: "other", light: "other".to_owned(), ..spec(Visibility::Failures) }, None, &|_| {})
            .end(&Ending::default());
        let runs = told(&frame).1;
        assert_eq!(runs[1], (137, "killed while it was at work".to_owned()), "{runs:?}");
        // What the board has seen die it has told already; it is put on the light in any case.
        let of_job = frame.board.jobs().unwrap().into_iter().find(|job| job.light() == State::Failed);
        assert_eq!(of_job.map(|job| job.light()), shown);
        assert_eq!(script.calls().len(), before + 1);
        frame.begin(spec(Visibility::Nothing), None, &|_| {}).end(&Ending::default());
        assert_eq!(std::fs::read_dir(&records).unwrap().count(), 0, "a dry run leaves none");
    }
}

#[test]
fn a_failure_names_the_program_that_gave_the_code() {
    let script = Script::new().fails(23, "no space");
    let error = script.run(&phobos_core::exec::Invocation::new("rsync")).unwrap_err();
    let ending = Ending::failed(&error);
    assert_eq!((ending.exit, ending.origin.as_str()), (1, "rsync"));
    assert_eq!(Ending::failed(&exit::Stop::new(Exit::Refused, "no")).origin, "");
}
