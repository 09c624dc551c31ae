# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ns
mkfifo fifo
inside borg with-lock /backup/borg sh -c "echo held >$STORY/held; cat $STORY/fifo" & holder=$!
until test -s held; do kill -0 $holder; done
expect 75 "waiting for Borg's lock on /backup/borg, held by \`" ext --lock-wait 2s
grep "gave up waiting for Borg's lock on /backup/borg, held by" out
grep "borg with-lock" out
mount "$A" disk.A; test ! -e disk.A/borg; umount disk.A
phobos-ext --config "$CONFIG" >waiting 2>&1 & waiter=$!
until grep -q "waiting for Borg's lock" waiting; do kill -0 $waiter; done
# It may take until morning: the drive is not open meanwhile.
never inside mountpoint /extbackup
echo go >fifo; wait $waiter; cat waiting; grep finished waiting
