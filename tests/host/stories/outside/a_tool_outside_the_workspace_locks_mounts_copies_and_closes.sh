# `outside` is a program that uses phobos-core and is not part of its workspace; tests/host/outside.rs builds it.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ns
expect 0 "/backup/borg was copied while nobody wrote to it" inside outside /backup/borg /backup/holding "$A" /extbackup
safe A
mount "$A" disk.A; cmp disk.A/luv/photo <(inside cat /backup/holding/luv/photo); umount disk.A
expect 1 "no Borg repository in /backup/holding" inside outside /backup/holding /backup/holding "$A" /extbackup
safe A
