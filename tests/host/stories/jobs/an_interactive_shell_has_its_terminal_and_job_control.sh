# `phobos-ns exec -- bash` for a person: the terminal is the shell's, with job control, with locks and without.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

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
    grep -q '^State:.*T (stopped)' "/proc/$(cat sleeper)/status"
    echo 'fg' >&3; until grep '^State:.*S' "/proc/$(cat sleeper)/status"; do kill -0 $shell; done
    printf '\003' >&3; until ! [ -e "/proc/$(cat sleeper)" ]; do kill -0 $shell; done
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
