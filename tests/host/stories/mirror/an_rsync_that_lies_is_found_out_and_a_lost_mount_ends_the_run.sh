# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A 400; ns; real=$(command -v rsync); cp "$real" real-rsync
fake() { printf '#!/bin/sh\n%s\n' "$1" >fake; chmod 755 fake; mount --bind fake "$real"; }
fake 'exit 0'
expect 1 "rsync said that everything is copied, but" ext; safe A
umount "$real"; ext; sound A
inside borg create /backup/borg::two /etc/hostname; inside sh -c 'echo new >/backup/holding/luv/note'
fake "$STORY/real-rsync \"\$@\"; umount -l /extbackup; mount -t tmpfs tmpfs /extbackup"
expect 65 "/extbackup is not $A but tmpfs" ext
umount "$real"; inside umount /extbackup || true; ext --drive A close || true
fake "$STORY/real-rsync \"\$@\"; umount -l /backup"
expect 1 "/backup is not mounted any more" ext
umount "$real"; ns remove
mount "$A" disk.A; never borg list disk.A/borg::two; umount disk.A; sound A
ext; sound A
