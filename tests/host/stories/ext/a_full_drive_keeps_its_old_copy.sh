# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A 24; ext; sound A
inside sh -c 'head -c 30000000 /dev/urandom >/backup/holding/luv/film'
inside borg create /backup/borg::two /backup/holding
before=$(content A)
expect 65 "have to be written and" ext
test "$(content A)" = "$before"; safe A; sound A
test "$(grep -c '"exit":65' /var/lib/phobos/history.jsonl)" = 1
