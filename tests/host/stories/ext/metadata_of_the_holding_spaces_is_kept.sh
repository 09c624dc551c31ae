# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A
mount "$bdisk" disk.bdisk; cd disk.bdisk/holding
ln luv/photo luv/same; chown 1234:5678 luv/photo; setfattr -n user.origin -v luv luv/photo || touch "$STORY/no-xattr"
printf x >"luv/a
new line"; umask 077; mkdir luv/private
cd "$STORY"; umount disk.bdisk; sed -i '1i [external]\nattributes = true' "$CONFIG"
ext; mount "$A" disk.A
test disk.A/holding/luv/photo -ef disk.A/holding/luv/same
test "$(stat -c %u:%g disk.A/holding/luv/photo)" = 1234:5678
test "$(stat -c %a disk.A/holding/luv/private)" = 700
test -e no-xattr || test "$(getfattr --only-values -n user.origin disk.A/holding/luv/photo)" = luv
test -f "disk.A/holding/luv/a
new line"
