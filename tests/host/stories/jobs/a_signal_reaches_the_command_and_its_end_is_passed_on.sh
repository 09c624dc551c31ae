# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; ns; mkfifo ready
# The shell has its background jobs ignore SIGQUIT.
start() { env --default-signal=QUIT phobos-ns --config "$CONFIG" exec --lock local/x -- bash -c "$1; echo \$\$ >ready; while :; do sleep 0.05; done" & job=$!; read -r _ <ready; }
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
