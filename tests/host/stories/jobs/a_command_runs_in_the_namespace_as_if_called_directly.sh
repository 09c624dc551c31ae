# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

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
    # shellcheck disable=SC2086 # none or two words
    test "$(echo hello | VARIABLE=world ns exec $lock -- sh -c 'read line; echo $line $VARIABLE; cat <&7' 7<<<seven)" = "hello world
seven"
done
expect 126 "" ns exec --lock local/x -- /etc/passwd
expect 0 "" ns exec --no-namespace -- test ! -e /backup/borg
expect 2 "no lock is called \"repositroy\"" ns exec --lock repositroy -- true
grep -c '"job":"j"' /var/lib/phobos/history.jsonl | grep -x 5
grep '"exit":23,.*"origin":"sh"' /var/lib/phobos/history.jsonl
