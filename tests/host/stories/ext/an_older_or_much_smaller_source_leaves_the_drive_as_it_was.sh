# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ns
inside cp -a /backup/borg /backup/old
inside borg create /backup/borg::two /etc/hostname
ext; before=$(content A)
inside mv /backup/borg /backup/new; inside mv /backup/old /backup/borg
expect 65 "the source is older than the copy" ext
test "$(content A)" = "$before"; safe A
inside rm -r /backup/borg; inside mv /backup/new /backup/borg
inside borg delete /backup/borg::one; inside borg delete /backup/borg::two
inside borg create /backup/borg::one /etc/hostname
inside borg compact /backup/borg
expect 65 "the repository has" ext
test "$(content A)" = "$before"
plan=$(grep -o 'run once with --accept [0-9a-f]*' out | cut -d' ' -f5)
expect 65 "another difference than this one" ext --accept 00000000
expect 0 "finished" ext --accept "$plan"
expect 0 "finished" ext
sound A
