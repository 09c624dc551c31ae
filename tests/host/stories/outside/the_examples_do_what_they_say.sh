# The examples of phobos-core, as somebody tries them out; the one with an encrypted drive needs a kernel of its own (e2e `examples`).
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; run() { example-run-in-namespace /run/example/ns /backup "$@"; }
# The namespace is made once, keeps the file system out of sight, and what runs there ends as it does by itself.
expect 0 "made the namespace /run/example/ns" run test -f /backup/borg/config; never grep " /backup " /proc/self/mountinfo
expect 1 "" example-run-in-namespace /run/example/other "$STORY/nowhere" true; grep "^no entry for $STORY/nowhere in /etc/fstab" out
expect 7 "" run sh -c 'exit 7'; never grep "made the namespace" out
# A mirror while nobody else writes to the repository: what Borg is kept from meanwhile, it may do afterwards.
mkdir copy; expect 0 "copied " run example-locked-mirror /backup /backup/borg "$STORY/copy"; cmp copy/holding/luv/photo <(run cat /backup/holding/luv/photo)
run borg with-lock --lock-wait 1 /backup/borg sh -c "cd '$STORY'; : >held; until [ -e over ]; do sleep 0.05; done" & holder=$!
until [ -e held ]; do kill -0 $holder; sleep 0.05; done
run example-locked-mirror /backup /backup/borg "$STORY/copy" >waited 2>&1 & mirror=$!
until grep "waiting for" waited; do kill -0 $mirror; sleep 0.05; done; touch over; wait $holder; wait $mirror; grep "copied [0-9]* files" waited
