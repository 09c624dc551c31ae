//! What Borg and its owner do to a repository in ordinary life: no copy is refused for it.

use crate::place::{Place, refusals, run};
use phobos_core::exec::Invocation;

/// What is done to the repository `source`, in this order: a name, and lines for the shell with Borg in it.
const CHANGES: &[(&str, &str)] = &[
    ("nothing", ":"),
    ("an archive more", "head -c 50000 /dev/urandom >file; borg create --compression=none source::new file"),
    ("an archive with nothing new", "borg create source::again file"),
    ("an archive deleted", "borg delete source::a1"),
    ("compacted at once", "borg compact --threshold 0 source"),
    ("pruned", "borg prune --glob-archives 'a[123]' --keep-last 1 source"),
    ("compacted with the usual threshold", "borg compact source"),
    ("compacted with nothing to do", "borg compact source"),
    ("deleted and compacted", "borg delete source::a5; borg compact --threshold 90 source"),
    ("compacted with commits cleaned up", "borg compact --cleanup-commits source"),
    ("checked", "borg check source"),
    ("checked with all data", "borg check --verify-data source"),
    ("repaired although nothing was wrong", "borg check --repair source"),
    ("recreated", "borg recreate --exclude nothing --recompress=always --compression=lz4 source"),
    ("recreated and compacted", "borg compact --threshold 0 source"),
    ("an archive renamed", "borg rename source::new newer"),
    ("a comment set", "borg recreate --comment words source::newer"),
    ("another passphrase", "BORG_NEW_PASSPHRASE='another passphrase' borg key change-passphrase source"),
    ("a setting changed", "borg config source additional_free_space 20M"),
    ("another size of segments", "borg config source max_segment_size 1000000"),
    (
        "append-only",
        "borg config source append_only 1; borg create source::appended file; borg delete source::appended",
    ),
    ("append-only no more", "borg config source append_only 0; borg compact source"),
    ("a quota", "borg config source storage_quota 1000000000; borg create source::quota file"),
    ("segments touched", "touch source/data/*/*"),
    ("times lost", "find source -exec touch -d 2001-01-01 {} +"),
    ("moved with cp -a", "cp -a source moved; rm -r source; mv moved source; borg create source::moved file"),
    ("moved with rsync", "rsync -a source/ moved; rm -r source; mv moved source"),
    ("copied without times", "cp -r source moved; rm -r source; mv moved source"),
    ("restored from the very copy", "rm -r source; cp -a before source; borg create source::restored file"),
    ("the index lost", "rm source/index.*"),
    ("the index lost and rebuilt", "borg create source::rebuilt file"),
    ("the hints lost", "rm source/hints.*"),
    ("the hints lost and rebuilt", "borg create source::rebuilt2 file"),
    ("the integrity file lost", "rm source/integrity.*"),
    ("locked and unlocked", "borg with-lock source true"),
    ("many small archives", "for i in 1 2 3 4 5; do echo $i >file; borg create source::small$i file; done"),
    ("pruned to one and compacted", "borg prune --keep-last 1 source; borg compact --threshold 0 source"),
];

#[test]
fn what_borg_does_by_itself_is_not_refused() {
    let place = Place::new("repokey");
    // `borg key change-passphrase` has made it the other one; both are tried.
    for number in 1..=6 {
        place.create("source", &format!("a{number}"), 20_000);
    }
    place.copy("source", "first");
    let mut changed_passphrase = false;
    for (name, script) in CHANGES {
        run(&Invocation::new("rm").args(["-rf", "--"]).arg(place.path("before")));
        place.copy("source", "before");
        let passphrase = if changed_passphrase { "export BORG_PASSPHRASE='another passphrase';" } else { "" };
        place.sh(&format!("{passphrase} {script}"));
        changed_passphrase |= script.contains("change-passphrase");
        assert_eq!(refusals(&place.path("source"), &place.path("before")), Vec::<String>::new(), "{name}");
        let without_notes = name.ends_with("lost");
        if !without_notes {
            assert_eq!(refusals(&place.path("source"), &place.path("first")), Vec::<String>::new(), "{name}, at last");
        }
    }
}

#[test]
fn a_killed_borg_is_no_reason_to_refuse() {
    let place = Place::new("none");
    place.create("source", "a1", 20_000);
    for round in 0..4 {
        place.sh("rm -rf before; cp -a source before; mkfifo -m 600 pipe");
        // Borg has written something and waits for more when it is killed.
        place.sh(
            "borg config source max_segment_size 100000; \
             borg create --compression=none --chunker-params=10,12,11,63 source::killed - <pipe & borg=$!; exec 3>pipe; \
             head -c 1000000 /dev/urandom >&3; tries=0; \
             until [ $(ls source/data/0 | wc -l) -gt $(($(ls before/data/0 | wc -l) + 3)) ]; do \
             tries=$((tries + 1)); [ $tries -lt 3000 ]; kill -0 $borg; done; \
             kill -9 $borg; exec 3>&-; ! wait $borg; borg break-lock source; rm pipe",
        );
        assert_eq!(refusals(&place.path("source"), &place.path("before")), Vec::<String>::new(), "{round}");
        // What it left behind is dropped, and its numbers are used again, while the copy still has it.
        place.sh("rm -rf before; cp -a source before");
        place.create("source", &format!("b{round}"), 30_000);
        assert_eq!(refusals(&place.path("source"), &place.path("before")), Vec::<String>::new(), "{round}");
    }
}
