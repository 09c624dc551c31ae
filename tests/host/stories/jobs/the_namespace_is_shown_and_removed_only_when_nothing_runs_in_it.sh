# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

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
