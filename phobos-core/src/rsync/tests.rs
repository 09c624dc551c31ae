//! rsync's lines as real versions write them, and the calls that make it write them.

use super::*;
use crate::exec::fake::Script;

/// Keeps what it is told, as text.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    #[expect(clippy::unnecessary_wraps, reason = "it is a handler")]
    fn take(&mut self, event: CopyEvent<'_>) -> Result<(), Halt> {
        match event {
            CopyEvent::Phase(phase) => self.0.push(format!("{phase:?}")),
            CopyEvent::Progress(progress) => self.0.push(progress.words()),
            CopyEvent::Change(change) => self.0.push(change.to_string()),
            CopyEvent::Left(line) | CopyEvent::Warning(line) => self.0.push(line.to_owned()),
            CopyEvent::Tick => {}
        }
        Ok(())
    }
}

fn a_mirror(pass: Pass, filters: &[String]) -> Mirror<'_> {
    Mirror::new(Path::new("/backup"), Path::new("/ext"))
        .max_alloc("4GiB")
        .filters(filters)
        .extras(Extras::All)
        .pass(pass)
        .progress(true)
}

#[test]
fn a_name_is_what_rsync_shows_of_it_and_one_that_stays_is_told() {
    let cases: [(&str, &[u8]); 6] = [
        ("a b", b"a b"),
        (r"\#377\#012x", b"\xff\nx"),
        (r"\#134#101", b"\\#101"),
        (r"\#x", b"\\#x"),
        (r"\#77", b"\\#77"),
        (r"\#+12", b"\\#+12"),
    ];
    for (shown, bytes) in cases {
        assert_eq!(name(shown).as_os_str().as_encoded_bytes(), bytes, "{shown}");
    }
    let (mut notes, call) = (Notes::default(), Invocation::new("rsync"));
    let script = Script::new().says("jon/two exists\n<f+++++++++ it exists\n");
    fetch(&script, &call, &mut |event| notes.take(event)).unwrap();
    assert_eq!(notes.0, ["Copying", "jon/two", "<f+++++++++ it exists"]);
}

#[test]
fn progress_statistics_and_changes_are_told_apart() {
    let output = include_str!("../../fixtures/rsync-3.5.0-mirror.txt");
    let script = Script::new().says(output);
    let mut notes = Notes::default();
    let stats = mirror(&script, &a_mirror(Pass::DryRun, &[]), &mut |event| notes.take(event)).unwrap();
    let want = Stats {
        files_transferred: 2,
        bytes_transferred: 1_000_006,
        deleted: 2,
        total_bytes: 1_000_006,
        total_files: 4,
    };
    assert_eq!(stats, want);
    assert!(notes.0.iter().any(|line| line.starts_with(">f+++++++++ ")), "{:?}", notes.0);
    assert!(notes.0.iter().any(|line| line.starts_with("*deleting ")), "{:?}", notes.0);
    assert!(notes.0.iter().any(|line| line.contains(" % of what was found, ")), "{:?}", notes.0);
    assert_eq!(notes.0.first().unwrap(), "Copying");
}

#[test]
fn what_is_kept_back_is_counted_and_changes_are_told_apart() {
    assert_eq!(parse_kept_back("Deletions stopped due to --max-delete limit (6 skipped)"), Some(6));
    assert_eq!(parse_kept_back("rsync: Deletions stopped"), None);
    let cases = [
        (">f+++++++++ home/d/f1", Some((ChangeKind::Created, "home/d/f1"))),
        ("cL+++++++++ home/l -> f1", Some((ChangeKind::Created, "home/l -> f1"))),
        (">f.st...... home/ f", Some((ChangeKind::Changed, "home/ f"))),
        ("*deleting   home/d/", Some((ChangeKind::Deleted, "home/d/"))),
        ("cannot delete non-empty directory: home/d", None),
        ("", None),
    ];
    for (line, want) in cases {
        assert_eq!(change(line).map(|change| (change.kind, change.name)), want, "{line}");
        assert!(change(line).is_none_or(|change| change.to_string() == line), "{line}");
    }
}

#[test]
fn an_exit_code_of_rsync_is_left_to_the_caller() {
    let call = Invocation::new("rsync");
    let mut notes = Notes::default();
    let fetched = fetch(&Script::new().fails(25, ""), &call, &mut |event| notes.take(event)).unwrap();
    assert_eq!(fetched.code, 25);
    assert!(fetch(&Script::new().killed(9), &call, &mut |event| notes.take(event)).is_err());
}

#[test]
fn a_rule_means_exactly_its_path() {
    assert_eq!(rule('H', Path::new("borg/lock.roster")), "H /borg/lock.roster");
    assert_eq!(rule('-', Path::new("/a*b")), r"- /a\*b");
    assert_eq!(rule('-', Path::new(r"a\b")), r"- /a\b");
}

#[test]
fn a_failure_says_what_the_code_means() {
    let script = Script::new().fails(23, "rsync: [sender] opendir \"/backup/x\" failed: Permission denied (13)");
    let filters = ["- /lost+found".to_owned()];
    let error = mirror(&script, &a_mirror(Pass::Real, &filters), &mut |_| Ok(())).unwrap_err();
    assert_eq!(
        crate::error::Chain(&error).to_string(),
        "cannot mirror /backup to /ext (some files could not be copied): `rsync --archive --hard-links --sparse --numeric-ids \
         --acls --xattrs --xattrs --max-alloc=4GiB --outbuf=Line --no-human-readable \
         --info=progress2,stats2,nonreg0 --delete-after '--filter=- /lost+found' -- /backup/ /ext/` failed with exit code 23: \
         rsync: [sender] opendir \"/backup/x\" failed: Permission denied (13)"
    );
}

#[test]
fn progress_has_a_total_or_what_was_found() {
    let line = "  1,234,567  12%   11.77MB/s    0:00:10 (xfr#5, to-chk=10/100)";
    let minute = Duration::from_secs(60);
    let found = parse_progress(line, None, minute).unwrap();
    assert_eq!(found.words(), "1.23 MB, 12 % of what was found, 12.34 MB/s, at most 7m 20s left");
    let of = parse_progress(line, Some(2_469_134), minute).unwrap();
    assert_eq!(of.words(), "1.23 MB, 50 % of 2.47 MB, 12.34 MB/s, about 1m left");
    let speeds = [("11.77MB/s", 12_341_739), ("0.00kB/s", 0), ("1.5KB/s", 1536), ("2.00GB/s", 2 << 30), ("7B/s", 7)];
    for (text, want) in speeds {
        assert_eq!(parse_speed(text), Some(want), "{text}");
    }
    for text in ["", "B/s", "MB/s", "x.1MB/s", "1.éMB/s", "11.77MB", "99999999999999999999MB/s"] {
        assert_eq!(parse_speed(text), None, "{text}");
    }
    for line in ["", "1,234", "12 300% 1B/s", "12 12% 1s", "a 1% 1B/s"] {
        assert_eq!(parse_progress(line, None, minute), None, "{line}");
    }
}

#[test]
fn a_handler_ends_the_copy_with_its_reason_and_a_signal_is_not_one() {
    let mut calls = 0;
    let mut handler = |event: CopyEvent<'_>| {
        calls += 1;
        if matches!(event, CopyEvent::Warning(_)) { Err(Halt::Because("enough".to_owned())) } else { Ok(()) }
    };
    let mut lines = Lines::new(&mut handler, None);
    assert_eq!(lines.tick(), Ok(()));
    lines.err("rsync: something");
    lines.out(">f+++++++++ more");
    assert_eq!(lines.tick(), Err("enough".to_owned()));
    assert_eq!(calls, 2, "after its end a handler is told nothing");
    let mut handler = |_: CopyEvent<'_>| Err(Halt::Signal(15));
    assert_eq!(Lines::new(&mut handler, None).tick(), Ok(()));
}

#[test]
fn fuzz_rsync_lines() {
    phobos_fuzz::target(
        "rsync_lines",
        &[
            include_bytes!("../../fixtures/rsync-3.5.0-mirror.txt"),
            b"<f+++++++++ a\\#377\\#012b\\#134#101\njon/two exists\n",
            b"  1,234,567  12%   11.77MB/s    0:00:10 (xfr#5, to-chk=10/100)\n",
            b"Deletions stopped due to --max-delete limit (6 skipped)\n*deleting   a/b\n>f+++++++++ name\n",
        ],
        |input| {
            let text = String::from_utf8_lossy(input);
            let mut stats = Stats::default();
            for line in text.lines() {
                stats.take(line);
                std::hint::black_box((change(line), parse_kept_back(line), name(line)));
                for total in [None, Some(1 << 40)] {
                    drop(parse_progress(line, total, Duration::from_secs(7)).map(|progress| progress.bar(40)));
                }
            }
        },
    );
}
