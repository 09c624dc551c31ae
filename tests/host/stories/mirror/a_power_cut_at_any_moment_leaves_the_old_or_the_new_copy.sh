# While a mirror runs, the drive is cloned again and again as it is at that moment, which is what a power cut leaves of a drive that
# keeps the order of what it is told: in each clone the repository is, bit for bit, the old one or the new one. The clones are
# XFS's reflinks: one step for the whole image.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; ns; inside borg create /backup/borg::two /etc/hostname
truncate -s 700M store.img; mkfs.xfs -q store.img; mkdir disk.store disk.A disk.cut
store=$(flock /dev/loop-control losetup --find --show store.img); echo "$store" >>loops; mount "$store" disk.store
truncate -s 80M disk.store/A.img; mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 disk.store/A.img
A=$(flock /dev/loop-control losetup --find --show disk.store/A.img); echo "$A" >>loops
printf '[[external.drive]]\nname = "A"\ndevice = "%s"\n' "$A" >>"$CONFIG"
ext
copy() { (cd "$1/borg" && find . -type f | sort | xargs sha256sum) | sha256sum; }
mount "$A" disk.A; old=$(copy disk.A); umount disk.A
inside borg delete /backup/borg::two; inside sh -c 'head -c 6000000 /dev/urandom >/backup/holding/luv/film'
inside borg create --compression none /backup/borg::three /backup/holding; inside borg compact --threshold 1 /backup/borg
phobos-ext --config "$CONFIG" >run.out 2>&1 & run=$!
cuts=0
while kill -0 $run 2>/dev/null; do
    cuts=$((cuts + 1)); cp --reflink=always disk.store/A.img disk.store/cut.$cuts
done
wait $run; cat run.out; safe A; sound A
mount "$A" disk.A; new=$(copy disk.A); umount disk.A; test "$old" != "$new"

# A sample of them, another one each time; from 1 in steps of 1 it is all of them.
step=$((cuts / 20 + 1)); from=$((RANDOM % step + 1)); echo "$cuts cuts, each ${step}th from the ${from}th on"
is_old=0 is_new=0
for number in $(seq $from $step $cuts) $cuts; do
    mount -o loop "disk.store/cut.$number" disk.cut; found=$(copy disk.cut)
    if [ "$found" = "$old" ]; then is_old=$((is_old + 1)); elif [ "$found" = "$new" ]; then is_new=$((is_new + 1)); else
        echo "story: the clone $number of $cuts has neither the old nor the new repository"; ls -lR disk.cut/borg; exit 1
    fi
    umount disk.cut
done
echo "$is_old old, $is_new new"; test $is_old -ge 3; test $is_new -ge 1
# The run after a cut in the middle of one: the last clone in which a run is under way.
under_way=no
while [ $under_way = no ]; do
    mount -o loop "disk.store/cut.$cuts" disk.cut; if [ -e disk.cut/.phobos/run.json ]; then under_way=yes; fi; umount disk.cut
    if [ $under_way = no ]; then cuts=$((cuts - 1)); fi
done
dd if="disk.store/cut.$cuts" of="$A" bs=1M conv=notrunc,fsync status=none
expect 0 "an earlier run did not prove that all is on the disk" ext; safe A; sound A
mount "$A" disk.A; test "$(copy disk.A)" = "$new"; cmp disk.A/holding/luv/film <(inside cat /backup/holding/luv/film); umount disk.A
