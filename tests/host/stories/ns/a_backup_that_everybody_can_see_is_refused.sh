# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk
mount /backup
expect 65 "/backup is mounted outside the namespace, where everybody can see it; run \`umount /backup\`" ns
umount /backup
ns
mount /backup
expect 65 "/backup is mounted outside the namespace" ns

# A namespace that was made by hand, and that the machine follows: what is mounted there would be mounted here.
umount /backup; ns remove
: >$NS; PROPAGATION=shared keep $NS true
expect 65 "shares its mounts with the machine, where everybody would see /backup" ns
expect 65 "shares its mounts" ns exec -- true
never outside_sees /backup; never inside findmnt /backup
ns remove; ns; inside findmnt /backup; never outside_sees /backup
