# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A
before=$(content A)
expect 0 ">f+++++++++ holding/luv/photo" ext --dry-run
test "$(content A)" = "$before"; safe A
mount "$A" disk.A; test ! -e disk.A/.phobos; umount disk.A
test ! -e /var/lib/phobos/history.jsonl
