# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ns; ln -s "$A" by-id; ln -s "$bdisk" also
printf '[[external.drive]]\nname = "B"\ndevice = "%s/by-id"\n' "$STORY" >>"$CONFIG"
before=$(sha256sum <"$A")
for drive in A B; do expect 78 "the drives A and B are one and the same: $A and $STORY/by-id are one device" ext --drive $drive; done
test "$(sha256sum <"$A")" = "$before"
printf '[led]\ndevice = "none"\n[[external.drive]]\nname = "own"\ndevice = "%s/also"\n' "$STORY" >"$CONFIG"
expect 65 "is the disk of the backups itself" ext
never inside test -e /backup/.phobos
