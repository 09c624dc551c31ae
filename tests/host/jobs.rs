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
        for lock in "" "--lock local/x"; do
            test "$(echo hello | VARIABLE=world ns exec $lock -- sh -c 'read line; echo $line $VARIABLE; cat <&7' 7<<<seven)" = "hello world
seven"
        done
        expect 126 "" ns exec --lock local/x -- /etc/passwd
        expect 0 "" ns exec --no-namespace -- test ! -e /backup/borg
        expect 2 "no lock is called \"repositroy\"" ns exec --lock repositroy -- true
        grep -c '"job":"j"' /var/lib/phobos/history.jsonl | grep -x 5
        grep '"exit":23,.*"origin":"sh"' /var/lib/phobos/history.jsonl
        "#,
    );
}

#[test]
fn a_failure_of_a_scheduled_job_stays_red_until_the_job_succeeds() {
    tell(
        r#"
        night() { expect "$1" "" ns exec --no-namespace --job night -- sh -c "exit $1" </dev/null; }
        shown() { phobos-blink jobs --json | tr -d ' \n'; }
        night 0; shown; shown >board; never grep night board
        night 3; shown | grep '"name":"night","state":"failed","text":"shfailedwithexitcode3"'
        expect 0 "" ns exec --no-namespace --job other -- true
        shown | grep '"name":"night","state":"failed"'
        night 0; shown; shown >board; never grep night board
        "#,
    );
}

#[test]
fn a_signal_reaches_the_command_and_its_end_is_passed_on() {
    tell(
        r#"
        backup_disk; ns; mkfifo ready
        # The shell has its background jobs ignore SIGQUIT.
        start() { env --default-signal=QUIT phobos-ns --config "$CONFIG" exec --lock local/x -- bash -c "$1; echo \$\$ >ready; while :; do sleep 0.05; done" & job=$!; read -r command <ready; }
        ends_with() { local code=0; wait $job || code=$?; test $code = "$1"; }
        start 'trap "echo bye >bye; exit 9" TERM'; kill -TERM $job; ends_with 9; grep bye bye
        # Those that ask for something else than an end.
        start 'trap "echo half way >>progress" USR1; trap "exit 3" QUIT'
        for count in 1 2; do kill -USR1 $job; until [ "$(grep -c half progress)" = $count ]; do kill -0 $job; done; done
        kill -QUIT $job; ends_with 3
        # What the caller ignores stays ignored, as under nohup.
        start :; kill -HUP $job; ends_with 129
        trap "" HUP; start :; trap - HUP; kill -HUP $job; kill -TERM $job; ends_with 143
        # A command does not outlive the locks it was to have.
        start 'trap "echo >orphaned; exit" TERM'; kill -KILL $job; ends_with 137; until [ -e orphaned ]; do sleep 0.01; done
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
        expect 75 "gave up waiting for the lock repository, held by night (pid $holder, since " job --lock repository --lock-wait 100ms -- true
        expect 0 "lock repository" ns status
        # Whatever the holder's umask is, everybody may read who it is.
        (umask 077; ns exec --job dark --lock local/dark -- sh -c 'stat -c %a /run/phobos/lock/local/dark.holders/*.json') | grep -x 644
        grep "held by: night (pid $holder), alone" out
        ns status --json | grep '"job": "night"'
        kill -KILL $holder; wait $holder || true
        expect 0 "" job --lock repository --lock-wait 0s -- true
        test "$(ns status --json | grep -c night)" = 0
        "#,
    );
}

#[test]
fn the_holder_says_when_it_should_end_and_the_history_who_waited_and_who_failed() {
    tell(
        r#"
        backup_disk; ns; mkfifo go
        job="phobos-ns --config $CONFIG exec"
        history=/var/lib/phobos/history.jsonl
        # Two good runs of an hour each; the second one waited for another hour.
        echo '{"job":"night","start":"2026-03-01T03:00:00Z","end":"2026-03-01T04:00:00Z","exit":0}' >$history
        echo '{"job":"night","start":"2026-03-02T02:00:00Z","end":"2026-03-02T04:00:00Z","exit":0,"waited_secs":3600}' >>$history
        before=$(date +%s)
        $job --job night --lock holding --lock repository -- sh -c 'read x <go; exit 3' & night=$!
        until ns status | grep 'held by: night' >held && [ "$(grep -c . held)" = 2 ]; do kill -0 $night; done
        grep -o 'expected to end .*' held | sed 's/expected to end //' | while read -r until; do
            length=$(($(date +%s -d "$until") - before))
            test $length -ge 3600; test $length -lt 3700
        done
        expect 75 "gave up waiting for the lock holding, held by night (pid $night, since" $job --lock holding:shared --lock-wait 1ms -- true
        grep -F ', expected to end at ' out
        # Another job waits for more than a second, and says so in the history.
        $job --job pull-luv --lock holding:shared --lock holding/luv -- true 2>told & pull=$!
        until ns status | grep 'awaited by: pull-luv'; do kill -0 $pull; done
        grep "waiting for the lock holding, held by night (pid $night, since .*, expected to end at " told
        since=$SECONDS; until [ $((SECONDS - since)) -ge 2 ]; do kill -0 $pull; done
        echo >go; never wait $night; wait $pull
        tail -2 $history
        grep '"job":"night",.*"exit":3,"error":"sh failed with exit code 3","origin":"sh"' $history
        grep '"job":"pull-luv",.*"exit":0,"waited_secs":[1-9]' $history
        # A run that gave up, one that was stopped, and one that could not begin are in it as well.
        $job --lock local/x -- sh -c 'echo >ready; exec sleep 300' & holder=$!
        until ns status | grep '^lock local/x'; do kill -0 $holder; done
        expect 75 "gave up" $job --job late --lock local/x --lock-wait 1ms -- true
        $job --job stopped --lock local/x -- true & stopped=$!
        until ns status | grep 'awaited by: stopped'; do kill -0 $stopped; done
        kill -TERM $stopped; code=0; wait $stopped || code=$?; test $code = 143
        kill $holder; wait $holder || true
        grep '"job":"late",.*"exit":75,"error":"gave up waiting for the lock local/x, held by phobos-ns exec' $history
        grep '"job":"stopped",.*"exit":143,.*"origin":"signal"' $history
        ns remove; : >fstab
        expect 78 "no entry for /backup" $job --job nowhere --lock local/x -- true
        grep '"job":"nowhere",.*"exit":78,"error":"no entry for /backup' $history
        "#,
    );
}

/// Borg's own lock, held by somebody phobos knows nothing of.
#[test]
fn a_borg_that_phobos_did_not_start_is_waited_for() {
    tell(
        r#"
        backup_disk; ns; mkfifo input
        job="phobos-ns --config $CONFIG exec --lock repository"
        # Somebody's own backup, in the middle.
        nsenter --mount=$NS borg create --stdin-name data /backup/borg::by-hand - <input & hand=$!
        exec 3>input
        until inside test -d /backup/borg/lock.exclusive; do kill -0 $hand; done
        expect 75 "gave up waiting for Borg's lock on /backup/borg, held by \`" $job --lock-wait 10ms -- true
        grep "borg create --stdin-name data /backup/borg::by-hand -\` (pid $hand)" out
        $job -- borg list --lock-wait 0 --short /backup/borg >listed 2>told 3>&- & waiter=$!
        until grep "waiting for Borg's lock on /backup/borg, held by" told; do kill -0 $waiter; done
        exec 3>&-; wait $hand; wait $waiter
        grep by-hand listed
        # What a dead process of this machine has left is Borg's own business.
        nsenter --mount=$NS borg create --stdin-name data /backup/borg::killed - <input & hand=$!
        exec 3>input
        until inside test -d /backup/borg/lock.exclusive; do kill -0 $hand; done
        kill -KILL $hand; wait $hand || true; exec 3>&-
        inside test -d /backup/borg/lock.exclusive
        expect 0 "" $job --lock-wait 10ms -- borg create /backup/borg::after /etc/hostname
        # What another machine has left may be in use: how to break it is said, and nothing is broken.
        inside mkdir /backup/borg/lock.exclusive
        inside touch /backup/borg/lock.exclusive/chew.house@52239183.4711-0
        expect 75 "held by pid 4711 on chew.house@52239183; if nothing runs there any more, break the lock with \`phobos-ns exec -- borg break-lock /backup/borg\`" $job --lock-wait 10ms -- true
        inside test -e /backup/borg/lock.exclusive/chew.house@52239183.4711-0
        # The command is that exactly.
        sh -euc "$(grep -o 'phobos-ns exec -- borg break-lock [^`]*' out | sed "s,phobos-ns,phobos-ns --config $CONFIG,")"
        expect 0 "" $job --lock-wait 0s -- borg info /backup/borg
        "#,
    );
}

/// `phobos-ns exec -- bash` for a person: the terminal is the shell's, with job control, with locks and without.
#[test]
fn an_interactive_shell_has_its_terminal_and_job_control() {
    tell(
        r#"
        backup_disk; ns
        printf 'set +o history\nbind "set enable-bracketed-paste off"\nPS1="ready> "\n' >bashrc
        # on_terminal ARGUMENTS: phobos-ns exec with them, on a terminal of its own; what is typed there goes to descriptor 3.
        on_terminal() {
            rm -f keys typescript; mkfifo keys
            # A shell has its background jobs ignore these signals; a person's do not. And without `exec` the shell that
            # `script` starts stays, if it is dash, and dies of Ctrl-C.
            env --default-signal=INT,QUIT script --quiet --return --flush --command "exec phobos-ns --config $CONFIG exec $1" typescript <keys >/dev/null & shell=$!
            exec 3>keys
        }
        for lock in "" "--lock local/shell"; do
            on_terminal "$lock -- bash --noprofile --rcfile $STORY/bashrc -i"
            # sees TEXT: waits for it on the terminal, as often as it is given.
            sees() { until [ "$(tr -d '\r' <typescript 2>/dev/null | grep -acE "$1")" -ge "${2:-1}" ]; do kill -0 $shell; sleep 0.01; done; }
            sees 'ready> '
            never grep -ai 'no job control' typescript
            echo 'test -f /backup/borg/config && test -t 0 && echo terminal $(: </dev/tty && echo here)' >&3; sees '^terminal here'
            # Ctrl-Z stops the job and not the shell; fg brings it back, and Ctrl-C ends it.
            echo 'sleep 1000' >&3
            until pgrep -x sleep >sleeper; do kill -0 $shell; done
            printf '\032' >&3; sees 'Stopped +sleep 1000'
            grep -q '^State:.*T (stopped)' /proc/$(cat sleeper)/status
            echo 'fg' >&3; until grep '^State:.*S' /proc/$(cat sleeper)/status; do kill -0 $shell; done
            printf '\003' >&3; until ! [ -e /proc/$(cat sleeper) ]; do kill -0 $shell; done
            echo 'echo status $?' >&3; sees '^status 130'
            # Ctrl-C at the prompt ends nothing.
            sees 'ready> ' 5; printf '\003' >&3; sees 'ready> ' 6
            echo 'echo still $((40 + 2))' >&3; sees '^still 42'
            echo 'exit 23' >&3; exec 3>&-
            code=0; wait $shell || code=$?; test $code = 23
        done
        # Ctrl-C on a command that is no shell reaches it once, though it and phobos-ns are both in the foreground.
        # It is Perl's (as essential as the shell): bash's own traps do not bear Ctrl-C in the moment in which its child ends.
        cat >count.pl <<'END'
sub note { my ($name, $text) = @_; open my $file, '>>', $name; print $file "$text\n" }
$SIG{INT} = sub { note 'came', 'interrupt' };
$SIG{USR1} = sub { note 'came', 'question' };
$SIG{TERM} = sub { exit 7 };
note 'counting', "$$ " . getppid;
sleep 1 while 1;
END
        on_terminal "--lock local/count -- perl count.pl </dev/null"
        until read -r counter parent 2>/dev/null <counting; do kill -0 $shell; done
        printf '\003' >&3; until grep interrupt came; do kill -0 $shell; done
        # phobos-ns passes this on, and would pass on what came before it.
        kill -USR1 "$parent"; until grep question came; do kill -0 $shell; done
        kill -TERM "$counter"; code=0; wait $shell || code=$?
        cat typescript; test $code = 7
        test "$(grep -c interrupt came)" = 1
        exec 3>&-
        "#,
    );
}

#[test]
fn the_namespace_is_shown_and_removed_only_when_nothing_runs_in_it() {
    tell(
        r#"
        backup_disk; disk stick 20
        expect 0 "$NS: no namespace" ns status
        expect 0 "there is no namespace" ns remove
        never outside_sees /backup; test -z "$(ls -A /backup)"
        ns
        expect 0 "mounted in it: $bdisk on /backup" ns status
        # A job sees the backups, and leaves a process behind; nobody outside sees them before, during or after.
        ns exec --job pull --lock holding:shared -- sh -c 'test -f /backup/borg/config; sleep 300 >/dev/null 2>&1 & echo $! >left'
        left=$(cat left)
        never outside_sees /backup; test -z "$(ls -A /backup)"
        expect 0 "in it: \`sleep 300\` (pid $left" ns status
        expect 75 "cannot remove the namespace: there are \`sleep 300\` (pid $left" ns remove
        inside test -f /backup/borg/config
        # A disk that somebody mounts in it is shown: it cannot be pulled out.
        inside mount "$stick" "$STORY/disk.stick"
        expect 0 "kept busy, although unmounted outside: $stick on $STORY/disk.stick" ns status
        kill "$left"; until ! [ -e "/proc/$left" ]; do sleep 0.01; done
        expect 0 "removed the namespace" ns remove
        never outside_sees /backup; test -z "$(ls -A /backup)"
        test ! -e $NS
        free "$bdisk"; free "$stick"
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
