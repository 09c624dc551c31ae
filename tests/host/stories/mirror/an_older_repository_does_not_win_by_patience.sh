# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ns
mount "$bdisk" disk.bdisk; cp -a disk.bdisk/borg old; umount disk.bdisk
for name in two three; do inside borg create /backup/borg::$name /etc/hostname; done
ext; before=$(content A)
inside sh -c "rm -r /backup/borg; cp -a $STORY/old /backup/borg"
for _ in 1 2 3 4; do expect 65 "the source is older than the copy" ext; test "$(content A)" = "$before"; done
export BORG_BASE_DIR=$STORY/another; for name in a b c d; do inside borg create /backup/borg::$name /etc/passwd; done
expect 65 "went different ways from segment" ext; test "$(content A)" = "$before"; safe A
