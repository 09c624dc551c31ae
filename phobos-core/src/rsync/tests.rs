//! rsync's lines as real versions write them, and the calls that make it write them.

use super::*;
use crate::exec::fake::Script;

/// Keeps what it is told.
#[derive(Default)]
struct Notes(Vec<String>);

impl Teller for Notes {
    fn progress(&mut self, progress: Progress<'_>) {
        self.0.push(format!("{} of {}% at {}", progress.bytes, progress.percent, progress.speed));
    }
    fn change(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }
    fn complaint(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }
    fn may_go_on(&mut self) -> Result<(), String> {
        Ok(())
    }
}

fn a_mirror(rehearsal: bool, filters: &[String]) -> Mirror<'_> {
    Mirror {
        source: Path::new("/backup"),
        target: Path::new("/ext"),
        max_alloc: "4GiB",
        filters,
        extras: Extras::All,
        rehearsal,
        progress: true,
    }
}

#[test]
fn progress_statistics_and_changes_are_told_apart() {
    let output = include_str!("../../fixtures/rsync-3.5.0-mirror.txt");
    let script = Script::new().says(output);
    let mut notes = Notes::default();
    let stats = mirror(&script, &a_mirror(true, &[]), &mut notes).unwrap();
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
    assert!(notes.0.iter().any(|line| line.contains("% at ")), "{:?}", notes.0);
}

#[test]
fn what_is_kept_back_is_counted_and_changes_are_told_apart() {
    assert_eq!(parse_kept_back("Deletions stopped due to --max-delete limit (6 skipped)"), Some(6));
    assert_eq!(parse_kept_back("rsync: Deletions stopped"), None);
    let cases = [
        (">f+++++++++ home/d/f1", Some(Change::Created("home/d/f1"))),
        ("cL+++++++++ home/l -> f1", Some(Change::Created("home/l -> f1"))),
        (">f.st...... home/ f", Some(Change::Changed("home/ f"))),
        ("*deleting   home/d/", Some(Change::Deleted("home/d/"))),
        ("cannot delete non-empty directory: home/d", None),
        ("", None),
    ];
    for (line, want) in cases {
        assert_eq!(Change::parse(line), want, "{line}");
    }
}

#[test]
fn an_exit_code_of_rsync_is_left_to_the_caller() {
    let call = Invocation::new("rsync");
    let mut notes = Notes::default();
    let fetched = fetch(&Script::new().fails(25, ""), &call, &mut notes).unwrap();
    assert_eq!(fetched.code, 25);
    assert!(fetch(&Script::new().killed(9), &call, &mut notes).is_err());
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
    let error = mirror(&script, &a_mirror(false, &filters), &mut Notes::default()).unwrap_err();
    assert_eq!(
        crate::error::Chain(&error).to_string(),
        "cannot mirror /backup to /ext (some files could not be copied): `rsync --archive --hard-links --sparse --numeric-ids \
         --acls --xattrs --xattrs --max-alloc=4GiB --outbuf=Line --no-human-readable \
         --info=progress2,stats2,nonreg0 --delete-after '--filter=- /lost+found' -- /backup/ /ext/` failed with exit code 23: \
         rsync: [sender] opendir \"/backup/x\" failed: Permission denied (13)"
    );
}

#[test]
fn progress_in_words_and_as_a_bar() {
    let progress = Progress { bytes: 1_234_567_890, percent: 50, speed: "80.12MB/s" };
    assert_eq!(progress.words(), "copied 1.23 GB, 50 % of what was found, 80.12MB/s");
    assert_eq!(progress.bar(4), "[##  ] copied 1.23 GB, 50 % of what was found, 80.12MB/s");
    assert!(Progress { percent: 255, ..progress }.bar(3).starts_with("[###] "));
}
