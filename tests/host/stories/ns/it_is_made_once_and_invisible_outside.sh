# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk
expect 0 "made the namespace /run/phobos/ns/backup" ns
expect 0 "" ns
test ! -s out
test "$(stat -c %a /run/phobos/ns)" = 700
test "$(findmnt -no PROPAGATION /run/phobos/ns | head -1)" = private
never outside_sees /backup
test -z "$(ls -A /backup)"
inside test -f /backup/borg/config
inside phobos-ns --config "$CONFIG"
