//! Many jobs on one light.

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
fn a_configuration_is_handed_on_as_an_absolute_path() {
    let (_folder, board) = board();
    let named = |config: &str| board.clone().lit_by(Some(Path::new(config))).config().map(Path::to_owned);
    assert_eq!(named("my.toml"), Some(std::env::current_dir().unwrap().join("my.toml")));
    assert_eq!(named("/etc/my.toml"), Some("/etc/my.toml".into()));
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

#[test]
fn fuzz_board_post() {
    phobos_fuzz::target("board_post", &[br#"{"version":1,"state":"failed","text":"no","since":1764225000000,"boot":"x","process":{"pid":7,"start":4711}}"#], |input| {
        drop(files::understand(input));
    });
}
