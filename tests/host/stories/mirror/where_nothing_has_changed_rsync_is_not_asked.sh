# One look at both sides tells that there is nothing to do, and sees everything that rsync would have done.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ns
inside sh -c 'cd /backup/holding/luv; ln -s photo link; mkdir folder; touch folder/x; mkdir ../.phobos; echo 1 >../.phobos/luv.json'
ext; real=$(command -v rsync); cp "$real" real-rsync
# An rsync that fails, until it is let go on.
printf '#!/bin/sh\nif [ -e "%s/go" ]; then exec "%s/real-rsync" "$@"; fi; exit 11\n' "$STORY" "$STORY" >fake
chmod 755 fake; mount --bind fake "$real"
expect 0 "copied 0 files" ext
for change in 'chmod 600 photo' 'chown 7 photo' 'setfattr -n user.a -v c photo' 'touch -d 2001-01-01 folder' \
    'ln -sfn x link' 'touch -hd 2001-01-01 link' 'chmod 711 .' 'echo 2 >../.phobos/luv.json' 'chmod 711 ..' 'chmod 750 /backup' 'rm folder/x'; do
    inside sh -c "cd /backup/holding/luv; $change"
    expect 1 "cannot mirror" ext
    touch go; expect 0 "" ext; rm go
    expect 0 "copied 0 files" ext
done
# ACLs are copied only where that is configured.
inside setfacl -m u:7:--- /backup/holding/luv/photo; expect 0 "copied 0 files" ext
printf '[external]\nattributes = true\n' | cat - "$CONFIG" >with; cat with >"$CONFIG"
expect 1 "cannot mirror" ext; touch go; ext; rm go; expect 0 "copied 0 files" ext
# Which files are one and the same file, one look does not tell.
inside ln /backup/holding/luv/photo /backup/holding/luv/again; touch go; ext; rm go
expect 1 "cannot mirror" ext
umount "$real"; ext; sound A
mount "$A" disk.A; test disk.A/holding/luv/photo -ef disk.A/holding/luv/again; test "$(stat -c %a disk.A/holding)" = 711; umount disk.A
