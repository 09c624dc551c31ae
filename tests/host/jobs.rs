//! Stories of jobs in the namespace: `phobos-ns exec`, `status` and `remove`.

use crate::miniature::tell;

#[test]
fn a_command_runs_in_the_namespace_as_if_called_directly() {
    tell(
        r#"
        backup_disk
        expect 0 "borg" ns exec -- ls /backup
        never outside_sees /backup
        for code in 0 1 23 75 255; do expect $code "" ns exec -- sh -c "exit $code"; done
        for code in 0 1 23 75 255; do expect $code "" ns exec --job j --lock local/x -- sh -c "exit $code"; done
        expect 137 "" ns exec --lock local/x -- sh -c 'kill -9 $$'
        expect 127 "cannot find the program no-such" ns exec -- no-such
        expect 127 "cannot find the program no-such" ns exec --lock local/x -- no-such
        mkdir here; cd here
        expect 0 "$STORY/here" ns exec -- pwd
        cd "$STORY"
        test "$(echo hello | VARIABLE=world ns exec -- sh -c 'read line; echo $line $VARIABLE; cat <&7' 7<<<seven)" = "hello world
seven"
        expect 0 "" ns exec --no-namespace -- test ! -e /backup/borg
        expect 2 "no lock is called \"repositroy\"" ns exec --lock repositroy -- true
        grep -c '"job":"j"' /var/lib/phobos/history.jsonl | grep -x 5
        grep '"exit":23,.*"origin":"sh"' /var/lib/phobos/history.jsonl
        "#,
    );
}

#[test]
fn a_signal_reaches_the_command_and_its_end_is_passed_on() {
    tell(
        r#"
        backup_disk; ns; mkfifo ready
        phobos-ns --config "$CONFIG" exec --lock local/x -- bash -c 'trap "echo bye >bye; exit 9" TERM; echo >ready; while :; do sleep 0.05; done' & job=$!
        read -r _ <ready; kill -TERM $job; code=0; wait $job || code=$?
        test $code = 9; grep bye bye
        # A lock is not inherited by what a job leaves behind.
        ns exec --lock local/x -- sh -c 'sleep 300 >/dev/null 2>&1 & echo $!' >left
        expect 0 "" ns exec --lock local/x --lock-wait 0s -- true
        kill "$(cat left)"
        "#,
    );
}

#[test]
fn a_holder_is_named_and_its_death_frees_the_lock() {
    tell(
        r#"
        backup_disk; ns
        job() { phobos-ns --config "$CONFIG" exec "$@"; }
        hold() { mkfifo "$1"; phobos-ns --config "$CONFIG" exec --job "$1" --lock "$2" -- sh -c "echo >$STORY/$1; exec sleep 300" & holder=$!; read -r _ <"$1"; }
        hold night repository
        kill -STOP $holder
        expect 75 "gave up waiting for the lock repository, held by night (pid " job --lock repository --lock-wait 100ms -- true
        expect 0 "lock repository" ns status
        grep "held by: night (pid $holder), alone" out
        ns status --json | grep '"job": "night"'
        kill -KILL $holder; wait $holder || true
        expect 0 "" job --lock repository --lock-wait 0s -- true
        test "$(ns status --json | grep -c night)" = 0
        "#,
    );
}

#[test]
fn the_namespace_is_shown_and_removed_only_when_nothing_runs_in_it() {
    tell(
        r#"
        backup_disk
        expect 0 "$NS: no namespace" ns status
        expect 0 "there is no namespace" ns remove
        ns
        expect 0 "mounted in it: $bdisk on /backup" ns status
        nsenter --mount=$NS sleep 300 & left=$!
        until ns status | grep -q 'in it: `sleep 300`'; do kill -0 $left; done
        expect 75 "cannot remove the namespace: there are \`sleep 300\` (pid $left" ns remove
        inside test -f /backup/borg/config
        kill $left; wait $left || true
        expect 0 "removed the namespace" ns remove
        test ! -e $NS
        losetup -d "$bdisk"; never losetup "$bdisk"
        "#,
    );
}

/// Every pair of jobs of the table of locks that excludes each other, in both orders, by their actual running times.
#[test]
fn what_excludes_each_other_never_overlaps() {
    let jobs = [
        ("pull", "--lock holding:shared --lock holding/luv"),
        ("other", "--lock holding:shared --lock holding/nuhc"),
        ("night", "--lock repository --lock holding"),
        ("check", "--lock repository"),
        ("mirror", "--lock drive/A --lock holding --lock repository"),
        ("drill", "--lock drive/A"),
    ];
    let apart = |a: &str, b: &str| {
        a == b
            || matches!(
                (a, b),
                ("pull" | "other", "night" | "mirror")
                    | ("night" | "mirror", "pull" | "other")
                    | ("night" | "check" | "mirror", "night" | "check" | "mirror")
                    | ("drill", "mirror")
                    | ("mirror", "drill")
            )
    };
    let mut story = String::from("timed() { phobos-ns --config \"$CONFIG\" exec --no-namespace \"$@\"; }\n");
    for (first, locks) in jobs {
        for (second, others) in jobs {
            let want = if apart(first, second) { "apart" } else { "together" };
            // The first job ends when the second has begun, or after the second was seen waiting.
            let pair = format!(
                r#"
                rm -f first second go; mkfifo first go
                timed --job a {locks} -- sh -c "echo >first; read x <go" & a=$!
                read -r _ <first
                timed --job b {others} -- sh -c "echo ran >second" & b=$!
                seen=
                until [ "$seen" ]; do
                    if [ -s second ]; then seen=together; fi
                    if ns status --json | tr -d '\n ' | grep -q '"waiters":\[{{"job":"b"'; then seen=apart; fi
                done
                echo >go; wait $a; wait $b; rm -f first; test -s second
                [ "$seen" = {want} ] || {{ echo "story: {first} and {second}: $seen, not {want}"; exit 1; }}
                "#
            );
            story.push_str(&pair);
        }
    }
    tell(&story);
}
