# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ns
# As phobos-pull leaves what it pulls: a file of 1234:2345 with a set-user-ID bit, and a link, both of the host's own user.
inside sh -euc 'cd /backup/holding/luv; printf ../photo >link; chmod 600 photo link; chown 70000:70000 . photo link
    setfattr -n user.rsync.%stat -v "104711 0,0 1234:2345" photo; setfattr -n user.rsync.%stat -v "120777 0,0 1:2" link'
ext; mount "$A" disk.A; mkdir back
line=$(grep -o 'rsync -aHAX .*' disk.A/HOW-TO-RESTORE.txt)
bash -c "$(sed "s#/mnt/holding/HOST/#$STORY/disk.A/holding/luv/#; s#/tmp/back/#$STORY/back/#" <<<"$line")"
test "$(stat -c '%a %u:%g' back/photo)" = "4711 1234:2345"; cmp back/photo disk.A/holding/luv/photo
test "$(readlink back/link)" = ../photo; test "$(stat -c %u:%g back/link)" = 1:2
umount disk.A
