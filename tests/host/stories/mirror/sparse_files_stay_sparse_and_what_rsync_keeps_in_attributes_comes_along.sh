# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ns
inside sh -c 'truncate -s 3G /backup/holding/luv/hole; setfattr -n user.rsync.%stat -v "100711 0,0 1234:2345" /backup/holding/luv/photo'
export RSYNC_RSH=/bin/false RSYNC_CHECKSUM_LIST=none
ext; mount "$A" disk.A
test "$(stat -c %s disk.A/holding/luv/hole)" = 3221225472
test "$(getfattr --only-values -n user.rsync.%stat disk.A/holding/luv/photo)" = "100711 0,0 1234:2345"
umount disk.A; safe A; sound A
