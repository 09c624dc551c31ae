# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ext; before=$(content A)
inside mv /backup/borg /backup/gone
expect 65 "no Borg repository in /backup/borg: there is no file \`config\`" ext
inside borg init -e none /backup/borg
inside borg create /backup/borg::other /etc/hostname
expect 65 "the drive belongs to the repository" ext
inside rm -r /backup/borg; inside mv /backup/gone /backup/borg
inside mkdir /backup/safe; segment=$(inside sh -c 'ls -S /backup/borg/data/0/* | head -1')
inside mv "$segment" /backup/safe
expect 65 "the source is damaged: segments that it needs are missing" ext
inside sh -c "mv /backup/safe/* $segment"; inside rmdir /backup/safe
test "$(content A)" = "$before"; safe A
ext; sound A
