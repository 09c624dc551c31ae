# A mirror, a rehearsal and a refused run change no byte, time or owner in the repository and leave no lock; its owner, who is not
# root, goes on using it, and reads it beside a mirror.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; drive F; mount "$F" disk.F; echo holiday >disk.F/photo; umount disk.F
mount "$bdisk" disk.bdisk; chown -R 1234:1234 disk.bdisk/borg; umount disk.bdisk; ns
mkdir -m 700 /dev/shm/owner; chown 1234:1234 /dev/shm/owner
owner() { inside setpriv --reuid 1234 --regid 1234 --clear-groups env LOGNAME=owner BORG_BASE_DIR=/dev/shm/owner "$@"; }
owner borg list /backup/borg
# Of the repository's own folder the times alone are Borg's lock's.
all() {
    inside stat -c '%i %a %u:%g' /backup/borg
    inside find /backup/borg -mindepth 1 -printf '%P %y %i %n %s %m %U:%G %T@ %C@\n' | sort
    inside sh -c 'find /backup/borg -type f | sort | xargs sha256sum'
}
unchanged() { all >after; cmp before after; never inside test -e /backup/borg/lock.roster; never inside test -e /backup/borg/lock.exclusive; }
all >before
ext --drive A; unchanged
ext --drive A --dry-run; unchanged
expect 65 "something else than a mirror" ext --drive F; unchanged

real=$(command -v rsync); cp "$real" real-rsync; mkfifo gate
printf '#!/bin/sh\necho >"%s/running"; read go <"%s/gate"; exec "%s/real-rsync" "$@"\n' "$STORY" "$STORY" "$STORY" >fake; chmod 755 fake
inside sh -c 'echo new >/backup/holding/luv/new'; mount --bind fake "$real"
phobos-ext --config "$CONFIG" --drive A >running.out 2>&1 & run=$!
until test -e running; do kill -0 $run; done
owner borg list /backup/borg | grep one
owner borg extract --stdout /backup/borg::one disk.bdisk/holding/luv/photo | cmp - <(inside cat /backup/holding/luv/photo)
expect 2 "Failed to create/acquire the lock" owner borg create --lock-wait 0 /backup/borg::two /etc/hostname
echo go >gate; wait $run; umount "$real"; unchanged
owner borg create /backup/borg::two /etc/hostname
test -z "$(inside find /backup/borg ! -uid 1234)"
ext --drive A; safe A
mount "$A" disk.A; test -z "$(find disk.A/borg ! -uid 1234)"; umount disk.A
sound A
