# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk
mkdir -p /run/phobos/ns; touch $NS
ns; inside test -f /backup/borg/config
umount $NS
mount --bind /proc/self/ns/net $NS
expect 0 "keeps no mount namespace that can be entered" ns
inside test -f /backup/borg/config
inside umount /backup
ns; inside test -f /backup/borg/config
umount $NS; rm $NS; mkdir $NS
expect 78 "$NS is not a plain file; move it away" ns
