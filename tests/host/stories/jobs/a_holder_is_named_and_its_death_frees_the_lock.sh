# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

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
