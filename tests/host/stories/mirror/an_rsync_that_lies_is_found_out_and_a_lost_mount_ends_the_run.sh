# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A 400; ns; real=$(command -v rsync); cp "$real" real-rsync
fake() { printf '#!/bin/sh\n%s\n' "$1" >fake; chmod 755 fake; mount --bind fake "$real"; }
fake 'exit 0'
expect 1 "rsync said that everything is copied, but" ext; safe A
umount "$real"; ext; sound A
inside borg create /backup/borg::two /etc/hostname; inside sh -c 'echo new >/backup/holding/luv/note'
# rsync sees the mounts as they were when it began; phobos sees what becomes of them.
there() { fake "$STORY/real-rsync \"\$@\"; nsenter --mount=/proc/\$PPID/ns/mnt sh -c '$1'"; }
there 'umount -l /extbackup; mount -t tmpfs tmpfs /extbackup'
expect 65 "/extbackup is not $A but tmpfs" ext
umount "$real"; inside umount /extbackup || true; ext --drive A close || true
there 'umount -l /backup'
expect 1 "/backup is not mounted any more" ext
umount "$real"; ns remove; ns
# What is hidden before rsync has begun to look is not deleted on the drive, nor is it green.
for place in /backup /backup/holding /backup/holding/luv; do
    fake "nsenter --mount=/proc/\$PPID/ns/mnt mount -t tmpfs tmpfs $place; \"$STORY/real-rsync\" \"\$@\""
    code=0; ext >out 2>&1 || code=$?; cat out; never test $code = 0; grep "mounted .*/backup" out; safe A
    umount "$real"; inside umount $place
    mount "$A" disk.A; cmp disk.A/holding/luv/photo <(inside cat /backup/holding/luv/photo); umount disk.A
done
expect 65 "hides what is there" inside sh -c "mount -t tmpfs tmpfs /backup/holding; phobos-ext --config $CONFIG"; inside umount /backup/holding
mount "$A" disk.A; never borg list disk.A/borg::two; umount disk.A; sound A
ext; sound A
