# What a drive says of itself proves nothing about the copy; what the mirrors have put at its top goes when the source has lost it.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ns
inside sh -c 'echo 1 >/backup/notes; mkdir /backup/films; echo film >/backup/films/1'; inside borg create /backup/borg::two /etc/hostname
mount "$bdisk" disk.bdisk; cp -a disk.bdisk/borg older; umount disk.bdisk
inside borg create /backup/borg::three /etc/hostname; ext
mount "$A" disk.A; cmp disk.A/notes <(echo 1); cmp disk.A/films/1 <(echo film); grep '"notes"' disk.A/.phobos/drive.json; umount disk.A
inside rm /backup/notes; ext
mount "$A" disk.A; never test -e disk.A/notes; never grep '"notes"' disk.A/.phobos/drive.json
# A record that says less than the copy has makes nothing older or smaller right.
sed -i 's/"transaction": [0-9]*/"transaction": 0/; s/"mirrored": "[^"]*"/"mirrored": null/' disk.A/.phobos/drive.json; umount disk.A
inside rm -r /backup/films; expect 65 "films is gone or empty, and has 1 files on the drive" ext
inside sh -c "mkdir /backup/films; echo film >/backup/films/1; mv /backup/borg /backup/holding/aside; cp -a $STORY/older /backup/borg"
expect 65 "the source is older than the copy" ext
inside sh -c 'rm -r /backup/borg; mv /backup/holding/aside /backup/borg'
ext; safe A; sound A
mount "$A" disk.A; (cd disk.A; seq 600 | xargs touch); umount disk.A
expect 65 "the drive has more than 500 names at its top" ext; safe A
