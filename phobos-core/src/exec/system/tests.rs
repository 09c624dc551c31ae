//! Calls of real programs: their ends, their output, signals and limits.

use super::*;
use crate::exec::sink::LONGEST_LINE;

/// Keeps what it sees; ends the program when told to.
#[derive(Default)]
struct Notes {
    out: Vec<String>,
    err: Vec<String>,
    stop: Option<&'static str>,
}

impl Observer for Notes {
    fn out(&mut self, line: &str) {
        self.out.push(line.to_owned());
    }
    fn err(&mut self, line: &str) {
        self.err.push(line.to_owned());
    }
    fn tick(&mut self) -> Result<(), String> {
        self.stop.map_or(Ok(()), |reason| Err(reason.to_owned()))
    }
}

fn sh(script: &str) -> Invocation {
    Invocation::new("sh").args(["-c", script])
}

#[test]
fn a_call_gets_its_input_and_gives_its_output() {
    let call = sh("cat; echo $LC_ALL$MORE").stdin(b"hello ".to_vec()).env("MORE", "!");
    assert_eq!(System::default().run(&call).unwrap().text(), "hello C.UTF-8!");
}

#[test]
fn a_failure_tells_call_status_and_the_end_of_stderr() {
    let error = System::default().run(&sh("seq 1000 >&2; echo no >&2; exit 5")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`sh -c 'seq 1000 >&2; echo no >&2; exit 5'` failed with exit code 5: 998 | 999 | 1000 | no"
    );
    let error = System::default().run(&sh("kill -9 $$")).unwrap_err();
    assert_eq!(error.to_string(), "`sh -c 'kill -9 $$'` was killed by signal 9");
}

#[test]
fn a_call_goes_through_another_program_and_messages_do_not_show_it() {
    let through = ["sh", "-c", "shift; echo through; exec \"$@\"", "sh"];
    let call = sh("echo $PATH$HOME; exit 3").through(through);
    assert_eq!(call.to_string(), "sh -c 'echo $PATH$HOME; exit 3'");
    let call = sh("echo $MORE${HOME-none}$LC_ALL").through(through).only_env(&["PATH"]).env("MORE", "more ");
    assert_eq!(System::default().run(&call).unwrap().text(), "through\nmore noneC.UTF-8");
}

#[test]
fn a_missing_program_is_named() {
    let error = System::default().run(&Invocation::new("no-such-program")).unwrap_err();
    assert_eq!(error.to_string(), "cannot find the program no-such-program; install it");
    let error = super::super::require(&["sh", "no-such", "nor-this"]).unwrap_err();
    assert_eq!(error.to_string(), "cannot find the programs no-such, nor-this; install them");
}

#[test]
fn a_streamed_call_shows_lines_as_they_come() {
    let mut notes = Notes::default();
    System::default().stream(&sh(r"printf 'a\rb\n'; echo oops >&2; printf rest"), &mut notes).unwrap();
    assert_eq!(notes.out, ["a", "b", "rest"]);
    assert_eq!(notes.err, ["oops"]);
}

#[test]
fn an_observer_can_end_the_program() {
    let mut notes = Notes { stop: Some("the lock is lost"), ..Notes::default() };
    let error = System::default().stream(&sh("exec sleep 60"), &mut notes).unwrap_err();
    assert_eq!(error.to_string(), "`sh -c 'exec sleep 60'` was ended: the lock is lost");
}

#[test]
fn a_limit_ends_the_program() {
    let error = System::default().run(&sh("exec sleep 60").limit(Duration::from_millis(10))).unwrap_err();
    assert!(matches!(error, ExecError::TimedOut { .. }), "{error}");
}

#[test]
fn what_does_nothing_is_ended_and_what_gets_on_is_not() {
    let stopped = sh("kill -STOP $$").while_it_gets_on(Duration::from_millis(300)).own_group();
    let error = System::default().run(&stopped).unwrap_err();
    assert!(matches!(error, ExecError::Stalled { .. }), "{error}");
    let talks = sh("for i in 1 2 3 4 5 6; do sleep 0.2; echo; done").while_it_gets_on(Duration::from_millis(900));
    System::default().run(&talks).unwrap();
}

#[test]
fn a_line_without_an_end_comes_in_pieces_and_costs_no_more_than_its_bytes() {
    let mut notes = Notes::default();
    let began = Instant::now();
    System::default().stream(&sh("head -c 30000000 /dev/zero | tr '\\0' x >&2"), &mut notes).unwrap();
    assert_eq!(notes.err.iter().map(String::len).sum::<usize>(), 30_000_000);
    assert!(notes.err.iter().all(|piece| piece.len() <= 2 * LONGEST_LINE));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn output_without_an_end_is_neither_kept_nor_waited_for() {
    let error = System::default().run(&sh("exec cat /dev/zero")).unwrap_err();
    assert!(error.to_string().ends_with("was ended: it writes without an end"), "{error}");
    // Nor is that of a process that the program leaves behind, and that goes on writing.
    System::default().run(&sh("(timeout 20 yes || :) & sleep 0.1; exit 0")).unwrap();
}

#[test]
fn a_background_process_does_not_hold_up_the_end() {
    let began = Instant::now();
    System::default().run(&sh("sleep 30 & exit 0")).unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// What the rsync that was started leaves behind is not over when that one is.
#[test]
fn a_call_to_the_last_ends_with_its_last_process() {
    let half = tempfile::tempdir().unwrap();
    let done = half.path().join("done");
    // Told to end, the first ends at once; the second, which has only its standard error, ends when it is done.
    let script = "(exec >&-; until test -e \"$0.ended\"; do :; done; sleep 0.3; >\"$0\") & \
                  trap '>\"$0.ended\"; exit 20' TERM; echo ready; while :; do sleep 0.01; done";
    let call = Invocation::new("sh").args(["-c", script]).arg(&done).to_the_last();
    let mut notes = Notes { stop: Some("enough"), ..Notes::default() };
    let error = System::default().stream(&call, &mut notes).unwrap_err();
    assert!(matches!(error, ExecError::Stopped { .. }), "{error}");
    assert!(done.exists());
}

#[test]
fn an_attached_program_keeps_its_own_status() {
    assert_eq!(System::default().attach(&sh("exit 75")).unwrap().shell_code(), 75);
    assert_eq!(System::default().attach(&sh("kill -9 $$")).unwrap().shell_code(), 137);
    assert!(matches!(System::default().attach(&Invocation::new("no-such")), Err(ExecError::Missing { .. })));
}

#[test]
fn a_holder_holds_until_it_is_released() {
    let mut notes = Notes::default();
    let call = sh("echo first; echo locked; cat; echo gone >&2; exit 0");
    let mut holder = System::default().hold(&call, "locked", &mut notes).unwrap();
    assert!(holder.is_alive());
    holder.release().unwrap();
    assert_eq!(notes.out, ["first"]);
}

#[test]
fn a_holder_that_never_gets_ready_is_an_error() {
    let error = System::default().hold(&sh("echo no >&2; exit 2"), "locked", &mut Notes::default()).unwrap_err();
    assert_eq!(error.to_string(), "`sh -c 'echo no >&2; exit 2'` failed with exit code 2: no");
    let error = System::default().hold(&sh("exit 0"), "locked", &mut Notes::default()).unwrap_err();
    assert!(error.to_string().contains("without saying `locked`"), "{error}");
}

#[test]
fn a_holder_that_dies_is_noticed() {
    let mut holder =
        System::default().hold(&sh("echo locked; exec sleep 0.01"), "locked", &mut Notes::default()).unwrap();
    let limit = Instant::now() + Duration::from_secs(20);
    while holder.is_alive() {
        assert!(Instant::now() < limit, "the holder's death was not noticed");
        std::thread::yield_now();
    }
}

/// Runs in a process of its own, because the variable is the whole process's.
#[test]
fn no_child_speaks_for_this_process() {
    const INNER: &str = "PHOBOS_TEST_INNER";
    if std::env::var_os(INNER).is_some() {
        assert!(std::env::var_os("NOTIFY_SOCKET").is_some());
        let call = Invocation::new("sh").args(["-c", "echo ${NOTIFY_SOCKET-none}"]);
        for call in [call.clone(), call.clone().bound(), call.clone().only_env(&["PATH", "NOTIFY_SOCKET"])] {
            assert_eq!(System::default().run(&call).unwrap().stdout, b"none\n", "{call:?}");
        }
        return;
    }
    let me = std::env::current_exe().unwrap();
    let name = "exec::system::tests::no_child_speaks_for_this_process";
    let script = "export NOTIFY_SOCKET=/nowhere; exec \"$0\" --exact \"$1\"";
    System::default().run(&Invocation::new("sh").args(["-c", script]).arg(me).arg(name).env(INNER, "")).unwrap();
}
