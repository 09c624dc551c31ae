# Borg's own lock, held by somebody phobos knows nothing of.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; ns; mkfifo input
job=(phobos-ns --config "$CONFIG" exec --lock repository)
# Somebody's own backup, in the middle.
nsenter --mount=$NS borg create --stdin-name data /backup/borg::by-hand - <input & hand=$!
exec 3>input
until inside test -d /backup/borg/lock.exclusive; do kill -0 $hand; done
expect 75 "gave up waiting for Borg's lock on /backup/borg, held by \`" "${job[@]}" --lock-wait 10ms -- true
grep "borg create --stdin-name data /backup/borg::by-hand -\` (pid $hand)" out
"${job[@]}" -- borg list --lock-wait 0 --short /backup/borg >listed 2>told 3>&- & waiter=$!
until grep "waiting for Borg's lock on /backup/borg, held by" told; do kill -0 $waiter; done
exec 3>&-; wait $hand; wait $waiter
grep by-hand listed
# What a dead process of this machine has left is Borg's own business.
nsenter --mount=$NS borg create --stdin-name data /backup/borg::killed - <input & hand=$!
exec 3>input
until inside test -d /backup/borg/lock.exclusive; do kill -0 $hand; done
kill -KILL $hand; wait $hand || true; exec 3>&-
inside test -d /backup/borg/lock.exclusive
expect 0 "" "${job[@]}" --lock-wait 10ms -- borg create /backup/borg::after /etc/hostname
# What another machine has left may be in use: how to break it is said, and nothing is broken.
inside mkdir /backup/borg/lock.exclusive
inside touch /backup/borg/lock.exclusive/chew.house@52239183.4711-0
expect 75 "held by pid 4711 on chew.house@52239183; if nothing runs there any more, break the lock with \`phobos-ns exec -- borg break-lock /backup/borg\`" "${job[@]}" --lock-wait 10ms -- true
inside test -e /backup/borg/lock.exclusive/chew.house@52239183.4711-0
# The command is that exactly.
sh -euc "$(grep -o 'phobos-ns exec -- borg break-lock [^`]*' out | sed "s,phobos-ns,phobos-ns --config $CONFIG,")"
expect 0 "" "${job[@]}" --lock-wait 0s -- borg info /backup/borg
