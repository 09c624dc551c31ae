//! A history that grows, is torn, or is written by many.

use super::*;

fn run(job: &str, minutes: i64, exit: u8) -> Run {
    let start = DateTime::UNIX_EPOCH;
    let end = start + TimeDelta::minutes(minutes);
    Run { end, exit, ..Run::new(job, "A", start) }
}

#[test]
fn what_is_appended_is_read_and_a_torn_line_loses_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/history.jsonl");
    let history = History::new(&path);
    assert_eq!(history.read().unwrap(), []);
    history.append(&run("ext", 1, 0)).unwrap();
    // The first bytes of a line, cut off within a letter, and what a power cut leaves of a block.
    for torn in [&b"{\"job\":\"\xc3"[..], b"\0\0\0\0"] {
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(torn).unwrap();
        assert_eq!(history.read().unwrap().len(), 1);
    }
    history.append(&run("ext", 2, 1)).unwrap();
    assert_eq!(history.read().unwrap(), [run("ext", 1, 0), run("ext", 2, 1)]);
    history.append(&run("pull", 3, 0)).unwrap();
    assert_eq!(history.read_of("pull").unwrap(), [run("pull", 3, 0)]);
    assert_eq!(history.read_of("night").unwrap(), []);
}

#[test]
fn runs_are_told_one_by_one_and_what_is_none_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let history = History::new(&path);
    assert_eq!(history.each(|_| panic!("there is none")).unwrap(), 0);
    history.append(&run("ext", 1, 0)).unwrap();
    fs::rename(&path, folder.path().join("history.jsonl.1")).unwrap();
    fs::write(&path, b"\n\xff\0\n{\"schema_version\":2,\"job\":\"x\",\"start\":\"2026-01-01T00:00:00Z\",\"end\":\"2026-01-01T00:00:00Z\",\"exit\":0}\n").unwrap();
    history.append(&run("pull", 2, 1)).unwrap();
    let mut jobs = Vec::new();
    assert_eq!(history.each(|run| jobs.push(run.job)).unwrap(), 2);
    assert_eq!(jobs, ["ext", "pull"]);
}

#[test]
fn times_are_read_as_chrono_reads_them() {
    let read = |text: &str| moment(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text));
    let good = [
        "2026-02-28T03:00:00Z",
        "2026-02-28T03:00:00.5Z",
        "2024-02-29T23:59:59.123456789Z",
        "2026-02-28T03:00:00.1234567891Z",
        "2026-02-28T03:00:00+01:00",
    ];
    for text in good {
        assert_eq!(read(text).unwrap(), text.parse::<DateTime<Utc>>().unwrap(), "{text}");
    }
    for bad in ["", "2026-02-29T03:00:00Z", "2026-02-28T03:00:00.Z", "2026-02-28T03:00Z", "2026-02-28T03:00:0xZ"] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_expected_end_is_the_median_of_good_runs_without_their_waits() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::new(&folder.path().join("history.jsonl"));
    assert_eq!(history.expected_end("ext", "A", DateTime::UNIX_EPOCH), None);
    for (minutes, exit) in [(10, 0), (900, 0), (0, 1)] {
        history.append(&run("ext", minutes, exit)).unwrap();
    }
    history.append(&Run { waited_secs: 3600, ..run("ext", 80, 0) }).unwrap();
    let expected = DateTime::UNIX_EPOCH + TimeDelta::minutes(20);
    assert_eq!(history.expected_end("ext", "A", DateTime::UNIX_EPOCH), Some(expected));
    assert_eq!(history.expected_end("ext", "B", DateTime::UNIX_EPOCH), None);
    // The latest runs are those of the newest file, and of the one before.
    fs::rename(folder.path().join("history.jsonl"), folder.path().join("history.jsonl.1")).unwrap();
    assert_eq!(history.expected_end("ext", "A", DateTime::UNIX_EPOCH), Some(expected));
}

#[test]
fn times_that_cannot_be_true_are_left_out_of_what_is_reckoned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let history = History::new(&path);
    let line = |start: &str, end: &str, waited: u64| {
        let text = format!(
            "{{\"job\":\"ext\",\"object\":\"A\",\"start\":\"{start}\",\"end\":\"{end}\",\"exit\":0,\"waited_secs\":{waited}}}\n"
        );
        fs::OpenOptions::new().create(true).append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    // As long as a calendar, backwards, waits longer than anything, and a clock that was set while the run went on.
    line("-262000-01-01T00:00:00Z", "+262142-12-31T00:00:00Z", 0);
    line("+262142-12-31T00:00:00Z", "-262000-01-01T00:00:00Z", u64::MAX);
    line("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", u64::MAX);
    line("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", i64::MAX as u64);
    line("1970-01-01T00:00:10Z", "2026-01-01T01:00:00Z", 0);
    line("2026-01-01T00:00:00Z", "2099-01-01T01:00:00Z", 0);
    line("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", 0);
    let now = DateTime::UNIX_EPOCH;
    assert_eq!(history.expected_end("ext", "A", now), None);
    // A clock that was wrong all the time still tells how long a run took.
    line("2099-01-01T00:00:00Z", "2099-01-01T00:20:00Z", 300);
    assert_eq!(history.expected_end("ext", "A", now), Some(now + TimeDelta::minutes(15)));
    assert_eq!(history.expected_end("ext", "A", DateTime::<Utc>::MAX_UTC), None);
    assert_eq!(history.read().unwrap().len(), 8);
}

#[test]
fn whoever_may_read_the_history_cannot_hold_up_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let history = History::new(&path);
    history.append(&run("ext", 1, 0)).unwrap();
    let readable = File::open(&path).unwrap();
    fs2::FileExt::lock_exclusive(&readable).unwrap();
    history.append(&run("ext", 2, 0)).unwrap();
    let lock = File::open(folder.path().join("history.jsonl.lock")).unwrap();
    assert_eq!(lock.metadata().unwrap().mode() & 0o777, 0o600);
    // Even one who holds the lock itself does so for seconds only.
    fs2::FileExt::lock_exclusive(&lock).unwrap();
    let began = std::time::Instant::now();
    history.append(&run("ext", 3, 0)).unwrap();
    assert!(began.elapsed() < LOCK_LIMIT * 3);
    assert_eq!(history.read().unwrap().len(), 3);
}

#[test]
fn what_is_no_file_is_an_error_and_does_not_hold_up_anything() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let device = folder.path().join("device");
    std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
    for path in [fifo, folder.path().join("folder"), device] {
        if path.ends_with("folder") {
            fs::create_dir(&path).unwrap();
        }
        let history = History::new(&path);
        assert!(history.read().is_err() && history.append(&run("ext", 1, 0)).is_err(), "{}", path.display());
        assert_eq!(history.expected_end("ext", "A", DateTime::UNIX_EPOCH), None);
    }
}

#[test]
fn a_large_file_is_put_aside_and_no_line_is_lost_or_read_twice() {
    const WRITERS: usize = 3;
    const RUNS: usize = 4;
    let folder = tempfile::tempdir().unwrap();
    // On a disk that is busy with other tests three writers may need longer than a job would wait.
    let patience = Duration::from_secs(300);
    let history = History { patience, ..History::new(&folder.path().join("history.jsonl")) };
    let long = "x".repeat(usize::try_from(LARGE).unwrap() / 4);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (history, long) = (&history, &long);
            scope.spawn(move || {
                for number in 0..RUNS {
                    let object = format!("{writer}-{number}");
                    history.append(&Run { object, error: long.clone(), ..run("ext", 1, 1) }).unwrap();
                }
            });
        }
        // Whoever reads meanwhile sees every run that was there before, once.
        let mut seen = Vec::new();
        while seen.len() < WRITERS * RUNS {
            let now: Vec<String> = history.read().unwrap().into_iter().map(|run| run.object).collect();
            assert_eq!(now.get(..seen.len()), Some(&seen[..]));
            seen = now;
        }
    });
    assert!(folder.path().join("history.jsonl.2").exists());
}

#[test]
fn fuzz_history() {
    phobos_fuzz::target("history", &[br#"{"schema_version":1,"job":"ext","object":"A","start":"2026-01-02T03:04:05.123456789Z","end":"2026-01-02T04:04:05Z","exit":65,"error":"no","origin":"rsync","waited_secs":12,"bytes":4711}"#], |input| {
        std::hint::black_box(utc(input));
        if let Ok(run) = serde_json::from_slice::<Run>(input) {
            std::hint::black_box(run.length().and_then(|length| run.end.checked_add_signed(length)));
        }
    });
}
