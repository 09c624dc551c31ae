# A holding space that goes between the look at both sides and rsync's beginning is not deleted from the drive; rsync has nothing else
# to go by than what it finds.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ns; ext; safe A
inside sh -c 'echo more >/backup/holding/luv/more'
for away in 'mv /backup/holding/luv /backup/borg/luv' 'rm -r /backup/holding/luv; mkdir /backup/holding/luv' 'find /backup/holding/luv -type f -delete'; do
    inside cp -a /backup/holding/luv "$STORY/spare"
    printf '#!/bin/sh\ncase "$*" in *--delete-after*) %s;; esac\nexec /usr/bin/rsync "$@"\n' "$away" >rsync; chmod 755 rsync
    expect 1 "" ext; safe A; grep -e "more to delete than max-delete allows" -e "luv has changed while it was copied" out
    mount -o ro "$A" disk.A; cmp disk.A/holding/luv/photo spare/photo; umount disk.A
    inside rm -rf /backup/holding/luv /backup/borg/luv; inside cp -a "$STORY/spare" /backup/holding/luv; rm -r spare rsync
done
# What is gone from the beginning goes.
inside sh -c 'rm /backup/holding/luv/more; rm -r /backup/holding/.phobos || true'; ext; safe A
mount -o ro "$A" disk.A; test -e disk.A/holding/luv/photo; never test -e disk.A/holding/luv/more; umount disk.A
