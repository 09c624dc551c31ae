# A new segment that is damaged is found while it is copied, by its checksums.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ext; before=$(copy A)
inside sh -c 'head -c 3000000 /dev/urandom >/backup/holding/luv/film'; inside borg create /backup/borg::two /backup/holding
segment=$(inside sh -c 'ls -vd /backup/borg/data/0/* | tail -5 | xargs ls -S | head -1')
inside sh -c "printf damaged | dd of=$segment bs=1 seek=1000000 conv=notrunc"
expect 65 "is damaged: a wrong checksum" ext
mount "$A" disk.A; test ! -e disk.A/holding/luv/film; test ! -e disk.A/.phobos/incoming; umount disk.A; safe A
test "$(copy A)" = "$before"; sound A
