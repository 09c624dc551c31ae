# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk
mount /backup
expect 65 "/backup is mounted outside the namespace, where everybody can see it; run \`umount /backup\`" ns
umount /backup
ns
mount /backup
expect 65 "/backup is mounted outside the namespace" ns
