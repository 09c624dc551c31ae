# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ext
mount "$A" disk.A; mkdir disk.A/wedding; echo photo >disk.A/wedding/1; umount disk.A
expect 0 "left alone on the drive, because phobos did not put it there: wedding" ext
mount "$A" disk.A; test -s disk.A/wedding/1; rm -r disk.A/.phobos disk.A/HOW*; umount disk.A
before=$(content A)
expect 65 "such as wedding" ext; test "$(content A)" = "$before"; safe A
