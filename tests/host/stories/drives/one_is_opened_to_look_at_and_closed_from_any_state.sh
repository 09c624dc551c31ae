# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; drive B; ext --drive A; ext --drive B
place=/run/phobos/open/A
test "$(ext open A)" = $place
inside test -e $place/borg/config; test -z "$(ls $place)"; never outside_sees $place; never inside touch $place/new
expect 0 "the drive A is open already" ext open A
# Nothing that somebody looks at is taken from them: not by a mirror, and not by what systemd calls after one.
expect 75 "the drive A is open at $place; run \`phobos-ext close A\` first" ext --drive A
expect 0 "" env SERVICE_RESULT=success phobos-ext --config "$CONFIG" --drive A close; inside test -e $place/borg/config
expect 0 finished ext --drive B; inside test -e $place/borg/config
# Whoever is in there is named, and the drive stays open.
nsenter --mount=$NS -- sh -c "cd $place; echo >$STORY/there; exec sleep 300" & until test -s there; do kill -0 $!; done
expect 1 "it is in use by \`sleep 300\` (pid $!" ext close A; inside test -e $place/borg/config; kill $!
expect 0 "the drive A is closed and safe to unplug" ext close A; safe A; test ! -e $place
expect 0 "the drive A is closed and safe to unplug" ext close A
# What a killed run has left is in nobody's way.
inside mount "$A" /extbackup; expect 0 "unmounting /extbackup, which a run has left mounted" ext open A; ext close A; safe A
ext open A --read-write; inside touch $place/new; ext close A; mount "$A" disk.A; rm disk.A/new; umount disk.A
# All of them, wherever in the namespace they are.
ext open A; ext open B; mkdir more; inside mount "$B" "$STORY/more"; inside mount "$A" /extbackup
expect 0 "the drive B is closed and safe to unplug" ext close; grep "the drive A is closed" out; safe A; safe B
# What others have mounted is theirs, and told.
mount "$A" disk.A; expect 1 "is still in use, mounted where it is seen by" ext close A; grep " at $STORY/disk.A" out
umount disk.A; expect 0 "the drive A is closed" ext close A
# A run that holds the drive closes it itself.
phobos-ns --config "$CONFIG" exec --lock drive/A -- sh -c "echo >$STORY/held; exec sleep 300" & holder=$!
until test -s held; do kill -0 $holder; done
for word in open close; do expect 75 "held by phobos-ns exec (pid" ext $word A; done; kill $holder; wait $holder || true
# Neither the disk of the backups nor one that is not there.
printf '[[external.drive]]\nname = "own"\ndevice = "%s"\n[[external.drive]]\nname = "C"\ndevice = "/nowhere"\n' "$bdisk" >>"$CONFIG"
for word in open close; do expect 65 "is the disk of the backups itself, not a drive" ext $word own; done; inside test -e /backup/borg/config
expect 66 "the drive C is not plugged in" ext open C; expect 0 "the drive C is not plugged in" ext close C
expect 78 "no drive \"D\" is configured" ext open D
# A configuration that somebody is working on keeps no drive open.
echo '[backup' >>"$CONFIG"; expect 78 "" ext close A
expect 0 "going on with the defaults" ext close 11111111-2222-3333-4444-555555555555
